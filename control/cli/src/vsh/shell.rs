//! One run of the command line: who it is called as, the daemon, and the commands one after the other.

use std::fs::File;
use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Instant;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use pontoon_proto::api::{Failure, NetworkInfo, Reply, Request};
use pontoon_proto::request::Class;
use serde::Serialize;

use super::foreign::{is_foreign, nearest};
use super::help;
use super::options::{self, Ask, Connection, LANGUAGE, Options};
use super::parse::{Args, Line, Words, parse};
use super::table::{Access, Command, Group};
use crate::client::{Client, is_connection};
use crate::outcome::{Outcome, Refusal, complain, say, warn};
use crate::tables::Format;
use crate::{args, verbs};

/// The name this executable was called by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    Pontoon,
    Virsh,
}

#[derive(Debug)]
pub(crate) struct Shell {
    identity: Identity,
    program: String,
    pub(crate) quiet: bool,
    timing: bool,
    readonly: bool,
    /// The call that the command under way may not make.
    forbidden: Option<&'static str>,
    log: Option<File>,
    pub(crate) client: Client,
    /// Reading commands from standard input until `quit`.
    interactive: bool,
    /// The command printed JSON: no empty line after it.
    bare: bool,
}

/// Runs what the words ask for.
pub(crate) fn main(identity: Identity, program: &str, words: impl Iterator<Item = String>) -> ExitCode {
    let options = match options::read(words) {
        Ok(options) => options,
        Err(why) => return usage_error(&why),
    };
    for warning in &options.warnings {
        complain(&format!("error: {warning}"));
    }
    match options.ask {
        Ask::Help => {
            say(&help::usage(program, verbs::GROUPS, identity == Identity::Pontoon, &more(identity)));
        }
        Ask::Version => say(&format!("{}\n", short_version(identity))),
        Ask::LongVersion => say(&long_version()),
        Ask::Run => return start(identity, program, options),
    }
    ExitCode::SUCCESS
}

fn usage_error(why: &str) -> ExitCode {
    complain(&format!("error: {why}"));
    ExitCode::FAILURE
}

fn short_version(identity: Identity) -> String {
    match identity {
        Identity::Virsh => LANGUAGE.to_owned(),
        Identity::Pontoon => format!("pontoon {}", env!("CARGO_PKG_VERSION")),
    }
}

fn long_version() -> String {
    format!(
        "pontoon {}, speaking the network commands of virsh of libvirt {LANGUAGE}\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// What pontoon has besides virsh's commands.
fn more(identity: Identity) -> String {
    if identity == Identity::Pontoon { args::listing() } else { String::new() }
}

fn start(identity: Identity, program: &str, options: Options) -> ExitCode {
    if identity == Identity::Pontoon {
        let first = options.words.first();
        if first.is_none() && std::io::stdin().is_terminal() {
            say(&help::usage(program, verbs::GROUPS, true, &more(identity)));
            return ExitCode::FAILURE;
        }
        if first.is_some_and(|word| args::is_own(word)) {
            return args::run(options);
        }
    }
    let mut shell = match Shell::new(identity, program, &options) {
        Ok(shell) => shell,
        Err(refusal) => {
            refusal.print();
            return ExitCode::FAILURE;
        }
    };
    let done = match options.words.as_slice() {
        [] => shell.interact(),
        [line] => shell.parsed(parse(&mut Line::new(line), &find(identity))),
        words => shell.parsed(parse(&mut Words(words.iter().cloned()), &find(identity))),
    };
    if done { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Every command of the tables.
pub(crate) fn commands() -> impl Iterator<Item = &'static Command> {
    verbs::GROUPS.iter().flat_map(|group| group.commands)
}

fn find(identity: Identity) -> impl Fn(&str) -> Result<&'static Command, String> {
    move |name| {
        if let Some(command) = commands().find(|command| command.name == name) {
            return Ok(command);
        }
        if is_foreign(name) {
            return Err(format!(
                "command '{name}' is not about networks; pontoon manages networks only\n\
                 use libvirt's own virsh for it; `help` lists the commands that are here"
            ));
        }
        let own = args::own_names().into_iter().filter(|_| identity == Identity::Pontoon);
        let own: Vec<String> = own.collect();
        let known = commands().map(|command| command.name).chain(own.iter().map(String::as_str));
        let hint = nearest(name, known).map(|near| format!("\ndid you mean '{near}'?")).unwrap_or_default();
        Err(format!("unknown command: '{name}'{hint}"))
    }
}

impl Shell {
    fn new(identity: Identity, program: &str, options: &Options) -> Result<Self, Refusal> {
        let uri = options.connect.clone().or_else(|| std::env::var("VIRSH_DEFAULT_CONNECT_URI").ok());
        let connection = options::connection(uri.as_deref().unwrap_or_default()).map_err(unreachable)?;
        let socket = match connection {
            Connection::Socket(path) => Some(path),
            Connection::Here => options.socket.clone(),
        };
        let open = |path| File::options().append(true).create(true).open(path);
        let log = options
            .log
            .as_ref()
            .map(open)
            .transpose()
            .map_err(|_| Refusal::own("failed to open the log file. check the log file path"))?;
        Ok(Self {
            identity,
            program: program.to_owned(),
            quiet: options.quiet,
            timing: options.timing,
            readonly: options.readonly,
            forbidden: None,
            log,
            client: Client::new(socket),
            interactive: false,
            bare: false,
        })
    }

    /// Commands from standard input. As virsh's, it ends well whatever the commands did.
    fn interact(&mut self) -> bool {
        if !self.quiet {
            say(&format!(
                "Welcome to {}, the virtualization interactive terminal.\n\n\
                 Type:  'help' for help with commands\n       'quit' to quit\n\n",
                self.program
            ));
        }
        self.interactive = true;
        let terminal = std::io::stdin().is_terminal();
        let prompt = format!("{} {} ", self.program, if self.readonly { '>' } else { '#' });
        while self.interactive {
            say(&prompt);
            let mut line = String::new();
            let read = std::io::stdin().lock().read_line(&mut line);
            if !read.is_ok_and(|count| count > 0) {
                say("\n");
                break;
            }
            let line = line.trim_end_matches('\n');
            // Where no terminal echoes what is typed, virsh does.
            if !terminal {
                say(&format!("{line}\n"));
            }
            let identity = self.identity;
            let _ = self.parsed(parse(&mut Line::new(line), &find(identity)));
        }
        true
    }

    /// Runs commands that were understood, or says why none is run.
    fn parsed(&mut self, commands: Result<Vec<Args>, String>) -> bool {
        match commands {
            Ok(commands) => self.run(&commands),
            Err(why) => {
                complain(&format!("error: {why}"));
                false
            }
        }
    }

    /// All of them, whatever becomes of each; the last one counts.
    fn run(&mut self, commands: &[Args]) -> bool {
        let mut done = true;
        for args in commands {
            let begin = Instant::now();
            self.bare = false;
            self.forbid(args);
            let outcome = (args.command.run)(self, args);
            done = outcome.is_ok();
            if let Err(refusal) = outcome {
                refusal.print();
                self.note(&refusal);
            }
            if matches!(args.command.name, "quit" | "exit") {
                return done;
            }
            if self.timing {
                say(&format!("\n(Time: {:.3} ms)\n\n", begin.elapsed().as_secs_f64() * 1000.0));
            } else if !self.bare {
                self.extra("\n");
            }
        }
        done
    }

    /// What a command may not do through a read-only connection. It is refused where it asks for it, as in virsh.
    fn forbid(&mut self, args: &Args) {
        self.forbidden = match args.command.access {
            Access::Writes(call) if self.readonly => Some(call),
            _ => None,
        };
    }

    /// Refuses a change through a read-only connection.
    pub(crate) fn writes(&self, call: &str) -> Outcome {
        if self.readonly { Err(Refusal::library(forbidden(call))) } else { Ok(()) }
    }

    pub(crate) fn is_interactive(&self) -> bool {
        self.interactive
    }

    pub(crate) fn is_virsh(&self) -> bool {
        self.identity == Identity::Virsh
    }

    /// Another daemon, or the same for reading only.
    pub(crate) fn connect(&mut self, uri: &str, readonly: bool) -> Outcome {
        match options::connection(uri).map_err(unreachable)? {
            Connection::Socket(path) => self.client = Client::new(Some(path)),
            Connection::Here => {}
        }
        self.readonly = readonly;
        Ok(())
    }

    /// Appends what was refused to the file of `--log`.
    fn note(&mut self, refusal: &Refusal) {
        let Some(log) = &mut self.log else { return };
        let time = TimeZone::system().to_datetime(Timestamp::now()).strftime("%Y.%m.%d %H:%M:%S").to_string();
        for line in refusal.lines() {
            let text = line.trim_start_matches("error: ");
            let pid = std::process::id();
            if writeln!(log, "[{time} {} {pid}] ERROR {text}", self.program).is_err() {
                complain("error: failed to write the log file");
                self.log = None;
                return;
            }
        }
    }

    /// What `-q` leaves out.
    pub(crate) fn extra(&self, text: &str) {
        if !self.quiet {
            say(text);
        }
    }

    pub(crate) fn json<T: Serialize + ?Sized>(&mut self, value: &T) -> Outcome {
        self.bare = true;
        // Answers hold no map with other keys than strings, so this cannot fail.
        say(&format!("{}\n", serde_json::to_string_pretty(value).unwrap_or_default()));
        Ok(())
    }

    /// One JSON value on a line of its own, for streams.
    pub(crate) fn json_line<T: Serialize + ?Sized>(&mut self, value: &T) {
        self.bare = true;
        say(&format!("{}\n", serde_json::to_string(value).unwrap_or_default()));
    }

    pub(crate) fn leave(&mut self) {
        self.interactive = false;
    }

    /// The layout asked for: `--format`, else the variable PONTOON_FORMAT, else the present one.
    pub(crate) fn format(&self, args: &Args) -> Result<Format, Refusal> {
        let variable = std::env::var(FORMAT_ENV).ok();
        match args.text("format")?.or(variable.as_deref()) {
            None | Some("" | "modern") => Ok(Format::Modern),
            Some("legacy") => Ok(Format::Legacy),
            Some(other) => Err(Refusal::own(format!("unknown format '{other}': it is modern or legacy"))),
        }
    }

    /// Asks the daemon; warnings of an answer are printed.
    pub(crate) fn ask(&self, request: &Request) -> Result<Reply, Failure> {
        if let Some(call) = self.forbidden.filter(|_| request.class() == Class::Change) {
            return Err(forbidden(call));
        }
        let reply = self.client.call(request)?;
        match &reply {
            Reply::Done { warnings } | Reply::Defined { warnings, .. } | Reply::Attached { warnings, .. } => {
                warn(warnings);
            }
            _ => {}
        }
        Ok(reply)
    }

    /// Asks the daemon; a refusal is printed in its words alone.
    pub(crate) fn call(&self, request: &Request) -> Result<Reply, Refusal> {
        self.ask(request).map_err(refused)
    }

    /// Asks the daemon; a refusal comes after the command's own line.
    pub(crate) fn call_or(&self, request: &Request, line: impl FnOnce() -> String) -> Result<Reply, Refusal> {
        self.ask(request).map_err(|failure| match is_connection(&failure) {
            true => refused(failure),
            false => Refusal::own(line()).with(failure),
        })
    }

    /// The network an option names, by UUID or name.
    pub(crate) fn network(&self, args: &Args) -> Result<NetworkInfo, Refusal> {
        self.network_named(args.needed("network")?)
    }

    pub(crate) fn network_named(&self, name: &str) -> Result<NetworkInfo, Refusal> {
        match self.ask(&Request::NetInfo { network: name.to_owned() }) {
            Ok(Reply::Network { network }) => Ok(network),
            Ok(other) => Err(strange(&other)),
            Err(failure) if is_connection(&failure) => Err(refused(failure)),
            Err(failure) => {
                let hint = self.similar(name).map(|near| format!("did you mean '{near}'?"));
                Err(Refusal::own(format!("failed to get network '{name}'")).with(failure).hint(hint))
            }
        }
    }

    fn similar(&self, name: &str) -> Option<String> {
        let Ok(Reply::Networks { networks }) = self.ask(&Request::NetList) else {
            return None;
        };
        nearest(name, networks.iter().map(|network| network.name.as_str())).map(str::to_owned)
    }

    /// `help`.
    pub(crate) fn help(&self, name: Option<&str>) -> Outcome {
        let Some(name) = name else {
            say(&help::all(verbs::GROUPS, &more(self.identity)));
            return Ok(());
        };
        if let Some(command) = commands().find(|command| command.name == name) {
            say(&help::command(command, self.identity == Identity::Pontoon));
            return Ok(());
        }
        if let Some(group) = verbs::GROUPS.iter().find(|group| is_group(group, name)) {
            say(&help::group(group));
            return Ok(());
        }
        match args::help(name).filter(|_| self.identity == Identity::Pontoon) {
            Some(text) => {
                say(&text);
                Ok(())
            }
            None => Err(Refusal::own(format!("command or command group '{name}' doesn't exist"))),
        }
    }
}

fn unreachable(message: String) -> Refusal {
    Refusal::own("failed to connect to the hypervisor").with(Failure { message, detail: None })
}

/// The variable that gives tables their layout where `--format` does not.
pub(crate) const FORMAT_ENV: &str = "PONTOON_FORMAT";

fn forbidden(call: &str) -> Failure {
    Failure { message: format!("operation forbidden: read only access prevents {call}"), detail: None }
}

fn is_group(group: &Group, name: &str) -> bool {
    group.title == name || group.keyword == name
}

/// What the daemon refused, in its words.
pub(crate) fn refused(failure: Failure) -> Refusal {
    let lost = is_connection(&failure);
    let refusal = Refusal::library(failure);
    if lost { refusal.and("failed to connect to the hypervisor") } else { refusal }
}

pub(crate) fn strange(reply: &Reply) -> Refusal {
    Refusal::library(Failure {
        message: format!("internal error: the daemon answered something else: {reply:?}"),
        detail: None,
    })
}
