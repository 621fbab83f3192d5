//! Options before, between and behind words, as getopt_long(3) takes them.

use crate::tables::Format;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flags {
    pub(super) json: bool,
    pub(super) format: Format,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    Words(Flags, Vec<String>),
    Help,
    Version,
    /// getopt's complaint.
    Unknown(String),
}

/// `--json` and `--format` are pontoon's.
const LONG: [&str; 4] = ["help", "version", "json", "format"];

pub(super) fn parse(words: Vec<String>) -> Parsed {
    let (mut flags, mut plain) = (Flags::default(), Vec::new());
    let mut rest = words.into_iter();
    while let Some(word) = rest.next() {
        if word == "--" {
            plain.extend(rest);
            break;
        }
        let option = match (word.strip_prefix("--"), word.strip_prefix('-')) {
            (Some(long), _) => long_option(long),
            (None, Some(short)) if !short.is_empty() => Err(short_option(short)),
            _ => {
                plain.push(word);
                continue;
            }
        };
        match option {
            Ok(set) => set(&mut flags),
            Err(parsed) => return parsed,
        }
    }
    Parsed::Words(flags, plain)
}

fn long_option(text: &str) -> Result<fn(&mut Flags), Parsed> {
    let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
    let mut candidates = LONG.iter().filter(|long| !name.is_empty() && long.starts_with(name));
    let found = candidates.next().filter(|_| candidates.next().is_none());
    match (found.copied(), value) {
        (Some("help"), None) => Err(Parsed::Help),
        (Some("version"), None) => Err(Parsed::Version),
        (Some("json"), None) => Ok(|flags| flags.json = true),
        (Some("format"), Some("legacy")) => Ok(|flags| flags.format = Format::Legacy),
        (Some("format"), Some("modern")) => Ok(|flags| flags.format = Format::Modern),
        _ => Err(Parsed::Unknown(format!("unrecognized option '--{text}'"))),
    }
}

fn short_option(text: &str) -> Parsed {
    match text.chars().next() {
        Some('h') => Parsed::Help,
        Some('V') => Parsed::Version,
        other => Parsed::Unknown(format!("invalid option -- '{}'", other.unwrap_or('-'))),
    }
}
