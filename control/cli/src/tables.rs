//! Everything that is laid out in columns, byte for byte as virsh has it.

use std::fmt::Write;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use pontoon_proto::api::{InterfaceAddresses, InterfaceInfo, LeaseInfo, NetworkInfo, PortInfo};
use pontoon_proto::message::Offloads;

/// How tables are laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    #[default]
    Modern,
    /// As libvirt up to 4.x.
    Legacy,
}

/// Rows under headings.
struct Table {
    headings: &'static [&'static str],
    rows: Vec<Vec<String>>,
}

impl Table {
    /// virsh since 4.7: columns as wide as their widest cell.
    fn modern(&self, quiet: bool) -> String {
        let rows: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
        let width = |(column, heading): (usize, &&str)| {
            let least = if quiet { 0 } else { heading.len() };
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| width(cell)).fold(least, usize::max)
        };
        let widths: Vec<usize> = self.headings.iter().enumerate().map(width).collect();
        let padded: Vec<usize> = widths.iter().map(|width| width + 2).collect();
        let mut text = String::new();
        if !quiet {
            line(&mut text, self.headings, &padded);
            text.push_str(&"-".repeat(widths.iter().map(|width| width + 3).sum()));
            text.push('\n');
        }
        for row in &rows {
            line(&mut text, row, &padded);
        }
        text
    }

    /// virsh up to 4.6: fixed columns.
    fn legacy(&self, quiet: bool, widths: &[usize], dashes: usize) -> String {
        let mut text = String::new();
        if !quiet {
            line(&mut text, self.headings, widths);
            text.push_str(&"-".repeat(dashes));
            text.push('\n');
        }
        for row in &self.rows {
            line(&mut text, row, widths);
        }
        text
    }
}

/// Each cell after one blank; all but the last padded.
fn line<T: AsRef<str>>(text: &mut String, cells: &[T], widths: &[usize]) {
    for (column, cell) in cells.iter().enumerate() {
        let cell = cell.as_ref();
        text.push(' ');
        text.push_str(cell);
        if column + 1 < cells.len() {
            let blanks = widths.get(column).map_or(0, |wide| wide.saturating_sub(width(cell)));
            text.extend(std::iter::repeat_n(' ', blanks));
        }
    }
    text.push('\n');
}

/// Control characters as `\x1b`, and what looks like that already escaped too.
fn printable(text: &str) -> String {
    let mut shown = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c.is_control() || c == '\\' && chars.peek() == Some(&'x') {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                // Writing to a String cannot fail.
                let _ = write!(shown, "\\x{byte:02x}");
            }
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Columns a terminal needs: two for what is written wide in East Asia, none for what is put on the letter before.
fn width(text: &str) -> usize {
    text.chars()
        .map(|c| match u32::from(c) {
            0x0300..=0x036f | 0x200b..=0x200f | 0xfe00..=0xfe0f => 0,
            0x1100..=0x115f
            | 0x2e80..=0xa4cf
            | 0xac00..=0xd7a3
            | 0xf900..=0xfaff
            | 0xfe30..=0xfe6f
            | 0xff00..=0xff60
            | 0xffe0..=0xffe6
            | 0x1f300..=0x1faff
            | 0x20000..=0x3fffd => 2,
            _ => 1,
        })
        .sum()
}

fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

/// `net-list`, in the order given.
pub(crate) fn networks(networks: &[NetworkInfo], title: bool, format: Format, quiet: bool) -> String {
    let headings: &[&str] = &["Name", "State", "Autostart", "Persistent", "Title"];
    let columns = if title { 5 } else { 4 };
    let row = |network: &NetworkInfo| {
        let state = if network.active { "active" } else { "inactive" };
        let title = network.title.as_deref().unwrap_or_default();
        let cells = [&network.name, state, yes(network.autostart), yes(network.persistent), title];
        cells.iter().take(columns).map(|cell| (*cell).to_owned()).collect()
    };
    let headings = headings.get(..columns).unwrap_or(headings);
    let table = Table { headings, rows: networks.iter().map(row).collect() };
    match (format, title) {
        (Format::Modern, _) => table.modern(quiet),
        (Format::Legacy, false) => table.legacy(quiet, &[20, 10, 13], 58),
        (Format::Legacy, true) => table.legacy(quiet, &[20, 10, 13, 15], 76),
    }
}

/// `net-dhcp-leases`.
pub(crate) fn leases(leases: &[LeaseInfo], format: Format, quiet: bool, zone: &TimeZone) -> String {
    let dash = || "-".to_owned();
    let row = |lease: &LeaseInfo| {
        vec![
            expiry(lease.expiry, zone),
            lease.mac.clone(),
            "ipv4".to_owned(),
            format!("{}/{}", lease.ip, lease.prefix),
            lease.hostname.clone().unwrap_or_else(dash),
            lease.client_id.clone().unwrap_or_else(dash),
        ]
    };
    let table = Table {
        headings: &["Expiry Time", "MAC address", "Protocol", "IP address", "Hostname", "Client ID or DUID"],
        rows: leases.iter().map(row).collect(),
    };
    match format {
        Format::Modern => table.modern(quiet),
        Format::Legacy => table.legacy(quiet, &[20, 18, 9, 25, 15], 115),
    }
}

fn offloads(agreed: Offloads) -> String {
    let named = [(agreed.checksum, "checksum"), (agreed.tso, "tso"), (agreed.uso, "uso")];
    let names: Vec<&str> = named.iter().filter(|(is, _)| *is).map(|(_, name)| *name).collect();
    if names.is_empty() { "-".to_owned() } else { names.join(",") }
}

/// `net-port-list`.
pub(crate) fn ports(ports: &[PortInfo], details: bool, quiet: bool) -> String {
    if details {
        let row = |port: &PortInfo| {
            let (peer, link) = (port.peer.clone().unwrap_or_else(|| "-".to_owned()), port.link);
            let link = if link { "up" } else { "down" }.to_owned();
            let (domain, interface) = (port.domain.clone(), port.interface.clone());
            let agreed = port.agreed.unwrap_or_default();
            let mut cells = vec![port.uuid.clone(), domain, interface, port.mac.clone()];
            cells.extend([port.cable.clone(), peer, link, agreed.queues.to_string()]);
            cells.extend([agreed.takes, agreed.sends].map(offloads));
            cells
        };
        let headings =
            &["UUID", "Domain", "Interface", "MAC", "Kind", "Peer", "Link", "Queues", "Takes", "Sends"];
        return Table { headings, rows: ports.iter().map(row).collect() }.modern(quiet);
    }
    let rows = ports.iter().map(|port| vec![port.uuid.clone()]).collect();
    Table { headings: &["UUID"], rows }.modern(quiet)
}

/// `domiflist`.
/// Port forwards.
pub(crate) fn forwards(rows: Vec<Vec<String>>, quiet: bool) -> String {
    Table { headings: &["Protocol", "Address", "Ports", "Guest", "To"], rows }.modern(quiet)
}

pub(crate) fn interfaces(interfaces: &[InterfaceInfo], quiet: bool) -> String {
    let row = |one: &InterfaceInfo| {
        let model = one.model.clone().unwrap_or_else(|| "-".to_owned());
        vec![one.interface.clone(), one.kind.clone(), one.source.clone(), model, one.mac.clone()]
    };
    let table = Table {
        headings: &["Interface", "Type", "Source", "Model", "MAC"],
        rows: interfaces.iter().map(row).collect(),
    };
    table.modern(quiet)
}

pub(crate) const ADDRESSES_HEAD: &str = " Name       MAC address          Protocol     Address
-------------------------------------------------------------------------------
";

/// `domifaddr`, without its heading.
pub(crate) fn addresses(interfaces: &[InterfaceAddresses], full: bool) -> String {
    let mut text = String::new();
    let mut row = |name: &str, mac: &str, protocol: &str, address: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, " {name:<10} {mac:<17}    {protocol:<12} {address}");
    };
    for one in interfaces {
        if one.addresses.is_empty() {
            row(&one.interface, &one.mac, "N/A", "N/A");
        }
        for (index, address) in one.addresses.iter().enumerate() {
            let named = full || index == 0;
            let (name, mac) = if named { (one.interface.as_str(), one.mac.as_str()) } else { ("-", "-") };
            let protocol = if address.ip.is_ipv4() { "ipv4" } else { "ipv6" };
            row(name, mac, protocol, &format!("{}/{}", address.ip, address.prefix));
        }
    }
    text
}

fn expiry(seconds: u64, zone: &TimeZone) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map_or_else(
        || "-".to_owned(),
        |time| zone.to_datetime(time).strftime("%Y-%m-%d %H:%M:%S").to_string(),
    )
}

/// `net-info`.
pub(crate) fn info(network: &NetworkInfo) -> String {
    let mut text = String::new();
    let facts = [
        ("Name:", network.name.as_str()),
        ("UUID:", network.uuid.as_str()),
        ("Active:", yes(network.active)),
        ("Persistent:", yes(network.persistent)),
        ("Autostart:", yes(network.autostart)),
    ];
    let bridge = network.bridge.as_deref().map(|bridge| ("Bridge:", bridge));
    for (label, value) in facts.into_iter().chain(bridge) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{label:<15} {value}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(name: &str, active: bool) -> NetworkInfo {
        NetworkInfo {
            name: name.to_owned(),
            uuid: "8f7e6477-61df-4468-83fc-966d41d22302".to_owned(),
            active,
            persistent: true,
            autostart: active,
            bridge: Some("virbr0".to_owned()),
            title: None,
        }
    }

    fn lease() -> LeaseInfo {
        LeaseInfo {
            expiry: 1_516_539_405,
            mac: "52:54:00:58:e4:7f".to_owned(),
            ip: std::net::Ipv4Addr::new(192, 168, 122, 113),
            prefix: 24,
            hostname: Some("ubuntu1404".to_owned()),
            client_id: None,
        }
    }

    #[test]
    fn net_list_is_virsh_s() {
        let list = [network("default", true), network("natntw", false)];
        let expected = " Name      State      Autostart   Persistent
----------------------------------------------
 default   active     yes         yes
 natntw    inactive   no          yes
";
        assert_eq!(networks(&list, false, Format::Modern, false), expected);
        assert_eq!(
            networks(&list, false, Format::Modern, true),
            " default   active     yes   yes\n natntw    inactive   no    yes\n"
        );
        let expected = " Name                 State      Autostart     Persistent
----------------------------------------------------------
 default              active     yes           yes
";
        assert_eq!(networks(&list[..1], false, Format::Legacy, false), expected);
    }

    #[test]
    fn titles_are_the_last_column_and_nothing_in_them_moves_the_cursor() {
        let mut list = [network("default", true), network("natntw", false)];
        list[1].title = Some("Gäste \x1b\\x41".to_owned());
        let expected = " Name      State      Autostart   Persistent   Title
------------------------------------------------------------------
 default   active     yes         yes          \n natntw    inactive   no          yes          Gäste \\x1b\\x5cx41
";
        let shown = networks(&list, true, Format::Modern, false);
        assert_eq!(shown, expected);
    }

    #[test]
    fn interfaces_and_their_addresses_are_virsh_s() {
        let mut one = InterfaceInfo {
            interface: "vnet0".to_owned(),
            kind: "bridge".to_owned(),
            source: "virbr1".to_owned(),
            mac: "52:54:00:d7:8d:61".to_owned(),
            ..InterfaceInfo::default()
        };
        one.model = Some("virtio".to_owned());
        let expected = " Interface   Type     Source   Model    MAC
-----------------------------------------------------------
 vnet0       bridge   virbr1   virtio   52:54:00:d7:8d:61
";
        assert_eq!(interfaces(&[one], false), expected);
        let address =
            |text: &str, prefix| pontoon_proto::api::Address { ip: text.parse().expect("ip"), prefix };
        let mut list = vec![InterfaceAddresses {
            interface: "vnet0".to_owned(),
            mac: "52:54:00:d7:8d:61".to_owned(),
            addresses: vec![address("192.168.110.116", 24), address("fd00::1", 64)],
        }];
        list.push(InterfaceAddresses {
            interface: "vnet1".to_owned(),
            addresses: Vec::new(),
            ..list[0].clone()
        });
        let expected = " vnet0      52:54:00:d7:8d:61    ipv4         192.168.110.116/24
 -          -                    ipv6         fd00::1/64
 vnet1      52:54:00:d7:8d:61    N/A          N/A
";
        assert_eq!(addresses(&list, false), expected);
        assert!(addresses(&list, true).contains(" vnet0      52:54:00:d7:8d:61    ipv6         fd00::1/64"));
    }

    #[test]
    fn leases_are_virsh_s() {
        let utc = TimeZone::UTC;
        let expected = concat!(
            " Expiry Time           MAC address         Protocol   IP address           Hostname     Client ID or DUID\n",
            "-----------------------------------------------------------------------------------------------------------\n",
            " 2018-01-21 12:56:45   52:54:00:58:e4:7f   ipv4       192.168.122.113/24   ubuntu1404   -\n",
        );
        assert_eq!(leases(&[lease()], Format::Modern, false, &utc), expected);
        let expected = concat!(
            " Expiry Time          MAC address        Protocol  IP address                Hostname        Client ID or DUID\n",
            "-------------------------------------------------------------------------------------------------------------------\n",
            " 2018-01-21 12:56:45  52:54:00:58:e4:7f  ipv4      192.168.122.113/24        ubuntu1404      -\n",
        );
        assert_eq!(leases(&[lease()], Format::Legacy, false, &utc), expected);
    }

    #[test]
    fn expiry_is_local_time() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(expiry(1_516_539_405, &zone), "2018-01-21 14:56:45");
    }

    #[test]
    fn net_info_is_virsh_s() {
        let expected = "Name:           default
UUID:           8f7e6477-61df-4468-83fc-966d41d22302
Active:         yes
Persistent:     yes
Autostart:      yes
Bridge:         virbr0
";
        assert_eq!(info(&network("default", true)), expected);
    }
}
