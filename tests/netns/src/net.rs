//! Threads inside network namespaces, a web server and its client.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

const PATIENCE: Duration = Duration::from_secs(20);
/// Size of `/20m`.
pub const BIG: usize = 20_000_000;

/// Runs `work` on a thread of its own in a named network namespace; threads it starts stay in there.
///
/// # Panics
/// When the namespace cannot be entered, or as `work` does.
pub fn in_netns<T: Send>(netns: &str, work: impl FnOnce() -> T + Send) -> T {
    let enter = || {
        let file = File::open(format!("/run/netns/{netns}")).expect("network namespace");
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("setns");
        work()
    };
    thread::scope(|scope| scope.spawn(enter).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Serves each TCP connection to `port` in a thread, in a namespace, until `stop` is set.
///
/// # Panics
/// When it cannot listen.
pub fn serve_tcp(netns: &str, port: u16, stop: &Arc<AtomicBool>) {
    let stop = Arc::clone(stop);
    in_netns(netns, || {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("listen");
        listener.set_nonblocking(true).expect("nonblocking");
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, from)) => {
                        // A client's fault ends only its connection.
                        thread::spawn(move || answer(stream, from));
                    }
                    Err(_) => thread::sleep(Duration::from_millis(5)),
                }
            }
        });
    });
}

fn answer(mut stream: TcpStream, from: SocketAddr) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut request = Vec::new();
    let mut buffer = [0u8; 2048];
    while !request.ends_with(b"\r\n\r\n") {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        request.extend_from_slice(buffer.get(..count).unwrap_or_default());
    }
    let body = match request.starts_with(b"GET /20m ") {
        true => vec![0; BIG],
        false => format!("you are {} port {}\n", from.ip(), from.port()).into_bytes(),
    };
    let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(&body)
}

/// Asks on a connection and returns the body.
///
/// # Errors
/// As the connection.
pub fn http_get(stream: &mut TcpStream, path: &str) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(stream.read_timeout()?.unwrap_or(PATIENCE)))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let head = head.ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(answer.split_off(head + 4))
}
