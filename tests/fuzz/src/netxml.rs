//! Network definitions, their updates, and ports.
//!
//! Input: a text; after a first zero byte, one that says how to update, and the element to update with.

use pontoon_netxml::{
    DumpOptions, Error, Network, Section, UpdateCommand, parse, parse_definition, port, update, validate,
};

const COMMANDS: [UpdateCommand; 4] =
    [UpdateCommand::Modify, UpdateCommand::Delete, UpdateCommand::AddLast, UpdateCommand::AddFirst];

pub fn run(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let text = String::from_utf8_lossy(&data[..end]);
    shown(validate(&text));
    shown(port::validate(&text));
    shown(parse(&text).map(drop));
    if let Ok(port) = port::parse(&text) {
        assert_eq!(port::parse(&port.to_xml()).as_ref(), Ok(&port));
    }
    let Ok(network) = parse_definition(&text) else { return };
    let _ = (network.warnings(), network.unsupported());
    stable(&network);
    if let Some([how, xml @ ..]) = data.get(end + 1..) {
        changed(&network, *how, &String::from_utf8_lossy(xml));
    }
}

/// Whatever is wrong can be shown, and points into the text.
fn shown(result: Result<(), Error>) {
    if let Err(error) = result {
        assert!(!error.message.is_empty());
        assert!(error.render("file").starts_with(error.message.trim_end()));
    }
}

fn print(network: &Network) -> String {
    network.to_xml(&DumpOptions { inactive: true, connections: None })
}

/// What is printed is read again and printed the same.
fn stable(network: &Network) {
    let printed = print(network);
    let again = parse_definition(&printed).map(|network| print(&network));
    assert_eq!(again.as_deref(), Ok(printed.as_str()));
}

fn changed(network: &Network, how: u8, xml: &str) {
    let section = Section::ALL[usize::from(how >> 4) % Section::ALL.len()];
    let command = COMMANDS[usize::from(how) % COMMANDS.len()];
    let index = i32::from(how >> 2 & 3) - 1;
    match update(network, command, section, index, xml) {
        Err(error) => shown(Err(error)),
        // It may be one that can not be defined, such as a NAT network with two interfaces.
        Ok(changed) => drop(parse(&print(&changed))),
    }
}

/// A document with every element of its kind, and updates.
#[must_use]
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let updates = [
        ("add-host", 0x37, "<host mac='52:54:00:00:00:02' name='c' ip='10.0.0.4'><lease expiry='0'/></host>"),
        ("delete-range", 0x41, "<range start='10.0.0.2' end='10.0.0.9'/>"),
        ("add-interface", 0x63, "<interface dev='e1'/>"),
        ("modify-group", 0x80, "<portgroup name='g'><vlan><tag id='4'/></vlan></portgroup>"),
        ("delete-name", 0x91, "<host><hostname>h</hostname></host>"),
        ("modify-text", 0xa0, "<txt name='t' value='w'/>"),
        ("add-service", 0xb2, "<srv service='s' protocol='udp' target='t' port='5'/>"),
    ];
    let with = |(name, how, xml): (&'static str, u8, &str)| {
        (name, [NAT.as_bytes(), &[0, how], xml.as_bytes()].concat())
    };
    let plain = [("nat", NAT), ("pool", POOL), ("v6", V6), ("port", PORT)];
    let plain = plain.into_iter().map(|(name, text)| (name, text.as_bytes().to_vec()));
    plain.chain(updates.into_iter().map(with)).collect()
}

const NAT: &str = "<network xmlns:d='http://libvirt.org/schemas/network/dnsmasq/1.0' ipv6='yes'><name>n</name>\
<uuid>81ff0d90-c91e-6742-64da-4a736edb9a9b</uuid><title>t</title><description>d</description><metadata>\
<a:b xmlns:a='urn:a' c='d'>e<!--f--></a:b></metadata><forward dev='e0'><nat ipv6='yes'><address start='1.1.1.1' \
end='1.1.1.2'/><port start='1' end='2'/></nat></forward><bridge name='b' zone='z' stp='off' delay='1'/><mtu size='9'/>\
<mac address='52:54:00:00:00:01'/><domain name='d' localOnly='yes' register='yes'/><dns enable='yes'>\
<forwarder addr='1.1.1.1' port='9'/><txt name='t' value='v'/><srv service='s' protocol='tcp' target='t' port='1'/>\
<host ip='10.0.0.5'><hostname>h</hostname></host></dns><ip address='10.0.0.1' prefix='24' localPtr='yes'>\
<tftp root='/t'/><dhcp><range start='10.0.0.2' end='10.0.0.9'><lease expiry='2' unit='hours'/></range>\
<host mac='52:54:00:00:00:01' name='a' ip='10.0.0.2'/><bootp file='f' server='10.0.0.3'/></dhcp></ip>\
<route address='1.0.0.0' prefix='8' gateway='10.0.0.2' metric='2'/><portgroup name='g' default='yes'/>\
<d:options><d:option value='o'/></d:options><uplink xmlns='urn:pontoon:network:1' kind='tap' dev='u' \
address='203.0.113.2/24' gateway='203.0.113.1'/></network>";

const POOL: &str = "<network><name>p</name><forward mode='hostdev' managed='yes'><driver name='vfio' model='m'/>\
<address type='pci' domain='0' bus='0x11' slot='2' function='3'/></forward><vlan trunk='yes'><tag id='1' \
nativeMode='tagged'/><tag id='2'/></vlan><virtualport type='802.1Qbg'><parameters managerid='11' typeid='0x2' \
typeidversion='3' instanceid='81ff0d90-c91e-6742-64da-4a736edb9a9b'/></virtualport><portgroup name='g'><bandwidth>\
<inbound average='1' peak='2' burst='3'/><outbound average='4'/></bandwidth></portgroup></network>";

const V6: &str = "<network><name>v</name><ip family='ipv6' address='fd00::1' prefix='64'><dhcp><range start='fd00::2' \
end='fd00::9'/><host id='0:3:0:1:0:16:3e:11:22:33' name='h' ip='fd00::3'/></dhcp></ip><route family='ipv6' \
address='fd01::' prefix='64' gateway='fd00::3'/><port isolated='yes'/></network>";

const PORT: &str = "<networkport><uuid>81ff0d90-c91e-6742-64da-4a736edb9a9b</uuid><owner><name>g</name>\
<uuid>81ff0d90-c91e-6742-64da-4a736edb9a9c</uuid></owner><group>g</group><mac address='52:54:00:00:00:01'/>\
<bandwidth classID='1'><inbound average='1' floor='2'/></bandwidth><rxfilters trustGuest='yes'/>\
<plug type='network' bridge='b' macTableManager='kernel'/></networkport>";
