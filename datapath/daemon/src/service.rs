//! The conversation with control, one connection at a time. Everything control says is checked before it is used.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::Sender;
use pontoon_engine::PortId;
use pontoon_ports::{DgramQueue, HeaderSize, PacketQueue, Queue, StreamQueue, TapQueue, VhostQueue};
use pontoon_proto::message::{Lease, MacEntry, PortKind, Status, ToControl, ToDatapath, UplinkStatus};
use pontoon_proto::watch::Watch;
use pontoon_proto::{codec, document::Document};

use crate::bridging;
use crate::compile::{self, Running};
use crate::counters::{Sums, UplinkAddress};
use crate::lease_log::LeaseJob;
use crate::link::Link;
use crate::mail::{Mail, Mailbox};
use crate::queues::{Attached, MAX_PORTS};
use crate::vhost::{Desk, Job};
use crate::{news, resolver, sessions, worker};

/// Workers answer mail within a turn; one that takes this long is stuck.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Exchanges over TCP at a time.
const MAX_EXCHANGES: usize = 16;

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Closed,
    Quit,
}

pub(crate) struct Service {
    workers: Vec<Mailbox>,
    link: Arc<Link>,
    leases: Sender<LeaseJob>,
    running: Running,
    /// Ports no document has named yet.
    pending: BTreeMap<PortId, Given>,
    /// Descriptors of the running document's ports, for a control that takes over.
    held: BTreeMap<PortId, Held>,
    /// Descriptors that only have to stay open as long as a port is there.
    kept: BTreeMap<PortId, Vec<OwnedFd>>,
    /// Memory of the sessions, likewise.
    sessions: Option<OwnedFd>,
    /// What of the sandbox the host did not allow.
    lacking: Vec<String>,
    /// Sockets to resolvers no document has named yet, and how many are in use.
    sockets: Option<Vec<OwnedFd>>,
    installed: usize,
    desk: Desk,
    /// Number of the vhost-user connection given out last.
    epoch: u64,
    seed: u64,
    exchanges: Arc<AtomicUsize>,
    /// What control wants to know.
    watched: Watch,
}

/// The descriptors of a port; the queues use the same.
struct Held {
    kind: PortKind,
    epoch: u64,
    fds: Vec<Arc<OwnedFd>>,
}

/// An attached port: queues, one a worker, and the descriptors they use.
struct Given {
    queues: Vec<Attached>,
    held: Held,
}

impl Service {
    #[must_use]
    pub(crate) fn new(
        workers: Vec<Mailbox>,
        link: Arc<Link>,
        leases: Sender<LeaseJob>,
        desk: Desk,
        seed: u64,
    ) -> Self {
        let (running, pending, held) = (Running::default(), BTreeMap::new(), BTreeMap::new());
        let exchanges = Arc::default();
        let (sockets, installed) = (None, 0);
        Self {
            workers,
            link,
            leases,
            running,
            pending,
            held,
            kept: BTreeMap::new(),
            sessions: None,
            lacking: Vec::new(),
            sockets,
            installed,
            desk,
            epoch: 0,
            seed,
            exchanges,
            watched: Watch::default(),
        }
    }

    /// Keeps the memory of the sessions for controls to come.
    #[must_use]
    pub(crate) fn with_sessions(self, sessions: Option<OwnedFd>) -> Self {
        Self { sessions, ..self }
    }

    #[must_use]
    pub(crate) fn with_lacking(self, lacking: Vec<String>) -> Self {
        Self { lacking, ..self }
    }

    /// Speaks with `control` until it goes.
    pub(crate) fn serve(&mut self, control: &UnixStream) -> End {
        let end = match self.link.connect(control) {
            Ok(()) => self.converse(control),
            Err(error) => {
                tracing::warn!(%error, "connection to control");
                End::Closed
            }
        };
        for ticket in self.link.disconnect() {
            self.tell_first(Mail::TcpAnswer { ticket, response: Vec::new() });
        }
        self.pending.clear();
        self.sockets = None;
        // Only the log of mappings outlives a control.
        let mappings = self.watched.mappings.clone();
        if let Err(why) = self.watch(Watch { mappings, ..Watch::default() }) {
            tracing::warn!(why, "still watched");
        }
        end
    }

    fn converse(&mut self, control: &UnixStream) -> End {
        loop {
            match codec::receive::<ToDatapath>(control) {
                Ok(Some((ToDatapath::Quit, _))) => {
                    for worker in &self.workers {
                        worker.send(Mail::Quit);
                    }
                    return End::Quit;
                }
                Ok(Some((message, fds))) => {
                    if let Err(reason) = self.handle(message, fds) {
                        tracing::warn!(reason, "refused");
                        self.link.send(&ToControl::Refused { reason });
                    }
                }
                Ok(None) => return End::Closed,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::warn!(%error, "connection to control");
                    return End::Closed;
                }
            }
        }
    }

    fn handle(&mut self, message: ToDatapath, fds: Vec<OwnedFd>) -> Result<(), String> {
        match message {
            ToDatapath::Hello => self.hello(),
            ToDatapath::Attach { port, kind, vnet_header } => {
                self.epoch += 1;
                let attached = attach((port, self.epoch), kind, vnet_header, fds, self.workers.len())?;
                self.pending.insert(port, attached);
            }
            ToDatapath::Keep { port } => self.keep(port, fds)?,
            ToDatapath::LeaseLog { network, leases } => self.lease_log(network, leases, fds)?,
            ToDatapath::Resolvers { first } => self.resolvers(first, fds)?,
            ToDatapath::Flush { network, port } => self.flush(network, port)?,
            ToDatapath::Tcp { ticket } => self.exchange(ticket, fds.into_iter().next()),
            ToDatapath::Apply { document } => self.apply(document)?,
            ToDatapath::Status => {
                let status = self.status()?;
                self.link.send(&ToControl::Status(Box::new(status)));
            }
            ToDatapath::Watch(watch) => {
                self.watch(watch)?;
                self.link.send(&ToControl::Watching);
            }
            ToDatapath::Walk { from, action, query } => {
                self.link.send(&sessions::walk(&self.workers, from, action, query)?);
            }
            ToDatapath::Quit => {}
        }
        Ok(())
    }

    /// Gives back what a control that takes over lacks.
    fn hello(&self) {
        for (port, held) in &self.held {
            let fds: Vec<BorrowedFd<'_>> = held.fds.iter().map(AsFd::as_fd).collect();
            self.link.send_with(&ToControl::Port { port: *port, kind: held.kind }, &fds);
        }
        if let Some(sessions) = &self.sessions {
            self.link.send_with(&ToControl::Sessions, &[sessions.as_fd()]);
        }
        let workers = u16::try_from(self.workers.len()).unwrap_or(u16::MAX);
        let document = self.running.document.clone();
        let lacking = self.lacking.clone();
        self.link.send(&ToControl::Hello { workers, lacking, document: Box::new(document) });
        self.link.send_failures();
    }

    fn keep(&mut self, port: PortId, fds: Vec<OwnedFd>) -> Result<(), String> {
        if usize::from(port) >= MAX_PORTS {
            return Err(format!("keep.port {port}: is not below {MAX_PORTS}"));
        }
        self.kept.insert(port, fds);
        Ok(())
    }

    fn lease_log(&self, network: u16, leases: Vec<Lease>, fds: Vec<OwnedFd>) -> Result<(), String> {
        if usize::from(network) >= compile::MAX_IDS {
            return Err(format!("lease-log.network: {network} is not below {}", compile::MAX_IDS));
        }
        let mut files = fds.into_iter().map(File::from);
        let (Some(log), copy, None) = (files.next(), files.next(), files.next()) else {
            return Err("lease-log: one or two descriptors have to come with it".to_owned());
        };
        self.lease_job(LeaseJob::Open { network, log, copy });
        let leases = leases.into_iter().map(compile::lease).collect();
        self.tell_first(Mail::Restore { network, leases });
        Ok(())
    }

    /// Sockets wait for the document that knows them.
    fn resolvers(&mut self, first: u16, fds: Vec<OwnedFd>) -> Result<(), String> {
        if first == 0 {
            self.sockets = Some(Vec::new());
        }
        let sockets = self.sockets.get_or_insert_default();
        if sockets.len() != usize::from(first) {
            return Err(format!("resolvers.first: {first}, but {} sockets came before", sockets.len()));
        }
        sockets.extend(fds);
        Ok(())
    }

    /// The sockets for a document, if others came than those in use.
    fn take_sockets(&mut self, document: &Document) -> Result<Option<Vec<OwnedFd>>, String> {
        let fresh = self.sockets.take();
        let expected = usize::from(document.resolvers) * usize::from(document.sockets_per_resolver);
        let found = fresh.as_ref().map_or(self.installed, Vec::len);
        if found != expected {
            return Err(format!("resolvers: {found} sockets came, {expected} were named"));
        }
        Ok(fresh)
    }

    fn exchange(&self, ticket: u32, socket: Option<OwnedFd>) {
        // A ticket nobody waits for is late or wrong.
        let Some(query) = self.link.take_query(ticket) else { return };
        let Some(worker) = self.workers.first().cloned() else { return };
        let (Some(socket), true) = (socket, self.exchanges.load(Ordering::Relaxed) < MAX_EXCHANGES) else {
            worker.send(Mail::TcpAnswer { ticket, response: Vec::new() });
            return;
        };
        let running = Arc::clone(&self.exchanges);
        running.fetch_add(1, Ordering::Relaxed);
        let helper = move || {
            worker.send(Mail::TcpAnswer { ticket, response: resolver::exchange(socket, &query) });
            running.fetch_sub(1, Ordering::Relaxed);
        };
        if let Err(error) = std::thread::Builder::new().name("dns-tcp".to_owned()).spawn(helper) {
            tracing::warn!(%error, "no thread for DNS over TCP");
            self.exchanges.fetch_sub(1, Ordering::Relaxed);
            self.tell_first(Mail::TcpAnswer { ticket, response: Vec::new() });
        }
    }

    /// Brings all workers to `document`; on refusal they stay where they are.
    fn apply(&mut self, document: Document) -> Result<(), String> {
        let sockets = self.take_sockets(&document);
        let next = sockets.and_then(|sockets| Ok((self.running.next(document, self.seed)?, sockets)));
        let (next, mut sockets) = match next {
            Ok(next) => next,
            Err(why) => {
                self.pending.clear();
                return Err(why);
            }
        };
        self.installed = sockets.as_ref().map_or(self.installed, Vec::len);
        let removed: Vec<PortId> = (self.running.document.ports.iter().map(|port| port.id))
            .filter(|id| next.snapshot.port(*id).is_none())
            .collect();
        let generation = next.snapshot.generation;
        let (mut attached, fresh) = self.take_attached(&next);
        // Before anybody can report one of what is new: a second report of a port is not told to control.
        self.link.retain_failures(|port| !fresh.contains(&port));
        // Attaches come before the document that names them: what it does not name was given up.
        self.pending.clear();
        let (done, answers) = crossbeam_channel::bounded(self.workers.len());
        for (index, worker) in self.workers.iter().enumerate().rev() {
            worker.send(Mail::Apply {
                snapshot: Arc::clone(&next.snapshot),
                attached: attached.pop().unwrap_or_default(),
                removed: removed.clone(),
                sockets: if index == 0 { sockets.take() } else { None },
                done: done.clone(),
            });
        }
        let before = std::mem::replace(&mut self.running, next);
        for _ in &self.workers {
            if answers.recv_timeout(ANSWER_TIMEOUT) != Ok(generation) {
                return Err(format!("a worker does not answer to generation {generation}"));
            }
        }
        self.settle(&before, &fresh);
        self.link.send(&ToControl::Applied { generation });
        Ok(())
    }

    /// Pending queues of ports that `next` names, by worker; and those ports.
    fn take_attached(&mut self, next: &Running) -> (Vec<Vec<Attached>>, Vec<PortId>) {
        let mut by_worker: Vec<Vec<Attached>> = self.workers.iter().map(|_| Vec::new()).collect();
        let named = self.pending.extract_if(.., |port, _| next.snapshot.port(*port).is_some());
        let mut fresh = Vec::new();
        for (port, Given { queues, held }) in named {
            fresh.push(port);
            self.held.insert(port, held);
            for (worker, queue) in by_worker.iter_mut().zip(queues) {
                worker.push(queue);
            }
        }
        (by_worker, fresh)
    }

    /// Once no worker runs on `before` any more: forgets what only it knew.
    fn settle(&mut self, before: &Running, fresh: &[PortId]) {
        let gone = before.gone(&self.running);
        for network in self.running.snapshot.networks.iter().flatten() {
            gone.iter().for_each(|port| network.macs.flush_port(*port));
        }
        bridging::settle(&self.running.document, &self.running.snapshot);
        for network in before.closed_networks(&self.running) {
            self.lease_job(LeaseJob::Close { network });
        }
        let snapshot = &self.running.snapshot;
        self.meet_front_ends(fresh);
        self.held.retain(|port, _| snapshot.port(*port).is_some());
        self.kept.retain(|port, _| snapshot.port(*port).is_some());
        self.link.retain_failures(|port| snapshot.port(port).is_some());
    }

    /// Workers know the ports by now: their front-ends may speak, and those of ports that went shall not.
    fn meet_front_ends(&self, fresh: &[PortId]) {
        for (port, held) in self.held.iter().filter(|(_, held)| held.kind == PortKind::VhostUser) {
            if self.running.snapshot.port(*port).is_none() {
                self.desk.send(Job::Detach { port: *port });
            } else if let ([socket], true) = (held.fds.as_slice(), fresh.contains(port)) {
                self.desk.send(Job::Attach { port: *port, epoch: held.epoch, socket: Arc::clone(socket) });
            }
        }
    }

    /// Has all workers tell this from now on.
    fn watch(&mut self, watch: Watch) -> Result<(), String> {
        if watch == self.watched {
            return Ok(());
        }
        let (done, answers) = crossbeam_channel::bounded(self.workers.len());
        for worker in &self.workers {
            worker.send(Mail::Watch { watch: Box::new(news::compile(&watch)), done: done.clone() });
        }
        self.watched = watch;
        drop(done);
        for _ in &self.workers {
            answers.recv_timeout(ANSWER_TIMEOUT).map_err(|_| "a worker does not answer".to_owned())?;
        }
        Ok(())
    }

    fn status(&self) -> Result<Status, String> {
        let (reply, answers) = crossbeam_channel::bounded(self.workers.len());
        for worker in &self.workers {
            worker.send(Mail::Status { reply: reply.clone() });
        }
        let mut sums = Sums::default();
        for _ in &self.workers {
            let answer = answers.recv_timeout(ANSWER_TIMEOUT);
            sums.add(answer.map_err(|_| "a worker does not answer".to_owned())?);
        }
        Ok(Status {
            generation: self.running.snapshot.generation,
            macs: self.macs(),
            ports: sums.ports.into_values().collect(),
            drops: sums.drops.into_iter().map(|(name, count)| (name.to_owned(), count)).collect(),
            sessions: sums.sessions,
            uplinks: sums.uplinks.into_iter().map(uplink_status).collect(),
            trees: sums.trees,
        })
    }

    fn macs(&self) -> Vec<MacEntry> {
        let now = worker::now().mono;
        let mut macs = Vec::new();
        for (network, found) in (0u16..).zip(&self.running.snapshot.networks) {
            let Some(found) = found else { continue };
            found.macs.for_each(now, &mut |mac, port, age_seconds| {
                macs.push(MacEntry { network, port, mac, age_seconds });
            });
        }
        macs
    }

    /// Forgets the learned addresses of a network, or of one port of it.
    fn flush(&self, network: u16, port: Option<PortId>) -> Result<(), String> {
        let found = self.running.snapshot.network(network);
        let macs = &found.ok_or_else(|| format!("flush.network: there is no network {network}"))?.macs;
        match port {
            Some(port) => macs.flush_learned(&[port]),
            None => macs.flush(),
        }
        Ok(())
    }

    fn tell_first(&self, mail: Mail) {
        if let Some(worker) = self.workers.first() {
            worker.send(mail);
        }
    }

    fn lease_job(&self, job: LeaseJob) {
        if self.leases.send(job).is_err() {
            tracing::error!("the lease writer has ended");
        }
    }
}

fn uplink_status((id, found): UplinkAddress) -> UplinkStatus {
    let address = found.and_then(|(subnet, _)| format!("{}/{}", subnet.address, subnet.prefix).parse().ok());
    UplinkStatus { id, address, gateway: found.and_then(|(_, gateway)| gateway) }
}

/// One queue a worker. Workers beyond the descriptors write to one that another worker reads.
fn attach(
    (port, epoch): (PortId, u64),
    kind: PortKind,
    vnet_header: bool,
    fds: Vec<OwnedFd>,
    workers: usize,
) -> Result<Given, String> {
    let field = format!("attach.port {port}");
    if usize::from(port) >= MAX_PORTS {
        return Err(format!("{field}: is not below {MAX_PORTS}"));
    }
    if fds.is_empty() || fds.len() > workers {
        return Err(format!("{field}: {} descriptors for {workers} workers", fds.len()));
    }
    if matches!(kind, PortKind::Stream | PortKind::Dgram | PortKind::VhostUser) && fds.len() > 1 {
        return Err(format!("{field}: a socket is one descriptor, {} came", fds.len()));
    }
    if kind == PortKind::Tap && !vnet_header {
        return Err(format!("{field}: a tap needs a vnet header"));
    }
    let fds: Vec<Arc<OwnedFd>> = fds.into_iter().map(Arc::new).collect();
    let each = fds.iter().cycle().take(workers).enumerate();
    let queues = each.map(|(index, fd)| {
        let queue = queue((kind, epoch), vnet_header, Arc::clone(fd))?;
        // Queues of vhost-user come later and are each one worker's.
        let reads = index < fds.len() || kind == PortKind::VhostUser;
        Ok(Attached { port, queue, reads })
    });
    let queues: io::Result<_> = queues.collect();
    let queues = queues.map_err(|error| format!("{field}: {error}"))?;
    Ok(Given { queues, held: Held { kind, epoch, fds } })
}

fn queue((kind, epoch): (PortKind, u64), vnet_header: bool, fd: Arc<OwnedFd>) -> io::Result<Queue> {
    match kind {
        PortKind::Tap => TapQueue::new(fd).map(Queue::Tap),
        PortKind::Stream => StreamQueue::new(fd).map(Queue::Stream),
        PortKind::Dgram => DgramQueue::new(fd).map(Queue::Dgram),
        PortKind::VhostUser => Ok(Queue::Vhost(VhostQueue::new(epoch))),
        PortKind::Packet => {
            let told = if vnet_header { HeaderSize::Ten } else { HeaderSize::None };
            let header = HeaderSize::of(&fd).unwrap_or(told);
            PacketQueue::new(fd, header).map(Queue::Packet)
        }
    }
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
