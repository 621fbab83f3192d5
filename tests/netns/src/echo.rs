//! Datagrams that are counted.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::in_netns;

/// Ends what runs beside it, also when the test fails.
#[derive(Debug)]
pub struct Stop<'a>(pub &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Datagrams with numbers to an echo server and back, so many at a time, until `stop`; each has to come back once. How many
/// were sent, came, and came again.
///
/// # Panics
/// When the sockets cannot be made.
pub fn echoes(client: (&str, u16), server: (&str, SocketAddr), stop: &AtomicBool) -> (u32, u32, u32) {
    const WINDOW: u32 = 16;
    let (client, port) = client;
    let echo = in_netns(server.0, || UdpSocket::bind(server.1).expect("server"));
    echo.set_read_timeout(Some(Duration::from_millis(100))).expect("timeout");
    let socket = in_netns(client, || UdpSocket::bind(("0.0.0.0", port)).expect("client"));
    socket.connect(server.1).expect("connect");
    socket.set_read_timeout(Some(Duration::from_secs(2))).expect("timeout");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = [0; 1500];
            while !done.load(Ordering::Relaxed) {
                if let Ok((length, from)) = echo.recv_from(&mut buffer) {
                    let _ = echo.send_to(&buffer[..length], from);
                }
            }
        });
        let (mut sent, mut came, mut twice) = (0, 0, 0);
        while !stop.load(Ordering::Relaxed) {
            for number in sent..sent + WINDOW {
                socket.send(&number.to_be_bytes()).expect("send");
            }
            let mut missing: std::collections::BTreeSet<u32> = (sent..sent + WINDOW).collect();
            sent += WINDOW;
            let mut buffer = [0; 1500];
            while !missing.is_empty() && socket.recv(&mut buffer).is_ok() {
                let number = u32::from_be_bytes(buffer[..4].try_into().expect("number"));
                if missing.remove(&number) { came += 1 } else { twice += 1 }
            }
        }
        done.store(true, Ordering::Relaxed);
        (sent, came, twice)
    })
}
