//! The verbs' answers. What needs no device runs everywhere; the rest wants a network namespace of its own:
//! `unshare -n cargo test -p pontoon-control -- --ignored`.

use pontoon_proto::api::{Attach, Reply, Request, Response};
use pontoon_proto::event::{Event, Lifecycle};
use pontoon_proto::request::{self, Class};

use crate::events::{Filter, Subscription};
use crate::netlink;
use crate::testing::{accepted, connect, define, refused, scratch, state};

/// All events that are waiting, in few words.
fn told(events: &Subscription) -> Vec<String> {
    std::iter::from_fn(|| events.next())
        .map(|reply| match reply {
            Reply::Event { event: Event::Lifecycle { subject, detail }, .. } => {
                let detail = match detail {
                    Lifecycle::Defined => "defined",
                    Lifecycle::Undefined => "undefined",
                    Lifecycle::Started => "started",
                    Lifecycle::Stopped => "stopped",
                };
                format!("{} {detail}", subject.network)
            }
            Reply::Event { event: Event::Port { subject, detail, interface, .. }, .. } => {
                format!("{} {interface} {detail:?}", subject.network)
            }
            other => format!("{other:?}"),
        })
        .collect()
}

#[test]
fn definitions_are_filled_in_kept_and_checked_against_each_other() {
    let root = scratch("define");
    let mut one = state(&root);
    accepted(define(&mut one, "<network><name>a</name></network>"));
    let uuid = one.info_of("a").uuid;
    accepted(define(&mut one, "<network><name>a</name><mtu size='1400'/></network>"));
    assert_eq!(one.info_of("a").uuid, uuid);
    let twin = format!("<network><name>b</name><uuid>{uuid}</uuid></network>");
    assert_eq!(
        refused(define(&mut one, &twin)).message,
        format!("operation failed: network 'a' is already defined with uuid {uuid}")
    );
    let other = "<network><name>a</name><uuid>3e3fce45-4f53-4fa7-bb32-11f34168b82b</uuid></network>";
    assert_eq!(
        refused(define(&mut one, other)).message,
        format!("operation failed: network 'a' already exists with uuid {uuid}")
    );
    let bridge = one.info_of("a").bridge.expect("bridge");
    let same = format!("<network><name>c</name><bridge name='{bridge}'/></network>");
    assert_eq!(
        refused(define(&mut one, &same)).message,
        format!("internal error: bridge name '{bridge}' already in use.")
    );
    assert!(refused(define(&mut one, "<network>")).detail.is_some());
    accepted(one.answer(Request::NetAutostart { network: uuid.clone(), disable: false }));
    drop(one);
    let again = state(&root);
    let info = again.info_of("a");
    assert_eq!((info.uuid, info.autostart, info.active, info.persistent), (uuid, true, false, true));
    std::fs::remove_dir_all(&root).expect("clean");
}

/// The document's own test sees to it that every method has an example.
#[test]
fn every_method_is_served_where_it_belongs() {
    let root = scratch("served");
    let mut state = state(&root);
    let examples = include_str!("../../API.md").split("```json\n").skip(1);
    let examples = examples.filter_map(|rest| rest.split("```").next());
    let requests: Vec<Request> =
        examples.filter_map(|example| request::parse(example.as_bytes()).ok()).collect();
    assert!(requests.len() >= request::methods().len());
    for request in requests.into_iter().filter(|request| !matches!(request, Request::Subscribe { .. })) {
        let reads = request.class() == Class::Read;
        assert_eq!(state.look_up(&request).is_some(), reads, "answered beside changes: {request:?}");
        if let Response::Error(failure) = state.answer(request) {
            assert!(!failure.message.contains("is not served"), "{}", failure.message);
        }
    }
    std::fs::remove_dir_all(&root).expect("clean");
}

#[test]
fn definitions_placed_by_hand_are_completed_and_copies_of_others_left_out() {
    let root = scratch("byhand");
    let mut one = state(&root);
    accepted(define(&mut one, "<network><name>a</name></network>"));
    let file = |name: &str| root.join(format!("networks/{name}.xml"));
    let text = std::fs::read_to_string(file("a")).expect("definition");
    std::fs::write(file("b"), text.replace("<name>a<", "<name>b<")).expect("write");
    std::fs::write(file("c"), "<network><name>c</name></network>").expect("write");
    drop(one);
    let again = state(&root);
    assert_eq!(again.defined.keys().collect::<Vec<_>>(), ["a", "c"]);
    let (a, c) = (again.info_of("a"), again.info_of("c"));
    assert!(c.bridge.is_some() && c.bridge != a.bridge && c.uuid != a.uuid, "{c:?}");
    assert_eq!(state(&root).info_of("c"), c, "it is the same at the next start");
    std::fs::remove_dir_all(&root).expect("clean");
}

#[test]
fn failures_have_libvirts_words() {
    let root = scratch("words");
    let mut state = state(&root);
    let events = state.events.subscribe(Filter::default());
    accepted(define(&mut state, "<network><name>a</name></network>"));
    let unknown = Request::NetStart { network: "x".into() };
    assert_eq!(
        refused(state.answer(unknown)).message,
        "Network not found: no network with matching name 'x'"
    );
    let inactive = "Requested operation is not valid: network 'a' is not active";
    assert_eq!(refused(state.answer(Request::NetDestroy { network: "a".into() })).message, inactive);
    let attach = Request::AttachInterface(Box::new(Attach {
        domain: "d".into(),
        kind: "network".into(),
        source: "a".into(),
        ..Attach::default()
    }));
    assert_eq!(refused(state.answer(attach)).message, inactive);
    let detach = Request::DetachInterface { domain: "d".into(), kind: "network".into(), mac: None };
    assert_eq!(refused(state.answer(detach)).message, "No interface found whose type is network");
    accepted(state.answer(Request::NetUndefine { network: "a".into() }));
    assert_eq!(accepted(state.answer(Request::NetList)), Reply::Networks { networks: Vec::new() });
    assert_eq!(told(&events), ["a defined", "a undefined"]);
    std::fs::remove_dir_all(&root).expect("clean");
}

#[test]
#[ignore = "makes taps: needs CAP_NET_ADMIN in a network namespace of its own"]
fn networks_and_interfaces_come_and_go() {
    let root = scratch("devices");
    let mut state = state(&root);
    let _events = connect(&mut state);
    let events = state.events.subscribe(Filter::default());
    let ip = "<ip address='192.168.122.1' netmask='255.255.255.0'><dhcp><range start='192.168.122.2' \
        end='192.168.122.9'/></dhcp></ip>";
    for name in ["a", "b", "bad"] {
        let ip = ip.replace("122", if name == "bad" { "150" } else { "122" });
        accepted(define(&mut state, &format!("<network><name>{name}</name>{ip}</network>")));
    }
    accepted(state.answer(Request::NetStart { network: "a".into() }));
    assert!(netlink::link("virbr0").expect("links").is_some());
    let clash = refused(state.answer(Request::NetStart { network: "b".into() }));
    assert_eq!(clash.message, "internal error: Network is already in use by interface virbr0");
    assert!(clash.detail.expect("detail").contains("192.168.123.0/24 is free"));
    assert!(refused(state.answer(Request::NetStart { network: "bad".into() })).message.contains("refused"));
    assert!(netlink::link("virbr2").expect("links").is_none());
    let attach = Request::AttachInterface(Box::new(Attach {
        domain: "d".into(),
        kind: "bridge".into(),
        source: "virbr0".into(),
        mac: Some("52:54:00:01:02:03".into()),
        ..Attach::default()
    }));
    let attached = Reply::Attached {
        interface: "vnet0".into(),
        mac: "52:54:00:01:02:03".into(),
        network: "a".into(),
        warnings: Vec::new(),
    };
    assert_eq!(accepted(state.answer(attach)), attached);
    assert!(netlink::link("vnet0").expect("links").is_some());
    let Reply::Xml { xml } =
        accepted(state.answer(Request::NetDumpxml { network: "a".into(), inactive: false }))
    else {
        panic!("no xml")
    };
    assert!(!xml.contains("connections"), "only a bridge was asked for: {xml}");
    let detach = |kind: &str| Request::DetachInterface { domain: "d".into(), kind: kind.into(), mac: None };
    let other = refused(state.answer(detach("network")));
    assert_eq!(other.message, "No interface found whose type is network");
    accepted(state.answer(detach("bridge")));
    assert!(netlink::link("vnet0").expect("links").is_none());
    accepted(state.answer(Request::NetDestroy { network: "a".into() }));
    assert!(netlink::link("virbr0").expect("links").is_none());
    let expected = [
        "a defined",
        "b defined",
        "bad defined",
        "a started",
        "a vnet0 Plugged",
        "a vnet0 Unplugged",
        "a stopped",
    ];
    assert_eq!(told(&events), expected);
    let sockets = crate::sys::open_packet(netlink::link("lo").expect("links").expect("lo").index, 2);
    assert_eq!(sockets.expect("packet sockets").len(), 2);
    std::fs::remove_dir_all(&root).expect("clean");
}
