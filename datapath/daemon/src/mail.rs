//! Mail for a worker: rare messages, never frames.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use pontoon_engine::engine::Watch;
use pontoon_engine::{PortId, Snapshot, dhcp, nat};
use pontoon_vhost::Wired;
use rustix::event::EventfdFlags;

use crate::counters::WorkerStatus;
use crate::queues::Attached;

/// Letters a mailbox holds before senders wait.
const CAPACITY: usize = 1024;

#[derive(Debug)]
pub(crate) enum Mail {
    Apply {
        snapshot: Arc<Snapshot>,
        attached: Vec<Attached>,
        removed: Vec<PortId>,
        /// The resolvers' sockets, for the worker that speaks to them and when they are others.
        sockets: Option<Vec<OwnedFd>>,
        /// Gets the generation once the worker runs it.
        done: Sender<u64>,
    },
    Restore {
        network: u16,
        leases: Vec<dhcp::Lease>,
    },
    LeaseSynced {
        ticket: u32,
        ok: bool,
    },
    /// Empty when it failed.
    TcpAnswer {
        ticket: u32,
        response: Vec<u8>,
    },
    /// A look at the sessions; answered with the rows it was given, filled, and what was seen.
    Look {
        look: nat::Look,
        query: Arc<nat::Query>,
        rows: Vec<nat::Session>,
        reply: Sender<(Vec<nat::Session>, nat::Seen)>,
    },
    /// Tell this of your own accord.
    Watch {
        watch: Box<Watch>,
        done: Sender<()>,
    },
    Status {
        reply: Sender<WorkerStatus>,
    },
    /// For the queues of a vhost-user port, if it is the one meant.
    Vhost {
        port: PortId,
        epoch: u64,
        change: VhostChange,
    },
    Quit,
}

#[derive(Debug)]
pub(crate) enum VhostChange {
    Start {
        index: u16,
        wired: Box<Wired>,
    },
    /// Answered with where the queue was.
    Stop {
        index: u16,
        reply: Sender<Option<u32>>,
    },
    /// The worker that sends to the guest, where this one has no queue for it.
    Through(Option<u16>),
}

/// Ends a worker's sleep.
#[derive(Debug)]
pub(crate) struct Waker(OwnedFd);

impl Waker {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    pub(crate) fn wake(&self) {
        // Only a counter at its limit can refuse, and then the worker wakes anyway.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    pub(crate) fn clear(&self) {
        let _ = rustix::io::read(&self.0, &mut [0u8; 8]);
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Where to send mail for one worker. Only other threads may: a worker never waits.
#[derive(Clone, Debug)]
pub(crate) struct Mailbox {
    sender: Sender<Mail>,
    waker: Arc<Waker>,
}

impl Mailbox {
    /// # Errors
    /// When no eventfd can be made.
    pub(crate) fn new() -> std::io::Result<(Self, Receiver<Mail>)> {
        let (sender, receiver) = crossbeam_channel::bounded(CAPACITY);
        Ok((Self { sender, waker: Arc::new(Waker::new()?) }, receiver))
    }

    /// False when the worker has ended.
    pub(crate) fn send(&self, mail: Mail) -> bool {
        let sent = self.sender.send(mail).is_ok();
        self.waker.wake();
        sent
    }

    #[must_use]
    pub(crate) fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }
}
