//! `status`: what the datapath counts.

use std::fmt::Write;
use std::process::ExitCode;

use pontoon_proto::api::{Reply, Request};
use pontoon_proto::message::Status;

use crate::client::Client;
use crate::outcome::{Refusal, say};
use crate::vsh::shell::{refused, strange};

pub(crate) fn status(client: &Client, json: bool, quiet: bool) -> ExitCode {
    match client.call(&Request::Status).map_err(refused) {
        Ok(Reply::Status { status, pid, .. }) if json => {
            super::print_json(&serde_json::json!({ "pid": pid, "status": status }));
            ExitCode::SUCCESS
        }
        Ok(Reply::Status { status, pid, .. }) => {
            say(&status_text(&status, pid));
            if !quiet {
                say("\n");
            }
            ExitCode::SUCCESS
        }
        Ok(other) => fail(&strange(&other)),
        Err(refusal) => fail(&refusal),
    }
}

fn fail(refusal: &Refusal) -> ExitCode {
    refusal.print();
    ExitCode::FAILURE
}

fn status_text(status: &Status, pid: u32) -> String {
    // Writing to a String cannot fail.
    let mut text = String::new();
    let _ = writeln!(
        text,
        "datapath pid {pid}, generation {}, {} NAT sessions",
        status.generation, status.sessions
    );
    for uplink in &status.uplinks {
        let address =
            uplink.address.map_or_else(|| "no address yet".to_owned(), |address| address.to_string());
        let gateway = uplink.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
        let _ = writeln!(text, "uplink {}: {address}{gateway}", uplink.id);
    }
    for port in &status.ports {
        let learned = status.macs.iter().filter(|entry| entry.port == port.port).count();
        let _ = writeln!(
            text,
            "port {}: received {} packets {} bytes {} dropped, sent {} packets {} bytes {} dropped, {learned} addresses",
            port.port,
            port.rx_packets,
            port.rx_bytes,
            port.rx_drops,
            port.tx_packets,
            port.tx_bytes,
            port.tx_drops
        );
    }
    if !status.drops.is_empty() {
        let _ = writeln!(text, "drops:");
    }
    for (reason, count) in &status.drops {
        let _ = writeln!(text, "  {reason:<24} {count}");
    }
    text
}
