//! Two virtual machines on a NAT and a host-only network, in every way they can be plugged in.

use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

use pontoon_guest_tests::{Image, Machine, Nic};
use pontoon_netns_tests::{Setup, World, door, in_netns, until, xml};

const MAC1: &str = "52:54:00:11:22:01";
const MAC2: &str = "52:54:00:11:22:02";
const MAC3: &str = "52:54:00:11:22:03";

/// A world and what guests boot; `None` when the machine lacks something, which has then been printed.
fn stage() -> Option<(World, Image)> {
    let image = Image::get().inspect_err(|reason| println!("skipped: {reason}")).ok()?;
    let setup = Setup { workers: 2, tools: &["ping"], ..Setup::default() };
    Some((World::new(&setup)?, image))
}

/// What a banner's port says.
fn banner(world: &World, which: &str, address: &str) -> Option<String> {
    let (ns, address) = (world.ns(which), format!("{address}:22"));
    in_netns(&ns, || {
        let mut stream = TcpStream::connect_timeout(&address.parse().ok()?, Duration::from_secs(5)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    })
}

/// The whole story; `plug` says how an interface is plugged into a network, given its name, bridge and a number.
fn play(world: &World, image: &Image, plug: impl Fn(&str, &str, &str) -> Nic) -> (Machine, Machine) {
    world.start_network("natntw", &xml::natntw());
    world.start_network("hostntw", &xml::hostntw());
    let one = Machine::start(world, image, "node-1", &[(plug("natntw", "virbr1", MAC1), MAC1)]);
    let two = Machine::start(world, image, "node-2", &[(plug("hostntw", "virbr2", MAC2), MAC2)]);
    let (mut one, mut two) = (one, two);
    one.ready();
    two.ready();
    let (first, second) = (one.address("eth0"), two.address("eth0"));
    for (network, mac, address, name) in
        [("natntw", MAC1, &first, "node-1"), ("hostntw", MAC2, &second, "node-2")]
    {
        let leases = world.works(&["net-dhcp-leases", network]);
        let line = leases.lines().find(|line| line.contains(mac)).unwrap_or_default();
        assert!(line.contains(address.as_str()) && line.contains(name), "{leases}");
    }

    two.works("nc -ll -p 22 -e echo SSH-2.0-node-2 > /dev/null 2>&1 < /dev/null & sleep 0.2");
    assert_eq!(
        banner(world, "host", &second).as_deref(),
        Some("SSH-2.0-node-2\n"),
        "I am able to ssh to the VM"
    );
    assert!(world.pings("host", &second));
    let lost = two.run(
        "ping -c 1 -W 1 203.0.113.80; ip route add default via 192.168.110.1; ping -c 1 -W 1 203.0.113.80",
    );
    assert_ne!(lost.status, 0, "cannot ping outside: {}", lost.text);
    two.works("ip route del default");
    assert_ne!(two.run("nslookup -type=a google.com").status, 0, "unknown host google.com");
    one.works("ping -c 3 -i 0.3 -W 2 google.com");

    two.hot_plug(&plug("natntw", "virbr1", MAC3), MAC3);
    let hot = two.address("eth1");
    let leases = world.works(&["net-dhcp-leases", "natntw"]);
    assert!(leases.lines().any(|line| line.contains(MAC3) && line.contains(&hot) && line.contains("node-2")));
    two.works("ping -c 3 -i 0.3 -W 2 google.com");
    let page = two.works("wget -q -O - http://google.com/");
    assert!(page.starts_with("you are 203.0.113.2 port"), "{page}");
    let got = two.works("wget -q -O /tmp/f http://google.com/20m && stat -c %s /tmp/f");
    assert_eq!(got.trim(), "20000000", "twenty megabytes");
    assert!(one.works(&format!("nc -w 5 {hot} 22")).contains("SSH-2.0-node-2"), "guests reach each other");
    assert!(!world.pings("net", &hot), "nobody outside reaches the guest");
    (one, two)
}

#[test]
fn over_the_networks_sockets() {
    let Some((world, image)) = stage() else { return };
    let _machines = play(&world, &image, |network, _, _| Nic::Stream(door(&world, network)));
    let listed = world.works(&["domiflist", "node-2"]);
    assert!(listed.contains("hostntw") && listed.contains("natntw"), "the guest's name is known: {listed}");
}

#[test]
fn over_taps_that_qemu_holds() {
    let Some((world, image)) = stage() else { return };
    let count = std::cell::Cell::new(0);
    let machines = play(&world, &image, |network, _, mac| {
        let tap = format!("tap{}", count.replace(count.get() + 1));
        world.ip("host", &format!("tuntap add {tap} mode tap vnet_hdr"));
        let domain = if mac == MAC1 { "node-1" } else { "node-2" };
        let words = ["attach-interface", domain, "network", network, "--kind", "adopt", "--target", &tap];
        let _ = world.works(&[&words[..], &["--mac", mac]].concat());
        Nic::Tap(tap)
    });
    drop(machines);
    world.ip("host", "link del tap0");
    until("what hung on a device goes with it", 20, || {
        world.pontoon(&["domiflist", "node-1"]).err.contains("failed to get domain 'node-1'").then_some(())
    });
    assert!(world.works(&["detach-interface", "node-2", "network", "--mac", MAC3]).contains("detached"));
    assert!(world.ip("host", "link").contains("tap2"), "the device is not pontoon's to remove");
}

#[test]
fn over_vhost_user() {
    let Some((world, image)) = stage() else { return };
    let count = std::cell::Cell::new(0);
    let (mut one, mut two) = play(&world, &image, |network, _, mac| {
        let socket = world.path(&format!("vhost-{}", count.replace(count.get() + 1)));
        let domain = if mac == MAC1 { "node-1" } else { "node-2" };
        let path = socket.to_string_lossy().into_owned();
        let words =
            ["attach-interface", domain, "network", network, "--kind", "vhostuser", "--socket", &path];
        let _ = world.works(&[&words[..], &["--mac", mac]].concat());
        Nic::VhostUser(socket)
    });
    let (first, second) = (one.address("eth0"), two.address("eth0"));
    one.qemu().signal(rustix::process::Signal::STOP);
    assert!(world.pings("host", &second), "the other one answers");
    one.qemu().signal(rustix::process::Signal::CONT);
    until("it goes on", 20, || world.pings("host", &first).then_some(()));
    drop(one);
    assert!(world.pings("host", &second));
}

#[test]
fn by_the_bridge_helper() {
    let Some((world, image)) = stage() else { return };
    let helper = helper(&world, "allow virbr1\nallow virbr2\n");
    let _machines = play(&world, &image, |_, bridge, _| Nic::Bridge(bridge.to_owned(), helper.clone()));
    assert!(world.works(&["domiflist", "node-2"]).contains(MAC3), "its addresses are learned");
    let denied = Nic::Bridge("virbr1".to_owned(), self::helper(&world, "allow all\ndeny virbr1\n"));
    assert!(
        std::panic::catch_unwind(|| Machine::start(&world, &image, "node-3", &[(denied, MAC1)])).is_err()
    );
    let said = std::fs::read_to_string(world.path("qemu-node-3.log")).expect("log");
    assert!(said.contains("access denied by acl file"), "{said}");
}

/// The command QEMU is to run, with a list of its own.
fn helper(world: &World, acl: &str) -> String {
    let acl = world.file(&format!("acl-{}", acl.len()), acl);
    let socket = world.path("run/pontoon.sock");
    format!("{} --socket {} bridge-helper --acl={acl}", world.bin().display(), socket.display())
}

#[test]
fn a_killed_guest_leaves_nothing_and_a_stopped_one_delays_nobody() {
    let Some((world, image)) = stage() else { return };
    world.start_network("hostntw", &xml::hostntw());
    let nic = || Nic::Stream(door(&world, "hostntw"));
    let mut one = Machine::start(&world, &image, "node-1", &[(nic(), MAC1)]);
    let mut two = Machine::start(&world, &image, "node-2", &[(nic(), MAC2)]);
    one.ready();
    two.ready();
    let (first, second) = (one.address("eth0"), two.address("eth0"));
    assert!(world.pings("host", &first));
    one.qemu().signal(rustix::process::Signal::STOP);
    let _ = world
        .exec("host", &["ping", "-n", "-q", "-s", "1400", "-l", "3000", "-c", "3000", "-w", "1", &first]);
    assert!(world.drops("port_full") > 0, "{}", world.works(&["status"]));
    assert!(world.pings("host", &second), "the other one answers");
    one.qemu().signal(rustix::process::Signal::CONT);
    until("it goes on", 20, || world.pings("host", &first).then_some(()));
    drop(one);
    until("its interface is gone", 5, || {
        (!world.works(&["net-port-list", "hostntw", "--json"]).contains("node-1")).then_some(())
    });
    assert!(world.pings("host", &second));
}
