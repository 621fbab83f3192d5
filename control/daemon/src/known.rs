//! What control knows of networks, and the lock around all the rest.
//!
//! Whoever gives back the lock publishes what is known, so reading verbs never wait for a change under way.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pontoon_netxml::Network;

use crate::failure::{Answer, fail};
use crate::live::Live;
use crate::state::State;
use crate::store::Store;

#[derive(Clone)]
pub(crate) struct Known {
    pub(crate) store: Store,
    pub(crate) defined: BTreeMap<String, Network>,
    pub(crate) live: Live,
    /// Mappings are logged where a definition does not say.
    pub(crate) log_mappings: bool,
}

impl Known {
    /// A network by UUID or name: its canonical name.
    pub(crate) fn find(&self, network: &str) -> Answer<String> {
        let all = || self.defined.values().chain(self.live.networks.iter().map(|live| &live.network));
        if network.len() == 36
            && let Ok(uuid) = uuid::Uuid::parse_str(network)
            && let Some(found) = all().find(|other| other.uuid == Some(uuid))
        {
            return Ok(found.name.clone());
        }
        if all().any(|other| other.name == network) {
            return Ok(network.to_owned());
        }
        Err(fail(format!("Network not found: no network with matching name '{network}'")))
    }
}

/// A state is what it knows and what it needs to act; the former is copied before it is changed if it is published.
impl Deref for State {
    type Target = Known;

    fn deref(&self) -> &Known {
        &self.known
    }
}

impl DerefMut for State {
    fn deref_mut(&mut self) -> &mut Known {
        Arc::make_mut(&mut self.known)
    }
}

/// The state, behind its lock, and what was known when the lock was last given back.
pub(crate) struct Shared {
    state: Mutex<State>,
    known: Mutex<Arc<Known>>,
}

impl Shared {
    pub(crate) fn new(state: State) -> Self {
        let known = Mutex::new(Arc::clone(&state.known));
        Self { state: Mutex::new(state), known }
    }

    pub(crate) fn lock(&self) -> Locked<'_> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Locked { state, known: &self.known }
    }

    pub(crate) fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub(crate) struct Locked<'a> {
    state: MutexGuard<'a, State>,
    known: &'a Mutex<Arc<Known>>,
}

impl Deref for Locked<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Arc::clone(&self.state.known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{accepted, define, scratch, state};

    #[test]
    fn readers_see_what_was_so_when_the_lock_was_last_given_back() {
        let root = scratch("known");
        let shared = Shared::new(state(&root));
        let before = shared.known();
        let mut locked = shared.lock();
        accepted(define(&mut locked, "<network><name>a</name></network>"));
        assert!(shared.known().find("a").is_err(), "not yet");
        drop(locked);
        assert!(shared.known().find("a").is_ok());
        assert!(before.find("a").is_err(), "what was read stays as it was");
        std::fs::remove_dir_all(&root).expect("clean");
    }
}
