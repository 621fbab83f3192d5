//! A query as far as its answer needs it, and how that is written.

use pontoon_wire::dns::{Builder, EDNS_SIZE, Owner, UDP_SIZE, flag, rcode};

use super::zone::{Data, Outcome, Zone};
use super::{Config, Names};

/// Seconds for the answer to ANY, which is the same for ever.
const ANY_TTL: u32 = 3600;

/// What an answer needs of the query.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    pub(super) id: u16,
    pub(super) flags: u16,
    /// question as asked; empty when there was none to read
    pub(super) question: &'a [u8],
    /// requestor's size and DO
    pub(super) edns: Option<(u16, bool)>,
    pub(super) tcp: bool,
    /// what a datagram on this network holds
    pub(super) room: u16,
}

impl Request<'_> {
    pub(super) fn limit(&self) -> usize {
        let size = match (self.tcp, self.edns) {
            (true, _) => return usize::from(u16::MAX),
            (false, Some((size, _))) => usize::from(size.min(EDNS_SIZE)).max(UDP_SIZE),
            (false, None) => UDP_SIZE,
        };
        size.min(usize::from(self.room))
    }

    /// Writes an answer; one that does not fit becomes header and question with TC (RFC 2181 9).
    pub(super) fn answer(
        &self,
        reply: &mut [u8],
        flags: u16,
        code: u16,
        fill: impl FnOnce(&mut Builder<'_>),
    ) -> usize {
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

    /// Writes what the network knows by itself.
    pub(super) fn answer_local(
        &self,
        zone: &Zone,
        names: &dyn Names,
        outcome: &Outcome<'_>,
        reply: &mut [u8],
    ) -> usize {
        let available = available(zone.config());
        let (authority, code) = match outcome {
            Outcome::Answer(_) => (flag::AA, rcode::NOERROR),
            Outcome::NxDomain => (flag::AA, rcode::NXDOMAIN),
            Outcome::Any => (0, rcode::NOERROR),
            Outcome::Refused => (0, rcode::REFUSED),
            Outcome::Upstream(_) => (0, rcode::SERVFAIL),
        };
        let ttl = zone.config().ttl;
        self.answer(reply, available | authority, code, |out| match outcome {
            Outcome::Answer(answer) => {
                for (owner, data) in &answer.records {
                    record(out, owner.map_or(Owner::Asked, Owner::Name), ttl, data);
                }
                targets(zone, names, answer.records.iter().map(|(_, data)| data), out);
            }
            Outcome::Any => out.hinfo(ANY_TTL),
            _ => {}
        })
    }
}

/// Recursion is available where anybody can be asked.
pub(super) fn available(config: &Config) -> u16 {
    let asks = config.upstreams.iter().any(|upstream| !upstream.resolvers.is_empty());
    if config.isolated && !asks { 0 } else { flag::RA }
}

fn record(out: &mut Builder<'_>, owner: Owner<'_>, ttl: u32, data: &Data<'_>) {
    match data {
        Data::Address(address) => out.address(owner, ttl, *address),
        Data::Alias(target) => out.cname(owner, ttl, target),
        Data::Pointer(name) => out.ptr(ttl, name),
        Data::Text(text) => out.txt(owner, ttl, text),
        Data::Service(srv) => {
            let numbers = [srv.priority, srv.weight, srv.port];
            out.srv(owner, ttl, numbers, srv.target.as_deref().unwrap_or_default());
        }
    }
}

/// Addresses of the services' targets, as far as they are known here.
fn targets<'a>(
    zone: &Zone,
    names: &dyn Names,
    records: impl Iterator<Item = &'a Data<'a>>,
    out: &mut Builder<'_>,
) {
    out.additional();
    let targets = records.filter_map(|data| match data {
        Data::Service(srv) => srv.target.as_deref(),
        _ => None,
    });
    for target in targets {
        let ttl = zone.config().ttl;
        zone.addresses(names, target, &mut |ip| out.address(Owner::Name(target), ttl, ip));
    }
}
