//! Queries in flight to the host's resolvers.

use alloc::vec::Vec;

use pontoon_wire::dns::{Builder, EDNS_SIZE, Header, Question, UDP_SIZE, edns, flag, rcode};
use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};

use super::{Client, Expired, Request, Transport};

const IN_FLIGHT_MAX: usize = 1024;
const PER_CLIENT_MAX: usize = 150;
/// Equal questions in flight multiply a forger's chances (RFC 5452 5).
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

/// Unpredictable to whoever does not know the seed: a keyed hash over a counter and its own output.
struct Random {
    secrets: RapidSecrets,
    state: u64,
    counter: u64,
}

impl Random {
    fn next(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(1);
        let mut block = [0; 16];
        let (left, right) = block.split_at_mut(8);
        left.copy_from_slice(&self.counter.to_le_bytes());
        right.copy_from_slice(&self.state.to_le_bytes());
        let drawn = rapidhash_v3_seeded(&block, &self.secrets);
        self.state = self.state.rotate_left(23) ^ drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        drawn
    }

    fn below(&mut self, bound: u16) -> u16 {
        (self.next() % u64::from(bound.max(1))) as u16
    }

    /// One random bit for the case of each letter (draft-vixie-dnsext-dns0x20).
    fn mix_case(&mut self, name: &mut [u8]) {
        for part in name.chunks_mut(64) {
            let mut bits = self.next();
            for byte in part.iter_mut().filter(|byte| byte.is_ascii_alphabetic()) {
                *byte = if bits & 1 == 0 { byte.to_ascii_lowercase() } else { byte.to_ascii_uppercase() };
                bits >>= 1;
            }
        }
    }
}

struct Pending {
    client: Client,
    id: u16,
    flags: u16,
    edns: Option<(u16, bool)>,
    /// the question in the client's case
    asked: Vec<u8>,
    /// the query as it went out
    sent: Vec<u8>,
    /// sockets it went out of: a late answer to an earlier try is as good
    sockets: [u16; TRIES_MAX],
    sockets_used: usize,
    tries: usize,
    deadline: u64,
}

impl Pending {
    fn request(&self) -> Request<'_> {
        Request { id: self.id, flags: self.flags, question: &self.asked, edns: self.edns, tcp: self.tcp() }
    }

    fn tcp(&self) -> bool {
        self.client.transport != Transport::Udp
    }

    fn used(&self) -> &[u16] {
        self.sockets.get(..self.sockets_used).unwrap_or_default()
    }

    fn sent_question(&self) -> &[u8] {
        self.sent.get(12..12 + self.asked.len()).unwrap_or_default()
    }

    fn leave_from(&mut self, socket: u16, now_ns: u64) {
        if let Some(place) = self.sockets.get_mut(self.sockets_used) {
            *place = socket;
            self.sockets_used += 1;
        }
        self.tries += 1;
        self.deadline = now_ns.saturating_add(WAIT_NS);
    }
}

pub(super) struct Table {
    pending: Vec<Pending>,
    /// per resolver: passed over until then
    held: Vec<u64>,
    per_resolver: u16,
    random: Random,
}

impl Table {
    pub(super) fn new(seed: u64) -> Self {
        let random = Random { secrets: RapidSecrets::seed(seed), state: seed, counter: 0 };
        Self { pending: Vec::new(), held: Vec::new(), per_resolver: 0, random }
    }

    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn set_sockets(&mut self, resolvers: u16, per_resolver: u16) {
        let resolvers = if per_resolver == 0 { 0 } else { resolvers };
        self.held = alloc::vec![0; usize::from(resolvers)];
        self.per_resolver = per_resolver;
        for pending in &mut self.pending {
            // the indices mean other sockets now
            pending.sockets_used = 0;
            pending.deadline = 0;
        }
    }

    /// Caps and repetitions, in one walk over what is in flight.
    fn check(&self, client: &Client, request: &Request<'_>) -> Result<(), Refusal> {
        let (mut of_client, mut of_question) = (0, 0);
        for one in &self.pending {
            let same = one.asked.eq_ignore_ascii_case(request.question);
            if same && one.client == *client && one.id == request.id {
                return Err(Refusal::Duplicate);
            }
            of_question += usize::from(same);
            of_client += usize::from(one.client.network == client.network && one.client.ip == client.ip);
        }
        let full = self.pending.len() >= IN_FLIGHT_MAX;
        if full || of_client >= PER_CLIENT_MAX || of_question >= PER_QUESTION_MAX {
            return Err(Refusal::Full);
        }
        Ok(())
    }

    pub(super) fn admit(
        &mut self,
        now_ns: u64,
        client: Client,
        request: &Request<'_>,
    ) -> Result<(u16, &[u8]), Refusal> {
        self.check(&client, request)?;
        let socket = self.choose(now_ns, 0).ok_or(Refusal::NoResolver)?;
        let mut pending = Pending {
            client,
            id: request.id,
            flags: request.flags,
            edns: request.edns,
            asked: request.question.to_vec(),
            sent: self.compose(request),
            sockets: [0; TRIES_MAX],
            sockets_used: 0,
            tries: 0,
            deadline: 0,
        };
        pending.leave_from(socket, now_ns);
        self.pending.push(pending);
        let sent = self.pending.last().map(|pending| pending.sent.as_slice()).unwrap_or_default();
        Ok((socket, sent))
    }

    /// A new query rather than the client's: nothing of its options (cookies, client subnet) goes along.
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
        if let Some((size, dnssec_ok)) = request.edns {
            builder.opt_sized(size.clamp(UDP_SIZE as u16, EDNS_SIZE), 0, dnssec_ok);
        }
        let (length, _) = builder.finish();
        sent.truncate(length);
        sent
    }

    /// A random socket of the first resolver, from `first` on, that is not held down; of `first` itself
    /// if all are.
    fn choose(&mut self, now_ns: u64, first: usize) -> Option<u16> {
        let count = self.held.len();
        let order = (0..count).map(|step| (first + step) % count);
        let resolver = order
            .clone()
            .find(|&one| self.held.get(one).is_some_and(|&until| until <= now_ns))
            .or_else(|| order.clone().next())?;
        let within = self.random.below(self.per_resolver);
        u16::try_from(resolver).ok()?.checked_mul(self.per_resolver)?.checked_add(within)
    }

    fn resolver_of(&self, socket: u16) -> usize {
        usize::from(socket / self.per_resolver.max(1))
    }

    pub(super) fn response(
        &mut self,
        now_ns: u64,
        socket: u16,
        payload: &[u8],
        reply: &mut [u8],
    ) -> Option<(Client, usize)> {
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
        let pending = self.pending.swap_remove(index);
        let length = relay(&pending, &header, question.end(), payload, reply);
        Some((pending.client, length))
    }

    /// The socket for another try, and the blame for the resolver that let the last one down.
    fn again(&mut self, index: usize, now_ns: u64) -> Option<u16> {
        let (tries, last) = self.pending.get(index).map(|one| (one.tries, one.used().last().copied()))?;
        let mut first = 0;
        if let Some(socket) = last {
            let resolver = self.resolver_of(socket);
            if let Some(until) = self.held.get_mut(resolver) {
                *until = now_ns.saturating_add(HOLD_DOWN_NS);
            }
            first = resolver + 1;
        }
        let most = TRIES_MAX.min(TRIES_PER_RESOLVER * self.held.len());
        if tries >= most { None } else { self.choose(now_ns, first) }
    }

    /// Sends the query again, or ends it. Says whether it is still there.
    fn advance(
        &mut self,
        index: usize,
        now_ns: u64,
        retry: Option<u16>,
        out: &mut dyn FnMut(Expired<'_>),
    ) -> bool {
        if let (Some(socket), Some(pending)) = (retry, self.pending.get_mut(index)) {
            pending.leave_from(socket, now_ns);
            out(Expired::Retry { socket, tcp: pending.tcp(), bytes: &pending.sent });
            return true;
        }
        if index < self.pending.len() {
            let pending = self.pending.swap_remove(index);
            let mut buffer = [0; SMALL];
            let length = pending.request().answer(&mut buffer, flag::RA, rcode::SERVFAIL, |_| ());
            let bytes = buffer.get(..length).unwrap_or_default();
            out(Expired::ServFail { client: pending.client, bytes });
        }
        false
    }

    pub(super) fn expire(&mut self, now_ns: u64, out: &mut dyn FnMut(Expired<'_>)) {
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

    pub(super) fn upstream_failed(&mut self, now_ns: u64, socket: u16, out: &mut dyn FnMut(Expired<'_>)) {
        let failed = self.resolver_of(socket);
        let mut index = 0;
        while let Some(pending) = self.pending.get(index) {
            if pending.used().last() != Some(&socket) {
                index += 1;
                continue;
            }
            let retry = self.again(index, now_ns);
            // asking the same resolver at once would only fail again
            let retry = retry.filter(|&other| self.resolver_of(other) != failed);
            index += usize::from(self.advance(index, now_ns, retry, out));
        }
    }

    pub(super) fn next_timeout(&self) -> Option<u64> {
        self.pending.iter().map(|pending| pending.deadline).min()
    }
}

/// Turns the resolver's message into the client's: its id, its case, its limits. Everything else stays
/// byte for byte, for guests that validate.
fn relay(pending: &Pending, header: &Header, end: usize, payload: &[u8], reply: &mut [u8]) -> usize {
    let request = pending.request();
    let Ok(found) = edns(payload, header, end) else {
        return request.answer(reply, flag::RA, rcode::SERVFAIL, |_| ());
    };
    // AD would vouch for a validation the guest cannot know happened on a trusted path
    let kept = header.flags & (flag::QR | flag::AA | flag::TC) | flag::RA;
    let code = header.rcode();
    let mut length = payload.len();
    let mut additionals = header.additionals;
    // RFC 6891 7: no OPT to one that sent none
    if let (Some(opt), None) = (found, pending.edns)
        && opt.end == length
    {
        length = opt.start;
        additionals = additionals.saturating_sub(1);
    }
    if length > request.limit().min(reply.len()) {
        return request.answer(reply, kept & !flag::QR | flag::TC, code, |_| ());
    }
    let echoed = pending.flags & (flag::RD | flag::CD);
    let flags = (kept | echoed | code).to_be_bytes();
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = reply.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    put(0, payload.get(..length).unwrap_or_default());
    put(0, &pending.id.to_be_bytes());
    put(2, &flags);
    put(10, &additionals.to_be_bytes());
    put(12, &pending.asked);
    if let Some(opt) = found.filter(|opt| opt.size > EDNS_SIZE && opt.end <= length) {
        put(opt.size_at, &EDNS_SIZE.to_be_bytes());
    }
    length
}
