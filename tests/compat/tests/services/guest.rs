//! Guests that ask for addresses, and what they are told.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use pontoon_engine::dhcp::{Drop, Outcome, Server};
use pontoon_engine::snapshot::{Network, Subnet};
use pontoon_wire::dhcp::{Builder, Message, MessageType, code};

use crate::conf::{Host, Promises, Range};

const NOW: u64 = 1_800_000_000;
/// What most clients ask for, and what boot loaders do.
const WANTED: &[u8] = &[1, 3, 6, 12, 15, 26, 28, 51, 54, 66, 67];

pub(crate) struct Guests {
    server: Server,
    subnet: Subnet,
    reply: Vec<u8>,
}

/// What a guest asks with.
#[derive(Clone, Copy, Default)]
struct Client<'a> {
    mac: [u8; 6],
    name: Option<&'a str>,
    wants: Option<Ipv4Addr>,
}

impl Guests {
    pub(crate) fn check(network: &Network, promises: &Promises) {
        assert_eq!(network.dhcp.is_some(), !promises.ranges.is_empty(), "DHCP is served");
        let (Some(config), Some(subnet)) = (&network.dhcp, network.subnet) else { return };
        let fresh = || Self { server: Server::new(config.clone(), 1), subnet, reply: vec![0; 1500] };
        for host in &promises.hosts {
            fresh().host(host, promises);
        }
        for range in &promises.ranges {
            fresh().range(range, promises);
        }
        fresh().pool(promises);
        if promises.authoritative {
            fresh().stranger();
        }
    }

    fn say(&mut self, kind: MessageType, client: Client<'_>, ours: bool) -> Outcome {
        let mut bytes = vec![0; 600];
        let mut builder = Builder::new(&mut bytes, 600, 1, 7, client.mac, kind).unwrap();
        builder.option(code::PARAMETER_LIST, WANTED).unwrap();
        if let Some(name) = client.name {
            builder.option(code::HOST_NAME, name.as_bytes()).unwrap();
        }
        if let Some(ip) = client.wants {
            builder.option(code::REQUESTED_IP, &ip.octets()).unwrap();
        }
        if ours {
            builder.option(code::SERVER_ID, &self.subnet.address.octets()).unwrap();
        }
        let length = builder.finish();
        self.server.handle(NOW, client.mac, &bytes[..length], true, &mut self.reply)
    }

    /// The whole exchange; why there is no address, if there is none.
    fn lease(&mut self, client: Client<'_>) -> Result<Message<'_>, Drop> {
        let offered = match self.say(MessageType::Discover, client, false) {
            Outcome::Reply(reply) => Message::parse(&self.reply[..reply.len]).unwrap().yiaddr(),
            Outcome::Drop(why) => return Err(why),
            other => panic!("{other:?}"),
        };
        match self.say(MessageType::Request, Client { wants: Some(offered), ..client }, true) {
            Outcome::Commit { reply, .. } if reply.kind == MessageType::Ack => {
                Ok(Message::parse(&self.reply[..reply.len]).unwrap())
            }
            other => panic!("{other:?}"),
        }
    }

    fn host(&mut self, host: &Host, promises: &Promises) {
        let label = host.name.as_deref().and_then(|name| name.split('.').next());
        // A host without a MAC address is known by the name it gives.
        let client = Client {
            mac: host.mac.unwrap_or([2, 0, 0, 0, 9, 9]),
            name: if host.mac.is_none() { label } else { Some("other") },
            wants: None,
        };
        let seconds = host.seconds.or(promises.ranges.first().map(|range| range.seconds));
        let answer = self.lease(client).unwrap_or_else(|why| panic!("{host:?}: {why:?}"));
        assert_eq!(answer.yiaddr(), host.ip, "{host:?}");
        assert_eq!(answer.option(code::LEASE_TIME), seconds.map(u32::to_be_bytes).as_ref().map(|b| &b[..]));
        if let Some(label) = label {
            let given = answer.option(code::HOST_NAME);
            assert_eq!(given, Some(label.to_ascii_lowercase().as_bytes()), "{host:?}");
        }
    }

    /// Both ends are given out, and the answers say what the configuration does.
    fn range(&mut self, range: &Range, promises: &Promises) {
        let Some(last) = range.last else {
            assert_eq!(
                self.lease(Client { mac: [2; 6], ..Client::default() }).err(),
                Some(Drop::PoolExhausted)
            );
            return;
        };
        let reserved: BTreeSet<Ipv4Addr> = promises.hosts.iter().map(|host| host.ip).collect();
        for (mac, end) in [([2, 0, 0, 0, 0, 1], range.first), ([2, 0, 0, 0, 0, 2], last)] {
            let subnet = self.subnet;
            let answer = self.lease(Client { mac, wants: Some(end), ..Client::default() }).unwrap();
            let given = answer.yiaddr();
            assert!(
                given == end || reserved.contains(&end) || end == subnet.address,
                "{end} is to be had, not {given}"
            );
            assert_eq!(answer.option(code::LEASE_TIME), Some(&range.seconds.to_be_bytes()[..]));
            told(&answer, subnet, promises);
        }
    }

    /// As many leases as there are addresses, none of them twice, none of them the gateway's.
    fn pool(&mut self, promises: &Promises) {
        let ranges = promises.ranges.iter().filter_map(|range| Some((range.first, range.last?)));
        let all: BTreeSet<u32> = ranges.flat_map(|(first, last)| first.to_bits()..=last.to_bits()).collect();
        if promises.ranges.iter().any(|range| range.last.is_none()) || all.len() > 5000 {
            return;
        }
        if let Some(most) = promises.lease_max {
            assert_eq!(all.len(), most, "dhcp-lease-max");
        }
        let mut left = all;
        left.remove(&self.subnet.address.to_bits());
        for host in &promises.hosts {
            left.remove(&host.ip.to_bits());
        }
        for number in 0u32.. {
            let [_, _, high, low] = number.to_be_bytes();
            match self.lease(Client { mac: [2, 0, 0, 1, high, low], ..Client::default() }) {
                Ok(answer) => {
                    assert!(left.remove(&answer.yiaddr().to_bits()), "{} was not free", answer.yiaddr());
                }
                Err(why) => {
                    assert_eq!((why, left.len()), (Drop::PoolExhausted, 0));
                    return;
                }
            }
        }
    }

    /// `dhcp-authoritative`: a guest that comes from elsewhere is told so.
    fn stranger(&mut self) {
        let client = Client { mac: [2; 6], wants: Some(Ipv4Addr::new(172, 30, 99, 99)), name: None };
        let outcome = self.say(MessageType::Request, client, false);
        assert!(matches!(outcome, Outcome::Reply(reply) if reply.kind == MessageType::Nak), "{outcome:?}");
    }
}

fn told(answer: &Message<'_>, subnet: Subnet, promises: &Promises) {
    let gateway = subnet.address;
    assert_eq!(answer.option(code::SUBNET_MASK), Some(&subnet.mask().to_be_bytes()[..]));
    assert_eq!(answer.address(code::BROADCAST), Some(subnet.broadcast()));
    assert_eq!(answer.address(code::ROUTER), (!promises.no_router).then_some(gateway));
    assert_eq!(answer.address(code::DNS), (!promises.no_dns).then_some(gateway));
    assert_eq!(answer.option(code::DOMAIN), promises.domain.as_deref().map(str::as_bytes));
    if let Some(mtu) = promises.mtu {
        assert_eq!(answer.option(code::MTU), Some(&mtu.to_be_bytes()[..]));
    }
    if promises.no_override {
        assert_eq!(answer.option(code::OVERLOAD), None, "the fields are left to their own use");
    }
    let (file, server) = promises.boot.clone().unwrap_or_default();
    let written = answer.file().split(|byte| *byte == 0).next().unwrap();
    assert_eq!((written, answer.siaddr()), (file.as_bytes(), server.unwrap_or(gateway)));
    assert_eq!(answer.option(code::BOOT_FILE), (!file.is_empty()).then_some(file.as_bytes()));
}
