//! Scalars as the C library reads and prints them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A whole number as strtoul reads it: leading blanks, a sign, and in base 0 the prefixes of C.
/// The sign is returned apart.
fn magnitude(value: &str, base: u32) -> Option<(bool, u64)> {
    let blank = |c: char| matches!(c, ' ' | '\t'..='\r');
    let rest = value.trim_start_matches(blank);
    let (negative, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest.strip_prefix('+').unwrap_or(rest)),
    };
    let (radix, digits) = match rest.strip_prefix("0x").or_else(|| rest.strip_prefix("0X")) {
        Some(hex) if base == 0 || base == 16 => (16, hex),
        _ if base == 0 && rest.len() > 1 && rest.starts_with('0') => (8, rest),
        _ if base == 0 => (10, rest),
        _ => (base, rest),
    };
    let plain = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    let number = if plain { u64::from_str_radix(digits, radix).ok()? } else { return None };
    Some((negative, number))
}

/// A number without a minus sign.
pub(crate) fn unsigned(value: &str, base: u32) -> Option<u64> {
    magnitude(value, base).filter(|(negative, _)| !negative).map(|(_, number)| number)
}

/// A number of 32 bits; `-1` stands for the largest.
pub(crate) fn wrapping_u32(value: &str, base: u32) -> Option<u32> {
    let (negative, number) = magnitude(value, base)?;
    let number = u32::try_from(number).ok()?;
    Some(if negative { number.wrapping_neg() } else { number })
}

/// A signed number of 32 bits.
pub(crate) fn signed(value: &str, base: u32) -> Option<i32> {
    let (negative, number) = magnitude(value, base)?;
    let number = i64::try_from(number).ok()?;
    i32::try_from(if negative { -number } else { number }).ok()
}

/// A numeric address in any form the resolver of the C library takes.
pub(crate) fn address(value: &str) -> Option<IpAddr> {
    value.parse::<Ipv6Addr>().map(IpAddr::V6).ok().or_else(|| address_v4(value).map(IpAddr::V4))
}

/// One to four parts, decimal, octal or hexadecimal; the last part fills what is left.
pub(crate) fn address_v4(value: &str) -> Option<Ipv4Addr> {
    let parts: Vec<&str> = value.split('.').collect();
    let (last, leading) = parts.split_last()?;
    if leading.len() > 3 || parts.iter().any(|part| !part.starts_with(|c: char| c.is_ascii_digit())) {
        return None;
    }
    let mut bits: u32 = 0;
    for (part, shift) in leading.iter().zip([24u32, 16, 8]) {
        bits |= u32::from(u8::try_from(unsigned(part, 0)?).ok()?) << shift;
    }
    let room = u32::MAX.checked_shr(8 * u32::try_from(leading.len()).ok()?).unwrap_or(0);
    let last = u32::try_from(unsigned(last, 0)?).ok().filter(|last| *last <= room)?;
    Some(Ipv4Addr::from_bits(bits | last))
}

/// An address as inet_ntop prints it: an IPv4-compatible IPv6 address ends in dotted form.
pub fn address_text(address: IpAddr) -> String {
    match address {
        IpAddr::V6(v6) if v6.segments()[..6] == [0; 6] && v6.segments()[6] != 0 => {
            format!("::{}", Ipv4Addr::from_bits(u32::try_from(v6.to_bits()).unwrap_or(0)))
        }
        other => other.to_string(),
    }
}

/// Six octets of one or two hexadecimal digits, separated by colons. What follows a blank is ignored.
pub(crate) fn mac(value: &str) -> Option<[u8; 6]> {
    let value = value.split(|c: char| c <= ' ').next()?;
    let mut mac = [0u8; 6];
    let mut parts = value.split(':');
    for byte in &mut mac {
        let part = parts.next()?;
        let digits = (1..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_hexdigit());
        *byte = if digits { u8::from_str_radix(part, 16).ok()? } else { return None };
    }
    parts.next().is_none().then_some(mac)
}

/// 32 hexadecimal digits; `-` and blanks may stand between pairs, white space around.
pub(crate) fn uuid(value: &str) -> Option<uuid::Uuid> {
    let blank = |c: char| matches!(c, ' ' | '\t'..='\r');
    let mut bytes = [0u8; 16];
    let mut chars = value.trim_matches(blank).chars();
    for byte in &mut bytes {
        let first = chars.find(|c| !matches!(c, '-' | ' '))?;
        let digit = |c: char| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *byte = digit(first)? << 4 | digit(chars.next()?)?;
    }
    chars.next().is_none().then(|| uuid::Uuid::from_bytes(bytes))
}

/// The length of a contiguous netmask.
pub(crate) fn netmask_bits(mask: Ipv4Addr) -> Option<u8> {
    let bits = mask.to_bits();
    let ones = bits.leading_ones();
    (ones + bits.trailing_zeros() >= 32).then(|| u8::try_from(ones).unwrap_or(32))
}

/// The netmask of a prefix length.
pub(crate) fn netmask(prefix: u8) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0))
}

/// The prefix length an address has when none is written.
pub(crate) fn natural_prefix(address: IpAddr) -> u8 {
    match address {
        address if address.is_unspecified() => 0,
        IpAddr::V6(_) => 64,
        IpAddr::V4(address) => match address.octets()[0] {
            0..128 => 8,
            128..192 => 16,
            192..224 => 24,
            _ => 32,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(unsigned(" \t+17", 10), Some(17));
        for bad in ["", " ", "-1", "1 ", "1x", "0x10", "18446744073709551616", "+-1", "é"] {
            assert_eq!(unsigned(bad, 10), None, "{bad:?}");
        }
        assert_eq!(
            [unsigned("0x1F", 0), unsigned("017", 0), unsigned("0", 0)],
            [Some(31), Some(15), Some(0)]
        );
        assert_eq!([unsigned("08", 0), unsigned("0x", 0)], [None, None]);
        assert_eq!([wrapping_u32("-1", 10), wrapping_u32("4294967296", 10)], [Some(u32::MAX), None]);
        assert_eq!([signed("-5", 10), signed("2147483648", 10)], [Some(-5), None]);
    }

    #[test]
    fn addresses() {
        let v4 = |text: &str| address_v4(text).map(|address| address.to_string());
        assert_eq!(v4("10.0.0.1").as_deref(), Some("10.0.0.1"));
        assert_eq!(v4("10.1").as_deref(), Some("10.0.0.1"));
        assert_eq!(v4("0x0a.0.010.1").as_deref(), Some("10.0.8.1"));
        assert_eq!(v4("3232235777").as_deref(), Some("192.168.1.1"));
        for bad in
            ["", ".", "1.", "1..2", "1.2.3.4.5", "256.1.1.1", "1.2.3.256", "+1.2.3.4", "a.b", " 1.2.3.4"]
        {
            assert_eq!(v4(bad), None, "{bad:?}");
        }
        let text = |text: &str| address(text).map(address_text);
        assert_eq!(text("FE80:0::1").as_deref(), Some("fe80::1"));
        assert_eq!(text("::1.2.3.4").as_deref(), Some("::1.2.3.4"));
        assert_eq!(text("::ffff:1.2.3.4").as_deref(), Some("::ffff:1.2.3.4"));
        assert_eq!([text("::1").as_deref(), text("::").as_deref()], [Some("::1"), Some("::")]);
    }

    #[test]
    fn identifiers() {
        assert_eq!(mac("0:16:3E:7:e2:ed "), Some([0, 0x16, 0x3e, 7, 0xe2, 0xed]));
        for bad in [
            "",
            "0:1:2:3:4",
            "0:1:2:3:4:5:6",
            "0:1:2:3:4:100",
            "0:1:2:3:4:005",
            "0:1:2:3:4:0x",
            "0:1:2:3:4:",
            " 0:1:2:3:4:5",
            "+0:1:2:3:4:5",
        ] {
            assert_eq!(mac(bad), None, "{bad:?}");
        }
        let good = "81ff0d90-c91e-6742-64da-4a736edb9a9b";
        assert_eq!(
            uuid(&format!(" {} \n", good.replace('-', ""))).map(|id| id.to_string()).as_deref(),
            Some(good)
        );
        assert_eq!(uuid(&good.to_uppercase()).map(|id| id.to_string()).as_deref(), Some(good));
        for bad in [
            "",
            "81",
            &good[..35],
            &format!("{good}0"),
            &format!("{{{good}}}"),
            "8 1ff0d90c91e674264da4a736edb9a9b",
        ] {
            assert_eq!(uuid(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn masks() {
        let bits = |text: &str| netmask_bits(text.parse().unwrap_or(Ipv4Addr::BROADCAST));
        assert_eq!([bits("255.255.255.0"), bits("0.0.0.0"), bits("255.0.255.0")], [Some(24), Some(0), None]);
        assert_eq!([netmask(0), netmask(24)].map(|mask| mask.to_string()), ["0.0.0.0", "255.255.255.0"]);
    }
}
