//! virsh's command lines: words with options, and strings of commands.

use super::table::{Command, Kind, Opt};
use crate::outcome::Refusal;

/// One command as it was given.
#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) command: &'static Command,
    values: Vec<Value>,
}

#[derive(Clone, Debug, Default)]
struct Value {
    present: bool,
    words: Vec<String>,
}

impl Args {
    fn new(command: &'static Command) -> Self {
        Self { command, values: vec![Value::default(); command.options.len()] }
    }

    fn value(&self, name: &str) -> Option<&Value> {
        let index = self.command.options.iter().position(|opt| opt.name == name);
        debug_assert!(index.is_some(), "{} has no option {name}", self.command.name);
        index.and_then(|index| self.values.get(index)).filter(|value| value.present)
    }

    /// Whether the option was given at all.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// The value of an option; an empty one is refused as virsh refuses it.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, Refusal> {
        let word = self.raw(name);
        if word.is_some_and(str::is_empty) {
            return Err(Refusal::own(format!("Failed to get option '{name}': Option argument is empty")));
        }
        Ok(word)
    }

    /// The value of a required option.
    pub(crate) fn needed(&self, name: &str) -> Result<&str, Refusal> {
        self.text(name).map(Option::unwrap_or_default)
    }

    /// The value, empty or not.
    pub(crate) fn raw(&self, name: &str) -> Option<&str> {
        self.value(name).map(|value| value.words.last().map_or("", String::as_str))
    }

    /// All words of the last option, one blank between them.
    pub(crate) fn words(&self, name: &str) -> Option<String> {
        self.value(name).map(|value| value.words.join(" "))
    }

    pub(crate) fn list(&self, name: &str) -> &[String] {
        self.value(name).map_or(&[], |value| &value.words)
    }

    /// A whole number of 32 bits.
    pub(crate) fn integer(&self, name: &str) -> Result<Option<i32>, Refusal> {
        self.number(name, |text| text.trim_start().parse().ok())
    }

    pub(crate) fn number<T>(
        &self,
        name: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, Refusal> {
        self.raw(name).map(|text| read(text).ok_or_else(|| malformed(name, text))).transpose()
    }

    /// `--timeout`: seconds, more than none and in milliseconds no more than 31 bits.
    pub(crate) fn timeout(&self) -> Result<Option<u64>, Refusal> {
        let limit = u64::from(u32::MAX >> 1) / 1000;
        self.number("timeout", |text| {
            text.trim_start().parse::<u32>().ok().map(u64::from).filter(|n| (1..=limit).contains(n))
        })
    }

    /// How long `--wait` is to wait; `None` when it was not given.
    pub(crate) fn wait(&self, otherwise: u64) -> Result<Option<u64>, Refusal> {
        let Some(value) = self.value("wait") else {
            return Ok(None);
        };
        match value.words.last() {
            None => Ok(Some(otherwise)),
            Some(text) => {
                let seconds = text.parse().ok().filter(|seconds| *seconds <= 86_400);
                seconds.map(Some).ok_or_else(|| malformed("wait", text))
            }
        }
    }

    /// Refuses two options that exclude each other.
    pub(crate) fn exclusive(&self, one: &str, other: &str) -> Result<(), Refusal> {
        if self.has(one) && self.has(other) {
            return Err(Refusal::own(format!("Options --{one} and --{other} are mutually exclusive")));
        }
        Ok(())
    }
}

fn malformed(name: &str, text: &str) -> Refusal {
    Refusal::own(format!("Numeric value '{text}' for <{name}> option is malformed or out of range"))
}

/// A piece of a command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Word(String),
    /// `;` or the end of a line.
    Next,
    End,
}

/// Cuts a command line into words.
pub(crate) trait Lexer {
    /// # Errors
    /// virsh's words for a quote or backslash that is not ended.
    fn token(&mut self) -> Result<Token, String>;
}

/// Words a shell has cut already.
pub(crate) struct Words<I>(pub(crate) I);

impl<I: Iterator<Item = String>> Lexer for Words<I> {
    fn token(&mut self) -> Result<Token, String> {
        Ok(self.0.next().map_or(Token::End, Token::Word))
    }
}

/// One string with quotes, backslashes, `;` and `#`.
pub(crate) struct Line<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
}

impl<'a> Line<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { rest: text.chars().peekable() }
    }

    fn skip_blanks(&mut self) {
        while let Some(c) = self.rest.peek().copied() {
            match c {
                ' ' | '\t' => self.rest.next(),
                '\\' if self.rest.clone().nth(1) == Some('\n') => self.rest.nth(1),
                _ => break,
            };
        }
    }
}

impl Lexer for Line<'_> {
    fn token(&mut self) -> Result<Token, String> {
        self.skip_blanks();
        match self.rest.peek() {
            None => return Ok(Token::End),
            Some(';' | '\n') => {
                self.rest.next();
                return Ok(Token::Next);
            }
            Some('#') => {
                self.rest.by_ref().find(|c| *c == '\n');
                return Ok(Token::Next);
            }
            Some(_) => {}
        }
        let (mut single, mut double) = (false, false);
        let mut word = String::new();
        while let Some(c) = self.rest.peek().copied() {
            if !single && !double && matches!(c, ' ' | '\t' | ';' | '\n') {
                break;
            }
            self.rest.next();
            match c {
                '\'' if !double => single = !single,
                '"' if !single => double = !double,
                '\\' if !single => match self.rest.next() {
                    None => return Err("dangling \\".to_owned()),
                    Some('\n') => {}
                    Some(escaped) => word.push(escaped),
                },
                _ => word.push(c),
            }
        }
        if double {
            return Err("missing \"".to_owned());
        }
        Ok(Token::Word(word))
    }
}

/// Finds a command, or says in virsh's words that there is none.
pub(crate) type Find<'a> = &'a dyn Fn(&str) -> Result<&'static Command, String>;

/// Reads all commands of a line.
///
/// # Errors
/// virsh's words for the first fault; then nothing is run.
pub(crate) fn parse(lexer: &mut dyn Lexer, find: Find<'_>) -> Result<Vec<Args>, String> {
    let mut all = Vec::new();
    loop {
        match lexer.token()? {
            Token::End => return Ok(all),
            Token::Next => {}
            Token::Word(word) if word.starts_with('#') => skip(lexer)?,
            Token::Word(word) => {
                let mut one = Reading { args: Args::new(find(&word)?), help: false, only_words: false };
                let ended = one.read(lexer)?;
                all.push(one.finish(find)?);
                if ended {
                    return Ok(all);
                }
            }
        }
    }
}

fn skip(lexer: &mut dyn Lexer) -> Result<(), String> {
    while matches!(lexer.token()?, Token::Word(_)) {}
    Ok(())
}

/// A command whose options are being read.
struct Reading {
    args: Args,
    help: bool,
    /// Behind `--`.
    only_words: bool,
}

impl Reading {
    /// Reads to the end of the command; true when it is the end of all.
    fn read(&mut self, lexer: &mut dyn Lexer) -> Result<bool, String> {
        loop {
            match lexer.token()? {
                Token::End => return Ok(true),
                Token::Next => return Ok(false),
                Token::Word(word) if self.only_words || !word.starts_with("--") => self.place(word)?,
                Token::Word(word) if word == "--" => self.only_words = true,
                Token::Word(word) => self.option(word.get(2..).unwrap_or_default(), lexer)?,
            }
        }
    }

    fn is_help(&self) -> bool {
        self.args.command.name == "help"
    }

    /// A word without an option goes to the first place that is free.
    fn place(&mut self, word: String) -> Result<(), String> {
        let is_help = self.is_help();
        let places = self.args.command.options.iter().zip(&mut self.args.values);
        let free = places
            .filter(|(opt, _)| opt.positional || opt.unwanted)
            .find(|(opt, value)| !value.present || opt.kind == Kind::Words);
        match free {
            Some((_, value)) => {
                value.present = true;
                value.words.push(word);
                Ok(())
            }
            None if is_help => Ok(()),
            None => Err(format!("unexpected data '{word}'")),
        }
    }

    /// Reads `name` or `name=value`.
    fn option(&mut self, text: &str, lexer: &mut dyn Lexer) -> Result<(), String> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        if name == "help" {
            self.help = true;
            return Ok(());
        }
        let (opt, index) = match self.lookup(name) {
            Ok(found) => found,
            Err(_) if self.is_help() => return Ok(()),
            Err(why) => return Err(why),
        };
        let word = match (opt.kind, value) {
            (Kind::Flag, Some(_)) => return Err(format!("invalid '=' after option --{}", opt.name)),
            (Kind::Flag, None) => None,
            (Kind::Wait, value) => value,
            (_, Some(value)) => Some(value),
            (_, None) => match lexer.token()? {
                Token::Word(word) => Some(word),
                Token::Next | Token::End => return Err(expected(opt)),
            },
        };
        if let Some(slot) = self.args.values.get_mut(index) {
            slot.present = true;
            slot.words.extend(word);
        }
        Ok(())
    }

    fn lookup(&self, name: &str) -> Result<(&'static Opt, usize), String> {
        let command = self.args.command;
        let named = command.option(name).map(|opt| opt.kind);
        let name = if let Some(Kind::Alias(target)) = named { target } else { name };
        let found = command.options.iter().enumerate().find(|(_, opt)| opt.name == name);
        let Some((index, opt)) = found else {
            return Err(format!("command '{}' doesn't support option --{name}", command.name));
        };
        let seen = self.args.values.get(index).is_some_and(|value| value.present);
        if seen && opt.kind != Kind::Words {
            return Err(format!("option --{name} already seen"));
        }
        Ok((opt, index))
    }

    /// `--help` anywhere makes it `help COMMAND`; else what is required has to be there.
    fn finish(self, find: Find<'_>) -> Result<Args, String> {
        if self.help {
            let mut help = Args::new(find("help")?);
            if let Some(value) = help.values.first_mut() {
                *value = Value { present: true, words: vec![self.args.command.name.to_owned()] };
            }
            return Ok(help);
        }
        let command = self.args.command;
        let missing = command.options.iter().zip(&self.args.values);
        match missing.into_iter().find(|(opt, value)| opt.required && !value.present) {
            Some((opt, _)) if opt.positional => {
                Err(format!("command '{}' requires <{}> option", command.name, opt.name))
            }
            Some((opt, _)) => Err(format!("command '{}' requires --{} option", command.name, opt.name)),
            None => Ok(self.args),
        }
    }
}

fn expected(opt: &Opt) -> String {
    let what = if opt.kind == Kind::Number { "number" } else { "string" };
    format!("expected syntax: --{} <{what}>", opt.name)
}
