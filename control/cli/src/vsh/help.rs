//! `help`, laid out as virsh lays it out.

use std::fmt::Write;

use super::table::{Command, Group, Kind, Opt};

// Writing to a String cannot fail, so results of `write!` are dropped here.

/// `help COMMAND`.
pub(crate) fn command(command: &Command, with_examples: bool) -> String {
    let mut text =
        format!("  NAME\n    {} - {}\n\n  SYNOPSIS\n    {}", command.name, command.help, command.name);
    for opt in command.options {
        text.push_str(&synopsis(opt));
    }
    text.push('\n');
    if !command.about.is_empty() {
        let _ = write!(text, "\n  DESCRIPTION\n    {}\n", command.about);
    }
    if !command.options.is_empty() {
        text.push_str("\n  OPTIONS\n");
    }
    for opt in command.options {
        if let Some(shown) = shown(opt) {
            let _ = writeln!(text, "    {shown:<15}  {}", opt.help);
        }
    }
    if with_examples && !command.examples.is_empty() {
        text.push_str("\n  EXAMPLES\n");
        for example in command.examples {
            let _ = writeln!(text, "    {example}");
        }
    }
    text
}

fn synopsis(opt: &Opt) -> String {
    let name = opt.name;
    let value = match opt.kind {
        Kind::Alias(_) => return String::new(),
        Kind::Flag => return format!(" [--{name}]"),
        Kind::Wait => return format!(" [--{name}[=<number>]]"),
        Kind::Words if opt.required => return format!(" <{name}>..."),
        Kind::Words => return format!(" [<{name}>]..."),
        Kind::Text | Kind::Number if opt.positional => format!("<{name}>"),
        Kind::Text => format!("--{name} <string>"),
        Kind::Number => format!("--{name} <number>"),
    };
    if opt.required { format!(" {value}") } else { format!(" [{value}]") }
}

pub(crate) fn shown(opt: &Opt) -> Option<String> {
    let name = opt.name;
    Some(match opt.kind {
        Kind::Alias(_) => return None,
        Kind::Flag => format!("--{name}"),
        Kind::Wait => format!("--{name}[=<number>]"),
        Kind::Words => format!("[--{name}] <string>..."),
        Kind::Text if opt.positional => format!("[--{name}] <string>"),
        Kind::Number if opt.positional => format!("[--{name}] <number>"),
        Kind::Text => format!("--{name} <string>"),
        Kind::Number => format!("--{name} <number>"),
    })
}

/// `help KEYWORD`.
pub(crate) fn group(group: &Group) -> String {
    let mut text = format!(" {} (help keyword '{}'):\n", group.title, group.keyword);
    text.push_str(&rows(group));
    text
}

fn rows(group: &Group) -> String {
    group.commands.iter().fold(String::new(), |mut text, command| {
        let _ = writeln!(text, "    {:<30} {}", command.name, command.help);
        text
    })
}

/// `help` alone; `more` is appended as it is.
pub(crate) fn all(groups: &[Group], more: &str) -> String {
    let mut text = "Grouped commands:\n\n".to_owned();
    for one in groups {
        text.push_str(&group(one));
        text.push('\n');
    }
    text + more
}

/// `--help` before any command.
pub(crate) fn usage(program: &str, groups: &[Group], socket: bool, more: &str) -> String {
    let mut text = format!(
        "
{program} [options]... [<command_string>]
{program} [options]... <command> [args...]

  options:
    -c | --connect=URI      hypervisor connection URI
    -d | --debug=NUM        debug level [0-4]
    -e | --escape <char>    set escape sequence for console
    -h | --help             this help
    -k | --keepalive-interval=NUM
                            keepalive interval in seconds, 0 for disable
    -K | --keepalive-count=NUM
                            number of possible missed keepalive messages
    -l | --log=FILE         output logging to file
    -q | --quiet            quiet mode
    -r | --readonly         connect readonly
    -t | --timing           print timing information
    -v                      short version
    -V                      long version
         --version[=TYPE]   version, TYPE is short or long (default short)
"
    );
    if socket {
        text.push_str("         --socket PATH      the daemon's socket\n");
    }
    text.push_str("  commands (non interactive mode):\n\n");
    for group in groups {
        let _ = writeln!(text, " {} (help keyword '{}')", group.title, group.keyword);
        text.push_str(&rows(group));
        text.push('\n');
    }
    text.push_str(more);
    text.push_str("\n  (specify help <group> for details about the commands in the group)\n");
    text.push_str("\n  (specify help <command> for details about the command)\n\n");
    text
}
