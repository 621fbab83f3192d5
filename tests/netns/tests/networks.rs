//! The steps of a libvirt user's day: define, start, list, dump, autostart, attach, detach.

use pontoon_netns_tests::{Setup, World, until, xml};

const MAC1: &str = "52:54:00:d7:8d:61";
const MAC2: &str = "52:54:00:c6:3c:03";

/// The value of a line of `net-info`.
fn fact(info: &str, label: &str) -> String {
    let line = info.lines().find_map(|line| line.strip_prefix(label));
    line.unwrap_or_else(|| panic!("no {label} in {info}")).trim().to_owned()
}

/// The text between the quotes after `words`.
fn quoted(text: &str, words: &str) -> String {
    let (_, rest) = text.split_once(words).unwrap_or_else(|| panic!("no {words} in {text}"));
    rest.split('\'').next().unwrap_or_default().to_owned()
}

#[test]
fn three_networks_are_defined_and_started_and_listed_as_virsh_does_it() {
    let Some(world) = World::new(&Setup::default()) else { return };
    let networks = [("default", xml::default()), ("natntw", xml::natntw()), ("hostntw", xml::hostntw())];
    for (name, text) in &networks {
        let file = world.file(&format!("{name}.xml"), text);
        let said = world.works(&["net-define", &file]);
        assert_eq!(said, format!("Network {name} defined from {file}\n"));
    }
    let expected = " Name      State      Autostart   Persistent
----------------------------------------------
 default   inactive   no          yes
 hostntw   inactive   no          yes
 natntw    inactive   no          yes
";
    assert_eq!(world.works(&["net-list", "--all"]), expected);
    for (name, _) in &networks {
        assert_eq!(world.works(&["net-start", name]), format!("Network {name} started\n"));
        assert_eq!(world.works(&["net-autostart", name]), format!("Network {name} marked as autostarted\n"));
    }
    let expected = " Name      State    Autostart   Persistent
--------------------------------------------
 default   active   yes         yes
 hostntw   active   yes         yes
 natntw    active   yes         yes
";
    assert_eq!(world.works(&["net-list"]), expected);
    let rows =
        " default   active   yes   yes\n hostntw   active   yes   yes\n natntw    active   yes   yes\n";
    assert_eq!(world.pontoon(&["-q", "net-list"]).out, rows, "columns without their headings");
    let expected = " Name                 State      Autostart     Persistent
----------------------------------------------------------
 default              active     yes           yes
 hostntw              active     yes           yes
 natntw               active     yes           yes
";
    assert_eq!(world.works(&["net-list", "--format=legacy"]), expected);
}

#[test]
fn a_network_is_described_by_info_and_dumpxml_and_seen_by_the_host() {
    let Some(world) = World::new(&Setup::default()) else { return };
    world.start_network("natntw", &xml::natntw());
    world.start_network("hostntw", &xml::hostntw());
    let info = world.works(&["net-info", "hostntw"]);
    let uuid = fact(&info, "UUID:");
    let expected = format!(
        "Name:           hostntw
UUID:           {uuid}
Active:         yes
Persistent:     yes
Autostart:      no
Bridge:         virbr2
"
    );
    assert_eq!(info, expected);
    assert_eq!(world.works(&["net-info", &uuid]), expected, "by its UUID");

    let dump = world.works(&["net-dumpxml", "hostntw"]);
    let mac = quoted(&dump, "<mac address='");
    let expected = format!(
        "<network>
  <name>hostntw</name>
  <uuid>{uuid}</uuid>
  <bridge name='virbr2' stp='on' delay='0'/>
  <mac address='{mac}'/>
  <ip address='192.168.110.1' netmask='255.255.255.0'>
    <dhcp>
      <range start='192.168.110.10' end='192.168.110.254'/>
    </dhcp>
  </ip>
</network>
"
    );
    assert_eq!(dump, expected);

    let dump = world.works(&["net-dumpxml", "natntw"]);
    let forward = "  <forward mode='nat'>\n    <nat>\n      <port start='1024' end='65535'/>\n    </nat>\n  </forward>\n";
    assert!(dump.contains(forward), "{dump}");
    for part in ["kind='direct'", "dev='up0'", "address='203.0.113.2/24'", "gateway='203.0.113.1'"] {
        assert!(dump.contains(part), "{part} in {dump}");
    }
    let again = world.file("again.xml", &world.works(&["net-dumpxml", "natntw", "--inactive"]));
    let _ = world.works(&["net-define", &again]);
    assert_eq!(world.works(&["net-dumpxml", "natntw"]), dump, "a dump defines the same network again");

    let link = world.ip("host", "addr show dev virbr1");
    assert!(link.contains("inet 192.168.100.1/24 brd 192.168.100.255"), "{link}");
    assert!(link.contains(&quoted(&dump, "<mac address='")), "{link}");
}

#[test]
fn interfaces_come_and_go_and_brctl_shows_them() {
    let Some(mut world) = World::new(&Setup { tools: &["ping"], ..Setup::default() }) else { return };
    world.start_network("natntw", &xml::natntw());
    let mac = quoted(&world.works(&["net-dumpxml", "natntw"]), "<mac address='");
    let id: String = mac.chars().filter(|c| *c != ':').collect();
    let head = "bridge name\tbridge id\t\tSTP enabled\tinterfaces\n";
    let empty = world.pontoon(&["-q", "brctl", "show", "virbr1"]).expect_ok("brctl");
    assert_eq!(empty.trim_end(), format!("{head}virbr1\t\t8000.{id}\tyes").trim_end());

    let bridge = ["attach-interface", "--domain", "node-2", "--type", "bridge", "--source", "virbr1"];
    let said = world.works(&[&bridge[..], &["--model", "virtio", "--config"]].concat());
    assert_eq!(said, "Interface attached successfully\n");
    let shown = world.pontoon(&["-q", "brctl", "show", "virbr1"]).expect_ok("brctl");
    assert_eq!(shown.trim_end(), format!("{head}virbr1\t\t8000.{id}\tyes\t\tvnet0"));
    let _ = world.works(&["detach-interface", "--domain", "node-2", "--type", "bridge"]);
    let shown = world.pontoon(&["-q", "brctl", "show", "virbr1"]).expect_ok("brctl");
    assert!(!shown.contains("vnet0"), "{shown}");

    for round in 0..3 {
        let address = world.guest("g1", "natntw", "eth0", MAC1);
        assert!(world.pings("host", &address), "round {round}");
        let said = world.works(&["detach-interface", "--domain", "g1", "--type", "network", "--mac", MAC1]);
        assert_eq!(said, "Interface detached successfully\n");
        until("the interface is gone", 5, || {
            (!world.ip("g1", "-o link show").contains("eth0")).then_some(())
        });
    }
}

#[test]
fn stopping_a_network_leaves_the_other_running() {
    let Some(mut world) = World::new(&Setup { tools: &["ping"], ..Setup::default() }) else { return };
    world.start_network("natntw", &xml::natntw());
    world.start_network("hostntw", &xml::hostntw());
    let address = world.guest("g1", "natntw", "eth0", MAC1);
    let _ = world.guest("g2", "hostntw", "eth0", MAC2);
    assert_eq!(world.works(&["net-destroy", "hostntw"]), "Network hostntw destroyed\n");
    assert!(!world.ip("host", "-o link show").contains("virbr2"), "virbr2 goes with its network");
    assert!(world.pings("host", &address));
    assert_eq!(world.works(&["net-undefine", "hostntw"]), "Network hostntw has been undefined\n");
    assert_eq!(world.works(&["net-list", "--all", "--name"]), "natntw\n");
    let _ = world.works(&["net-define", &world.path("hostntw.xml").to_string_lossy()]);
    assert_eq!(world.works(&["net-start", "hostntw"]), "Network hostntw started\n");
}

#[test]
fn networks_marked_so_start_with_the_daemon() {
    let Some(mut world) = World::new(&Setup::default()) else { return };
    world.start_network("natntw", &xml::natntw());
    world.start_network("hostntw", &xml::hostntw());
    let _ = world.works(&["net-autostart", "natntw"]);
    world.stop_daemon(rustix::process::Signal::TERM);
    assert!(!world.ip("host", "-o link show").contains("virbr"), "an orderly end removes the bridges");
    assert!(world.datapaths().is_empty(), "and the datapath");
    world.start_daemon();
    until("natntw starts by itself", 10, || {
        (world.works(&["net-list", "--name"]) == "natntw\n").then_some(())
    });
    assert_eq!(world.works(&["net-list", "--all", "--name"]), "hostntw\nnatntw\n");
}
