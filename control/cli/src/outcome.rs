//! How a command ends, and how what went wrong is said.

use std::io::{IsTerminal, Write};

use pontoon_proto::api::Failure;

/// Why a command failed: its own lines, then the daemon's, then advice.
#[derive(Debug, Default)]
pub(crate) struct Refusal {
    own: Vec<String>,
    library: Option<Failure>,
    hint: Option<String>,
}

pub(crate) type Outcome = Result<(), Refusal>;

impl Refusal {
    /// The command's own words.
    pub(crate) fn own(line: impl Into<String>) -> Self {
        Self { own: vec![line.into()], ..Self::default() }
    }

    /// The daemon's words alone.
    pub(crate) fn library(failure: Failure) -> Self {
        Self { library: Some(failure), ..Self::default() }
    }

    /// One more line of the command before what the daemon said.
    pub(crate) fn and(mut self, line: impl Into<String>) -> Self {
        self.own.push(line.into());
        self
    }

    /// A line of the command before all others.
    pub(crate) fn first(mut self, line: impl Into<String>) -> Self {
        self.own.insert(0, line.into());
        self
    }

    pub(crate) fn with(mut self, failure: Failure) -> Self {
        self.library = Some(failure);
        self
    }

    pub(crate) fn hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    /// What is printed, a line each; `error:` where virsh has it.
    pub(crate) fn lines(&self) -> Vec<String> {
        let library = self.library.as_ref();
        let errors = self.own.iter().chain(library.map(|failure| &failure.message));
        let mut lines: Vec<String> = errors.map(|line| format!("error: {line}")).collect();
        let detail = library.and_then(|failure| failure.detail.as_deref());
        lines.extend(detail.map(|detail| detail.trim_end_matches('\n').to_owned()));
        lines.extend(self.hint.clone());
        lines
    }

    pub(crate) fn print(&self) {
        for line in self.lines() {
            complain(&line);
        }
    }
}

/// Prints to standard output at once. A reader that has gone ends the process, as a signal would.
pub(crate) fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}

/// Prints a line to standard error; on a terminal the word in front has a colour.
pub(crate) fn complain(line: &str) {
    let mut err = std::io::stderr().lock();
    let colours = err.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let painted = ["error: ", "warning: "].into_iter().zip(["31", "33"]).find_map(|(word, colour)| {
        let rest = line.strip_prefix(word).filter(|_| colours)?;
        Some(format!("\x1b[1;{colour}m{word}\x1b[0m{rest}\n"))
    });
    // Where nobody listens there is nobody to tell.
    let _ = err.write_all(painted.unwrap_or_else(|| format!("{line}\n")).as_bytes());
}

pub(crate) fn warn(warnings: &[String]) {
    for warning in warnings {
        complain(&format!("warning: {warning}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_lines_come_first_and_the_hint_last() {
        let failure = Failure { message: "Network not found: x".into(), detail: Some("where\nhow\n".into()) };
        let refusal = Refusal::own("failed").and("again").with(failure).hint(Some("did you mean".into()));
        let expected =
            ["error: failed", "error: again", "error: Network not found: x", "where\nhow", "did you mean"];
        assert_eq!(refusal.lines(), expected);
    }
}
