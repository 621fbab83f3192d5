//! `pontoon bench`: how fast this machine is, with a chart.

use std::net::Ipv4Addr;
use std::process::ExitCode;

use clap::Args;
use lab_bench::user::{self, Between, Wish};

#[derive(Clone, Debug, Args)]
pub(crate) struct BenchArgs {
    /// How long each measurement takes.
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, value_parser = seconds)]
    seconds: f64,
    /// How often everything is measured; the medians are shown.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// Switching only, no NAT.
    #[arg(long)]
    no_nat: bool,
    /// Measure between two guests that are there: namespaces of the client and of the server.
    #[arg(long, num_args = 2, value_names = ["NETNS", "NETNS"], requires = "address")]
    between: Vec<String>,
    /// The server's address.
    #[arg(long, value_name = "ADDRESS", requires = "between")]
    address: Option<Ipv4Addr>,
    /// All figures as JSON.
    #[arg(long)]
    json: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.1..=60.0).contains(&seconds) { Ok(seconds) } else { Err("not between 0.1 and 60".to_owned()) }
}

pub(crate) fn run(args: &BenchArgs) -> ExitCode {
    let result = match (args.between.as_slice(), args.address) {
        ([client, server], Some(address)) => {
            let between = Between { client: client.clone(), server: server.clone(), address };
            user::run_between(&between, args.seconds, args.json)
        }
        _ => std::env::current_exe().map_err(Into::into).and_then(|program| {
            user::run(&Wish {
                program,
                seconds: args.seconds,
                rounds: args.rounds.into(),
                nat: !args.no_nat,
                json: args.json,
            })
        }),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
