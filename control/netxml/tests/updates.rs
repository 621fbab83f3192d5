//! Changing one part of a definition: what comes of it, and what is refused in which words.
#![allow(clippy::unwrap_used)]

use pontoon_netxml::{DumpOptions, Error, Network, Section, UpdateCommand, parse, update};

const NETWORK: &str = "\
<network>
  <name>n</name>
  <forward dev='eth0' mode='nat'>
    <interface dev='eth0'/>
  </forward>
  <bridge stp='on' delay='0'/>
  <dns>
    <txt name='t' value='v'/>
    <srv service='ldap' protocol='tcp' domain='d' target='one' port='1' priority='2' weight='3'/>
    <srv service='ldap' protocol='tcp' domain='d' target='two' port='1'/>
    <host ip='10.0.0.9'>
      <hostname>nine</hostname>
      <hostname>neun</hostname>
    </host>
    <host ip='10.0.0.8'>
      <hostname>eight</hostname>
      <hostname>neun</hostname>
    </host>
  </dns>
  <ip family='ipv6' address='fd00::1' prefix='64'>
  </ip>
  <ip address='10.0.0.1' prefix='24'>
    <dhcp>
      <range start='10.0.0.100' end='10.0.0.200'/>
      <host mac='52:54:00:00:00:0A' name='a' ip='10.0.0.2'/>
      <host name='b' ip='10.0.0.3'/>
    </dhcp>
  </ip>
  <portgroup name='g' default='yes'>
  </portgroup>
  <portgroup name='h'>
  </portgroup>
</network>
";

fn network() -> Network {
    parse(NETWORK).unwrap()
}

fn change(words: &str, index: i32, xml: &str) -> Result<String, Error> {
    let (command, section) = words.split_once(' ').unwrap();
    let command = UpdateCommand::from_word(command).unwrap();
    let changed = update(&network(), command, Section::from_word(section).unwrap(), index, xml)?;
    Ok(changed.to_xml(&DumpOptions::default()))
}

/// The lines that went and came, each with its sign, in order.
fn check(words: &str, xml: &str, expected: &[&str]) {
    let found = change(words, -1, xml).unwrap_or_else(|error| panic!("{words} {xml}: {}", error.render("u")));
    let (old, new): (Vec<&str>, Vec<&str>) = (NETWORK.lines().collect(), found.lines().collect());
    let same = old.iter().zip(&new).take_while(|(one, other)| one == other).count();
    let tail = old.iter().rev().zip(new.iter().rev()).take_while(|(one, other)| one == other).count();
    let tail = tail.min(old.len() - same).min(new.len() - same);
    let gone = old[same..old.len() - tail].iter().map(|line| format!("-{}", line.trim()));
    let came = new[same..new.len() - tail].iter().map(|line| format!("+{}", line.trim()));
    assert_eq!(gone.chain(came).collect::<Vec<_>>(), expected, "{words} {xml}");
}

fn refuse(words: &str, index: i32, xml: &str, message: &str) {
    let error = change(words, index, xml).expect_err(words);
    assert_eq!(error.message, message, "{words} {xml}");
    assert!(
        error.line > 0 && (error.help.is_some() || error.message.starts_with("network_update_xml")),
        "{words} {xml}"
    );
}

#[test]
fn words() {
    for section in Section::ALL {
        assert_eq!(Section::from_word(section.as_str()), Some(section));
    }
    for word in ["modify", "delete", "add-last", "add-first"] {
        assert_eq!(UpdateCommand::from_word(word).map(UpdateCommand::as_str), Some(word));
    }
    assert_eq!(UpdateCommand::from_word("add"), Some(UpdateCommand::AddLast));
    assert_eq!((UpdateCommand::from_word("ADD"), Section::from_word("none")), (None, None));
}

#[test]
fn the_text() {
    refuse("add dns-txt", -1, "<txt", "network_update_xml:1: Couldn't find end of Start Tag");
    refuse(
        "add dns-txt",
        -1,
        "\n<host/>",
        "XML error: unexpected element <host>, expecting <txt>, while updating network 'n'",
    );
    for section in ["bridge", "domain", "ip", "forward"] {
        let message = format!("Operation not supported: can't update '{section}' section of network 'n'");
        refuse(&format!("add {section}"), -1, "<x/>", &message);
    }
    let message = "Operation not supported: can't update 'forward pf' section of network 'n'";
    refuse("modify forward-pf", -1, "<pf dev='x'/>", message);
}

#[test]
fn dhcp_hosts() {
    check(
        "add ip-dhcp-host",
        "<host mac='52:54:0:0:0:b' ip='10.0.0.4'><lease expiry='1' unit='hours'/></host>",
        &["+<host mac='52:54:0:0:0:b' ip='10.0.0.4'>", "+<lease expiry='1' unit='hours'/>", "+</host>"],
    );
    check("add-first ip-dhcp-host", "<host name='c' ip='10.0.0.4'/>", &["+<host name='c' ip='10.0.0.4'/>"]);
    check(
        "modify ip-dhcp-host",
        "<host mac='52:54:00:00:00:0a' ip='10.0.0.77'/>",
        &[
            "-<host mac='52:54:00:00:00:0A' name='a' ip='10.0.0.2'/>",
            "+<host mac='52:54:00:00:00:0a' ip='10.0.0.77'/>",
        ],
    );
    check("delete ip-dhcp-host", "<host name='b'/>", &["-<host name='b' ip='10.0.0.3'/>"]);
    // An entry without MAC address fits any MAC address.
    check(
        "delete ip-dhcp-host",
        "<host mac='52:54:00:00:00:77' ip='10.0.0.3'/>",
        &["-<host name='b' ip='10.0.0.3'/>"],
    );
}

#[test]
fn dhcp_hosts_refused() {
    let exists = |mac: &str, name: &str, ip: &str| {
        format!(
            "Requested operation is not valid: there is an existing dhcp host entry in network 'n' that matches \"<host mac='{mac}' name='{name}' ip='{ip}'/>\""
        )
    };
    let host = |rest: &str| format!("<host {rest}/>");
    let cases = [
        ("name='a' ip='10.0.0.7'", exists("unknown", "a", "10.0.0.7")),
        ("mac='52:54:00:00:00:0a' ip='10.0.0.7'", exists("52:54:00:00:00:0a", "(null)", "10.0.0.7")),
        ("name='x' ip='10.0.0.3'", exists("unknown", "x", "10.0.0.3")),
    ];
    for (rest, message) in cases {
        refuse("add ip-dhcp-host", -1, &host(rest), &message);
    }
    refuse(
        "add ip-dhcp-host",
        -1,
        "<host ip='10.0.0.7'/>",
        "XML error: Static host definition in IPv4 network 'n' must have mac or name attribute",
    );
    refuse(
        "add ip-dhcp-host",
        -1,
        "<host name='x' ip='fd00::7'/>",
        "Requested operation is not valid: the address family of a host entry IP must match the address family of the dhcp element's parent",
    );
    refuse(
        "modify ip-dhcp-host",
        -1,
        "<host name='x' ip='10.0.0.7'/>",
        "Requested operation is not valid: couldn't locate an existing dhcp host entry with \"mac='unknown'\" \"name='x'\" \"ip='10.0.0.7'\" in network 'n'",
    );
    refuse(
        "delete ip-dhcp-host",
        -1,
        "<host name='a' ip='10.0.0.3'/>",
        "Requested operation is not valid: couldn't locate a matching dhcp host entry in network 'n'",
    );
    refuse(
        "delete ip-dhcp-host",
        -1,
        "<host id='0:1'/>",
        "XML error: At least one of name, mac, or ip attribute must be specified for static host definition in network 'n'",
    );
}

#[test]
fn which_ip() {
    let host = "<host name='x' ip='fd00::7'/>";
    assert!(change("add ip-dhcp-host", 0, host).unwrap().contains("<host name='x' ip='fd00::7'/>"));
    refuse(
        "add ip-dhcp-host",
        2,
        host,
        "Requested operation is not valid: couldn't update dhcp host entry - no <ip> element found at index 2 in network 'n'",
    );
    // The index of the other family: a range says itself of which it is.
    let range = "<range start='10.0.0.20' end='10.0.0.30'/>";
    assert!(change("add ip-dhcp-range", 0, range).unwrap().contains(range));
    let bare = parse("<network><name>n</name></network>").unwrap();
    let error = update(&bare, UpdateCommand::AddLast, Section::IpDhcpRange, -1, range).unwrap_err();
    assert_eq!(
        error.message,
        "Requested operation is not valid: couldn't update dhcp host entry - no <ip> element found in network 'n'"
    );
    let two = parse(
        "<network><name>n</name><ip address='10.1.0.1' prefix='24'/>
        <ip address='10.0.0.1' prefix='24'><dhcp><host name='a' ip='10.0.0.2'/></dhcp></ip></network>",
    )
    .unwrap();
    let add = |index, xml| update(&two, UpdateCommand::AddLast, Section::IpDhcpRange, index, xml);
    assert_eq!(add(-1, range).unwrap().ips[1].ranges.len(), 1);
    assert_eq!(
        add(0, "<range start='10.1.0.20' end='10.1.0.30'/>").unwrap_err().message,
        "Requested operation is not valid: dhcp is supported only for a single IPv4 address on each network"
    );
}

#[test]
fn dhcp_ranges() {
    check(
        "add-first ip-dhcp-range",
        "<range start='10.0.0.20' end='10.0.0.30'/>",
        &["+<range start='10.0.0.20' end='10.0.0.30'/>"],
    );
    check(
        "delete ip-dhcp-range",
        "<range start='10.0.0.100' end='10.0.0.200'/>",
        &["-<range start='10.0.0.100' end='10.0.0.200'/>"],
    );
    refuse(
        "add ip-dhcp-range",
        -1,
        "<range start='10.0.0.100' end='10.0.0.200'/>",
        "Requested operation is not valid: there is an existing dhcp range entry in network 'n' that matches \"<range start='10.0.0.100' end='10.0.0.200'/>\"",
    );
    refuse(
        "delete ip-dhcp-range",
        -1,
        "<range start='10.0.0.100' end='10.0.0.201'/>",
        "Requested operation is not valid: couldn't locate a matching dhcp range entry in network 'n'",
    );
    refuse(
        "modify ip-dhcp-range",
        -1,
        "<range/>",
        "Operation not supported: dhcp ranges cannot be modified, only added or deleted",
    );
    refuse(
        "add ip-dhcp-range",
        -1,
        "<range start='10.0.1.1' end='10.0.1.2'/>",
        "internal error: range 10.0.1.1 - 10.0.1.2 is not entirely within network 10.0.0.1/24",
    );
}

#[test]
fn interfaces() {
    check(
        "add-first forward-interface",
        "<interface dev='eth1'/>",
        &["-<forward dev='eth0' mode='nat'>", "+<forward dev='eth1' mode='nat'>", "+<interface dev='eth1'/>"],
    );
    check(
        "delete forward-interface",
        "<interface dev='eth0'/>",
        &[
            "-<forward dev='eth0' mode='nat'>",
            "-<interface dev='eth0'/>",
            "-</forward>",
            "+<forward mode='nat'/>",
        ],
    );
    refuse(
        "add forward-interface",
        -1,
        "<interface dev='eth0'/>",
        "Requested operation is not valid: there is an existing interface entry in network 'n' that matches \"<interface dev='eth0'>\"",
    );
    refuse(
        "delete forward-interface",
        -1,
        "<interface dev='eth7'/>",
        "Requested operation is not valid: couldn't find an interface entry in network 'n' matching <interface dev='eth7'>",
    );
    refuse(
        "add forward-interface",
        -1,
        "<interface/>",
        "XML error: missing dev attribute in <interface> element",
    );
    refuse(
        "modify forward-interface",
        -1,
        "<interface dev='eth0'/>",
        "Operation not supported: forward interface entries cannot be modified, only added or deleted",
    );
}

#[test]
fn portgroups() {
    check("add portgroup", "<portgroup name='i'/>", &["+<portgroup name='i'>", "+</portgroup>"]);
    check("delete portgroup", "<portgroup name='h'/>", &["-<portgroup name='h'>", "-</portgroup>"]);
    check(
        "modify portgroup",
        "<portgroup name='h'><vlan><tag id='4'/></vlan></portgroup>",
        &["+<vlan>", "+<tag id='4'/>", "+</vlan>"],
    );
    refuse(
        "add portgroup",
        -1,
        "<portgroup name='g'/>",
        "Requested operation is not valid: there is an existing portgroup entry in network 'n' that matches \"<portgroup name='g'>\"",
    );
    refuse(
        "modify portgroup",
        -1,
        "<portgroup name='z'/>",
        "Requested operation is not valid: couldn't find a portgroup entry in network 'n' matching <portgroup name='z'>",
    );
    refuse(
        "modify portgroup",
        -1,
        "<portgroup name='h' default='yes'/>",
        "Requested operation is not valid: a different portgroup entry in network 'n' is already set as the default. Only one default is allowed.",
    );
    assert!(change("modify portgroup", -1, "<portgroup name='g' default='yes'/>").is_ok());
    assert!(change("delete portgroup", -1, "<portgroup name='h' default='yes'/>").is_ok());
}

#[test]
fn dns_hosts() {
    let entry = "<host ip='10.0.0.7'><hostname>neun</hostname></host>";
    check("add dns-host", entry, &["+<host ip='10.0.0.7'>", "+<hostname>neun</hostname>", "+</host>"]);
    check(
        "delete dns-host",
        "<host><hostname>eight</hostname></host>",
        &["-<host ip='10.0.0.8'>", "-<hostname>eight</hostname>", "-<hostname>neun</hostname>", "-</host>"],
    );
    check(
        "modify dns-host",
        "<host ip='10.0.0.9'><hostname>new</hostname></host>",
        &["-<hostname>nine</hostname>", "-<hostname>neun</hostname>", "+<hostname>new</hostname>"],
    );
    refuse(
        "add dns-host",
        -1,
        "<host ip='10.0.0.9'><hostname>x</hostname></host>",
        "Requested operation is not valid: there is already at least one DNS HOST record with a matching field in network n",
    );
    let missing = "Requested operation is not valid: couldn't locate a matching DNS HOST record in network n";
    refuse("delete dns-host", -1, "<host ip='10.0.0.77'/>", missing);
    refuse("modify dns-host", -1, "<host><hostname>nine</hostname></host>", missing);
    refuse(
        "delete dns-host",
        -1,
        "<host><hostname>neun</hostname></host>",
        "Requested operation is not valid: multiple matching DNS HOST records were found in network n",
    );
    refuse("delete dns-host", -1, "<host/>", "Missing ip and hostname in network 'n' DNS HOST record");
}

#[test]
fn dns_services() {
    check("add-first dns-srv", "<srv service='x' protocol='udp'/>", &["+<srv service='x' protocol='udp'/>"]);
    check(
        "delete dns-srv",
        "<srv target='two'/>",
        &["-<srv service='ldap' protocol='tcp' domain='d' target='two' port='1'/>"],
    );
    refuse(
        "add dns-srv",
        -1,
        "<srv service='ldap' protocol='tcp'/>",
        "Requested operation is not valid: there is already at least one DNS SRV record matching all specified fields in network n",
    );
    refuse(
        "delete dns-srv",
        -1,
        "<srv service='ldap'/>",
        "Requested operation is not valid: multiple DNS SRV records matching all specified fields were found in network n",
    );
    refuse(
        "delete dns-srv",
        -1,
        "<srv service='smtp'/>",
        "Requested operation is not valid: couldn't locate a matching DNS SRV record in network n",
    );
    refuse(
        "delete dns-srv",
        -1,
        "<srv port='1'/>",
        "DNS SRV port attribute not permitted without target for service '(null)' in network 'n'",
    );
    refuse(
        "modify dns-srv",
        -1,
        "<x/>",
        "Operation not supported: DNS SRV records cannot be modified, only added or deleted",
    );
}

#[test]
fn dns_texts() {
    check("add dns-txt", "<txt name='u' value=''/>", &["+<txt name='u' value=''/>"]);
    check("delete dns-txt", "<txt name='t'/>", &["-<txt name='t' value='v'/>"]);
    check(
        "modify dns-txt",
        "<txt name='t' value='w'/>",
        &["-<txt name='t' value='v'/>", "+<txt name='t' value='w'/>"],
    );
    refuse(
        "add dns-txt",
        -1,
        "<txt name='t' value='w'/>",
        "Requested operation is not valid: there is already a DNS TXT record with name 't' in network n",
    );
    let missing = "Requested operation is not valid: couldn't locate a matching DNS TXT record in network n";
    refuse("delete dns-txt", -1, "<txt name='x'/>", missing);
    refuse("modify dns-txt", -1, "<txt name='x' value='y'/>", missing);
    refuse(
        "modify dns-txt",
        -1,
        "<txt name='t'/>",
        "Requested operation is not valid: missing value of modifying DNS TXT record in network n",
    );
}
