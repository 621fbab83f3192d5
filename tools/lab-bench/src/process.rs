//! Processes of a target, and the processor time they and the whole machine use.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::sys;

/// A process that leads a session of its own; the drop ends all of its group.
#[derive(Debug)]
pub struct Proc {
    child: Child,
    what: String,
    log: File,
}

impl Proc {
    /// Starts a command with its output in `log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(mut command: Command, log: File) -> anyhow::Result<Self> {
        let what = format!("{command:?}");
        let (out, err) = (log.try_clone()?, log.try_clone()?);
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        sys::bind_to_parent(&mut command);
        let child = command.spawn().with_context(|| format!("cannot start {what}"))?;
        Ok(Self { child, what, log })
    }

    #[must_use]
    pub fn session(&self) -> u32 {
        self.child.id()
    }

    /// What it said so far.
    pub fn said(&mut self) -> String {
        let mut text = String::new();
        let read = self.log.seek(SeekFrom::Start(0)).and_then(|_| self.log.read_to_string(&mut text));
        if read.is_err() { String::new() } else { text }
    }

    /// # Errors
    /// When it has ended, with what it said.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                let said = self.said();
                let end: String =
                    said.chars().rev().take(600).collect::<Vec<_>>().into_iter().rev().collect();
                anyhow::bail!("{}: {status}: {}", self.what, end.trim())
            }
        }
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) else { return };
        let _ = kill_process(pid, Signal::TERM);
        let deadline = Instant::now() + Duration::from_secs(3);
        while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        // Whatever is left of it.
        let _ = kill_process_group(pid, Signal::KILL);
        let _ = self.child.wait();
    }
}

/// Processor time used until a moment.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    at: Instant,
    switch: f64,
    machine: f64,
    others: f64,
}

/// Processors busy between two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cores {
    pub switch: f64,
    pub machine: f64,
    /// By processes that are neither this one, nor the switch, nor the kernel's.
    pub others: f64,
}

impl Usage {
    /// Of the sessions given, and of the machine.
    #[must_use]
    pub fn now(sessions: &[u32]) -> Self {
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let stats = pids.filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).ok());
        let (mut switch, mut others) = (0, 0);
        for stat in stats {
            match used(&stat, sessions) {
                Some((ticks, true)) => switch += ticks,
                Some((ticks, false)) => others += ticks,
                None => {}
            }
        }
        let machine = fs::read_to_string("/proc/stat").ok().and_then(|text| busy(&text)).unwrap_or(0);
        let [switch, machine, others] = [switch, machine, others].map(|count| count as f64 / ticks);
        Self { at: Instant::now(), switch, machine, others }
    }

    #[must_use]
    pub fn since(&self, before: &Self) -> Cores {
        let seconds = self.at.duration_since(before.at).as_secs_f64().max(1e-9);
        Cores {
            switch: (self.switch - before.switch) / seconds,
            machine: (self.machine - before.machine) / seconds,
            // Less when a process ended meanwhile that nobody has waited for.
            others: ((self.others - before.others) / seconds).max(0.0),
        }
    }
}

/// Ticks of a process and its children that ended, and whether its session is one of those given; none for the kernel's
/// threads and for ourselves: `/proc/PID/stat` (proc(5)).
fn used(stat: &str, sessions: &[u32]) -> Option<(u64, bool)> {
    const KERNEL: u64 = 0x20_0000;
    let (head, tail) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = tail.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let session = u32::try_from(number(3)?).ok()?;
    let own = number(11)? + number(12)?;
    if sessions.contains(&session) {
        return Some((own, true));
    }
    let ourselves = head.split_once(' ')?.0.parse() == Ok(std::process::id());
    let ended = fields.get(13)?.parse::<u64>().ok()? + number(14)?;
    (number(6)? & KERNEL == 0 && !ourselves).then_some((own + ended, false))
}

/// Ticks all processors were neither idle nor waiting for a disk.
fn busy(text: &str) -> Option<u64> {
    let line = text.lines().next()?;
    let ticks: Vec<u64> =
        line.split_whitespace().skip(1).take(8).filter_map(|field| field.parse().ok()).collect();
    Some(ticks.iter().sum::<u64>() - ticks.get(3)? - ticks.get(4)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_of_a_session_are_told_from_those_of_others() {
        let stat = |pid: u32, flags: u32| {
            format!("{pid} (a (b) c) S 1 77 66 0 -1 {flags} 1 2 3 4 50 7 1000 200 20 0 1")
        };
        assert_eq!(used(&stat(77, 4_194_560), &[66]), Some((57, true)));
        assert_eq!(used(&stat(77, 4_194_560), &[67]), Some((1257, false)));
        assert_eq!(used(&stat(77, 0x20_0040), &[67]), None, "a kernel thread");
        assert_eq!(used(&stat(std::process::id(), 0), &[67]), None, "ourselves");
        assert_eq!(used("nonsense", &[66]), None);
    }

    #[test]
    fn idle_time_is_not_busy() {
        assert_eq!(busy("cpu  10 1 20 1000 300 2 3 4 5 6\ncpu0 1"), Some(40));
        assert_eq!(busy(""), None);
    }
}
