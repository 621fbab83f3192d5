//! Thread `vhost-user`: speaks with the front-ends of all vhost-user ports and moves their queues to the workers.
//!
//! Sockets are read without waiting. A queue belongs to one worker at a time, or to this thread while it does not run;
//! it moves by mail. Pair `n` of a port is worker `n` modulo their number; workers without a pair pass what they have for
//! the port to one that has.

use std::collections::BTreeMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use pontoon_engine::PortId;
use pontoon_vhost::{Connection, Device, Session, Wired};
use rustix::event::epoll;

use crate::link::Report;
use crate::mail::{Mail, Mailbox, VhostChange, Waker};

/// Ports of this kind at a time.
pub(crate) const MAX_PORTS: usize = 256;
/// Messages of one front-end before others get their turn.
const BATCH: usize = 16;
/// A worker that takes longer to give a queue back is stuck.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const EVENTS: usize = 64;
const WAKER: u64 = u64::MAX;

#[derive(Debug)]
pub(crate) enum Job {
    /// All workers know the port, under this epoch.
    Attach {
        port: PortId,
        epoch: u64,
        socket: Arc<OwnedFd>,
    },
    Detach {
        port: PortId,
    },
}

/// Where jobs for the thread go.
#[derive(Debug)]
pub(crate) struct Desk {
    jobs: Option<Sender<Job>>,
    waker: Arc<Waker>,
}

impl Desk {
    pub(crate) fn send(&self, job: Job) {
        let _ = self.jobs.as_ref().map(|jobs| jobs.send(job));
        self.waker.wake();
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        // The thread ends when the channel is closed, and has to be awake to see it.
        self.jobs = None;
        self.waker.wake();
    }
}

#[derive(Debug)]
struct Port {
    connection: Connection,
    session: Session,
    workers: Workers,
}

/// A port's device: the workers, by mail.
#[derive(Debug)]
struct Workers {
    port: PortId,
    epoch: u64,
    workers: Vec<Mailbox>,
    /// Queues that run.
    running: Vec<u16>,
}

pub(crate) struct Front {
    epoll: OwnedFd,
    jobs: Receiver<Job>,
    waker: Arc<Waker>,
    workers: Vec<Mailbox>,
    reports: Sender<Report>,
    ports: BTreeMap<PortId, Port>,
}

impl Front {
    /// # Errors
    /// When no epoll set can be made.
    pub(crate) fn new(workers: Vec<Mailbox>, reports: Sender<Report>) -> io::Result<(Self, Desk)> {
        let (sender, jobs) = crossbeam_channel::unbounded();
        let waker = Arc::new(Waker::new()?);
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &*waker, epoll::EventData::new_u64(WAKER), epoll::EventFlags::IN)?;
        let desk = Desk { jobs: Some(sender), waker: Arc::clone(&waker) };
        Ok((Self { epoll, jobs, waker, workers, reports, ports: BTreeMap::new() }, desk))
    }

    /// Runs until nobody can give it a job any more.
    pub(crate) fn run(mut self) {
        loop {
            let mut events = [MaybeUninit::<epoll::Event>::uninit(); EVENTS];
            let Ok((events, _)) = epoll::wait(&self.epoll, &mut events, None) else { continue };
            for event in &*events {
                match u16::try_from(event.data.u64()) {
                    Ok(port) => self.hear(port),
                    Err(_) => self.waker.clear(),
                }
            }
            loop {
                match self.jobs.try_recv() {
                    Ok(job) => self.work(job),
                    Err(crossbeam_channel::TryRecvError::Empty) => break,
                    Err(crossbeam_channel::TryRecvError::Disconnected) => return,
                }
            }
        }
    }

    fn work(&mut self, job: Job) {
        match job {
            Job::Detach { port } => self.forget(port),
            Job::Attach { port, epoch, socket } => {
                self.forget(port);
                let connection = Connection::new(socket);
                let (data, flags) = (epoll::EventData::new_u64(port.into()), epoll::EventFlags::IN);
                if self.ports.len() >= MAX_PORTS {
                    return self.fail(port, "there are too many ports of this kind");
                }
                if let Err(error) = epoll::add(&self.epoll, &connection, data, flags) {
                    return self.fail(port, &error.to_string());
                }
                let workers = Workers { port, epoch, workers: self.workers.clone(), running: Vec::new() };
                self.ports.insert(port, Port { connection, session: Session::default(), workers });
            }
        }
    }

    fn forget(&mut self, port: PortId) {
        if let Some(mut gone) = self.ports.remove(&port) {
            // Control holds the socket too, so closing ours would leave it watched.
            let _ = epoll::delete(&self.epoll, &gone.connection);
            gone.session.close(&mut gone.workers);
        }
    }

    fn hear(&mut self, port: PortId) {
        let Some(found) = self.ports.get_mut(&port) else { return };
        if let Err(why) = found.converse() {
            tracing::info!(port, why, "a guest's front-end has gone");
            self.forget(port);
            self.fail(port, &why);
        }
    }

    fn fail(&self, port: PortId, reason: &str) {
        let _ = self.reports.send(Report::PortFailed { port, reason: reason.to_owned() });
    }
}

impl Port {
    fn converse(&mut self) -> Result<(), String> {
        for _ in 0..BATCH {
            let Some(message) = self.connection.receive().map_err(|error| error.to_string())? else {
                return Ok(());
            };
            tracing::debug!(port = self.workers.port, request = message.request, "vhost-user");
            let reply = self.session.handle(message, &mut self.workers).map_err(|why| why.0.to_owned())?;
            if let Some(reply) = reply {
                self.connection.send(&reply).map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }
}

impl Workers {
    fn send(&self, worker: usize, change: VhostChange) -> bool {
        let mail = Mail::Vhost { port: self.port, epoch: self.epoch, change };
        self.workers.get(worker).is_some_and(|worker| worker.send(mail))
    }

    fn owner(&self, index: u16) -> usize {
        usize::from(index / 2) % self.workers.len().max(1)
    }

    /// Tells every worker whether it has a queue the guest receives by, or who has one.
    fn route(&self) {
        let mut owners: Vec<usize> =
            self.running.iter().filter(|index| **index % 2 == 0).map(|index| self.owner(*index)).collect();
        owners.sort_unstable();
        owners.dedup();
        for worker in 0..self.workers.len() {
            let other = || owners.get(worker.checked_rem(owners.len())?).copied();
            let through = if owners.contains(&worker) { None } else { other() };
            self.send(worker, VhostChange::Through(through.and_then(|worker| u16::try_from(worker).ok())));
        }
    }
}

impl Device for Workers {
    fn start(&mut self, index: u16, wired: Wired) {
        self.running.push(index);
        self.send(self.owner(index), VhostChange::Start { index, wired: Box::new(wired) });
        if self.workers.len() > 1 {
            self.route();
        }
    }

    fn stop(&mut self, index: u16) -> Option<u32> {
        self.running.retain(|running| *running != index);
        let (reply, answer) = crossbeam_channel::bounded(1);
        if !self.send(self.owner(index), VhostChange::Stop { index, reply }) {
            return None;
        }
        let base = answer.recv_timeout(ANSWER_TIMEOUT).ok().flatten();
        if self.workers.len() > 1 {
            self.route();
        }
        base
    }
}
