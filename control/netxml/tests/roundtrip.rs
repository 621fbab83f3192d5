//! Reading, printing, and reading again.
#![allow(clippy::unwrap_used)]

use pontoon_netxml::{DumpOptions, Mode, Network, UplinkKind, parse};

const DEFAULT: &str = "\
<network connections='1'>
  <name>default</name>
  <uuid>0b4ad6a5-5f3e-4b0e-9a53-3f1d3d6a1c01</uuid>
  <forward mode='nat'>
    <nat>
      <port start='1024' end='65535'/>
    </nat>
  </forward>
  <bridge name='virbr0' stp='on' delay='0'/>
  <mac address='52:54:00:0a:0b:0c'/>
  <ip address='192.168.122.1' netmask='255.255.255.0'>
    <dhcp>
      <range start='192.168.122.2' end='192.168.122.254'/>
    </dhcp>
  </ip>
</network>
";

const NAT: &str = "\
<network>
  <name>natntw</name>
  <forward mode='nat'>
    <nat>
      <port start='1024' end='65535'/>
    </nat>
  </forward>
  <bridge name='virbr1' stp='on' delay='0'/>
  <ip address='192.168.100.1' netmask='255.255.255.0'>
    <dhcp>
      <range start='192.168.100.10' end='192.168.100.254'/>
    </dhcp>
  </ip>
</network>
";

const HOST_ONLY: &str = "\
<network>
  <name>hostntw</name>
  <bridge name='virbr2' stp='on' delay='0'/>
  <ip address='192.168.110.1' netmask='255.255.255.0'>
    <dhcp>
      <range start='192.168.110.10' end='192.168.110.254'/>
    </dhcp>
  </ip>
</network>
";

/// Every element there is.
const EVERYTHING: &str = include_str!("sample.xml");

fn print(network: &Network) -> String {
    network.to_xml(&DumpOptions::default())
}

#[test]
fn plain_networks() {
    for text in [NAT, HOST_ONLY, EVERYTHING] {
        let network = parse(text).unwrap();
        assert_eq!(print(&network), text);
    }
    assert!(parse(NAT).unwrap().not_acting().is_empty());
    assert_eq!(parse(HOST_ONLY).unwrap().forward.mode, Mode::Isolated);
}

#[test]
fn connections_are_counted_when_running() {
    let network = parse(DEFAULT).unwrap();
    let mut opts = DumpOptions { inactive: false, connections: Some(1) };
    assert_eq!(network.to_xml(&opts), DEFAULT);
    opts.inactive = true;
    assert_eq!(network.to_xml(&opts), DEFAULT.replace(" connections='1'", ""));
    opts = DumpOptions { inactive: false, connections: Some(0) };
    assert!(network.to_xml(&opts).starts_with("<network>\n"));
}

#[test]
fn defaults_are_made_explicit() {
    let text = "<network ipv6='no'><ip address=\"10.1.2.3\"/><mac address='52:54:00:AA:0:1'/>
        <forward dev='e'/><domain name='d' localOnly='no'/><name>n</name></network>";
    let network = parse(text).unwrap();
    assert_eq!((network.forward.mode, network.ips[0].prefix), (Mode::Nat, 8));
    let expected = "\
<network>
  <name>n</name>
  <forward dev='e' mode='nat'>
    <interface dev='e'/>
  </forward>
  <bridge stp='on' delay='0'/>
  <mac address='52:54:00:aa:00:01'/>
  <domain name='d'/>
  <ip address='10.1.2.3'>
  </ip>
</network>
";
    assert_eq!(print(&network), expected);
    assert_eq!(parse(expected).unwrap(), network);
}

#[test]
fn filtering_is_of_nat_networks() {
    for word in ["endpoint", "address", "address-and-port"] {
        let element = format!("<pontoon:nat xmlns:pontoon='urn:pontoon:network:1' filtering='{word}'/>");
        let ip = "<ip address='10.0.0.1' prefix='24'/>";
        let text = |mode| format!("<network><name>n</name><forward mode='{mode}'/>{ip}{element}</network>");
        let network = parse(&text("nat")).unwrap();
        assert_eq!(network.filtering.as_str(), word);
        assert_eq!(print(&network).contains(&element), word != "address-and-port");
        assert_eq!(parse(&print(&network)).unwrap(), network);
        let refused = parse(&text("open")).unwrap_err();
        assert!(refused.message.contains("has no meaning with forward mode='open'"), "{}", refused.message);
        assert!(parse(&text("nat").replace(word, "cone")).is_err());
        assert!(parse(&text("nat").replace(&element, &element.repeat(2))).is_err());
    }
}

#[test]
fn uplink_fields() {
    let uplink = parse(EVERYTHING).unwrap().uplink.unwrap();
    assert_eq!((uplink.kind, uplink.dev.as_str()), (UplinkKind::Tap, "lan0"));
    assert_eq!(uplink.address.unwrap().prefix_len(), 24);
    let text = "<network><name>n</name>
        <uplink xmlns='urn:pontoon:network:1' kind='direct' dev='up0'/></network>";
    let uplink = parse(text).unwrap().uplink.unwrap();
    assert_eq!((uplink.kind, uplink.address, uplink.gateway), (UplinkKind::Direct, None, None));
    for (dev, name) in [("", ""), (" dev='eth1'", "eth1")] {
        let text = format!(
            "<network><name>n</name><uplink xmlns='urn:pontoon:network:1' kind='shared'{dev}/></network>"
        );
        let network = parse(&text).unwrap();
        let uplink = network.uplink.clone().unwrap();
        assert_eq!((uplink.kind, uplink.dev.as_str()), (UplinkKind::Shared, name));
        assert!(print(&network).contains(&format!("kind='shared'{dev}/>")));
        assert_eq!(parse(&print(&network)).unwrap(), network);
    }
}

#[test]
fn namespaces_declared_outside_metadata_are_kept() {
    let text = "<network xmlns:m='urn:m'><name>n</name><metadata><m:x m:y='1'/></metadata></network>";
    let network = parse(text).unwrap();
    let again = parse(&print(&network)).unwrap();
    assert_eq!(again.metadata.unwrap().attribute("xmlns:m"), network.metadata.unwrap().attribute("xmlns:m"));
}

#[test]
fn passive_elements_are_named() {
    let text = "<network><name>n</name><vlan><tag id='1'/></vlan><frob/><frob/></network>";
    assert_eq!(parse(text).unwrap().not_acting(), ["<vlan>"]);
}

/// What the lines of `body` become.
fn becomes(body: &str, expected: &str) {
    let network = parse(&format!("<network><name>n</name>{body}</network>")).unwrap_or_else(|error| {
        panic!("{}", error.render(body));
    });
    let xml = print(&network);
    assert_eq!(print(&parse(&xml).unwrap()), xml, "{body}");
    let lines = |text: &str| text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>().join("\n");
    let (printed, expected) = (lines(&xml), lines(expected));
    assert!(printed.contains(&expected), "{body} became\n{printed}\nnot\n{expected}");
}

#[test]
fn what_is_as_good_as_absent_goes() {
    becomes(
        "<forward mode='none'/><mtu size='0'/><bridge name='' zone=''/>",
        "<name>n</name>\n<bridge stp='on' delay='0'/>\n</network>",
    );
    becomes("<uuid/><title></title><description/>", "<name>n</name>\n<bridge");
    becomes("<domain localOnly='yes'/>", "delay='0'/>\n</network>");
    becomes("<ip address='10.0.0.1' prefix='0'><dhcp/></ip>", "<ip address='10.0.0.1'>\n</ip>");
    becomes("<ip address='10.0.0.1'><dhcp><bootp file='f'/></dhcp></ip>", "<ip address='10.0.0.1'>\n</ip>");
    becomes(
        "<ip family='ipv6' address='fd00::1'><dhcp><host name='a' ip='fd00::2'/><bootp/></dhcp></ip>",
        "<host name='a' ip='fd00::2'/>\n</dhcp>",
    );
    becomes("<bandwidth/>", "delay='0'/>\n</network>");
    becomes("<bandwidth><inbound average='0' peak='3'/></bandwidth>", "delay='0'/>\n</network>");
    becomes("<bandwidth><inbound average='1' peak='0'/></bandwidth>", "<inbound average='1'/>");
    becomes(
        "<dns><srv service='s' protocol='p' target='t' priority='0' weight='' port='1'/></dns>",
        "target='t' port='1'/>",
    );
    becomes("<dns><forwarder domain='d' port='x'/></dns>", "<forwarder domain='d'/>");
    becomes("<vlan trunk='NO'><tag id='0'/></vlan>", "<vlan>\n<tag id='0'/>");
    becomes("<portgroup name='g'><virtualport/></portgroup>", "<portgroup name='g'>\n</portgroup>");
    becomes(
        "<virtualport type='openvswitch'><parameters profileid=''/></virtualport>",
        "<virtualport type='openvswitch'/>",
    );
    becomes(
        "<ip address='10.0.0.1'><dhcp><range start='10.0.0.2' end='10.0.0.9'><lease unit='hours'/></range></dhcp></ip>",
        "<range start='10.0.0.2' end='10.0.0.9'/>",
    );
}

#[test]
fn what_is_written_otherwise_is_kept() {
    becomes("<dns enable='yes'/>", "<dns enable='yes'/>");
    becomes(
        "<domain name='d' localOnly='yes' register='no'/>",
        "<domain name='d' localOnly='yes' register='no'/>",
    );
    becomes("<port isolated='no'/>", "<port isolated='no'/>");
    becomes("<ip address='10.0.0.1' localPtr='no'/>", "<ip address='10.0.0.1' localPtr='no'>");
    // A host's MAC address is printed as written, the bridge's in canonical form.
    becomes(
        "<mac address='52:54:00:0:A:b'/><ip address='10.0.0.1'><dhcp><host mac='0:16:3E:0:0:1' ip='10.0.0.2'/></dhcp></ip>",
        "<mac address='52:54:00:00:0a:0b'/>\n<ip address='10.0.0.1'>\n<dhcp>\n<host mac='0:16:3E:0:0:1' ip='10.0.0.2'/>",
    );
    becomes(
        "<bridge stp='maybe' delay='007' macTableManager='kernel'/>",
        "<bridge stp='on' delay='7' macTableManager='kernel'/>",
    );
    becomes(
        "<vlan trunk='YES'><tag id='07' nativeMode='tagged'/></vlan>",
        "<vlan trunk='yes'>\n<tag id='7' nativeMode='tagged'/>",
    );
    becomes("<vlan><tag id='7' nativeMode='tagged'/></vlan>", "<vlan>\n<tag id='7' nativeMode='tagged'/>");
    becomes("<portgroup name='g' default='Yes'/>", "<portgroup name='g' default='yes'>\n</portgroup>");
    becomes(
        "<virtualport type='midonet'><parameters managerid='1' interfaceid='0b4ad6a5-5f3e-4b0e-9a53-3f1d3d6a1c01'/></virtualport>",
        "<parameters interfaceid='0b4ad6a5-5f3e-4b0e-9a53-3f1d3d6a1c01'/>",
    );
    becomes(
        "<ip address='10.0.0.1'><dhcp><range start='10.0.0.2' end='10.0.0.9'><lease expiry='0x9'/></range></dhcp></ip>",
        "<lease expiry='9' unit='minutes'/>",
    );
    becomes(
        "<ip address='10.0.0.1'><dhcp><range start='10.0.0.2' end='10.0.0.9'><lease expiry='0' unit='hours'/></range></dhcp></ip>",
        "<lease expiry='0'/>",
    );
    // Addresses in any form the C library reads.
    becomes("<ip address='0x0a.1' netmask='255.0'/>", "<ip address='10.0.0.1' netmask='255.0.0.0'>");
    becomes(
        "<ip family='ipv6' address='FD00:0:0::0:1' prefix='+64'/>",
        "<ip family='ipv6' address='fd00::1' prefix='64'>",
    );
    becomes("<dns><host ip='::0102:0304'><hostname>h</hostname></host></dns>", "<host ip='::1.2.3.4'>");
    becomes("<ip address='224.0.0.1'/>", "<ip address='224.0.0.1'>");
    becomes("<ip address='10.0.0.1' netmask='0.0.0.0'/>", "netmask='0.0.0.0'>");
}

#[test]
fn pools() {
    becomes(
        "<forward mode='hostdev'><pf dev='e'/></forward>",
        "<forward mode='hostdev' managed='no'>\n<pf dev='e'/>",
    );
    becomes(
        "<forward mode='passthrough' managed='yes'><driver name='vfio'/><pf dev='e'/></forward>",
        "<forward mode='passthrough'>\n<driver name='vfio'/>\n<pf dev='e'/>",
    );
    becomes(
        "<forward mode='hostdev' managed='YES'><address type='pci' bus='17' slot='0x1F' function='7'/></forward>",
        "<forward mode='hostdev' managed='yes'>\n<address type='pci' domain='0x0000' bus='0x11' slot='0x1f' function='0x7'/>",
    );
    becomes(
        "<forward mode='bridge' dev='a'><interface dev='a'/><interface dev='b' connections='3'/></forward>",
        "<forward dev='a' mode='bridge'>\n<interface dev='a'/>\n<interface dev='b'/>\n</forward>\n</network>",
    );
    becomes(
        "<forward mode='bridge'/><bridge name='br0' macTableManager='libvirt'/>",
        "<forward mode='bridge'/>\n<bridge name='br0' macTableManager='libvirt'/>",
    );
    becomes("<forward mode='open'/>", "<forward mode='open'/>\n<bridge stp='on' delay='0'/>");
    becomes(
        "<forward><driver model='m'/></forward><ip address='10.0.0.1'/>",
        "<forward mode='nat'>\n<driver model='m'/>\n</forward>",
    );
    becomes(
        "<forward><nat><port start='0' end='0'/></nat></forward><ip address='10.0.0.1'/>",
        "<forward mode='nat'/>",
    );
}

#[test]
fn escapes() {
    let text = "<network><name>a\"b'c&lt;d</name><description>x &gt; y\n\"z\"</description>
        <dns><txt name='t' value=\"it's &quot;q&quot; &amp; more&#10;lines\"/></dns></network>";
    let printed = print(&parse(text).unwrap());
    assert!(printed.contains("<name>a&quot;b&apos;c&lt;d</name>\n"), "{printed}");
    assert!(printed.contains("<description>x &gt; y\n&quot;z&quot;</description>\n"), "{printed}");
    assert!(printed.contains("value='it&apos;s &quot;q&quot; &amp; more&#10;lines'/>"), "{printed}");
}

#[test]
fn metadata_as_libxml2_prints_it() {
    let text = "<network xmlns:o='urn:o'><name>n</name><metadata note='kept'>loose text<!-- gone --><plain/>
        <o:a x='it&apos;s \"q\"'><o:b/><!-- stays --><o:c>t&quot;<o:d><o:e/></o:d></o:c><o:f>  </o:f></o:a>
        <p:a xmlns:p='urn:o'>a second of urn:o</p:a><q xmlns='urn:q'><r/></q></metadata></network>";
    let expected = "  <metadata xmlns:o=\"urn:o\" note=\"kept\">
    <o:a x=\"it's &quot;q&quot;\">
      <o:b/>
      <!-- stays -->
      <o:c>t\"<o:d><o:e/></o:d></o:c>
      <o:f>  </o:f>
    </o:a>
    <q xmlns=\"urn:q\">
      <r/>
    </q>
  </metadata>
";
    let network = parse(text).unwrap();
    let printed = print(&network);
    assert!(printed.contains(expected), "{printed}");
    assert_eq!(parse(&printed).unwrap(), network);
    let empty = "<network><name>n</name><metadata> <a/> </metadata></network>";
    assert!(print(&parse(empty).unwrap()).contains("  <metadata/>\n"));
}

#[test]
fn metadata_by_namespace() {
    let mut network = parse("<network><name>n</name></network>").unwrap();
    assert_eq!(network.metadata_xml("urn:a"), None);
    network.set_metadata("urn:a", "k", None).unwrap();
    assert_eq!(network.metadata, None);
    network.set_metadata("urn:a", "k", Some("<one a='b'><two/></one>")).unwrap();
    network.set_metadata("urn:b", "l", Some("<x/>")).unwrap();
    let printed = print(&network);
    let expected =
        "    <k:one xmlns:k=\"urn:a\" a=\"b\">\n      <k:two/>\n    </k:one>\n    <l:x xmlns:l=\"urn:b\"/>\n";
    assert!(printed.contains(expected), "{printed}");
    assert_eq!(network.metadata_xml("urn:a").as_deref(), Some("<one a=\"b\">\n  <two/>\n</one>"));
    assert_eq!(parse(&printed).unwrap().metadata_xml("urn:b").as_deref(), Some("<x/>"));
    network.set_metadata("urn:a", "k", Some("<three/>")).unwrap();
    assert_eq!(network.metadata_xml("urn:a").as_deref(), Some("<three/>"));
    network.set_metadata("urn:a", "", None).unwrap();
    assert_eq!(network.metadata_xml("urn:a"), None);
    let message = |key, xml| network.clone().set_metadata("urn:a", key, Some(xml)).unwrap_err().message;
    assert_eq!(message("1k", "<a/>"), "internal error: failed to validate prefix for a new XML namespace");
    assert!(message("k", "<a>").starts_with("(metadata_xml):1: "));
}

#[test]
fn warnings_name_what_to_know() {
    let text = "<network><name>n</name><vlan><tag id='1'/></vlan><ip address='10.0.0.1' prefix='24'><dhcp>
        <range start='10.0.0.1' end='10.0.0.9'/></dhcp></ip></network>";
    assert_eq!(
        parse(text).unwrap().warnings(),
        [
            "<vlan> is kept but has no effect yet",
            "the range 10.0.0.1 - 10.0.0.9 holds the gateway's own address 10.0.0.1, which is not given out",
        ]
    );
    assert!(parse(NAT).unwrap().warnings().is_empty());
}

#[test]
fn what_can_not_start() {
    let message = |body: &str| {
        let network = parse(&format!("<network><name>n</name>{body}</network>")).unwrap();
        network.unsupported().map(|error| error.message)
    };
    let some = |text: &str| Some(text.to_owned());
    for mode in ["private", "vepa", "passthrough", "hostdev"] {
        let expected = format!("unsupported configuration: Unsupported network type {mode}");
        assert_eq!(message(&format!("<forward mode='{mode}'/>")), Some(expected));
    }
    assert_eq!(
        message("<forward mode='vepa'><address type='pci' bus='1'/></forward>"),
        some(
            "unsupported configuration: network 'n' has forward mode 'vepa' but lists a device by PCI address in the device pool. This is only supported for networks with forward mode 'hostdev'"
        )
    );
    let qbg = "<virtualport type='802.1Qbg'/>";
    assert_eq!(
        message(qbg),
        some(
            "unsupported configuration: <virtualport type='802.1Qbg'> not supported for network 'n' which uses IP forwarding"
        )
    );
    assert_eq!(
        message(&format!("<forward mode='bridge'/><bridge name='b'/><portgroup name='g'>{qbg}</portgroup>")),
        some(
            "unsupported configuration: <virtualport type='802.1Qbg'> not supported for network 'n' which uses a bridge device"
        )
    );
    assert_eq!(message("<forward mode='bridge'/><virtualport type='openvswitch'/>"), None);
    assert_eq!(
        message("<bridge name='b'/><mtu size='65536'/>"),
        some("Cannot set interface MTU to 65536 on 'b': Invalid argument")
    );
    assert_eq!(message("<mtu size='65535'/>"), None);
}
