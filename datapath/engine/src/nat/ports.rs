//! External ports: who owns them and how they are chosen.

/// Random tries before the range is searched in order.
pub(super) const TRIES: usize = 64;
/// Ports looked at in order, a bound on the work one frame can cause.
pub(super) const SEARCH: u32 = 4096;

/// Worker that owns a port number, inside or external: one function, so that a kept port stays with its worker.
/// Hosts prefer odd or even ports for some purposes, so the number is mixed first.
#[must_use]
pub fn owner(port: u16, workers: u16) -> u16 {
    if workers <= 1 {
        return 0;
    }
    let mut mixed = port;
    mixed ^= mixed >> 8;
    mixed = mixed.wrapping_mul(0x88b5);
    mixed ^= mixed >> 7;
    mixed = mixed.wrapping_mul(0xdb2d);
    mixed ^= mixed >> 9;
    mixed % workers
}

/// SipHash-2-4 of a counter: unpredictable without the seed (RFC 6056 3.3). All inputs have one length, so its block is
/// left out.
#[derive(Clone)]
pub(super) struct Random {
    key: (u64, u64),
    counter: u64,
    /// The half of the last output that was not used, and that there is one.
    spare: Option<u32>,
}

impl Random {
    pub(super) fn new(seed: u64, worker: u16) -> Self {
        let second = seed.rotate_left(32) ^ 0x6b65_7920_706f_7274 ^ u64::from(worker);
        Self { key: (seed, second), counter: 0, spare: None }
    }

    /// Below `bound`.
    pub(super) fn below(&mut self, bound: u32) -> u32 {
        let word = self.spare.take().unwrap_or_else(|| {
            let output = self.next();
            self.spare = Some(output as u32);
            (output >> 32) as u32
        });
        (u64::from(word).wrapping_mul(u64::from(bound)) >> 32) as u32
    }

    //= RFC6056#3.3
    fn next(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(1);
        let (k0, k1) = self.key;
        let mut v = [
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573 ^ self.counter,
        ];
        (0..2).for_each(|_| round(&mut v));
        v[0] ^= self.counter;
        v[2] ^= 0xff;
        (0..4).for_each(|_| round(&mut v));
        v[0] ^ v[1] ^ v[2] ^ v[3]
    }
}

#[inline(always)]
fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

//= RFC7857#8, RFC7857#9
/// Chooses the external port for an inside port: the same when possible, else a random one (RFC 6056 3.3.2).
pub(super) fn pick(
    random: &mut Random,
    wanted: u16,
    range: (u16, u16),
    usable: impl Fn(u16) -> bool,
) -> Option<u16> {
    let (low, high) = (u32::from(range.0.max(1)), u32::from(range.1));
    let size = (high + 1).checked_sub(low).filter(|&size| size > 0)?;
    if (low..=high).contains(&u32::from(wanted)) && usable(wanted) {
        return Some(wanted);
    }
    for _ in 0..TRIES {
        let port = u16::try_from(low + random.below(size)).ok()?;
        if usable(port) {
            return Some(port);
        }
    }
    let start = random.below(size);
    (0..size.min(SEARCH))
        .filter_map(|step| u16::try_from(low + (start + step) % size).ok())
        .find(|&port| usable(port))
}
