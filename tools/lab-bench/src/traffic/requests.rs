//! One small request at a time, and how long each answer takes.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::{ECHO_PORT, PATIENCE, Path, Stop, is_set, percentile};
use crate::netns::Netns;

/// Answers remembered, far more than fit a measurement.
const MOST: usize = 4_000_000;

/// Answers a second, and microseconds that half, 99 % and 99.9 % of them took at most.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Latency {
    pub rate: f64,
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub lost: u64,
}

/// Sends datagrams back until it is dropped.
#[derive(Debug)]
pub struct Echo {
    // Ends the thread when dropped.
    _stop: Stop,
}

impl Echo {
    /// # Errors
    /// When the port is taken.
    pub fn start(server: &Netns) -> io::Result<Self> {
        let socket = server.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, ECHO_PORT)))??;
        socket.set_read_timeout(Some(PATIENCE))?;
        let stop = Stop::default();
        let flag = stop.flag();
        server.spawn(move || {
            echo(&socket, &flag);
            Ok(())
        })?;
        Ok(Self { _stop: stop })
    }
}

fn echo(socket: &UdpSocket, stop: &Arc<AtomicBool>) {
    let mut buffer = [0; 2048];
    while !is_set(stop) {
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            // An answer that cannot be sent is a lost one.
            let _ = socket.send_to(buffer.get(..length).unwrap_or_default(), from);
        }
    }
}

/// Asks for `time`; needs an [`Echo`].
///
/// # Errors
/// The socket's.
pub fn measure(path: &Path<'_>, time: Duration) -> io::Result<Latency> {
    let to = path.to(ECHO_PORT);
    path.client.enter(move || ask(to, time))?
}

fn ask(to: SocketAddr, time: Duration) -> io::Result<Latency> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut nanos: Vec<u32> = Vec::with_capacity(MOST.min(1 << 20));
    let (begin, mut lost, mut number) = (Instant::now(), 0, 0u64);
    let end = begin + time;
    while !crate::sys::interrupted() && nanos.len() < MOST {
        let asked = Instant::now();
        if asked >= end {
            break;
        }
        number += 1;
        if socket.send(&number.to_ne_bytes()).is_ok() && answer(&socket, number) {
            nanos.push(u32::try_from(asked.elapsed().as_nanos()).unwrap_or(u32::MAX));
        } else {
            lost += 1;
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    nanos.sort_unstable();
    let micros = |share| percentile(&nanos, share) / 1000.0;
    let rate = nanos.len() as f64 / seconds;
    Ok(Latency { rate, p50: micros(0.5), p99: micros(0.99), p999: micros(0.999), lost })
}

/// Waits for the answer with this number; earlier ones are late.
fn answer(socket: &UdpSocket, number: u64) -> bool {
    let mut buffer = [0; 8];
    loop {
        match socket.recv(&mut buffer) {
            Ok(8) if u64::from_ne_bytes(buffer) == number => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
}
