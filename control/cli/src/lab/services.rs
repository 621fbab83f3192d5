//! The lab's internet: a DNS server and a web server.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Ipv4Addr as Ip, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

/// The one server of the lab's internet.
pub(crate) const SERVER: Ipv4Addr = Ip::new(203, 0, 113, 80);
/// The size of `/20m`.
pub(crate) const DOWNLOAD: usize = 20_000_000;

const PATIENCE: Duration = Duration::from_secs(10);

/// Starts all of it in the namespace of the calling thread; threads inherit it.
pub(crate) fn start() -> io::Result<()> {
    let udp = UdpSocket::bind((Ip::UNSPECIFIED, 53))?;
    let tcp = TcpListener::bind((Ip::UNSPECIFIED, 53))?;
    let web = TcpListener::bind((Ip::UNSPECIFIED, 80))?;
    thread::Builder::new().name("dns-udp".into()).spawn(move || dns_udp(&udp))?;
    thread::Builder::new().name("dns-tcp".into()).spawn(move || accept(&tcp, dns_tcp))?;
    thread::Builder::new().name("web".into()).spawn(move || accept(&web, web_page))?;
    Ok(())
}

/// One thread a connection; a connection's errors end only it.
fn accept(listener: &TcpListener, serve: fn(TcpStream) -> io::Result<()>) {
    for stream in listener.incoming().flatten() {
        let limited =
            stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
        if limited.is_ok() {
            let _ = thread::Builder::new().spawn(move || serve(stream));
        }
    }
}

fn dns_udp(socket: &UdpSocket) {
    let mut query = [0u8; 1500];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut query) else { return };
        if let Some(answer) = query.get(..length).and_then(dns_answer) {
            // A client that went away is no fault of the server.
            let _ = socket.send_to(&answer, from);
        }
    }
}

fn dns_tcp(mut stream: TcpStream) -> io::Result<()> {
    let mut length = [0u8; 2];
    stream.read_exact(&mut length)?;
    let mut query = vec![0u8; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut query)?;
    let answer = dns_answer(&query).ok_or(io::ErrorKind::InvalidData)?;
    let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
    stream.write_all(&length.to_be_bytes())?;
    stream.write_all(&answer)
}

/// google.com and its address; no other name exists.
fn dns_answer(query: &[u8]) -> Option<Vec<u8>> {
    let (name, end) = question(query)?;
    let kind = u16::from_be_bytes([*query.get(end)?, *query.get(end + 1)?]);
    let octets = SERVER.octets();
    let reverse = format!("{}.{}.{}.{}.in-addr.arpa", octets[3], octets[2], octets[1], octets[0]);
    let (known, data): (bool, Option<Vec<u8>>) = match (name.as_str(), kind) {
        ("google.com", 1) => (true, Some(octets.to_vec())),
        (name, 12) if name == reverse => (true, Some(b"\x06google\x03com\x00".to_vec())),
        (name, _) => (name == "google.com" || name == reverse, None),
    };
    let mut answer = query.get(..2)?.to_vec();
    answer.extend([0x85, if known { 0x80 } else { 0x83 }, 0, 1, 0, u8::from(data.is_some()), 0, 0, 0, 0]);
    answer.extend_from_slice(query.get(12..end + 4)?);
    if let Some(data) = data {
        answer.extend([0xc0, 12]);
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 60]);
        answer.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
        answer.extend(data);
    }
    Some(answer)
}

/// The first question's name in lower case, and where its type begins.
fn question(query: &[u8]) -> Option<(String, usize)> {
    let (mut labels, mut at) = (Vec::new(), 12);
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        match length {
            0 => return Some((labels.join(".").to_ascii_lowercase(), at)),
            1..=63 => labels.push(String::from_utf8_lossy(query.get(at..at + length)?).into_owned()),
            _ => return None,
        }
        at += length;
    }
}

fn web_page(mut stream: TcpStream) -> io::Result<()> {
    let peer = stream.peer_addr()?;
    let mut lines = BufReader::new(stream.try_clone()?.take(8192)).lines();
    let first = lines.next().ok_or(io::ErrorKind::UnexpectedEof)??;
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let path = first.split_whitespace().nth(1).unwrap_or("/").to_owned();
    stream.write_all(b"HTTP/1.0 200 OK\r\nServer: pontoon-lab\r\n\r\n")?;
    send_page(&mut stream, &path, peer)
}

fn send_page(stream: &mut TcpStream, path: &str, peer: SocketAddr) -> io::Result<()> {
    if path == "/20m" {
        return stream.write_all(&pattern(DOWNLOAD));
    }
    let seconds = path.strip_prefix('/').and_then(|path| path.strip_suffix('s')).and_then(|n| n.parse().ok());
    let Some(seconds) = seconds else {
        return writeln!(stream, "you are {} port {}", peer.ip(), peer.port());
    };
    let end = Instant::now() + Duration::from_secs(u64::min(seconds, 60));
    let block = pattern(256 << 10);
    while Instant::now() < end {
        stream.write_all(&block)?;
    }
    Ok(())
}

/// Bytes a receiver can check.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..251u8).cycle().take(length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(name: &str, kind: u8) -> Vec<u8> {
        let mut query = vec![7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            query.push(label.len() as u8);
            query.extend(label.bytes());
        }
        query.extend([0, 0, kind, 0, 1]);
        query
    }

    #[test]
    fn the_one_name_is_known() {
        let answer = dns_answer(&query("Google.com", 1)).expect("answer");
        assert_eq!(answer[..4], [7, 9, 0x85, 0x80]);
        assert_eq!(answer[answer.len() - 4..], SERVER.octets());
    }

    #[test]
    fn others_are_not_and_rubbish_is_ignored() {
        assert_eq!(dns_answer(&query("example.org", 1)).expect("answer")[3], 0x83);
        assert_eq!(dns_answer(&[0; 5]), None);
    }
}
