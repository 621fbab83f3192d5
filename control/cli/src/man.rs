//! Manual pages, one a command, from the same tables as `help`.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;

use crate::args::Cli;
use crate::outcome::{complain, say};
use crate::verbs::GROUPS;
use crate::vsh::help;
use crate::vsh::table::Command;

/// Writes `pontoon.1` and a page for each command.
pub(crate) fn write(dir: &Path) -> ExitCode {
    match write_all(dir) {
        Ok(count) => {
            say(&format!("{count} pages written to {}\n", dir.display()));
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&format!("error: cannot write to '{}': {error}", dir.display()));
            ExitCode::FAILURE
        }
    }
}

fn write_all(dir: &Path) -> std::io::Result<usize> {
    std::fs::create_dir_all(dir)?;
    let mut pages = vec![("pontoon".to_owned(), overview())];
    for command in GROUPS.iter().flat_map(|group| group.commands) {
        pages.push((format!("pontoon-{}", command.name), page(command)));
    }
    for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
        pages.push((format!("pontoon-{}", command.get_name()), own_page(command.clone())));
    }
    for (name, text) in &pages {
        std::fs::write(dir.join(format!("{name}.1")), text)?;
    }
    Ok(pages.len())
}

/// roff takes `.` and `'` at the beginning of a line, `\` and `-` for its own.
fn escape(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

fn head(name: &str, about: &str) -> String {
    format!(
        ".TH {} 1 \"\" \"pontoon {}\"\n.SH NAME\n{} \\- {}\n",
        escape(&name.to_uppercase()),
        env!("CARGO_PKG_VERSION"),
        escape(name),
        escape(about)
    )
}

// Writing to a String cannot fail, so results of `write!` are dropped here.

fn page(command: &Command) -> String {
    let name = format!("pontoon-{}", command.name);
    let mut text = head(&name, command.help);
    let shown: Vec<_> = command.options.iter().filter_map(|opt| Some((help::shown(opt)?, opt))).collect();
    let _ = write!(text, ".SH SYNOPSIS\n.B pontoon {}\n", escape(command.name));
    for (option, opt) in &shown {
        let option = if opt.required { option.clone() } else { format!("[{option}]") };
        let _ = writeln!(text, "{}", escape(&option));
    }
    if !command.about.is_empty() {
        let _ = write!(text, ".SH DESCRIPTION\n{}\n", escape(command.about));
    }
    if !shown.is_empty() {
        text.push_str(".SH OPTIONS\n");
    }
    for (option, opt) in &shown {
        let _ = write!(text, ".TP\n.B {}\n{}\n", escape(option), escape(opt.help));
    }
    if !command.examples.is_empty() {
        text.push_str(".SH EXAMPLES\n");
    }
    for example in command.examples {
        let _ = write!(text, ".PP\n.nf\n{}\n.fi\n", escape(example));
    }
    text + ".SH SEE ALSO\n.BR pontoon (1)\n"
}

fn own_page(command: clap::Command) -> String {
    let name = command.get_name().to_owned();
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let help = command.bin_name(format!("pontoon {name}")).render_long_help().to_string();
    let mut text = head(&format!("pontoon-{name}"), about.trim_end_matches('.'));
    text.push_str(".SH SYNOPSIS\n.nf\n");
    for line in help.lines() {
        let _ = writeln!(text, "{}", escape(line));
    }
    text + ".fi\n.SH SEE ALSO\n.BR pontoon (1)\n"
}

fn overview() -> String {
    let about = "virtual networks for VMs, containers and labs in user space";
    let mut text = head("pontoon", about);
    text.push_str(".SH SYNOPSIS\n.nf\n");
    for line in help::usage("pontoon", GROUPS, true, &crate::args::listing()).lines() {
        let _ = writeln!(text, "{}", escape(line));
    }
    text.push_str(".fi\n.SH ENVIRONMENT\n");
    for (name, what) in ENVIRONMENT {
        let _ = write!(text, ".TP\n.B {name}\n{}\n", escape(what));
    }
    text
}

const ENVIRONMENT: &[(&str, &str)] = &[
    ("PONTOON_SOCKET", "the daemon's socket, where --socket does not name one"),
    (
        "PONTOON_FORMAT",
        "layout of tables, where --format does not say: modern, or legacy as libvirt up to 4.x",
    ),
    ("VIRSH_DEFAULT_CONNECT_URI", "a connection URI, where -c does not give one"),
    ("VISUAL, EDITOR", "what net-edit, net-desc --edit and net-metadata --edit run"),
    ("NO_COLOR", "no colours on terminals when it is not empty"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vsh::shell::commands;

    #[test]
    fn a_page_has_every_option_and_survives_roff() {
        let command = commands().find(|command| command.name == "net-update").expect("command");
        let page = page(command);
        assert!(page.starts_with(".TH PONTOON\\-NET\\-UPDATE 1"), "{page}");
        for option in command.options {
            assert!(page.contains(&escape(&format!("--{}", option.name))), "{}", option.name);
        }
        assert!(page.contains(".SH EXAMPLES"));
        assert_eq!(escape(".x\\n"), "\\&.x\\en");
        assert!(overview().contains("net\\-list"));
    }
}
