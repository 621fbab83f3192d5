//! Host names that clients send (option 12, and option 81 of RFC 4702).
use alloc::string::String;
use core::net::Ipv4Addr;

use pontoon_wire::dhcp::{Message, code};

/// Names that would redirect other guests' traffic: proxy discovery, tunnels, the host and the gateway.
const REFUSED: [&str; 6] = ["localhost", "wpad", "isatap", "gateway", "router", "broadcasthost"];

/// The name a message asks for, as a lower-case label.
pub(super) fn requested(message: &Message<'_>) -> Option<String> {
    let mut buffer = [0; 255];
    if let Ok(Some(name)) = message.joined(code::HOST_NAME, &mut buffer) {
        return sanitise(name);
    }
    let (flags, name) = message.option(code::FQDN)?.split_first()?;
    let name = name.get(2..)?;
    if flags & 4 == 0 {
        return sanitise(name);
    }
    // The E bit selects DNS wire format (RFC 4702 §2.1); the first label is all that is used.
    let (&len, rest) = name.split_first()?;
    sanitise(rest.get(..usize::from(len))?)
}

/// The first label of a name that a client may call itself.
pub(super) fn sanitise(name: &[u8]) -> Option<String> {
    let label = label(name)?;
    (!REFUSED.contains(&label.as_str()) && !label.contains('_')).then_some(label)
}

/// The first label of a name made of RFC 1123 §2.1 labels only, in lower case. The definition's own names may have
/// underscores, as dnsmasq lets them.
pub(super) fn label(name: &[u8]) -> Option<String> {
    let name = name.strip_suffix(&[0]).unwrap_or(name);
    let name = core::str::from_utf8(name.strip_suffix(b".").unwrap_or(name)).ok()?;
    if name.len() > 253 || name.parse::<Ipv4Addr>().is_ok() || !name.split('.').all(is_label) {
        return None;
    }
    Some(name.split('.').next()?.to_ascii_lowercase())
}

fn is_label(label: &str) -> bool {
    let inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    (1..=63).contains(&label.len()) && inner && !label.starts_with('-') && !label.ends_with('-')
}
