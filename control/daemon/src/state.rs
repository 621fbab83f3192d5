//! All that control knows, behind one lock, and the one way to change what the datapath runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use pontoon_netxml::Network;
use pontoon_proto::codec::MAX_FDS;
use pontoon_proto::message::{Lease, PortKind, ToDatapath};

use crate::doors::Doors;
use crate::events::{Events, Subscription};
use crate::failure::{Answer, internal, operation};
use crate::known::Known;
use crate::lease_watch::LeaseWatch;
use crate::leases;
use crate::link::Link;
use crate::live::Live;
use crate::resolvers::Resolvers;
use crate::segments::Splices;
use crate::shared::Sharing;
use crate::store::Store;
use crate::{defaults, dns, document, netlink};

/// Bytes of a lease log, or of its last part, from which on it is continued in another part.
const MAX_LOG: u64 = 1 << 20;

/// Descriptors of a port, kept so that the device outlives the datapath.
pub(crate) struct Held {
    pub(crate) kind: PortKind,
    pub(crate) fds: Vec<OwnedFd>,
}

pub(crate) struct State {
    pub(crate) known: Arc<Known>,
    pub(crate) held: BTreeMap<u16, Held>,
    /// Ports whose device failed; they are attached anew when it is back.
    pub(crate) failed: BTreeSet<u16>,
    pub(crate) link: Option<Link>,
    pub(crate) resolvers: Resolvers,
    pub(crate) sharing: Sharing,
    pub(crate) splices: Splices,
    /// Queues of every tap.
    pub(crate) workers: u16,
    pub(crate) note: PathBuf,
    pub(crate) events: Events,
    pub(crate) lease_watch: LeaseWatch,
    pub(crate) doors: Doors,
    /// Rides on the answer to the request that is being served.
    pub(crate) handed: Option<OwnedFd>,
    /// What the client is told from now on whose request is being served.
    pub(crate) subscribed: Option<Subscription>,
    /// Number of the trace begun last.
    pub(crate) last_trace: u32,
}

impl State {
    pub(crate) fn new(
        store: Store,
        resolvers: Resolvers,
        workers: u16,
        note: PathBuf,
    ) -> std::io::Result<Self> {
        let defined = by_name(&store, store.load()?);
        let live = Live::default();
        let (held, failed) = (BTreeMap::new(), BTreeSet::new());
        let (events, lease_watch) = (Events::default(), LeaseWatch::default());
        let known = Arc::new(Known { store, defined, live, log_mappings: false });
        let doors = Doors::default();
        let sharing = Sharing::new(note.with_file_name("reserved-ports"));
        Ok(Self {
            known,
            held,
            failed,
            link: None,
            resolvers,
            sharing,
            splices: Splices::default(),
            workers,
            note,
            events,
            lease_watch,
            doors,
            handed: None,
            subscribed: None,
            last_trace: 0,
        })
    }

    pub(crate) fn link(&self) -> Answer<&Link> {
        self.link
            .as_ref()
            .ok_or_else(|| operation("the datapath process is not running; it is being restarted"))
    }

    /// Makes a change to what is active: all of it, or none.
    pub(crate) fn change<T>(&mut self, change: impl FnOnce(&mut Self) -> Answer<T>) -> Answer<T> {
        self.link()?.drain();
        let before = self.live.clone();
        let result = change(self).and_then(|value| self.apply().map(|()| value));
        if result.is_err() {
            let generation = self.live.generation;
            self.live = Live { generation, ..before };
            self.forget_ports();
            self.link.as_ref().map(Link::drain);
            if let Err(failure) = self.apply() {
                tracing::error!("the state before could not be restored: {}", failure.message);
            }
        }
        self.forget_ports();
        result
    }

    /// Sends the document, waits until it runs, and notes it.
    pub(crate) fn apply(&mut self) -> Answer<()> {
        self.live.number_ports()?;
        self.locate_guests();
        self.live.generation += 1;
        // Whoever makes a change that depends on it has asked before; for the rest it is tried again.
        for done in [self.share(), self.splice()] {
            done.unwrap_or_else(|failure| tracing::error!("{}", failure.message));
        }
        let networks = self.live.networks.iter().map(|live| &live.network);
        let wanted = dns::wanted(networks, self.resolvers.of_host());
        self.resolvers.arrange(&wanted);
        if self.resolvers.unsent() {
            self.send_resolvers()?;
        }
        let document = document::build(&self.live, &self.failed, &self.resolvers);
        // Before the document, so that nothing is missed of what it begins.
        if let Err(failure) = self.watch() {
            tracing::error!("sessions are not watched: {}", failure.message);
        }
        self.link()?.apply(document)?;
        self.resolvers.sent();
        self.write_note();
        let failed = &self.failed;
        self.doors.keep(&self.known.live, |port| failed.contains(&port));
        Ok(())
    }

    pub(crate) fn write_note(&self) {
        if let Err(error) = self.live.save(self.store.disk(), &self.note) {
            tracing::error!("{} cannot be written: {error}", self.note.display());
        }
    }

    /// Closes descriptors of ports that are no more.
    fn forget_ports(&mut self) {
        let ports = self.live.ports();
        self.held.retain(|port, _| ports.contains(port));
        self.failed.retain(|port| ports.contains(port));
    }

    /// Hands a port's descriptors to the datapath and keeps them here.
    pub(crate) fn attach(&mut self, port: u16, held: Held) -> Answer<()> {
        self.send_port(port, &held)?;
        self.failed.remove(&port);
        self.held.insert(port, held);
        Ok(())
    }

    fn send_port(&self, port: u16, held: &Held) -> Answer<()> {
        let message = ToDatapath::Attach { port, kind: held.kind, vnet_header: true };
        self.link()?.send(&message, &held.fds)
    }

    /// Hands over the lease log of an active network that has DHCP.
    pub(crate) fn send_lease_log(&self, id: u16, network: &Network) -> Answer<()> {
        if document::dhcp_ip(network).is_none() {
            return Ok(());
        }
        let path = self.store.leases(&network.name);
        let compacted = leases::compact(self.store.disk(), &path);
        let opened = compacted.and_then(|log| Ok((leases::open(&path)?, log)));
        let (files, log) =
            opened.map_err(|error| internal(format!("cannot write '{}': {error}", path.display())))?;
        self.lease_watch.begin(&network.name, log.leases.clone(), &path);
        self.hand_log(id, files, log.leases)
    }

    fn hand_log(&self, id: u16, files: Vec<File>, leases: Vec<Lease>) -> Answer<()> {
        let files: Vec<OwnedFd> = files.into_iter().map(OwnedFd::from).collect();
        self.link()?.send(&ToDatapath::LeaseLog { network: id, leases }, &files)
    }

    /// Continues lease logs that have grown in a new part.
    pub(crate) fn rotate_leases(&self) {
        for live in self.live.networks.iter().filter(|live| document::dhcp_ip(&live.network).is_some()) {
            let path = self.store.leases(&live.network.name);
            let parts = leases::parts(self.store.disk(), &path);
            let length = |part: &PathBuf| std::fs::metadata(part).map_or(0, |data| data.len());
            if parts.last().map_or(0, length) < MAX_LOG {
                continue;
            }
            let next = leases::rotate(self.store.disk(), &path).map_err(internal);
            let handed = next.and_then(|next| {
                let files = leases::open(&next).map_err(internal)?;
                self.lease_watch.rotate(&live.network.name, &next);
                self.hand_log(live.id, files, Vec::new())
            });
            if let Err(failure) = handed {
                tracing::error!("lease log of network '{}': {}", live.network.name, failure.message);
            }
        }
    }

    fn send_resolvers(&self) -> Answer<()> {
        let sockets: Vec<BorrowedFd<'_>> = self.resolvers.sockets().map(AsFd::as_fd).collect();
        let mut first = 0;
        for part in sockets.chunks(MAX_FDS) {
            self.link()?.send_borrowed(&ToDatapath::Resolvers { first }, part)?;
            first += u16::try_from(part.len()).unwrap_or(0);
        }
        Ok(())
    }

    /// Follows the lease logs that a datapath taken over writes to.
    pub(crate) fn follow_leases(&self) {
        for live in &self.live.networks {
            let path = self.store.leases(&live.network.name);
            let parts = leases::parts(self.store.disk(), &path);
            match leases::read(self.store.disk(), &path) {
                Ok(log) => {
                    let current = leases::current(log.leases, leases::now());
                    self.lease_watch.begin(&live.network.name, current, parts.last().unwrap_or(&path));
                }
                Err(error) => tracing::error!("cannot read '{}': {error}", path.display()),
            }
        }
    }

    /// Gives a fresh datapath all that is active.
    pub(crate) fn restore(&mut self) -> Answer<()> {
        self.failed.clear();
        for port in self.live.ports() {
            match self.held.get(&port) {
                // What was agreed with a front-end died with the datapath: it has to connect anew.
                Some(held) if held.kind == PortKind::VhostUser => {
                    self.held.remove(&port);
                    self.reopen_or_fail(port);
                }
                Some(held) => self.send_port(port, held)?,
                None => self.reopen_or_fail(port),
            }
        }
        // One lease log that cannot be opened must not keep every network down.
        for live in &self.live.networks {
            if let Err(failure) = self.send_lease_log(live.id, &live.network) {
                tracing::error!("leases of network '{}': {}", live.network.name, failure.message);
            }
        }
        self.keep_all()?;
        self.keep_splices()?;
        self.resolvers.send_again();
        self.apply()
    }

    fn reopen_or_fail(&mut self, port: u16) {
        let opened = self.reopen(port);
        if let Err(failure) = opened.and_then(|held| self.attach(port, held)) {
            let guest = self.live.guests.iter().find(|guest| guest.port == port);
            if guest.is_some_and(|guest| guest.details.cable.waits_for_peer()) {
                tracing::info!("port {port} waits for its guest to connect anew: {}", failure.message);
            } else {
                tracing::error!("port {port} could not be made again: {}", failure.message);
            }
            self.failed.insert(port);
        }
    }
}

/// Definitions by name. A file written by hand may lack what `net-define` fills in, or be a copy of another.
fn by_name(store: &Store, loaded: Vec<Network>) -> BTreeMap<String, Network> {
    let mut defined: BTreeMap<String, Network> = BTreeMap::new();
    let whole = |network: &Network| {
        let device = network.bridge.name.is_some() && network.mac.is_some();
        network.uuid.is_some() && (device || !network.forward.mode.owns_bridge())
    };
    // The whole ones first, so that nothing of theirs is given to another.
    let (whole, partial): (Vec<_>, Vec<_>) = loaded.into_iter().partition(whole);
    for mut network in whole.into_iter().chain(partial) {
        let name = network.name.clone();
        if let Some(other) = defined.values().find(|other| other.uuid.is_some() && other.uuid == network.uuid)
        {
            tracing::error!("definition of network '{name}' is skipped: it has the UUID of '{}'", other.name);
            continue;
        }
        let before = network.clone();
        let links = netlink::links().unwrap_or_default();
        let taken = |bridge: &str| {
            let used = |other: &Network| other.bridge.name.as_deref() == Some(bridge);
            defined.values().any(used) || links.iter().any(|link| link.name == bridge)
        };
        let filled = defaults::fill(&mut network, None, taken);
        if let Err(failure) =
            filled.and_then(|()| if network == before { Ok(()) } else { store.save(&network) })
        {
            tracing::error!("network '{name}': {}", failure.message);
        }
        defined.insert(name, network);
    }
    defined
}
