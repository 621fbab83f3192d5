//! Sessions of NAT as `pontoon conntrack` shows and ends them.

use pontoon_netns_tests::{Setup, World, xml};
use serde_json::Value;

const MAC1: &str = "52:54:00:d7:8d:61";
const MAC2: &str = "52:54:00:c6:3c:03";

/// Two guests, of which the first has a connection, a datagram and a ping outside.
fn world(options: &'static [&'static str]) -> Option<(World, String)> {
    let tools = &["ping", "curl", "dig"];
    let mut world = World::new(&Setup { workers: 2, tools, daemon_options: options, ..Setup::default() })?;
    world.start_network("natntw", &xml::natntw());
    let address = world.guest("g1", "natntw", "eth0", MAC1);
    let _ = world.guest("g2", "natntw", "eth0", MAC2);
    Some((world, address))
}

fn list(world: &World, words: &[&str]) -> Vec<Value> {
    let words = [&["conntrack", "list", "--json"], words].concat();
    serde_json::from_str(&world.works(&words)).expect("JSON")
}

fn count(world: &World, words: &[&str]) -> usize {
    world.works(&[&["conntrack", "count"], words].concat()).trim().parse().expect("a number")
}

/// Stays connected until it is killed.
const HOLD: &[&str] = &["busybox", "nc", "203.0.113.80", "80"];

#[test]
fn sessions_are_listed_counted_and_ended() {
    let Some((mut world, address)) = world(&[]) else { return };
    assert_eq!(world.works(&["conntrack", "list"]), "");
    assert_eq!(list(&world, &[]), [] as [Value; 0]);
    let held = world.spawn("g1", "nc", &[&["sh", "-c", "sleep 60 | \"$@\"", "-"], HOLD].concat());
    world.keep(held);
    assert!(world.pings("g1", "203.0.113.80") && world.pings("g2", "203.0.113.80"));
    let tcp = pontoon_netns_tests::until("the connection", 10, || {
        list(&world, &["--proto", "tcp", "--state", "established"]).pop()
    });
    assert_eq!((&tcp["guest"], &tcp["network"]), (&"g1".into(), &"natntw".into()));
    assert_eq!((&tcp["inside"], &tcp["remote"]), (&address.as_str().into(), &"203.0.113.80".into()));
    assert_eq!((&tcp["remote_port"], &tcp["outside"]), (&80.into(), &"203.0.113.2".into()));
    assert!(tcp["timeout"].as_u64().is_some_and(|left| (7400..=7441).contains(&left)), "{tcp}");
    let port = tcp["outside_port"].to_string();
    for (words, expected) in [
        (&["--guest", "g1"][..], 2),
        (&["--guest", MAC2], 1),
        (&["--guest", &address, "--proto", "icmp"], 1),
        (&["--network", "natntw"], 3),
        (&["--address", "203.0.113.80"], 3),
        (&["--port", &port], 1),
        (&["--state", "ASSURED"], 3),
        (&["--older", "1h"], 0),
        (&["--younger", "1h"], 3),
    ] {
        assert_eq!((count(&world, words), list(&world, words).len()), (expected, expected), "{words:?}");
    }
    let lines = world.works(&["conntrack", "list", "--guest", "g1", "--proto", "tcp"]);
    let begin = "tcp    74";
    assert!(lines.starts_with(begin) && lines.contains(" ESTABLISHED src=192.168.100."), "{lines}");
    assert!(lines.trim_end().ends_with("[ASSURED]   network=natntw guest=g1"), "{lines}");
    assert_eq!(world.works(&["conntrack", "flush", "--guest", "g1"]), "2 sessions ended\n");
    assert_eq!((count(&world, &["--guest", "g1"]), count(&world, &[])), (0, 1));
    assert!(world.pings("g1", "203.0.113.80"), "what is new goes on");
    let ended: Value = serde_json::from_str(&world.works(&["conntrack", "flush", "--json"])).expect("JSON");
    assert_eq!(ended["ended"], 2);
}

#[test]
fn what_is_wrong_with_a_filter_is_said() {
    let Some(world) = World::new(&Setup::default()) else { return };
    world.start_network("hostntw", &xml::hostntw());
    let _ = world.works(&["net-define", &world.file("nat.xml", &xml::natntw())]);
    for (words, said) in [
        (&["--network", "x"][..], "error: Network not found: no network with matching name 'x'\n"),
        (
            &["--network", "natntw"],
            "error: Requested operation is not valid: network 'natntw' is not active\n",
        ),
        (&["--guest", "nobody"], "error: Domain not found: no domain with matching name 'nobody'\n"),
        (&["--guest", "52:54"], "error: XML error: unable to parse mac address '52:54'\n"),
        (
            &["--proto", "tpc"],
            "error: invalid argument: unknown protocol 'tpc': tcp, udp, icmp or a number\n",
        ),
        (
            &["--older", "2h", "--younger", "1h"],
            "error: invalid argument: no session is both older and younger",
        ),
        (&["--state", "OPEN"], "error: invalid value 'OPEN' for '--state <STATE>': states are ASSURED, "),
        (&["--older", "soon"], "a time is a number of seconds, or one with s, m, h or d behind: 90, 5m, 2h"),
        (&["--address", "here"], "error: invalid value 'here' for '--address <ADDRESS>': invalid IPv4"),
        (&["--port", "65536"], "error: invalid value '65536' for '--port <PORT>'"),
    ] {
        for verb in ["list", "count", "flush"] {
            let refused = world.pontoon(&[&["conntrack", verb], words].concat());
            assert!(refused.code == Some(1) && refused.err.contains(said), "{words:?}: {refused:?}");
            assert_eq!(refused.out, "");
        }
    }
    let state = serde_json::json!({"filter": {"state": "OPEN"}});
    let mut api = world.api();
    api.send("conntrack-list", &state).expect("request");
    let answer = api.receive().expect("answer");
    assert_eq!(answer["error"]["message"], "invalid argument: unknown state 'OPEN'", "{answer}");
    let names = world.works(&["complete", "--", "conntrack", ""]);
    assert_eq!(names, "count\nflush\nlist\n");
    let options = world.works(&["complete", "--", "conntrack", "list", "--"]);
    assert!(options.contains("--younger\n"), "{options}");
    assert_eq!(world.works(&["complete", "--", "conntrack", "list", "--network", "h"]), "hostntw\n");
}
