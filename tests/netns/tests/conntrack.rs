//! Sessions of NAT as `pontoon conntrack` shows and ends them.

use pontoon_netns_tests::{Proc, Setup, World, until, xml};
use rustix::process::Signal;
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
    let tcp =
        until("the connection", 10, || list(&world, &["--proto", "tcp", "--state", "established"]).pop());
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
    assert_eq!(names, "count\nevents\nflush\nlist\n");
    let options = world.works(&["complete", "--", "conntrack", "list", "--"]);
    assert!(options.contains("--younger\n"), "{options}");
    assert_eq!(world.works(&["complete", "--", "conntrack", "list", "--network", "h"]), "hostntw\n");
}

fn lines(said: &str) -> Vec<Value> {
    said.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// A command that reports until it is stopped. It is ready once it has said the first thing that `wake` causes.
fn follow(world: &World, log: &str, words: &[&str], wake: impl Fn()) -> Proc {
    let bin = world.bin().to_string_lossy().into_owned();
    let socket = world.path("run/pontoon.sock").to_string_lossy().into_owned();
    let begin = [bin.as_str(), "--socket", &socket];
    let proc = Proc::start(&[&begin[..], words].concat(), &world.path(log));
    until("the first event", 20, || {
        wake();
        (!proc.said().is_empty()).then_some(())
    });
    proc
}

#[test]
fn sessions_are_told_of_as_they_begin_and_end() {
    let Some((world, address)) = world(&[]) else { return };
    let ping = || assert!(world.pings("g2", "203.0.113.80"));
    let mut events = follow(&world, "events", &["conntrack", "events", "--json"], ping);
    let mut shown = follow(&world, "shown", &["conntrack", "events", "--guest", "g2", "--mappings"], ping);
    let page = world.exec("g1", &["curl", "-sS", "-m", "20", "http://203.0.113.80/"]).expect_ok("curl");
    let port = page.trim().rsplit(' ').next().expect("port").to_owned();
    events.wait_said(&format!("\"outside_port\":{port}"), 10);
    assert_eq!(world.works(&["conntrack", "flush", "--guest", "g1", "--port", "80"]), "1 sessions ended\n");
    events.wait_said("\"ended\"", 10);
    let told: Vec<Value> =
        lines(&events.said()).into_iter().filter(|e| e["session"]["remote_port"] == 80).collect();
    let details: Vec<_> = told.iter().map(|event| &event["detail"]).collect();
    assert_eq!(details, ["begun", "ended"], "{told:?}");
    for event in &told {
        let session = &event["session"];
        assert_eq!((&event["event"], &event["mapping"]), (&"session".into(), &true.into()));
        assert_eq!((&session["guest"], &session["inside"]), (&"g1".into(), &address.as_str().into()));
    }
    let said = shown.said();
    let first = said.lines().next().expect("a line");
    assert!(first.starts_with("[NEW]     icmp ") && first.ends_with("network=natntw guest=g2"), "{said}");
    assert!(!said.contains("guest=g1"), "{said}");
    events.stop(Signal::INT);
    shown.stop(Signal::INT);
    // Nobody listens: the datapath soon tells nothing more, and a new listener hears again.
    let mut again = follow(&world, "again", &["conntrack", "events"], ping);
    again.stop(Signal::INT);
}

/// The lines of a log of mappings about one guest.
fn logged(world: &World, file: &str, guest: &str) -> Vec<String> {
    let text = std::fs::read_to_string(world.path(file)).unwrap_or_default();
    text.lines().filter(|line| line.contains(&format!(" guest={guest} "))).map(str::to_owned).collect()
}

//= RFC6888#REQ-12 type=test
#[test]
fn mappings_are_logged_without_whom_they_speak_to() {
    let Some((mut world, address)) = world(&[]) else { return };
    let curl = || {
        let page = world.exec("g1", &["curl", "-sS", "-m", "20", "http://203.0.113.80/"]).expect_ok("curl");
        page.trim().rsplit(' ').next().expect("port").to_owned()
    };
    let _ = curl();
    assert_eq!(logged(&world, "state/mappings.log", "g1"), [] as [&str; 0], "nobody asked for it");
    let marked =
        xml::natntw().replace("</network>", "<log xmlns='urn:pontoon:network:1' mappings='yes'/></network>");
    let file = world.file("marked.xml", &marked);
    let _ = world.works(&["net-define", &file]);
    let port = curl();
    let begun = until("the line", 10, || logged(&world, "state/mappings.log", "g1").pop());
    let words = format!(" begin network=natntw guest=g1 mac={MAC1} proto=tcp inside={address}:");
    assert!(begun.contains(&words) && begun.ends_with(&format!(" outside=203.0.113.2:{port}")), "{begun}");
    assert!(!begun.contains("203.0.113.80"), "{begun}");
    let _ = world.works(&["conntrack", "flush", "--port", &port]);
    let ended = until("the end", 10, || logged(&world, "state/mappings.log", "g1").into_iter().nth(1));
    assert!(ended.contains(" end   ") && ended.ends_with(&format!(" outside=203.0.113.2:{port}")), "{ended}");
    // A control that comes back has it told again.
    world.stop_daemon(Signal::KILL);
    world.start_daemon();
    let port = {
        let page = world.exec("g1", &["curl", "-sS", "-m", "20", "http://203.0.113.80/"]).expect_ok("curl");
        page.trim().rsplit(' ').next().expect("port").to_owned()
    };
    until("its line", 10, || {
        let lines = logged(&world, "state/mappings.log", "g1");
        lines.iter().any(|line| line.ends_with(&format!(":{port}"))).then_some(())
    });
}

#[test]
fn frames_are_followed_to_their_end() {
    let Some((world, address)) = world(&[]) else { return };
    assert!(world.pings("g1", "203.0.113.80"));
    let ping = || assert!(world.pings("g1", "203.0.113.80"));
    let arguments = ["trace", "--network", "natntw", "--json", "--match", "icmp and host 203.0.113.80"];
    let mut trace = follow(&world, "trace", &arguments, ping);
    let sent = |proc: &Proc, port: &str| {
        lines(&proc.said()).into_iter().find(|event| event["verdict"] == "sent" && event["port"] == port)
    };
    let out = until("the request", 10, || sent(&trace, "eth0"));
    assert_eq!((&out["guest"], &out["frame"]["src"]), (&"g1".into(), &address.as_str().into()));
    assert_eq!(out["frame"]["sport"], 8, "an echo request");
    assert_eq!(out["sent"][0]["frame"]["src"], "203.0.113.2");
    let stages = out["stages"].as_array().expect("stages").clone();
    assert!(["nat-out", "uplink"].iter().all(|stage| stages.contains(&(*stage).into())), "{out}");
    let back = until("the reply", 10, || sent(&trace, "up0"));
    assert_eq!((&back["sent"][0]["guest"], &back["sent"][0]["port"]), (&"g1".into(), &"eth0".into()));
    assert_eq!(back["sent"][0]["frame"]["dst"], address.as_str());
    trace.stop(Signal::INT);
    // Why was it dropped?
    let knock = || {
        let _ = world.exec("net", &["busybox", "nc", "-w", "1", "203.0.113.2", "4444"]);
    };
    let words = ["trace", "--network", "natntw", "--match", "tcp and port 4444", "--count", "1"];
    let mut dropped = follow(&world, "dropped", &words, knock);
    assert!(dropped.wait(10).success(), "one frame is enough");
    let said = dropped.said();
    assert!(said.contains(" up0: tcp 203.0.113.1:") && said.contains(" > 203.0.113.2:4444, "), "{said}");
    assert!(said.contains("    dropped, nat_no_session: arrived from outside without a session\n"), "{said}");
    for (words, expected) in [
        (
            &["--match", "hots 1.2.3.4"][..],
            "error: invalid argument: cannot match frames: 'hots' is no condition\n",
        ),
        (
            &["--match", "tcp port 1"],
            "error: invalid argument: cannot match frames: 'and' is missing before 'port'\n",
        ),
        (&["--count", "0"], "error: invalid value '0' for '--count <N>'"),
    ] {
        let refused = world.pontoon(&[&["trace", "--network", "natntw"], words].concat());
        assert!(refused.code == Some(1) && refused.err.contains(expected), "{refused:?}");
    }
    assert!(world.pings("g1", "203.0.113.80"));
}
