//! `pontoon bench`: a user measures their own machine with one command.

use std::io::{IsTerminal, Write};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;

use crate::lab::Mode;
use crate::metric::Metric;
use crate::netns::Netns;
use crate::report::{chart, json, machine::Machine};
use crate::rounds::{Plan, Results, Row, Step};
use crate::sys;
use crate::target::{Pontoon, Target};
use crate::traffic::datagrams::{self, Load, SMALLEST};
use crate::traffic::requests::{self, Echo};
use crate::traffic::{Path, bulk};

const BAR: usize = 30;
const CHART: usize = 40;

/// What the user asked for.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The executable that is pontoon.
    pub program: PathBuf,
    pub seconds: f64,
    pub rounds: usize,
    pub nat: bool,
    pub json: bool,
}

/// Two ports that exist: client's and server's namespace and the server's address.
#[derive(Clone, Debug)]
pub struct Between {
    pub client: String,
    pub server: String,
    pub address: Ipv4Addr,
}

/// Builds two namespaces with pontoon and, if nftables is there, the kernel between them, measures and draws.
///
/// # Errors
/// Without privilege, or when nothing could be measured.
pub fn run(wish: &Wish) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("network namespaces need root\nRun it with sudo");
    }
    sys::catch_signals();
    let plan = Plan {
        modes: if wish.nat { Mode::ALL.to_vec() } else { vec![Mode::L2] },
        targets: vec![Target::BridgeNft, Target::Pontoon(Pontoon::new(&wish.program))],
        metrics: Metric::QUICK.to_vec(),
        rounds: wish.rounds,
        time: Duration::from_secs_f64(wish.seconds),
        tries: 2,
    };
    let results = plan.run(|step, _| progress(step.done, step.all, &name(step)));
    finish(&results, wish.json)
}

/// Measures between two ports the user named; nothing is built.
///
/// # Errors
/// When there is no way from one to the other.
pub fn run_between(between: &Between, seconds: f64, as_json: bool) -> anyhow::Result<()> {
    sys::catch_signals();
    let time = Duration::from_secs_f64(seconds);
    let (client, server) = (Netns::existing(&between.client), Netns::existing(&between.server));
    let path = Path { client: &client, server: &server, address: between.address };
    let _echo = Echo::start(&server)?;
    progress(0, 3, "requests");
    let latency = requests::measure(&path, time)?;
    if latency.rate == 0.0 {
        bail!("{} does not reach {} in {}", between.client, between.address, between.server);
    }
    progress(1, 3, "tcp");
    let tcp = bulk::rate(&path, 1, time)?;
    progress(2, 3, "udp");
    let udp = datagrams::measure(&path, Load { size: SMALLEST, flows: 1, rate: None }, time)?;
    progress(3, 3, "done");
    let row = Row::from([
        ("tcp1 Gb/s", tcp / 1e9),
        ("udp64 kpps", udp.received / 1e3),
        ("rr/s", latency.rate),
        ("p50 us", latency.p50),
        ("p99 us", latency.p99),
    ]);
    let columns = vec!["tcp1 Gb/s", "udp64 kpps", "rr/s", "p50 us", "p99 us"];
    let name = format!("{} to {}", between.client, between.server);
    let results = Results { modes: vec![(Mode::L2, vec![(name, vec![row])])], columns, notes: Vec::new() };
    finish(&results, as_json)
}

fn name(step: &Step<'_>) -> String {
    format!("{} {} {}", step.mode.name(), step.target, step.metric.name())
}

fn finish(results: &Results, as_json: bool) -> anyhow::Result<()> {
    if results.columns.is_empty() {
        bail!("nothing could be measured\n{}", results.notes.join("\n"));
    }
    if as_json {
        println!("{:#}", json::render(results, &Machine::read(std::path::Path::new("/"))));
        return Ok(());
    }
    print!("{}", chart::terminal(results, CHART));
    results.notes.iter().for_each(|note| println!("note: {note}"));
    Ok(())
}

/// One line that is written over, where there is a terminal.
pub fn progress(done: usize, all: usize, what: &str) {
    let mut out = std::io::stderr();
    if !out.is_terminal() {
        return;
    }
    let full = (BAR * done).checked_div(all).unwrap_or(BAR).min(BAR);
    let end = if done >= all { "\r\x1b[K" } else { "" };
    // A terminal that is gone needs no bar.
    let _ = write!(out, "\r\x1b[K[{:<BAR$}] {done}/{all} {what}{end}", "=".repeat(full));
    let _ = out.flush();
}
