//! The learning switch.

/// Learned addresses of one network.
#[derive(Debug)]
pub struct MacTable {}

impl MacTable {
    /// `static_port` entries never age.
    #[must_use]
    pub fn new(_seed: u64) -> Self {
        Self {}
    }

    /// Every learned address with its port and age in seconds.
    pub fn for_each(
        &self,
        _now: crate::time::Time,
        _visit: &mut dyn FnMut(pontoon_wire::Mac, crate::PortId, u32),
    ) {
    }

    /// Forgets what was learned on `port`.
    pub fn flush_port(&self, _port: crate::PortId) {}
}
