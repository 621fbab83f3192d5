//! UDP datagrams in batches, as fast as they go or at a given rate.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::{PATIENCE, Path, SINK_PORT, Stop, WARM_UP, is_set, pause};
use crate::sys::{self, BATCH, ROOM};

/// 18 octets make a frame of 64 with its checksum.
pub const SMALLEST: usize = 18;
const RECEIVE_BUFFER: usize = 4 << 20;
/// Shortest sleep while there is nothing to send yet.
const NAP: Duration = Duration::from_micros(20);

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Octets of payload.
    pub size: usize,
    /// Sockets taking turns.
    pub flows: usize,
    /// Datagrams a second; as many as go when `None`.
    pub rate: Option<f64>,
}

/// Datagrams a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    pub sent: f64,
    pub received: f64,
}

impl Rates {
    /// Share that was lost.
    #[must_use]
    pub fn loss(&self) -> f64 {
        if self.sent > 0.0 { (1.0 - self.received / self.sent).max(0.0) } else { 0.0 }
    }
}

/// Sends for `time` and counts what arrives.
///
/// # Errors
/// The sockets', or on an interrupt.
pub fn measure(path: &Path<'_>, load: Load, time: Duration) -> io::Result<Rates> {
    let sink = path.server.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, SINK_PORT)))??;
    let forced = rustix::net::sockopt::set_socket_recv_buffer_size_force(&sink, RECEIVE_BUFFER);
    if forced.is_err() {
        rustix::net::sockopt::set_socket_recv_buffer_size(&sink, RECEIVE_BUFFER)?;
    }
    sink.set_read_timeout(Some(PATIENCE))?;
    let (stop, to) = (Stop::default(), path.to(SINK_PORT));
    let (sending, receiving) = (stop.flag(), stop.flag());
    let sender = path.client.spawn(move || send(to, load, &sending, WARM_UP, time))?;
    let receiver = path.server.spawn(move || receive(&sink, &receiving, WARM_UP, time))?;
    pause(WARM_UP + time + Duration::from_millis(50))?;
    stop.set();
    let ended = |thread: std::thread::JoinHandle<io::Result<u64>>| {
        thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread failed")))
    };
    let (sent, received) = (ended(sender)?, ended(receiver)?);
    let seconds = time.as_secs_f64();
    Ok(Rates { sent: sent as f64 / seconds, received: received as f64 / seconds })
}

/// Datagrams taken by the kernel in the time that counts.
fn send(to: SocketAddr, load: Load, stop: &AtomicBool, warm_up: Duration, time: Duration) -> io::Result<u64> {
    let sockets = (0..load.flows.max(1)).map(|_| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(to).map(|()| socket)
    });
    let sockets: Vec<UdpSocket> = sockets.collect::<io::Result<_>>()?;
    let payload = vec![b'x'; load.size];
    // Several flows interleave datagram by datagram.
    let batch = if load.flows > 1 { 1 } else { BATCH };
    let (begin, mut all, mut counted) = (Instant::now(), 0u64, 0u64);
    for socket in sockets.iter().cycle() {
        let elapsed = begin.elapsed();
        if is_set(stop) {
            break;
        }
        let due = load.rate.map_or(batch, |rate| due(elapsed, rate, all, batch));
        if due == 0 {
            std::thread::sleep(NAP);
            continue;
        }
        // A refusal is the other side's ICMP error, or no memory: it counts as not sent.
        let sent = sys::send_batch(socket, &payload, due).unwrap_or(0) as u64;
        all += sent;
        if (warm_up..warm_up + time).contains(&elapsed) {
            counted += sent;
        }
    }
    Ok(counted)
}

/// Datagrams that should have been sent by now, but no more than a batch.
fn due(elapsed: Duration, rate: f64, sent: u64, batch: usize) -> usize {
    let due = elapsed.as_secs_f64() * rate - sent as f64;
    (due.max(0.0) as usize).min(batch)
}

fn receive(sink: &UdpSocket, stop: &AtomicBool, warm_up: Duration, time: Duration) -> io::Result<u64> {
    let mut buffer = vec![0; BATCH * ROOM];
    let (begin, mut counted) = (Instant::now(), 0u64);
    while !is_set(stop) {
        match sys::receive_batch(sink, &mut buffer) {
            Ok(received) if (warm_up..warm_up + time).contains(&begin.elapsed()) => {
                counted += received as u64;
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(counted)
}

/// The highest rate, found by halving, of which less than a hundredth is lost.
///
/// # Errors
/// As [`measure`].
pub fn rate_without_loss(path: &Path<'_>, time: Duration) -> io::Result<f64> {
    const STEPS: u32 = 8;
    let (mut low, mut high) = (0.0, 1e6);
    let step = (time / 4).max(Duration::from_millis(300));
    for _ in 0..STEPS {
        let rate = f64::midpoint(low, high);
        let rates = measure(path, Load { size: SMALLEST, flows: 1, rate: Some(rate) }, step)?;
        if rates.loss() < 0.01 && rates.sent >= 0.9 * rate {
            low = rate;
        } else {
            high = rate;
        }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_in_batches() {
        let second = Duration::from_secs(1);
        assert_eq!(due(second, 1000.0, 990, BATCH), 10);
        assert_eq!(due(second, 1000.0, 1001, BATCH), 0);
        assert_eq!(due(second, 1e6, 0, BATCH), BATCH);
    }

    #[test]
    fn loss_is_a_share() {
        assert_eq!(Rates { sent: 100.0, received: 75.0 }.loss(), 0.25);
        assert_eq!(Rates { sent: 100.0, received: 101.0 }.loss(), 0.0);
        assert_eq!(Rates::default().loss(), 0.0);
    }
}
