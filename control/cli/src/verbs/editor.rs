//! The user's editor, and asking what to do when what it left is refused.

use std::io::{IsTerminal, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use pontoon_proto::api::Failure;

use super::network::read_file;
use crate::client::plain;
use crate::outcome::{Refusal, say};

/// What an editor's command and a file name may consist of without a shell being asked.
const PLAIN: &str = "-/_.:@";

/// A file that goes with this value.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Scratch {
    fn new(text: &str) -> Result<Self, Refusal> {
        let dir = std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
        let failed = |error: &std::io::Error| {
            Refusal::own(format!("failed to create temporary file in {}: {}", dir.display(), plain(error)))
        };
        for attempt in 0..1000_u32 {
            let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            let seed = seed.map_or(0, |elapsed| elapsed.subsec_nanos());
            let path = dir.join(format!("virsh{:x}{seed:08x}{attempt:x}.xml", std::process::id()));
            let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            match opened {
                Ok(mut file) => {
                    let scratch = Self(path);
                    file.write_all(text.as_bytes()).map_err(|error| failed(&error))?;
                    return Ok(scratch);
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(&error)),
            }
        }
        Err(failed(&std::io::ErrorKind::AlreadyExists.into()))
    }

    fn edit(&self) -> Result<String, Refusal> {
        run(&self.0)?;
        read_file(&self.0.to_string_lossy())
    }
}

fn run(file: &Path) -> Result<(), Refusal> {
    let editor = ["VISUAL", "EDITOR"].into_iter().find_map(|name| std::env::var(name).ok());
    let editor = editor.unwrap_or_else(|| "vi".to_owned());
    let plain_text = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || PLAIN.contains(c));
    let name = file.to_string_lossy();
    let mut command = if plain_text(&editor) {
        let mut command = Command::new(&editor);
        command.arg(file);
        command
    } else if plain_text(&name) {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{editor} {name}")]);
        command
    } else {
        return Err(Refusal::own(format!(
            "{name}: temporary filename contains shell meta or other unacceptable characters (is $TMPDIR wrong?)"
        )));
    };
    let failed = |how: String| {
        let message = format!("internal error: Child process ({editor} {name}) {how}");
        Refusal::library(Failure { message, detail: None })
    };
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(failed(match status.code() {
            Some(code) => format!("unexpected exit status {code}"),
            None => "unexpected fatal signal".to_owned(),
        })),
        Err(error) => {
            let message = format!("cannot execute binary {editor}: {}", plain(&error));
            Err(Refusal::library(Failure { message, detail: None }))
        }
    }
}

/// Has a text edited; one line end at its end, which editors add, is dropped.
pub(crate) fn edit_text(text: &str) -> Result<String, Refusal> {
    let edited = Scratch::new(text)?.edit()?;
    Ok(edited.strip_suffix('\n').map_or_else(|| edited.clone(), str::to_owned))
}

/// What the user wants after a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    Edit,
    Force,
    Give,
    /// There is nobody to ask.
    Nobody,
}

fn ask(why: &str, refusal: &Refusal) -> Again {
    if !std::io::stdin().is_terminal() {
        return Again::Nobody;
    }
    refusal.print();
    let Some(_raw) = RawTerminal::enter() else {
        return Again::Nobody;
    };
    loop {
        say(&format!("\r{why} Try again? [y,n,f,?]: "));
        let mut byte = [0];
        let read = std::io::stdin().lock().read(&mut byte);
        let answer = match (read, byte[0].to_ascii_lowercase()) {
            (Ok(1), b'y') => Again::Edit,
            // Raw mode makes bytes of interrupt and end.
            (Ok(1), b'n' | 3 | 4) => Again::Give,
            (Ok(1), b'f') => Again::Force,
            (Ok(1), b'?') => {
                say("\r\ny - yes, start editor again\r\nn - no, throw away my changes\r\n\
                     f - force, try to redefine again\r\n? - print this help\r\n");
                continue;
            }
            (Ok(1), _) => continue,
            _ => Again::Give,
        };
        say("\r\n");
        return answer;
    }
}

/// The terminal gives each key at once while this lives.
struct RawTerminal(rustix::termios::Termios);

impl RawTerminal {
    fn enter() -> Option<Self> {
        let before = rustix::termios::tcgetattr(std::io::stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(std::io::stdin(), rustix::termios::OptionalActions::Flush, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let flush = rustix::termios::OptionalActions::Flush;
        let _ = rustix::termios::tcsetattr(std::io::stdin(), flush, &self.0);
    }
}

/// virsh's editing: what comes from `read` is edited until `write` takes it. `None` when nothing was changed.
pub(crate) fn edit<T>(
    read: impl Fn() -> Result<String, Refusal>,
    write: impl Fn(&str) -> Result<T, Refusal>,
) -> Result<Option<T>, Refusal> {
    let mut original = read()?;
    let scratch = Scratch::new(&original)?;
    let mut edited = scratch.edit()?;
    if edited == original {
        return Ok(None);
    }
    loop {
        let now = read()?;
        let (why, refusal) = if now == original {
            match write(&edited) {
                Ok(written) => return Ok(Some(written)),
                Err(refusal) => ("Failed.", refusal),
            }
        } else {
            original = now;
            ("The XML configuration was changed by another user.", Refusal::default())
        };
        match ask(why, &refusal) {
            Again::Edit => {
                edited = scratch.edit()?;
                if edited == original {
                    return Ok(None);
                }
            }
            Again::Force => {}
            Again::Give => return Err(Refusal::default()),
            Again::Nobody => return Err(refusal.first(why)),
        }
    }
}
