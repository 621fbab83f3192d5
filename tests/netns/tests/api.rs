//! The API socket: who may do what, events, and what hostile clients cost.

use std::time::{Duration, Instant};

use pontoon_netns_tests::{Api, Output, Setup, World, bound_address, run, until, xml};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A user and a group nobody else has.
const USER: &str = "54321";
const GROUP: &str = "54322";

/// A verb as a user without privilege, with one supplementary group or none.
fn as_user(world: &World, group: Option<&str>, words: &[&str]) -> Output {
    let groups = group.map_or("--clear-groups".to_owned(), |group| format!("--groups={group}"));
    let user = ["setpriv", "--reuid", USER, "--regid", USER, &groups, "--inh-caps=-all"];
    let (bin, socket) = (world.bin().to_string_lossy().into_owned(), world.path("run/pontoon.sock"));
    let socket = socket.to_string_lossy().into_owned();
    run(&[&user[..], &[&bin, "--socket", &socket], words].concat())
}

#[test]
fn members_of_the_group_manage_and_others_stay_outside() {
    let setup = Setup { tools: &["setpriv"], daemon_options: &["--group", GROUP], ..Setup::default() };
    let Some(world) = World::new(&setup) else { return };
    world.start_network("hostntw", &xml::hostntw());
    let list = as_user(&world, Some(GROUP), &["net-list", "--name"]).expect_ok("net-list");
    assert_eq!(list, "hostntw\n\n");
    let _ = as_user(&world, Some(GROUP), &["net-destroy", "hostntw"]).expect_ok("net-destroy");
    let outside = as_user(&world, None, &["net-list"]);
    assert_eq!(outside.code, Some(1));
    assert!(outside.err.contains("Permission denied"), "{outside:?}");
}

#[test]
fn reading_can_be_opened_to_anybody() {
    let options = &["--group", GROUP, "--read-access", "any"];
    let setup = Setup { tools: &["setpriv"], daemon_options: options, ..Setup::default() };
    let Some(world) = World::new(&setup) else { return };
    world.start_network("hostntw", &xml::hostntw());
    let dump = as_user(&world, None, &["net-dumpxml", "hostntw"]).expect_ok("net-dumpxml");
    assert!(dump.contains("<name>hostntw</name>"), "{dump}");
    let refused = as_user(&world, None, &["net-destroy", "hostntw"]);
    assert_eq!(refused.code, Some(1));
    let words = format!("authentication failed: user {USER} may read but not change networks");
    assert!(refused.err.contains(&words) && refused.err.contains(GROUP), "{refused:?}");
    assert_eq!(world.works(&["net-list", "--name"]), "hostntw\n");
    let _ = as_user(&world, Some(GROUP), &["net-destroy", "hostntw"]).expect_ok("net-destroy");
}

/// The next event as `network event detail`.
fn heard(events: &mut Api) -> String {
    let event = events.receive().expect("an event");
    let word = |field: &str| event["parameters"][field].as_str().unwrap_or("?").to_owned();
    assert!(event["parameters"]["time_ms"].as_u64().is_some_and(|time| time > 0), "{event}");
    format!("{} {} {}", word("network"), word("event"), word("detail"))
}

#[test]
fn events_tell_of_networks_and_interfaces() {
    let Some(world) = World::new(&Setup::default()) else { return };
    let mut events = world.api();
    assert_eq!(events.call("subscribe", &Value::Null), json!({ "reply": "subscribed" }));
    world.start_network("hostntw", &xml::hostntw());
    world.attach("g1", "hostntw", "eth0", "52:54:00:00:00:01");
    let _ = world.works(&["detach-interface", "--domain", "g1", "--type", "network"]);
    let _ = world.works(&["net-destroy", "hostntw"]);
    let _ = world.works(&["net-undefine", "hostntw"]);
    for expected in [
        "lifecycle defined",
        "lifecycle started",
        "port plugged",
        "port unplugged",
        "lifecycle stopped",
        "lifecycle undefined",
    ] {
        assert_eq!(heard(&mut events), format!("hostntw {expected}"));
    }
}

/// The next lease event of a network as `detail address`.
fn lease_heard(events: &mut Api) -> String {
    let event = events.receive().expect("an event");
    let event = &event["parameters"];
    assert_eq!((&event["event"], &event["network"]), (&json!("lease"), &json!("natntw")), "{event}");
    format!("{} {}", event["detail"].as_str().unwrap_or("?"), event["lease"]["ip"].as_str().unwrap_or("?"))
}

#[test]
fn events_tell_of_leases_also_after_control_was_replaced() {
    let Some(mut world) = World::new(&Setup::default()) else { return };
    world.start_network("natntw", &xml::natntw());
    let leases = json!({ "events": ["lease"], "network": "natntw" });
    let mut events = world.api();
    let _ = events.call("subscribe", &leases);
    let one = world.guest("g1", "natntw", "eth0", "52:54:00:00:00:01");
    assert_eq!(lease_heard(&mut events), format!("added {one}"));
    world.stop_daemon(Signal::KILL);
    world.start_daemon();
    let mut events = world.api();
    let _ = events.call("subscribe", &leases);
    let mut client = world.udhcpc("g1", "eth0");
    assert_eq!(bound_address(&mut client), one);
    assert_eq!(lease_heard(&mut events), format!("renewed {one}"));
    world.attach("g2", "natntw", "eth0", "52:54:00:00:00:02");
    let mut client = world.udhcpc("g2", "eth0");
    let two = bound_address(&mut client);
    assert_eq!(lease_heard(&mut events), format!("added {two}"));
    // It lets its address go.
    client.signal(Signal::USR2);
    assert_eq!(lease_heard(&mut events), format!("released {two}"));
}

#[test]
fn a_daemon_short_of_descriptors_serves_on() {
    let setup = Setup { prepare: "ulimit -n 128", ..Setup::default() };
    let Some(world) = World::new(&setup) else { return };
    let mut crowd: Vec<Api> = Vec::new();
    let socket = world.path("run/pontoon.sock");
    until("a crowd beyond the limit is connected", 20, || {
        crowd.extend(Api::connect(&socket));
        (crowd.len() >= 200).then_some(())
    });
    let start = Instant::now();
    assert_eq!(world.works(&["net-list", "--all", "--name"]), "\n");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    drop(crowd);
    world.start_network("hostntw", &xml::hostntw());
}
