//! The resolver guests see at the gateway: answers for the network's own names, forwards the rest.
//!
//! Pure: the time and the random seed are arguments, sockets are indices. Which socket a query leaves
//! from is its source port, so the datapath keeps several connected ones per resolver (RFC 5452 9.2).

mod forward;
pub mod tcp;
#[cfg(test)]
mod tests;
mod zone;

use alloc::string::String;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use pontoon_wire::dns::{
    Builder, EDNS_SIZE, Edns, Header, NAME_MAX, Question, UDP_SIZE, class, edns, flag, kind, rcode,
};

use forward::{Refusal, Table};
use zone::Outcome;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub enabled: bool,
    /// never ask upstream: REFUSED for names that are not local
    pub isolated: bool,
    pub domain: Option<String>,
    /// The network's domain never leaves it either way; kept because the network definition has it.
    pub local_only: bool,
    pub forward_plain_names: bool,
    pub gateway: Ipv4Addr,
    pub prefix: u8,
    pub hosts: Vec<(Ipv4Addr, Vec<String>)>,
    pub txt: Vec<(String, String)>,
    pub lease_seconds_ttl: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: false,
            isolated: false,
            domain: None,
            local_only: false,
            forward_plain_names: false,
            gateway: Ipv4Addr::UNSPECIFIED,
            prefix: 0,
            hosts: Vec::new(),
            txt: Vec::new(),
            lease_seconds_ttl: 0,
        }
    }
}

/// Names from DHCP, looked up live so that they end with the lease. Asked in lower case, without a domain.
pub trait Names {
    fn by_name(&self, name: &str) -> Option<Ipv4Addr>;
    fn by_ip(&self, ip: Ipv4Addr) -> Option<&str>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    /// connection id of [`tcp::TcpServer`]
    Tcp(u32),
}

/// Who asked, so that the answer finds its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    pub network: u16,
    pub mac: [u8; 6],
    pub ip: Ipv4Addr,
    pub port: u16,
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
    Drop(Drop),
}

/// What [`Forwarder::expire`] and [`Forwarder::upstream_failed`] want sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expired<'a> {
    Retry { socket: u16, tcp: bool, bytes: &'a [u8] },
    ServFail { client: Client, bytes: &'a [u8] },
}

/// What an answer needs of the query.
#[derive(Clone, Copy, Debug)]
struct Request<'a> {
    id: u16,
    flags: u16,
    /// question as asked; empty when there was none to read
    question: &'a [u8],
    /// requestor's size and DO
    edns: Option<(u16, bool)>,
    tcp: bool,
}

impl Request<'_> {
    fn limit(&self) -> usize {
        match (self.tcp, self.edns) {
            (true, _) => usize::from(u16::MAX),
            (false, Some((size, _))) => usize::from(size.min(EDNS_SIZE)).max(UDP_SIZE),
            (false, None) => UDP_SIZE,
        }
    }

    /// Writes an answer; one that does not fit becomes header and question with TC (RFC 2181 9).
    fn answer(&self, reply: &mut [u8], flags: u16, code: u16, fill: impl FnOnce(&mut Builder<'_>)) -> usize {
        let limit = self.limit().min(reply.len());
        let room = reply.get_mut(..limit).unwrap_or_default();
        let echoed = self.flags & (flag::OPCODE | flag::RD | flag::CD);
        let flags = flag::QR | echoed | flags | code & flag::RCODE;
        let (length, whole) = self.write(room, flags, code, fill);
        if whole {
            return length;
        }
        self.write(room, flags | flag::TC, code, |_| ()).0
    }

    fn write(
        &self,
        room: &mut [u8],
        flags: u16,
        code: u16,
        fill: impl FnOnce(&mut Builder<'_>),
    ) -> (usize, bool) {
        let mut builder = Builder::new(room, self.id, flags);
        if !self.question.is_empty() {
            builder.question(self.question);
        }
        fill(&mut builder);
        if let Some((_, dnssec_ok)) = self.edns {
            builder.opt(code, dnssec_ok);
        }
        builder.finish()
    }
}

/// One per engine, shared by all networks.
pub struct Forwarder {
    table: Table,
}

impl Forwarder {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { table: Table::new(seed) }
    }

    /// Socket indices are `resolver * per_resolver + n`. Queries in flight are asked anew on the next
    /// [`Self::expire`].
    pub fn set_sockets(&mut self, resolvers: u16, per_resolver: u16) {
        self.table.set_sockets(resolvers, per_resolver);
    }

    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.table.len()
    }

    pub fn query(
        &mut self,
        now_ns: u64,
        config: &Config,
        names: &dyn Names,
        client: Client,
        payload: &[u8],
        reply: &mut [u8],
    ) -> Verdict {
        if !config.enabled {
            return Verdict::Drop(Drop::Disabled);
        }
        let Some(header) = Header::parse(payload) else {
            return Verdict::Drop(Drop::Short);
        };
        if header.is_response() {
            return Verdict::Drop(Drop::Response);
        }
        let available = if config.isolated { 0 } else { flag::RA };
        let tcp = client.transport != Transport::Udp;
        let bare = Request { id: header.id, flags: header.flags, question: &[], edns: None, tcp };
        let (question, found) = match accept(payload, &header) {
            Ok(parts) => parts,
            Err(code) => return answered(bare.answer(reply, available, code, |_| ())),
        };
        let edns = found.map(|edns| (edns.size, edns.dnssec_ok));
        let request = Request { question: question.bytes, edns, ..bare };
        if found.is_some_and(|edns| edns.version != 0) {
            return answered(request.answer(reply, available, rcode::BADVERS, |_| ()));
        }
        match local(config, names, &question) {
            Outcome::Upstream => self.forward(now_ns, client, &request, reply),
            outcome => answered(answer_local(config, &request, &outcome, reply)),
        }
    }

    fn forward(&mut self, now_ns: u64, client: Client, request: &Request<'_>, reply: &mut [u8]) -> Verdict {
        match self.table.admit(now_ns, client, request) {
            Ok((socket, query)) => match reply.get_mut(..query.len()) {
                Some(place) => {
                    place.copy_from_slice(query);
                    Verdict::Forward { socket, len: query.len(), tcp: request.tcp }
                }
                None => Verdict::Drop(Drop::NoRoom),
            },
            Err(Refusal::Duplicate) => Verdict::Drop(Drop::Duplicate),
            // an answer now lets the guest try elsewhere; silence would cost it a timeout
            Err(Refusal::Full | Refusal::NoResolver) => {
                answered(request.answer(reply, flag::RA, rcode::SERVFAIL, |_| ()))
            }
        }
    }

    /// A datagram (or a TCP message) came back on `socket`. On a match the client's answer is in `reply`.
    pub fn response(
        &mut self,
        now_ns: u64,
        socket: u16,
        payload: &[u8],
        reply: &mut [u8],
    ) -> Option<(Client, usize)> {
        self.table.response(now_ns, socket, payload, reply)
    }

    /// Calls `out` for each query whose wait is over: asked again elsewhere, or SERVFAIL.
    pub fn expire(&mut self, now_ns: u64, out: &mut dyn FnMut(Expired<'_>)) {
        self.table.expire(now_ns, out);
    }

    #[must_use]
    pub fn next_timeout(&self) -> Option<u64> {
        self.table.next_timeout()
    }

    /// The socket reported an error (ICMP unreachable): its queries go to the next resolver at once.
    pub fn upstream_failed(&mut self, now_ns: u64, socket: u16, out: &mut dyn FnMut(Expired<'_>)) {
        self.table.upstream_failed(now_ns, socket, out);
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

fn local<'a>(config: &'a Config, names: &dyn Names, question: &Question<'_>) -> Outcome<'a> {
    // CHAOS would tell versions; transfers and transaction types are not for a forwarder
    let meta = (kind::META_FIRST..kind::ANY).contains(&question.kind);
    if question.class != class::IN || meta || question.kind == kind::OPT {
        return Outcome::Refused;
    }
    let mut buffer = [0; NAME_MAX];
    let outcome = zone::resolve(config, names, question.name.text(&mut buffer), question.kind);
    match outcome {
        // RFC 8482: ANY is an amplifier, here and upstream
        Outcome::NoData | Outcome::Upstream if question.kind == kind::ANY => Outcome::Any,
        outcome => outcome,
    }
}

fn answer_local(config: &Config, request: &Request<'_>, outcome: &Outcome<'_>, reply: &mut [u8]) -> usize {
    let available = if config.isolated { 0 } else { flag::RA };
    let code = match outcome {
        Outcome::NxDomain => rcode::NXDOMAIN,
        Outcome::Refused => rcode::REFUSED,
        _ => rcode::NOERROR,
    };
    let authority = match outcome {
        Outcome::Refused | Outcome::Any => 0,
        _ => flag::AA,
    };
    let ttl = config.lease_seconds_ttl;
    request.answer(reply, available | authority, code, |out| match outcome {
        Outcome::Address(address) => out.a(ttl, *address),
        Outcome::Pointer(name) => out.ptr(ttl, name),
        Outcome::Text(text) => out.txt(ttl, text),
        Outcome::Any => out.hinfo(3600),
        _ => {}
    })
}
