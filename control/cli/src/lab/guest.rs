//! What a guest does: a DHCP client, ping, a resolver and a web client, small enough to need no program.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, ipproto, sockopt};

use super::{host, sys};

const WAIT: Duration = Duration::from_secs(2);

/// What the DHCP server gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) address: Ipv4Addr,
    pub(crate) prefix: u8,
    pub(crate) router: Option<Ipv4Addr>,
    pub(crate) resolver: Option<Ipv4Addr>,
    server: Option<Ipv4Addr>,
    kind: u8,
}

/// Asks for an address on `device` and takes it.
pub(crate) fn dhcp(device: &str, mac: [u8; 6], hostname: &str) -> io::Result<Lease> {
    host::Netlink::open()?.up(device)?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 68))?;
    sys::bind_to_device(&socket, device)?;
    socket.set_broadcast(true)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let offer = transact(&socket, &message(1, mac, hostname, None), mac, 2)?;
    let lease = transact(&socket, &message(3, mac, hostname, Some(&offer)), mac, 5)?;
    let mut netlink = host::Netlink::open()?;
    netlink.address(device, lease.address, lease.prefix)?;
    if let Some(router) = lease.router {
        netlink.route(None, router)?;
    }
    Ok(lease)
}

/// Sends until the answer of this kind comes.
fn transact(socket: &UdpSocket, request: &[u8], mac: [u8; 6], kind: u8) -> io::Result<Lease> {
    let end = Instant::now() + Duration::from_secs(10);
    let mut buffer = [0u8; 1500];
    while Instant::now() < end {
        socket.send_to(request, (Ipv4Addr::BROADCAST, 67))?;
        while let Ok((length, _)) = socket.recv_from(&mut buffer) {
            let answer = buffer.get(..length).and_then(|bytes| parse(bytes, mac));
            match answer {
                Some(lease) if lease.kind == kind => return Ok(lease),
                Some(lease) if lease.kind == 6 => return Err(io::Error::other("the DHCP server refused")),
                _ if Instant::now() >= end => break,
                _ => {}
            }
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "no answer from a DHCP server"))
}

fn message(kind: u8, mac: [u8; 6], hostname: &str, offer: Option<&Lease>) -> Vec<u8> {
    let mut bytes = vec![1, 1, 6, 0];
    // The transaction id is the end of the address: one client, one transaction.
    bytes.extend_from_slice(&mac[2..]);
    bytes.extend([0, 0, 0x80, 0]);
    bytes.resize(28, 0);
    bytes.extend(mac);
    bytes.resize(236, 0);
    bytes.extend([99, 130, 83, 99, 53, 1, kind, 61, 7, 1]);
    bytes.extend(mac);
    bytes.extend([12, hostname.len() as u8]);
    bytes.extend(hostname.bytes());
    bytes.extend([55, 4, 1, 3, 6, 15]);
    if let Some(offer) = offer {
        bytes.extend([50, 4]);
        bytes.extend(offer.address.octets());
        if let Some(server) = offer.server {
            bytes.extend([54, 4]);
            bytes.extend(server.octets());
        }
    }
    bytes.push(255);
    bytes.resize(bytes.len().max(300), 0);
    bytes
}

fn parse(bytes: &[u8], mac: [u8; 6]) -> Option<Lease> {
    if bytes.first() != Some(&2) || bytes.get(4..8)? != &mac[2..] || bytes.get(28..34)? != mac {
        return None;
    }
    let ip = |bytes: &[u8]| <[u8; 4]>::try_from(bytes.get(..4)?).ok().map(Ipv4Addr::from);
    let mut lease = Lease {
        address: ip(bytes.get(16..)?)?,
        prefix: 24,
        router: None,
        resolver: None,
        server: None,
        kind: 0,
    };
    let mut options = bytes.get(240..)?;
    while let [code, rest @ ..] = options {
        match code {
            0 => options = rest,
            255 => break,
            _ => {
                let length = usize::from(*rest.first()?);
                let value = rest.get(1..=length)?;
                match code {
                    1 => lease.prefix = u32::from(ip(value)?).leading_ones() as u8,
                    3 => lease.router = ip(value),
                    6 => lease.resolver = ip(value),
                    53 => lease.kind = *value.first()?,
                    54 => lease.server = ip(value),
                    _ => {}
                }
                options = rest.get(1 + length..)?;
            }
        }
    }
    Some(lease)
}

/// One echo reply.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Echo {
    pub(crate) sequence: u16,
    pub(crate) ttl: u8,
    pub(crate) time: Duration,
}

/// Sends `count` echo requests and returns the replies.
pub(crate) fn ping(to: Ipv4Addr, count: u16) -> io::Result<Vec<Echo>> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::ICMP))?;
    let socket = UdpSocket::from(socket);
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    let id = (std::process::id() as u16) ^ 0x4c41;
    let mut echoes = Vec::new();
    for sequence in 1..=count {
        let sent = Instant::now();
        socket.send_to(&echo_request(id, sequence), (to, 0))?;
        if let Some(ttl) = await_reply(&socket, id, sequence, sent + Duration::from_secs(1)) {
            echoes.push(Echo { sequence, ttl, time: sent.elapsed() });
        }
    }
    Ok(echoes)
}

fn await_reply(socket: &UdpSocket, id: u16, sequence: u16, end: Instant) -> Option<u8> {
    let mut buffer = [0u8; 1500];
    while Instant::now() < end {
        let Ok((length, _)) = socket.recv_from(&mut buffer) else { continue };
        let packet = buffer.get(..length)?;
        let header = usize::from(packet.first()? & 0xf) * 4;
        let wanted = [id.to_be_bytes(), sequence.to_be_bytes()].concat();
        if packet.get(header) == Some(&0) && packet.get(header + 4..header + 8) == Some(wanted.as_slice()) {
            return packet.get(8).copied();
        }
    }
    None
}

fn echo_request(id: u16, sequence: u16) -> Vec<u8> {
    let mut packet = vec![8, 0, 0, 0];
    packet.extend(id.to_be_bytes());
    packet.extend(sequence.to_be_bytes());
    packet.extend(0..48u8);
    let mut sum: u32 =
        packet.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    packet[2..4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    packet
}

/// Asks `server` for the address of `name`: the response code and the first address.
pub(crate) fn resolve(server: Ipv4Addr, name: &str) -> io::Result<(u8, Option<Ipv4Addr>)> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect((server, 53))?;
    socket.set_read_timeout(Some(WAIT))?;
    let mut query = vec![0x6c, 0x61, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(label.len() as u8);
        query.extend(label.bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    let mut answer = [0u8; 1500];
    let mut length = 0;
    for _ in 0..2 {
        socket.send(&query)?;
        length = socket.recv(&mut answer).unwrap_or(0);
        if length > 0 {
            break;
        }
    }
    if length < 12 {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer from the DNS server"));
    }
    // The record follows the question: a pointer, type, class, TTL and length, then the address.
    let record = answer.get(query.len()..length).unwrap_or_default();
    let address = record.get(12..16).filter(|_| record.get(2..4) == Some(&[0, 1]));
    let address = address.and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()).map(Ipv4Addr::from);
    Ok((answer[3] & 0xf, address))
}

/// A connection to the web server, from this source port if one is named.
pub(crate) fn connect(to: Ipv4Addr, source_port: Option<u16>) -> io::Result<TcpStream> {
    let target = SocketAddrV4::new(to, 80);
    let stream = match source_port {
        None => TcpStream::connect_timeout(&target.into(), Duration::from_secs(5))?,
        Some(port) => {
            let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
            sockopt::set_socket_reuseaddr(&socket, true)?;
            sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(Duration::from_secs(5)))?;
            rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))?;
            rustix::net::connect(&socket, &target)?;
            TcpStream::from(socket)
        }
    };
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    Ok(stream)
}

/// The body of a page.
pub(crate) fn get(to: Ipv4Addr, path: &str, source_port: Option<u16>) -> io::Result<Vec<u8>> {
    let mut stream = connect(to, source_port)?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut page = Vec::new();
    stream.read_to_end(&mut page)?;
    let head = page.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let head = head.ok_or_else(|| io::Error::other("the page has no header"))?;
    Ok(page.split_off(head + 4))
}

/// Gbit/s of a stream of `seconds`.
pub(crate) fn throughput(to: Ipv4Addr, seconds: u32) -> io::Result<f64> {
    let mut stream = connect(to, None)?;
    write!(stream, "GET /{seconds}s HTTP/1.0\r\n\r\n")?;
    let start = Instant::now();
    let end = start + Duration::from_secs(u64::from(seconds) + 5);
    let mut buffer = vec![0u8; 1 << 20];
    let mut total = 0usize;
    while Instant::now() < end {
        match stream.read(&mut buffer)? {
            0 => break,
            length => total += length,
        }
    }
    Ok(total as f64 * 8.0 / start.elapsed().as_secs_f64() / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_is_read() {
        let mac = [0x52, 0x54, 0, 1, 2, 3];
        let mut bytes = message(1, mac, "n", None);
        assert_eq!(parse(&bytes, mac), None);
        bytes[0] = 2;
        bytes[16..20].copy_from_slice(&[192, 168, 110, 10]);
        bytes.truncate(240);
        bytes.extend([53, 1, 2, 1, 4, 255, 255, 255, 0, 3, 4, 192, 168, 110, 1, 255]);
        let lease = parse(&bytes, mac).expect("offer");
        assert_eq!((lease.kind, lease.prefix), (2, 24));
        assert_eq!(lease.router, Some(Ipv4Addr::new(192, 168, 110, 1)));
    }
}
