//! A tutorial of 2017 about KVM networking, replayed command by command with links named `virsh` and `brctl` in the
//! layout of its time. What it shows has to come, up to identifiers, times, addresses drawn and blanks at line ends.

use pontoon_netns_tests::{Proc, Program, Setup, World, bound_address, until, xml};

const DEFAULT_UUID: &str = "8f7e6477-61df-4468-83fc-966d41d22302";
const DEFAULT_MAC: &str = "52:54:00:35:ac:06";

const LIST: &str = " Name                 State      Autostart     Persistent
----------------------------------------------------------
 default              active     yes           yes
";

const INFO_DEFAULT: &str = "Name:           default
UUID:           8f7e6477-61df-4468-83fc-966d41d22302
Active:         yes
Persistent:     yes
Autostart:      yes
Bridge:         virbr0
";

const SHOW_ALL: &str = "bridge name     bridge id               STP enabled     interfaces
virbr0          8000.52540035ac06       yes             virbr0-nic
                                                        vnet0
                                                        vnet1
";

const DUMP_DEFAULT: &str = "<network connections='1'>
  <name>default</name>
  <uuid>8f7e6477-61df-4468-83fc-966d41d22302</uuid>
  <forward mode='nat'>
    <nat>
      <port start='1024' end='65535'/>
    </nat>
  </forward>
  <bridge name='virbr0' stp='on' delay='0'/>
  <mac address='52:54:00:35:ac:06'/>
  <ip address='192.168.122.1' netmask='255.255.255.0'>
    <dhcp>
      <range start='192.168.122.2' end='192.168.122.254'/>
    </dhcp>
  </ip>
</network>
";

const LEASES_DEFAULT: &str = " Expiry Time          MAC address        Protocol  IP address                Hostname        Client ID or DUID
-------------------------------------------------------------------------------------------------------------------
 2018-01-21 12:56:45  52:54:00:58:e4:7f  ipv4      192.168.122.113/24        ubuntu1404      -
 2018-01-21 12:56:45  52:54:00:ae:45:66  ipv4      192.168.122.181/24        node-1          -
";

const INFO_NATNTW: &str = "Name:           natntw
UUID:           0c3b9a99-c14c-4317-84c4-e2fe245becbc
Active:         no
Persistent:     yes
Autostart:      no
Bridge:         virbr1
";

const LIST_THREE: &str = " Name                 State      Autostart     Persistent
----------------------------------------------------------
 default              active     yes           yes
 hostntw              active     yes           yes
 natntw               active     yes           yes
";

const SHOW_VIRBR2: &str = "bridge name     bridge id               STP enabled     interfaces
virbr2          8000.525400487bd9       yes             virbr2-nic
                                                        vnet2
";

const LEASES_HOSTNTW: &str = " Expiry Time          MAC address        Protocol  IP address                Hostname        Client ID or DUID
-------------------------------------------------------------------------------------------------------------------
 2018-01-21 14:26:15  52:54:00:d7:8d:61  ipv4      192.168.110.116/24        node-2          -
";

const INFO_NATNTW_ACTIVE: &str = "Name:           natntw
UUID:           0c3b9a99-c14c-4317-84c4-e2fe245becbc
Active:         yes
Persistent:     yes
Autostart:      yes
Bridge:         virbr1
";

const LEASES_NONE: &str = " Expiry Time          MAC address        Protocol  IP address                Hostname        Client ID or DUID
-------------------------------------------------------------------------------------------------------------------
";

const SHOW_VIRBR1: &str = "bridge name     bridge id               STP enabled     interfaces
virbr1          8000.525400b8ffb7       yes             virbr1-nic
";

const SHOW_VIRBR1_VNET3: &str = "bridge name     bridge id               STP enabled     interfaces
virbr1          8000.525400b8ffb7       yes             virbr1-nic
                                                        vnet3
";

const LEASES_NATNTW: &str = " Expiry Time          MAC address        Protocol  IP address                Hostname        Client ID or DUID
-------------------------------------------------------------------------------------------------------------------
 2018-01-21 14:56:36  52:54:00:c6:3c:03  ipv4      192.168.100.197/24        node-2          -
";

/// Words with the column each begins in; what the page could not foresee stands for its kind.
fn shape(text: &str) -> Vec<Vec<(usize, String)>> {
    text.trim_end().lines().map(|line| words(&expand(line))).collect()
}

fn expand(line: &str) -> String {
    line.chars().fold(String::new(), |mut text, c| {
        if c == '\t' {
            text.push_str(&" ".repeat(8 - text.len() % 8));
        } else {
            text.push(c);
        }
        text
    })
}

fn words(line: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut inside = false;
    for (column, c) in line.chars().enumerate() {
        match found.last_mut() {
            Some((_, word)) if inside && c != ' ' => word.push(c),
            _ if c != ' ' => found.push((column, c.to_string())),
            _ => {}
        }
        inside = c != ' ';
    }
    found.into_iter().map(|(column, word)| (column, kind(&word))).collect()
}

fn kind(word: &str) -> String {
    let pattern: String = word.chars().map(|c| if c.is_ascii_hexdigit() { 'x' } else { c }).collect();
    let subnet = word.strip_suffix("/24").and_then(|address| address.rsplit_once('.'));
    match (pattern.as_str(), subnet) {
        ("xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", _) if word != DEFAULT_UUID => "UUID".to_owned(),
        ("xx:xx:xx:xx:xx:xx", _) => "MAC".to_owned(),
        ("xxxx-xx-xx", _) => "DATE".to_owned(),
        ("xx:xx:xx", _) => "TIME".to_owned(),
        ("xxxx.xxxxxxxxxxxx", _) => "ID".to_owned(),
        (_, Some((subnet, _))) => format!("{subnet}.ADDRESS"),
        _ => word.to_owned(),
    }
}

#[track_caller]
fn replay(program: &Program, command: &str, page: &str) {
    let words: Vec<&str> = command.split(' ').collect();
    let said = program.run(&words);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{command}");
    assert_eq!(shape(&said.out), shape(page), "{command}\n--- here\n{}--- page\n{page}", said.out);
}

/// A guest that asks for an address under its own name and without a client identifier.
fn guest(world: &World, ns: &str, name: &str, dev: &str) -> (Proc, String) {
    let script = world.path("udhcpc.sh");
    let hostname = format!("hostname:{name}");
    let script = script.to_string_lossy();
    let words =
        ["busybox", "udhcpc", "-f", "-C", "-i", dev, "-s", &*script, "-x", &hostname, "-t", "8", "-T", "1"];
    let mut client = world.spawn(ns, &format!("udhcpc-{name}-{dev}"), &words);
    let address = bound_address(&mut client);
    (client, address)
}

#[test]
fn the_page_comes_true() {
    let Some(world) = World::new(&Setup { tools: &["ping"], ..Setup::default() }) else { return };
    world.ip("host", "route add default via 203.0.113.1");
    world.add_namespace("g3");
    let program = |name: &str| world.program(name).with("PONTOON_FORMAT", "legacy");
    let (virsh, brctl) = (program("virsh"), program("brctl"));
    let mut clients = Vec::new();

    let identity = format!("<uuid>{DEFAULT_UUID}</uuid>\n  <mac address='{DEFAULT_MAC}'/>\n  <forward");
    let _ = world
        .file("default.xml", &xml::shared("default", "virbr0", 122, 2).replacen("<forward", &identity, 1));
    for command in ["net-define default.xml", "net-start default", "net-autostart default"] {
        let said = virsh.run(&command.split(' ').collect::<Vec<_>>());
        assert!(said.ok(), "{command}: {}", said.err);
    }
    for (ns, name, kind, source, mac) in [
        ("g1", "ubuntu1404", "network", "default", "52:54:00:58:e4:7f"),
        ("g2", "node-1", "bridge", "virbr0", "52:54:00:ae:45:66"),
    ] {
        let netns = world.ns(ns);
        let words = ["attach-interface", name, kind, source, "--mac", mac, "--netns", &netns];
        assert!(virsh.run(&words).ok());
        let dev = if ns == "g1" { "vnet0" } else { "vnet1" };
        clients.push(guest(&world, ns, name, dev));
    }
    replay(&virsh, "net-list --all", LIST);
    replay(&virsh, "net-info default", INFO_DEFAULT);
    replay(&brctl, "show", SHOW_ALL);
    replay(&virsh, "net-dumpxml default", DUMP_DEFAULT);
    replay(&virsh, "net-dhcp-leases default", LEASES_DEFAULT);

    let _ = world.file("nat.xml", &xml::shared("natntw", "virbr1", 100, 10));
    replay(&virsh, "net-define nat.xml", "Network natntw defined from nat.xml");
    replay(&virsh, "net-info natntw", INFO_NATNTW);
    replay(&virsh, "net-start natntw", "Network natntw started");
    let link = world.ip("host", "addr show dev virbr1");
    assert!(link.contains("inet 192.168.100.1/24 brd 192.168.100.255 scope global virbr1"), "{link}");
    replay(&virsh, "net-autostart natntw", "Network natntw marked as autostarted");
    let _ = world.file("hostonly.xml", &xml::hostntw());
    replay(&virsh, "net-define hostonly.xml", "Network hostntw defined from hostonly.xml");
    replay(&virsh, "net-start hostntw", "Network hostntw started");
    replay(&virsh, "net-autostart hostntw", "Network hostntw marked as autostarted");
    replay(&virsh, "net-list", LIST_THREE);

    let netns = world.ns("g3");
    let install =
        ["attach-interface", "node-2", "bridge", "virbr2", "--mac", "52:54:00:d7:8d:61", "--netns", &netns];
    assert!(virsh.run(&install).ok(), "what virt-install does for the page");
    replay(&brctl, "show virbr2", SHOW_VIRBR2);
    let (client, address) = guest(&world, "g3", "node-2", "vnet2");
    clients.push((client, address.clone()));
    replay(&virsh, "net-dhcp-leases hostntw", LEASES_HOSTNTW);
    assert!(world.pings("host", &address), "I am able to reach the VM");
    assert!(!world.pings("g3", "203.0.113.80"), "but cannot ping outside the VM's hostonly network");

    replay(&virsh, "net-info natntw", INFO_NATNTW_ACTIVE);
    replay(&virsh, "net-dhcp-leases natntw", LEASES_NONE);
    replay(&brctl, "show virbr1", SHOW_VIRBR1);
    let attach = "attach-interface --domain node-2 --type bridge --source virbr1 --model virtio --config";
    replay(&virsh, attach, "Interface attached successfully");
    replay(&brctl, "show virbr1", SHOW_VIRBR1_VNET3);
    // The page restarts the VM here; a namespace gets its interface by a move.
    world.ip("host", &format!("link set vnet3 netns {netns}"));
    clients.push(guest(&world, "g3", "node-2", "vnet3"));
    replay(&virsh, "net-dhcp-leases natntw", LEASES_NATNTW);
    until("Ping is now working", 10, || world.pings("g3", "google.com").then_some(()));
}

#[test]
fn the_present_layout_is_what_comes_without_asking() {
    let Some(world) = World::new(&Setup::default()) else { return };
    let virsh = world.program("virsh");
    let modern = virsh.run(&["net-list"]).out;
    assert!(modern.starts_with(" Name   State   Autostart   Persistent\n"), "{modern}");
    assert_eq!(
        virsh.clone().with("PONTOON_FORMAT", "legacy").run(&["net-list"]).out,
        virsh.run(&["net-list", "--format=legacy"]).out
    );
    let odd = virsh.run(&["net-list", "--format", "old"]);
    assert_eq!(
        (odd.code, odd.err.as_str()),
        (Some(1), "error: unknown format 'old': it is modern or legacy\n")
    );
}
