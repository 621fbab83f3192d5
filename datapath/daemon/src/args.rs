//! What the process is started with.

use crate::sandbox::Sandbox;

/// Descriptors are numbers of descriptors inherited over exec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatapathArgs {
    /// Listening unix socket, for a control that was started anew.
    pub listen_fd: i32,
    /// Stream to the control that starts this process.
    pub control_fd: i32,
    /// Memory file of the session tables; without one they end with the process.
    pub session_fd: Option<i32>,
    pub workers: u16,
    /// Microseconds a worker polls on after a turn with traffic before it sleeps; 0 never does.
    pub spin_us: u32,
    /// Microseconds a worker lets frames of a fast stream gather between two turns; 0 never does.
    pub nap_us: u32,
    /// Neighbouring frames of a flow leave as one; off only to measure what it is worth.
    pub coalesce: bool,
    /// What it gives up before it starts.
    pub sandbox: Sandbox,
}

/// `KEY=VALUE` pairs with commas between, to measure what each is worth: `spin=MICROSECONDS`,
/// `nap=MICROSECONDS`, `coalesce=off`.
pub(crate) const LEVERS_ENV: &str = "PONTOON_LEVERS";

impl DatapathArgs {
    pub const MAX_WORKERS: u16 = 64;
    pub const MAX_SPIN_US: u32 = 200;
    pub const SPIN_US: u32 = 50;
    pub const NAP_US: u32 = 30;

    /// Takes over what [`LEVERS_ENV`] says; what it does not know is left out.
    #[must_use]
    pub fn with_levers(mut self, levers: &str) -> Self {
        for (key, value) in levers.split(',').filter_map(|lever| lever.split_once('=')) {
            match key {
                "spin" => self.spin_us = value.parse().unwrap_or(self.spin_us),
                "nap" => self.nap_us = value.parse().unwrap_or(self.nap_us),
                "coalesce" => self.coalesce = value != "off",
                _ => {}
            }
        }
        self
    }

    #[must_use]
    pub fn workers(&self) -> u16 {
        self.workers.clamp(1, Self::MAX_WORKERS)
    }

    /// Nobody spins on a machine with one processor. How many there are is asked of files, which are out of reach later.
    #[must_use]
    pub fn on_this_machine(self) -> Self {
        let several = std::thread::available_parallelism().is_ok_and(|count| count.get() > 1);
        Self { spin_us: if several { self.spin_us } else { 0 }, ..self }
    }

    /// How long to spin.
    #[must_use]
    pub fn spin(&self) -> std::time::Duration {
        std::time::Duration::from_micros(self.spin_us.min(Self::MAX_SPIN_US).into())
    }

    /// How long frames gather.
    #[must_use]
    pub fn nap(&self) -> std::time::Duration {
        std::time::Duration::from_micros(self.nap_us.min(Self::MAX_SPIN_US).into())
    }
}
