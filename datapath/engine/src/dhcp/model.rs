//! Random operation sequences against a model of who may use which address.
use alloc::{collections::BTreeMap, vec, vec::Vec};
use core::net::Ipv4Addr;

use pontoon_wire::dhcp::{MessageType as Type, code};
use proptest::prelude::*;

use super::{
    tests::{Net, config, ip, mac, packet},
    *,
};

fn any_kind() -> impl Strategy<Value = Type> {
    (1u8..=8).prop_map(|value| Type::from_u8(value).unwrap())
}

/// One message of one of a few clients about one of a few addresses.
#[derive(Clone, Debug)]
struct Step {
    client: u8,
    kind: Type,
    ciaddr: Option<u8>,
    requested: Option<u8>,
    server: Option<u8>,
    id: Option<u8>,
    name: Option<u8>,
    pause: u64,
    fail: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let addr = || proptest::option::of(prop_oneof![8 => 8u8..18, 1 => Just(1u8), 1 => any::<u8>()]);
    let server = prop_oneof![3 => Just(None), 3 => Just(Some(1u8)), 1 => Just(Some(2u8))];
    let pause = prop_oneof![6 => 0u64..5, 2 => 50u64..700, 1 => 3000u64..8000];
    let id = prop_oneof![3 => Just(None), 1 => (0u8..3).prop_map(Some)];
    let name = proptest::option::of(0u8..4);
    (0u8..12, any_kind(), addr(), addr(), server, id, name, pause, proptest::bool::weighted(0.1)).prop_map(
        |(client, kind, ciaddr, requested, server, id, name, pause, fail)| Step {
            client,
            kind,
            ciaddr,
            requested,
            server,
            id,
            name,
            pause,
            fail,
        },
    )
}

fn encode(step: &Step) -> Vec<u8> {
    let mut options: Vec<(u8, Vec<u8>)> = vec![];
    options.extend(step.requested.map(|last| (code::REQUESTED_IP, ip(last).octets().to_vec())));
    options.extend(step.server.map(|last| (code::SERVER_ID, ip(last).octets().to_vec())));
    options.extend(step.id.map(|id| (code::CLIENT_ID, vec![id])));
    options.extend(step.name.map(|name| (code::HOST_NAME, vec![b'a' + name])));
    let options: Vec<(u8, &[u8])> = options.iter().map(|(code, data)| (*code, &data[..])).collect();
    packet(step.kind, mac(step.client), step.ciaddr.map_or(Ipv4Addr::UNSPECIFIED, ip), &options)
}

/// Who uses an address according to the messages seen: identity, client and expiry.
type Model = BTreeMap<Ipv4Addr, (Key, u8, u64)>;

const RESERVED: u8 = 15;

/// Two definitions of one network: another range, and another host at the reserved address.
fn settings() -> [Config; 2] {
    let with = |low, high, host| {
        let mut settings = config(low, high);
        let fixed = Reservation { mac: Some(mac(host)), ip: Some(ip(RESERVED)), ..Reservation::default() };
        settings.hosts = vec![fixed];
        settings
    };
    [with(10, 16, 3), with(12, 20, 4)]
}

/// Whether a client may be given an address: while its reserved one is another's or was declined, one of the pool.
fn may_have(net: &Net, model: &Model, client: u8, addr: Ipv4Addr) -> bool {
    let others = |(_, holder, expiry): &(Key, u8, u64)| *holder != client && *expiry > net.now;
    let slot = net.server.table.get(ip(RESERVED).to_bits());
    let barred = slot.is_some_and(|slot| slot.phase == Phase::Quarantined);
    let pool = &net.server.config.ranges[0];
    let of_pool = (pool.first..=pool.last).contains(&addr) && addr != ip(RESERVED);
    fits(net, client, addr) || ((barred || model.get(&ip(RESERVED)).is_some_and(others)) && of_pool)
}

/// Whether a client may have an address by the definition in force.
fn fits(net: &Net, client: u8, addr: Ipv4Addr) -> bool {
    let pool = &net.server.config.ranges[0];
    match net.server.config.hosts[0].mac == Some(mac(client)) {
        true => addr == ip(RESERVED),
        false => (pool.first..=pool.last).contains(&addr) && addr != ip(RESERVED),
    }
}

fn apply(net: &mut Net, model: &mut Model, step: &Step) {
    net.now += step.pause;
    let (now, client) = (net.now, step.client);
    let key = Key::new(step.id.map(|id| vec![id]).as_deref(), mac(client));
    // A boot loader and its system share the reserved address.
    let free = |model: &Model, addr: Ipv4Addr| {
        model.get(&addr).is_none_or(|(owner, holder, expiry)| {
            *owner == key || *expiry <= now || (addr == ip(RESERVED) && *holder == client)
        })
    };
    if step.kind == Type::Discover {
        // It uses no address, and so gives up what it may not have any more.
        model.retain(|addr, (owner, _, _)| *owner != key || fits(net, client, *addr));
    }
    match net.send(mac(client), &encode(step)) {
        Outcome::Commit { change: Change::Set(lease), reply } => {
            assert_eq!(net.answer(&reply).yiaddr(), lease.ip);
            assert!(free(model, lease.ip), "{} is in use", lease.ip);
            assert!(may_have(net, model, client, lease.ip), "{} is not for {client}", lease.ip);
            if step.fail {
                net.server.commit_failed(lease.ip, lease.mac);
            } else {
                model.retain(|_, (owner, _, _)| *owner != key);
                model.insert(lease.ip, (key, client, lease.expiry));
            }
        }
        Outcome::Reply(reply) if reply.kind == Type::Offer => {
            let offered = net.answer(&reply).yiaddr();
            let fit = may_have(net, model, client, offered);
            assert!(free(model, offered) && fit, "{offered} for {client}");
        }
        Outcome::Release(Change::Remove(addr, _)) => {
            assert!(model.remove(&addr).is_some_and(|(owner, _, _)| owner == key));
        }
        Outcome::Revoke { change: Change::Remove(addr, _), reply } => {
            assert_eq!(reply.kind, Type::Nak);
            assert!(model.remove(&addr).is_some_and(|(owner, _, _)| owner == key));
        }
        Outcome::Commit { .. } | Outcome::Release(_) | Outcome::Revoke { .. } => panic!("wrong change"),
        Outcome::Reply(_) | Outcome::Drop(_) => {}
    }
}

fn check(net: &Net) {
    let mut names: Vec<_> = net
        .server
        .leases()
        .filter(|lease| lease.live(net.now))
        .filter_map(|lease| lease.hostname.clone())
        .collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count, "two live leases share a name");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn clients_never_share(steps in proptest::collection::vec(step(), 1..200)) {
        let settings = settings();
        let mut net = Net::new(settings[0].clone());
        let mut model = Model::new();
        for (at, step) in steps.iter().enumerate() {
            apply(&mut net, &mut model, step);
            check(&net);
            match at % 32 {
                7 => net.server.expire(net.now, &mut |_| ()),
                15 => net.server.reconfigure(settings[at / 32 % 2].clone()),
                _ => {}
            }
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..700), size in 0usize..1500) {
        let mut server = Server::new(config(10, 20), 1);
        let _ = server.handle(1, mac(1), &bytes, true, &mut vec![0; size]);
    }

    #[test]
    fn random_options_never_panic(
        kind in any_kind(),
        tail in proptest::collection::vec(any::<u8>(), 0..400),
        overload in 0u8..5,
        size in 0usize..1500,
    ) {
        let mut payload = packet(kind, mac(1), ip(12), &[(code::OVERLOAD, &[overload])]);
        payload.truncate(246);
        payload.extend_from_slice(&tail);
        payload[44..44 + tail.len().min(192)].copy_from_slice(&tail[..tail.len().min(192)]);
        let mut server = Server::new(config(10, 20), 1);
        let _ = server.handle(1, mac(1), &payload, true, &mut vec![0; size]);
    }
}
