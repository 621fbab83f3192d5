//! A wire between two interfaces that loses, repeats, swaps and marks frames, by a seed.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags};

use crate::raw::{self, HEADER};

/// What happens to frames from the first interface to the second, in a thousand. The way back is clean.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    pub lost: u64,
    pub repeated: u64,
    /// Sent behind one of the next four.
    pub late: u64,
    /// ECN-capable IPv4 packets that get "congestion experienced".
    pub marked: u64,
}

/// Carries frames until it is dropped.
#[derive(Debug)]
pub struct Wire {
    stop: Arc<AtomicBool>,
    carried: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Wire {
    /// # Panics
    /// When an interface cannot be opened.
    #[must_use]
    pub fn new(netns: &str, from: &str, to: &str, faults: Faults) -> Self {
        let open = |dev| raw::open(netns, dev).expect("packet socket");
        let (from, to) = (open(from), open(to));
        let (stop, carried) = (Arc::default(), Arc::default());
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&carried));
        let run = move || Carrier::new(from, to, faults).run(&stopped, &count);
        Self { stop, carried, thread: Some(std::thread::spawn(run)) }
    }

    /// Frames that went from the first interface to the second.
    #[must_use]
    pub fn carried(&self) -> u64 {
        self.carried.load(Ordering::Relaxed)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

struct Carrier {
    from: OwnedFd,
    to: OwnedFd,
    faults: Faults,
    random: u64,
    /// Frames, each with how many others go first.
    late: VecDeque<(u64, Vec<u8>)>,
}

impl Carrier {
    fn new(from: OwnedFd, to: OwnedFd, faults: Faults) -> Self {
        Self { from, to, faults, random: 0x9e37_79b9_7f4a_7c15, late: VecDeque::new() }
    }

    fn run(mut self, stop: &AtomicBool, carried: &AtomicU64) {
        let mut buffer = vec![0; 1 << 17];
        let patience = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        while !stop.load(Ordering::Relaxed) {
            let mut ready = [PollFd::new(&self.from, PollFlags::IN), PollFd::new(&self.to, PollFlags::IN)];
            if poll(&mut ready, Some(&patience)) == Ok(0) {
                self.late.iter_mut().for_each(|(others, _)| *others = 0);
                carried.fetch_add(self.send_late(), Ordering::Relaxed);
            }
            while let Some(length) = receive(&self.from, &mut buffer) {
                carried
                    .fetch_add(self.carry(buffer.get_mut(..length).unwrap_or_default()), Ordering::Relaxed);
            }
            while let Some(length) = receive(&self.to, &mut buffer) {
                send(&self.from, buffer.get(..length).unwrap_or_default());
            }
        }
    }

    /// Returns how many frames were sent.
    fn carry(&mut self, frame: &mut [u8]) -> u64 {
        if self.happens(self.faults.lost) {
            return 0;
        }
        if self.happens(self.faults.marked) {
            mark(frame);
        }
        if self.happens(self.faults.late) {
            let others = 1 + self.draw() % 4;
            self.late.push_back((others, frame.to_vec()));
            return 0;
        }
        let copies = 1 + u64::from(self.happens(self.faults.repeated));
        (0..copies).for_each(|_| send(&self.to, frame));
        self.late.iter_mut().for_each(|(others, _)| *others = others.saturating_sub(1));
        copies + self.send_late()
    }

    fn send_late(&mut self) -> u64 {
        let before = self.late.len();
        let to = &self.to;
        self.late.retain(|(others, frame)| {
            if *others == 0 {
                send(to, frame);
            }
            *others > 0
        });
        (before - self.late.len()) as u64
    }

    fn happens(&mut self, thousandths: u64) -> bool {
        self.draw() % 1000 < thousandths
    }

    /// xorshift64* (Marsaglia 2003).
    fn draw(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
    }
}

fn receive(socket: impl AsFd, buffer: &mut [u8]) -> Option<usize> {
    match rustix::net::recv(socket, buffer, RecvFlags::DONTWAIT) {
        Ok((_, length)) => Some(length),
        Err(_) => None,
    }
}

/// A full queue loses the frame, as on any wire.
fn send(socket: impl AsFd, frame: &[u8]) {
    let sent = rustix::net::send(socket, frame, SendFlags::empty()).map_err(io::Error::from);
    if let Err(error) = sent
        && error.kind() != io::ErrorKind::WouldBlock
        && error.raw_os_error() != Some(libc::ENOBUFS)
    {
        eprintln!("a wire: {error}");
    }
}

/// Sets both ECN bits of an IPv4 packet that has one of them, and mends its checksum (RFC 1624).
fn mark(frame: &mut [u8]) {
    let Some(ip) = frame.get_mut(HEADER + 14..HEADER + 34) else { return };
    let [first, tos, ..] = *ip else { return };
    if first != 0x45 || tos & 3 == 0 || tos & 3 == 3 {
        return;
    }
    let change = u32::from(3 - (tos & 3));
    let old = u32::from(u16::from_be_bytes([ip[10], ip[11]]));
    // The complement of the sum: what is added to a word is taken from it.
    let new = (old + 0xffff - change) % 0xffff;
    ip[1] |= 3;
    ip[10..12].copy_from_slice(&(new as u16).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_leaves_the_checksum_right() {
        for ect in [1, 2] {
            let mut frame = vec![0; HEADER + 34];
            frame[HEADER + 14] = 0x45;
            frame[HEADER + 15] = ect;
            let sum = !(0x4500 + u16::from(ect));
            frame[HEADER + 24..HEADER + 26].copy_from_slice(&sum.to_be_bytes());
            mark(&mut frame);
            assert_eq!(frame[HEADER + 15], 3);
            assert_eq!(u16::from_be_bytes([frame[HEADER + 24], frame[HEADER + 25]]), !0x4503);
        }
    }
}
