//! Answers on the wire.
use core::net::Ipv4Addr;

use pontoon_wire::dhcp::{Builder, Error, Message, MessageType, code};

use super::{Config, INFINITE, Lease, Reply};

/// A lease time below this would make clients renew all the time; the configuration may still ask for it.
const MIN_REQUESTED: u32 = 120;

/// The time granted: what the client asks for, at most what is configured (RFC 2131 §4.3.1).
pub(super) fn lease_seconds(config: &Config, message: &Message<'_>) -> u32 {
    let seconds = match message.option(code::LEASE_TIME).map(<[u8; 4]>::try_from) {
        Some(Ok(bytes)) => u32::from_be_bytes(bytes).max(MIN_REQUESTED).min(config.lease_seconds),
        _ => config.lease_seconds,
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
    builder.option(code::SERVER_ID, &config.server.octets())?;
    if kind == MessageType::Ack {
        builder.ciaddr(message.ciaddr());
    }
    if let Some((lease, seconds)) = lease {
        builder.yiaddr(lease.ip);
        builder.option(code::LEASE_TIME, &seconds.to_be_bytes())?;
    }
    builder.option(code::SUBNET_MASK, &config.mask().to_be_bytes())?;
    echo_client_id(&mut builder, message)?;
    if let Some(router) = config.router {
        builder.option(code::ROUTER, &router.octets())?;
    }
    if let Some(dns) = config.dns {
        builder.option(code::DNS, &dns.octets())?;
    }
    optional(&mut builder, config, lease);
    let (dst_ip, dst_mac) = destination(message, kind, lease.map(|(lease, _)| lease.ip));
    Ok(Reply { len: builder.finish(), dst_ip, dst_mac, kind })
}

/// Options a client can do without: left out where a tiny message size meets a huge client identifier.
fn optional(builder: &mut Builder<'_>, config: &Config, lease: Option<(&Lease, u32)>) {
    let mut add = |code, data: &[u8]| {
        let _ = builder.option(code, data);
    };
    if let Some((_, seconds)) = lease.filter(|(_, seconds)| *seconds != INFINITE) {
        add(code::RENEWAL_TIME, &(seconds / 2).to_be_bytes());
        add(code::REBINDING_TIME, &(seconds - seconds.div_ceil(8)).to_be_bytes());
    }
    if config.mtu != 0 {
        add(code::MTU, &config.mtu.to_be_bytes());
    }
    add(code::BROADCAST, &config.broadcast().to_be_bytes());
    if let Some(name) = lease.and_then(|(lease, _)| lease.hostname.as_deref()) {
        add(code::HOST_NAME, name.as_bytes());
    }
    if let Some(domain) = config.domain.as_deref().filter(|domain| !domain.is_empty()) {
        add(code::DOMAIN, domain.as_bytes());
    }
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
