//! Numbered broadcasts, and how often each arrives.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::raw::{Tap, send_frames};

/// For local experiments (IEEE 802).
const ETHERTYPE: [u8; 2] = [0x88, 0xb5];
const TURN: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

type Counts = Arc<Mutex<BTreeMap<u32, u32>>>;

/// Counts the numbered broadcasts that arrive on an interface.
#[derive(Debug)]
pub struct Ear {
    counts: Counts,
    stop: Arc<AtomicBool>,
    listener: Option<JoinHandle<()>>,
}

impl Ear {
    /// # Panics
    /// When the interface cannot be listened to.
    #[must_use]
    pub fn on(netns: &str, dev: &str) -> Self {
        let tap = Tap::open(netns, dev).expect("frames of the interface");
        let (counts, stop) = (Counts::default(), Arc::new(AtomicBool::new(false)));
        let (heard, end) = (Arc::clone(&counts), Arc::clone(&stop));
        let listener = Some(thread::spawn(move || listen(tap, &heard, &end)));
        Self { counts, stop, listener }
    }

    /// How often each number was heard so far.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<u32, u32> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often the number heard most was heard.
    #[must_use]
    pub fn most(&self) -> u32 {
        self.counts().into_values().max().unwrap_or(0)
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(listener) = self.listener.take() {
            // It has nothing to say but that it panicked, which was printed.
            let _ = listener.join();
        }
    }
}

fn listen(mut tap: Tap, counts: &Counts, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let _ = poll(&mut [PollFd::new(&tap, PollFlags::IN)], Some(&TURN));
        while let Ok(frame) = tap.next() {
            if frame.get(12..14) == Some(&ETHERTYPE)
                && let Some(number) = frame.get(14..18).and_then(|bytes| bytes.try_into().ok())
            {
                let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
                *counts.entry(u32::from_be_bytes(number)).or_default() += 1;
            }
        }
    }
}

/// Sends a broadcast with the next number every so often, until it is dropped.
#[derive(Debug)]
pub struct Mouth {
    next: Arc<AtomicU32>,
    stop: Arc<AtomicBool>,
    speaker: Option<JoinHandle<()>>,
}

impl Mouth {
    /// From `mac`, on an interface of a namespace.
    #[must_use]
    pub fn on(netns: &str, dev: &str, mac: [u8; 6], every: Duration) -> Self {
        let (next, stop) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
        let (number, end) = (Arc::clone(&next), Arc::clone(&stop));
        let (netns, dev) = (netns.to_owned(), dev.to_owned());
        let speaker = thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                let frame = broadcast(mac, number.fetch_add(1, Ordering::Relaxed));
                send_frames(&netns, &dev, std::iter::once(&frame[..]));
                thread::sleep(every);
            }
        });
        Self { next, stop, speaker: Some(speaker) }
    }

    /// The number that comes next.
    #[must_use]
    pub fn next(&self) -> u32 {
        self.next.load(Ordering::Relaxed)
    }

    /// Waits until so many more are out.
    pub fn wait(&self, count: u32) {
        let until = self.next() + count;
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.next() < until && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Mouth {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(speaker) = self.speaker.take() {
            let _ = speaker.join();
        }
    }
}

fn broadcast(mac: [u8; 6], number: u32) -> Vec<u8> {
    let mut frame = [&[0xff; 6][..], &mac, &ETHERTYPE, &number.to_be_bytes()].concat();
    frame.resize(60, 0);
    frame
}
