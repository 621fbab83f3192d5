//! DHCP with the clients people have.

use pontoon_netns_tests::{Proc, Setup, World, bound_address, until, xml};
use rustix::process::Signal;

const MAC1: &str = "52:54:00:d7:8d:61";
const MAC2: &str = "52:54:00:c6:3c:03";

/// The cells of the one lease of this MAC: expiry date, time, MAC, protocol, address, host name, client id.
fn lease(world: &World, network: &str, mac: &str) -> Option<Vec<String>> {
    let table = world.works(&["-q", "net-dhcp-leases", network]);
    let line = table.lines().find(|line| line.contains(mac))?;
    Some(line.split_whitespace().map(str::to_owned).collect())
}

fn dhclient(world: &World, log: &str, words: &[&str]) -> Proc {
    let conf = world.file(
        "dhclient.conf",
        "send host-name \"node-2\";\nrequest subnet-mask, routers, domain-name-servers;\ntimeout 20;\nretry 1;\n",
    );
    let path = |name: &str| world.path(name).to_string_lossy().into_owned();
    let (script, leases, pid) = (path("dhclient.sh"), path("dhclient.leases"), path("dhclient.pid"));
    let fixed = ["dhclient", "-4", "-v", "-cf", &conf, "-sf", &script, "-lf", &leases, "-pf", &pid];
    world.spawn("g2", log, &[&fixed[..], words].concat())
}

#[test]
fn udhcpc_gets_renews_and_releases_a_lease() {
    let Some(world) = World::new(&Setup::default()) else { return };
    world.start_network("natntw", &xml::natntw());
    let empty = " Expiry Time   MAC address   Protocol   IP address   Hostname   Client ID or DUID
-----------------------------------------------------------------------------------
";
    assert_eq!(world.works(&["net-dhcp-leases", "natntw"]), empty);
    world.attach("g1", "natntw", "eth0", MAC1);
    let mut client = world.udhcpc("g1", "eth0");
    let address = bound_address(&mut client);
    assert!(address.starts_with("192.168.100."), "{address}");
    let said = client.said();
    assert!(said.contains("router=192.168.100.1") && said.contains("dns=192.168.100.1"), "{said}");
    let cells = lease(&world, "natntw", MAC1).expect("a lease");
    let cell = |place: usize| cells.get(place).map(String::as_str);
    assert_eq!((cell(2), cell(3)), (Some(MAC1), Some("ipv4")));
    assert_eq!((cell(4), cell(5)), (Some(&*format!("{address}/24")), Some("g1")));
    let only = world.works(&["-q", "net-dhcp-leases", "natntw", "--mac", MAC2]);
    assert!(only.trim().is_empty(), "{only}");

    client.signal(Signal::USR1);
    let said = client.wait_said("event renew", 10);
    assert!(said.contains(&format!("event renew ip={address} ")), "{said}");
    client.signal(Signal::USR2);
    client.wait_said("event deconfig", 5);
    until("the lease is gone", 5, || lease(&world, "natntw", MAC1).is_none().then_some(()));
}

#[test]
fn dhclient_gets_a_lease_and_comes_back_to_it_without_discovering() {
    let Some(world) = World::new(&Setup { tools: &["dhclient", "ping"], ..Setup::default() }) else { return };
    world.start_network("hostntw", &xml::hostntw());
    world.attach("g2", "hostntw", "eth0", MAC2);
    let mut first = dhclient(&world, "dhclient-1", &["-d", "eth0"]);
    let said = first.wait_said("bound to ", 30);
    assert!(said.contains("DHCPDISCOVER") && said.contains("event BOUND"), "{said}");
    let (_, rest) = said.split_once("bound to ").expect("address");
    let address = rest.split(' ').next().unwrap_or_default().to_owned();
    assert!(address.starts_with("192.168.110."), "{address}");
    let cells = lease(&world, "hostntw", MAC2).expect("a lease");
    assert_eq!(cells.get(4..6), Some(&[format!("{address}/24"), "node-2".to_owned()][..]));
    // No goodbye: the client's next start asks for what it had.
    first.stop(Signal::KILL);

    let mut second = dhclient(&world, "dhclient-2", &["-d", "eth0"]);
    let said = second.wait_said("bound to ", 30);
    assert!(said.contains(&format!("bound to {address} ")), "{said}");
    assert!(said.contains("DHCPREQUEST") && !said.contains("DHCPDISCOVER"), "{said}");

    // The client removes its address right after it sent the release, which is lost if it still waits for ARP.
    assert!(world.pings("g2", "192.168.110.1"));
    let mut release = dhclient(&world, "dhclient-3", &["-r", "eth0"]);
    assert!(release.wait(20).success(), "{}", release.said());
    until("the lease is gone", 5, || lease(&world, "hostntw", MAC2).is_none().then_some(()));
}

#[test]
fn leases_survive_a_restart_of_the_daemon() {
    let Some(mut world) = World::new(&Setup { tools: &["ping"], ..Setup::default() }) else { return };
    world.start_network("natntw", &xml::natntw());
    let _ = world.works(&["net-autostart", "natntw"]);
    let before = world.guest("g1", "natntw", "eth0", MAC1);
    let held = lease(&world, "natntw", MAC1);
    world.stop_daemon(Signal::TERM);
    world.start_daemon();
    until("natntw starts", 10, || world.works(&["net-list", "--name"]).contains("natntw").then_some(()));
    assert_eq!(lease(&world, "natntw", MAC1), held);
    // Somebody else first: the address is still taken.
    let other = world.guest("g2", "natntw", "eth0", MAC2);
    assert_ne!(other, before);
    let after = world.guest("g1", "natntw", "eth0", MAC1);
    assert_eq!(after, before);
    assert!(world.pings("g1", &other));
}
