//! Network namespaces with names, and threads and commands in them.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};

use anyhow::{Context, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Names of namespaces begin with this and the process id of the run.
pub const PREFIX: &str = "lb";

/// Runs a short command and returns what it printed.
///
/// # Errors
/// When it fails, with what it said.
pub fn run(words: &[&str]) -> anyhow::Result<String> {
    let Some((program, rest)) = words.split_first() else { bail!("no command") };
    let output = Command::new(program).args(rest).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {}", words.join(" "), said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a command given in one line, split at blanks.
///
/// # Errors
/// When it fails, with what it said.
pub fn sh(line: &str) -> anyhow::Result<String> {
    run(&line.split_whitespace().collect::<Vec<_>>())
}

/// A network namespace; one that was made here is gone after the drop.
#[derive(Debug)]
pub struct Netns {
    name: String,
    owned: bool,
}

impl Netns {
    /// Makes a namespace for this run: loopback up, no IPv6 chatter, many ports to connect from.
    ///
    /// # Errors
    /// Without privilege, or when the name is taken.
    pub fn make(which: &str) -> anyhow::Result<Self> {
        let name = format!("{PREFIX}{}{which}", std::process::id());
        sh(&format!("ip netns add {name}"))?;
        let netns = Self { name, owned: true };
        netns.ip("link set lo up")?;
        netns.enter(|| {
            for (key, value) in [
                ("ipv6/conf/all/disable_ipv6", "1"),
                ("ipv6/conf/default/disable_ipv6", "1"),
                ("ipv4/ip_local_port_range", "2048 65000"),
            ] {
                // A kernel without IPv6 has nothing to switch off.
                let _ = std::fs::write(format!("/proc/sys/net/{key}"), value);
            }
        })?;
        Ok(netns)
    }

    /// One that exists.
    #[must_use]
    pub fn existing(name: &str) -> Self {
        Self { name: name.to_owned(), owned: false }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `ip` in the namespace, with its words in one line.
    ///
    /// # Errors
    /// When it fails.
    pub fn ip(&self, words: &str) -> anyhow::Result<String> {
        sh(&format!("ip -n {} {words}", self.name))
    }

    /// A command in the namespace.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs a short command in the namespace.
    ///
    /// # Errors
    /// When it fails.
    pub fn sh(&self, line: &str) -> anyhow::Result<String> {
        sh(&format!("ip netns exec {} {line}", self.name))
    }

    /// Runs `work` on a thread of its own in the namespace; sockets it makes stay there.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        let file = self.file()?;
        thread::scope(|scope| {
            let run = move || {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
                Ok(work())
            };
            scope.spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Starts a thread in the namespace.
    ///
    /// # Errors
    /// When the namespace cannot be opened.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<JoinHandle<io::Result<T>>> {
        let file = self.file()?;
        Ok(thread::spawn(move || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
            work()
        }))
    }

    fn file(&self) -> io::Result<File> {
        File::open(format!("/run/netns/{}", self.name))
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if self.owned {
            let _ = sh(&format!("ip netns del {}", self.name));
        }
    }
}

/// Removes namespaces of runs that were killed; their names.
///
/// # Errors
/// When the list cannot be read or one cannot be removed.
pub fn remove_leftovers() -> anyhow::Result<Vec<String>> {
    let list = sh("ip netns list")?;
    let names = list.lines().filter_map(|line| line.split_whitespace().next());
    let dead = names.filter(|name| owner(name).is_some_and(|pid| !is_running(pid)));
    dead.map(|name| sh(&format!("ip netns del {name}")).map(|_| name.to_owned())).collect()
}

/// The run a name belongs to.
fn owner(name: &str) -> Option<u32> {
    let rest = name.strip_prefix(PREFIX)?;
    let digits = rest.trim_end_matches(|letter: char| letter.is_ascii_lowercase());
    (digits.len() + 1 == rest.len()).then(|| digits.parse().ok())?
}

fn is_running(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_runs_have_an_owner() {
        assert_eq!(owner("lb123a"), Some(123));
        for other in ["lb123", "lba", "lb", "lab123a", "lb123ab", "other"] {
            assert_eq!(owner(other), None, "{other}");
        }
    }
}
