//! Thread `vhost-user`: speaks with the front-ends of all vhost-user ports and moves their queues to the workers.
//!
//! Sockets are read without waiting. A queue belongs to one worker at a time, or to this thread while it does not run;
//! it moves by mail. Pair `n` of a port is worker `n` modulo their number; workers without a pair pass what they have for
//! the port to one that has.
//!
//! A front-end may clear `O_NONBLOCK` of a call descriptor, which it shares, and fill it: a worker's write waits then. So
//! this thread looks after them, empties one that is full, and ends its port.

use std::collections::BTreeMap;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use pontoon_engine::PortId;
use pontoon_vhost::{Connection, Device, Session, Wired};
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::io::{ReadWriteFlags, preadv2};

use crate::link::Report;
use crate::mail::{Mail, Mailbox, VhostChange, Waker};

/// Ports of this kind at a time.
pub(crate) const MAX_PORTS: usize = 256;
/// Messages of one front-end before others get their turn.
const BATCH: usize = 16;
/// A worker that takes longer to give a queue back is stuck.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How often call descriptors are looked after.
const PATROL: Duration = Duration::from_millis(500);
/// The same while a worker's answer is waited for.
const RECALL: Duration = Duration::from_millis(50);
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
    /// Where their drivers are called.
    calls: BTreeMap<u16, Arc<OwnedFd>>,
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
        let mut patrolled = Instant::now();
        loop {
            let mut events = [MaybeUninit::<epoll::Event>::uninit(); EVENTS];
            let patrol = Timespec::try_from(PATROL).ok().filter(|_| !self.ports.is_empty());
            let Ok((events, _)) = epoll::wait(&self.epoll, &mut events, patrol.as_ref()) else { continue };
            // Not only when nothing else happens: a front-end may see to it that something always does.
            if patrolled.elapsed() >= PATROL {
                patrolled = Instant::now();
                self.patrol();
            }
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
                let workers = Workers {
                    port,
                    epoch,
                    workers: self.workers.clone(),
                    running: Vec::new(),
                    calls: BTreeMap::new(),
                };
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

    fn patrol(&mut self) {
        let full = |(id, port): (&PortId, &Port)| port.workers.unblock().then_some(*id);
        for port in self.ports.iter().filter_map(full).collect::<Vec<_>>() {
            tracing::warn!(port, "a guest's front-end has filled a call descriptor");
            self.forget(port);
            self.fail(port, "its call descriptor was full");
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

    /// Lets go a worker that waits for a call descriptor to have room; true when one had none.
    fn unblock(&self) -> bool {
        self.calls.values().filter(|call| empty_if_full(call)).count() > 0
    }

    fn owner(&self, index: u16) -> usize {
        usize::from(index / 2) % self.workers.len().max(1)
    }

    fn wait_for(&self, answer: &Receiver<Option<u32>>) -> Option<u32> {
        let until = Instant::now() + ANSWER_TIMEOUT;
        while Instant::now() < until {
            match answer.recv_timeout(RECALL) {
                Err(RecvTimeoutError::Timeout) => drop(self.unblock()),
                answer => return answer.ok().flatten(),
            }
        }
        None
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

/// What a driver has not read of its calls is lost, if it is more than fits.
fn empty_if_full(call: &OwnedFd) -> bool {
    let mut watched = [PollFd::new(call, PollFlags::OUT)];
    let asked = poll(&mut watched, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    let full = asked.is_ok() && !watched.iter().any(|one| one.revents().contains(PollFlags::OUT));
    if full {
        // Never waits, whatever the front-end has set the descriptor to.
        let mut count = [0; 8];
        let _ = preadv2(call, &mut [IoSliceMut::new(&mut count)], u64::MAX, ReadWriteFlags::NOWAIT);
    }
    full
}

impl Device for Workers {
    fn start(&mut self, index: u16, wired: Wired) {
        self.running.push(index);
        self.calls.extend(wired.call.iter().map(|call| (index, Arc::clone(call))));
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
        let base = self.wait_for(&answer);
        self.calls.remove(&index);
        if self.workers.len() > 1 {
            self.route();
        }
        base
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{EventfdFlags, eventfd};

    #[test]
    fn a_worker_that_waits_for_a_full_call_descriptor_is_let_go() {
        // Blocking, as a front-end may make it at any time.
        let call = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).expect("eventfd"));
        let write = |value: u64, call: &OwnedFd| rustix::io::write(call, &value.to_ne_bytes());
        write(u64::MAX - 1, &call).expect("filled");
        let calls = BTreeMap::from([(0, Arc::clone(&call))]);
        let workers = Workers { port: 1, epoch: 1, workers: Vec::new(), running: Vec::new(), calls };
        let worker = std::thread::spawn({
            let call = Arc::clone(&call);
            move || write(1, &call)
        });
        assert!(workers.unblock());
        worker.join().expect("thread").expect("it goes on");
        assert!(!workers.unblock(), "one call is not many");
        let mut count = [0; 8];
        rustix::io::read(&call, &mut count).expect("read");
        assert_eq!(u64::from_ne_bytes(count), 1);
    }
}
