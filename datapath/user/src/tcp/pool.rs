//! Blocks for what was read of the host and is not acknowledged by the guest; the last one given back is the next one
//! used, so that they stay in the cache.

/// What a super-frame carries at most.
pub(crate) const BLOCK: usize = 65_535 - 40;
/// Blocks of all connections: 64 MB. Beyond it the host's sockets wait.
pub(crate) const BLOCKS: usize = 1024;
/// Fewer octets are copied into a small block, while there is one.
const SMALL: usize = 4096;
/// Small blocks of all connections: 16 MB.
const SMALLS: usize = 4096;
/// Blocks of each kind kept for later.
const SPARE: usize = 32;

#[derive(Debug, Default)]
pub(crate) struct Pool {
    spare: Vec<Vec<u8>>,
    used: usize,
    small_spare: Vec<Vec<u8>>,
    smalls: usize,
}

/// Octets sent and not acknowledged.
#[derive(Debug)]
pub(crate) struct Chunk {
    octets: Vec<u8>,
    pub(crate) length: usize,
}

impl Chunk {
    pub(crate) fn octets(&self) -> &[u8] {
        self.octets.get(..self.length).unwrap_or_default()
    }
}

impl Pool {
    pub(crate) fn take(&mut self) -> Option<Vec<u8>> {
        if self.used >= BLOCKS {
            return None;
        }
        self.used += 1;
        Some(self.spare.pop().unwrap_or_else(|| vec![0; BLOCK]))
    }

    /// What was read into a block.
    pub(crate) fn keep(&mut self, block: Vec<u8>, length: usize) -> Chunk {
        if length >= SMALL || self.smalls >= SMALLS {
            return Chunk { octets: block, length };
        }
        self.smalls += 1;
        let mut octets = self.small_spare.pop().unwrap_or_else(|| Vec::with_capacity(SMALL));
        octets.extend_from_slice(block.get(..length).unwrap_or_default());
        self.give(block);
        Chunk { octets, length }
    }

    pub(crate) fn drop(&mut self, chunk: Chunk) {
        let mut octets = chunk.octets;
        if octets.len() == BLOCK {
            return self.give(octets);
        }
        self.smalls = self.smalls.saturating_sub(1);
        if self.small_spare.len() < SPARE {
            octets.clear();
            self.small_spare.push(octets);
        }
    }

    pub(crate) fn give(&mut self, block: Vec<u8>) {
        self.used = self.used.saturating_sub(1);
        if self.spare.len() < SPARE {
            self.spare.push(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_as_many_as_are_said_and_come_back() {
        let mut pool = Pool::default();
        let mut blocks: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!(blocks.len(), BLOCKS);
        let (small, large) = (blocks.pop().expect("block"), blocks.pop().expect("block"));
        let small = pool.keep(small, 10);
        assert!(
            pool.take().is_some_and(|block| {
                pool.give(block);
                true
            }),
            "a small one holds no block"
        );
        let large = pool.keep(large, BLOCK);
        assert_eq!((small.octets().len(), large.octets().len()), (10, BLOCK));
        pool.drop(large);
        pool.drop(small);
        assert_eq!(pool.used, BLOCKS - 2);
    }

    #[test]
    fn however_little_each_of_them_is_chunks_are_as_many_as_are_said() {
        let mut pool = Pool::default();
        let chunks: Vec<_> =
            std::iter::from_fn(|| pool.take().map(|block| pool.keep(block, 1))).take(SMALLS * 2).collect();
        assert_eq!(chunks.len(), SMALLS + BLOCKS);
        chunks.into_iter().for_each(|chunk| pool.drop(chunk));
        assert_eq!((pool.used, pool.smalls), (0, 0));
        assert_eq!((pool.spare.len(), pool.small_spare.len()), (SPARE, SPARE));
    }
}
