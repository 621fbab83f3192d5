//! `doctor`: what protects the two processes that run, and what this host lacks.

mod facts;
mod host;

use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use pontoon_proto::api::{Reply, Request};

use crate::client::Client;
use crate::outcome::say;
use facts::Process;

/// One thing that was looked at.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) what: &'static str,
    pub(crate) value: String,
    /// What would be better, if it is not well.
    pub(crate) advice: Option<String>,
}

impl Finding {
    pub(crate) fn good(what: &'static str, value: impl Into<String>) -> Self {
        Self { what, value: value.into(), advice: None }
    }

    pub(crate) fn bad(what: &'static str, value: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { what, value: value.into(), advice: Some(advice.into()) }
    }

    /// Well if it `holds`.
    pub(crate) fn check(what: &'static str, holds: bool, value: [&str; 2], advice: &str) -> Self {
        let [good, bad] = value;
        if holds { Self::good(what, good) } else { Self::bad(what, bad, advice) }
    }
}

/// A heading and what is below it.
type Section = (String, Vec<Finding>);

pub(crate) fn doctor(client: &Client, json: bool) -> ExitCode {
    let mut sections = processes(client);
    sections.push(("this host".to_owned(), host::look()));
    if json {
        let section = |(title, findings): &Section| {
            let findings = findings.iter().map(
                |found| serde_json::json!({ "what": found.what, "value": found.value, "advice": found.advice }),
            );
            serde_json::json!({ "of": title, "findings": findings.collect::<Vec<_>>() })
        };
        crate::verbs::print_json(&serde_json::Value::Array(sections.iter().map(section).collect()));
    } else {
        sections.iter().for_each(|section| say(&text(section)));
    }
    let ill = sections.iter().flat_map(|(_, findings)| findings).any(|found| found.advice.is_some());
    if ill { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn text((title, findings): &Section) -> String {
    let line = |found: &Finding| {
        let mark = if found.advice.is_some() { '!' } else { ' ' };
        let line = format!(" {mark} {:<24} {}", found.what, found.value);
        let advice = found.advice.iter().map(|advice| format!("\n   {:<24} {advice}", ""));
        format!("{}{}\n", line.trim_end(), advice.collect::<String>())
    };
    format!("{title}\n{}\n", findings.iter().map(line).collect::<String>())
}

/// The daemon behind the socket, and its datapath.
fn processes(client: &Client) -> Vec<Section> {
    let socket = client.socket().display().to_string();
    let Some(control) = peer(client) else {
        let found = Finding::good("socket", format!("{socket}: nobody answers"));
        return vec![("no daemon runs".to_owned(), vec![found])];
    };
    let mut sections = vec![(format!("control, process {control}"), Process::read(control).control())];
    match client.call(&Request::Status) {
        Ok(Reply::Status { pid, lacking, .. }) => {
            let mut found = Process::read(pid).datapath(&Process::read(control));
            let advice = "what the host lacks is below; in a container, allow it";
            found.extend(lacking.into_iter().map(|line| Finding::bad("lacks", line, advice)));
            sections.push((format!("datapath, process {pid}"), found));
        }
        Ok(_) => {}
        Err(failure) => {
            let found =
                Finding::bad("status", failure.message, "run this as root or as a member of its group");
            sections.push(("datapath".to_owned(), vec![found]));
        }
    }
    sections
}

/// The process that listens at the socket, as the kernel knows it.
fn peer(client: &Client) -> Option<u32> {
    let stream = UnixStream::connect(client.socket()).ok()?;
    let peer = rustix::net::sockopt::socket_peercred(&stream).ok()?;
    Some(peer.pid.as_raw_nonzero().get().cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ill_is_marked_and_says_what_helps() {
        let findings = vec![Finding::good("a", "1"), Finding::bad("b", "2", "do c")];
        let expected = format!("t\n   {:<24} 1\n ! {:<24} 2\n   {:<24} do c\n\n", "a", "b", "");
        assert_eq!(text(&("t".to_owned(), findings)), expected);
    }
}
