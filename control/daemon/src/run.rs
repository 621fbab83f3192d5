//! The life of the process: start, main loop, end.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use pontoon_proto::message::ToDatapath;

use crate::api::Access;
use crate::args::DaemonArgs;
use crate::doors::Doors;
use crate::known::Shared;
use crate::link::{self, Event, Greeted, printable};
use crate::live::Live;
use crate::mapping_log::{MappingLog, Target};
use crate::resolvers::{self, Resolvers};
use crate::state::State;
use crate::store::{self, Store};
use crate::supervisor::Supervisor;
use crate::watch::{Notifier, Watch};
use crate::{api, lease_watch, news, sys, users};

/// Where guests plug in, below the runtime directory.
const SOCKETS: &str = "ports";
/// The log of mappings where none is named, below the state directory.
const MAPPINGS: &str = "mappings.log";
/// Between two tries to mend what has failed.
const TICK: Duration = Duration::from_secs(1);
/// Between two looks at what no event tells of, as a file that is mounted over resolv.conf.
const QUIET_TICK: Duration = Duration::from_secs(10);
/// TCP connections to resolvers being made at once.
const MAX_CONNECTS: usize = 16;

/// Runs the daemon in the foreground until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps it from starting, in words for the user.
pub fn main(args: DaemonArgs) -> anyhow::Result<()> {
    start_log();
    raise_descriptor_limit();
    let state_dir = &args.state_dir;
    let cannot = |dir: &std::path::Path| format!("cannot use directory {}", dir.display());
    store::make_dir(state_dir, 0o700).with_context(|| cannot(state_dir))?;
    store::make_dir(&args.runtime_dir, 0o755).with_context(|| cannot(&args.runtime_dir))?;
    let _lock: File = store::lock(state_dir)?;
    let user = users::find(&args.datapath_user)?;
    let socket = args.socket();
    let access = Access::new(&args.group, args.read_access);
    let sockets = args.runtime_dir.join(SOCKETS);
    store::make_dir(&sockets, 0o755).with_context(|| cannot(&sockets))?;
    access.apply_dir(&sockets).with_context(|| cannot(&sockets))?;
    let listener = api::bind(&socket, &access)?;
    sys::drop_capabilities().context("giving up capabilities")?;
    let mut watch = Watch::new(&args.resolv_conf).context("watching the host")?;

    let store = Store::open(state_dir).with_context(|| cannot(state_dir))?;
    let resolvers = Resolvers::read(&args.resolv_conf);
    let note = args.runtime_dir.join("live.json");
    let mut state = State::new(store, resolvers, args.workers.max(1), note)?;
    state.doors = Doors::new(args.runtime_dir.join(SOCKETS), watch.registry()?);
    state.sharing.classic = args.classic_hooks;
    state.log_mappings = args.mapping_log.is_some();
    let mut daemon = Daemon {
        state: Arc::new(Shared::new(state)),
        supervisor: Supervisor::new(&args, user),
        notifier: watch.notifier(),
        connects: Arc::new(AtomicUsize::new(0)),
        restart_at: Instant::now(),
    };
    daemon.begin()?;
    if let Err(error) = lease_watch::start(Arc::clone(&daemon.state)) {
        tracing::error!("leases are not reported to subscribers: {error}");
    }
    let target =
        args.mapping_log.as_deref().map_or_else(|| Target::File(state_dir.join(MAPPINGS)), Target::read);
    if let Some(outlet) = watch.outlet() {
        let log = MappingLog::start(target).context("log of mappings")?;
        news::start(Arc::clone(&daemon.state), outlet, log).context("news of the datapath")?;
    }
    api::serve(listener, Arc::clone(&daemon.state), access)?;
    println!("pontoon: ready, API socket {}", socket.display());
    std::io::stdout().flush()?;
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::debug!("systemd was not notified: {error}");
    }
    let ended = daemon.run(&mut watch);
    daemon.end();
    store::remove(&socket)?;
    Ok(ended?)
}

fn start_log() {
    let subscriber =
        tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).with_target(false);
    let _ = subscriber.with_max_level(tracing::Level::INFO).try_init();
}

struct Daemon {
    state: Arc<Shared>,
    supervisor: Supervisor,
    notifier: Notifier,
    connects: Arc<AtomicUsize>,
    /// A datapath that dies at once is not started more than once a second.
    restart_at: Instant,
}

impl Daemon {
    /// Takes over the datapath that runs or starts one, then starts the networks marked for it.
    fn begin(&mut self) -> anyhow::Result<()> {
        let mut state = self.state.lock();
        let found = self.supervisor.take_over(&self.notifier);
        let result = if let Some(Greeted { link, document, handed }) = found {
            tracing::info!("datapath taken over, pid {}", link.pid);
            state.live = Live::load(state.store.disk(), &state.note);
            state.failed = state.live.keep_running(&document);
            state.look_around();
            state.workers = link.workers.max(1);
            self.supervisor.workers = state.workers;
            state.adopt(handed.ports);
            link.forget_watch();
            state.link = Some(link);
            state.follow_leases();
            state.apply()
        } else {
            state.link = Some(self.supervisor.start(&self.notifier)?);
            self.restart_at = Instant::now() + TICK;
            state.restore()
        };
        result.map_err(|failure| anyhow::anyhow!("{}", failure.message))?;
        state.autostart();
        Ok(())
    }

    /// Acts on what happens until a signal ends it.
    fn run(&mut self, watch: &mut Watch) -> io::Result<()> {
        let mut next_tick = Instant::now();
        loop {
            let found = watch.wait(next_tick.saturating_duration_since(Instant::now()))?;
            if !found.is_empty() {
                next_tick = next_tick.min(Instant::now() + TICK);
            }
            for event in found {
                if let Event::Signal(signal) = event {
                    tracing::info!("signal {signal}: ending");
                    return Ok(());
                }
                self.act(event);
            }
            if Instant::now() >= next_tick {
                next_tick = Instant::now() + self.tick();
            }
        }
    }

    fn act(&mut self, event: Event) {
        match event {
            Event::Signal(_) => {}
            Event::Host => drop(self.tick()),
            Event::PortFailed { port, reason } => self.state.lock().port_failed(port, &printable(&reason)),
            Event::NeedTcp { ticket, resolver } => self.connect(ticket, resolver),
            Event::Door(door) => {
                if self.state.lock().answer_door(door) && !self.notifier.offer(Event::Door(door)) {
                    tracing::warn!("connections wait until the next one comes");
                }
            }
            Event::Gone(number) => {
                let mut state = self.state.lock();
                if state.link.as_ref().is_some_and(|link| link.number == number) {
                    tracing::error!("the datapath process is gone");
                    state.link = None;
                }
                drop(state);
                self.restart();
            }
        }
    }

    /// Does what is to be done again and again; how long it may wait the next time.
    fn tick(&mut self) -> Duration {
        self.restart();
        let mut state = self.state.lock();
        if state.link.is_none() {
            return TICK;
        }
        state.follow_peers();
        state.drop_vanished();
        state.repair();
        state.learn_addresses();
        state.follow_host();
        state.follow_segments();
        state.rotate_leases();
        if let Err(failure) = state.watch() {
            tracing::error!("sessions are not watched: {}", failure.message);
        }
        if state.resolvers.follow()
            && let Err(failure) = state.apply()
        {
            tracing::error!("resolvers: {}", failure.message);
        }
        let unfinished = state.sharing.unfinished || state.splices.unfinished || state.is_watching();
        let quiet = state.failed.is_empty() && !state.is_watchful() && !unfinished;
        if quiet { QUIET_TICK } else { TICK }
    }

    /// Starts a datapath in place of one that died, and gives it what was active.
    fn restart(&mut self) {
        let mut state = self.state.lock();
        if state.link.is_some() || Instant::now() < self.restart_at {
            return;
        }
        self.restart_at = Instant::now() + TICK;
        match self.supervisor.start(&self.notifier) {
            Ok(link) => {
                state.link = Some(link);
                if let Err(failure) = state.restore() {
                    tracing::error!("the networks could not be restored: {}", failure.message);
                    // The next tick starts over.
                    if let Some(link) = state.link.take() {
                        link.close();
                    }
                }
            }
            Err(error) => tracing::error!("{error:#}"),
        }
    }

    /// Makes a TCP connection to a resolver in a thread of its own and hands it over.
    fn connect(&self, ticket: u32, resolver: u16) {
        let state = self.state.lock();
        let Some(writer) = state.link.as_ref().map(link::Link::writer) else {
            return;
        };
        let server = state.resolvers.at(resolver);
        drop(state);
        let connects = Arc::clone(&self.connects);
        let crowded = connects.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTS;
        let run = move || {
            let stream = server.filter(|_| !crowded).map(resolvers::tcp);
            let fds: Vec<OwnedFd> = match stream {
                Some(Ok(stream)) => vec![stream.into()],
                Some(Err(error)) => {
                    tracing::warn!("resolver {resolver} by TCP: {error}");
                    Vec::new()
                }
                None => Vec::new(),
            };
            let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
            if let Err(error) = link::send(&writer, &ToDatapath::Tcp { ticket }, &fds) {
                tracing::debug!("TCP socket for the datapath: {error}");
            }
            connects.fetch_sub(1, Ordering::Relaxed);
        };
        if crowded {
            run();
        } else if std::thread::Builder::new().name("resolver-tcp".into()).spawn(run).is_err() {
            self.connects.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Ends the datapath; taps go with their last descriptor.
    fn end(&mut self) {
        let mut state = self.state.lock();
        if let Some(link) = state.link.take() {
            let _ = link.send(&ToDatapath::Quit, &[]);
            self.supervisor.finish(&link);
        }
        state.end_sharing();
        state.end_splices();
        state.held.clear();
        let _ = store::remove(&state.note);
        let _ = store::remove(&crate::disk::with_suffix(&state.note, store::COPY));
    }
}

/// Every tap is a descriptor for each worker; the usual soft limit of 1024 ends at a few hundred guests. The datapath
/// inherits it.
pub(crate) fn raise_descriptor_limit() {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit);
}
