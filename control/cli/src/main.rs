//! pontoon: the daemon, the datapath and the command line in one executable.

mod args;
mod bench;
mod brctl;
mod client;
mod complete;
mod doctor;
mod encoding;
mod lab;
mod man;
mod net_xml;
mod outcome;
mod run;
mod signal;
mod tables;
mod user;
mod verbs;
mod vsh;
mod xpath;

use std::path::Path;
use std::process::ExitCode;

use vsh::shell::Identity;

/// A link named `virsh`, `brctl` or `qemu-bridge-helper` makes this executable that program.
fn main() -> ExitCode {
    let mut words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let called = words.next().unwrap_or_default();
    let program = Path::new(&called).file_name().map_or("pontoon", |name| name.to_str().unwrap_or("pontoon"));
    match program {
        "brctl" => args::brctl(None, words.collect()),
        // libvirt's `bridge_helper` names a file, not a command.
        "qemu-bridge-helper" | "pontoon-bridge-helper" => {
            let words = std::iter::once("bridge-helper".to_owned()).chain(words);
            vsh::shell::main(Identity::Pontoon, "pontoon", words)
        }
        "virsh" => vsh::shell::main(Identity::Virsh, program, words),
        _ => vsh::shell::main(Identity::Pontoon, "pontoon", words),
    }
}
