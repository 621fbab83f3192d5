//! How much of the daemon its clients can take up.

use std::time::Duration;

use pontoon_proto::codec;

#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Connections of all users.
    pub(crate) clients: usize,
    /// Connections of one user.
    pub(crate) per_user: usize,
    /// Bytes of a request, and of one of a caller without any rights.
    pub(crate) request: usize,
    pub(crate) stranger: usize,
    /// Bytes of all requests and answers that wait for their rest.
    pub(crate) memory: usize,
    /// For the rest of a request, and for a client to take what it is sent.
    pub(crate) patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients: 256,
            per_user: 64,
            request: codec::MAX_MESSAGE,
            stranger: 64 << 10,
            memory: 4 * codec::MAX_MESSAGE,
            patience: Duration::from_secs(10),
        }
    }
}
