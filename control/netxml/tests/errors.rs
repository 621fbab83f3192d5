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
    assert_eq!(refuse("<network>\n¦<name>a/b</name></network>").message, "invalid char in name: /");
    assert_eq!(refuse("<network>¦<name>a\nb</name></network>").message, "invalid char in name: \n");
    check(&[
        ("¦<uuid>zz</uuid>", "internal error: malformed uuid element"),
        ("<mac ¦address='52:54:00:x'/>", "XML error: Invalid bridge mac address '52:54:00:x' in network 'n'"),
        (
            "<mac ¦address='01:00:00:00:00:00'/>",
            "XML error: Invalid multicast bridge mac address '01:00:00:00:00:00' in network 'n'",
        ),
        (
            "<bridge ¦macTableManager='default'/>",
            "XML error: Invalid macTableManager setting 'default' in network 'n'",
        ),
        ("<bridge ¦delay='-1'/>", "XML error: Invalid delay value in network 'n'"),
        ("<mtu ¦size='1500b'/>", "XML error: Invalid mtu size '1500b' in network 'n'"),
    ]);
}

#[test]
fn malformed() {
    let error = parse("<network>\n  <name>n</nam>\n</network>").unwrap_err();
    assert!(error.message.starts_with("(network_definition):2: "), "{error}");
    assert_eq!((error.line, error.column > 0), (2, true));
    assert!(!error.message.contains(" at 2:"), "{error}");
    for text in ["", "<", "<network", "\u{0}", "<network><name>n</name>", "<!DOCTYPE a []><network/>"] {
        assert!(parse(text).unwrap_err().message.starts_with("(network_definition):"), "{text:?}");
    }
}

#[test]
fn forwarding() {
    check(&[
        (
            "¦<forward mode='nat'/>",
            "XML error: nat forwarding requested, but no IP address provided for network 'n'",
        ),
        (
            "¦<forward mode='route'/>",
            "XML error: route forwarding requested, but no IP address provided for network 'n'",
        ),
        ("<forward ¦mode='warp'/>", "unsupported configuration: unknown forwarding type 'warp'"),
        (
            "<forward ¦dev='e' mode='open'/>",
            "XML error: forward dev not allowed for network 'n' with forward mode='open'",
        ),
        (
            "¦<forward><interface dev='a'/><interface dev='b'/></forward><ip address='10.0.0.1' prefix='8'/>",
            "XML error: multiple forwarding interfaces specified for network 'n', only one is supported",
        ),
        (
            "<forward mode='bridge' dev='e'/><bridge ¦name='b'/>",
            "XML error: A network with forward mode='bridge' can specify a bridge name or a forward dev, but not both (network 'n')",
        ),
        (
            "<forward mode='bridge'/><bridge name='b' ¦stp='on'/>",
            "XML error: bridge delay/stp/zone options only allowed in route, nat, and isolated mode, not in bridge (network 'n')",
        ),
        (
            "<forward mode='vepa'/><bridge ¦name='b'/>",
            "XML error: bridge name not allowed in vepa mode (network 'n')",
        ),
        (
            "<forward mode='bridge'/>¦<mtu size='9000'/>",
            "XML error: mtu size only allowed in open, route, nat, and isolated mode, not in bridge (network 'n')",
        ),
        (
            "<forward mode='bridge'/>¦<domain name='d'/>",
            "unsupported configuration: Unsupported <domain> element in network n with forward mode='bridge'",
        ),
    ]);
    check(&[
        (
            "<forward mode='route'>¦<nat/></forward>",
            "XML error: The <nat> element can only be used when <forward> 'mode' is 'nat' in network n",
        ),
        (
            "<forward><nat><address ¦start='x' end='1.1.1.1'/></nat></forward>",
            "XML error: Bad ipv4 start address 'x' in <nat> in <forward> in network 'n'",
        ),
        (
            "<forward><nat>¦<port end='9'/></nat></forward>",
            "Missing or invalid 'start' attribute in <port> in <nat> in <forward> in network n",
        ),
    ]);
}

#[test]
fn addresses() {
    check(&[
        ("¦<ip/>", "XML error: Missing required address attribute in network 'n'"),
        ("<ip ¦address='10.0.0.x'/>", "XML error: Invalid address '10.0.0.x' in network 'n'"),
        (
            "<ip address='10.0.0.1' ¦netmask='255.0.255.0'/>",
            "unsupported configuration: Invalid netmask '255.0.255.0' for address '10.0.0.1' in network 'n' (both must be IPv4)",
        ),
        (
            "<ip address='10.0.0.1' ¦prefix='33'/>",
            "unsupported configuration: Invalid IPv4 prefix '33' in network 'n'",
        ),
        (
            "<ip address='10.0.0.1' ¦prefix='8' netmask='255.0.0.0'/>",
            "unsupported configuration: Network 'n' IP address cannot have both a prefix and a netmask",
        ),
        (
            "<ip family='ipv6' address='fd00::1' ¦netmask='255.0.0.0'/>",
            "unsupported configuration: netmask not allowed for IPv6 address 'fd00::1' in network 'n'",
        ),
        ("<ip ¦family='ipx' address='10.0.0.1'/>", "XML error: Unrecognized family 'ipx' in network 'n'"),
        (
            "<ip address='10.0.0.1' prefix='8'/>\n<route address='1.2.3.0' prefix='24' ¦gateway='11.0.0.1'/>",
            "unsupported configuration: unreachable static route gateway '11.0.0.1' specified for network 'n'",
        ),
        (
            "<ip address='10.0.0.1' prefix='8'><dhcp><range start='10.0.0.2' end='10.0.0.3'/></dhcp></ip>
             <ip address='11.0.0.1' prefix='8'>¦<dhcp><range start='11.0.0.2' end='11.0.0.3'/></dhcp></ip>",
            "unsupported configuration: Multiple IPv4 dhcp sections found -- dhcp is supported only for a single IPv4 address on each network",
        ),
    ]);
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
        ],
    );
    check_in(
        "<ip address='10.0.0.1' prefix='8'><dhcp>",
        "</dhcp></ip>",
        &[(
            "<range start='10.0.0.2' ¦end='10.1.0.2'/>",
            "internal error: range 10.0.0.2 - 10.1.0.2 is too large (> 65535)",
        )],
    );
    check_in(
        "<ip family='ipv6' address='fd00::1' prefix='64'><dhcp>",
        "</dhcp></ip>",
        &[(
            "<range ¦start='fd00::9' end='fd00::2'/>",
            "internal error: range fd00::9 - fd00::2 start larger than end",
        )],
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
                "¦<host ip='10.0.0.2'/>",
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
fn names_and_groups() {
    check(&[
        (
            "<dns enable='no'>¦<txt name='a' value='b'/></dns>",
            "XML error: Extra data in disabled network 'n'",
        ),
        (
            "<dns>¦<forwarder/></dns>",
            "XML error: Invalid forwarder element, must contain at least one of addr or domain",
        ),
        (
            "<dns><txt ¦name='a b' value='c'/></dns>",
            "prohibited character in DNS TXT record name 'a b' of network n",
        ),
        ("<dns>¦<srv/></dns>", "missing required service attribute in DNS SRV record of network 'n'"),
        (
            "<dns><srv service='s' protocol='tcp' ¦port='1'/></dns>",
            "DNS SRV port attribute not permitted without target for service 's' in network 'n'",
        ),
        (
            "<portgroup name='a'/><portgroup ¦name='a'/>",
            "unsupported configuration: multiple <portgroup> elements with the same name (a) in network 'n'",
        ),
        (
            "<portgroup name='a' default='yes'/><portgroup name='b' ¦default='yes'/>",
            "unsupported configuration: network 'n' has multiple default <portgroup> elements (a and b), but only one default is allowed",
        ),
    ]);
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
                "kind='tap' ¦address='203.0.113.2/99'",
                "XML error: Invalid value for attribute 'address' in element 'uplink': '203.0.113.2/99'.",
            ),
        ],
    );
    check(&[(
        "¦<uplink xmlns='urn:pontoon:network:1' dev='up0'/>",
        "XML error: Missing required attribute 'kind' in element 'uplink'",
    )]);
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
