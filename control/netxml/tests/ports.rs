//! The XML of ports.
#![allow(clippy::unwrap_used)]

use pontoon_netxml::port::{Plug, parse, validate};

const HEAD: &str = "<uuid>5d744f21-ba4a-4d6e-bdb2-30a35ff3207d</uuid><owner><name>web</name>\
    <uuid>c60c5c6a-6f8e-4a3c-8e53-3c0f3c4f1c01</uuid></owner><mac address='52:54:00:AA:BB:1'/>";

fn port(body: &str) -> String {
    format!("<networkport>{HEAD}{body}</networkport>")
}

#[test]
fn canonical_form() {
    let text = port(
        "<plug type='network' bridge='virbr0' macTableManager='libvirt'/><rxfilters trustGuest='yes'/>
        <port isolated='no'/><vlan><tag id='7'/></vlan><group>g</group>
        <bandwidth classID='3'><inbound average='9' floor='4'/></bandwidth>
        <virtualport type='802.1Qbg'><parameters managerid='0xb' typeid='11' instanceid='09b11c53-8b5c-4eeb-8f00-d84eaa0aaa4f'/></virtualport>",
    );
    let expected = "\
<networkport>
  <uuid>5d744f21-ba4a-4d6e-bdb2-30a35ff3207d</uuid>
  <owner>
    <name>web</name>
    <uuid>c60c5c6a-6f8e-4a3c-8e53-3c0f3c4f1c01</uuid>
  </owner>
  <group>g</group>
  <mac address='52:54:00:aa:bb:01'/>
  <virtualport type='802.1Qbg'>
    <parameters managerid='11' typeid='11' instanceid='09b11c53-8b5c-4eeb-8f00-d84eaa0aaa4f'/>
  </virtualport>
  <bandwidth classID='3'>
    <inbound average='9' floor='4'/>
  </bandwidth>
  <vlan>
    <tag id='7'/>
  </vlan>
  <port isolated='no'/>
  <rxfilters trustGuest='yes'/>
  <plug type='network' bridge='virbr0' macTableManager='libvirt'/>
</networkport>
";
    let read = parse(&text).unwrap();
    assert_eq!(read.to_xml(), expected);
    assert_eq!(parse(expected).unwrap(), read);
    validate(expected).unwrap();
}

#[test]
fn plugs() {
    let printed = |body: &str| {
        let xml = parse(&port(body)).unwrap().to_xml();
        let at = xml.find("  <plug").unwrap();
        xml[at..].lines().map(str::trim).filter(|line| *line != "</networkport>").collect::<String>()
    };
    for same in [
        "<plug type='bridge' bridge='br0'/>",
        "<plug type='direct' dev='eth0' mode='passthrough'/>",
        "<plug type='hostdev-pci' managed='yes'><driver name='vfio' model='m'/><address domain='0x0001' bus='0x02' slot='0x03' function='0x4'/></plug>",
        "<plug type='hostdev-pci'><address domain='0x0001' bus='0x02' slot='0x03' function='0x4'/></plug>",
    ] {
        assert_eq!(printed(same), same);
    }
    assert_eq!(printed("<plug type='direct' dev='e'/>"), "<plug type='direct' dev='e' mode='vepa'/>");
    assert_eq!(parse(&port("<plug type='none'/>")).unwrap().plug, Plug::None);
    assert_eq!(parse(&port("")).unwrap().plug, Plug::None);
}

#[test]
fn refusals() {
    let without = |what: &str| {
        let (from, to) = (port("").find(&format!("<{what}")).unwrap(), format!("</{what}>"));
        let text = port("");
        let end =
            text[from..].find(&to).map_or_else(|| text[from..].find("/>").unwrap() + 2, |at| at + to.len());
        format!("{}{}", &text[..from], &text[from + end..])
    };
    let replaced = |from: &str, to: &str| port("").replacen(from, to, 1);
    let cases = [
        ("<network/>".to_owned(), "XML error: expecting root element of 'networkport', not 'network'"),
        (
            "<networkport>".to_owned(),
            "(networkport_definition):1: Premature end of data in tag networkport line 1",
        ),
        (without("uuid"), "internal error: network port has no uuid"),
        (replaced("5d744f21", "x"), "internal error: Unable to parse UUID 'x-ba4a-4d6e-bdb2-30a35ff3207d'"),
        (without("owner"), "internal error: network port has no owner name"),
        (replaced("<name>web</name>", ""), "internal error: network port has no owner name"),
        (without("mac"), "internal error: network port has no mac"),
        (replaced("52:54:00:AA:BB:1", "1"), "internal error: Unable to parse MAC '1'"),
        (
            port("<rxfilters trustGuest='1'/>"),
            "XML error: Invalid value for attribute 'trustGuest' in element 'rxfilters': '1'.",
        ),
        (
            port("<plug type='user'/>"),
            "XML error: Invalid value for attribute 'type' in element 'plug': 'user'.",
        ),
        (port("<plug type='bridge'/>"), "XML error: Missing network port bridge name"),
        (
            port("<plug type='network' bridge='b' macTableManager='x'/>"),
            "XML error: Invalid macTableManager setting 'x' in network port",
        ),
        (port("<plug type='direct'/>"), "XML error: Missing network port link device name"),
        (
            port("<plug type='direct' dev='e' mode='x'/>"),
            "XML error: Invalid mode setting 'x' in network port",
        ),
        (
            port("<plug type='hostdev-pci' managed='x'/>"),
            "XML error: Invalid value for attribute 'managed' in element 'plug': 'x'.",
        ),
        (
            port("<plug type='hostdev-pci'><driver name='x'/></plug>"),
            "XML error: Invalid value for attribute 'name' in element 'driver': 'x'.",
        ),
        (port("<plug type='hostdev-pci'/>"), "XML error: Missing network port PCI address"),
    ];
    for (text, message) in cases {
        assert_eq!(parse(&text).expect_err(&text).message, message, "{text}");
    }
    let text = port("<plug type='bridge' bridge='b' colour='red'/>")
        .replace("52:54:00:AA:BB:1", "52:54:00:aa:bb:01");
    let error = validate(&text).unwrap_err();
    assert_eq!(
        error.message,
        "XML document failed to validate against schema: Unable to validate doc against networkport.rng: Invalid attribute colour for element plug"
    );
}
