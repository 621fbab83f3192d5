//! Guests that ask for names, and what they are told.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use pontoon_engine::dns::{Client, Forwarder, Names, Transport, Verdict, Zone};
use pontoon_engine::snapshot::Network;
use pontoon_netxml::Network as Definition;
use pontoon_wire::dns::{Header, Record, kind, rcode};

use crate::HOST;
use crate::conf::{Promises, Srv};

const SOCKETS: u16 = 4;

pub(crate) struct Resolver {
    zone: Zone,
    enabled: bool,
    /// Who is at which place of the list of resolvers.
    places: Vec<SocketAddr>,
}

/// No guest has a lease.
struct Nobody;

impl Names for Nobody {
    fn by_name(&self, _: &str) -> Option<Ipv4Addr> {
        None
    }
    fn by_ip(&self, _: Ipv4Addr) -> Option<&str> {
        None
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    /// Type and data of every answer.
    Answer(Vec<(u16, Vec<u8>)>),
    Failed(u16),
    /// Who is asked first.
    Asked(SocketAddr),
}

impl Resolver {
    pub(crate) fn new(network: &Network, places: Vec<SocketAddr>) -> Self {
        Self { zone: Zone::new(network.dns.clone()), enabled: network.dns.enabled, places }
    }

    fn ask(&self, name: &str, asked: u16) -> Said {
        let mut forwarder = Forwarder::new(1);
        let epochs = vec![1; self.places.len()];
        forwarder.set_sockets(SOCKETS, &epochs, &|_, _, _| Vec::new());
        let ip = Ipv4Addr::new(192, 168, 122, 77);
        let (server, transport) = (Ipv4Addr::new(192, 168, 122, 1), Transport::Tcp(1));
        let client = Client { network: 1, mac: [2; 6], ip, port: 1, server, transport };
        let (query, mut reply) = (query(name, asked), vec![0; 65_535]);
        match forwarder.query(0, &self.zone, &Nobody, client, &query, &mut reply) {
            Verdict::Forward { socket, .. } => Said::Asked(self.places[usize::from(socket / SOCKETS)]),
            Verdict::Answer(length) => answer(&reply[..length], query.len()),
            other => panic!("{name}: {other:?}"),
        }
    }

    pub(crate) fn check(&self, definition: &Definition, promises: &Promises) {
        assert_eq!(self.enabled, !promises.no_dns, "DNS is served");
        if promises.no_dns {
            return;
        }
        self.servers(promises);
        self.local(definition, promises);
        self.hosts(definition, promises);
        promises.srv.iter().for_each(|srv| self.service(srv, promises));
        for (name, text) in &promises.txt {
            assert_eq!(self.ask(name, kind::TXT), Said::Answer(vec![(kind::TXT, strings(text))]), "{name}");
        }
        for (alias, target) in &promises.cnames {
            let name = alias.replace('*', "any");
            let expected = Said::Answer(vec![(kind::CNAME, wire(target))]);
            assert_eq!(self.ask(&name, kind::CNAME), expected, "{alias}");
        }
    }

    /// Who is asked for what: the longest domain, else a server for all, else the host's.
    fn servers(&self, promises: &Promises) {
        let bare = promises.servers.iter().find(|one| one.domain.is_none()).and_then(|one| one.server);
        let host = (!promises.no_resolv).then(|| HOST.parse().unwrap());
        let default = bare.or(host).map_or(Said::Failed(rcode::REFUSED), Said::Asked);
        for name in ["nobody.has.this.name.example.net", "5.8.8.8.in-addr.arpa"] {
            assert_eq!(self.ask(name, kind::PTR), default, "{name}");
        }
        for one in &promises.servers {
            let Some(domain) = &one.domain else { continue };
            let expected = one.server.map_or_else(|| default.clone(), Said::Asked);
            for name in [domain.clone(), format!("any.{domain}")] {
                assert_eq!(self.ask(&name, kind::A), expected, "{name}");
            }
            assert_ne!(self.ask(&format!("not{domain}"), kind::A), Said::Failed(rcode::NXDOMAIN));
        }
    }

    fn local(&self, definition: &Definition, promises: &Promises) {
        let nothing = Said::Failed(rcode::NXDOMAIN);
        for domain in promises.local.iter().filter(|domain| !domain.is_empty()) {
            let (first, asked) = if domain.ends_with("ip6.arpa") {
                (format!("7.{}", "0.".repeat(31 - domain.matches('.').count() + 1)), kind::PTR)
            } else if domain.ends_with(".arpa") {
                ("77.".repeat(5 - domain.matches('.').count()), kind::PTR)
            } else {
                ("nobody.".to_owned(), kind::A)
            };
            let name = format!("{first}{domain}");
            assert_eq!(self.ask(&name, asked), nothing, "{name}");
        }
        let plain = self.ask("nobody", kind::A);
        if promises.local.iter().any(String::is_empty) || promises.domain_needed {
            assert_eq!(plain, nothing, "a plain name");
        }
        if definition.dns.forward_plain_names == Some(true) {
            assert!(matches!(plain, Said::Asked(_)), "a plain name: {plain:?}");
        }
    }

    fn hosts(&self, definition: &Definition, promises: &Promises) {
        for host in &definition.dns.hosts {
            for name in &host.names {
                self.address(name, host.ip);
                if promises.expand_hosts && !name.contains('.') {
                    let domain = promises.domain.as_deref().unwrap();
                    self.address(&format!("{name}.{domain}"), host.ip);
                }
            }
        }
    }

    fn address(&self, name: &str, ip: IpAddr) {
        let (asked, data) = match ip {
            IpAddr::V4(ip) => (kind::A, ip.octets().to_vec()),
            IpAddr::V6(ip) => (kind::AAAA, ip.octets().to_vec()),
        };
        let said = self.ask(name, asked);
        assert!(
            matches!(&said, Said::Answer(records) if records.contains(&(asked, data))),
            "{name}: {said:?}"
        );
    }

    fn service(&self, srv: &Srv, promises: &Promises) {
        let mut data: Vec<u8> = srv.numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
        data.extend(wire(&srv.target));
        let whole = match &promises.domain {
            Some(domain) if srv.name.matches('.').count() == 1 => format!("{}.{domain}", srv.name),
            _ => srv.name.clone(),
        };
        let said = self.ask(&whole, kind::SRV);
        let found = matches!(&said, Said::Answer(records) if records.contains(&(kind::SRV, data)));
        assert!(found, "{srv:?}: {said:?}");
    }
}

fn query(name: &str, asked: u16) -> Vec<u8> {
    let mut bytes = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    bytes.extend(wire(name));
    bytes.extend(asked.to_be_bytes());
    bytes.extend([0, 1]);
    bytes
}

fn wire(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

fn strings(text: &str) -> Vec<u8> {
    let part = |part: &[u8]| [&[u8::try_from(part.len()).unwrap()], part].concat();
    text.as_bytes().chunks(255).flat_map(part).collect()
}

fn answer(reply: &[u8], mut at: usize) -> Said {
    let header = Header::parse(reply).unwrap();
    if header.rcode() != rcode::NOERROR {
        return Said::Failed(header.rcode());
    }
    let mut records = Vec::new();
    for _ in 0..header.answers {
        let record = Record::parse(reply, at).unwrap();
        let named = matches!(record.kind, kind::CNAME | kind::PTR);
        let start = record.end - record.data.len();
        records.push((record.kind, if named { whole(reply, start) } else { record.data.to_vec() }));
        at = record.end;
    }
    Said::Answer(records)
}

/// A name without pointers.
fn whole(reply: &[u8], mut at: usize) -> Vec<u8> {
    let mut name = Vec::new();
    loop {
        let size = usize::from(reply[at]);
        match size {
            0xc0.. => at = (size & 0x3f) << 8 | usize::from(reply[at + 1]),
            _ => {
                name.extend_from_slice(&reply[at..=at + size]);
                at += 1 + size;
            }
        }
        if size == 0 {
            return name;
        }
    }
}
