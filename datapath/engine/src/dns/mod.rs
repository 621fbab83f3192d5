//! The resolver guests see at the gateway: answers for the network's own names, forwards the rest.
//!
//! Pure: the time and the random seed are arguments, sockets are indices. Which socket a query leaves
//! from is its source port, so the datapath keeps several connected ones per resolver (RFC 5452 9.2).

mod cache;
mod config;
mod forward;
mod random;
mod relay;
mod request;
mod reverse;
pub mod tcp;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_forward;
#[cfg(test)]
mod tests_zone;
mod zone;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use pontoon_wire::dns::{Edns, Header, NAME_MAX, Question, class, edns, flag, kind, rcode};

use cache::{Cache, Key};
use forward::{Refusal, Table};
use relay::relay;
use request::{Request, available};
use zone::Outcome;

pub use cache::CACHE_MAX;
pub use config::{Config, Reverse, Srv, Upstream};
pub use zone::Zone;

/// IPv4 and UDP headers.
const HEADERS: u16 = 28;

/// Names from DHCP, looked up live so that they end with the lease. Asked in lower case, without a domain.
pub trait Names {
    fn by_name(&self, name: &str) -> Option<Ipv4Addr>;
    fn by_ip(&self, ip: Ipv4Addr) -> Option<&str>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    /// connection id of the [`tcp::TcpServer`] at that address
    Tcp(u32),
}

/// Who asked, so that the answer finds its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    pub network: u16,
    pub mac: [u8; 6],
    pub ip: Ipv4Addr,
    pub port: u16,
    /// the gateway's address that was asked, and answers
    pub server: Ipv4Addr,
    pub transport: Transport,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drop {
    /// the network runs no resolver
    Disabled,
    /// no whole header: there is no id to answer with
    Short,
    /// QR=1: answering an answer makes two responders talk forever
    Response,
    /// a repetition of a query still in flight, whose answer serves both
    Duplicate,
    /// `reply` cannot hold the message
    NoRoom,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// answer ready, this many bytes of `reply`
    Answer(usize),
    /// ask upstream: the first `len` bytes of `reply`, from socket `socket`, over TCP to that socket's
    /// resolver if `tcp`
    Forward {
        socket: u16,
        len: usize,
        tcp: bool,
    },
    /// an equal query is in flight, and its answer will serve this client too
    Waiting,
    Drop(Drop),
}

/// What a resolver's answer, or the lack of one, makes the forwarder want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    Ask { socket: u16, tcp: bool, bytes: &'a [u8] },
    Answer { client: Client, bytes: &'a [u8] },
}

/// One per engine, shared by all networks.
pub struct Forwarder {
    table: Table,
    /// One a network that keeps answers.
    caches: BTreeMap<u16, Cache>,
}

impl Forwarder {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { table: Table::new(seed), caches: BTreeMap::new() }
    }

    /// Socket indices are `resolver * per_resolver + n`; there are as many resolvers as epochs, and one whose epoch
    /// is another has other sockets. What left by sockets that are gone is asked anew on the next [`Self::expire`],
    /// of those `route` says for network, name and type.
    pub fn set_sockets(
        &mut self,
        per_resolver: u16,
        epochs: &[u32],
        route: &dyn Fn(u16, &str, u16) -> Vec<u16>,
    ) {
        if self.table.set_sockets(per_resolver, epochs, route) {
            // what was reached by other ways may be answered otherwise
            self.caches.values_mut().for_each(Cache::clear);
        }
    }

    /// A network's answers are kept from now on, from none on, or not any more.
    pub fn set_cache(&mut self, network: u16, size: u32) {
        match size {
            0 => drop(self.caches.remove(&network)),
            _ => drop(self.caches.insert(network, Cache::new(size))),
        }
    }

    /// Queries that were sent and not answered.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.table.in_flight()
    }

    pub fn query(
        &mut self,
        now_ns: u64,
        zone: &Zone,
        names: &dyn Names,
        client: Client,
        payload: &[u8],
        reply: &mut [u8],
    ) -> Verdict {
        let config = zone.config();
        if !config.enabled {
            return Verdict::Drop(Drop::Disabled);
        }
        let Some(header) = Header::parse(payload) else {
            return Verdict::Drop(Drop::Short);
        };
        if header.is_response() {
            return Verdict::Drop(Drop::Response);
        }
        let tcp = client.transport != Transport::Udp;
        let room = if config.mtu == 0 { u16::MAX } else { config.mtu.saturating_sub(HEADERS) };
        let bare = Request { id: header.id, flags: header.flags, question: &[], edns: None, tcp, room };
        let (question, found) = match accept(payload, &header) {
            Ok(parts) => parts,
            Err(code) => return answered(bare.answer(reply, available(config), code, |_| ())),
        };
        let edns = found.map(|edns| (edns.size, edns.dnssec_ok));
        let request = Request { question: question.bytes, edns, ..bare };
        if found.is_some_and(|edns| edns.version != 0) {
            return answered(request.answer(reply, available(config), rcode::BADVERS, |_| ()));
        }
        let mut buffer = [0; NAME_MAX];
        match local(zone, names, &question, question.name.text(&mut buffer)) {
            Outcome::Upstream(resolvers) => self.forward(now_ns, client, &request, resolvers, reply),
            outcome => answered(request.answer_local(zone, names, &outcome, reply)),
        }
    }

    fn forward(
        &mut self,
        now_ns: u64,
        client: Client,
        request: &Request<'_>,
        resolvers: &[u16],
        reply: &mut [u8],
    ) -> Verdict {
        let dnssec_ok = request.edns.map(|(_, dnssec_ok)| dnssec_ok);
        let key = Key::new(request.question, dnssec_ok, request.flags);
        if let Some(length) = self.cached(now_ns, client.network, request, &key, reply) {
            return answered(length);
        }
        match self.table.admit(now_ns, client, request, key, resolvers) {
            Ok(Some((socket, query))) => match reply.get_mut(..query.len()) {
                Some(place) => {
                    place.copy_from_slice(query);
                    Verdict::Forward { socket, len: query.len(), tcp: request.tcp }
                }
                None => Verdict::Drop(Drop::NoRoom),
            },
            Ok(None) => Verdict::Waiting,
            Err(Refusal::Duplicate) => Verdict::Drop(Drop::Duplicate),
            // an answer now lets the guest try elsewhere; silence would cost it a timeout
            Err(Refusal::Full | Refusal::NoResolver) => {
                answered(request.answer(reply, flag::RA, rcode::SERVFAIL, |_| ()))
            }
        }
    }

    fn cached(
        &mut self,
        now_ns: u64,
        network: u16,
        request: &Request<'_>,
        key: &Key,
        reply: &mut [u8],
    ) -> Option<usize> {
        let (message, seconds) = self.caches.get_mut(&network)?.find(key, now_ns)?;
        let header = Header::parse(message)?;
        let end = Question::parse(message).ok()?.end();
        // the authority is the resolver's, and its word is second-hand now
        let header = Header { flags: header.flags & !flag::AA, ..header };
        Some(relay(request, &header, end, message, seconds, reply))
    }

    /// A datagram (or a TCP message) came back on `socket`. On a match `out` gets the answers of those who wait, made
    /// in `reply`, or another query. False when nobody waits for it.
    pub fn response(
        &mut self,
        now_ns: u64,
        socket: u16,
        payload: &[u8],
        reply: &mut [u8],
        out: &mut dyn FnMut(Event<'_>),
    ) -> bool {
        let Some(found) = self.table.response(now_ns, socket, payload, reply, out) else { return false };
        // what a resolver knows by itself is not all it could find out
        if let Some(answer) = found.filter(|answer| answer.recursion)
            && let Some(cache) = self.caches.get_mut(&answer.network)
        {
            cache.keep(answer.key, now_ns, answer.message, &answer.header, &answer.question);
        }
        true
    }

    /// Calls `out` for each query whose wait is over: asked again elsewhere, or SERVFAIL.
    pub fn expire(&mut self, now_ns: u64, out: &mut dyn FnMut(Event<'_>)) {
        self.table.expire(now_ns, out);
    }

    #[must_use]
    pub fn next_timeout(&self) -> Option<u64> {
        self.table.next_timeout()
    }

    /// The socket reported an error (ICMP unreachable): its queries go to the next resolver at once.
    /// `tcp`: the connection to that socket's resolver did, and only what went by TCP does.
    pub fn upstream_failed(&mut self, now_ns: u64, socket: u16, tcp: bool, out: &mut dyn FnMut(Event<'_>)) {
        self.table.upstream_failed(now_ns, socket, tcp, out);
    }
}

fn answered(length: usize) -> Verdict {
    if length < pontoon_wire::dns::HEADER_LEN {
        return Verdict::Drop(Drop::NoRoom);
    }
    Verdict::Answer(length)
}

/// The question and EDNS of a query this server can read, or the code that says why not.
fn accept<'a>(payload: &'a [u8], header: &Header) -> Result<(Question<'a>, Option<Edns>), u16> {
    if header.opcode() != 0 {
        return Err(rcode::NOTIMP);
    }
    // RFC 9619: a query has exactly one question
    if header.questions != 1 {
        return Err(rcode::FORMERR);
    }
    let question = Question::parse(payload).map_err(|_| rcode::FORMERR)?;
    let found = edns(payload, header, question.end()).map_err(|_| rcode::FORMERR)?;
    Ok((question, found))
}

fn local<'a>(zone: &'a Zone, names: &'a dyn Names, question: &Question<'_>, name: &str) -> Outcome<'a> {
    // CHAOS would tell versions; transfers and transaction types are not for a forwarder
    let meta = (kind::META_FIRST..kind::ANY).contains(&question.kind);
    if question.class != class::IN || meta || question.kind == kind::OPT {
        return Outcome::Refused;
    }
    match zone.resolve(names, name, question.kind) {
        // RFC 8482: ANY is an amplifier, here and upstream
        Outcome::Answer(_) | Outcome::Upstream(_) if question.kind == kind::ANY => Outcome::Any,
        outcome => outcome,
    }
}
