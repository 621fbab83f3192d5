//! Commands of the shell itself.

use pontoon_proto::api::Request;

use crate::outcome::{Outcome, Refusal, complain, say};
use crate::vsh::parse::Args;
use crate::vsh::shell::Shell;
use crate::vsh::table::{Access, Command, Complete, Opt};

pub(crate) const CD: Command = Command {
    name: "cd",
    help: "change the current directory",
    about: "Change the current directory.",
    options: &[
        Opt::may("dir", "directory to switch to (default: home or else root)").completed(Complete::File)
    ],
    examples: &[],
    access: Access::Reads,
    run: cd,
};

pub(crate) const ECHO: Command = Command {
    name: "echo",
    help: "echo arguments. Used for internal testing.",
    about: "Echo back arguments, possibly with quoting. Used for internal testing.",
    options: &[
        Opt::flag("shell", "escape for shell use"),
        Opt::flag("xml", "escape for XML use"),
        Opt::flag("split", "split each argument on ','; ',,' is an escape sequence"),
        Opt::flag("err", "output to stderr"),
        Opt::alias("str", "string"),
        Opt::text("prefix", "prefix the message"),
        Opt::words("string", "arguments to echo"),
    ],
    examples: &[],
    access: Access::Reads,
    run: echo,
};

pub(crate) const EXIT: Command = Command {
    name: "exit",
    help: "quit this interactive terminal",
    about: "",
    options: &[],
    examples: &[],
    access: Access::Reads,
    run: quit,
};

pub(crate) const HELP: Command = Command {
    name: "help",
    help: "print help",
    about: "Prints global help, command specific help, or help for a\n    group of related commands",
    options: &[Opt::may(
        "command",
        "Prints global help, command specific help, or help for a group of related commands",
    )
    .completed(Complete::Verb)],
    examples: &["pontoon help network", "pontoon help net-update"],
    access: Access::Reads,
    run: help,
};

pub(crate) const PWD: Command = Command {
    name: "pwd",
    help: "print the current directory",
    about: "Print the current directory.",
    options: &[],
    examples: &[],
    access: Access::Reads,
    run: pwd,
};

pub(crate) const QUIT: Command = Command { name: "quit", ..EXIT };

pub(crate) const CONNECT: Command = Command {
    name: "connect",
    help: "(re)connect to hypervisor",
    about: "Connect to local hypervisor. This is built-in command after shell start up.",
    options: &[Opt::may("name", "hypervisor connection URI"), Opt::flag("readonly", "read-only connection")],
    examples: &[],
    access: Access::Reads,
    run: connect,
};

fn help(shell: &mut Shell, args: &Args) -> Outcome {
    shell.help(args.raw("command").filter(|name| !name.is_empty()))
}

fn quit(shell: &mut Shell, _: &Args) -> Outcome {
    shell.leave();
    Ok(())
}

fn cd(shell: &mut Shell, args: &Args) -> Outcome {
    if !shell.is_interactive() {
        return Err(Refusal::own("cd: command valid only in interactive mode"));
    }
    let home = std::env::var("HOME").unwrap_or_else(|_| "/".to_owned());
    let dir = args.raw("dir").filter(|dir| !dir.is_empty()).unwrap_or(&home);
    std::env::set_current_dir(dir)
        .map_err(|error| Refusal::own(format!("cd: {}: {dir}", crate::client::plain(&error))))
}

fn pwd(_: &mut Shell, _: &Args) -> Outcome {
    let here = std::env::current_dir().unwrap_or_default();
    say(&format!("{}\n", here.display()));
    Ok(())
}

fn echo(_: &mut Shell, args: &Args) -> Outcome {
    args.exclusive("shell", "xml")?;
    args.exclusive("shell", "split")?;
    args.exclusive("xml", "split")?;
    let words = args.list("string").iter().map(|word| {
        if args.has("xml") {
            escape_xml(word)
        } else if args.has("shell") {
            escape_shell(word)
        } else if args.has("split") {
            split(word).into_iter().map(|part| part + "\n").collect()
        } else {
            word.clone()
        }
    });
    let prefix = args.text("prefix")?.map(str::to_owned);
    let text = prefix.into_iter().chain(words).collect::<Vec<_>>().join(" ");
    if args.has("err") {
        complain(&format!("error: {text}"));
    } else {
        say(&text);
    }
    Ok(())
}

pub(crate) fn escape_xml(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            c if c.is_control() && !matches!(c, '\n' | '\t' | '\r') => {}
            c => escaped.push(c),
        }
    }
    escaped
}

fn escape_shell(text: &str) -> String {
    let meta = "\r\t\n !\"#$&'()*;<>?[\\]^`{|}~";
    if text.is_empty() || text.contains(|c| meta.contains(c)) {
        format!("'{}'", text.replace('\'', r"'\''"))
    } else {
        text.to_owned()
    }
}

/// `a,b` is two parts, `a,,b` one with a comma in it.
fn split(text: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    let mut joined = false;
    for (index, part) in text.split(',').enumerate() {
        match parts.last_mut() {
            Some(last) if joined => {
                last.push(',');
                last.push_str(part);
                joined = false;
            }
            _ if index > 0 && part.is_empty() => joined = true,
            _ => parts.push(part.to_owned()),
        }
    }
    if joined {
        parts.push(String::new());
    }
    parts
}

fn connect(shell: &mut Shell, args: &Args) -> Outcome {
    shell.connect(args.raw("name").unwrap_or_default(), args.has("readonly"))?;
    shell.call(&Request::Ping).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_escaped_and_split() {
        assert_eq!(escape_xml("a<b>'&\""), "a&lt;b&gt;&apos;&amp;&quot;");
        assert_eq!((escape_shell("plain"), escape_shell("it's")), ("plain".into(), r"'it'\''s'".into()));
        assert_eq!(split("a,b,,c,"), ["a", "b,c", ""]);
    }
}
