//! lab-bench: pontoon and its peers, measured side by side.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Parser;
use lab_bench::lab::Mode;
use lab_bench::metric::{Figure, Metric};
use lab_bench::report::{chart, document, json, machine::Machine, table};
use lab_bench::rounds::{Plan, Results, Step};
use lab_bench::target::{Command, Pontoon, Target, Uplink};
use lab_bench::{netns, sys, user};

/// Measures virtual switches and NAT side by side in private network namespaces. Every round sets up each target in
/// turn, runs all metrics and takes it down again.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// l2, nat.
    #[arg(short, long, value_delimiter = ',', default_value = "l2,nat")]
    modes: Vec<String>,
    /// Targets; all known by default. `pontoon` is built-in, others are added by --variant.
    #[arg(short, long, value_delimiter = ',')]
    targets: Vec<String>,
    /// One more way to run pontoon: NAME=KEY=VALUE,... with spin, coalesce, workers, io, program, uplink=direct, uplink=shared or uplink=user.
    #[arg(short, long, value_name = "NAME=LEVERS")]
    variant: Vec<String>,
    /// One more program: NAME=COMMAND. It makes the tap lan0 in the network namespaces $LAB_CLIENT and $LAB_SERVER.
    #[arg(short, long, value_name = "NAME=COMMAND")]
    command: Vec<String>,
    /// Metrics; all by default.
    #[arg(short = 'x', long, value_delimiter = ',')]
    metrics: Vec<String>,
    /// Rounds; 5 by default, 1 with --quick.
    #[arg(short, long)]
    rounds: Option<usize>,
    /// Seconds of each measurement; 3 by default, 0.7 with --quick.
    #[arg(short, long)]
    seconds: Option<f64>,
    /// The reference and pontoon, a few metrics, within a minute; for CI, never fails on a figure.
    #[arg(short, long)]
    quick: bool,
    /// The pontoon to measure; the release build beside this program by default.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Writes performance.md, .json and .svg into this directory.
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
    /// Measures nothing, but puts the JSON of earlier runs of the same commit together.
    #[arg(long, value_name = "JSON", num_args = 1..)]
    merge: Vec<PathBuf>,
    /// Every measurement as it is made.
    #[arg(long)]
    verbose: bool,
    /// Removes namespaces of runs that were killed, and ends.
    #[arg(long)]
    clean: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("network namespaces need root");
    }
    if args.clean {
        netns::remove_leftovers()?.iter().for_each(|name| println!("removed {name}"));
        return Ok(());
    }
    if let Some((first, others)) = args.merge.split_first() {
        let (results, machine) = merge(first, others)?;
        return report(args, &results, &machine);
    }
    sys::catch_signals();
    let plan = plan(args)?;
    let begin = Instant::now();
    let results = plan.run(|step, figures| watch(args.verbose, step, figures));
    // The commit is looked up from there, so it has to exist.
    args.write.iter().try_for_each(std::fs::create_dir_all)?;
    let machine = Machine::read(args.write.as_deref().unwrap_or(Path::new(".")));
    report(args, &results, &machine)?;
    println!("{:.0} s", begin.elapsed().as_secs_f64());
    Ok(())
}

fn merge(first: &Path, others: &[PathBuf]) -> anyhow::Result<(Results, Machine)> {
    let read = |path: &Path| {
        let text = std::fs::read_to_string(path)?;
        json::parse(&serde_json::from_str(&text)?)
    };
    let (mut results, machine) = read(first).with_context(|| first.display().to_string())?;
    for path in others {
        let (more, other) = read(path).with_context(|| path.display().to_string())?;
        if other.facts() != machine.facts() {
            bail!("{} is of another machine, commit or day than {}", path.display(), first.display());
        }
        results.merge(more);
    }
    results.sort();
    Ok((results, machine))
}

fn report(args: &Args, results: &Results, machine: &Machine) -> anyhow::Result<()> {
    print!("{}", table::plain(results, table::Kind::Main));
    print!("{}", table::plain(results, table::Kind::Cost));
    results.notes.iter().for_each(|note| println!("note: {note}"));
    match &args.write {
        Some(directory) => write(results, machine, directory),
        None => Ok(()),
    }
}

fn plan(args: &Args) -> anyhow::Result<Plan> {
    let modes = args.modes.iter().map(|name| {
        Mode::ALL.into_iter().find(|mode| mode.name() == name).with_context(|| format!("no mode '{name}'"))
    });
    let metrics = args.metrics.iter().map(|name| {
        let known = || Metric::ALL.map(Metric::name).join(", ");
        Metric::named(name).with_context(|| format!("no metric '{name}'; there are {}", known()))
    });
    let mut metrics: Vec<Metric> = metrics.collect::<Result<_, _>>()?;
    if metrics.is_empty() {
        metrics = if args.quick { Metric::QUICK.to_vec() } else { Metric::ALL.to_vec() };
    }
    let seconds = args.seconds.unwrap_or(if args.quick { 0.7 } else { 3.0 });
    Ok(Plan {
        modes: modes.collect::<Result<_, _>>()?,
        targets: targets(args)?,
        metrics,
        rounds: args.rounds.unwrap_or(if args.quick { 1 } else { 5 }),
        time: Duration::try_from_secs_f64(seconds).context("--seconds")?,
        tries: if args.quick { 1 } else { 4 },
    })
}

fn targets(args: &Args) -> anyhow::Result<Vec<Target>> {
    let program = program(args)?;
    let mut known: Vec<Target> = Target::PEERS.into();
    known.push(Target::Pontoon(Pontoon::new(&program)));
    let variants = args.variant.iter().map(|text| variant(text, &program));
    let commands = args.command.iter().map(|text| {
        let (name, line) = text.split_once('=').with_context(|| format!("'{text}' is not NAME=COMMAND"))?;
        Ok(Target::Command(Command { name: name.to_owned(), line: line.to_owned() }))
    });
    let variants: Vec<Target> = variants.chain(commands).collect::<anyhow::Result<_>>()?;
    if args.targets.is_empty() {
        let few = |target: &Target| matches!(target, Target::BridgeNft | Target::Pontoon(_));
        return Ok(known.into_iter().filter(|target| !args.quick || few(target)).chain(variants).collect());
    }
    let named = args.targets.iter().map(|name| {
        let found = known.iter().find(|target| target.name() == name);
        found.cloned().with_context(|| {
            let names: Vec<&str> = known.iter().map(Target::name).collect();
            format!("no target '{name}'; there are {}", names.join(", "))
        })
    });
    let named: Vec<Target> = named.collect::<anyhow::Result<_>>()?;
    Ok(named.into_iter().chain(variants).collect())
}

fn program(args: &Args) -> anyhow::Result<PathBuf> {
    if let Some(program) = &args.program {
        return Ok(program.clone());
    }
    let own = std::env::current_exe()?;
    let beside = own.with_file_name("pontoon");
    if !beside.exists() {
        bail!(
            "{} is not there: build it (cargo build --release) or name it with --program",
            beside.display()
        );
    }
    Ok(beside)
}

/// `NAME=KEY=VALUE,...`: what is not known here goes to the datapath's levers.
fn variant(text: &str, program: &Path) -> anyhow::Result<Target> {
    let (name, levers) = text.split_once('=').with_context(|| format!("'{text}' is not NAME=LEVERS"))?;
    let mut pontoon = Pontoon { name: name.to_owned(), ..Pontoon::new(program) };
    let mut rest = Vec::new();
    for lever in levers.split(',').filter(|lever| !lever.is_empty()) {
        match lever.split_once('=') {
            Some(("workers", count)) => pontoon.workers = count.parse().context("workers")?,
            Some(("program", path)) => pontoon.program = path.into(),
            Some(("uplink", "direct")) => pontoon.uplink = Uplink::Direct,
            Some(("uplink", "shared")) => pontoon.uplink = Uplink::Shared,
            Some(("uplink", "user")) => pontoon.uplink = Uplink::User,
            _ => rest.push(lever),
        }
    }
    pontoon.levers = rest.join(",");
    Ok(Target::Pontoon(pontoon))
}

fn watch(verbose: bool, step: &Step<'_>, figures: &[Figure]) {
    let what = format!("{} {} {}", step.mode.name(), step.target, step.metric.name());
    if verbose {
        let figures: Vec<String> =
            figures.iter().map(|figure| format!("{} {:.4}", figure.column, figure.value)).collect();
        eprintln!("{what}: {}", figures.join(", "));
    } else {
        user::progress(step.done, step.all, &what);
    }
}

fn write(results: &Results, machine: &Machine, directory: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory)?;
    let file = |name: &str, text: &str| {
        let path = directory.join(name);
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
        println!("wrote {}", path.display());
        anyhow::Ok(())
    };
    file("performance.md", &document::render(results, machine, "performance.svg"))?;
    file("performance.json", &format!("{:#}\n", json::render(results, machine)))?;
    file("performance.svg", &chart::svg(results))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variant_names_levers_and_what_is_the_daemon_s() {
        let Target::Pontoon(pontoon) =
            variant("two=workers=2,spin=0,uplink=direct,coalesce=off", Path::new("p")).expect("variant")
        else {
            panic!("a pontoon")
        };
        assert_eq!((pontoon.name.as_str(), pontoon.workers, pontoon.uplink), ("two", 2, Uplink::Direct));
        assert_eq!(pontoon.levers, "spin=0,coalesce=off");
        assert!(variant("nothing", Path::new("p")).is_err());
    }
}
