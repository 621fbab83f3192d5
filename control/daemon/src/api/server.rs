//! The loop over all connections.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::{UnixListener, UnixStream};
use mio::{Events, Interest, Poll, Token, Waker};
use pontoon_proto::api::{Failure, Reply, Request, Response};
use pontoon_proto::request;

use super::access::{Access, Caller};
use super::client::{Client, Turn};
use super::limits::Limits;
use super::work::Work;
use crate::events::Filter;
use crate::failure::fail;
use crate::known::Shared;

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);
const FIRST_CLIENT: usize = 2;
/// Connections taken in before those that are there get their turn.
const ACCEPTS: usize = 64;
/// How long to leave new connections waiting when there is no descriptor for them.
const PAUSE: Duration = Duration::from_millis(100);

pub(crate) struct Server {
    poll: Poll,
    listener: UnixListener,
    /// Connections may be waiting.
    knocking: bool,
    /// Not before then, for want of descriptors.
    accept_at: Option<Instant>,
    shared: Arc<Shared>,
    events: crate::events::Events,
    access: Access,
    limits: Limits,
    work: Work,
    clients: BTreeMap<usize, Client>,
    next: usize,
    /// Some connection wants another turn that no event will announce.
    again: bool,
    /// Given up to take in, and turn away, a connection when there is no other descriptor.
    spare: Option<File>,
}

impl Server {
    pub(crate) fn new(
        listener: StdListener,
        shared: Arc<Shared>,
        access: Access,
        limits: Limits,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let mut listener = UnixListener::from_std(listener);
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let work = Work::start(&shared, &waker)?;
        let events = shared.lock().events.clone();
        events.wake_with(move || {
            let _ = waker.wake();
        });
        Ok(Self {
            poll,
            listener,
            knocking: true,
            accept_at: None,
            shared,
            events,
            access,
            limits,
            work,
            clients: BTreeMap::new(),
            next: FIRST_CLIENT,
            again: false,
            spare: File::open("/dev/null").ok(),
        })
    }

    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(256);
        loop {
            if let Err(error) = self.turn(&mut events) {
                tracing::error!("API: {error}");
                std::thread::sleep(PAUSE);
            }
        }
    }

    fn turn(&mut self, events: &mut Events) -> io::Result<()> {
        match self.poll.poll(events, self.sleep()) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        let now = Instant::now();
        for event in events.iter() {
            match event.token() {
                LISTENER => self.knocking = true,
                WAKER => {}
                Token(number) => {
                    if let Some(client) = self.clients.get_mut(&number) {
                        client.note(event);
                    }
                }
            }
        }
        self.admit(now);
        while let Some(done) = self.work.done() {
            if let Some(client) = self.clients.get_mut(&done.client) {
                client.answer(&done.message, now);
                client.fd = done.fd;
                client.subscription = done.subscription;
            }
        }
        self.again = false;
        for number in self.clients.keys().copied().collect::<Vec<_>>() {
            self.run_client(number, now);
        }
        self.save_memory(now);
        Ok(())
    }

    /// Until the next deadline, or not at all.
    fn sleep(&self) -> Option<Duration> {
        if self.again || (self.knocking && self.accept_at.is_none()) {
            return Some(Duration::ZERO);
        }
        let deadlines = self.clients.values().filter_map(|client| client.deadline(&self.limits));
        let next = deadlines.chain(self.accept_at).min()?;
        Some(next.saturating_duration_since(Instant::now()) + Duration::from_millis(1))
    }

    fn run_client(&mut self, number: usize, now: Instant) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        let gone = client.overdue(&self.limits, now);
        match client.turn(&self.limits, now) {
            _ if gone => self.close(number),
            Turn::Close => self.close(number),
            Turn::Rest => {}
            Turn::Again => self.again = true,
            Turn::Request(bytes) => {
                self.take(number, &bytes, now);
                self.again = true;
            }
        }
    }

    /// Sees to a whole request.
    fn take(&mut self, number: usize, bytes: &[u8], now: Instant) {
        let request = request::parse(bytes);
        let Some(client) = self.clients.get_mut(&number) else { return };
        let request = match request {
            Ok(request) => request,
            Err(failure) => return client.respond(&Response::Error(failure), now),
        };
        if let Some(failure) = self.access.refusal(&client.caller, client.rights, &request) {
            return client.respond(&Response::Error(failure), now);
        }
        if let Request::Subscribe { events, network } = request {
            let kinds = events.into_iter().collect();
            let network = network.map(|network| self.shared.known().find(&network)).transpose();
            let response = network.map(|network| {
                client.subscription =
                    Some(self.events.subscribe(Filter { kinds, network, ..Filter::default() }));
                Reply::Subscribed
            });
            return client.respond(&Response::from(response), now);
        }
        client.working = true;
        self.work.give(number, request);
    }

    fn close(&mut self, number: usize) {
        if let Some(mut client) = self.clients.remove(&number) {
            let _ = self.poll.registry().deregister(&mut client.stream);
        }
    }

    /// Takes in whoever is waiting.
    fn admit(&mut self, now: Instant) {
        if self.accept_at.is_some_and(|at| now < at) {
            return;
        }
        self.accept_at = None;
        for _ in 0..ACCEPTS {
            if !self.knocking {
                return;
            }
            match self.listener.accept() {
                Ok((stream, _)) => {
                    if let Err(error) = self.welcome(stream, now) {
                        tracing::debug!("API client: {error}");
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.knocking = false,
                Err(error) => match error.raw_os_error() {
                    Some(libc::EMFILE | libc::ENFILE) => self.out_of_descriptors(now),
                    _ => tracing::debug!("API client: {error}"),
                },
            }
        }
    }

    fn welcome(&mut self, mut stream: UnixStream, now: Instant) -> io::Result<()> {
        let caller = Caller::of(&stream)?;
        let rights = self.access.of(&caller);
        self.make_room(caller.uid, now);
        let number = self.next;
        self.next += 1;
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(number), both)?;
        let mut client = Client::new(stream, caller, rights, now);
        if self.clients.len() >= self.limits.clients
            || self.of_user(client.caller.uid) >= self.limits.per_user
        {
            client.dismiss(fail("operation failed: too many connections wait for answers"), now);
            let _ = client.turn(&self.limits, now);
            let _ = self.poll.registry().deregister(&mut client.stream);
            return Ok(());
        }
        self.clients.insert(number, client);
        Ok(())
    }

    fn of_user(&self, uid: u32) -> usize {
        self.clients.values().filter(|client| client.caller.uid == uid).count()
    }

    /// Closes one connection of the user who has too many: the one that has been quiet for longest.
    fn make_room(&mut self, uid: u32, now: Instant) {
        if self.of_user(uid) >= self.limits.per_user {
            self.close_one_of(uid, now);
        } else if self.clients.len() >= self.limits.clients {
            self.close_one_of(self.greediest(), now);
        }
    }

    /// The user with the most connections.
    fn greediest(&self) -> u32 {
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        self.clients.values().for_each(|client| *counts.entry(client.caller.uid).or_default() += 1);
        counts.into_iter().max_by_key(|(_, count)| *count).map_or(0, |(uid, _)| uid)
    }

    /// False when all of them are at work.
    fn close_one_of(&mut self, uid: u32, now: Instant) -> bool {
        let expendable = |client: &Client| client.caller.uid == uid && client.expendable();
        let theirs = self.clients.iter().filter(|(_, client)| expendable(client));
        let Some(number) = theirs.min_by_key(|(_, client)| client.since).map(|(number, _)| *number) else {
            return false;
        };
        self.dismiss(number, fail("operation failed: closed in favour of a newer connection"), now);
        true
    }

    /// Says why, if the client is ready to hear, and closes.
    fn dismiss(&mut self, number: usize, failure: Failure, now: Instant) {
        if let Some(client) = self.clients.get_mut(&number) {
            client.dismiss(failure, now);
            let _ = client.turn(&self.limits, now);
        }
        self.close(number);
    }

    /// Whoever holds most has to go when all hold too much together.
    fn save_memory(&mut self, now: Instant) {
        while self.clients.values().map(Client::memory).sum::<usize>() > self.limits.memory {
            let largest = self.clients.iter().filter(|(_, client)| !client.working);
            let largest = largest.max_by_key(|(_, client)| client.memory()).map(|(number, _)| *number);
            let Some(number) = largest else { return };
            self.dismiss(
                number,
                fail("operation failed: requests and answers that wait take too much memory"),
                now,
            );
        }
    }

    /// Closes a quiet connection; without one, turns the new one away with the spare descriptor, so that it does not
    /// wait for ever, and rests.
    fn out_of_descriptors(&mut self, now: Instant) {
        if self.close_one_of(self.greediest(), now) {
            return;
        }
        tracing::warn!("no descriptor is left for API clients");
        self.spare = None;
        drop(self.listener.accept());
        self.spare = File::open("/dev/null").ok();
        self.accept_at = Some(now + PAUSE);
    }
}
