use super::*;
use crate::compile::Running;
use pontoon_engine::Time;
use pontoon_engine::snapshot;

type Damage = fn(&mut Document);

fn document() -> Document {
    let network = serde_json::json!({
        "id": 1, "name": "net", "forward": "isolated", "mac": [2, 0, 0, 0, 0, 1], "address": null, "mtu": 1500,
        "uplink": null, "nat_ports": [1024, 65535], "dhcp": null, "ageing_seconds": 7,
        "dns": {"enabled": false, "domain": null, "local_only": false, "forward_plain_names": false, "hosts": [], "txt": []},
        "bridging": {"stp": {"priority": 32768, "max_age": 2000, "hello": 200, "forward_delay": 200}, "fixed": false},
    });
    let port = |id: u16, role: &str| {
        serde_json::json!({
            "id": id, "name": format!("p{id}"), "role": {role: {"network": 1}}, "max_addresses": 16,
            "bridging": {"number": id + 1, "macs": [[2, 0, 0, 0, 9, id]]},
        })
    };
    serde_json::from_value(serde_json::json!({
        "generation": 1, "resolvers": 0, "sockets_per_resolver": 0, "uplinks": [], "networks": [network],
        "ports": [port(0, "host"), port(1, "guest"), port(2, "guest")],
    }))
    .expect("document")
}

fn run(before: &Running, document: Document) -> Running {
    let next = before.next(document, 7).expect("compiles");
    settle(&next.document, &next.snapshot);
    next
}

fn network(running: &Running) -> &Network {
    running.snapshot.network(1).expect("network")
}

fn tree(running: &Running) -> &Tree {
    network(running).policy.as_ref().and_then(|policy| policy.tree.as_ref()).expect("a tree")
}

#[test]
fn a_plain_network_has_no_policy_and_a_tree_begins_with_what_forwards() {
    let mut plain = document();
    plain.networks[0].bridging.stp = None;
    let before = run(&Running::default(), plain);
    assert!(network(&before).policy.is_none());
    let after = run(&before, document());
    let config = stp::Config { id: 0x8000_0200_0000_0001, max_age: 2000, hello: 200, forward_delay: 200 };
    assert_eq!(tree(&after).config, config);
    assert_eq!(tree(&after).ports[2], stp::PortConfig { port: 2, number: 3, priority: 32, cost: 100 });
    assert!(tree(&after).board.is_open(2), "turning it on stops nobody");
    let fresh = run(&Running::default(), document());
    assert!(!tree(&fresh).board.is_open(2), "a new network's ports wait for their first BPDU");
    let kept = run(&after, document());
    assert!(Arc::ptr_eq(&tree(&after).board, &tree(&kept).board));
}

#[test]
fn ports_are_isolated_hairpinned_and_set_down() {
    let mut changed = document();
    changed.networks[0].bridging.stp = None;
    changed.ports[1].bridging.isolated = true;
    changed.ports[2].bridging.isolated = true;
    changed.ports[2].bridging.hairpin = true;
    let before = run(&Running::default(), changed.clone());
    let policy = network(&before).policy.as_ref().expect("a policy");
    assert!(!policy.may_pass(1, 2) && policy.may_pass(1, 0) && !policy.hairpin.contains(1));
    assert!(policy.hairpin.contains(2) && policy.floods_unknown);
    changed.ports[2].bridging.down = true;
    let after = run(&before, changed);
    let role = after.snapshot.port(2).expect("a port").role;
    assert_eq!(role, snapshot::Role::Down { network: 1 });
    assert_eq!(network(&after).ports, [0, 1]);
    assert_eq!(before.gone(&after), [2], "what was learned there goes");
}

#[test]
fn fixed_networks_know_their_ports_addresses_and_learn_none() {
    let mut fixed = document();
    fixed.networks[0].bridging.fixed = true;
    let running = run(&Running::default(), fixed.clone());
    let (macs, now) = (&network(&running).macs, Time::from_secs(9));
    assert_eq!(macs.lookup(now, [2, 0, 0, 0, 9, 2]), Some(2));
    assert_eq!(running.snapshot.port(2).expect("a port").max_addresses, 0);
    assert!(!network(&running).policy.as_ref().expect("a policy").floods_unknown);
    fixed.ports[2].bridging.macs = vec![[2, 0, 0, 0, 9, 7]];
    fixed.ports[1].bridging.down = true;
    let running = run(&running, fixed);
    let macs = &network(&running).macs;
    let found = [1, 2, 7].map(|last| macs.lookup(now, [2, 0, 0, 0, 9, last]));
    assert_eq!(found, [None, None, Some(2)]);
}

#[test]
fn the_document_s_ageing_reaches_the_table() {
    let running = run(&Running::default(), document());
    let macs = &network(&running).macs;
    macs.learn(Time::from_secs(100), [2, 0, 0, 0, 0, 5], 1, 16);
    let seen = |second| macs.lookup(Time::from_secs(second), [2, 0, 0, 0, 0, 5]);
    assert_eq!((seen(107), seen(108)), (Some(1), None));
    assert_eq!(macs.lookup(Time::from_secs(5000), [2, 0, 0, 0, 9, 1]), Some(1), "static ones do not age");
}

#[test]
fn settings_no_bridge_would_take_are_named() {
    let cases: [(&str, Damage); 7] = [
        ("networks[0].bridging.stp.max_age: 599", |d| stp_of(d).max_age = 599),
        ("networks[0].bridging.stp.hello: 1001", |d| stp_of(d).hello = 1001),
        ("networks[0].bridging.stp.forward_delay: 0", |d| stp_of(d).forward_delay = 0),
        ("ports[1].bridging.number: 0", |d| d.ports[1].bridging.number = 0),
        ("ports[2].bridging.number: 2 is used twice", |d| d.ports[2].bridging.number = 2),
        ("ports[1].bridging.priority: 64", |d| d.ports[1].bridging.priority = 64),
        ("ports[1].bridging.cost: 0", |d| d.ports[1].bridging.cost = 0),
    ];
    for (expected, damage) in cases {
        let mut damaged = document();
        damage(&mut damaged);
        let refused = Running::default().next(damaged, 7).expect_err(expected);
        assert!(refused.starts_with(expected), "{refused} is not {expected}");
    }
}

fn stp_of(document: &mut Document) -> &mut Stp {
    document.networks[0].bridging.stp.as_mut().expect("a tree")
}
