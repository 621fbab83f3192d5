//! `conntrack`: sessions of NAT, looked at and ended.

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use pontoon_proto::api::{Reply, Request};
use pontoon_proto::event::{Event, SessionDetail};
use pontoon_proto::session::{Phase, SessionFilter, SessionInfo};

use super::events::timestamp;
use crate::client::{Client, Conversation, Heard};
use crate::outcome::{Outcome, complain, say};
use crate::vsh::shell::{refused, strange};

#[derive(Debug, Subcommand)]
pub(crate) enum Conntrack {
    /// Print sessions, one a line as conntrack -L does, with the guest's name.
    List(ReadArgs),
    /// Print how many sessions there are.
    Count(ReadArgs),
    /// End sessions, and say how many.
    Flush(ReadArgs),
    /// Print sessions as they begin and end, until interrupted.
    Events(EventArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ReadArgs {
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EventArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Only those that begin or end a mapping, an external port given to a guest's.
    #[arg(long)]
    mappings: bool,
    /// Show the time of each.
    #[arg(long)]
    timestamp: bool,
    /// End after so many seconds.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Print JSON, an object a line.
    #[arg(long)]
    json: bool,
}

/// Which sessions are meant: those that are all that is said.
#[derive(Debug, Args)]
pub(crate) struct FilterArgs {
    /// Of this network, by name or UUID.
    #[arg(long, value_name = "NETWORK")]
    network: Option<String>,
    /// Of this guest, by its name, an interface, its MAC address or its IPv4 address.
    #[arg(long, value_name = "GUEST")]
    guest: Option<String>,
    /// With this IPv4 address inside, outside or at the other end.
    #[arg(long, value_name = "ADDRESS")]
    address: Option<Ipv4Addr>,
    /// With this port or query id at any end.
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// tcp, udp, icmp or a number.
    #[arg(long, value_name = "PROTOCOL")]
    proto: Option<String>,
    /// ASSURED, UNREPLIED or a state of TCP, such as ESTABLISHED.
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Option<String>,
    /// Begun at least so long ago: seconds, or with s, m, h or d behind.
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    older: Option<u32>,
    /// Begun at most so long ago.
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    younger: Option<u32>,
}

impl From<&FilterArgs> for SessionFilter {
    fn from(args: &FilterArgs) -> Self {
        Self {
            network: args.network.clone(),
            guest: args.guest.clone(),
            address: args.address,
            port: args.port,
            proto: args.proto.clone(),
            state: args.state.clone(),
            older: args.older,
            younger: args.younger,
        }
    }
}

fn state(text: &str) -> Result<String, String> {
    let word = text.to_uppercase();
    let known: Vec<&str> =
        ["ASSURED", "UNREPLIED"].into_iter().chain(Phase::ALL.into_iter().map(Phase::name)).collect();
    if known.contains(&word.as_str()) { Ok(word) } else { Err(format!("states are {}", known.join(", "))) }
}

fn seconds(text: &str) -> Result<u32, String> {
    let (number, unit) = match text.char_indices().next_back() {
        Some((at, 's')) => (text.get(..at), 1),
        Some((at, 'm')) => (text.get(..at), 60),
        Some((at, 'h')) => (text.get(..at), 3600),
        Some((at, 'd')) => (text.get(..at), 86_400),
        _ => (Some(text), 1),
    };
    let number: Option<u32> = number.and_then(|number| number.parse().ok());
    number.and_then(|number| number.checked_mul(unit)).ok_or_else(|| {
        "a time is a number of seconds, or one with s, m, h or d behind: 90, 5m, 2h".to_owned()
    })
}

pub(crate) fn run(client: &Client, verb: &Conntrack, quiet: bool) -> ExitCode {
    let done = match verb {
        Conntrack::List(args) => list(client, args),
        Conntrack::Count(args) => count(client, args),
        Conntrack::Flush(args) => flush(client, args, quiet),
        Conntrack::Events(args) => events(client, args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(refusal) => {
            refusal.print();
            ExitCode::FAILURE
        }
    }
}

fn list(client: &Client, args: &ReadArgs) -> Outcome {
    let mut talk = client.converse().map_err(refused)?;
    let (filter, mut cursor, mut first) = (SessionFilter::from(&args.filter), Some(0), true);
    while let Some(from) = cursor {
        let request = Request::ConntrackList { filter: filter.clone(), cursor: from };
        let (sessions, next) = match talk.call(&request).map_err(refused)? {
            Reply::Sessions { sessions, next } => (sessions, next),
            other => return Err(strange(&other)),
        };
        let mut text = String::new();
        for session in &sessions {
            if args.json {
                text.push_str(if first { "[\n" } else { ",\n" });
                text.push_str(&serde_json::to_string(session).unwrap_or_default());
            } else {
                text.push_str(&line(session));
            }
            first = false;
        }
        if !text.is_empty() {
            say(&text);
        }
        cursor = next;
    }
    if args.json {
        say(if first { "[]\n" } else { "\n]\n" });
    }
    Ok(())
}

fn count(client: &Client, args: &ReadArgs) -> Outcome {
    let filter = SessionFilter::from(&args.filter);
    let ask = |cursor| Request::ConntrackCount { filter: filter.clone(), cursor };
    let count = sum(&mut client.converse().map_err(refused)?, ask)?;
    if args.json {
        super::print_json(&serde_json::json!({ "count": count }));
    } else {
        say(&format!("{count}\n"));
    }
    Ok(())
}

fn flush(client: &Client, args: &ReadArgs, quiet: bool) -> Outcome {
    let filter = SessionFilter::from(&args.filter);
    let ask = |cursor| Request::ConntrackFlush { filter: filter.clone(), cursor };
    let count = sum(&mut client.converse().map_err(refused)?, ask)?;
    if args.json {
        super::print_json(&serde_json::json!({ "ended": count }));
    } else if !quiet {
        say(&format!("{count} sessions ended\n"));
    }
    Ok(())
}

fn events(client: &Client, args: &EventArgs) -> Outcome {
    let filter = SessionFilter::from(&args.filter);
    let request = Request::ConntrackEvents { filter, mappings: args.mappings };
    follow(client, &request, args.timeout, |time_ms, event| {
        let Event::Session { detail, session, .. } = &event else { return false };
        if args.json {
            json_event(time_ms, &event);
            return true;
        }
        let stamp = if args.timestamp { format!("{} ", timestamp(time_ms)) } else { String::new() };
        let word = if *detail == SessionDetail::Begun { "[NEW]" } else { "[DESTROY]" };
        say(&format!("{stamp}{word:<9} {}", line(session)));
        true
    })
}

pub(crate) fn json_event(time_ms: u64, event: &Event) {
    let mut value = serde_json::json!(event);
    if let Some(members) = value.as_object_mut() {
        members.insert("time_ms".to_owned(), time_ms.into());
    }
    say(&format!("{value}\n"));
}

/// Hands on what is told until `take` has had enough or the user has.
pub(crate) fn follow(
    client: &Client,
    request: &Request,
    timeout: Option<u64>,
    mut take: impl FnMut(u64, Event) -> bool,
) -> Outcome {
    let interrupted = crate::signal::catch_interrupt();
    let mut stream = client.subscribe(request).map_err(refused)?;
    let deadline = timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    loop {
        match stream.next(deadline, &interrupted).map_err(refused)? {
            Heard::Event(Reply::Event { event: Event::Missed { count }, .. }) => {
                complain(&format!("warning: {count} events were missed"));
            }
            Heard::Event(Reply::Event { time_ms, event }) => {
                if !take(time_ms, event) {
                    return Ok(());
                }
            }
            Heard::Event(other) => return Err(strange(&other)),
            Heard::Late | Heard::Interrupt => return Ok(()),
        }
    }
}

/// Asks until there is no more.
fn sum(talk: &mut Conversation, ask: impl Fn(u64) -> Request) -> Result<u64, crate::outcome::Refusal> {
    let (mut total, mut cursor) = (0, Some(0));
    while let Some(from) = cursor {
        match talk.call(&ask(from)).map_err(refused)? {
            Reply::SessionCount { count, next } => {
                total += count;
                cursor = next;
            }
            other => return Err(strange(&other)),
        }
    }
    Ok(total)
}

/// As conntrack prints it, in columns; `nat` is the guest's end as the world sees it.
pub(crate) fn line(session: &SessionInfo) -> String {
    let state = session.state.map_or("", Phase::name);
    let answered = if session.assured { "[ASSURED]" } else { "[UNREPLIED]" };
    let nat = format!("{}:{}", session.outside, session.outside_port);
    // Writing to a String cannot fail.
    let mut line = String::new();
    let _ = write!(line, "{:<5} {:>5} {state:<11} ", session.proto, session.timeout);
    let _ = write!(line, "src={:<15} dst={:<15} ", session.inside, session.remote);
    if session.proto == "icmp" {
        let _ = write!(line, "{:<23} ", format!("id={}", session.inside_port));
    } else {
        let _ = write!(line, "sport={:<5} dport={:<5} ", session.inside_port, session.remote_port);
    }
    let guest = session.guest.as_deref().unwrap_or("-");
    let _ = writeln!(line, "nat={nat:<21} {answered:<11} network={} guest={guest}", session.network);
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> SessionInfo {
        SessionInfo {
            network: "natntw".into(),
            guest: Some("node-2".into()),
            mac: "52:54:00:00:00:01".into(),
            proto: "tcp".into(),
            state: Some(Phase::Established),
            assured: true,
            timeout: 7440,
            age: 3,
            inside: Ipv4Addr::new(192, 168, 100, 10),
            inside_port: 40000,
            remote: Ipv4Addr::new(203, 0, 113, 1),
            remote_port: 80,
            outside: Ipv4Addr::new(203, 0, 113, 2),
            outside_port: 61234,
        }
    }

    #[test]
    fn lines_stand_below_each_other() {
        let tcp = line(&session());
        assert_eq!(
            tcp,
            "tcp    7440 ESTABLISHED src=192.168.100.10  dst=203.0.113.1     sport=40000 dport=80    \
             nat=203.0.113.2:61234     [ASSURED]   network=natntw guest=node-2\n"
        );
        let ping = SessionInfo { proto: "icmp".into(), state: None, guest: None, ..session() };
        let ping = line(&ping);
        for word in ["src=", "dst=", "nat=", "network="] {
            assert_eq!(ping.find(word), tcp.find(word), "{ping}{tcp}");
        }
        assert!(ping.contains(" id=40000 ") && ping.ends_with("guest=-\n"), "{ping}");
    }

    #[test]
    fn times_have_units() {
        let read: Vec<_> = ["90", "90s", "5m", "2h", "1d"].map(|text| seconds(text).ok()).into();
        assert_eq!(read, [90, 90, 300, 7200, 86_400].map(Some));
        for wrong in ["", "m", "5x", "-1", "5000000d", "1.5h", "5 m", "5é"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
