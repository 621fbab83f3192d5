//! Entries found by key and by number, as many as a limit allows.

use std::collections::HashMap;
use std::hash::Hash;

#[derive(Debug)]
pub(crate) struct Table<K, V> {
    index: HashMap<K, usize>,
    slots: Vec<Option<(K, V)>>,
    free: Vec<usize>,
    limit: usize,
}

impl<K: Copy + Eq + Hash, V> Table<K, V> {
    pub(crate) fn new(limit: usize) -> Self {
        Self { index: HashMap::new(), slots: Vec::new(), free: Vec::new(), limit }
    }

    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len() >= self.limit
    }

    pub(crate) fn find(&self, key: &K) -> Option<usize> {
        self.index.get(key).copied()
    }

    pub(crate) fn get(&mut self, slot: usize) -> Option<&mut V> {
        self.slots.get_mut(slot)?.as_mut().map(|(_, value)| value)
    }

    /// The number a new entry will have; it is taken with [`Self::put`].
    pub(crate) fn next_slot(&self) -> usize {
        self.free.last().copied().unwrap_or(self.slots.len())
    }

    /// False when it is full, or the key is there.
    pub(crate) fn put(&mut self, key: K, value: V) -> bool {
        if self.is_full() || self.index.contains_key(&key) {
            return false;
        }
        let slot = self.next_slot();
        self.free.pop();
        match self.slots.get_mut(slot) {
            Some(place) => *place = Some((key, value)),
            None => self.slots.push(Some((key, value))),
        }
        self.index.insert(key, slot);
        true
    }

    pub(crate) fn remove(&mut self, slot: usize) -> Option<V> {
        let (key, value) = self.slots.get_mut(slot)?.take()?;
        self.index.remove(&key);
        self.free.push(slot);
        Some(value)
    }

    pub(crate) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The entry for which `rank` is lowest, of those for which it is something.
    pub(crate) fn lowest<R: Ord>(&self, rank: impl Fn(&V) -> Option<R>) -> Option<usize> {
        let ranked = self.slots.iter().enumerate().filter_map(|(slot, entry)| {
            let (_, value) = entry.as_ref()?;
            Some((rank(value)?, slot))
        });
        ranked.min().map(|(_, slot)| slot)
    }

    /// Removes what `keep` does not want.
    pub(crate) fn retain(&mut self, keep: impl Fn(&V) -> bool) {
        for slot in 0..self.slots.len() {
            if self.get(slot).is_some_and(|value| !keep(value)) {
                self.remove(slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_table_takes_nothing_and_numbers_are_used_again() {
        let mut table = Table::new(2);
        assert!(table.put('a', 3) && table.put('b', 1) && !table.put('c', 2));
        assert_eq!(table.lowest(|value| Some(*value)), table.find(&'b'));
        let slot = table.find(&'a').expect("there");
        assert_eq!(table.remove(slot), Some(3));
        assert_eq!((table.find(&'a'), table.next_slot()), (None, slot));
        assert!(table.put('c', 2) && !table.put('c', 9));
        table.retain(|value| *value > 1);
        assert_eq!((table.len(), table.slots()), (1, 2));
    }
}
