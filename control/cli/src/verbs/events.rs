//! `net-event`.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use pontoon_proto::api::{Reply, Request};
use pontoon_proto::event::{Event, EventKind, Lifecycle, Metadata};

use crate::client::{Heard, is_connection};
use crate::outcome::{Outcome, Refusal, complain, say};
use crate::vsh::parse::Args;
use crate::vsh::shell::{Shell, refused, strange};
use crate::vsh::table::{Access, Command, Complete, Opt};

/// virsh's two and our own.
const KINDS: &[(&str, EventKind)] = &[
    ("lifecycle", EventKind::Lifecycle),
    ("metadata-change", EventKind::MetadataChange),
    ("lease", EventKind::Lease),
    ("port", EventKind::Port),
    ("link", EventKind::Link),
];

pub(crate) const EVENT: Command = Command {
    name: "net-event",
    help: "Network Events",
    about: "List event types, or wait for network events to occur",
    options: &[
        Opt::text("network", "filter by network name or uuid").unwanted().completed(Complete::Network),
        Opt::text("event", "which event type to wait for").unwanted().completed(Complete::Words(&[
            "lifecycle",
            "metadata-change",
            "lease",
            "port",
            "link",
        ])),
        Opt::flag("all", "wait for all events instead of just one type"),
        Opt::flag("loop", "loop until timeout or interrupt, rather than one-shot"),
        Opt::number("timeout", "timeout seconds").unwanted(),
        Opt::flag("list", "list valid event types"),
        Opt::flag("timestamp", "show timestamp for each printed event"),
        Opt::JSON,
    ],
    examples: &[
        "pontoon net-event --event lifecycle --loop --timestamp",
        "pontoon net-event default --event lease --timeout 60",
    ],
    access: Access::Reads,
    run: event,
};

fn event(shell: &mut Shell, args: &Args) -> Outcome {
    if args.has("list") {
        if args.has("json") {
            return shell.json(&KINDS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        }
        // Under virsh's name only what virsh lists.
        let count = if shell.is_virsh() { 2 } else { KINDS.len() };
        say(&KINDS.iter().take(count).map(|(name, _)| format!("{name}\n")).collect::<String>());
        return Ok(());
    }
    let wanted = wanted(args)?;
    let timeout = args.timeout()?;
    let network = match args.text("network")? {
        Some(name) => Some(shell.network_named(name)?.uuid),
        None => None,
    };
    let stream = shell.client.subscribe(&Request::Subscribe { events: wanted, network });
    let mut stream = stream.map_err(|failure| match is_connection(&failure) {
        true => refused(failure),
        false => Refusal::library(failure),
    })?;
    let deadline = timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let interrupted = crate::signal::catch_interrupt();
    let mut count = 0;
    let ending = loop {
        match stream.next(deadline, &interrupted).map_err(refused)? {
            Heard::Event(Reply::Event { time_ms, event }) => {
                if let Event::Missed { count } = event {
                    complain(&format!("warning: {count} events were missed"));
                    continue;
                }
                print(shell, args, time_ms, &event);
                count += 1;
                if !args.has("loop") {
                    break None;
                }
            }
            Heard::Event(other) => return Err(strange(&other)),
            Heard::Late => break Some("event loop timed out\n"),
            Heard::Interrupt => break Some("event loop interrupted\n"),
        }
    };
    if !args.has("json") {
        say(ending.unwrap_or_default());
        say(&format!("events received: {count}\n"));
    }
    if count > 0 { Ok(()) } else { Err(Refusal::default()) }
}

fn wanted(args: &Args) -> Result<Vec<EventKind>, Refusal> {
    let name = args.text("event")?;
    if args.has("all") {
        args.exclusive("all", "event")?;
        return Ok(KINDS.iter().map(|(_, kind)| *kind).collect());
    }
    let name = name.ok_or_else(|| Refusal::own("either --list or --event <type> is required"))?;
    let known = KINDS.iter().find(|(known, _)| *known == name);
    known.map(|(_, kind)| vec![*kind]).ok_or_else(|| Refusal::own(format!("unknown event type {name}")))
}

fn print(shell: &mut Shell, args: &Args, time_ms: u64, event: &Event) {
    if args.has("json") {
        let mut value = serde_json::json!(event);
        if let Some(members) = value.as_object_mut() {
            members.insert("time_ms".to_owned(), time_ms.into());
        }
        shell.json_line(&value);
        return;
    }
    let stamp = if args.has("timestamp") { format!("{}: ", timestamp(time_ms)) } else { String::new() };
    say(&format!("{stamp}{}\n", line(event)));
}

/// As libvirt writes times: UTC with milliseconds.
pub(crate) fn timestamp(time_ms: u64) -> String {
    let time = i64::try_from(time_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    time.unwrap_or_default().strftime("%Y-%m-%d %H:%M:%S.%3f%z").to_string()
}

fn line(event: &Event) -> String {
    match event {
        Event::Lifecycle { subject, detail } => {
            let word = match detail {
                Lifecycle::Defined => "Defined",
                Lifecycle::Undefined => "Undefined",
                Lifecycle::Started => "Started",
                Lifecycle::Stopped => "Stopped",
            };
            format!("event 'lifecycle' for network {}: {word}", subject.network)
        }
        Event::MetadataChange { subject, detail, uri } => {
            let word = match detail {
                Metadata::Description => "description",
                Metadata::Title => "title",
                Metadata::Element => "element",
            };
            let uri = uri.as_deref().unwrap_or("<null>");
            format!("event 'metadata-change' for network {}: type {word}, uri {uri}", subject.network)
        }
        Event::Lease { subject, detail, lease } => {
            let word = word(detail);
            format!("event 'lease' for network {}: {word} {} {}", subject.network, lease.ip, lease.mac)
        }
        Event::Port { subject, detail, domain, interface, mac } => {
            let word = word(detail);
            format!("event 'port' for network {}: {word} {interface} of {domain}, {mac}", subject.network)
        }
        Event::Link { subject, domain, interface, up } => {
            let word = if *up { "up" } else { "down" };
            format!("event 'link' for network {}: {interface} of {domain} {word}", subject.network)
        }
        // Those have verbs of their own.
        Event::Session { .. } | Event::Trace { .. } => String::new(),
        Event::Missed { count } => format!("{count} events were missed"),
    }
}

/// The word a value has in JSON.
fn word<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pontoon_proto::event::Subject;

    #[test]
    fn events_have_virsh_s_words() {
        let subject = Subject { network: "default".into(), uuid: String::new() };
        let started = Event::Lifecycle { subject: subject.clone(), detail: Lifecycle::Started };
        assert_eq!(line(&started), "event 'lifecycle' for network default: Started");
        let title = Event::MetadataChange { subject, detail: Metadata::Title, uri: None };
        assert_eq!(line(&title), "event 'metadata-change' for network default: type title, uri <null>");
        assert_eq!(timestamp(1_516_539_405_007), "2018-01-21 12:56:45.007+0000");
    }
}
