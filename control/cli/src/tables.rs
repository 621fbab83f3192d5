//! Everything that is laid out in columns, byte for byte as virsh and brctl have it.

use std::fmt::Write;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use pontoon_proto::api::{BridgeInfo, LeaseInfo, MacInfo, NetworkInfo};

use crate::args::Format;

/// Rows under headings; a row may be shorter than the headings.
struct Table<const N: usize> {
    headings: [&'static str; N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// virsh since 4.7: columns as wide as their widest cell.
    fn modern(&self, quiet: bool) -> String {
        let width = |column: usize| {
            let heading = self.headings.get(column).map_or(0, |text| text.chars().count());
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).fold(heading, usize::max)
        };
        let widths: [usize; N] = std::array::from_fn(width);
        let mut text = String::new();
        if !quiet {
            line(&mut text, &self.headings, |column| widths.get(column).map_or(0, |width| width + 2));
            text.push_str(&"-".repeat(widths.iter().map(|width| width + 3).sum()));
            text.push('\n');
        }
        for row in &self.rows {
            line(&mut text, row, |column| widths.get(column).map_or(0, |width| width + 2));
        }
        text
    }

    /// virsh up to 4.6: fixed columns.
    fn legacy(&self, quiet: bool, widths: [usize; N], dashes: usize) -> String {
        let mut text = String::new();
        if !quiet {
            line(&mut text, &self.headings, |column| widths.get(column).map_or(0, |width| *width));
            text.push_str(&"-".repeat(dashes));
            text.push('\n');
        }
        for row in &self.rows {
            line(&mut text, row, |column| widths.get(column).map_or(0, |width| *width));
        }
        text
    }
}

/// Each cell after one blank; all but the last padded.
fn line<T: AsRef<str>>(text: &mut String, cells: &[T], width: impl Fn(usize) -> usize) {
    for (column, cell) in cells.iter().enumerate() {
        let cell = cell.as_ref();
        text.push(' ');
        text.push_str(cell);
        if column + 1 < cells.len() {
            let blanks = width(column).saturating_sub(cell.chars().count());
            text.extend(std::iter::repeat_n(' ', blanks));
        }
    }
    text.push('\n');
}

fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

/// `net-list`, in the order given.
pub(crate) fn networks(networks: &[NetworkInfo], format: Format, quiet: bool) -> String {
    let row = |network: &NetworkInfo| {
        let state = if network.active { "active" } else { "inactive" };
        let cells = [network.name.as_str(), state, yes(network.autostart), yes(network.persistent)];
        cells.map(str::to_owned)
    };
    let table = Table {
        headings: ["Name", "State", "Autostart", "Persistent"],
        rows: networks.iter().map(row).collect(),
    };
    match format {
        Format::Modern => table.modern(quiet),
        Format::Legacy => table.legacy(quiet, [20, 10, 13, 0], 58),
    }
}

/// `net-dhcp-leases`.
pub(crate) fn leases(leases: &[LeaseInfo], format: Format, quiet: bool, zone: &TimeZone) -> String {
    let row = |lease: &LeaseInfo| {
        [
            expiry(lease.expiry, zone),
            lease.mac.clone(),
            "ipv4".to_owned(),
            format!("{}/{}", lease.ip, lease.prefix),
            lease.hostname.clone().unwrap_or_else(|| "-".to_owned()),
            lease.client_id.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    };
    let table = Table {
        headings: ["Expiry Time", "MAC address", "Protocol", "IP address", "Hostname", "Client ID or DUID"],
        rows: leases.iter().map(row).collect(),
    };
    match format {
        Format::Modern => table.modern(quiet),
        Format::Legacy => table.legacy(quiet, [20, 18, 9, 25, 15, 0], 115),
    }
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

/// `brctl show`; with `legacy` each bridge has the `-nic` dummy libvirt gave it up to 6.x.
pub(crate) fn bridges(bridges: &[&BridgeInfo], format: Format) -> String {
    if bridges.is_empty() {
        return String::new();
    }
    let mut text = "bridge name\tbridge id\t\tSTP enabled\tinterfaces\n".to_owned();
    for bridge in bridges {
        let id: String = bridge.mac.chars().filter(char::is_ascii_hexdigit).collect();
        let _ = write!(text, "{}\t\t8000.{}\t{}\t\t", bridge.name, id.to_lowercase(), yes(bridge.stp));
        let dummy = (format == Format::Legacy).then(|| format!("{}-nic", bridge.name));
        let ports: Vec<String> = dummy.into_iter().chain(bridge.interfaces.iter().cloned()).collect();
        text.push_str(&ports.join("\n\t\t\t\t\t\t\t"));
        text.push('\n');
    }
    text
}

/// `brctl showmacs`, sorted by address.
pub(crate) fn macs(macs: &[MacInfo]) -> String {
    let mut sorted: Vec<&MacInfo> = macs.iter().collect();
    sorted.sort_by(|a, b| a.mac.cmp(&b.mac));
    let mut text = "port no\tmac addr\t\tis local?\tageing timer\n".to_owned();
    for entry in sorted {
        let age = entry.age_seconds;
        let _ = writeln!(text, "{:3}\t{}\t{}\t\t{age:4}.00", entry.port, entry.mac, yes(entry.local));
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
        assert_eq!(networks(&list, Format::Modern, false), expected);
        assert_eq!(
            networks(&list, Format::Modern, true),
            " default   active     yes         yes\n natntw    inactive   no          yes\n"
        );
        let expected = " Name                 State      Autostart     Persistent
----------------------------------------------------------
 default              active     yes           yes
";
        assert_eq!(networks(&list[..1], Format::Legacy, false), expected);
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

    #[test]
    fn bridges_are_brctl_s() {
        let bridge = BridgeInfo {
            name: "virbr0".to_owned(),
            mac: "52:54:00:35:AC:06".to_owned(),
            stp: true,
            interfaces: vec!["vnet0".to_owned(), "vnet1".to_owned()],
        };
        let header = "bridge name\tbridge id\t\tSTP enabled\tinterfaces\n";
        assert_eq!(
            bridges(&[&bridge], Format::Modern),
            format!("{header}virbr0\t\t8000.52540035ac06\tyes\t\tvnet0\n\t\t\t\t\t\t\tvnet1\n")
        );
        assert_eq!(
            bridges(&[&bridge], Format::Legacy),
            format!(
                "{header}virbr0\t\t8000.52540035ac06\tyes\t\tvirbr0-nic\n\t\t\t\t\t\t\tvnet0\n\t\t\t\t\t\t\tvnet1\n"
            )
        );
        assert_eq!(bridges(&[], Format::Modern), "");
    }

    #[test]
    fn macs_are_sorted_as_brctl_s() {
        let mac =
            |port, mac: &str, local, age_seconds| MacInfo { port, mac: mac.to_owned(), local, age_seconds };
        let list = [mac(2, "52:54:00:d7:8d:61", false, 12), mac(1, "52:54:00:35:ac:06", true, 0)];
        assert_eq!(
            macs(&list),
            "port no\tmac addr\t\tis local?\tageing timer\n  1\t52:54:00:35:ac:06\tyes\t\t   0.00\n  2\t52:54:00:d7:8d:61\tno\t\t  12.00\n"
        );
    }
}
