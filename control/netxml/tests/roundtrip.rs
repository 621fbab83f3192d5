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

const EVERYTHING: &str = "\
<network xmlns:dnsmasq='http://libvirt.org/schemas/network/dnsmasq/1.0' ipv6='yes' trustGuestRxFilters='no'>
  <name>all &amp; more</name>
  <title>A title</title>
  <description>Some words</description>
  <metadata>
    <a:note xmlns:a=\"urn:a\" b=\"c\">text <a:i/> more</a:note>
  </metadata>
  <forward dev='eth0' mode='nat'>
    <nat ipv6='yes'>
      <address start='203.0.113.5' end='203.0.113.9'/>
      <port start='2000' end='3000'/>
    </nat>
    <interface dev='eth0'/>
  </forward>
  <bridge name='br7' zone='z' stp='off' delay='3' macTableManager='kernel'/>
  <mtu size='9000'/>
  <mac address='52:54:00:aa:bb:cc'/>
  <domain name='example.test' localOnly='yes' register='yes'/>
  <dns forwardPlainNames='no'>
    <forwarder domain='corp.test' addr='192.0.2.1' port='5353'/>
    <txt name='t' value='it&apos;s'/>
    <srv service='s' protocol='tcp' domain='d' target='.' port='1' priority='2' weight='3'/>
    <host ip='10.0.0.5'>
      <hostname>five</hostname>
    </host>
  </dns>
  <vlan trunk='yes'>
    <tag id='1' nativeMode='untagged'/>
    <tag id='2'/>
  </vlan>
  <bandwidth>
    <inbound average='1000' peak='5000' burst='5120'/>
    <outbound average='128'/>
  </bandwidth>
  <port isolated='yes'/>
  <ip address='10.0.0.1' prefix='24' localPtr='yes'>
    <tftp root='/srv/tftp'/>
    <dhcp>
      <range start='10.0.0.1' end='10.0.0.9'>
        <lease expiry='2' unit='hours'/>
      </range>
      <host mac='52:54:00:00:00:01' name='one' ip='10.0.0.11'>
        <lease expiry='0'/>
      </host>
      <bootp file='boot' server='10.0.0.3'/>
    </dhcp>
  </ip>
  <ip family='ipv6' address='fd00::1' prefix='64'>
  </ip>
  <route address='192.0.2.0' netmask='255.255.255.0' gateway='10.0.0.2' metric='2'/>
  <virtualport type='openvswitch'>
    <parameters profileid='p'/>
  </virtualport>
  <portgroup name='g' default='yes'>
    <vlan>
      <tag id='4'/>
    </vlan>
  </portgroup>
  <dnsmasq:options>
    <dnsmasq:option value='foo=bar'/>
  </dnsmasq:options>
  <pontoon:uplink xmlns:pontoon='urn:pontoon:network:1' kind='tap' dev='lan0' netns='inner' address='203.0.113.2/24' gateway='203.0.113.1'/>
</network>
";

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
fn uplink_fields() {
    let uplink = parse(EVERYTHING).unwrap().uplink.unwrap();
    assert_eq!((uplink.kind, uplink.dev.as_str()), (UplinkKind::Tap, "lan0"));
    assert_eq!(uplink.address.unwrap().prefix_len(), 24);
    let text = "<network><name>n</name>
        <uplink xmlns='urn:pontoon:network:1' kind='direct' dev='up0'/></network>";
    let uplink = parse(text).unwrap().uplink.unwrap();
    assert_eq!((uplink.kind, uplink.address, uplink.gateway), (UplinkKind::Direct, None, None));
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
