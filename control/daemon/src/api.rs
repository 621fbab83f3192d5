//! The API socket: a thread a connection, so that a slow client delays nobody.

use std::collections::BTreeSet;
use std::io::{self, BufReader, Read};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use pontoon_proto::api::{Reply, Request, Response};
use pontoon_proto::codec;
use pontoon_proto::event::EventKind;

use crate::events::{Filter, Subscription};
use crate::failure::{Answer, fail, fail_help};
use crate::state::State;
use crate::store::remove;
use crate::supervisor::restrict;

/// Connections served at once; further ones are closed.
const MAX_CLIENTS: usize = 64;
const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);

/// Binds the API socket in place of one nobody answers at.
pub(crate) fn bind(path: &Path) -> anyhow::Result<UnixListener> {
    if UnixStream::connect(path).is_ok() {
        anyhow::bail!("another daemon answers at {}; stop it or give another --runtime-dir", path.display());
    }
    remove(path).with_context(|| format!("cannot remove {}", path.display()))?;
    let listener =
        UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
    restrict(path, 0o660)?;
    Ok(listener)
}

/// Serves until the process ends.
pub(crate) fn serve(listener: UnixListener, state: Arc<Mutex<State>>) -> io::Result<()> {
    let clients = Arc::new(AtomicUsize::new(0));
    let accept = move || {
        for stream in listener.incoming() {
            match stream {
                Ok(stream) => admit(stream, &clients, &state),
                Err(error) => {
                    tracing::warn!("API socket: {error}");
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        }
    };
    std::thread::Builder::new().name("api".into()).spawn(accept).map(drop)
}

/// Counts a client out again, however its thread ends.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn admit(stream: UnixStream, clients: &Arc<AtomicUsize>, state: &Arc<Mutex<State>>) {
    let before = clients.fetch_add(1, Ordering::Relaxed);
    let place = Place(Arc::clone(clients));
    if before >= MAX_CLIENTS {
        tracing::warn!("more than {MAX_CLIENTS} API clients; one was turned away");
        return;
    }
    let state = Arc::clone(state);
    let run = move || {
        let _place = place;
        if let Err(error) = converse(&stream, &state) {
            tracing::debug!("API client: {error}");
        }
    };
    if let Err(error) = std::thread::Builder::new().name("api-client".into()).spawn(run) {
        tracing::warn!("API client: {error}");
    }
}

fn converse(stream: &UnixStream, state: &Mutex<State>) -> io::Result<()> {
    stream.set_read_timeout(Some(CLIENT_TIMEOUT))?;
    stream.set_write_timeout(Some(CLIENT_TIMEOUT))?;
    let caller = rustix::net::sockopt::socket_peercred(stream)?.uid;
    let allowed = caller.is_root() || caller == rustix::process::geteuid();
    let mut reader = BufReader::new(stream);
    loop {
        let request = match codec::read_api::<Request>(&mut reader) {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(()),
            Err(error)
                if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
            {
                let failure = fail(format!("internal error: the request cannot be read: {error}"));
                return codec::write_api(stream, &Response::Error(failure));
            }
            Err(error) => return Err(error),
        };
        let response = if let (true, Request::Subscribe { events, network }) = (allowed, &request) {
            let kinds = events.iter().copied().collect();
            match subscribe(state, kinds, network.as_deref()) {
                Ok(subscription) => return stream_events(stream, &subscription),
                Err(failure) => Response::Error(failure),
            }
        } else if allowed {
            state.lock().unwrap_or_else(PoisonError::into_inner).answer(request)
        } else {
            Response::Error(fail_help(
                format!("authentication failed: user {} may not manage networks", caller.as_raw()),
                "run the command as root or as the user the daemon runs as",
            ))
        };
        codec::write_api(stream, &response)?;
    }
}

fn subscribe(
    state: &Mutex<State>,
    kinds: BTreeSet<EventKind>,
    network: Option<&str>,
) -> Answer<Subscription> {
    let state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let network = network.map(|network| state.find(network)).transpose()?;
    Ok(state.events.subscribe(Filter { kinds, network }))
}

/// Reports events until the client goes.
fn stream_events(mut stream: &UnixStream, subscription: &Subscription) -> io::Result<()> {
    codec::write_api(stream, &Response::Parameters(Reply::Subscribed))?;
    stream.set_nonblocking(true)?;
    while let Ok(reply) = subscription.next(Duration::from_secs(1)) {
        match stream.read(&mut [0; 64]) {
            Ok(0) => return Ok(()),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
        if let Some(reply) = reply {
            stream.set_nonblocking(false)?;
            codec::write_api(stream, &Response::Parameters(reply))?;
            stream.set_nonblocking(true)?;
        }
    }
    Ok(())
}
