//! What a network's ports may do to each other, where that is not simply everything.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::snapshot::PortId;
use crate::stp::{self, Board, Gate};

const WORDS: usize = 4096 / 64;

/// A set of ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSet(Box<[u64; WORDS]>);

impl Default for PortSet {
    fn default() -> Self {
        Self(Box::new([0; WORDS]))
    }
}

impl PortSet {
    pub fn insert(&mut self, port: PortId) {
        if let Some(word) = self.0.get_mut(usize::from(port) / 64) {
            *word |= 1 << (port % 64);
        }
    }

    #[must_use]
    #[inline]
    pub fn contains(&self, port: PortId) -> bool {
        self.0.get(usize::from(port) / 64).is_some_and(|word| word >> (port % 64) & 1 == 1)
    }
}

/// The spanning tree of one network.
#[derive(Clone, Debug)]
pub struct Tree {
    pub config: stp::Config,
    pub ports: Vec<stp::PortConfig>,
    /// What worker 0 lets the ports do; kept over configuration changes.
    pub board: Arc<Board>,
}

/// A network without one forwards everything between its ports.
#[derive(Clone, Debug)]
pub struct Policy {
    pub tree: Option<Tree>,
    /// These reach each other only by way of others.
    pub isolated: PortSet,
    /// These get back what they send.
    pub hairpin: PortSet,
    /// Whether a frame to an address nobody has been seen with goes to all ports.
    pub floods_unknown: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self { tree: None, isolated: PortSet::default(), hairpin: PortSet::default(), floods_unknown: true }
    }
}

impl Policy {
    /// What the spanning tree lets a port do.
    #[must_use]
    #[inline]
    pub fn gate(&self, port: PortId) -> Gate {
        self.tree.as_ref().map_or(Gate::Open, |tree| tree.board.gate(port))
    }

    /// Whether a frame that came in by an open port may leave by another, or by the same.
    #[must_use]
    #[inline]
    pub fn may_pass(&self, from: PortId, to: PortId) -> bool {
        self.is_open(to) && !self.separates(from, to) && (from != to || self.hairpin.contains(from))
    }

    #[must_use]
    #[inline]
    pub fn is_open(&self, port: PortId) -> bool {
        self.tree.as_ref().is_none_or(|tree| tree.board.is_open(port))
    }

    /// Whether two ports are isolated from each other.
    #[must_use]
    #[inline]
    pub fn separates(&self, one: PortId, other: PortId) -> bool {
        self.isolated.contains(one) && self.isolated.contains(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn isolated_ports_reach_all_but_each_other_and_only_hairpins_reach_themselves() {
        let mut policy = Policy::default();
        [1, 2, 4095].into_iter().for_each(|port| policy.isolated.insert(port));
        policy.hairpin.insert(3);
        assert!(!policy.may_pass(1, 2) && !policy.may_pass(2, 4095) && !policy.may_pass(1, 1));
        assert!(policy.may_pass(1, 3) && policy.may_pass(3, 1) && policy.may_pass(3, 3));
        assert!(!policy.may_pass(5, 5) && !policy.isolated.contains(u16::MAX));
    }

    #[test]
    fn a_port_the_tree_has_not_opened_is_left_out() {
        let config = stp::Config { id: 1, max_age: 2000, hello: 200, forward_delay: 200 };
        let board = Arc::new(Board::new([1].into_iter()));
        let tree = Some(Tree { config, ports: Vec::new(), board });
        let policy = Policy { tree, ..Policy::default() };
        assert!(policy.may_pass(2, 1) && !policy.may_pass(1, 2));
        assert_eq!((policy.gate(1), policy.gate(2)), (Gate::Open, Gate::Closed));
    }
}
