//! tshark as an independent judge of the frames a test has moved.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::process::run;
use crate::raw::Tap;

/// 8388608 is the severity "error". Linux writes the TCP checksum 0 as 0xffff, the same number to every receiver.
const BAD: &str = "(_ws.expert.severity >= 8388608 || tcp.checksum.status == 0 || udp.checksum.status == 0 \
     || ip.checksum.status == 0 || icmp.checksum.status == 0) && !(tcp.checksum == 0xffff)";
/// Bytes kept of one interface: bulk transfers repeat themselves.
const BUDGET: usize = 24 << 20;
/// How often the end is looked for.
const TURN: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Everything that arrives on one interface, being written to a file.
#[derive(Debug)]
pub(crate) struct Judge {
    place: String,
    file: PathBuf,
    stop: Arc<AtomicBool>,
    /// Frames written.
    writer: JoinHandle<io::Result<usize>>,
}

impl Judge {
    pub(crate) fn start(netns: &str, dev: &str, file: PathBuf) -> io::Result<Self> {
        let tap = Tap::open(netns, dev)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (path, end) = (file.clone(), Arc::clone(&stop));
        let writer = thread::spawn(move || record(tap, &path, &end));
        Ok(Self { place: format!("{netns} {dev}"), file, stop, writer })
    }

    /// Ends the recording; what is wrong with it, if anything is.
    pub(crate) fn verdict(self) -> Option<String> {
        self.stop.store(true, Ordering::Relaxed);
        let frames = self.writer.join().expect("the recorder").expect("the recording");
        if frames == 0 {
            return None;
        }
        let bad = read_capture(&self.file.to_string_lossy(), BAD);
        let (count, first) = (bad.lines().count(), bad.lines().take(10).collect::<Vec<_>>().join("\n"));
        (count > 0).then(|| format!("{}: {count} of {frames} frames are bad\n{first}", self.place))
    }
}

/// Frames of a capture file that tshark's filter matches, one line each, checksums checked.
pub(crate) fn read_capture(file: &str, filter: &str) -> String {
    let words = ["tshark", "-n", "-r", file, "-Y", filter, "-o", "tcp.check_checksum:TRUE"];
    let checks = ["-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"];
    run(&[&words[..], &checks].concat()).expect_ok("tshark -r")
}

fn record(mut tap: Tap, path: &Path, stop: &AtomicBool) -> io::Result<usize> {
    let mut file = BufWriter::new(File::create(path)?);
    // The classic format: version 2.4, microseconds, no limit of length, Ethernet.
    for word in [0xa1b2_c3d4_u32, 4 << 16 | 2, 0, 0, 1 << 17, 1] {
        file.write_all(&word.to_le_bytes())?;
    }
    let (mut frames, mut size) = (0, 0);
    while size < BUDGET {
        match tap.next() {
            Ok(frame) => {
                write_frame(&mut file, frame)?;
                frames += 1;
                size += frame.len();
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let _ = rustix::event::poll(&mut [PollFd::new(&tap, PollFlags::IN)], Some(&TURN));
            }
            // The interface went down, or is gone.
            Err(_) if !stop.load(Ordering::Relaxed) => thread::sleep(std::time::Duration::from_millis(50)),
            Err(_) => break,
        }
    }
    file.flush()?;
    Ok(frames)
}

fn write_frame(file: &mut impl Write, frame: &[u8]) -> io::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let length = frame.len() as u32;
    for word in [now.as_secs() as u32, now.subsec_micros(), length, length] {
        file.write_all(&word.to_le_bytes())?;
    }
    file.write_all(frame)
}
