//! Queries in flight to resolvers. Equal ones of a network wait for the same answer.

use alloc::vec::Vec;

use pontoon_wire::dns::{Builder, Header, NAME_MAX, Question, flag, rcode};

use super::cache::Key;
use super::random::Random;
use super::relay::relay;
use super::request::Request;
use super::{Client, Event, Transport};

/// Clients waiting, of all networks.
const IN_FLIGHT_MAX: usize = 1024;
const PER_CLIENT_MAX: usize = 150;
/// Equal questions in flight multiply a forger's chances (RFC 5452 5): those of networks and of clients that differ
/// in what they understand cannot share an answer.
const PER_QUESTION_MAX: usize = 16;
const WAIT_NS: u64 = 2_000_000_000;
/// A resolver that did not answer is passed over this long, so that one dead one costs one wait.
const HOLD_DOWN_NS: u64 = 30_000_000_000;
const TRIES_MAX: usize = 3;
const TRIES_PER_RESOLVER: usize = 2;
/// Header, the longest question, OPT.
const SMALL: usize = 12 + 259 + 11;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Duplicate,
    Full,
    NoResolver,
}

/// A client and its way of asking.
pub(super) struct Waiter {
    pub(super) client: Client,
    id: u16,
    flags: u16,
    edns: Option<(u16, bool)>,
    /// the question in the client's case
    asked: Vec<u8>,
    room: u16,
}

impl Waiter {
    fn new(client: Client, request: &Request<'_>) -> Self {
        let asked = request.question.to_vec();
        Self { client, id: request.id, flags: request.flags, edns: request.edns, asked, room: request.room }
    }

    fn request(&self) -> Request<'_> {
        let tcp = self.client.transport != Transport::Udp;
        let (id, flags, edns, room) = (self.id, self.flags, self.edns, self.room);
        Request { id, flags, question: &self.asked, edns, tcp, room }
    }
}

/// What makes two queries one.
#[derive(PartialEq, Eq)]
struct Sameness {
    network: u16,
    key: Key,
    recursion: bool,
    tcp: bool,
}

impl Sameness {
    fn new(client: &Client, request: &Request<'_>, key: Key) -> Self {
        let recursion = request.flags & flag::RD != 0;
        Self { network: client.network, key, recursion, tcp: request.tcp }
    }
}

struct Pending {
    same: Sameness,
    waiters: Vec<Waiter>,
    /// the query as it went out
    sent: Vec<u8>,
    /// those to ask, in order
    resolvers: Vec<u16>,
    /// the one asked last
    position: usize,
    /// sockets it went out of: a late answer to an earlier try is as good
    sockets: [u16; TRIES_MAX],
    sockets_used: usize,
    tries: usize,
    deadline: u64,
}

impl Pending {
    fn used(&self) -> &[u16] {
        self.sockets.get(..self.sockets_used).unwrap_or_default()
    }

    fn sent_question(&self) -> &[u8] {
        self.sent.get(12..12 + self.question().len()).unwrap_or_default()
    }

    fn question(&self) -> &[u8] {
        self.waiters.first().map(|waiter| waiter.asked.as_slice()).unwrap_or_default()
    }

    fn leave_from(&mut self, position: usize, socket: u16, now_ns: u64) {
        if let Some(place) = self.sockets.get_mut(self.sockets_used) {
            *place = socket;
            self.sockets_used += 1;
        }
        self.position = position;
        self.tries += 1;
        self.deadline = now_ns.saturating_add(WAIT_NS);
    }

    /// Forgets what was asked: the sockets are others.
    fn start_over(&mut self, resolvers: Vec<u16>) {
        self.resolvers = resolvers;
        (self.position, self.sockets_used, self.tries, self.deadline) = (0, 0, 0, 0);
    }
}

/// What came of an answer that was expected.
pub(super) struct Answered<'m> {
    pub(super) network: u16,
    pub(super) recursion: bool,
    pub(super) key: Key,
    pub(super) message: &'m [u8],
    pub(super) header: Header,
    pub(super) question: Question<'m>,
}

pub(super) struct Table {
    pending: Vec<Pending>,
    waiting: usize,
    /// per resolver: passed over until then
    held: Vec<u64>,
    epochs: Vec<u32>,
    per_resolver: u16,
    random: Random,
}

impl Table {
    pub(super) fn new(seed: u64) -> Self {
        let (pending, held, epochs) = (Vec::new(), Vec::new(), Vec::new());
        Self { pending, waiting: 0, held, epochs, per_resolver: 0, random: Random::new(seed) }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.pending.len()
    }

    /// Queries that left by sockets which are no more are asked anew, of whom `route` says. True when any socket is
    /// another now.
    pub(super) fn set_sockets(
        &mut self,
        per_resolver: u16,
        epochs: &[u32],
        route: &dyn Fn(u16, &str, u16) -> Vec<u16>,
    ) -> bool {
        let epochs = if per_resolver == 0 { &[] } else { epochs };
        let same = |place: usize| {
            per_resolver == self.per_resolver
                && epochs.get(place).is_some_and(|epoch| self.epochs.get(place) == Some(epoch))
        };
        let kept: Vec<bool> = (0..epochs.len().max(self.epochs.len())).map(same).collect();
        if kept.iter().all(|kept| *kept) {
            return false;
        }
        let keeps = |place: u16| kept.get(usize::from(place)).copied().unwrap_or(false);
        let held = |place: usize| self.held.get(place).copied().filter(|_| keeps(place as u16)).unwrap_or(0);
        self.held = (0..epochs.len()).map(held).collect();
        for pending in &mut self.pending {
            if pending.resolvers.is_empty() || !pending.resolvers.iter().all(|place| keeps(*place)) {
                let question = [&[0; 12], pending.question()].concat();
                let asked = Question::parse(&question).ok();
                let mut buffer = [0; NAME_MAX];
                let resolvers =
                    asked.map(|asked| route(pending.same.network, asked.name.text(&mut buffer), asked.kind));
                pending.start_over(resolvers.unwrap_or_default());
            }
        }
        self.epochs = epochs.to_vec();
        self.per_resolver = per_resolver;
        true
    }

    /// Caps and repetitions, in one walk over what is in flight.
    fn check(&self, client: &Client, request: &Request<'_>) -> Result<(), Refusal> {
        let mut of_client = 0;
        for waiter in self.pending.iter().flat_map(|one| &one.waiters) {
            if waiter.client.network != client.network || waiter.client.ip != client.ip {
                continue;
            }
            let same = waiter.client == *client && waiter.id == request.id;
            if same && waiter.asked.eq_ignore_ascii_case(request.question) {
                return Err(Refusal::Duplicate);
            }
            of_client += 1;
        }
        let full = self.waiting >= IN_FLIGHT_MAX || of_client >= PER_CLIENT_MAX;
        if full { Err(Refusal::Full) } else { Ok(()) }
    }

    /// The socket and the query that leaves; `None` when an equal one has left already.
    pub(super) fn admit(
        &mut self,
        now_ns: u64,
        client: Client,
        request: &Request<'_>,
        key: Key,
        resolvers: &[u16],
    ) -> Result<Option<(u16, &[u8])>, Refusal> {
        self.check(&client, request)?;
        let same = Sameness::new(&client, request, key);
        let waiter = Waiter::new(client, request);
        if let Some(one) = self.pending.iter_mut().find(|one| one.same == same) {
            one.waiters.push(waiter);
            self.waiting += 1;
            return Ok(None);
        }
        let equal = |one: &&Pending| one.question().eq_ignore_ascii_case(request.question);
        if self.pending.iter().filter(equal).count() >= PER_QUESTION_MAX {
            return Err(Refusal::Full);
        }
        let (position, socket) = self.choose(now_ns, resolvers, 0).ok_or(Refusal::NoResolver)?;
        let mut pending = Pending {
            same,
            waiters: alloc::vec![waiter],
            sent: self.compose(request),
            resolvers: resolvers.to_vec(),
            position,
            sockets: [0; TRIES_MAX],
            sockets_used: 0,
            tries: 0,
            deadline: 0,
        };
        pending.leave_from(position, socket, now_ns);
        self.pending.push(pending);
        self.waiting += 1;
        let sent = self.pending.last().map(|pending| pending.sent.as_slice()).unwrap_or_default();
        Ok(Some((socket, sent)))
    }

    /// A new query rather than the client's: nothing of its options (cookies, client subnet) goes along, and the size
    /// is what this host takes.
    fn compose(&mut self, request: &Request<'_>) -> Vec<u8> {
        let mut question = request.question.to_vec();
        if let Some(name) = question.len().checked_sub(4).and_then(|end| question.get_mut(..end)) {
            // length octets are below 64 and therefore no letters
            self.random.mix_case(name);
        }
        let mut sent = alloc::vec![0; SMALL];
        let id = self.random.next() as u16;
        let mut builder = Builder::new(&mut sent, id, request.flags & (flag::RD | flag::CD));
        builder.question(&question);
        if let Some((_, dnssec_ok)) = request.edns {
            builder.opt(0, dnssec_ok);
        }
        let (length, _) = builder.finish();
        sent.truncate(length);
        sent
    }

    /// A random socket of the first resolver, from `first` on, that is not held down; of `first` itself
    /// if all are.
    fn choose(&mut self, now_ns: u64, resolvers: &[u16], first: usize) -> Option<(usize, u16)> {
        let count = resolvers.len();
        let mut fallback = None;
        for position in (0..count).map(|step| (first + step) % count) {
            let resolver = *resolvers.get(position)?;
            let Some(&until) = self.held.get(usize::from(resolver)) else { continue };
            let socket = resolver.checked_mul(self.per_resolver)?;
            let socket = socket.checked_add(self.random.below(self.per_resolver))?;
            if until <= now_ns {
                return Some((position, socket));
            }
            fallback = fallback.or(Some((position, socket)));
        }
        fallback
    }

    fn resolver_of(&self, socket: u16) -> usize {
        usize::from(socket / self.per_resolver.max(1))
    }

    /// Finds the query a message answers, and gives the answer to all who wait for it.
    pub(super) fn response<'m>(
        &mut self,
        now_ns: u64,
        socket: u16,
        payload: &'m [u8],
        reply: &mut [u8],
        out: &mut dyn FnMut(Event<'_>),
    ) -> Option<Option<Answered<'m>>> {
        let header = Header::parse(payload)?;
        if !header.is_response() || header.opcode() != 0 || header.questions != 1 {
            return None;
        }
        let question = Question::parse(payload).ok()?;
        let index = self.pending.iter().position(|one| {
            one.used().contains(&socket)
                && one.sent.get(..2) == Some(&header.id.to_be_bytes())
                && one.sent_question() == question.bytes
        })?;
        let resolver = self.resolver_of(socket);
        if let Some(until) = self.held.get_mut(resolver) {
            *until = now_ns;
        }
        if failed(&header) && self.somebody_else(index, socket, now_ns, out) {
            return Some(None);
        }
        let pending = self.take(index);
        for waiter in &pending.waiters {
            let length = relay(&waiter.request(), &header, question.end(), payload, 0, reply);
            out(Event::Answer { client: waiter.client, bytes: reply.get(..length).unwrap_or_default() });
        }
        let Sameness { network, key, recursion, .. } = pending.same;
        Some(Some(Answered { network, recursion, key, message: payload, header, question }))
    }

    fn take(&mut self, index: usize) -> Pending {
        let pending = self.pending.swap_remove(index);
        self.waiting -= pending.waiters.len();
        pending
    }

    /// A resolver that could not say: whether another one is asked, or was already.
    fn somebody_else(
        &mut self,
        index: usize,
        socket: u16,
        now_ns: u64,
        out: &mut dyn FnMut(Event<'_>),
    ) -> bool {
        let Some(pending) = self.pending.get(index) else { return false };
        if pending.used().last() != Some(&socket) {
            return true;
        }
        let next = pending.position + 1;
        if next >= pending.resolvers.len() || pending.tries >= TRIES_MAX {
            return false;
        }
        let resolvers = pending.resolvers.clone();
        let retry = self.choose(now_ns, &resolvers, next).filter(|(position, _)| *position >= next);
        retry.is_some() && self.advance(index, now_ns, retry, out)
    }

    /// The socket for another try, and the blame for the resolver that let the last one down.
    fn again(&mut self, index: usize, now_ns: u64) -> Option<(usize, u16)> {
        let pending = self.pending.get(index)?;
        let (tries, last, resolvers) =
            (pending.tries, pending.used().last().copied(), pending.resolvers.clone());
        let first = if last.is_some() { pending.position + 1 } else { 0 };
        // one that does not take TCP may answer datagrams well
        if let Some(socket) = last.filter(|_| !pending.same.tcp) {
            let resolver = self.resolver_of(socket);
            if let Some(until) = self.held.get_mut(resolver) {
                *until = now_ns.saturating_add(HOLD_DOWN_NS);
            }
        }
        let most = TRIES_MAX.min(TRIES_PER_RESOLVER * resolvers.len());
        if tries >= most { None } else { self.choose(now_ns, &resolvers, first) }
    }

    /// Sends the query again, or ends it. Says whether it is still there.
    fn advance(
        &mut self,
        index: usize,
        now_ns: u64,
        retry: Option<(usize, u16)>,
        out: &mut dyn FnMut(Event<'_>),
    ) -> bool {
        if let (Some((position, socket)), Some(pending)) = (retry, self.pending.get_mut(index)) {
            pending.leave_from(position, socket, now_ns);
            out(Event::Ask { socket, tcp: pending.same.tcp, bytes: &pending.sent });
            return true;
        }
        if index < self.pending.len() {
            for waiter in &self.take(index).waiters {
                let mut buffer = [0; SMALL];
                let length = waiter.request().answer(&mut buffer, flag::RA, rcode::SERVFAIL, |_| ());
                let bytes = buffer.get(..length).unwrap_or_default();
                out(Event::Answer { client: waiter.client, bytes });
            }
        }
        false
    }

    pub(super) fn expire(&mut self, now_ns: u64, out: &mut dyn FnMut(Event<'_>)) {
        let mut index = 0;
        while let Some(pending) = self.pending.get(index) {
            if pending.deadline > now_ns {
                index += 1;
                continue;
            }
            let retry = self.again(index, now_ns);
            index += usize::from(self.advance(index, now_ns, retry, out));
        }
    }

    pub(super) fn upstream_failed(
        &mut self,
        now_ns: u64,
        socket: u16,
        tcp: bool,
        out: &mut dyn FnMut(Event<'_>),
    ) {
        let failed = self.resolver_of(socket);
        let mut index = 0;
        while let Some(pending) = self.pending.get(index) {
            if pending.used().last() != Some(&socket) || pending.same.tcp != tcp {
                index += 1;
                continue;
            }
            let retry = self.again(index, now_ns);
            // asking the same resolver at once would only fail again
            let retry = retry.filter(|&(_, other)| self.resolver_of(other) != failed);
            index += usize::from(self.advance(index, now_ns, retry, out));
        }
    }

    pub(super) fn next_timeout(&self) -> Option<u64> {
        self.pending.iter().map(|pending| pending.deadline).min()
    }
}

/// What glibc's resolver goes on to the next server for.
fn failed(header: &Header) -> bool {
    matches!(header.rcode(), rcode::SERVFAIL | rcode::NOTIMP | rcode::REFUSED)
}
