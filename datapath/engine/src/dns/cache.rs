//! Answers of resolvers, kept for a while: whole messages, each for the question it answers and for nothing else, so
//! that no answer can speak for another name (RFC 5452 6, RFC 2181 5.4.1).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use pontoon_wire::dns::{Header, Question, flag, lifetime, rcode};

/// Answers that one network keeps at most, whatever its definition says.
pub const CACHE_MAX: u32 = 10_000;
/// Answers are small; a cache of large ones holds fewer.
const BYTES_EACH: usize = 1024;
/// Longer ones come over TCP and are rare.
const MESSAGE_MAX: usize = 4096;
/// No answer is believed for longer.
const POSITIVE_MAX: u32 = 86_400;
/// RFC 2308 5: one to three hours.
const NEGATIVE_MAX: u32 = 10_800;
const SECOND_NS: u64 = 1_000_000_000;

/// A question, in lower case, and what else changes an answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    question: Vec<u8>,
    edns: Option<bool>,
    checking_disabled: bool,
}

impl Key {
    /// `edns` is DO of a query that has OPT.
    pub(super) fn new(question: &[u8], edns: Option<bool>, flags: u16) -> Self {
        // the octets of type and class may be letters, but the same for every case of the name
        Self { question: question.to_ascii_lowercase(), edns, checking_disabled: flags & flag::CD != 0 }
    }
}

struct Entry {
    message: Vec<u8>,
    kept_ns: u64,
    until_ns: u64,
    /// Its place in the order of use.
    used: u64,
}

pub(super) struct Cache {
    entries: BTreeMap<Key, Entry>,
    /// Least recently used first.
    order: BTreeMap<u64, Key>,
    uses: u64,
    bytes: usize,
    size: usize,
}

impl Cache {
    pub(super) fn new(size: u32) -> Self {
        let size = size.min(CACHE_MAX) as usize;
        Self { entries: BTreeMap::new(), order: BTreeMap::new(), uses: 0, bytes: 0, size }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.order.clear();
        self.bytes = 0;
    }

    /// The answer and the seconds since it was kept.
    pub(super) fn find(&mut self, key: &Key, now_ns: u64) -> Option<(&[u8], u32)> {
        if self.entries.get(key)?.until_ns <= now_ns {
            self.remove(key);
            return None;
        }
        self.uses += 1;
        let entry = self.entries.get_mut(key)?;
        self.order.remove(&entry.used);
        entry.used = self.uses;
        self.order.insert(entry.used, key.clone());
        let seconds = now_ns.saturating_sub(entry.kept_ns) / SECOND_NS;
        Some((&entry.message, u32::try_from(seconds).unwrap_or(u32::MAX)))
    }

    /// Keeps an answer if it may be kept. Failures are not: the next try may find the resolver well again.
    pub(super) fn keep(
        &mut self,
        key: Key,
        now_ns: u64,
        message: &[u8],
        header: &Header,
        question: &Question<'_>,
    ) {
        let whole = header.flags & flag::TC == 0 && message.len() <= MESSAGE_MAX;
        let most = match header.rcode() {
            rcode::NOERROR if header.answers > 0 => POSITIVE_MAX,
            rcode::NOERROR | rcode::NXDOMAIN => NEGATIVE_MAX,
            _ => return,
        };
        let Some(seconds) = lifetime(message, header, question).filter(|_| whole && self.size > 0) else {
            return;
        };
        self.remove(&key);
        self.uses += 1;
        let until_ns = now_ns.saturating_add(u64::from(seconds.min(most)) * SECOND_NS);
        self.bytes += message.len();
        self.order.insert(self.uses, key.clone());
        let entry = Entry { message: message.to_vec(), kept_ns: now_ns, until_ns, used: self.uses };
        self.entries.insert(key, entry);
        while self.entries.len() > self.size || self.bytes > self.size.max(4) * BYTES_EACH {
            let Some(oldest) = self.order.first_key_value().map(|(_, key)| key.clone()) else { return };
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.order.remove(&entry.used);
            self.bytes -= entry.message.len();
        }
    }
}
