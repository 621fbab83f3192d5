//! One worker: an engine, a queue of every port, and a loop that never waits but in one place.

use std::mem::MaybeUninit;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;
use pontoon_engine::{Engine, FrameRef, Now, PortId, Snapshot, Time};
use pontoon_ports::{BUFFER, HEADROOM, Received};
use pontoon_wire::vnet;
use rustix::event::{Timespec, epoll};

use crate::bridging;
use crate::counters::WorkerStatus;
use crate::egress::{Failed, Ways, WorkerEgress};
use crate::handoff::{self, Inbound};
use crate::hot::{Hot, Look};
use crate::mail::{Mail, Waker};
use crate::news::Teller;
use crate::pace::Pace;
use crate::queues::{Queues, Token};
use crate::reach::{BATCH, Reach};
use crate::spin::Spinner;

/// Letters read in one turn.
const LETTERS: usize = 64;
const EVENTS: usize = 64;

/// Reads the clocks. The monotonic one is the system's, so that sessions in shared memory keep their age over a
/// restart of the process.
#[must_use]
pub(crate) fn now() -> Now {
    let mono = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    // Only its seconds are of use, and the coarse clock costs a tenth.
    let unix = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse).tv_sec;
    let seconds = u64::try_from(mono.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(mono.tv_nsec).unwrap_or(0);
    let mono = Time(Time::from_secs(seconds).0.saturating_add(nanos));
    Now { mono, unix: u64::try_from(unix).unwrap_or(0) }
}

pub(crate) struct Worker {
    engine: Engine,
    egress: WorkerEgress,
    snapshot: Arc<Snapshot>,
    mail: Receiver<Mail>,
    waker: Arc<Waker>,
    inbound: Vec<Inbound>,
    first: bool,
    spinner: Spinner,
    pace: Pace,
    reach: Reach,
    hot: Hot,
    /// What a spin found, in the buffer.
    early: Option<(PortId, Received)>,
    buffer: Vec<u8>,
    /// Resolver sockets that have something.
    answering: Vec<u16>,
    running: bool,
    teller: Teller,
}

/// What a worker is made of, besides its engine.
pub(crate) struct Parts {
    pub(crate) mail: Receiver<Mail>,
    pub(crate) waker: Arc<Waker>,
    pub(crate) inbound: Vec<Inbound>,
    pub(crate) ways: Ways,
    /// Worker 0, which speaks to resolvers.
    pub(crate) first: bool,
    pub(crate) teller: Teller,
    pub(crate) spin: Duration,
    pub(crate) nap: Duration,
}

impl Worker {
    /// # Errors
    /// When the epoll set cannot be made.
    pub(crate) fn new(engine: Engine, parts: Parts) -> std::io::Result<Self> {
        let queues = Queues::new()?;
        epoll::add(queues.epoll(), &*parts.waker, Token::Waker.data(), epoll::EventFlags::IN)?;
        Ok(Self {
            engine,
            egress: WorkerEgress::new(queues, parts.ways),
            snapshot: Arc::default(),
            mail: parts.mail,
            waker: parts.waker,
            inbound: parts.inbound,
            first: parts.first,
            spinner: Spinner::new(parts.spin),
            pace: Pace::new(parts.nap),
            reach: Reach::default(),
            hot: Hot::default(),
            early: None,
            buffer: vec![0; BUFFER],
            answering: Vec::new(),
            running: true,
            teller: parts.teller,
        })
    }

    /// Runs until told to quit.
    pub(crate) fn run(mut self) {
        while self.running {
            let frames = self.turn();
            self.wait(frames);
        }
    }

    /// One round over everything that is due; the frames there were.
    fn turn(&mut self) -> usize {
        let now = now();
        self.egress.now = now;
        let early =
            self.early.take().map_or(0, |(port, received)| self.read_queue(port, now, Some(received)));
        self.read_mail(now);
        let frames = early + self.read_handed(now) + self.read_queues(now);
        self.read_resolvers(now);
        if self.engine.next_timeout().is_some_and(|due| due <= now.mono) {
            self.engine.timeout(now, &mut self.egress);
        }
        self.answer_later(now);
        self.egress.flush();
        self.egress.report_failed();
        if self.engine.has_news() {
            self.teller.tell(self.engine.take_news(now));
        }
        frames
    }

    fn read_mail(&mut self, now: Now) {
        for _ in 0..LETTERS {
            match self.mail.try_recv() {
                Ok(mail) => self.open(mail, now),
                Err(crossbeam_channel::TryRecvError::Empty) => return,
                Err(crossbeam_channel::TryRecvError::Disconnected) => {
                    self.running = false;
                    return;
                }
            }
        }
        // More may be there, and its wake may be spent.
        self.waker.wake();
    }

    fn open(&mut self, mail: Mail, now: Now) {
        match mail {
            Mail::Apply { snapshot, attached, removed, sockets, done } => {
                // With the snapshot that knows them: a query must not reach another resolver than it is meant for.
                if let Some(sockets) = sockets {
                    self.egress.resolvers.install(self.egress.queues.epoll(), sockets);
                }
                removed.into_iter().for_each(|port| self.egress.queues.remove(port));
                attached.into_iter().for_each(|queue| self.egress.queues.attach(queue));
                self.snapshot = Arc::clone(&snapshot);
                let generation = snapshot.generation;
                self.engine.apply(snapshot, now);
                let _ = done.send(generation);
            }
            Mail::Restore { network, leases } => {
                leases.into_iter().for_each(|lease| self.engine.restore_lease(network, lease));
            }
            Mail::LeaseSynced { ticket, ok } => {
                self.engine.lease_synced(now, ticket, ok, &mut self.egress);
            }
            Mail::TcpAnswer { ticket, response } => {
                self.engine.dns_tcp_response(now, ticket, &response, &mut self.egress);
            }
            Mail::Look { look, query, mut rows, reply } => {
                let seen = self.engine.look(now, look, &query, &mut rows);
                let _ = reply.send((rows, seen));
            }
            Mail::Watch { watch, done } => {
                self.engine.watch(*watch);
                let _ = done.send(());
            }
            Mail::Status { reply } => drop(reply.send(self.status(now))),
            Mail::Vhost { port, epoch, change } => self.egress.queues.change_vhost(port, epoch, change),
            Mail::Quit => self.running = false,
        }
    }

    fn status(&self, now: Now) -> WorkerStatus {
        let mut status = WorkerStatus {
            ports: self.egress.queues.counts().collect(),
            agreed: self.egress.queues.agreed().collect(),
            drops: self.engine.drops().iter().collect(),
            hand_off_full: self.egress.hand_off_full,
            port_full: self.egress.queues.full(),
            sessions: self.engine.sessions() as u64,
            uplinks: Vec::new(),
            trees: Vec::new(),
        };
        if self.first {
            let ids = (0u16..).zip(&self.snapshot.uplinks).filter(|(_, uplink)| uplink.is_some());
            status.trees = self.engine.trees(now).map(|(id, report)| bridging::status(id, &report)).collect();
            status.uplinks = ids.map(|(id, _)| (id, self.engine.uplink_address(id))).collect();
        }
        status
    }

    fn read_handed(&mut self, now: Now) -> usize {
        let mut frames = 0;
        for ring in &mut self.inbound {
            for _ in 0..handoff::BUFFERS {
                let Some(mut frame) = ring.receive() else { break };
                frames += 1;
                if frame.leaves {
                    let passed = FrameRef { vnet: frame.vnet, bytes: &frame.bytes };
                    self.egress.transmit_here(frame.port, passed);
                } else {
                    self.engine.handed(now, frame.port, frame.vnet, &mut frame.bytes, &mut self.egress);
                }
                ring.recycle(frame);
            }
        }
        frames
    }

    fn read_queues(&mut self, now: Now) -> usize {
        let mut frames = 0;
        for _ in 0..self.egress.queues.ready() {
            let Some(port) = self.egress.queues.next_ready() else { break };
            frames += self.read_queue(port, now, None);
        }
        frames
    }

    /// Runs a batch of frames to completion, one at a time; the first may have been read already.
    fn read_queue(&mut self, port: PortId, now: Now, mut early: Option<Received>) -> usize {
        let limit = self.reach.frames();
        for count in 0..limit {
            let received = early.take().unwrap_or_else(|| self.egress.queues.receive(port, &mut self.buffer));
            match received {
                Received::Frame { vnet, length } => self.run_frame(port, vnet, length, now, count == 0),
                Received::Dropped => {}
                Received::WouldBlock | Received::Dead(_) => return count,
            }
        }
        self.egress.queues.mark_ready(port);
        limit
    }

    fn run_frame(&mut self, port: PortId, vnet: vnet::Header, length: usize, now: Now, first: bool) {
        let Some(frame) = self.buffer.get_mut(HEADROOM..HEADROOM + length) else { return };
        if !first {
            self.engine.receive(now, port, vnet, frame, &mut self.egress);
            return;
        }
        self.hot.had(port);
        self.egress.leave_at_once(self.hot.is_alone());
        self.engine.receive(now, port, vnet, frame, &mut self.egress);
        self.egress.leave_at_once(false);
    }

    fn read_resolvers(&mut self, now: Now) {
        for socket in std::mem::take(&mut self.answering) {
            for _ in 0..BATCH {
                match self.egress.resolvers.receive(socket, &mut self.buffer) {
                    Ok(Some(length)) => {
                        let datagram = self.buffer.get(..length).unwrap_or_default();
                        self.engine.dns_response(now, socket, datagram, &mut self.egress);
                    }
                    Ok(None) => break,
                    Err(_) => {
                        self.engine.dns_failed(now, socket, &mut self.egress);
                        break;
                    }
                }
            }
        }
    }

    /// Answers may raise new questions that fail at once; those wait for the next turn.
    fn answer_later(&mut self, now: Now) {
        for later in self.egress.take_later() {
            let out = &mut self.egress;
            match later {
                Failed::Lease { ticket } => self.engine.lease_synced(now, ticket, false, out),
                Failed::Dns { socket } => self.engine.dns_failed(now, socket, out),
                Failed::Tcp { ticket } => self.engine.dns_tcp_response(now, ticket, &[], out),
            }
        }
    }

    fn wait(&mut self, frames: usize) {
        let sleep = self.sleep();
        let written = self.egress.take_written();
        self.hot.learn(frames);
        self.reach.learn(self.egress.queues.ready() > 0, frames, written);
        if self.pace.gather(frames, written, self.egress.now.mono) {
            self.poll(Duration::ZERO);
            return;
        }
        let found = frames > 0 && !sleep.is_zero() && self.spin();
        if !found {
            self.poll(sleep);
        }
    }

    fn spin(&mut self) -> bool {
        let mut spinner = std::mem::take(&mut self.spinner);
        let found = spinner.spin(|| self.look());
        self.spinner = spinner;
        found
    }

    /// How long nothing will be due, at most, by the clock of this turn.
    fn sleep(&self) -> Duration {
        const LONGEST: Duration = Duration::from_secs(60);
        if !self.running || self.egress.queues.ready() > 0 || self.egress.has_later() {
            return Duration::ZERO;
        }
        let left = |due: Time| Duration::from_nanos(due.0.saturating_sub(self.egress.now.mono.0));
        self.engine.next_timeout().map_or(LONGEST, left).min(LONGEST)
    }

    /// One look while spinning; true when there is something to do.
    fn look(&mut self) -> bool {
        let look = self.hot.look(self.egress.sent);
        match look {
            Look::At(port) => return self.read_early(port),
            Look::Everywhere if self.poll_for(Duration::ZERO, true) => return true,
            Look::Hot | Look::Everywhere => {}
        }
        let found =
            (0..self.hot.count()).any(|at| self.hot.get(at).is_some_and(|port| self.read_early(port)));
        if found && look == Look::Everywhere {
            // What epoll told of the others was left out.
            (0..).map_while(|at| self.hot.get(at)).for_each(|port| self.egress.queues.mark_ready(port));
        }
        found
    }

    fn read_early(&mut self, port: PortId) -> bool {
        let received = self.egress.queues.receive(port, &mut self.buffer);
        let found = received != Received::WouldBlock;
        if found {
            self.early = Some((port, received));
        }
        found
    }

    /// True when something was reported.
    fn poll(&mut self, timeout: Duration) -> bool {
        self.poll_for(timeout, false)
    }

    /// Leaves out queues that are read directly next, if asked to.
    fn poll_for(&mut self, timeout: Duration, direct: bool) -> bool {
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); EVENTS];
        let timeout = Timespec::try_from(timeout).ok();
        let epoll = self.egress.queues.epoll();
        let Ok((events, _)) = epoll::wait(epoll, &mut events, timeout.as_ref()) else { return false };
        let direct = |port| direct && self.hot.contains(port) && !self.egress.queues.is_blocked(port);
        let told = events
            .iter()
            .any(|event| !matches!(Token::of(event.data), Some(Token::Port(port)) if direct(port)));
        for event in &*events {
            match Token::of(event.data) {
                Some(Token::Waker) => self.waker.clear(),
                // Where there is more to do, their turn comes too.
                Some(Token::Port(port)) if told => self.egress.queues.woken(port),
                Some(Token::Resolver(socket)) => self.answering.push(socket),
                Some(Token::Port(_)) | None => {}
            }
        }
        told
    }
}
