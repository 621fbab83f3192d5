//! Files that a bad disk has cut or changed: the daemon starts, and knows what it knew.

use std::fs;
use std::io::Write;
use std::path::Path;

use pontoon_netns_tests::{Setup, World, until, xml};
use rustix::process::Signal;

const MAC: &str = "52:54:00:d7:8d:61";
/// Places in each file at which it is cut and changed.
const PLACES: usize = 3;

/// Every way in which one file is hurt, and in words.
fn hurts(whole: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut all = vec![("empty".to_owned(), Vec::new()), ("junk".to_owned(), vec![0xa5; 4096])];
    for place in 0..PLACES {
        let at = (whole.len() - 1) * place / (PLACES - 1);
        all.push((format!("cut at {at}"), whole.get(..at).unwrap_or_default().to_vec()));
        let mut changed = whole.to_vec();
        changed.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1);
        all.push((format!("changed at {at}"), changed));
    }
    all
}

#[test]
fn a_daemon_that_finds_a_damaged_file_knows_what_it_knew() {
    let Some(mut world) = World::new(&Setup::default()) else { return };
    world.start_network("natntw", &xml::natntw());
    let _ = world.works(&["net-autostart", "natntw"]);
    let address = world.guest("g1", "natntw", "eth0", MAC);
    let stored = world.works(&["net-dumpxml", "natntw", "--inactive"]);
    for name in
        ["networks/natntw.xml", "networks/natntw.xml.bak", "leases/natntw.leases", "leases/natntw.leases.bak"]
    {
        let path = world.path("state").join(name);
        world.stop_daemon(Signal::TERM);
        let whole = fs::read(&path).expect("state");
        assert!(!whole.is_empty(), "{name}");
        for (how, hurt) in hurts(&whole) {
            fs::write(&path, hurt).expect("write");
            world.start_daemon();
            assert_eq!(world.works(&["net-list", "--name"]), "natntw\n", "{name} {how}");
            assert_eq!(world.works(&["net-dumpxml", "natntw", "--inactive"]), stored, "{name} {how}");
            let leases = world.works(&["net-dhcp-leases", "natntw"]);
            assert!(leases.contains(&address), "{name} {how}: {leases}");
            world.stop_daemon(Signal::TERM);
        }
        world.start_daemon();
    }
    let aside = fs::read_dir(world.path("state/networks")).expect("state").flatten();
    let aside = aside.filter(|entry| entry.file_name().to_string_lossy().contains("natntw.xml.bad-")).count();
    assert!((1..=9).contains(&aside), "{aside} files are set aside");
}

#[test]
fn a_damaged_note_of_what_runs_cuts_nobody_off() {
    let Some(mut world) = World::new(&Setup { tools: &["ping"], ..Setup::default() }) else { return };
    world.start_network("natntw", &xml::natntw());
    let address = world.guest("g1", "natntw", "eth0", MAC);
    let datapaths = world.datapaths();
    for name in ["run/live.json", "run/live.json.bak"] {
        let path = world.path(name);
        let whole = fs::read(&path).expect("note");
        for (how, hurt) in hurts(&whole) {
            world.stop_daemon(Signal::KILL);
            fs::write(&path, hurt).expect("write");
            world.start_daemon();
            assert_eq!(world.datapaths(), datapaths, "{name} {how}: the same datapath");
            assert_eq!(world.works(&["net-list", "--name"]), "natntw\n", "{name} {how}");
            let interfaces = world.works(&["domiflist", "g1"]);
            assert!(interfaces.contains("eth0"), "{name} {how}: {interfaces}");
        }
    }
    assert!(world.pings("host", &address));
    assert!(Path::new(&world.path("run/live.json.bak")).exists());
}

#[test]
fn a_lease_log_that_has_grown_goes_on_in_another_file() {
    let Some(mut world) = World::new(&Setup::default()) else { return };
    world.start_network("natntw", &xml::natntw());
    let one = world.guest("g1", "natntw", "eth0", MAC);
    let (log, part) = (world.path("state/leases/natntw.leases"), world.path("state/leases/natntw.leases.1"));
    // Empty lines mean nothing.
    let mut end = fs::OpenOptions::new().append(true).open(&log).expect("lease log");
    end.write_all(&vec![b'\n'; 1 << 20]).expect("write");
    until("another part is begun", 30, || part.exists().then_some(()));
    let length = fs::metadata(&log).expect("lease log").len();
    let two = world.guest("g2", "natntw", "eth0", "52:54:00:c6:3c:03");
    assert_eq!(fs::metadata(&log).expect("lease log").len(), length);
    let both = |world: &World| {
        let leases = world.works(&["net-dhcp-leases", "natntw"]);
        assert!(leases.contains(&one) && leases.contains(&two), "{leases}");
    };
    both(&world);
    world.stop_daemon(Signal::KILL);
    world.start_daemon();
    both(&world);
    world.stop_daemon(Signal::TERM);
    world.start_daemon();
    both(&world);
    let _ = world.works(&["net-start", "natntw"]);
    both(&world);
    assert!(!part.exists() && fs::metadata(&log).expect("lease log").len() < 1000, "it was made one again");
}
