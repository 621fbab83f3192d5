//! What stands before the command: virsh's options and `--socket`.

use std::path::PathBuf;

/// The libvirt whose virsh is spoken here.
pub(crate) const LANGUAGE: &str = "10.7.0";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Ask {
    #[default]
    Run,
    Help,
    Version,
    LongVersion,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) socket: Option<PathBuf>,
    pub(crate) connect: Option<String>,
    pub(crate) log: Option<PathBuf>,
    pub(crate) quiet: bool,
    pub(crate) readonly: bool,
    pub(crate) timing: bool,
    pub(crate) ask: Ask,
    /// Said before anything else.
    pub(crate) warnings: Vec<String>,
    /// The command and what belongs to it.
    pub(crate) words: Vec<String>,
}

/// Long name, letter, whether it takes a value (`None`: only behind `=`).
const ALL: &[(&str, char, Option<bool>)] = &[
    ("connect", 'c', Some(true)),
    ("debug", 'd', Some(true)),
    ("escape", 'e', Some(true)),
    ("help", 'h', Some(false)),
    ("keepalive-interval", 'k', Some(true)),
    ("keepalive-count", 'K', Some(true)),
    ("log", 'l', Some(true)),
    ("quiet", 'q', Some(false)),
    ("readonly", 'r', Some(false)),
    ("timing", 't', Some(false)),
    ("version", 'v', None),
    ("no-pkttyagent", '\u{1}', Some(false)),
    ("socket", '\u{2}', Some(true)),
];

/// Reads options up to the first word that is none.
///
/// # Errors
/// virsh's words for what is wrong.
pub(crate) fn read(words: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options::default();
    let mut words = words.peekable();
    while let Some(word) = words.next_if(|word| word.len() > 1 && word.starts_with('-')) {
        if word == "--" {
            break;
        }
        match word.strip_prefix("--") {
            Some(long) => read_long(&mut options, long, &mut words)?,
            None => read_letters(&mut options, &word, &mut words)?,
        }
        if options.ask != Ask::Run {
            break;
        }
    }
    options.words = words.collect();
    Ok(options)
}

fn read_long(
    options: &mut Options,
    text: &str,
    words: &mut impl Iterator<Item = String>,
) -> Result<(), String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    let exact = ALL.iter().find(|(long, ..)| *long == name);
    let mut alike = ALL.iter().filter(|(long, ..)| !name.is_empty() && long.starts_with(name));
    let only = alike.next().filter(|_| alike.next().is_none());
    let Some((long, letter, takes)) = exact.or(only) else {
        return Err(format!("unsupported option '--{text}'. See --help."));
    };
    let value = match (takes, value) {
        (Some(false), Some(_)) => return Err(format!("unsupported option '-{letter}'. See --help.")),
        (Some(true), None) => Some(words.next().ok_or_else(|| lacking(*letter))?),
        (_, value) => value,
    };
    apply(options, *letter, value, &format!("--{long}"))
}

fn read_letters(
    options: &mut Options,
    word: &str,
    words: &mut impl Iterator<Item = String>,
) -> Result<(), String> {
    let mut letters = word.chars().skip(1);
    while let Some(letter) = letters.next() {
        let known = ALL.iter().find(|(_, known, _)| *known == letter).map(|(.., takes)| *takes);
        let known = if letter == 'V' { Some(Some(false)) } else { known };
        let Some(takes) = known else {
            return Err(format!("unsupported option '-{letter}'. See --help."));
        };
        let mut value = None;
        if takes == Some(true) {
            let rest: String = letters.by_ref().collect();
            value = Some(rest).filter(|rest| !rest.is_empty()).or_else(|| words.next());
            if value.is_none() {
                return Err(lacking(letter));
            }
        }
        apply(options, letter, value, &format!("-{letter}"))?;
    }
    Ok(())
}

fn lacking(letter: char) -> String {
    match ALL.iter().find(|(_, known, _)| *known == letter) {
        Some((long, '\u{1}' | '\u{2}', _)) => format!("option '--{long}' requires an argument"),
        Some((long, ..)) => format!("option '-{letter}'/'--{long}' requires an argument"),
        None => format!("option '-{letter}' requires an argument"),
    }
}

fn apply(options: &mut Options, letter: char, value: Option<String>, given: &str) -> Result<(), String> {
    let text = value.as_deref().unwrap_or_default();
    match letter {
        'c' => options.connect = value,
        'd' => debug_level(options, text, given)?,
        'e' => escape(text)?,
        'h' => options.ask = Ask::Help,
        'k' | 'K' => keepalive(text, given)?,
        'l' => options.log = value.map(PathBuf::from),
        'q' => options.quiet = true,
        'r' => options.readonly = true,
        't' => options.timing = true,
        'v' if text == "long" => options.ask = Ask::LongVersion,
        'v' => options.ask = Ask::Version,
        'V' => options.ask = Ask::LongVersion,
        '\u{2}' => options.socket = value.map(PathBuf::from),
        _ => {}
    }
    Ok(())
}

fn debug_level(options: &mut Options, text: &str, given: &str) -> Result<(), String> {
    let level: i32 = text.parse().map_err(|_| format!("option {given} takes a numeric argument"))?;
    if !(0..=4).contains(&level) {
        options.warnings.push(format!("ignoring debug level {level} out of range [0-4]"));
    }
    Ok(())
}

fn escape(text: &str) -> Result<(), String> {
    let mut chars = text.chars();
    let fits = match (chars.next(), chars.next(), chars.next()) {
        (Some('^'), Some(c), None) => c.is_ascii_lowercase() || ('@'..='_').contains(&c),
        (Some(c), None, None) => c != '^',
        _ => false,
    };
    if fits { Ok(()) } else { Err(format!("Invalid string '{text}' for escape sequence")) }
}

fn keepalive(text: &str, given: &str) -> Result<(), String> {
    match text.parse::<i32>() {
        Err(_) => Err(format!("Invalid value for option {given}")),
        Ok(value) if value < 0 => Err(format!("option {given} requires a positive integer argument")),
        Ok(_) => Ok(()),
    }
}

/// Where a connection URI leads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Connection {
    /// The daemon of this host.
    Here,
    Socket(PathBuf),
}

/// What a libvirt connection URI means to pontoon: any driver of this host is pontoon.
///
/// # Errors
/// For another host, which is out of reach.
pub(crate) fn connection(uri: &str) -> Result<Connection, String> {
    if let Some(path) = uri.strip_prefix("pontoon+unix://").or_else(|| uri.strip_prefix("unix://")) {
        return Ok(Connection::Socket(PathBuf::from(path)));
    }
    let Some((scheme, rest)) = uri.split_once("://") else {
        return Ok(Connection::Here);
    };
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    let transport = scheme.split_once('+').map(|(_, transport)| transport);
    if host.is_empty() && transport.is_none_or(|transport| transport == "unix") {
        return Ok(Connection::Here);
    }
    Err(format!(
        "Operation not supported: '{uri}' is another host; pontoon manages networks of the host it runs on"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Result<Options, String> {
        read(line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned))
    }

    #[test]
    fn options_end_at_the_command() {
        let read = options("-qc qemu:///system --timing -r net-list -q --all").expect("options");
        assert!(read.quiet && read.timing && read.readonly);
        assert_eq!(read.connect.as_deref(), Some("qemu:///system"));
        assert_eq!(read.words, ["net-list", "-q", "--all"]);
        let read = options("--connect=test:///default -k5 -K 6 -d 0 -e ^] --no-pkttyagent -- net-list");
        assert_eq!(read.expect("options").words, ["net-list"]);
        assert!(options("--qui net-list").expect("a beginning that fits one only").quiet);
    }

    #[test]
    fn questions_are_answered_at_once() {
        assert_eq!(options("-v --nope").expect("version").ask, Ask::Version);
        assert_eq!(options("--version=long").expect("version").ask, Ask::LongVersion);
        assert_eq!(options("-V").expect("version").ask, Ask::LongVersion);
        assert_eq!(options("-h").expect("help").ask, Ask::Help);
    }

    #[test]
    fn faults_have_virsh_words() {
        for (line, words) in [
            ("--nope", "unsupported option '--nope'. See --help."),
            ("-x", "unsupported option '-x'. See --help."),
            ("-c", "option '-c'/'--connect' requires an argument"),
            ("-d x", "option -d takes a numeric argument"),
            ("--debug=x", "option --debug takes a numeric argument"),
            ("-k x", "Invalid value for option -k"),
            ("-K -5", "option -K requires a positive integer argument"),
            ("-e ^", "Invalid string '^' for escape sequence"),
        ] {
            assert_eq!(options(line), Err(words.to_owned()), "{line}");
        }
        let read = options("-d 9 net-list").expect("only a word");
        assert_eq!(read.warnings, ["ignoring debug level 9 out of range [0-4]"]);
    }

    #[test]
    fn a_uri_of_this_host_is_the_daemon_and_of_another_is_refused() {
        for uri in ["qemu:///system", "qemu:///session", "test:///default", "", "qemu+unix:///system"] {
            assert_eq!(connection(uri), Ok(Connection::Here), "{uri}");
        }
        assert_eq!(connection("unix:///x.sock"), Ok(Connection::Socket("/x.sock".into())));
        for uri in ["qemu+ssh://root@there/system", "qemu+tcp://10.0.0.1/system", "xen://there"] {
            assert!(connection(uri).expect_err(uri).contains("another host"));
        }
    }
}
