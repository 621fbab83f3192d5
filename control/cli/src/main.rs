//! pontoon: the daemon, the datapath and the command line in one executable.

mod args;
mod brctl;
mod client;
mod lab;
mod net_xml;
mod run;
mod tables;
mod verbs;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match args::Cli::try_parse() {
        Ok(cli) => verbs::dispatch(cli),
        Err(error) => args::usage_error(&error, std::env::args().skip(1)),
    }
}
