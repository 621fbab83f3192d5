//! Chores of the workspace: `cargo xtask layers` checks that the arrows between crates run one way.

#![forbid(unsafe_code)]

mod layers;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["layers"] => check(&root()),
        _ => {
            eprintln!("usage: cargo xtask layers");
            ExitCode::FAILURE
        }
    }
}

/// The workspace this tool was built in.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).map(Path::to_path_buf).unwrap_or_default()
}

fn check(root: &Path) -> ExitCode {
    let broken = match layers::check(root) {
        Ok(broken) => broken,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    for line in &broken {
        eprintln!("error: {line}");
    }
    if broken.is_empty() {
        println!("layers: every arrow runs the right way");
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
