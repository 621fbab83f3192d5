//! The values of attributes.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::value;

#[derive(Clone, Copy)]
pub(super) enum Kind {
    Text,
    /// Not empty, on one line.
    Line,
    Words(&'static [&'static str]),
    /// Digits alone, within these bounds.
    Number(u64, u64),
    /// Digits, or hexadecimal after `0x`.
    Hex(u64),
    Uuid,
    /// Of one interface.
    Mac,
    Device,
    Zone,
    Generic,
    Dns,
    Ip,
    Ipv4,
    Duid,
    Profile,
}

pub(super) const YES_NO: Kind = Kind::Words(&["yes", "no"]);
pub(super) const U32: Kind = Kind::Number(0, 0xffff_ffff);
pub(super) const U64: Kind = Kind::Number(0, u64::MAX);
pub(super) const U16: Kind = Kind::Number(0, 0xffff);

impl Kind {
    pub(super) fn holds(&self, text: &str) -> bool {
        let all = |fine: fn(char) -> bool| !text.is_empty() && text.chars().all(fine);
        match self {
            Self::Text => true,
            Self::Line => all(|c| c != '\n'),
            Self::Words(words) => words.contains(&text),
            Self::Number(least, most) => {
                digits(text).is_some_and(|number| (*least..=*most).contains(&number))
            }
            Self::Hex(most) => hexadecimal(text).is_some_and(|number| number <= *most),
            Self::Uuid => {
                let bare = text.replace('-', "");
                bare.len() == 32 && bare.chars().all(|c| c.is_ascii_hexdigit()) && value::uuid(text).is_some()
            }
            Self::Mac => text.len() == 17 && value::mac(text).is_some_and(|mac| mac[0] & 1 == 0),
            Self::Device => all(|c| c.is_ascii_alphanumeric() || "_.-\\:/".contains(c)),
            Self::Zone => all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)),
            Self::Generic => all(|c| c.is_ascii_alphanumeric() || "_+-".contains(c)),
            Self::Dns => all(|c| c.is_ascii_alphanumeric() || ".-".contains(c)),
            Self::Ip => text.parse::<Ipv4Addr>().is_ok() || text.parse::<Ipv6Addr>().is_ok(),
            Self::Ipv4 => text.parse::<Ipv4Addr>().is_ok(),
            Self::Duid => duid(text),
            Self::Profile => text.chars().count() <= 39,
        }
    }

    pub(super) fn help(&self) -> String {
        match self {
            Self::Text => "any text will do".to_owned(),
            Self::Line => "write one line of text".to_owned(),
            Self::Words(words) => format!("write {}", words.join(", ")),
            Self::Number(least, most) => format!("write a number from {least} to {most}"),
            Self::Hex(most) => format!("write a number from 0 to {most}, or to 0x{most:x}"),
            Self::Uuid => "write 32 hexadecimal digits in five groups".to_owned(),
            Self::Mac => "write six pairs of hexadecimal digits, the first pair even".to_owned(),
            Self::Device => "letters, digits, and any of _ . - \\ : /".to_owned(),
            Self::Zone => "letters, digits, _ and -".to_owned(),
            Self::Generic => "letters, digits, _ + and -".to_owned(),
            Self::Dns => "letters, digits, dots and -".to_owned(),
            Self::Ip => "write an IPv4 or IPv6 address".to_owned(),
            Self::Ipv4 => "write an IPv4 address".to_owned(),
            Self::Duid => "write a DUID as octets in hexadecimal, separated by colons".to_owned(),
            Self::Profile => "at most 39 characters".to_owned(),
        }
    }
}

fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn hexadecimal(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) if hex.bytes().all(|byte| byte.is_ascii_hexdigit()) => u64::from_str_radix(hex, 16).ok(),
        Some(_) => None,
        None => digits(text),
    }
}

/// The four types of RFC 8415: time, enterprise, link layer, UUID.
fn duid(text: &str) -> bool {
    let octet =
        |text: &str| (1..=2).contains(&text.len()).then(|| u8::from_str_radix(text, 16).ok()).flatten();
    let octets: Option<Vec<u8>> = text.split(':').map(octet).collect();
    match octets.as_deref() {
        Some([0, 1, 0, 1..16, rest @ ..]) => (10..=12).contains(&rest.len()),
        Some([0, 2, rest @ ..]) => (5..=128).contains(&rest.len()),
        Some([0, 3, 0, 1..16, rest @ ..]) => (6..=8).contains(&rest.len()),
        Some([0, 4, rest @ ..]) => rest.len() == 16,
        _ => false,
    }
}
