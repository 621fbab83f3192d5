//! Loops between networks of pontoon and bridges of the kernel: they converge, and nothing storms.

use std::time::{Duration, Instant};

use pontoon_netns_tests::{Ear, Mouth, Setup, World, until, xml};
use serde_json::Value;

const SPEAKER: [u8; 6] = [0x52, 0x54, 0, 0x77, 0, 1];
const PAUSE: Duration = Duration::from_millis(10);
/// Copies of one broadcast that may arrive while a loop is being noticed.
const FEW: u32 = 40;

fn setup() -> Setup {
    Setup { workers: 2, tools: &["bridge"], ..Setup::default() }
}

/// A bridge of the kernel in a guest's namespace, with the guest's interfaces.
struct Kernel<'a> {
    world: &'a World,
    guest: &'static str,
    stp: bool,
    ports: Vec<&'static str>,
}

impl<'a> Kernel<'a> {
    fn new(world: &'a World, guest: &'static str, stp: bool) -> Self {
        let state = u8::from(stp);
        world.ip(
            guest,
            &format!("link add k0 type bridge stp_state {state} forward_delay 200 mcast_snooping 0"),
        );
        world.ip(guest, "link set k0 up");
        Self { world, guest, stp, ports: Vec::new() }
    }

    fn enslave(&mut self, dev: &'static str) {
        self.world.ip(self.guest, &format!("link set {dev} master k0"));
        self.ports.push(dev);
    }

    /// A file of sysfs, which shows the namespace it was mounted in.
    fn read(&self, path: &str) -> String {
        let path = format!("/sys/class/net/{path}");
        self.world.exec(self.guest, &["cat", &path]).out.trim().to_owned()
    }

    /// Ports that forward; `None` while one is on its way.
    fn forwarding(&self) -> Option<usize> {
        let states: Vec<String> =
            self.ports.iter().map(|dev| self.read(&format!("{dev}/brport/state"))).collect();
        let settled = states.iter().all(|state| state == "3" || state == "4");
        settled.then(|| states.iter().filter(|state| *state == "3").count())
    }

    fn root(&self) -> Option<String> {
        self.stp.then(|| self.read("k0/bridge/root_id"))
    }
}

fn showstp(world: &World, bridge: &str) -> Value {
    let text = world.pontoon(&["brctl", "showstp", bridge, "--json"]).expect_ok("showstp");
    serde_json::from_str(&text).expect("JSON")
}

/// States of a bridge's ports by name.
fn states(stp: &Value) -> Vec<(String, String)> {
    let ports = stp["ports"].as_array().cloned().unwrap_or_default();
    let text = |port: &Value, field: &str| port[field].as_str().unwrap_or_default().to_owned();
    ports.iter().map(|port| (text(port, "name"), text(port, "state"))).collect()
}

/// Ports of all bridges that do not forward; `None` while one listens or learns.
fn blocked(world: &World, bridges: &[&str], kernels: &[&Kernel<'_>]) -> Option<usize> {
    let mut count = 0;
    for bridge in bridges {
        for (_, state) in states(&showstp(world, bridge)) {
            match state.as_str() {
                "forwarding" => {}
                "blocking" => count += 1,
                _ => return None,
            }
        }
    }
    for kernel in kernels {
        count += kernel.ports.len() - kernel.forwarding()?;
    }
    Some(count)
}

/// Waits until exactly so many ports are blocked, and stay so for a second; how long that took.
fn converge(world: &World, expected: usize, bridges: &[&str], kernels: &[&Kernel<'_>]) -> Duration {
    let start = Instant::now();
    let mut since: Option<Instant> = None;
    until(&format!("{expected} ports are blocked"), 60, || {
        let right = blocked(world, bridges, kernels) == Some(expected);
        since = right.then(|| since.unwrap_or_else(Instant::now));
        since.filter(|since| since.elapsed() > Duration::from_secs(1))
    })
    .duration_since(start)
}

/// Networks `one` and `two`, a guest that speaks on the first and one that listens on the second.
fn two_networks() -> Option<(World, Mouth, Ear)> {
    let world = World::new(&setup())?;
    world.start_network("one", &xml::isolated("one", "virbr1", 110, 10));
    world.start_network("two", &xml::isolated("two", "virbr2", 120, 10));
    for guest in ["g3", "g4"] {
        world.add_namespace(guest);
    }
    world.attach("g3", "one", "speaker", "52:54:00:77:00:01");
    world.attach("g4", "two", "ear", "52:54:00:77:00:02");
    for (guest, last) in [("g1", 1), ("g2", 2)] {
        world.attach(guest, "one", ["a1", "a2"][last - 1], &format!("52:54:00:77:01:0{last}"));
        world.attach(guest, "two", ["b1", "b2"][last - 1], &format!("52:54:00:77:02:0{last}"));
    }
    let ear = Ear::on(&world.ns("g4"), "ear");
    let mouth = Mouth::on(&world.ns("g3"), "speaker", SPEAKER, PAUSE);
    Some((world, mouth, ear))
}

#[test]
fn two_networks_and_two_kernel_bridges_in_a_ring_converge_and_never_storm() {
    for (first, second) in [(false, false), (false, true), (true, true)] {
        let Some((world, mouth, ear)) = two_networks() else { return };
        let at = format!("kernel bridges with STP {first} and {second}");
        let mut k1 = Kernel::new(&world, "g1", first);
        ["a1", "b1"].into_iter().for_each(|dev| k1.enslave(dev));
        let line = converge(&world, 0, &["virbr1", "virbr2"], &[&k1]);
        let mut k2 = Kernel::new(&world, "g2", second);
        ["a2", "b2"].into_iter().for_each(|dev| k2.enslave(dev));
        let ring = converge(&world, 1, &["virbr1", "virbr2"], &[&k1, &k2]);
        let roots = ["virbr1", "virbr2"]
            .map(|bridge| showstp(&world, bridge)["designated_root"].as_str().unwrap_or_default().to_owned());
        for root in roots.iter().cloned().chain(k1.root()).chain(k2.root()) {
            assert_eq!(root, roots[0], "{at}: all agree on the root");
        }
        let quiet = mouth.next();
        mouth.wait(50);
        let counts = ear.counts();
        let once = (quiet..quiet + 45).filter(|number| counts.get(number) == Some(&1)).count();
        println!(
            "{at}: line after {} ms, ring after {} ms, at most {} copies of {} broadcasts",
            line.as_millis(),
            ring.as_millis(),
            ear.most(),
            counts.len()
        );
        assert_eq!(once, 45, "{at}: each broadcast arrives once: {:?}", counts.range(quiet..));
        assert!(ear.most() <= FEW, "{at}: {} copies", ear.most());
        failover(&world, &mouth, &ear, &k1, &at);
    }
}

/// Takes one half of the ring away; the other carries on.
fn failover(world: &World, mouth: &Mouth, ear: &Ear, k1: &Kernel<'_>, at: &str) {
    let start = Instant::now();
    world.ip(k1.guest, "link set a1 nomaster");
    let cut = mouth.next();
    mouth.wait(5);
    let back = until("broadcasts arrive again", 60, || {
        let newest = mouth.next().saturating_sub(3);
        let counts = ear.counts();
        (newest > cut + 5 && (newest - 2..newest).all(|number| counts.contains_key(&number)))
            .then(Instant::now)
    });
    println!("{at}: broadcasts arrive again {} ms after the cut", back.duration_since(start).as_millis());
    assert!(ear.most() <= FEW, "{at}: {} copies", ear.most());
}

#[test]
fn two_ports_of_one_network_in_one_kernel_bridge_leave_one_open() {
    for stp in [false, true] {
        let Some(world) = World::new(&setup()) else { return };
        world.start_network("one", &xml::isolated("one", "virbr1", 110, 10));
        world.add_namespace("g3");
        world.attach("g3", "one", "speaker", "52:54:00:77:00:01");
        world.attach("g1", "one", "a1", "52:54:00:77:01:01");
        world.attach("g1", "one", "a2", "52:54:00:77:01:02");
        let mut kernel = Kernel::new(&world, "g1", stp);
        let ear = Ear::on(&world.ns("g1"), "k0");
        let back = Ear::on(&world.ns("g3"), "speaker");
        let mouth = Mouth::on(&world.ns("g3"), "speaker", SPEAKER, PAUSE);
        mouth.wait(20);
        ["a1", "a2"].into_iter().for_each(|dev| kernel.enslave(dev));
        let took = converge(&world, 1, &["virbr1"], &[&kernel]);
        let quiet = mouth.next();
        mouth.wait(50);
        let counts = ear.counts();
        let once = (quiet..quiet + 45).filter(|number| counts.get(number) == Some(&1)).count();
        println!(
            "kernel bridge with STP {stp}: one port blocked after {} ms, at most {} copies there, {} back at the speaker",
            took.as_millis(),
            ear.most(),
            back.most()
        );
        assert_eq!(once, 45, "{:?}", counts.range(quiet..));
        assert!(ear.most() <= FEW && back.most() <= FEW);
    }
}

/// A hairpin port of a kernel bridge sends back all it gets, our BPDUs too.
#[test]
fn a_port_that_gets_back_what_it_sends_is_closed_until_that_ends() {
    let Some(world) = World::new(&setup()) else { return };
    world.start_network("one", &xml::isolated("one", "virbr1", 110, 10));
    world.attach("g1", "one", "a1", "52:54:00:77:01:01");
    world.attach("g2", "one", "speaker", "52:54:00:77:00:01");
    let mut kernel = Kernel::new(&world, "g1", false);
    kernel.enslave("a1");
    let back = Ear::on(&world.ns("g2"), "speaker");
    let mouth = Mouth::on(&world.ns("g2"), "speaker", SPEAKER, PAUSE);
    mouth.wait(10);
    let _ = world.exec("g1", &["bridge", "link", "set", "dev", "a1", "hairpin", "on"]).expect_ok("hairpin");
    let took = converge(&world, 1, &["virbr1"], &[]);
    println!("closed after {} ms, at most {} copies came back", took.as_millis(), back.most());
    assert!(back.most() <= FEW);
    let _ = world.exec("g1", &["bridge", "link", "set", "dev", "a1", "hairpin", "off"]).expect_ok("hairpin");
    let took = converge(&world, 0, &["virbr1"], &[]);
    println!("open again after {} ms", took.as_millis());
}

#[test]
fn without_a_tree_bpdus_end_here_and_showstp_says_that_none_runs() {
    let Some(world) = World::new(&setup()) else { return };
    let text = xml::isolated("one", "virbr1", 110, 10).replace("stp='on'", "stp='off'");
    world.start_network("one", &text);
    world.attach("g1", "one", "a1", "52:54:00:77:01:01");
    world.attach("g2", "one", "a2", "52:54:00:77:01:02");
    let mut kernel = Kernel::new(&world, "g1", true);
    kernel.enslave("a1");
    let heard = world.capture("g2", "a2");
    std::thread::sleep(Duration::from_secs(5));
    let frames = heard.finish(&["stp", "frame"]);
    assert!(frames[0].is_empty(), "{}", frames[0]);
    let stp = showstp(&world, "virbr1");
    assert_eq!(stp["stp"], false);
    assert_eq!(states(&stp), [("a1".into(), "forwarding".into()), ("a2".into(), "forwarding".into())]);
    let status: Value = serde_json::from_str(&world.works(&["status", "--json"])).expect("JSON");
    let drops = status["status"]["drops"].to_string();
    assert!(drops.contains("link_local"), "{drops}");
    let _ = world.pontoon(&["brctl", "stp", "virbr1", "on"]).expect_ok("stp on");
    until("the kernel bridge's BPDUs are answered", 10, || {
        (kernel.root() == Some(showstp(&world, "virbr1")["designated_root"].as_str()?.to_owned()))
            .then_some(())
    });
    assert!(
        world.works(&["net-dumpxml", "one", "--inactive"]).contains("stp='on'"),
        "it is in the definition"
    );
}
