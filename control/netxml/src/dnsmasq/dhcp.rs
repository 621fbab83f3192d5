//! `dhcp-option`: how a value is written depends on the option, and where nothing is known of that, on the value.

use std::net::Ipv4Addr;

use super::{DhcpData, DnsmasqOption, name};

/// How the value of an option is written (RFC 2132 and its successors).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Addresses,
    Text,
    /// Names in DNS wire format.
    Names,
    /// A number of this many octets.
    Number(usize),
    Any,
}

/// dnsmasq's names.
const OPTIONS: &[(&str, u8, Form)] = &[
    ("netmask", 1, Form::Addresses),
    ("time-offset", 2, Form::Number(4)),
    ("router", 3, Form::Addresses),
    ("dns-server", 6, Form::Addresses),
    ("log-server", 7, Form::Addresses),
    ("lpr-server", 9, Form::Addresses),
    ("hostname", 12, Form::Text),
    ("boot-file-size", 13, Form::Number(2)),
    ("domain-name", 15, Form::Text),
    ("swap-server", 16, Form::Addresses),
    ("root-path", 17, Form::Text),
    ("extension-path", 18, Form::Text),
    ("ip-forward-enable", 19, Form::Number(1)),
    ("non-local-source-routing", 20, Form::Number(1)),
    ("policy-filter", 21, Form::Addresses),
    ("max-datagram-reassembly", 22, Form::Number(2)),
    ("default-ttl", 23, Form::Number(1)),
    ("mtu", 26, Form::Number(2)),
    ("all-subnets-local", 27, Form::Number(1)),
    ("broadcast", 28, Form::Addresses),
    ("router-discovery", 31, Form::Number(1)),
    ("router-solicitation", 32, Form::Addresses),
    ("static-route", 33, Form::Addresses),
    ("trailer-encapsulation", 34, Form::Number(1)),
    ("arp-timeout", 35, Form::Number(4)),
    ("ethernet-encap", 36, Form::Number(1)),
    ("tcp-ttl", 37, Form::Number(1)),
    ("tcp-keepalive", 38, Form::Number(4)),
    ("nis-domain", 40, Form::Text),
    ("nis-server", 41, Form::Addresses),
    ("ntp-server", 42, Form::Addresses),
    ("netbios-ns", 44, Form::Addresses),
    ("netbios-dd", 45, Form::Addresses),
    ("netbios-nodetype", 46, Form::Number(1)),
    ("netbios-scope", 47, Form::Any),
    ("x-windows-fs", 48, Form::Addresses),
    ("x-windows-dm", 49, Form::Addresses),
    ("vendor-class", 60, Form::Any),
    ("nis+-domain", 64, Form::Text),
    ("nis+-server", 65, Form::Addresses),
    ("tftp-server", 66, Form::Text),
    ("bootfile-name", 67, Form::Text),
    ("mobile-ip-home", 68, Form::Addresses),
    ("smtp-server", 69, Form::Addresses),
    ("pop3-server", 70, Form::Addresses),
    ("nntp-server", 71, Form::Addresses),
    ("irc-server", 74, Form::Addresses),
    ("user-class", 77, Form::Any),
    ("rapid-commit", 80, Form::Any),
    ("client-arch", 93, Form::Number(2)),
    ("client-interface-id", 94, Form::Any),
    ("client-machine-id", 97, Form::Any),
    ("posix-timezone", 100, Form::Text),
    ("tzdb-timezone", 101, Form::Text),
    ("ipv6-only", 108, Form::Number(4)),
    ("captive-portal", 114, Form::Text),
    ("domain-search", 119, Form::Names),
    ("sip-server", SIP, Form::Any),
    ("classless-static-route", 121, Form::Any),
    ("vendor-id-encap", 125, Form::Any),
];

const SIP: u8 = 120;
/// What only a server can say: the protocol's own options.
const PROTOCOL: [u8; 13] = [0, 50, 51, 52, 53, 54, 55, 57, 58, 59, 61, 81, 255];

/// `CODE[,VALUE..]` or `option:NAME[,VALUE..]`. Tags, vendors and encapsulation choose among guests or nest options;
/// lines with them are not understood.
pub(super) fn option(value: &str) -> Option<DnsmasqOption> {
    let (first, value) = value.split_once(',').map_or((value, None), |(first, rest)| (first, Some(rest)));
    let first = first.trim();
    let code = match first.strip_prefix("option:") {
        Some(name) => OPTIONS.iter().find(|(known, _, _)| *known == name)?.1,
        None => first.parse().ok()?,
    };
    if PROTOCOL.contains(&code) {
        return None;
    }
    let data = match value.map(str::trim).filter(|value| !value.is_empty()) {
        None => DhcpData::Bytes(Vec::new()),
        Some(value) => data(code, value)?,
    };
    let short = !matches!(&data, DhcpData::Bytes(bytes) if bytes.len() > 255);
    short.then_some(DnsmasqOption::DhcpOption { code, data })
}

fn data(code: u8, value: &str) -> Option<DhcpData> {
    let form = OPTIONS.iter().find(|(_, known, _)| *known == code).map_or(Form::Any, |(_, _, form)| *form);
    let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    match (form, quoted) {
        (Form::Addresses, _) => addresses(value).map(DhcpData::Addresses),
        (Form::Names, _) => names(value).map(DhcpData::Bytes),
        (Form::Text, _) => Some(text(quoted.unwrap_or(value))),
        (_, Some(quoted)) => Some(text(quoted)),
        (Form::Number(octets), None) => hex(value).or_else(|| number(value, octets)).map(DhcpData::Bytes),
        (Form::Any, None) => Some(guess(code, value)),
    }
}

fn text(value: &str) -> DhcpData {
    DhcpData::Bytes(value.as_bytes().to_vec())
}

/// dnsmasq's order: octets in hexadecimal, a number, addresses, text.
fn guess(code: u8, value: &str) -> DhcpData {
    if let Some(bytes) = hex(value).or_else(|| number(value, 0)) {
        return DhcpData::Bytes(bytes);
    }
    if code == SIP {
        return sip(value);
    }
    if let Some(addresses) = addresses(value) {
        return DhcpData::Addresses(addresses);
    }
    routes(value).map_or_else(|| text(value), DhcpData::Bytes)
}

fn addresses(value: &str) -> Option<Vec<Ipv4Addr>> {
    value.split(',').map(|address| address.trim().parse().ok()).collect()
}

/// RFC 3361: an octet says whether addresses or names follow.
fn sip(value: &str) -> DhcpData {
    let listed = addresses(value).map(|addresses| addresses.iter().flat_map(Ipv4Addr::octets).collect());
    let (kind, rest): (u8, Vec<u8>) = match listed {
        Some(octets) => (1, octets),
        None => match names(value) {
            Some(names) => (0, names),
            None => return text(value),
        },
    };
    DhcpData::Bytes(std::iter::once(kind).chain(rest).collect())
}

/// `DESTINATION/PREFIX,ROUTER,..`: a destination only has the octets its prefix reaches (RFC 3442).
fn routes(value: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for field in value.split(',').map(str::trim) {
        let (address, prefix) =
            field.split_once('/').map_or((field, None), |(ip, prefix)| (ip, Some(prefix)));
        let octets = address.parse::<Ipv4Addr>().ok()?.octets();
        let Some(prefix) = prefix else {
            bytes.extend(octets);
            continue;
        };
        let prefix: u8 = prefix.parse().ok().filter(|prefix| *prefix <= 32)?;
        bytes.push(prefix);
        bytes.extend(octets.iter().take(usize::from(prefix.div_ceil(8))));
    }
    Some(bytes)
}

/// `01:52:ab`; one octet alone is a number.
fn hex(value: &str) -> Option<Vec<u8>> {
    if !value.contains(':') {
        return None;
    }
    let octet = |part: &str| ((1..=2).contains(&part.len())).then(|| u8::from_str_radix(part, 16).ok())?;
    value.split(':').map(octet).collect()
}

/// Decimal, in `octets` if that is known; `b`, `s` and `i` behind it are one, two and four octets.
fn number(value: &str, octets: usize) -> Option<Vec<u8>> {
    let (digits, suffix) = match value.as_bytes().last()? {
        b'b' => (value.strip_suffix('b')?, Some(1)),
        b's' => (value.strip_suffix('s')?, Some(2)),
        b'i' => (value.strip_suffix('i')?, Some(4)),
        _ => (value, None),
    };
    let number: i64 = digits.parse().ok().filter(|number| (-(1 << 31)..1 << 32).contains(number))?;
    let least = match number {
        0..=0xff => 1,
        0x100..=0xffff => 2,
        _ => 4,
    };
    let octets = suffix.unwrap_or(if octets == 0 { least } else { octets });
    number.to_be_bytes().get(8 - octets..).map(<[u8]>::to_vec)
}

/// RFC 1035 3.1, one name behind the other.
fn names(value: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for part in value.split(',') {
        for label in name(part)?.split('.') {
            bytes.push(u8::try_from(label.len()).ok()?);
            bytes.extend_from_slice(label.as_bytes());
        }
        bytes.push(0);
    }
    Some(bytes)
}
