//! What a command is: its options as virsh declares them, and what completes them.

use super::parse::Args;
use super::shell::Shell;
use crate::outcome::Outcome;

/// What an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Flag,
    Text,
    Number,
    /// All words that are left.
    Words,
    /// Another spelling of a later option.
    Alias(&'static str),
    /// Our own `--wait` and `--wait=SECONDS`: the value only behind a `=`.
    Wait,
}

/// What an option's value is taken from, for completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Complete {
    Nothing,
    File,
    Network,
    Domain,
    Interface,
    Bridge,
    Mac,
    Port,
    Verb,
    Words(&'static [&'static str]),
}

#[derive(Debug)]
pub(crate) struct Opt {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) required: bool,
    /// Shown as `<name>` and filled by words without an option.
    pub(crate) positional: bool,
    /// Filled by words without an option although it is not shown so: virsh's old habit.
    pub(crate) unwanted: bool,
    pub(crate) help: &'static str,
    pub(crate) complete: Complete,
}

impl Opt {
    const fn new(name: &'static str, kind: Kind, help: &'static str) -> Self {
        let complete = Complete::Nothing;
        Self { name, kind, required: false, positional: false, unwanted: false, help, complete }
    }

    pub(crate) const fn flag(name: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Flag, help)
    }

    pub(crate) const fn text(name: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Text, help)
    }

    pub(crate) const fn number(name: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Number, help)
    }

    pub(crate) const fn words(name: &'static str, help: &'static str) -> Self {
        let mut opt = Self::new(name, Kind::Words, help);
        opt.positional = true;
        opt
    }

    pub(crate) const fn alias(name: &'static str, target: &'static str) -> Self {
        Self::new(name, Kind::Alias(target), "")
    }

    /// A required positional value.
    pub(crate) const fn needs(name: &'static str, help: &'static str) -> Self {
        let mut opt = Self::text(name, help);
        opt.required = true;
        opt.positional = true;
        opt
    }

    /// An optional positional value.
    pub(crate) const fn may(name: &'static str, help: &'static str) -> Self {
        let mut opt = Self::text(name, help);
        opt.positional = true;
        opt
    }

    pub(crate) const fn unwanted(mut self) -> Self {
        self.unwanted = true;
        self
    }

    pub(crate) const fn completed(mut self, complete: Complete) -> Self {
        self.complete = complete;
        self
    }

    pub(crate) const JSON: Self = Self::flag("json", "print JSON");
    pub(crate) const FORMAT: Self =
        Self::text("format", "layout: modern, or legacy as libvirt up to 4.x had it")
            .completed(Complete::Words(&["modern", "legacy"]));

    pub(crate) const fn wait(help: &'static str) -> Self {
        Self::new("wait", Kind::Wait, help)
    }

    pub(crate) const fn network() -> Self {
        Self::needs("network", "network name or uuid").completed(Complete::Network)
    }

    pub(crate) const fn domain() -> Self {
        Self::needs("domain", "domain name, id or uuid").completed(Complete::Domain)
    }

    pub(crate) const fn file(help: &'static str) -> Self {
        Self::needs("file", help).completed(Complete::File)
    }
}

/// What a command does with the daemon, which a read-only connection forbids for changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Reads,
    /// The name of the library call that read-only access prevents.
    Writes(&'static str),
}

#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) about: &'static str,
    pub(crate) options: &'static [Opt],
    pub(crate) examples: &'static [&'static str],
    pub(crate) access: Access,
    pub(crate) run: fn(&mut Shell, &Args) -> Outcome,
}

/// Commands that belong together, and the word `help` knows them by.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) title: &'static str,
    pub(crate) keyword: &'static str,
    pub(crate) commands: &'static [Command],
}

impl Command {
    pub(crate) fn option(&self, name: &str) -> Option<&'static Opt> {
        self.options.iter().find(|opt| opt.name == name)
    }
}
