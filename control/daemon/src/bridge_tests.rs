use super::*;
use crate::document;
use crate::testing::{accepted, connect, define, refused, scratch, state};
use pontoon_proto::Document;
use pontoon_proto::api::{Request, Response};

struct Running {
    root: std::path::PathBuf,
    state: State,
    _events: std::sync::mpsc::Receiver<crate::link::Event>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

/// A datapath that agrees, and a defined and running network with two interfaces.
fn running(name: &str, parts: &str) -> Running {
    let root = scratch(name);
    let mut state = state(&root);
    let events = connect(&mut state);
    accepted(define(&mut state, &format!("<network><name>n</name>{parts}</network>")));
    let network = state.defined.get("n").cloned().expect("defined");
    state.live.networks.push(LiveNetwork::new(1, 1, None, network));
    for (port, ifname) in [(5, "vnet0"), (7, "vnet1")] {
        let (domain, ifname) = (ifname.to_owned(), ifname.to_owned());
        let mac = [0x52, 0x54, 0, 0, 0, port as u8];
        state.live.guests.push(Guest { port, network: 1, domain, mac, ifname, ..Guest::default() });
    }
    state.apply().expect("applied");
    Running { root, state, _events: events }
}

const BRIDGE: &str = "<bridge name='br-x' stp='on' delay='0'/>";

impl Running {
    fn set(&mut self, change: BridgeChange) -> Response {
        self.state.answer(Request::BridgeSet { bridge: "br-x".into(), change })
    }

    fn document(&self) -> Document {
        document::build(&self.state.live, &BTreeSet::new(), &self.state.resolvers)
    }

    fn stp(&self) -> Option<Stp> {
        self.document().networks[0].bridging.stp
    }

    fn port(&self, index: usize) -> PortBridging {
        self.document().ports[index].bridging.clone()
    }

    fn dump(&mut self, inactive: bool) -> String {
        match accepted(self.state.answer(Request::NetDumpxml { network: "n".into(), inactive })) {
            Reply::Xml { xml } => xml,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_the_definition_says_reaches_the_document() {
    let stp = |forward_delay| Some(Stp { priority: 0x8000, max_age: 2000, hello: 200, forward_delay });
    assert_eq!(running("stp-0", BRIDGE).stp(), stp(200), "libvirt's delay of 0 is a kernel's 2 s");
    let cases = [("stp='on' delay='7'", stp(700)), ("delay='99'", stp(3000)), ("stp='off'", None)];
    for (attributes, expected) in cases {
        let text = format!("<bridge name='br-x' {attributes}/>");
        assert_eq!(running("stp-n", &text).stp(), expected, "{attributes}");
    }
    let numbers: Vec<_> =
        running("stp-p", BRIDGE).document().ports.iter().map(|p| p.bridging.number).collect();
    assert_eq!(numbers, [1, 2, 3]);
}

#[test]
fn isolation_and_fixed_addresses_follow_the_definition() {
    let isolated = |parts: &str| running("isolated", &format!("{BRIDGE}{parts}")).port(1).isolated;
    assert!(!isolated("") && isolated("<port isolated='yes'/>"));
    let group = "<portgroup name='a' default='yes'><port isolated='no'/></portgroup>";
    assert!(!isolated(&format!("<port isolated='yes'/>{group}")), "the portgroup goes first");
    let fixed = running("fixed", "<bridge name='br-x' stp='on' delay='0' macTableManager='libvirt'/>");
    assert!(fixed.document().networks[0].bridging.fixed);
    assert_eq!(fixed.port(2).macs, [[0x52, 0x54, 0, 0, 0, 7]]);
    assert!(fixed.port(0).macs.is_empty());
}

#[test]
fn stp_and_delay_are_kept_in_both_definitions() {
    let mut running = running("persist", BRIDGE);
    accepted(running.set(BridgeChange::Stp { on: false }));
    accepted(running.set(BridgeChange::ForwardDelay { time: 50 }));
    for inactive in [true, false] {
        let text = running.dump(inactive);
        assert!(text.contains("<bridge name='br-x' stp='off' delay='1'/>"), "{text}");
    }
    assert_eq!(running.stp(), None);
    accepted(running.set(BridgeChange::Stp { on: true }));
    assert_eq!(
        running.stp().map(|stp| stp.forward_delay),
        Some(200),
        "what was 0.5 s is the least a tree has"
    );
    accepted(running.set(BridgeChange::ForwardDelay { time: 250 }));
    assert_eq!(running.stp().map(|stp| stp.forward_delay), Some(250));
    assert!(running.dump(true).contains("delay='3'"), "the definition has whole seconds");
    accepted(running.set(BridgeChange::ForwardDelay { time: 400 }));
    assert_eq!(running.stp().map(|stp| stp.forward_delay), Some(400));
}

#[test]
fn other_settings_last_while_the_network_is_active() {
    let mut running = running("settings", BRIDGE);
    let stored = running.dump(true);
    for change in [
        BridgeChange::Priority { priority: 4096 },
        BridgeChange::Hello { time: 150 },
        BridgeChange::MaxAge { time: 600 },
        BridgeChange::Ageing { time: 1001 },
        BridgeChange::PathCost { port: "vnet1".into(), cost: 9 },
        BridgeChange::PortPriority { port: "3".into(), priority: 63 },
        BridgeChange::Hairpin { port: "vnet1".into(), on: true },
        BridgeChange::Static { port: "vnet1".into(), mac: "02:00:00:00:00:01".into(), on: true },
    ] {
        let asked = format!("{change:?}");
        let before = running.state.live.generation;
        accepted(running.set(change.clone()));
        assert_eq!(running.state.live.generation, before + 1, "{asked}");
        accepted(running.set(change));
        assert_eq!(running.state.live.generation, before + 1, "{asked}: the same again changes nothing");
    }
    let stp = Stp { priority: 4096, max_age: 600, hello: 150, forward_delay: 200 };
    assert_eq!((running.stp(), running.document().networks[0].ageing_seconds), (Some(stp), 11));
    let macs = vec![[2, 0, 0, 0, 0, 1]];
    let port = PortBridging { number: 3, priority: 63, cost: 9, hairpin: true, macs, ..running.port(2) };
    assert_eq!(running.port(2), port);
    assert_eq!(running.dump(true), stored);
    let noted = Live::load(running.state.store.disk(), &running.root.join("live.json"));
    assert_eq!(noted.bridging, running.state.live.bridging, "the next control process knows them");
    running.state.live.networks.clear();
    running.state.live.guests.clear();
    running.state.live.number_ports().expect("numbers");
    assert_eq!(running.state.live.bridging, Settings::default());
}

#[test]
fn refusals_are_the_kernel_s_words() {
    let mut running = running("refusals", BRIDGE);
    let range = "Numerical result out of range";
    let vnet = || "vnet0".to_owned();
    let cases = [
        (BridgeChange::Hello { time: 99 }, range),
        (BridgeChange::Hello { time: 1001 }, range),
        (BridgeChange::MaxAge { time: 599 }, range),
        (BridgeChange::ForwardDelay { time: 100 }, range),
        (BridgeChange::PathCost { port: vnet(), cost: 0 }, range),
        (BridgeChange::PathCost { port: vnet(), cost: 65_536 }, range),
        (BridgeChange::PortPriority { port: vnet(), priority: 64 }, range),
        (BridgeChange::PathCost { port: "1".into(), cost: 5 }, "No such device"),
        (BridgeChange::Hairpin { port: "vnet9".into(), on: true }, "No such device"),
    ];
    for (change, expected) in cases {
        let asked = format!("{change:?}");
        assert_eq!(refused(running.set(change)).message, expected, "{asked}");
    }
    let other = Request::BridgeSet { bridge: "br-y".into(), change: BridgeChange::Stp { on: true } };
    assert_eq!(refused(running.state.answer(other)).message, "No such device");
    running.state.live.guests[1].ifname = vnet();
    let twice = refused(running.set(BridgeChange::PathCost { port: vnet(), cost: 5 }));
    assert_eq!(twice.message, "several interfaces are named vnet0");
    accepted(running.set(BridgeChange::PathCost { port: "2".into(), cost: 5 }));
    assert_eq!(running.port(1).cost, 5);
}

#[test]
fn a_bridge_is_full_at_1023_ports_and_says_so() {
    let mut running = running("full", BRIDGE);
    let guest = running.state.live.guests[0].clone();
    let more = (0..1020).map(|n| Guest { port: 100 + n, ifname: format!("v{n}"), ..guest.clone() });
    running.state.live.guests.extend(more);
    running.state.live.number_ports().expect("1022 guests");
    running.state.live.guests.push(Guest { port: 3000, ..guest });
    let full = running.state.live.number_ports().expect_err("full");
    assert_eq!(full.message, "operation failed: bridge br-x has no port number left");
    running.state.live.guests.remove(3);
    running.state.live.number_ports().expect("a number came free");
}
