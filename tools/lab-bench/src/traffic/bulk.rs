//! TCP streams that send as much as they can.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{BULK_PORT, PATIENCE, Path, Stop, WARM_UP, is_set, pause};

/// Octets of one read or write.
const CHUNK: usize = 128 * 1024;

/// Streams that run until this is dropped.
#[derive(Debug)]
pub struct Bulk {
    // Before the threads, so that they end.
    stop: Stop,
    received: Arc<AtomicU64>,
}

impl Bulk {
    /// Connects `streams` streams and lets them run.
    ///
    /// # Errors
    /// When they do not connect.
    pub fn start(path: &Path<'_>, streams: usize) -> io::Result<Self> {
        let bulk = Self { stop: Stop::default(), received: Arc::default() };
        let listener = path.server.enter(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, BULK_PORT)))??;
        for _ in 0..streams {
            let (to, stop) = (path.to(BULK_PORT), bulk.stop.flag());
            let (connected, done) = std::sync::mpsc::channel();
            path.client.spawn(move || {
                let stream = TcpStream::connect_timeout(&to, Duration::from_secs(5));
                let _ = connected.send(stream.as_ref().map(drop).map_err(io::Error::kind));
                let mut stream = stream?;
                stream.set_write_timeout(Some(PATIENCE))?;
                let data = vec![0; CHUNK];
                while !is_set(&stop) {
                    match stream.write(&data) {
                        Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                        _ => {}
                    }
                }
                Ok(())
            })?;
            done.recv().map_err(io::Error::other)??;
            let (stream, _) = listener.accept()?;
            let (received, stop) = (Arc::clone(&bulk.received), bulk.stop.flag());
            path.server.spawn(move || drain(stream, &received, || is_set(&stop)))?;
        }
        Ok(bulk)
    }

    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

fn drain(mut stream: TcpStream, received: &AtomicU64, ended: impl Fn() -> bool) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut buffer = vec![0; CHUNK];
    while !ended() {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => {
                received.fetch_add(length as u64, Ordering::Relaxed);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Bits a second that `streams` streams bring to the other side.
///
/// # Errors
/// When they do not connect, or on an interrupt.
pub fn rate(path: &Path<'_>, streams: usize, time: Duration) -> io::Result<f64> {
    let bulk = Bulk::start(path, streams)?;
    pause(WARM_UP)?;
    let (before, begin) = (bulk.received(), Instant::now());
    pause(time)?;
    let octets = bulk.received() - before;
    Ok(octets as f64 * 8.0 / begin.elapsed().as_secs_f64())
}
