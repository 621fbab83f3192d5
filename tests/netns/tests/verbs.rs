//! The command line as scripts that call virsh expect it: every byte on both outputs, every exit status.

use std::os::unix::fs::PermissionsExt;

use pontoon_netns_tests::{Program, Setup, World, until};

const UUID: &str = "8f7e6477-61df-4468-83fc-966d41d22302";
const LAB: &str = "<network>
  <name>lab</name>
  <uuid>8f7e6477-61df-4468-83fc-966d41d22302</uuid>
  <bridge name='virbr5' stp='on' delay='0'/>
  <mac address='52:54:00:35:ac:06'/>
  <ip address='192.168.150.1' netmask='255.255.255.0'>
    <dhcp>
      <range start='192.168.150.10' end='192.168.150.254'/>
    </dhcp>
  </ip>
</network>
";
const MAC: &str = "52:54:00:d7:8d:61";

/// One command: what it is given, its status, its standard output and its errors.
#[track_caller]
fn check(program: &Program, words: &[&str], code: i32, out: &str, err: &str) {
    let said = program.run(words);
    let shown = words.join(" ");
    assert_eq!(said.err, err, "standard error of {shown}");
    assert_eq!(said.out, out, "standard output of {shown}");
    assert_eq!(said.code, Some(code), "status of {shown}");
}

#[track_caller]
fn good(program: &Program, words: &[&str], out: &str) {
    check(program, words, 0, out, "");
}

/// Words that are fit for a shell's `split`.
fn cut(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

#[track_caller]
fn bad(program: &Program, line: &str, err: &str) {
    check(program, &cut(line), 1, "\n", err);
}

#[test]
fn a_network_s_life_in_virsh_s_words() {
    let Some(world) = World::new(&Setup::default()) else { return };
    let virsh = world.program("virsh");
    let _ = world.file("lab.xml", LAB);
    good(
        &virsh,
        &["net-list", "--all"],
        " Name   State   Autostart   Persistent\n----------------------------------------\n\n",
    );
    good(&virsh, &["net-define", "lab.xml"], "Network lab defined from lab.xml\n\n");
    good(&virsh, &["net-define", "--file=lab.xml", "--validate"], "Network lab defined from lab.xml\n\n");
    good(&virsh, &["-q", "net-define", "lab.xml"], "");
    let table = " Name   State      Autostart   Persistent
-------------------------------------------
 lab    inactive   no          yes

";
    good(&virsh, &["net-list", "--all"], table);
    good(&virsh, &["net-list", "--inactive", "--table"], table);
    good(&virsh, &["net-list", "--name"], "\n");
    good(&virsh, &["net-list", "--all", "--uuid"], &format!("{UUID}\n\n"));
    good(&virsh, &["net-list", "--all", "--transient", "--name"], "\n");
    good(&virsh, &["net-list", "--all", "--persistent", "--no-autostart", "--name"], "lab\n\n");
    good(&virsh, &["net-list", "--all", "--autostart", "--no-autostart", "--name"], "lab\n\n");
    good(&virsh, &["-q", "net-list", "--all"], " lab   inactive   no   yes\n");
    good(&virsh, &["net-start", "lab"], "Network lab started\n\n");
    good(&virsh, &["net-autostart", "lab"], "Network lab marked as autostarted\n\n");
    good(
        &virsh,
        &["net-autostart", UUID, "--disable"],
        &format!("Network {UUID} unmarked as autostarted\n\n"),
    );
    good(&virsh, &["net-name", UUID], "lab\n\n");
    good(&virsh, &["net-uuid", "lab"], &format!("{UUID}\n\n"));
    let info = format!(
        "Name:           lab\nUUID:           {UUID}\nActive:         yes\nPersistent:     yes\nAutostart:      no\nBridge:         virbr5\n\n"
    );
    good(&virsh, &["net-info", "lab"], &info);
    good(&virsh, &["net-dumpxml", "--network", "lab"], &format!("{LAB}\n"));
    good(&virsh, &["net-dumpxml", "lab", "--inactive"], &format!("{LAB}\n"));
    let range = "<range start=\"192.168.150.10\" end=\"192.168.150.254\"/>\n";
    good(&virsh, &["net-dumpxml", "lab", "--xpath", "//range"], &format!("{range}\n"));
    good(
        &virsh,
        &["net-dumpxml", "lab", "--xpath=//range", "--wrap"],
        &format!("<nodes>\n  {range}</nodes>\n\n"),
    );
    let leases = " Expiry Time   MAC address   Protocol   IP address   Hostname   Client ID or DUID
-----------------------------------------------------------------------------------

";
    good(&virsh, &["net-dhcp-leases", "lab"], leases);
    good(&virsh, &["net-destroy", "lab"], "Network lab destroyed\n\n");
    good(&virsh, &["net-undefine", "lab"], "Network lab has been undefined\n\n");
    good(&virsh, &["net-create", "lab.xml"], "Network lab created from lab.xml\n\n");
    good(
        &virsh,
        &["net-list", "--transient"],
        " Name   State    Autostart   Persistent\n-----------------------------------------\n lab    active   no          no\n\n",
    );
    good(&virsh, &["net-destroy", "lab"], "Network lab destroyed\n\n");
    good(&virsh, &["net-list", "--all", "--name"], "\n");
}

#[test]
fn refusals_have_libvirt_s_words() {
    let Some(world) = World::new(&Setup::default()) else { return };
    let virsh = world.program("virsh");
    let _ = world.file("lab.xml", LAB);
    let unknown = "error: failed to get network 'nosuch'\nerror: Network not found: no network with matching name 'nosuch'\n";
    for verb in [
        "net-start",
        "net-destroy",
        "net-undefine",
        "net-autostart",
        "net-info",
        "net-dumpxml",
        "net-uuid",
        "net-dhcp-leases",
        "net-edit",
        "net-desc",
        "net-port-list",
    ] {
        bad(&virsh, &format!("{verb} nosuch"), unknown);
    }
    bad(&virsh, "net-update nosuch paint it black", unknown);
    bad(&virsh, "net-metadata nosuch urn:a", unknown);
    bad(&virsh, "net-name nosuch", "error: failed to get network 'nosuch'\n");
    bad(
        &virsh,
        "net-name 00000000-0000-0000-0000-000000000000",
        "error: failed to get network '00000000-0000-0000-0000-000000000000'\nerror: Network not found: no network with matching uuid '00000000-0000-0000-0000-000000000000'\n",
    );
    bad(&virsh, "net-define none.xml", "error: Failed to open file 'none.xml': No such file or directory\n");
    bad(&virsh, "net-create .", "error: Failed to read file '.': Is a directory\n");
    good(&virsh, &["net-define", "lab.xml"], "Network lab defined from lab.xml\n\n");
    let invalid = "Requested operation is not valid:";
    bad(
        &virsh,
        "net-destroy lab",
        &format!("error: Failed to destroy network lab\nerror: {invalid} network 'lab' is not active\n"),
    );
    good(&virsh, &["net-start", "lab"], "Network lab started\n\n");
    bad(
        &virsh,
        "net-start lab",
        &format!("error: Failed to start network lab\nerror: {invalid} network is already active\n"),
    );
    bad(
        &virsh,
        "net-create lab.xml",
        &format!(
            "error: Failed to create network from lab.xml\nerror: {invalid} network is already active as 'lab'\n"
        ),
    );
    good(&virsh, &["net-undefine", "lab"], "Network lab has been undefined\n\n");
    bad(
        &virsh,
        "net-undefine lab",
        &format!(
            "error: Failed to undefine network lab\nerror: {invalid} can't undefine transient network\n"
        ),
    );
    bad(
        &virsh,
        "net-autostart lab",
        &format!(
            "error: failed to mark network lab as autostarted\nerror: {invalid} cannot set autostart for transient network\n"
        ),
    );
    bad(
        &virsh,
        "net-autostart lab --disable",
        &format!(
            "error: failed to unmark network lab as autostarted\nerror: {invalid} cannot set autostart for transient network\n"
        ),
    );
    bad(
        &virsh,
        "net-desc lab --config",
        &format!("error: {invalid} cannot change persistent config of a transient network\n"),
    );
    bad(
        &virsh,
        "net-dhcp-leases lab xx",
        "error: Failed to get leases info for lab\nerror: invalid MAC address: xx\n",
    );
    bad(
        &virsh,
        "net-list --name --uuid",
        "error: Only one argument from --table, --name and --uuid may be specified.\n",
    );
    bad(
        &virsh,
        "net-dumpxml lab --xpath count(//ip)",
        "error: internal error: Incorrect xpath 'count(//ip)'\n",
    );
    bad(&virsh, "net-event", "error: either --list or --event <type> is required\n");
    bad(&virsh, "net-event --event foo", "error: unknown event type foo\n");
    bad(
        &virsh,
        "net-event --event lifecycle --timeout 0",
        "error: Numeric value '0' for <timeout> option is malformed or out of range\n",
    );
    check(
        &virsh,
        &["net-info", ""],
        1,
        "\n",
        "error: Failed to get option 'network': Option argument is empty\n",
    );
    let similar = "error: failed to get network 'lba'\nerror: Network not found: no network with matching name 'lba'\ndid you mean 'lab'?\n";
    bad(&virsh, "net-info lba", similar);
}

#[test]
fn what_cannot_be_parsed_is_not_run_and_ends_without_an_empty_line() {
    let Some(world) = World::new(&Setup::default()) else { return };
    let virsh = world.program("virsh");
    let refused = |line: &str, err: &str| check(&virsh, &cut(line), 1, "", &format!("error: {err}\n"));
    refused("net-start", "command 'net-start' requires <network> option");
    refused("attach-interface node-2", "command 'attach-interface' requires <type> option");
    refused("net-list --foo", "command 'net-list' doesn't support option --foo");
    refused("net-list x", "unexpected data 'x'");
    refused("net-list --all --all", "option --all already seen");
    refused("net-list --all=x", "invalid '=' after option --all");
    refused("net-dumpxml lab --xpath", "expected syntax: --xpath <string>");
    refused("net-nope a", "unknown command: 'net-nope'");
    refused("--nope net-list", "unsupported option '--nope'. See --help.");
    refused("-c", "option '-c'/'--connect' requires an argument");
    let typo = "error: unknown command: 'net-lsit'\ndid you mean 'net-list'?\n";
    check(&virsh, &["net-lsit"], 1, "", typo);
    let foreign = "error: command 'vol-list' is not about networks; pontoon manages networks only\n\
        use libvirt's own virsh for it; `help` lists the commands that are here\n";
    check(&virsh, &["vol-list", "default"], 1, "", foreign);
    let shared = "error: failed to connect to the hypervisor\nerror: Operation not supported: \
        'qemu+ssh://there/system' is another host; pontoon manages networks of the host it runs on\n";
    check(&virsh, &["-c", "qemu+ssh://there/system", "net-list"], 1, "", shared);
    let read_only = "error: Failed to define network from -\nerror: operation forbidden: read only access prevents \
        virNetworkDefineXML\n";
    let _ = world.file("-", "<network><name>x</name></network>");
    check(&virsh, &["-r", "net-define", "-"], 1, "\n", read_only);
    good(&virsh, &["-c", "qemu:///system", "-q", "net-list", "--name"], "");
    check(&virsh, &["-v"], 0, "10.7.0\n", "");
    let nobody = world.program("virsh").with("PONTOON_SOCKET", "/nonexistent/socket");
    let unreachable = "error: failed to connect to the hypervisor\nerror: Failed to connect socket to \
        '/nonexistent/socket': No such file or directory\nstart it with: pontoon daemon\n";
    check(&nobody, &["net-list"], 1, "\n", unreachable);
}

#[test]
fn one_string_is_many_commands_and_so_is_standard_input() {
    let Some(world) = World::new(&Setup::default()) else { return };
    let virsh = world.program("virsh");
    let _ = world.file("lab.xml", LAB);
    good(
        &virsh,
        &["net-define lab.xml; net-uuid 'lab'"],
        &format!("Network lab defined from lab.xml\n\n{UUID}\n\n"),
    );
    check(
        &virsh,
        &["net-uuid nosuch; net-list --all --name"],
        0,
        "\nlab\n\n",
        "error: failed to get network 'nosuch'\nerror: Network not found: no network with matching name 'nosuch'\n",
    );
    check(&virsh, &["net-undefine lab; net-nope"], 1, "", "error: unknown command: 'net-nope'\n");
    good(&virsh, &["echo --shell \"a b\" c"], "'a b' c\n");
    let said = virsh.fed(&[], "net-list --all --name\n# nothing\nnet-nope\nquit\nnet-list\n");
    let expected = "Welcome to virsh, the virtualization interactive terminal.

Type:  'help' for help with commands
       'quit' to quit

virsh # net-list --all --name
lab

virsh # # nothing
virsh # net-nope
virsh # quit
";
    assert_eq!((said.out.as_str(), said.err.as_str()), (expected, "error: unknown command: 'net-nope'\n"));
    assert_eq!(said.code, Some(0));
    let said = virsh.fed(&["-q", "-r"], "net-list --all --name\n");
    assert_eq!((said.out.as_str(), said.code), ("virsh > net-list --all --name\nlab\nvirsh > \n", Some(0)));
    let pontoon = world.program("pontoon").fed(&["-q"], "net-list --all --name");
    assert_eq!(
        (pontoon.out.as_str(), pontoon.code),
        ("pontoon # net-list --all --name\nlab\npontoon # \n", Some(0))
    );
}

#[test]
fn titles_metadata_and_updates() {
    let Some(world) = World::new(&Setup::default()) else { return };
    let virsh = world.program("virsh");
    let _ = world.file("lab.xml", LAB);
    let _ = virsh.run(&["net-define", "lab.xml"]);
    good(&virsh, &["net-desc", "lab"], "No description for network: lab\n");
    good(&virsh, &["net-desc", "lab", "--title"], "No title for network: lab\n");
    good(
        &virsh,
        &["net-desc", "lab", "--title", "A", "small", "lab"],
        "Network title updated successfully\n",
    );
    good(
        &virsh,
        &["net-desc", "lab", "--new-desc", "of mine", "--config"],
        "Network description updated successfully\n",
    );
    good(&virsh, &["net-desc", "lab"], "of mine\n");
    good(&virsh, &["-q", "net-desc", "lab", "--title"], "A small lab");
    good(
        &virsh,
        &["net-list", "--all", "--title"],
        " Name   State      Autostart   Persistent   Title\n---------------------------------------------------------\n lab    inactive   no          yes          A small lab\n\n",
    );
    bad(&virsh, "net-desc lab --live", "error: Requested operation is not valid: network is not running\n");
    bad(
        &virsh,
        "net-desc lab --live --current",
        "error: Options --current and --live are mutually exclusive\n",
    );
    bad(
        &virsh,
        "net-metadata lab urn:app --set <a/>",
        "error: namespace key is required when modifying metadata\n",
    );
    bad(
        &virsh,
        "net-metadata lab urn:app --set <a/> --remove",
        "error: Options --remove and --set are mutually exclusive\n",
    );
    bad(
        &virsh,
        "net-metadata lab urn:app",
        "error: metadata not found: Requested metadata element is not present\n",
    );
    good(
        &virsh,
        &["net-metadata", "lab", "urn:app", "--key", "app", "--set", "<owner>me</owner>"],
        "Metadata modified\n\n",
    );
    good(&virsh, &["net-metadata", "lab", "urn:app"], "<owner>me</owner>\n\n");
    good(&virsh, &["net-metadata", "lab", "--uri", "urn:app", "--remove"], "Metadata removed\n\n");

    let host = format!("<host mac='{MAC}' name='node-2' ip='192.168.150.50'/>");
    let _ = world.file("host.xml", &host);
    good(
        &virsh,
        &["net-update", "lab", "add", "ip-dhcp-host", &host],
        "Updated network lab persistent config\n",
    );
    let exists = format!(
        "error: Failed to update network lab\nerror: Requested operation is not valid: there is an existing dhcp host entry in network 'lab' that matches \"{host}\"\n"
    );
    let said = virsh.run(&["net-update", "lab", "add-last", "ip-dhcp-host", "host.xml"]);
    assert!(said.err.starts_with(&exists) && said.err.contains("--> host.xml:1:1"), "{}", said.err);
    good(
        &virsh,
        &["net-update", "lab", "delete", "ip-dhcp-host", "host.xml", "--config"],
        "Updated network lab persistent config\n",
    );
    good(&virsh, &["net-start", "lab"], "Network lab started\n\n");
    good(
        &virsh,
        &["net-update", "lab", "add", "ip-dhcp-host", "host.xml"],
        "Updated network lab live state\n",
    );
    good(
        &virsh,
        &["net-update", "lab", "delete", "ip-dhcp-host", "host.xml", "--live"],
        "Updated network lab live state\n",
    );
    good(
        &virsh,
        &["net-update", "lab", "add", "ip-dhcp-host", "host.xml", "--live", "--config"],
        "Updated network lab persistent config and live state\n",
    );
    assert_eq!(virsh.run(&["net-dumpxml", "lab"]).out, virsh.run(&["net-dumpxml", "lab", "--inactive"]).out);
    bad(&virsh, "net-update lab paint ip-dhcp-host host.xml", "error: unrecognized command name 'paint'\n");
    bad(&virsh, "net-update lab add paint host.xml", "error: unrecognized section name 'paint'\n");
    bad(
        &virsh,
        "net-update lab add dns-txt none.xml",
        "error: Failed to open file 'none.xml': No such file or directory\n",
    );
    bad(
        &virsh,
        "net-update lab add dns-txt host.xml --parent-index x",
        "error: Numeric value 'x' for <parent-index> option is malformed or out of range\n",
    );
    let section = virsh.run(&["net-update", "lab", "add", "bridge", "<bridge/>"]);
    let words = "error: Failed to update network lab\nerror: Operation not supported: can't update 'bridge' section of network 'lab'\n";
    assert!(section.err.starts_with(words), "{}", section.err);
}

#[test]
fn interfaces_of_guests_and_their_ports() {
    let Some(world) = World::new(&Setup::default()) else { return };
    let virsh = world.program("virsh");
    let _ = world.file("lab.xml", LAB);
    let _ = virsh.run(&["net-create", "lab.xml"]);
    let unknown = "error: failed to get domain 'node-2'\n";
    devices(&world, &virsh);
    for line in [
        "domiflist node-2",
        "domifaddr node-2",
        "domifstat node-2 vnet0",
        "domif-getlink node-2 vnet0",
        "domif-setlink node-2 vnet0 up",
        "detach-interface node-2 bridge",
    ] {
        bad(&virsh, line, unknown);
    }
    good(
        &virsh,
        &["attach-interface", "n", "bridge", "virbr5", "--mac", MAC, "--print-xml"],
        &format!(
            "<interface type='bridge'>\n  <source bridge='virbr5'/>\n  <mac address='{MAC}'/>\n</interface>\n\n"
        ),
    );
    good(
        &virsh,
        &[
            "attach-interface",
            "--domain",
            "node-2",
            "--type",
            "bridge",
            "--source",
            "virbr5",
            "--model",
            "virtio",
            "--mac",
            MAC,
            "--config",
        ],
        "Interface attached successfully\n\n",
    );
    good(
        &virsh,
        &["attach-interface", "node-2", "network", "lab", "tap9", "--live"],
        "Interface attached successfully\n\n",
    );
    bad(
        &virsh,
        "attach-interface node-2 direct eth0",
        "error: Failed to attach interface\nerror: No support for direct in command 'attach-interface'\nthe type is network or bridge\n",
    );
    bad(
        &virsh,
        "attach-interface node-2 user x",
        "error: No support for user in command 'attach-interface'\n",
    );
    bad(
        &virsh,
        "attach-interface node-2 network nosuch",
        "error: Failed to attach interface\nerror: Network not found: no network with matching name 'nosuch'\n",
    );
    bad(&virsh, "attach-interface node-2 network lab --inbound x", "error: field 'average' is malformed\n");
    bad(
        &virsh,
        "attach-interface node-2 network lab --live --current",
        "error: Options --current and --live are mutually exclusive\n",
    );
    let list = virsh.run(&["domiflist", "node-2"]).out;
    let expected = format!(
        " Interface   Type      Source   Model    MAC\n------------------------------------------------------------\n vnet0       bridge    virbr5   virtio   {MAC}\n tap9        network   lab      -        "
    );
    assert!(list.starts_with(&expected), "{list}");
    good(&virsh, &["domif-getlink", "node-2", "vnet0"], "vnet0 up\n");
    good(&virsh, &["-q", "domif-getlink", "node-2", "52:54:0:d7:8d:61"], "52:54:0:d7:8d:61 up");
    good(&virsh, &["domif-setlink", "node-2", "vnet0", "down"], "Device updated successfully\n\n");
    good(&virsh, &["domif-getlink", "node-2", "vnet0", "--config"], "vnet0 down\n");
    assert!(world.ip("host", "link show vnet0").contains("NO-CARRIER"), "the guest's side sees it");
    let _ = world.file("up.xml", &format!("<interface type='bridge'><mac address='{MAC}'/><source bridge='virbr5'/><link state='up'/></interface>"));
    good(&virsh, &["update-device", "node-2", "up.xml", "--live"], "Device updated successfully\n\n");
    assert!(!world.ip("host", "link show vnet0").contains("NO-CARRIER"));
    bad(&virsh, "domif-setlink node-2 vnet0 sideways", "error: invalid link state 'sideways'\n");
    bad(&virsh, "domif-setlink node-2 nope up", "error: interface 'nope' not found\n");
    bad(&virsh, "domif-getlink node-2 nope", "error: Interface (dev: nope) not found.\n");
    bad(
        &virsh,
        "domif-getlink node-2 52:54:00:00:00:99",
        "error: Interface (mac: 52:54:00:00:00:99) not found.\n",
    );
    bad(
        &virsh,
        "domifstat node-2 nope",
        "error: Failed to get interface stats node-2 nope\nerror: invalid argument: 'nope' is not a known interface\n",
    );
    let stats = virsh.run(&["domifstat", "node-2", "vnet0"]).out;
    let names: Vec<_> = stats.lines().map(|line| line.split(' ').nth(1).unwrap_or_default()).collect();
    assert_eq!(
        names,
        ["rx_bytes", "rx_packets", "rx_errs", "rx_drop", "tx_bytes", "tx_packets", "tx_errs", "tx_drop", ""]
    );
    let none = " Name       MAC address          Protocol     Address\n-------------------------------------------------------------------------------\n";
    good(
        &virsh,
        &["domifaddr", "node-2", "vnet0"],
        &format!("{none} vnet0      {MAC}    N/A          N/A\n\n"),
    );
    bad(&virsh, "domifaddr node-2 --source paint", "error: Unknown data source 'paint'\n");
    bad(
        &virsh,
        "domifaddr node-2 --source agent",
        "error: Failed to query for interfaces addresses\nerror: argument unsupported: QEMU guest agent is not configured\n",
    );
    rates(&virsh);
    ports(&world, &virsh);
    bad(
        &virsh,
        "detach-interface node-2 direct",
        "error: No interface found whose type is direct\nerror: Failed to detach interface\ninterface vnet0 is of type bridge\n",
    );
    bad(
        &virsh,
        "detach-interface node-2 bridge --mac 52:54:00:00:00:99",
        "error: No interface with MAC address 52:54:00:00:00:99 was found\nerror: Failed to detach interface\n",
    );
    good(
        &virsh,
        &["detach-interface", "node-2", "bridge", "--mac", MAC],
        "Interface detached successfully\n\n",
    );
    good(&virsh, &["detach-interface", "node-2", "network"], "Interface detached successfully\n\n");
    bad(&virsh, "domiflist node-2", unknown);
}

/// Interfaces of a guest as XML files.
fn devices(world: &World, virsh: &Program) {
    let interface =
        |parts: &str| format!("<interface type='network'><mac address='{MAC}'/>{parts}</interface>");
    let source = "<source network='lab'/><target dev='lab-%d'/><model type='virtio'/><link state='down'/>";
    let isolated = "<port isolated='yes'/><alias name='ua-one'/>";
    for (name, parts) in [
        ("one.xml", &*format!("{source}{isolated}")),
        ("none.xml", ""),
        ("lost.xml", "<source network='x'/>"),
    ] {
        let _ = world.file(name, &interface(parts));
    }
    let _ = world.file("disk.xml", "<disk type='file'/>");
    bad(virsh, "detach-device node-2 one.xml", "error: failed to get domain 'node-2'\n");
    good(virsh, &["attach-device", "node-2", "one.xml", "--live"], "Device attached successfully\n\n");
    let list = virsh.run(&["domiflist", "node-2"]).out;
    assert!(list.contains(&format!(" lab-0       network   lab      virtio   {MAC}\n")), "{list}");
    good(virsh, &["domif-getlink", "node-2", "lab-0"], "lab-0 down\n");
    let port = virsh.run(&["-q", "net-port-list", "lab"]).out;
    let port = virsh.run(&["net-port-dumpxml", "lab", port.trim()]).out;
    assert!(port.contains("<port isolated='yes'/>"), "{port}");
    for (line, words) in [
        ("attach-device node-2 none.xml", "XML error: interface type='network' requires a 'source' element"),
        ("attach-device node-2 lost.xml", "Network not found: no network with matching name 'x'"),
        ("attach-device node-2 disk.xml", "XML error: unknown device type 'disk'"),
        ("detach-device node-2 disk.xml", "XML error: unknown device type 'disk'"),
    ] {
        let (verb, file) =
            (line.split('-').next().unwrap_or_default(), line.rsplit(' ').next().unwrap_or_default());
        let said = virsh.run(&line.split(' ').collect::<Vec<_>>());
        let expected = format!("error: Failed to {verb} device from {file}\nerror: {words}");
        assert!(said.code == Some(1) && said.err.starts_with(&expected), "{line}: {}", said.err);
    }
    good(virsh, &["detach-device", "node-2", "none.xml"], "Device detached successfully\n\n");
    bad(virsh, "domiflist node-2", "error: failed to get domain 'node-2'\n");
}

fn rates(virsh: &Program) {
    let shown = |inbound: [u64; 4], outbound: [u64; 3]| {
        let names = ["inbound.average", "inbound.peak   ", "inbound.burst  ", "inbound.floor  "];
        let others = ["outbound.average", "outbound.peak  ", "outbound.burst "];
        let values = inbound.into_iter().chain(outbound);
        let lines = names.into_iter().chain(others).zip(values);
        lines.map(|(name, value)| format!("{name}: {value}\n")).collect::<String>() + "\n"
    };
    good(virsh, &["domiftune", "node-2", "vnet0"], &shown([0; 4], [0; 3]));
    let kept = "warning: <bandwidth> of an interface is kept but has no effect yet\n";
    check(virsh, &["domiftune", "node-2", "vnet0", "--inbound", "1000,2000,5"], 0, "\n", kept);
    check(virsh, &["domiftune", "node-2", "vnet0", "--outbound=7"], 0, "\n", kept);
    good(virsh, &["domiftune", "node-2", MAC], &shown([1000, 2000, 5, 0], [7, 0, 0]));
    check(virsh, &["domiftune", "node-2", "vnet0", "--inbound", "0"], 0, "\n", kept);
    good(virsh, &["domiftune", "node-2", "vnet0"], &shown([0; 4], [7, 0, 0]));
    bad(
        virsh,
        "domiftune node-2 vnet0 --inbound ,1",
        "error: either inbound average or floor is mandatory\n",
    );
    bad(
        virsh,
        "domiftune node-2 vnet0 --outbound 4294967296",
        "error: outbound rate larger than maximum 4294967295\n",
    );
    bad(
        virsh,
        "domiftune node-2 nope",
        "error: Unable to get number of interface parameters\nerror: invalid argument: 'nope' is not a known \
         interface\n",
    );
}

fn ports(world: &World, virsh: &Program) {
    let listed = virsh.run(&["-q", "net-port-list", "lab", "--uuid"]).out;
    assert_eq!(listed.lines().count(), 2, "{listed}");
    let port = "5d744f21-ba4a-4d6e-bdb2-30a35ff3207d";
    let owner = "d54df46f-1ab5-4a22-8618-4560ef5fac2c";
    let xml = |plug: &str| {
        format!(
            "<networkport>
  <uuid>{port}</uuid>
  <owner>
    <name>memtest</name>
    <uuid>{owner}</uuid>
  </owner>
  <group>web1</group>
  <mac address='52:54:00:7b:35:93'/>
{plug}</networkport>
"
        )
    };
    let _ = world.file("port.xml", &xml(""));
    good(
        virsh,
        &["net-port-create", "lab", "port.xml"],
        &format!("Network port {port} created from port.xml\n\n"),
    );
    bad(
        virsh,
        "net-port-create lab port.xml",
        &format!(
            "error: Failed to create network from port.xml\nerror: network port exists: Network port with UUID {port} already exists\n"
        ),
    );
    good(
        virsh,
        &["net-port-dumpxml", "lab", port],
        &format!("{}\n", xml("  <plug type='network' bridge='virbr5'/>\n")),
    );
    good(virsh, &["net-port-dumpxml", "lab", port, "--xpath", "//group"], "<group>web1</group>\n\n");
    let list = virsh.run(&["domiflist", "memtest"]).out;
    assert!(list.contains("vnet1       network   lab      -       52:54:00:7b:35:93"), "{list}");
    let head = " UUID\n---------------------------------------\n";
    let table = virsh.run(&["net-port-list", "lab"]).out;
    assert!(table.starts_with(head) && table.contains(&format!(" {port}\n")), "{table}");
    good(virsh, &["net-port-delete", "lab", port], &format!("Network port {port} deleted\n\n"));
    bad(
        virsh,
        &format!("net-port-dumpxml lab {port}"),
        &format!(
            "error: failed to get network port '{port}'\nerror: network port not found: Network port with UUID {port} does not exist\n"
        ),
    );
    bad(
        virsh,
        "net-port-list lab --uuid --table",
        "error: Only one argument from --table and --uuid may be specified.\n",
    );
}

#[test]
fn events_are_reported_as_they_happen() {
    let Some(world) = World::new(&Setup::default()) else { return };
    let virsh = world.program("virsh");
    let _ = world.file("lab.xml", LAB);
    good(&virsh, &["net-event", "--list"], "lifecycle\nmetadata-change\n\n");
    check(
        &virsh,
        &["net-event", "--event", "lifecycle", "--timeout", "1"],
        1,
        "event loop timed out\nevents received: 0\n\n",
        "",
    );
    let _ = virsh.run(&["net-define", "lab.xml"]);
    let listener = |words: &'static [&'static str]| {
        let program = virsh.clone();
        std::thread::spawn(move || program.run(words))
    };
    let loops =
        listener(&["net-event", "--network", "lab", "--event", "lifecycle", "--loop", "--timeout", "6"]);
    let one = listener(&["net-event", "--event", "metadata-change", "--timestamp"]);
    let json = listener(&["net-event", "--all", "--json", "--timeout", "20"]);
    // The daemon knows how many connections it serves only by its answers: what is heard decides.
    let mut round = 0;
    until("someone hears of a title", 20, || {
        round += 1;
        let _ = virsh.run(&["net-desc", "lab", "--title", &format!("T{round}")]);
        (one.is_finished() && json.is_finished()).then_some(())
    });
    let _ = virsh.run(&["net-start lab; net-destroy lab"]);
    let said = loops.join().expect("listener");
    let expected = "event 'lifecycle' for network lab: Started\nevent 'lifecycle' for network lab: Stopped\nevent loop timed out\nevents received: 2\n\n";
    assert_eq!((said.out.as_str(), said.code), (expected, Some(0)), "{}", said.err);
    let said = one.join().expect("listener").out;
    let (stamp, rest) = said.split_at(30);
    assert!(stamp.starts_with("20") && stamp.ends_with("+0000: "), "{said}");
    assert_eq!(
        rest,
        "event 'metadata-change' for network lab: type title, uri <null>\nevents received: 1\n\n"
    );
    let said = json.join().expect("listener").out;
    assert!(
        said.starts_with(
            "{\"detail\":\"title\",\"event\":\"metadata-change\",\"network\":\"lab\",\"time_ms\":"
        ),
        "{said}"
    );
}

fn editor(world: &World, name: &str, script: &str) -> String {
    let path = world.file(name, &format!("#!/bin/sh\n{script}\n"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("mode");
    path
}

#[test]
fn editing_goes_round_until_it_is_accepted_or_given_up() {
    let Some(world) = World::new(&Setup::default()) else { return };
    let plain = world.program("virsh");
    let _ = world.file("lab.xml", LAB);
    let _ = plain.run(&["net-define", "lab.xml"]);
    let with = |script: &str, name: &str| plain.clone().with("VISUAL", editor(&world, name, script));
    good(&with("exit 0", "idle"), &["net-edit", "lab"], "Network lab XML configuration not changed.\n\n");
    let renames = with("sed -i s/150.254/150.200/ \"$1\"", "shrinks");
    good(&renames, &["net-edit", "lab"], "Network lab XML configuration edited.\n\n");
    assert!(plain.run(&["net-dumpxml", "lab"]).out.contains("end='192.168.150.200'"));
    let line = plain.clone().with("EDITOR", "sed -i s/150.200/150.254/");
    good(&line, &["net-edit", "lab"], "Network lab XML configuration edited.\n\n");
    let breaks = with("sed -i s/150.254/151.254/ \"$1\"", "breaks");
    let said = breaks.run(&["net-edit", "lab"]);
    assert!(said.err.starts_with("error: Failed.\nerror: internal error: range 192.168.150.10 - 192.168.151.254 is not entirely within network"), "{}", said.err);
    assert_eq!((said.out.as_str(), said.code), ("\n", Some(1)), "nobody to ask");
    let failing = with("exit 3", "fails").run(&["net-edit", "lab"]);
    assert!(failing.err.contains("unexpected exit status 3"), "{}", failing.err);
    good(
        &with("echo B > \"$1\"", "writes"),
        &["net-desc", "lab", "--title", "--edit"],
        "Network title updated successfully\n",
    );
    good(&with("exit 0", "idle"), &["net-desc", "lab", "--title", "--edit"], "Network title not changed\n\n");

    let mut talk = breaks.talk(&["net-edit", "lab"]);
    talk.answer("is not entirely within network", "");
    talk.answer("Failed. Try again? [y,n,f,?]: ", "?");
    talk.answer("f - force, try to redefine again\r\n? - print this help\r\n", "");
    talk.answer("\rFailed. Try again? [y,n,f,?]: ", "x");
    talk.answer("\rFailed. Try again? [y,n,f,?]: ", "f");
    talk.answer("is not entirely within network", "");
    talk.answer("\rFailed. Try again? [y,n,f,?]: ", "n");
    let (_, code) = talk.end();
    assert_eq!(code, Some(1));
    let mends = with(
        "if grep -q 150.254 \"$1\"; then sed -i s/150.254/151.254/ \"$1\"; else sed -i s/151.254/150.100/ \"$1\"; fi",
        "mends",
    );
    let mut talk = mends.talk(&["net-edit", "lab"]);
    talk.answer("Failed. Try again? [y,n,f,?]: ", "y");
    talk.answer("Network lab XML configuration edited.\r\n", "");
    assert_eq!(talk.end().1, Some(0));
    let left = std::fs::read_dir("/tmp").expect("tmp").flatten().map(|entry| entry.file_name());
    let ours = format!("virsh{:x}", std::process::id());
    assert!(!left.into_iter().any(|name| name.to_string_lossy().starts_with(&ours)));
}

#[test]
fn waiting_ends_with_a_lease() {
    let Some(mut world) = World::new(&Setup::default()) else { return };
    let virsh = world.program("virsh");
    let _ = world.file("lab.xml", LAB);
    let _ = virsh.run(&["net-create", "lab.xml"]);
    let late = "error: Failed to get leases info for lab\nerror: no lease within 1 seconds\n";
    check(&virsh, &["net-dhcp-leases", "lab", "--wait=1"], 1, "\n", late);
    let waiting = virsh.clone();
    let waiting = std::thread::spawn(move || waiting.run(&["net-dhcp-leases", "lab", MAC, "--wait=20"]));
    let address = world.guest("g1", "lab", "eth0", MAC);
    let said = waiting.join().expect("waiting");
    assert!(
        said.out.contains(&format!(" {MAC}   ipv4       {address}/24   g1 ")),
        "{}{}",
        said.out,
        said.err
    );
    let head = " Name       MAC address          Protocol     Address\n-------------------------------------------------------------------------------\n";
    let row = format!(" eth0       {MAC}    ipv4         {address}/24\n");
    good(&virsh, &["domifaddr", "g1", "--wait=5"], &format!("{head}{row}\n"));
    good(&virsh, &["-q", "domifaddr", "g1", "eth0", "--full"], &row);
    let json = virsh.run(&["domifaddr", "g1", "--json"]).out;
    assert!(json.contains(&format!("\"ip\": \"{address}\"")) && !json.ends_with("\n\n"), "{json}");
    assert!(world.pings("host", &address));
    let seen = virsh.run(&["domifaddr", "g1", "--source", "arp"]).out;
    assert!(seen.contains(&format!("{MAC}    ipv4         {address}/0")), "{seen}");
    let _ = virsh.run(&["domif-setlink", "g1", "eth0", "down"]);
    until("a link that is down carries nothing", 10, || (!world.pings("host", &address)).then_some(()));
    let _ = virsh.run(&["domif-setlink", "g1", "eth0", "up"]);
    until("and carries all again", 10, || world.pings("host", &address).then_some(()));
}

#[test]
fn home_comforts() {
    let Some(world) = World::new(&Setup::default()) else { return };
    let pontoon = world.program("pontoon");
    let said = pontoon.run(&[
        "net-define-as",
        "lab",
        "--isolated",
        "--subnet",
        "10.44.0.0/24",
        "--bridge",
        "virbr7",
    ]);
    assert_eq!(said.out, "Network lab defined with subnet 10.44.0.0/24\n\n", "{}", said.err);
    let auto = pontoon.run(&["net-define-as", "other", "--print-xml"]).out;
    assert!(auto.contains("<ip address='192.168.") && !auto.contains("10.44.0"), "{auto}");
    bad(
        &pontoon,
        "net-define-as x --nat --isolated",
        "error: Options --nat and --isolated are mutually exclusive\n",
    );
    let complete = |words: &[&str]| pontoon.run(&[&["complete", "--"], words].concat()).out;
    assert_eq!(complete(&["net-start", "l"]), "lab\n");
    assert_eq!(complete(&["net-start", "--network", ""]), "lab\n");
    let _ = pontoon.run(&["net-start", "lab"]);
    let _ = pontoon.run(&["attach-interface", "node-2", "bridge", "virbr7"]);
    assert_eq!(complete(&["attach-interface", "node-3", "bridge", ""]), "virbr7\n");
    assert_eq!(complete(&["domiflist", "n"]), "node-2\n");
    assert_eq!(complete(&["domifstat", "node-2", ""]), "vnet0\n");
    for shell in ["bash", "zsh", "fish"] {
        assert!(pontoon.run(&["completion", shell]).out.contains("pontoon"), "{shell}");
    }
    let pages = pontoon.run(&["man", "pages"]);
    assert!(pages.ok(), "{}", pages.err);
    for page in ["pontoon", "pontoon-net-update", "pontoon-daemon"] {
        let text = std::fs::read_to_string(world.path(&format!("pages/{page}.1"))).expect(page);
        assert!(text.starts_with(".TH ") && text.contains("\n.SH NAME\n"), "{page}");
    }
    for (words, part) in [
        (&["net-list", "--json", "--all"][..], "\"name\": \"lab\""),
        (&["net-info", "lab", "--json"], "\"active\": true"),
        (&["net-dumpxml", "lab", "--json"], "\"xml\": \"<network"),
        (&["net-dhcp-leases", "lab", "--json"], "[]"),
        (&["net-port-list", "lab", "--json"], "\"interface\": \"vnet0\""),
        (&["domiflist", "node-2", "--json"], "\"source\": \"virbr7\""),
        (&["domifstat", "node-2", "vnet0", "--json"], "\"rx_bytes\": "),
        (&["domif-getlink", "node-2", "vnet0", "--json"], "\"link\": \"up\""),
        (&["net-desc", "lab", "--json"], "\"description\": \"\""),
    ] {
        let said = pontoon.run(words).out;
        assert!(
            said.contains(part) && serde_json::from_str::<serde_json::Value>(&said).is_ok(),
            "{words:?}: {said}"
        );
    }
}
