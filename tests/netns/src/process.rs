//! Processes that do not outlive the test.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// What a finished command said.
#[derive(Clone, Debug)]
pub struct Output {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Output {
    #[must_use]
    pub fn ok(&self) -> bool {
        self.code == Some(0)
    }

    /// Standard output of a command that has to work.
    ///
    /// # Panics
    /// When it did not.
    #[must_use]
    pub fn expect_ok(self, what: &str) -> String {
        assert!(self.ok(), "{what}: status {:?}\n{}{}", self.code, self.out, self.err);
        self.out
    }
}

/// Runs a command to its end, one minute at most.
///
/// # Panics
/// When it cannot be started.
pub fn run<S: AsRef<OsStr>>(words: &[S]) -> Output {
    let output = Command::new("timeout").args(["-k", "1", "60"]).args(words).stdin(Stdio::null()).output();
    let output = output.expect("coreutils' timeout");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Output { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

/// A process in the background; all it says goes to one file.
#[derive(Debug)]
pub struct Proc {
    child: Child,
    log: PathBuf,
}

impl Proc {
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start<S: AsRef<OsStr>>(words: &[S], log: &Path) -> Self {
        let file = File::create(log).expect("log file");
        let copy = file.try_clone().expect("log file");
        let (first, rest) = words.split_first().expect("a command");
        let mut command = Command::new(first);
        command.args(rest).stdin(Stdio::null()).stdout(file).stderr(copy);
        let child = command.spawn().unwrap_or_else(|error| panic!("{:?}: {error}", first.as_ref()));
        Self { child, log: log.to_owned() }
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    #[must_use]
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Polls until the process has said `words`; all it said so far.
    ///
    /// # Panics
    /// When it does not in time, or ends without.
    pub fn wait_said(&mut self, words: &str, seconds: u64) -> String {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        loop {
            let ended = self.child.try_wait().expect("wait");
            let said = self.said();
            if said.contains(words) {
                return said;
            }
            let late = Instant::now() >= deadline;
            assert!(ended.is_none() && !late, "waited {seconds} s for '{words}', ended: {ended:?}\n{said}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            // It may have ended by itself.
            let _ = kill_process(pid, signal);
        }
    }

    /// Polls for the end.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn wait(&mut self, seconds: u64) -> ExitStatus {
        crate::until("the process ends", seconds, || self.child.try_wait().expect("wait"))
    }

    /// Asks it to end, then makes it end.
    pub fn stop(&mut self, signal: Signal) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        self.signal(signal);
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        self.stop(Signal::KILL);
    }
}

/// Children of a process whose command line has `word` as its first argument.
pub(crate) fn children(parent: u32, word: &str) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| parent_of(*pid) == Some(parent) && is_running(*pid, word)).collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// Whether the process is there and its first argument is `word`.
pub(crate) fn is_running(pid: u32, word: &str) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).nth(1) == Some(word.as_bytes())
}

pub(crate) fn kill(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended by itself.
        let _ = kill_process(pid, Signal::KILL);
    }
}
