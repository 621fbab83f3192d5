//! Chores of the workspace: `cargo xtask layers` checks that the arrows between crates run one way, `cargo xtask
//! nat-conformance` writes what the NAT meets, and with `--check` fails when that is not what is written.

#![forbid(unsafe_code)]

mod conformance;
mod layers;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["layers"] => check(&root()),
        ["nat-conformance"] => conformance(&root(), false),
        ["nat-conformance", "--check"] => conformance(&root(), true),
        _ => {
            eprintln!("usage: cargo xtask layers | nat-conformance [--check]");
            ExitCode::FAILURE
        }
    }
}

/// The workspace this tool was built in.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).map(Path::to_path_buf).unwrap_or_default()
}

fn check(root: &Path) -> ExitCode {
    let found =
        layers::check(root).map(|broken| (broken, "layers: every arrow runs the right way".to_owned()));
    verdict(found)
}

fn conformance(root: &Path, check: bool) -> ExitCode {
    let found = conformance::run(root, check);
    verdict(found.map(|(wrong, open)| (wrong, format!("nat-conformance: {open} requirements are open"))))
}

/// What is wrong, or what there is to say when nothing is.
fn verdict(found: io::Result<(Vec<String>, String)>) -> ExitCode {
    let (wrong, well) = match found {
        Ok(found) => found,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    for line in &wrong {
        eprintln!("error: {line}");
    }
    if wrong.is_empty() {
        println!("{well}");
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
