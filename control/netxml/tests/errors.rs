//! Every refusal: its words, and the place it points at. In the samples `¦`
//! stands before the character the error must point at.
#![allow(clippy::unwrap_used)]

use pontoon_netxml::{Error, parse};

fn refuse(marked: &str) -> Error {
    let at = marked.find('¦').unwrap();
    let line = marked[..at].matches('\n').count() + 1;
    let column = marked[..at].chars().rev().take_while(|c| *c != '\n').count() + 1;
    let text = marked.replace('¦', "");
    let error = parse(&text).expect_err(marked);
    assert_eq!((error.line as usize, error.column as usize), (line, column), "{marked}: {error:?}");
    assert_eq!(error.source_line, text.lines().nth(line - 1).unwrap());
    assert!(error.help.is_some(), "{marked}: no help");
    error
}

fn check(cases: &[(&str, &str)]) {
    for (body, message) in cases {
        let error = refuse(&format!("<network>\n  <name>n</name>\n{body}\n</network>"));
        assert_eq!(error.message, *message, "{body}");
    }
}

fn check_in(open: &str, close: &str, cases: &[(&str, &str)]) {
    for (body, message) in cases {
        check(&[(&format!("{open}\n{body}\n{close}"), message)]);
    }
}

#[test]
fn identity() {
    assert_eq!(
        refuse("¦<domain/>").message,
        "XML error: unexpected root element <domain>, expecting <network>"
    );
    assert_eq!(refuse("¦<network/>").message, "missing name information");
    assert_eq!(refuse("¦<network><name></name></network>").message, "missing name information");
    assert_eq!(refuse("<network>\n¦<name>a/b</name></network>").message, "invalid char in name: /");
    assert_eq!(refuse("<network>¦<name>a\nb</name></network>").message, "invalid char in name: \n");
    check(&[
        ("¦<uuid>zz</uuid>", "internal error: malformed uuid element"),
        ("¦<title>two\nlines</title>", "XML error: Network title can't contain newlines"),
        (
            "<domain name='d' ¦localOnly='maybe'/>",
            "XML error: Invalid value for attribute 'localOnly' in element 'domain': 'maybe'.",
        ),
        (
            "<domain name='d' ¦register='yes'/>",
            "unsupported configuration: attribute 'register=yes' in <domain> element requires 'localOnly=yes' in network n",
        ),
        ("<port ¦isolated=''/>", "XML error: Invalid value for attribute 'isolated' in element 'port': ''."),
        ("<bridge ¦delay='-1'/>", "XML error: Invalid delay value in network 'n'"),
        (
            "<bridge ¦macTableManager='default'/>",
            "XML error: Invalid macTableManager setting 'default' in network 'n'",
        ),
        ("<mac ¦address='52:54:00:x'/>", "XML error: Invalid bridge mac address '52:54:00:x' in network 'n'"),
        (
            "<mac ¦address='01:00:00:00:00:00'/>",
            "XML error: Invalid multicast bridge mac address '01:00:00:00:00:00' in network 'n'",
        ),
        ("<mtu ¦size='1500b'/>", "XML error: Invalid mtu size '1500b' in network 'n'"),
    ]);
    let attribute = |text: &str| refuse(&format!("<network ¦{text}><name>n</name></network>")).message;
    assert_eq!(attribute("ipv6='on'"), "XML error: Invalid ipv6 setting 'on' in network 'n'");
    assert_eq!(
        attribute("trustGuestRxFilters='default'"),
        "XML error: Invalid value for attribute 'trustGuestRxFilters' in element 'network': 'default'."
    );
    let text = "<network xmlns:d='http://libvirt.org/schemas/network/dnsmasq/1.0'><name>n</name><d:options>¦<d:option/></d:options></network>";
    assert_eq!(refuse(text).message, "internal error: No dnsmasq options value specified");
}

/// The first complaint is the one libvirt has, whatever the order of the elements.
#[test]
fn the_first_of_several() {
    let mut wrong = vec![
        ("<ip address='x'/>", "Invalid address"),
        ("<dns><txt/></dns>", "missing required name"),
        ("<mac address='x'/>", "Invalid bridge mac"),
        ("<title>a\nb</title>", "title can't contain"),
        ("<uuid>x</uuid>", "malformed uuid"),
    ];
    while let Some((_, words)) = wrong.last() {
        let body: String = wrong.iter().map(|(element, _)| *element).collect();
        let error = parse(&format!("<network><name>n</name>{body}</network>")).unwrap_err();
        assert!(error.message.contains(words), "{body}: {error}");
        wrong.pop();
    }
}

#[test]
fn malformed() {
    let first = |text: &str| parse(text).unwrap_err();
    let error = first("<network>\n  <name>n</nam>\n</network>");
    assert_eq!(error.message, "(network_definition):2: Opening and ending tag mismatch: name line 2 and nam");
    assert_eq!((error.line, error.column > 0), (2, true));
    for text in ["", "<", "<network", "\u{0}", "<network><name>n</name>", "<!DOCTYPE a []><network/>"] {
        assert!(first(text).message.starts_with("(network_definition):"), "{text:?}");
    }
    let error = first("<network>\n<name>n</name>\n");
    assert_eq!(error.message, "(network_definition):1: Premature end of data in tag network line 1");
    assert_eq!(first(" ").message, "(network_definition):1: Document is empty");
    assert_eq!(first("<a b='1' b='2'/>").message, "(network_definition):1: Attribute b redefined");
    assert_eq!(first("<a>&nbsp;</a>").message, "(network_definition):1: Entity 'nbsp' not defined");
    let error = first("<network>\n<dnsmasq:options/></network>");
    assert_eq!(error.message, "(network_definition):2: Namespace prefix dnsmasq is not defined");
    assert!(error.help.unwrap().contains("http://libvirt.org/schemas/network/dnsmasq/1.0"));
}

#[test]
fn forwarding() {
    check(&[
        ("<forward ¦mode='warp'/>", "unsupported configuration: unknown forwarding type 'warp'"),
        (
            "<forward mode='hostdev'><driver ¦name='uio'/></forward>",
            "XML error: Invalid value for attribute 'name' in element 'driver': 'uio'.",
        ),
        (
            "<forward mode='bridge'>¦<interface/></forward>",
            "XML error: Missing required dev attribute in <forward> <interface> element of network n",
        ),
        (
            "<forward mode='bridge' dev='a'><interface ¦dev='b'/></forward>",
            "XML error: <forward dev='a'> must match first <interface dev='b'/> in network n",
        ),
        (
            "<forward mode='vepa'><interface dev='a'/><interface ¦dev='a'/></forward>",
            "XML error: interface 'a' can only be listed once in network n",
        ),
        (
            "<forward mode='passthrough' dev='a'><interface dev='a'/><interface ¦dev='a'/></forward>",
            "XML error: interface 'a' can only be listed once in network n",
        ),
        (
            "<forward mode='hostdev' ¦dev='a'><pf dev='b'/></forward>",
            "XML error: the <forward> 'dev' attribute cannot be used when <address> or <pf> sub-elements are present in network n",
        ),
        (
            "<forward mode='hostdev'>¦<pf/></forward>",
            "XML error: Missing required dev attribute in <pf> element of network 'n'",
        ),
        (
            "<forward mode='hostdev'><pf dev='a'/>¦<pf dev='b'/></forward>",
            "XML error: Only one <pf> element is allowed in <forward> of network n",
        ),
    ]);
    check_in(
        "<forward mode='hostdev'>",
        "</forward>",
        &[
            ("¦<address/>", "XML error: missing address type in network n"),
            ("<address ¦type='usb'/>", "unsupported configuration: unknown address type 'usb' in network n"),
            ("<address ¦type='netdev'/>", "XML error: unsupported address type 'netdev' in network n"),
            (
                "<address type='pci' ¦bus='x'/>",
                "XML error: Invalid value for attribute 'bus' in element 'address': 'x'. Expected non-negative integer value",
            ),
            (
                "<address type='pci' ¦bus='0x100'/>",
                "XML error: Invalid PCI address bus='0x100', must be <= 0xFF",
            ),
            (
                "<address type='pci' bus='1' ¦slot='32'/>",
                "XML error: Invalid PCI address slot='0x20', must be <= 0x1F",
            ),
            (
                "<address type='pci' bus='1' ¦function='8'/>",
                "XML error: Invalid PCI address function=0x8, must be <= 7",
            ),
            (
                "<address type='pci' bus='1' ¦multifunction='yes'/>",
                "XML error: Invalid value for attribute 'multifunction' in element 'address': 'yes'.",
            ),
            (
                "<address type='pci' bus='4' function='0x1'/>¦<address type='pci' domain='0' bus='0x4' function='1'/>",
                "XML error: PCI device '0000:04:00.1' can only be listed once in network n",
            ),
        ],
    );
}

#[test]
fn nat() {
    check(&[
        (
            "<forward mode='route'>¦<nat/></forward>",
            "XML error: The <nat> element can only be used when <forward> 'mode' is 'nat' in network n",
        ),
        (
            "<forward><nat/>¦<nat/></forward>",
            "XML error: Only one <nat> element is allowed in <forward> of network n",
        ),
        (
            "<forward><nat ¦ipv6='true'/></forward>",
            "XML error: Invalid value for attribute 'ipv6' in element 'nat': 'true'.",
        ),
    ]);
    check_in(
        "<forward><nat>",
        "</nat></forward>",
        &[
            (
                "<address start='1.1.1.1' end='1.1.1.1'/>¦<address/>",
                "XML error: Only one <address> element is allowed in <nat> in <forward> in network n",
            ),
            (
                "¦<address end='1.1.1.1'/>",
                "XML error: missing 'start' attribute in <address> element in <nat> in <forward> in network n",
            ),
            (
                "¦<address start='x'/>",
                "XML error: missing 'end' attribute in <address> element in <nat> in <forward> in network n",
            ),
            (
                "<address ¦start='fd00::1' end='x'/>",
                "XML error: Bad ipv4 start address 'fd00::1' in <nat> in <forward> in network 'n'",
            ),
            (
                "<address start='1.1.1.1' ¦end='x'/>",
                "XML error: Bad ipv4 end address 'x' in <nat> in <forward> in network 'n'",
            ),
            (
                "<address ¦start='1.1.1.9' end='1.1.1.1'/>",
                "internal error: range 1.1.1.9 - 1.1.1.1 is reversed ",
            ),
            (
                "<address start='1.1.1.9' ¦end='1.2.1.1'/>",
                "internal error: range 1.1.1.9 - 1.2.1.1 is too large (> 65535)",
            ),
            (
                "<port start='1' end='2'/>¦<port/>",
                "XML error: Only one <port> element is allowed in <nat> in <forward> in network n",
            ),
            (
                "¦<port end='9'/>",
                "Missing or invalid 'start' attribute in <port> in <nat> in <forward> in network n",
            ),
            (
                "<port ¦start='65536' end='65537'/>",
                "Missing or invalid 'start' attribute in <port> in <nat> in <forward> in network n",
            ),
            (
                "<port start='9' ¦end='8'/>",
                "Missing or invalid 'end' attribute in <port> in <nat> in <forward> in network n",
            ),
        ],
    );
}

#[test]
fn modes() {
    check(&[
        (
            "¦<forward mode='nat'/>",
            "XML error: nat forwarding requested, but no IP address provided for network 'n'",
        ),
        (
            "¦<forward mode='route'/>",
            "XML error: route forwarding requested, but no IP address provided for network 'n'",
        ),
        (
            "¦<forward><interface dev='a'/><interface dev='b'/></forward><ip address='10.0.0.1' prefix='8'/>",
            "XML error: multiple forwarding interfaces specified for network 'n', only one is supported",
        ),
        (
            "<forward ¦dev='e' mode='open'/>",
            "XML error: forward dev not allowed for network 'n' with forward mode='open'",
        ),
        (
            "<forward mode='vepa'/><bridge ¦name='b'/>",
            "XML error: bridge name not allowed in vepa mode (network 'n')",
        ),
        (
            "<forward mode='private'/><bridge ¦zone='z'/>",
            "XML error: bridge zone not allowed in private mode (network 'n')",
        ),
        (
            "<forward mode='hostdev'/><bridge ¦macTableManager='kernel'/>",
            "XML error: bridge macTableManager setting not allowed in hostdev mode (network 'n')",
        ),
        (
            "<forward mode='bridge'/><bridge name='b' ¦stp='on'/>",
            "XML error: bridge delay/stp/zone options only allowed in route, nat, and isolated mode, not in bridge (network 'n')",
        ),
        (
            "<forward mode='bridge'/><bridge name='b' ¦delay='1'/>",
            "XML error: bridge delay/stp/zone options only allowed in route, nat, and isolated mode, not in bridge (network 'n')",
        ),
        (
            "<forward mode='bridge' dev='e'/><bridge ¦name='b'/>",
            "XML error: A network with forward mode='bridge' can specify a bridge name or a forward dev, but not both (network 'n')",
        ),
        (
            "<forward mode='bridge'/>¦<mtu size='9000'/>",
            "XML error: mtu size only allowed in open, route, nat, and isolated mode, not in bridge (network 'n')",
        ),
        (
            "<forward mode='bridge'/>¦<mac address='52:54:00:00:00:01'/>",
            "unsupported configuration: Unsupported <mac> element in network n with forward mode='bridge'",
        ),
        (
            "<forward mode='bridge'/>¦<ip address='10.0.0.1'/>",
            "unsupported configuration: Unsupported <ip> element in network n with forward mode='bridge'",
        ),
        (
            "<forward mode='bridge'/>¦<dns><txt name='a' value='b'/></dns>",
            "unsupported configuration: Unsupported <dns> element in network n with forward mode='bridge'",
        ),
        (
            "<forward mode='bridge'/>¦<domain name='d'/>",
            "unsupported configuration: Unsupported <domain> element in network n with forward mode='bridge'",
        ),
        (
            "<forward mode='bridge' dev='e'/>¦<bandwidth><inbound average='1'/></bandwidth>",
            "unsupported configuration: Unsupported network-wide <bandwidth> element in network n with forward mode='bridge'",
        ),
        (
            "<forward mode='bridge'/>¦<portgroup name='g'><bandwidth><inbound average='1'/></bandwidth></portgroup>",
            "unsupported configuration: Unsupported <bandwidth> element in network 'n' in portgroup 'g' with forward mode='bridge'",
        ),
    ]);
}

#[test]
fn addresses() {
    check(&[
        ("¦<ip/>", "XML error: Missing required address attribute in network 'n'"),
        ("<ip ¦address='10.0.0.x'/>", "XML error: Invalid address '10.0.0.x' in network 'n'"),
        ("<ip address='10.0.0.1' ¦netmask='x'/>", "XML error: Invalid netmask 'x' in network 'n'"),
        (
            "<ip address='10.0.0.1' ¦prefix='x'/>",
            "XML error: Invalid value for attribute 'prefix' in element 'ip': 'x'. Expected non-negative integer value",
        ),
        (
            "<ip address='10.0.0.1' ¦localPtr='1'/>",
            "XML error: Invalid value for attribute 'localPtr' in element 'ip': '1'.",
        ),
        (
            "¦<ip address='fd00::1'/>",
            "unsupported configuration: no family specified for non-IPv4 address 'fd00::1' in network 'n'",
        ),
        (
            "<ip ¦family='ipv4' address='fd00::1'/>",
            "unsupported configuration: ipv4 family specified for non-IPv4 address 'fd00::1' in network 'n'",
        ),
        (
            "<ip ¦family='ipv6' address='10.0.0.1'/>",
            "unsupported configuration: Family 'ipv6' specified for non-IPv6 address '10.0.0.1' in network 'n'",
        ),
        ("<ip ¦family='ipx' address='10.0.0.1'/>", "XML error: Unrecognized family 'ipx' in network 'n'"),
        (
            "<ip address='10.0.0.1' ¦netmask='fd00::'/>",
            "unsupported configuration: Invalid netmask 'fd00::' for address '10.0.0.1' in network 'n' (both must be IPv4)",
        ),
        (
            "<ip address='10.0.0.1' ¦netmask='255.0.255.0'/>",
            "unsupported configuration: Invalid netmask '255.0.255.0' for address '10.0.0.1' in network 'n' (both must be IPv4)",
        ),
        (
            "<ip address='10.0.0.1' ¦prefix='8' netmask='255.0.0.0'/>",
            "unsupported configuration: Network 'n' IP address cannot have both a prefix and a netmask",
        ),
        (
            "<ip address='10.0.0.1' ¦prefix='33'/>",
            "unsupported configuration: Invalid IPv4 prefix '33' in network 'n'",
        ),
        (
            "<ip family='ipv6' address='fd00::1' ¦prefix='129'/>",
            "unsupported configuration: Invalid IPv6 prefix '129' in network 'n'",
        ),
        (
            "<ip family='ipv6' address='fd00::1' ¦netmask='255.0.0.0'/>",
            "unsupported configuration: netmask not allowed for IPv6 address 'fd00::1' in network 'n'",
        ),
        (
            "<ip family='ipv6' address='fd00::1'>¦<tftp root='/t'/></ip>",
            "unsupported configuration: Unsupported <tftp> element in an IPv6 element in network 'n'",
        ),
        (
            "<ip address='10.0.0.1' prefix='8'><dhcp><range start='10.0.0.2' end='10.0.0.3'/></dhcp></ip>
             <ip address='11.0.0.1' prefix='8'>¦<dhcp><range start='11.0.0.2' end='11.0.0.3'/></dhcp></ip>",
            "unsupported configuration: Multiple IPv4 dhcp sections found -- dhcp is supported only for a single IPv4 address on each network",
        ),
        (
            "<ip family='ipv6' address='fd00::1'><dhcp><host name='a' ip='fd00::2'/></dhcp></ip>
             <ip family='ipv6' address='fd01::1'>¦<dhcp><host name='b' ip='fd01::2'/></dhcp></ip>",
            "unsupported configuration: Multiple IPv6 dhcp sections found -- dhcp is supported only for a single IPv6 address on each network",
        ),
    ]);
}

#[test]
fn routes() {
    check_in(
        "<ip address='10.0.0.1' prefix='8'/>",
        "",
        &[
            (
                "<route ¦metric='0'/>",
                "XML error: Invalid value for attribute 'metric' in element 'route': Zero is not permitted",
            ),
            (
                "<route ¦prefix='-1'/>",
                "XML error: Invalid value for attribute 'prefix' in element 'route': '-1'. Expected non-negative integer value",
            ),
            ("¦<route/>", "XML error: n: Missing required address attribute in route definition"),
            (
                "¦<route address='1.0.0.0'/>",
                "XML error: n: Missing required gateway attribute in route definition",
            ),
            (
                "<route ¦address='x' gateway='10.0.0.2'/>",
                "XML error: n: Bad network address 'x' in route definition",
            ),
            (
                "<route address='1.0.0.0' ¦gateway='x'/>",
                "XML error: n: Bad gateway address 'x' in route definition",
            ),
            (
                "<route ¦address='fd00::' gateway='fd00::1'/>",
                "XML error: n: No family specified for non-IPv4 address 'fd00::' in route definition",
            ),
            (
                "<route family='ipv4' address='1.0.0.0' ¦gateway='fd00::1'/>",
                "XML error: n: IPv4 family specified for non-IPv4 gateway '1.0.0.0' in route definition",
            ),
            (
                "<route address='1.0.0.0' ¦netmask='x' gateway='10.0.0.2'/>",
                "XML error: n: Bad netmask address 'x' in route definition",
            ),
            (
                "<route address='1.0.0.0' ¦netmask='fd00::' gateway='10.0.0.2'/>",
                "XML error: n: Invalid netmask 'fd00::' for address '1.0.0.0' (both must be IPv4)",
            ),
            (
                "<route address='1.0.0.0' netmask='255.0.0.0' ¦prefix='8' gateway='10.0.0.2'/>",
                "XML error: n: Route definition cannot have both a prefix and a netmask",
            ),
            (
                "<route address='1.0.0.0' ¦prefix='33' gateway='10.0.0.2'/>",
                "XML error: n: Invalid prefix 33 specified in route definition, must be 0 - 32",
            ),
            (
                "<route family='ipv6' ¦address='1.0.0.0' gateway='fd00::1'/>",
                "XML error: n: ipv6 family specified for non-IPv6 address '1.0.0.0' in route definition",
            ),
            (
                "<route family='ipv6' address='fd00::' ¦netmask='255.0.0.0' gateway='fd00::1'/>",
                "XML error: n: Specifying netmask invalid for IPv6 address 'fd00::' in route definition",
            ),
            (
                "<route family='ipv6' address='fd00::' ¦gateway='10.0.0.2'/>",
                "XML error: n: ipv6 specified for non-IPv6 gateway address '10.0.0.2' in route definition",
            ),
            (
                "<route family='ipv6' address='fd00::' ¦prefix='129' gateway='fd00::1'/>",
                "XML error: n: Invalid prefix 129 specified in route definition, must be 0 - 128",
            ),
            (
                "<route ¦family='ipx' address='1.0.0.0' gateway='10.0.0.2'/>",
                "XML error: n: Unrecognized family 'ipx' in route definition",
            ),
            (
                "<route ¦address='1.0.0.1' prefix='8' gateway='10.0.0.2'/>",
                "XML error: n: Address '1.0.0.1' in route definition is not a network address",
            ),
            (
                "<route ¦address='1.0.0.0' gateway='10.0.0.2'/>",
                "XML error: n: Address '1.0.0.0' in route definition is not a network address",
            ),
            (
                "<route address='1.2.3.0' prefix='24' ¦gateway='11.0.0.1'/>",
                "unsupported configuration: unreachable static route gateway '11.0.0.1' specified for network 'n'",
            ),
        ],
    );
}

#[test]
fn ranges() {
    check_in(
        "<ip address='10.0.0.1' prefix='24'><dhcp>",
        "</dhcp></ip>",
        &[
            (
                "¦<range end='10.0.0.9'/>",
                "XML error: Missing 'start' attribute in dhcp range for network 'n'",
            ),
            (
                "<range ¦start='x' end='10.0.0.9'/>",
                "Cannot parse socket address 'x': Name or service not known",
            ),
            (
                "¦<range start='10.0.0.9'/>",
                "XML error: Missing 'end' attribute in dhcp range for network 'n'",
            ),
            (
                "<range start='10.0.0.9' ¦end='fd00::1'/>",
                "internal error: mismatch of address family in range 10.0.0.9 - fd00::1",
            ),
            (
                "<range ¦start='fd00::1' end='fd00::2'/>",
                "internal error: mismatch of address family in range fd00::1 - fd00::2 for network 10.0.0.1",
            ),
            (
                "<range start='10.0.0.2' ¦end='10.0.1.9'/>",
                "internal error: range 10.0.0.2 - 10.0.1.9 is not entirely within network 10.0.0.1/24",
            ),
            (
                "<range ¦start='10.0.0.0' end='10.0.0.9'/>",
                "internal error: start of range 10.0.0.0 - 10.0.0.9 in network 10.0.0.1/24 is the network address",
            ),
            (
                "<range start='10.0.0.2' ¦end='10.0.0.255'/>",
                "internal error: end of range 10.0.0.2 - 10.0.0.255 in network 10.0.0.1/24 is the broadcast address",
            ),
            (
                "<range ¦start='10.0.0.9' end='10.0.0.2'/>",
                "internal error: range 10.0.0.9 - 10.0.0.2 is reversed ",
            ),
            (
                "<range start='10.0.0.2' end='10.0.0.3'><lease ¦expiry='1'/></range>",
                "unsupported configuration: The minimum lease time should be greater than 2 minutes",
            ),
            (
                "<range start='10.0.0.2' end='10.0.0.3'><lease ¦expiry='119' unit='seconds'/></range>",
                "unsupported configuration: The minimum lease time should be greater than 2 minutes",
            ),
            (
                "<range start='10.0.0.2' end='10.0.0.3'><lease ¦expiry='soon'/></range>",
                "XML error: Invalid value for attribute 'expiry' in element 'lease': 'soon'. Expected non-negative integer value",
            ),
            (
                "<range start='10.0.0.2' end='10.0.0.3'><lease expiry='9' ¦unit='days'/></range>",
                "XML error: Invalid value for attribute 'unit' in element 'lease': 'days'.",
            ),
            (
                "¦<bootp server='10.0.0.2'/>",
                "XML error: Missing required attribute 'file' in element 'bootp'",
            ),
            (
                "<bootp file='f' ¦server='boot.example'/>",
                "Cannot parse socket address 'boot.example': Name or service not known",
            ),
        ],
    );
    check_in(
        "<ip address='10.0.0.1' prefix='8'><dhcp>",
        "</dhcp></ip>",
        &[(
            // Not even 65535 addresses, but the second octets differ.
            "<range start='10.0.0.2' ¦end='10.1.0.1'/>",
            "internal error: range 10.0.0.2 - 10.1.0.1 is too large (> 65535)",
        )],
    );
    check_in(
        "<ip family='ipv6' address='fd00::1' prefix='64'><dhcp>",
        "</dhcp></ip>",
        &[
            (
                "<range ¦start='fd00::9' end='fd00::2'/>",
                "internal error: range fd00::9 - fd00::2 start larger than end",
            ),
            (
                "<range start='fd00::9' ¦end='fd00::1:2'/>",
                "internal error: range fd00::9 - fd00::1:2 is too large (> 65535)",
            ),
        ],
    );
}

#[test]
fn hosts() {
    check_in(
        "<ip address='10.0.0.1' prefix='24'><dhcp>",
        "</dhcp></ip>",
        &[
            ("<host ¦mac='5' ip='10.0.0.2'/>", "XML error: Cannot parse MAC address '5' in network 'n'"),
            (
                "<host ¦mac='01:02:03:04:05:06' ip='10.0.0.2'/>",
                "XML error: expected unicast mac address, found multicast '01:02:03:04:05:06' in network 'n'",
            ),
            (
                "<host ¦id='0:x' name='a' ip='10.0.0.2'/>",
                "XML error: Invalid character 'x' in id '0:x' of network 'n'",
            ),
            ("<host ¦name='-a' ip='10.0.0.2'/>", "XML error: Cannot use host name '-a' in network 'n'"),
            (
                "<host name='a' ¦ip='x'/>",
                "XML error: Invalid IP address in static host definition for network 'n'",
            ),
            (
                "¦<host id='0:1' ip='10.0.0.2'/>",
                "XML error: Static host definition in IPv4 network 'n' must have mac or name attribute",
            ),
            ("¦<host name='a'/>", "XML error: Missing IP address in static host definition for network 'n'"),
        ],
    );
    let twin = "Requested operation is not valid: there is an existing dhcp host entry in network 'n' that matches \"<host mac='52:54:00:00:00:0A' name='a' ip='10.0.0.2'/>\"";
    check_in(
        "<ip address='10.0.0.1' prefix='24'><dhcp><host mac='52:54:00:00:00:0A' name='a' ip='10.0.0.2'/>",
        "</dhcp></ip>",
        &[
            ("<host ¦mac='52:54:0:0:0:a' ip='10.0.0.3'/>", twin),
            ("<host ¦name='A' ip='10.0.0.3'/>", twin),
            ("<host name='b' ¦ip='10.0.0.2'/>", twin),
        ],
    );
    check_in(
        "<ip family='ipv6' address='fd00::1' prefix='64'><dhcp>",
        "</dhcp></ip>",
        &[
            (
                "¦<host ip='fd00::2'/>",
                "XML error: Static host definition in IPv6 network 'n' must have id or name attribute",
            ),
            (
                "<host ¦mac='52:54:00:00:00:0a' ip='fd00::2'/>",
                "XML error: Invalid to specify MAC address '52:54:00:00:00:0a' in network 'n' IPv6 static host definition",
            ),
        ],
    );
}

#[test]
fn names() {
    check(&[
        ("<dns ¦enable='off'/>", "XML error: Invalid value for attribute 'enable' in element 'dns': 'off'."),
        (
            "<dns ¦forwardPlainNames=''/>",
            "XML error: Invalid value for attribute 'forwardPlainNames' in element 'dns': ''.",
        ),
        (
            "<dns enable='no'>¦<txt name='a' value='b'/></dns>",
            "XML error: Extra data in disabled network 'n'",
        ),
    ]);
    let host = "in network 'n' DNS HOST record";
    check_in(
        "<dns>",
        "</dns>",
        &[
            (
                "¦<forwarder/>",
                "XML error: Invalid forwarder element, must contain at least one of addr or domain",
            ),
            ("<forwarder ¦addr='x'/>", "XML error: Invalid forwarder IP address 'x' in network 'n'"),
            (
                "<forwarder addr='1.1.1.1' ¦port='dns'/>",
                "XML error: Invalid value for attribute 'port' in element 'forwarder': 'dns'. Expected integer value",
            ),
            (
                "<forwarder addr='1.1.1.1' ¦port='-1'/>",
                "XML error: Invalid value for attribute 'port' in element 'forwarder': '-1'. Expected non-negative value",
            ),
            (
                "<forwarder addr='1.1.1.1' ¦port='0'/>",
                "XML error: Invalid value for attribute 'port' in element 'forwarder': Zero is not permitted",
            ),
            ("<forwarder addr='1.1.1.1' ¦port='65536'/>", "invalid argument: port '65536' out of range"),
            ("¦<txt value='b'/>", "missing required name attribute in DNS TXT record of network n"),
            (
                "<txt ¦name='a,b' value='c'/>",
                "prohibited character in DNS TXT record name 'a,b' of network n",
            ),
            ("¦<txt name='a'/>", "missing required value attribute in DNS TXT record named 'a' of network n"),
            ("<host ¦ip='1.1.1.1'/>", &format!("Missing hostname {host}")),
            ("<host ¦ip='1.1.1.1'><hostname/></host>", &format!("Missing hostname {host}")),
            ("<host ¦ip='x'><hostname>a</hostname></host>", &format!("Invalid IP address {host}")),
            ("¦<host><hostname>a</hostname></host>", &format!("Missing IP address {host}")),
        ],
    );
}

#[test]
fn services() {
    let long = "s".repeat(483);
    let too_long = format!("<srv ¦service='{long}' protocol='tcp'/>");
    let too_long_message =
        format!("service attribute '{long}' in network 'n' is too long, limit is 482 bytes");
    check_in(
        "<dns>",
        "</dns>",
        &[
            ("¦<srv/>", "missing required service attribute in DNS SRV record of network 'n'"),
            (&too_long, &too_long_message),
            (
                "<srv ¦service='a.b' protocol='tcp'/>",
                "invalid character in service attribute 'a.b' in DNS SRV record of network 'n'",
            ),
            (
                "¦<srv service='s'/>",
                "missing required protocol attribute in DNS SRV record 's' of network 'n'",
            ),
            (
                "<srv service='s' ¦protocol='_tcp'/>",
                "invalid character in protocol attribute '_tcp' in DNS SRV record of network 'n'",
            ),
            (
                "<srv service='s' protocol='tcp' ¦port='1'/>",
                "DNS SRV port attribute not permitted without target for service 's' in network 'n'",
            ),
            (
                "<srv service='s' protocol='tcp' target='t' ¦port='0'/>",
                "invalid DNS SRV port attribute for service 's' in network 'n'",
            ),
            (
                "<srv service='s' protocol='tcp' ¦priority='1'/>",
                "DNS SRV priority attribute not permitted without target for service 's' in network 'n'",
            ),
            (
                "<srv service='s' protocol='tcp' target='t' ¦priority='65536'/>",
                "Invalid DNS SRV priority attribute for service 's' in network 'n'",
            ),
            (
                "<srv service='s' protocol='tcp' ¦weight='1'/>",
                "DNS SRV weight attribute not permitted without target for service 's' in network 'n'",
            ),
            (
                "<srv service='s' protocol='tcp' ¦weight='x'/>",
                "invalid DNS SRV weight attribute for service 's' in network 'n'",
            ),
        ],
    );
}

#[test]
fn shaping() {
    check_in(
        "<bandwidth",
        "</bandwidth>",
        &[
            (" ¦classID='1'>", "classID attribute not supported on <bandwidth> in this usage context"),
            (
                "><inbound ¦average='1.5'/>",
                "XML error: Invalid value for attribute 'average' in element 'inbound': '1.5'. Expected non-negative integer value",
            ),
            (
                "><inbound average='1' ¦peak='-2'/>",
                "XML error: Invalid value for attribute 'peak' in element 'inbound': '-2'. Expected non-negative integer value",
            ),
            (">¦<inbound peak='1'/>", "Missing mandatory average or floor attributes"),
            (
                "><inbound floor='1' ¦burst='1'/>",
                "unsupported configuration: 'peak' and 'burst' require 'average' attribute",
            ),
            (
                "><inbound average='1' ¦floor='1'/>",
                "unsupported configuration: floor attribute is not supported for this config",
            ),
            (
                "><outbound ¦floor='1'/>",
                "unsupported configuration: floor attribute is not supported for this config",
            ),
        ],
    );
    check(&[
        (
            "¦<vlan/>",
            "XML error: missing tag id - each <vlan> must have at least one <tag id='n'/> subelement",
        ),
        ("<vlan>¦<tag/></vlan>", "XML error: Missing required attribute 'id' in element 'tag'"),
        (
            "<vlan><tag ¦id='x'/></vlan>",
            "XML error: Invalid value for attribute 'id' in element 'tag': 'x'. Expected non-negative integer value",
        ),
        ("<vlan><tag ¦id='4096'/></vlan>", "XML error: vlan tag id 4096 too large (maximum 4095)"),
        (
            "<vlan><tag id='1' ¦nativeMode='default'/></vlan>",
            "XML error: Invalid value for attribute 'nativeMode' in element 'tag': 'default'.",
        ),
        (
            "<vlan><tag id='1' nativeMode='tagged'/><tag id='2' ¦nativeMode='tagged'/></vlan>",
            "XML error: duplicate native vlan setting",
        ),
        (
            "<vlan ¦trunk='no'><tag id='1'/><tag id='2'/></vlan>",
            "XML error: invalid \"trunk='no'\" in <vlan> - trunk='yes' is required for more than one vlan tag",
        ),
        (
            "<vlan ¦trunk='no'><tag id='1' nativeMode='tagged'/></vlan>",
            "XML error: invalid configuration in <vlan> - \"trunk='no'\" is not allowed with a native vlan id",
        ),
        (
            "<vlan ¦trunk='maybe'><tag id='1'/></vlan>",
            "XML error: invalid \"trunk='maybe'\" in <vlan> - must be yes or no",
        ),
    ]);
}

#[test]
fn profiles_and_groups() {
    let long = format!(
        "<virtualport type='openvswitch'><parameters ¦profileid='{}'/></virtualport>",
        "p".repeat(40)
    );
    check(&[
        ("¦<virtualport/>", "XML error: missing required virtualport type"),
        ("<virtualport ¦type='none'/>", "unsupported configuration: unknown virtualport type none"),
        (&long, "XML error: profileid parameter too long"),
        (
            "<virtualport type='802.1Qbh'><parameters ¦managerid='1'/></virtualport>",
            "XML error: extra managerid unsupported in <virtualport type='802.1Qbh'>",
        ),
        (
            "<virtualport type='openvswitch'><parameters ¦typeid='1'/></virtualport>",
            "XML error: extra typeid unsupported in <virtualport type='openvswitch'>",
        ),
        ("¦<portgroup/>", "XML error: Missing required name attribute in portgroup"),
        (
            "<portgroup name='a' ¦trustGuestRxFilters='x'/>",
            "XML error: Invalid value for attribute 'trustGuestRxFilters' in element 'portgroup': 'x'.",
        ),
        (
            "<portgroup name='a'/><portgroup ¦name='a'/>",
            "unsupported configuration: multiple <portgroup> elements with the same name (a) in network 'n'",
        ),
        (
            "<portgroup name='a' default='yes'/><portgroup name='b' ¦default='YES'/>",
            "unsupported configuration: network 'n' has multiple default <portgroup> elements (a and b), but only one default is allowed",
        ),
        (
            "<portgroup name='a' default='yes'/><portgroup ¦name='a' default='yes'/>",
            "unsupported configuration: multiple <portgroup> elements with the same name (a) in network 'n'",
        ),
    ]);
    check_in(
        "<virtualport type='802.1Qbg'><parameters",
        "/></virtualport>",
        &[
            ("¦managerid='x'", "XML error: cannot parse value of managerid parameter"),
            ("¦managerid='-1'", "XML error: value of managerid out of range"),
            ("¦typeid='0x1000000'", "XML error: value for typeid out of range"),
            ("¦typeidversion='256'", "XML error: value of typeidversion out of range"),
            ("¦instanceid='x'", "XML error: cannot parse instanceid parameter as a uuid"),
            ("¦interfaceid='x'", "XML error: cannot parse interfaceid parameter as a uuid"),
            ("¦profileid='p'", "XML error: extra profileid unsupported in <virtualport type='802.1Qbg'>"),
        ],
    );
}

#[test]
fn uplinks() {
    check_in(
        "<p:uplink xmlns:p='urn:pontoon:network:1' dev='up0' ",
        "/>",
        &[
            ("kind='direct' ¦speed='9'", "XML error: unknown attribute 'speed' in element 'uplink'"),
            ("¦kind='pipe'", "XML error: Invalid value for attribute 'kind' in element 'uplink': 'pipe'."),
            (
                "kind='tap' address='203.0.113.2/24' ¦gateway='203.0.114.1'",
                "XML error: uplink gateway '203.0.114.1' is not within subnet 203.0.113.0/24",
            ),
            (
                "kind='shared' ¦address='203.0.113.2/24'",
                "XML error: attribute 'address' is not allowed in element 'uplink' of kind 'shared'",
            ),
            (
                "kind='shared' ¦netns='outside'",
                "XML error: attribute 'netns' is not allowed in element 'uplink' of kind 'shared'",
            ),
            (
                "kind='tap' ¦address='203.0.113.2/99'",
                "XML error: Invalid value for attribute 'address' in element 'uplink': '203.0.113.2/99'.",
            ),
        ],
    );
    check(&[
        (
            "¦<uplink xmlns='urn:pontoon:network:1' dev='up0'/>",
            "XML error: Missing required attribute 'kind' in element 'uplink'",
        ),
        (
            "¦<log xmlns='urn:pontoon:network:1'/>",
            "XML error: Missing required attribute 'mappings' in element 'log'",
        ),
        (
            "<log xmlns='urn:pontoon:network:1' ¦mappings='on'/>",
            "XML error: Invalid value for attribute 'mappings' in element 'log': 'on'.",
        ),
        (
            "<log xmlns='urn:pontoon:network:1' ¦what='yes'/>",
            "XML error: unknown attribute 'what' in element 'log'",
        ),
    ]);
}

#[test]
fn rendering() {
    let error =
        parse("<network>\n  <name>n</name>\n  <mac address='01:00:00:00:00:00'/>\n</network>").unwrap_err();
    let expected = "\
XML error: Invalid multicast bridge mac address '01:00:00:00:00:00' in network 'n'
  --> net.xml:3:8
   |   <mac address='01:00:00:00:00:00'/>
   |        ^
   = help: the first pair of a unicast address is even, such as 52";
    assert_eq!(error.render("net.xml"), expected);
}

#[test]
fn hostile_input() {
    let deep = |open: &str, close: &str, n: usize| {
        format!("<network><name>n</name><metadata>{}{}</metadata></network>", open.repeat(n), close.repeat(n))
    };
    assert!(parse(&deep("<a>", "</a>", 200)).is_ok());
    assert!(parse(&deep("<a>", "</a>", 100_000)).unwrap_err().message.contains("excessive depth"));
    assert!(parse(&deep("<!-- <a> -->", "", 1000)).is_ok());
    let hidden = deep("<a>", "</a>", 100_000).replace("<metadata>", "<metadata><![CDATA[<!--]]><?p <!-- ?>");
    assert!(parse(&hidden).unwrap_err().message.contains("excessive depth"));
    let quoted = deep("<a b='/>' c=\"'/>\">/>", "</a>", 100_000);
    assert!(parse(&quoted).unwrap_err().message.contains("excessive depth"));
    assert!(parse(&deep("<a b='>'/><b></b>", "", 1000)).is_ok());
    assert!(parse(&" ".repeat(5 << 20)).unwrap_err().message.contains("4 MiB"));
    let sample = "<network><name>ä</name><forward mode='nat'><nat><port start='1' end='2'/></nat></forward><ip address='10.0.0.1' netmask='255.255.255.0'><dhcp><range start='10.0.0.2' end='10.0.0.9'/></dhcp></ip></network>";
    for (cut, _) in sample.char_indices() {
        let _ = parse(&sample[..cut]).map_err(|error| error.render("x"));
        for junk in ["'", "<", "&", "\u{0}", "é", "-1", "9999999999999999999999", " "] {
            let text = format!("{}{junk}{}", &sample[..cut], &sample[cut..]);
            let _ = parse(&text).map_err(|error| error.render("x"));
        }
    }
}

/// As many of each thing as fit a document take no time that grows with their square.
#[test]
fn large_documents() {
    let many = |count: usize, one: fn(usize) -> String| (0..count).map(one).collect::<String>();
    let interfaces = many(50_000, |n| format!("<interface dev='e{n}'/>"));
    let addresses = many(40_000, |n| format!("<address type='pci' domain='{n}' bus='1'/>"));
    let groups = many(20_000, |n| format!("<portgroup name='g{n}'/>"));
    let tags = many(20_000, |n| format!("<tag id='{}'/>", n % 4096));
    let hosts = many(30_000, |n| format!("<host name='h{n}' ip='10.{}.{}.2'/>", n / 256, n % 256));
    let routes = many(20_000, |n| {
        format!("<route address='1.{}.{}.0' prefix='24' gateway='10.0.0.2'/>", n / 256, n % 256)
    });
    let ips = many(1024, |n| format!("<ip address='11.{}.{}.1' prefix='24'/>", n / 256, n % 256));
    let ip = format!("<ip address='10.0.0.1' prefix='8'><dhcp>{hosts}</dhcp></ip>");
    let bodies = [
        format!("<forward mode='bridge'>{interfaces}</forward>"),
        format!("<forward mode='hostdev'>{addresses}</forward>"),
        format!("{groups}<vlan>{tags}</vlan>{ip}{routes}"),
        format!("{}{routes}", ips.replacen("11.0.0.1", "10.0.0.1", 1)),
    ];
    for body in bodies {
        let text = format!("<network><name>n</name>{body}</network>");
        let network = parse(&text).unwrap_or_else(|error| panic!("{}", error.render("x")));
        pontoon_netxml::validate(&text).unwrap();
        assert!(network.to_xml(&pontoon_netxml::DumpOptions::default()).len() > text.len());
    }
    check(&[(
        &format!("{ips}¦<ip address='12.0.0.1'/>"),
        "unsupported configuration: network 'n' has more than 1024 <ip> elements",
    )]);
}
