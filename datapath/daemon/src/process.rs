//! Starts the threads and keeps the process alive over the death of controls.

use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use pontoon_engine::engine::{Config, Engine};
use pontoon_engine::nat::Slot;
use pontoon_ports::sys;
use rustix::process::Uid;
use tracing_subscriber::filter::LevelFilter;

use crate::args::{DatapathArgs, LEVERS_ENV};
use crate::egress::Ways;
use crate::lease_log;
use crate::link::{self, Link};
use crate::mail::Mailbox;
use crate::news::Teller;
use crate::service::{End, Service};
use crate::vhost::Front;
use crate::worker::{self, Parts, Worker};
use crate::{handoff, news};

/// Environment variable with the level of the log, e.g. `debug`.
const LOG_ENV: &str = "PONTOON_LOG";
/// Controls that may wait to be heard.
const BACKLOG: i32 = 16;
/// Sessions of all workers without a memory file.
const DEFAULT_SLOTS: usize = 65_536;

/// Runs the datapath until control says quit.
///
/// # Errors
/// When descriptors are unusable, a privilege is left, or a thread cannot be started.
pub fn main(args: DatapathArgs) -> anyhow::Result<()> {
    let args = args.with_levers(&std::env::var(LEVERS_ENV).unwrap_or_default()).on_this_machine();
    let listener = UnixListener::from(sys::take_inherited(args.listen_fd).context("listening socket")?);
    let control = UnixStream::from(sys::take_inherited(args.control_fd).context("control socket")?);
    let sessions = args.session_fd.map(sys::take_inherited).transpose().context("session memory")?;
    init_log();
    sys::settle_signals();
    // Whoever connects is told by the kernel that this process, not the control that made the socket, is the peer.
    rustix::net::listen(&listener, BACKLOG)?;
    listener.set_nonblocking(false)?;
    control.set_nonblocking(false)?;
    let (owner, seed) = (rustix::process::geteuid(), seed()?);
    let lacking = args.sandbox.enter().context("sandbox")?;
    for line in &lacking {
        tracing::warn!("the sandbox lacks {line}");
    }
    let kept = sessions.as_ref().map(OwnedFd::try_clone).transpose().context("session memory")?;
    let slots = match sessions {
        Some(memory) => sys::map_shared::<Slot>(memory).context("session memory")?,
        None => Box::leak(vec![Slot::default(); DEFAULT_SLOTS].into_boxed_slice()),
    };
    let (service, threads) = start(&args, slots, seed)?;
    let mut service = service.with_sessions(kept).with_lacking(lacking);
    serve(&mut service, control, &listener, owner);
    drop(service);
    for thread in threads {
        let _ = thread.join();
    }
    Ok(())
}

fn init_log() {
    let level = std::env::var(LOG_ENV).ok().and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::INFO);
    // A second call (tests) keeps the first log.
    let _ = tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(level).try_init();
}

fn seed() -> anyhow::Result<u64> {
    let mut seed = [0; 8];
    rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty()).context("random numbers")?;
    Ok(u64::from_ne_bytes(seed))
}

/// Starts all threads; they end after `Quit` once the service is dropped.
pub(crate) fn start(
    args: &DatapathArgs,
    mut slots: &'static mut [Slot],
    seed: u64,
) -> anyhow::Result<(Service, Vec<JoinHandle<()>>)> {
    let workers = args.workers();
    let share = slots.len() / usize::from(workers);
    let boxes: Vec<_> = (0..workers).map(|_| Mailbox::new()).collect::<Result<_, _>>()?;
    let (mailboxes, receivers): (Vec<Mailbox>, Vec<_>) = boxes.into_iter().unzip();
    let (leases, jobs) = crossbeam_channel::bounded(lease_log::BACKLOG);
    let (reports, inbox) = crossbeam_channel::bounded(link::BACKLOG);
    let (tellers, batches) = crossbeam_channel::bounded(news::BACKLOG);
    let mut threads = Vec::new();
    for (index, (ends, mail)) in (0u16..).zip(handoff::mesh(workers).into_iter().zip(receivers)) {
        let Some(mailbox) = mailboxes.get(usize::from(index)) else { break };
        let (mine, rest) = slots.split_at_mut(share);
        slots = rest;
        let wakers = mailboxes.iter().map(Mailbox::waker).collect();
        let (leases, reports) = (leases.clone(), reports.clone());
        let coalesces = args.coalesce;
        let ways = Ways { outbound: ends.outbound, wakers, leases, reports, coalesces };
        let (waker, inbound, first) = (mailbox.waker(), ends.inbound, index == 0);
        let teller = Teller::new(index, tellers.clone());
        let parts = Parts { mail, waker, inbound, ways, first, teller, spin: args.spin(), nap: args.nap() };
        let engine = Engine::new(Config { worker: index, workers, seed }, mine, worker::now());
        let worker = Worker::new(engine, parts).context("worker")?;
        threads.push(spawn(&format!("worker-{index}"), move || worker.run())?);
    }
    let link = Arc::new(Link::default());
    let listener = Arc::clone(&link);
    threads.push(spawn("news", move || news::run(&batches, &listener))?);
    if let Some(first) = mailboxes.first() {
        let (worker, other, speaker) = (first.clone(), first.clone(), Arc::clone(&link));
        threads.push(spawn("lease-writer", move || lease_log::run(&jobs, &worker))?);
        threads.push(spawn("reports", move || speaker.run(&inbox, &other))?);
    }
    let (front, desk) = Front::new(mailboxes.clone(), reports).context("vhost-user")?;
    threads.push(spawn("vhost-user", move || front.run())?);
    Ok((Service::new(mailboxes, link, leases, desk, seed), threads))
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> anyhow::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body).with_context(|| format!("thread {name}"))
}

/// One control after the other. Traffic flows on while there is none.
pub(crate) fn serve(service: &mut Service, control: UnixStream, listener: &UnixListener, owner: Uid) {
    let mut control = Some(control);
    loop {
        if let Some(connected) = control.take()
            && service.serve(&connected) == End::Quit
        {
            return;
        }
        match listener.accept() {
            Ok((stream, _)) if trusted(&stream, owner) => control = Some(stream),
            Ok(_) => tracing::warn!("refused a connection of another user"),
            Err(error) => {
                tracing::warn!(%error, "waiting for control");
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

/// The user who started this process, or root.
fn trusted(stream: &UnixStream, owner: Uid) -> bool {
    sys::peer_user(stream).is_ok_and(|peer| peer == 0 || peer == owner.as_raw())
}
