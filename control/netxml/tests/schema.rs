//! `--validate`, and what is named as ignored.
#![allow(clippy::unwrap_used)]

use pontoon_netxml::{parse, validate};

const PREFIX: &str =
    "XML document failed to validate against schema: Unable to validate doc against network.rng: ";

fn network(body: &str) -> String {
    format!("<network>\n<name>n</name>\n{body}\n</network>")
}

#[test]
fn refusals() {
    let cases = [
        ("<frob/>", "Extra element frob in interleave"),
        ("<bridge colour='red'/>", "Invalid attribute colour for element bridge"),
        ("<bridge stp='maybe'/>", "Error validating value 'maybe' of attribute stp of element bridge"),
        ("<bridge/><bridge/>", "Extra element bridge in interleave"),
        ("<mtu/>", "Element mtu lacks attribute size"),
        ("<mtu size='70000'/>", "Error validating value '70000' of attribute size of element mtu"),
        (
            "<mac address='52:54:0:0:0:1'/>",
            "Error validating value '52:54:0:0:0:1' of attribute address of element mac",
        ),
        ("<uuid>x</uuid>", "Error validating value 'x' of element uuid"),
        ("<title>a<b/></title>", "Element title has extra content: b"),
        ("text", "Did not expect text in element network content"),
        ("<vlan/>", "Expecting an element tag, got nothing"),
        ("<dns><host ip='1.1.1.1'/></dns>", "Expecting an element hostname, got nothing"),
        (
            "<dns><srv service='s' protocol='sctp'/></dns>",
            "Error validating value 'sctp' of attribute protocol of element srv",
        ),
        (
            "<ip address='10.1' prefix='8'/>",
            "Error validating value '10.1' of attribute address of element ip",
        ),
        (
            "<ip family='ipv6' address='fd00::1'><dhcp><host id='0:9' ip='fd00::2'/></dhcp></ip>",
            "Error validating value '0:9' of attribute id of element host",
        ),
    ];
    for (body, message) in cases {
        let error = validate(&network(body)).expect_err(body);
        assert_eq!(error.message, format!("{PREFIX}{message}"), "{body}");
        assert!(error.line > 0, "{body}");
    }
    let error = validate("<network/>").unwrap_err();
    assert_eq!(error.message, format!("{PREFIX}Expecting an element name, got nothing"));
}

#[test]
fn accepted() {
    for body in [
        "<metadata><a:b xmlns:a='urn:a' c='d'>e<f/></a:b></metadata>",
        "<p:uplink xmlns:p='urn:pontoon:network:1' kind='tap' dev='up0'/>",
        "<forward mode='hostdev'><address type='pci' domain='0' bus='0x04' slot='0' function='7' connections='1'/></forward>",
        "<ip family='ipv6' address='fd00::1'><dhcp><host id='0:4:7e:7d:f0:7d:a8:bc:c5:d2:13:32:11:ed:16:ea:84:63' ip='fd00::2'/></dhcp></ip>",
        "<options xmlns='http://libvirt.org/schemas/network/dnsmasq/1.0'><option value='a'/></options>",
        "<virtualport type='802.1Qbg'><parameters managerid='0xff' typeid='16777215'/></virtualport>",
    ] {
        validate(&network(body)).unwrap_or_else(|error| panic!("{}", error.render(body)));
    }
}

#[test]
fn ignored_things_are_named() {
    let text = network(
        "<frob/>\n<bridge name='b' colour='red'/>\n<ip address='10.0.0.1'><dhcp><pool/></dhcp></ip>\n<metadata><x/></metadata>",
    );
    let network = parse(&text).unwrap();
    let mut unknown = network.unknown.clone();
    unknown.sort();
    assert_eq!(unknown, ["<frob> (line 3)", "<pool> (line 5)", "attribute 'colour' of <bridge> (line 4)"]);
    let warnings = network.warnings();
    assert!(warnings.contains(&"<frob> (line 3) is not part of the format and is ignored".to_owned()));
    let many = "<x/>".repeat(1000);
    assert_eq!(parse(&format!("<network><name>n</name>{many}</network>")).unwrap().unknown.len(), 32);
}
