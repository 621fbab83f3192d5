//! Answers on the wire.
use alloc::{string::ToString, vec::Vec};
use core::net::Ipv4Addr;

use pontoon_wire::dhcp::{Builder, Error, Message, MessageType, code};

use super::{Config, INFINITE, Lease, Reply};

/// A lease time below this would make clients renew all the time; the configuration may still ask for it.
const MIN_REQUESTED: u32 = 120;
/// What this server says itself; the definition's options cannot.
const RESERVED: [u8; 13] = [
    code::PAD,
    code::REQUESTED_IP,
    code::LEASE_TIME,
    code::OVERLOAD,
    code::MESSAGE_TYPE,
    code::SERVER_ID,
    code::PARAMETER_LIST,
    code::MAX_SIZE,
    code::RENEWAL_TIME,
    code::REBINDING_TIME,
    code::CLIENT_ID,
    code::FQDN,
    code::END,
];
/// Sent whether asked for or not.
const USUAL: [u8; 7] =
    [code::SUBNET_MASK, code::ROUTER, code::DNS, code::HOST_NAME, code::DOMAIN, code::MTU, code::BROADCAST];

/// The time granted: what the client asks for, at most `configured` (RFC 2131 §4.3.1).
pub(super) fn lease_seconds(configured: u32, message: &Message<'_>) -> u32 {
    let seconds = match message.option(code::LEASE_TIME).map(<[u8; 4]>::try_from) {
        Some(Ok(bytes)) => u32::from_be_bytes(bytes).max(MIN_REQUESTED).min(configured),
        _ => configured,
    };
    seconds.max(1)
}

/// OFFER or ACK with an address; ACK to INFORM if `lease` is `None` (RFC 2131 §4.3.1 table 3, §4.3.5).
pub(super) fn positive(
    config: &Config,
    message: &Message<'_>,
    kind: MessageType,
    lease: Option<(&Lease, u32)>,
    out: &mut [u8],
) -> Result<Reply, Error> {
    let mut builder = Builder::reply(out, message, kind)?;
    builder.siaddr(config.server);
    builder.option(code::SERVER_ID, &config.server.octets())?;
    if kind == MessageType::Ack {
        builder.ciaddr(message.ciaddr());
    }
    if let Some((lease, seconds)) = lease {
        builder.yiaddr(lease.ip);
        builder.option(code::LEASE_TIME, &seconds.to_be_bytes())?;
    }
    put(&mut builder, config, code::SUBNET_MASK, &config.mask().to_be_bytes())?;
    echo_client_id(&mut builder, message)?;
    put(&mut builder, config, code::ROUTER, &octets(config.router))?;
    put(&mut builder, config, code::DNS, &octets(config.dns))?;
    optional(&mut builder, config, message, lease);
    let (dst_ip, dst_mac) = destination(message, kind, lease.map(|(lease, _)| lease.ip));
    Ok(Reply { len: builder.finish(), dst_ip, dst_mac, kind })
}

fn octets(address: Option<Ipv4Addr>) -> Vec<u8> {
    address.map_or_else(Vec::new, |address| address.octets().to_vec())
}

/// Writes what the definition wants for an option, else the default; empty is nothing.
fn put(builder: &mut Builder<'_>, config: &Config, code: u8, default: &[u8]) -> Result<(), Error> {
    match config.option(code).unwrap_or(default) {
        [] => Ok(()),
        data => builder.option(code, data),
    }
}

/// Options a client can do without: left out where a tiny message size meets a huge client identifier.
fn optional(builder: &mut Builder<'_>, config: &Config, message: &Message<'_>, lease: Option<(&Lease, u32)>) {
    if let Some((_, seconds)) = lease.filter(|(_, seconds)| *seconds != INFINITE) {
        let _ = builder.option(code::RENEWAL_TIME, &(seconds / 2).to_be_bytes());
        let _ = builder.option(code::REBINDING_TIME, &(seconds - seconds.div_ceil(8)).to_be_bytes());
    }
    let mtu = config.mtu.to_be_bytes();
    let name = lease.and_then(|(lease, _)| lease.hostname.as_deref()).unwrap_or_default();
    for (code, default) in [
        (code::MTU, if config.mtu == 0 { &[][..] } else { &mtu }),
        (code::BROADCAST, &config.broadcast().to_be_bytes()),
        (code::HOST_NAME, name.as_bytes()),
        (code::DOMAIN, config.domain.as_deref().unwrap_or_default().as_bytes()),
    ] {
        let _ = put(builder, config, code, default);
    }
    boot(builder, config, message);
    on_request(builder, config, message);
}

/// Whether a client that says what it wants wants this; one that says nothing gets everything.
fn wants(message: &Message<'_>, code: u8) -> bool {
    message.option(code::PARAMETER_LIST).is_none_or(|list| list.contains(&code))
}

/// The fields of BOOTP, where every boot loader looks, and the options of the same meaning for those that ask.
fn boot(builder: &mut Builder<'_>, config: &Config, message: &Message<'_>) {
    let Some(boot) = &config.boot else { return };
    let next = boot.next_server.unwrap_or(config.server);
    builder.siaddr(next);
    builder.file(boot.file.as_bytes());
    builder.sname(boot.server_name.as_bytes());
    let asked = |code| message.option(code::PARAMETER_LIST).is_some_and(|list| list.contains(&code));
    if asked(code::SERVER_NAME) && config.option(code::SERVER_NAME).is_none() {
        let named = !boot.server_name.is_empty();
        let name = if named { boot.server_name.clone() } else { next.to_string() };
        let _ = builder.option(code::SERVER_NAME, name.as_bytes());
    }
    if asked(code::BOOT_FILE) && config.option(code::BOOT_FILE).is_none() && !boot.file.is_empty() {
        let _ = builder.option(code::BOOT_FILE, boot.file.as_bytes());
    }
}

fn on_request(builder: &mut Builder<'_>, config: &Config, message: &Message<'_>) {
    for (code, data) in &config.options {
        if !RESERVED.contains(code) && !USUAL.contains(code) && wants(message, *code) {
            let _ = builder.option(*code, data);
        }
    }
    let asked = message.option(code::PARAMETER_LIST).is_some_and(|list| list.contains(&code::DOMAIN_SEARCH));
    if let Some(domain) = config.domain.as_deref()
        && asked
        && config.option(code::DOMAIN_SEARCH).is_none()
        && let Some(list) = search_list(domain)
    {
        let _ = builder.option(code::DOMAIN_SEARCH, &list);
    }
}

/// RFC 3397 §2: the name in DNS wire format.
fn search_list(domain: &str) -> Option<Vec<u8>> {
    let mut list = Vec::new();
    for label in domain.strip_suffix('.').unwrap_or(domain).split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        list.push(length);
        list.extend_from_slice(label.as_bytes());
    }
    list.push(0);
    (list.len() <= 255).then_some(list)
}

/// A refusal, always broadcast because the client's address is in doubt (RFC 2131 §4.3.2).
pub(super) fn nak(config: &Config, message: &Message<'_>, out: &mut [u8]) -> Result<Reply, Error> {
    let mut builder = Builder::reply(out, message, MessageType::Nak)?;
    builder.option(code::SERVER_ID, &config.server.octets())?;
    echo_client_id(&mut builder, message)?;
    let len = builder.finish();
    Ok(Reply { len, dst_ip: Ipv4Addr::BROADCAST, dst_mac: [0xff; 6], kind: MessageType::Nak })
}

/// RFC 6842 §3.
fn echo_client_id(builder: &mut Builder<'_>, message: &Message<'_>) -> Result<(), Error> {
    let mut buffer = [0; 255];
    match message.joined(code::CLIENT_ID, &mut buffer)? {
        Some(id) => builder.option(code::CLIENT_ID, id),
        None => Ok(()),
    }
}

/// RFC 2131 §4.1: a configured client by its address, else as the broadcast bit says.
fn destination(message: &Message<'_>, kind: MessageType, yiaddr: Option<Ipv4Addr>) -> (Ipv4Addr, [u8; 6]) {
    let ciaddr = message.ciaddr();
    if kind == MessageType::Ack && !ciaddr.is_unspecified() {
        return (ciaddr, message.mac());
    }
    match yiaddr {
        Some(yiaddr) if !message.broadcast() => (yiaddr, message.mac()),
        _ => (Ipv4Addr::BROADCAST, [0xff; 6]),
    }
}
