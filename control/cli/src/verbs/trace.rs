//! `trace`: what becomes of frames.

use std::fmt::Write;
use std::process::ExitCode;

use clap::Args;
use pontoon_proto::api::Request;
use pontoon_proto::event::Event;
use pontoon_proto::watch::{FrameInfo, TraceInfo, Verdict};

use super::conntrack::{follow, json_event};
use super::events::timestamp;
use crate::client::Client;
use crate::outcome::say;

#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    /// Frames of this network, by name or UUID, and of its uplink.
    #[arg(long, value_name = "NETWORK")]
    network: String,
    /// Which of them: `host ADDRESS`, `net ADDRESS/PREFIX`, `port NUMBER`, `mac ADDRESS`, `tcp`, `udp`, `icmp`, `ip`, `ip6`,
    /// `arp`, `proto NUMBER`, with `and` between; for either end, and for the frame as it came or as it left.
    #[arg(long = "match", value_name = "CONDITIONS", default_value = "")]
    matching: String,
    /// End after so many frames.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    count: Option<u32>,
    /// End after so many seconds.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Print JSON, an object a line.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(client: &Client, args: &TraceArgs) -> ExitCode {
    let (network, matching, count) = (args.network.clone(), args.matching.clone(), args.count);
    let mut left = args.count.unwrap_or(u32::MAX);
    let done =
        follow(client, &Request::Trace { network, matching, count }, args.timeout, |time_ms, event| {
            let Event::Trace { trace } = &event else { return false };
            if args.json {
                json_event(time_ms, &event);
            } else {
                say(&text(time_ms, trace));
            }
            // Who takes a frame over has more to tell.
            let over = matches!(trace.verdict, Verdict::HandedOver { .. });
            left -= u32::from(args.count.is_some() && !over);
            left > 0
        });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(refusal) => {
            refusal.print();
            ExitCode::FAILURE
        }
    }
}

fn text(time_ms: u64, trace: &TraceInfo) -> String {
    // Writing to a String cannot fail.
    let mut text = String::new();
    let frame = &trace.frame;
    let port = named(&trace.port, trace.guest.as_deref());
    let _ = writeln!(text, "{} {port}: {}, {} octets", timestamp(time_ms), ends(frame), frame.length);
    if trace.handed {
        let _ = writeln!(text, "    taken over by worker {} from another", trace.worker);
    }
    if !trace.stages.is_empty() {
        let _ = writeln!(text, "    passed {}", trace.stages.join(", "));
    }
    for sent in &trace.sent {
        let port = named(&sent.port, sent.guest.as_deref());
        let changed = if sent.frame.same_ends(frame) { String::new() } else { ends(&sent.frame) };
        let as_what = if changed.is_empty() { changed } else { format!(": {changed}") };
        let _ = writeln!(text, "    sent to {port}{as_what}");
    }
    if trace.more > 0 {
        let _ = writeln!(text, "    sent to {} more", trace.more);
    }
    match &trace.verdict {
        Verdict::Sent => {}
        Verdict::HandedOver { worker } => {
            let _ = writeln!(text, "    handed over to worker {worker}, which owns its session or answers");
        }
        Verdict::Dropped { reason, help } => {
            let _ = writeln!(text, "    dropped, {reason}: {help}");
        }
        Verdict::Consumed => {
            let waits = trace.stages.iter().any(|stage| stage == "arp-wait");
            let what = if waits { "kept until the next hop has answered ARP" } else { "went no further" };
            let _ = writeln!(text, "    {what}");
        }
    }
    text
}

fn named(port: &str, guest: Option<&str>) -> String {
    guest.map_or_else(|| port.to_owned(), |guest| format!("{port} of {guest}"))
}

trait Ends {
    fn same_ends(&self, other: &Self) -> bool;
}

impl Ends for FrameInfo {
    fn same_ends(&self, other: &Self) -> bool {
        let all = |frame: &Self| (frame.proto.clone(), frame.src, frame.dst, frame.sport, frame.dport);
        all(self) == all(other)
    }
}

fn ends(frame: &FrameInfo) -> String {
    let (Some(source), Some(destination)) = (frame.src, frame.dst) else {
        return format!("{} {} > {}", frame.ethertype, frame.source, frame.destination);
    };
    let proto = frame.proto.as_deref().unwrap_or(&frame.ethertype);
    match (proto, frame.sport, frame.dport) {
        ("icmp", Some(kind), Some(id)) => format!("icmp type {kind} id {id} {source} > {destination}"),
        (_, Some(sport), Some(dport)) => format!("{proto} {source}:{sport} > {destination}:{dport}"),
        _ => format!("{proto} {source} > {destination}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pontoon_proto::watch::SentInfo;

    fn frame(source: &str, sport: u16) -> FrameInfo {
        FrameInfo {
            length: 74,
            source: "52:54:00:00:00:01".into(),
            destination: "52:54:00:00:00:02".into(),
            ethertype: "ipv4".into(),
            proto: Some("tcp".into()),
            src: source.parse().ok(),
            dst: "203.0.113.80".parse().ok(),
            sport: Some(sport),
            dport: Some(80),
        }
    }

    #[test]
    fn a_frame_is_told_with_its_way_and_its_end() {
        let trace = TraceInfo {
            network: "natntw".into(),
            worker: 1,
            handed: true,
            port: "vnet0".into(),
            guest: Some("node-2".into()),
            frame: frame("192.168.100.10", 40000),
            stages: vec!["gateway".into(), "nat-out".into()],
            verdict: Verdict::Sent,
            sent: vec![SentInfo { port: "up0".into(), guest: None, frame: frame("203.0.113.2", 61000) }],
            more: 0,
        };
        let words = "1970-01-01 00:00:00.007+0000 vnet0 of node-2: tcp 192.168.100.10:40000 > 203.0.113.80:80, 74 octets
    taken over by worker 1 from another
    passed gateway, nat-out
    sent to up0: tcp 203.0.113.2:61000 > 203.0.113.80:80
";
        assert_eq!(text(7, &trace), words);
        let verdict = Verdict::Dropped { reason: "nat_quota".into(), help: "too many".into() };
        let dropped = TraceInfo { verdict, sent: Vec::new(), handed: false, ..trace };
        assert!(text(7, &dropped).ends_with("nat-out\n    dropped, nat_quota: too many\n"));
    }
}
