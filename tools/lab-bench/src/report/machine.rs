//! What a result holds for: the machine, its kernel, the commit, the day.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

const FACTS: [&str; 6] = ["kernel", "architecture", "processors", "memory", "commit", "date"];

#[derive(Clone, Debug, Default)]
pub struct Machine {
    facts: BTreeMap<&'static str, String>,
}

impl Machine {
    /// Reads what there is; `source` is where the commit is looked up, and the working directory where that is not in
    /// a repository.
    #[must_use]
    pub fn read(source: &Path) -> Self {
        let uname = rustix::system::uname();
        let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
        let mut facts = BTreeMap::new();
        facts.insert("kernel", format!("{} {}", text(uname.sysname()), text(uname.release())));
        facts.insert("architecture", text(uname.machine()));
        facts.insert("processors", processors());
        facts.insert("memory", memory());
        let commits = [source, Path::new(".")].map(commit);
        facts.insert("commit", commits.into_iter().find(|commit| !commit.is_empty()).unwrap_or_default());
        facts.insert("date", jiff::Timestamp::now().strftime("%Y-%m-%d").to_string());
        facts.retain(|_, value| !value.is_empty());
        Self { facts }
    }

    /// As it was written; facts that are not known are left out.
    pub(crate) fn of<'a>(facts: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let known = |fact: &str| FACTS.into_iter().find(|known| *known == fact);
        Self { facts: facts.filter_map(|(fact, value)| Some((known(fact)?, value.to_owned()))).collect() }
    }

    #[must_use]
    pub fn facts(&self) -> &BTreeMap<&'static str, String> {
        &self.facts
    }
}

fn processors() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let count = text.lines().filter(|line| line.starts_with("processor")).count();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    format!("{count} x {}", model.map_or("unknown", |(_, name)| name))
}

fn memory() -> String {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.map(|count| format!("{} MB", count / 1024)).unwrap_or_default()
}

/// The commit and whether anything was changed since.
fn commit(source: &Path) -> String {
    let git = |words: &[&str]| {
        let output = Command::new("git").arg("-C").arg(source).args(words).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else { return String::new() };
    let clean =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|changes| changes.is_empty());
    if clean { commit } else { format!("{commit} with changes") }
}
