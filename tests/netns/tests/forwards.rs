//! Ports of the outside that lead to guests: asked with curl from the internet and from guests.

use pontoon_netns_tests::{Setup, World, until, xml};

const MAC1: &str = "52:54:00:d7:8d:61";
const MAC2: &str = "52:54:00:d7:8d:62";
const HOST: &str = "203.0.113.3";

/// Who the server behind a URL says that asks it; `None` when nobody answers.
fn asks(world: &World, which: &str, url: &str) -> Option<String> {
    let said = world.exec(which, &["curl", "-sS", "-m", "2", url]);
    let text = said.ok().then(|| said.out.clone())?;
    let (address, _) = text.strip_prefix("you are ")?.split_once(" port ")?;
    Some(address.to_owned())
}

fn url(address: &str, port: u16) -> String {
    format!("http://{address}:{port}/")
}

/// Two guests on natntw, one on another network with the same uplink; the first one serves.
fn world(workers: u16, shared: bool) -> Option<World> {
    let mut world = World::new(&Setup { workers, tools: &["curl"], ..Setup::default() })?;
    world.ip("host", "route add default via 203.0.113.1");
    let make = if shared { xml::shared } else { xml::nat };
    world.start_network("natntw", &make("natntw", "virbr1", 100, 10));
    let _ = world.guest("g1", "natntw", "eth0", MAC1);
    let _ = world.guest("g2", "natntw", "eth0", MAC2);
    world.serve("g1", 80);
    Some(world)
}

fn on_a_shared_or_direct_uplink(shared: bool) {
    for workers in [1, 2] {
        let Some(mut world) = world(workers, shared) else { return };
        let outside = if shared { HOST } else { "203.0.113.2" };
        assert_eq!(asks(&world, "net", &url(outside, 8080)), None);
        let add =
            ["port-forward", "add", "natntw", "8080:80", "8443:80", "--guest", "g1", "--live", "--config"];
        assert_eq!(world.works(&add), "Port forwards added to network natntw\n");
        for port in [8080, 8443] {
            let seen = asks(&world, "net", &url(outside, port));
            assert_eq!(seen.as_deref(), Some("203.0.113.1"), "the client's own address");
        }
        let seen = asks(&world, "g2", &url(outside, 8080));
        assert_eq!(seen.as_deref(), Some(outside), "from the same network by the external address");
        let target = format!("{}20m", url(outside, 8080));
        let big = ["curl", "-sS", "-m", "20", "-o", "/dev/null", "-w", "%{size_download}", &target];
        assert_eq!(world.exec("net", &big).expect_ok("curl"), "20000000");
        from_another_network(&mut world, shared, outside);
        let list = world.works(&["port-forward", "list", "natntw"]);
        assert!(list.contains(" tcp        *         8080    g1      80\n"), "{list}");
        let again = world.pontoon(&["port-forward", "add", "natntw", "8080", "--guest", "g2"]);
        assert!(
            again.err.contains("tcp port 8080 of network 'natntw' is forwarded to 'g1' already"),
            "{}",
            again.err
        );
        let gone = ["port-forward", "delete", "natntw", "8080", "--live", "--config"];
        assert_eq!(world.works(&gone), "Port forward deleted from network natntw\n");
        assert_eq!(asks(&world, "net", &url(outside, 8080)), None);
        assert!(asks(&world, "net", &url(outside, 8443)).is_some(), "the other one stays");
        // What was stored is there again after a restart of the network.
        let _ = world.works(&["net-destroy", "natntw"]);
        let _ = world.works(&["net-start", "natntw"]);
        let _ = world.guest("g1", "natntw", "eth0", MAC1);
        assert!(asks(&world, "net", &url(outside, 8443)).is_some());
    }
}

fn from_another_network(world: &mut World, shared: bool, outside: &str) {
    let make = if shared { xml::shared } else { xml::nat };
    world.start_network("other", &make("other", "virbr3", 130, 10));
    world.add_namespace("g3");
    let _ = world.guest("g3", "other", "eth0", "52:54:00:d7:8d:63");
    let seen = asks(world, "g3", &url(outside, 8080));
    assert_eq!(seen.as_deref(), Some(outside), "from another network by the external address");
    let taken = world.pontoon(&["port-forward", "add", "other", "8080", "--guest", "g3"]);
    assert!(taken.err.contains("network 'natntw' has it"), "{}", taken.err);
    let _ = world.works(&["net-destroy", "other"]);
}

#[test]
fn clients_reach_a_guest_by_the_hosts_address() {
    on_a_shared_or_direct_uplink(true);
}

#[test]
fn clients_reach_a_guest_by_an_address_of_pontoons_own() {
    on_a_shared_or_direct_uplink(false);
}

#[test]
fn a_port_of_a_program_of_the_host_is_refused_with_its_name() {
    let Some(world) = world(1, true) else { return };
    world.serve("host", 8022);
    let add = |port: &str, proto: &str| {
        world.pontoon(&["port-forward", "add", "natntw", port, "--guest", MAC1, "--proto", proto])
    };
    let refused = add("8020-8030", "tcp");
    assert!(!refused.ok());
    let words = "tcp ports 8020-8030 of the host cannot be forwarded to network 'natntw': tcp 8022 of ";
    assert!(refused.err.contains(words) && refused.err.contains("(pid "), "{}", refused.err);
    assert!(add("8022", "udp").ok(), "another protocol");
    assert!(add("8088:80", "tcp").ok());
    assert_eq!(asks(&world, "net", &url(HOST, 8088)).as_deref(), Some("203.0.113.1"));
    let reserved = world.exec("host", &["cat", "/proc/sys/net/ipv4/ip_local_reserved_ports"]).out;
    assert_eq!(reserved.trim(), "8022,8088,61000-65535");
}

#[test]
fn a_forward_follows_its_guest_to_another_lease_and_to_a_static_address() {
    let Some(world) = world(2, true) else { return };
    for guest in [MAC1, "g1"] {
        let port = if guest == MAC1 { "8080:80" } else { "8081:80" };
        let _ = world.works(&["port-forward", "add", "natntw", port, "--guest", guest]);
    }
    let _ = world.works(&["port-forward", "add", "natntw", "8082:80", "--guest", "192.168.100.200"]);
    let both = |world: &World| {
        let answers = |port| asks(world, "net", &url(HOST, port)).is_some();
        answers(8080) && answers(8081)
    };
    assert!(both(&world));
    assert_eq!(asks(&world, "net", &url(HOST, 8082)), None);
    let host = format!("<host mac='{MAC1}' name='g1' ip='192.168.100.77'/>");
    let _ = world.works(&["net-update", "natntw", "add", "ip-dhcp-host", &host, "--live"]);
    world.ip("g1", "addr flush dev eth0");
    let mut client = world.udhcpc("g1", "eth0");
    assert_eq!(pontoon_netns_tests::bound_address(&mut client), "192.168.100.77");
    until("the forwards have followed", 5, || both(&world).then_some(()));
    // A guest that never asked for a lease is asked for by ARP.
    world.ip("g1", "addr add 192.168.100.200/24 dev eth0");
    assert!(asks(&world, "net", &url(HOST, 8082)).is_some());
}
