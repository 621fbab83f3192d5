//! `port-forward`.

use pontoon_netxml::{PortForward, PortRange, Protocol};
use pontoon_proto::api::{Affect, NetworkInfo, Reply, Request};
use serde::Serialize;

use super::update::affect;
use crate::outcome::{Outcome, Refusal, say};
use crate::vsh::parse::Args;
use crate::vsh::shell::{Shell, strange};
use crate::vsh::table::{Access, Command, Complete, Opt};

pub(crate) const PORT_FORWARD: Command = Command {
    name: "port-forward",
    help: "forward ports of the outside to a guest",
    about: "Add, list or delete ports of a NAT network's outside that lead to a guest.",
    options: &[
        Opt::needs("command", "add, list or delete").completed(Complete::Words(&["add", "list", "delete"])),
        Opt::network(),
        Opt::text("guest", "the guest's MAC address, host name or address"),
        Opt::text("proto", "tcp (default) or udp").completed(Complete::Words(&["tcp", "udp"])),
        Opt::text("address", "only this address of the outside"),
        Opt::text("dev", "the interface this is about"),
        Opt::flag("config", "affect next network startup"),
        Opt::flag("live", "affect running network"),
        Opt::flag("current", "affect current state of network"),
        Opt::JSON,
        Opt::words("ports", "PORT, PORT:GUESTPORT, FIRST-LAST or FIRST-LAST:GUESTPORT"),
    ],
    examples: &[
        "pontoon port-forward add default 8080:80 8443:443 --guest web --live --config",
        "pontoon port-forward add default 5000-5010 --proto udp --guest 52:54:00:d7:8d:61",
        "pontoon port-forward list default",
        "pontoon port-forward delete default 8080 8443",
    ],
    access: Access::Reads,
    run,
};

fn run(shell: &mut Shell, args: &Args) -> Outcome {
    match args.needed("command")? {
        "list" => list(shell, args),
        "add" => change(shell, args, "add-last", "added to"),
        "delete" => change(shell, args, "delete", "deleted from"),
        other => Err(Refusal::own(format!("unrecognized command name '{other}'"))),
    }
}

/// Ports as words of the command line have them.
fn ranges(words: &[String]) -> Result<Vec<PortRange>, Refusal> {
    let range = |word: &str| {
        let (outside, to) = word.split_once(':').map_or((word, None), |(a, b)| (a, Some(b)));
        let (start, end) = outside.split_once('-').map_or((outside, None), |(a, b)| (a, Some(b)));
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
        let (to, end) = (to.map(port), end.map(port));
        Some(PortRange {
            start: port(start)?,
            end: end.map_or(Some(None), |end| end.map(Some))?,
            to: to.map_or(Some(None), |to| to.map(Some))?,
            exclude: false,
        })
    };
    let read = |word: &String| {
        let odd =
            || Refusal::own(format!("'{word}' is no port: write 8080, 8080:80, 5000-5010 or 5000-5010:6000"));
        range(word).ok_or_else(odd)
    };
    words.iter().map(read).collect()
}

fn change(shell: &mut Shell, args: &Args, command: &str, done: &str) -> Outcome {
    shell.writes("virNetworkUpdate")?;
    let affect = affect(args)?;
    let network = shell.network(args)?;
    let ranges = ranges(args.list("ports"))?;
    if ranges.is_empty() {
        return Err(Refusal::own(format!("name the ports to {}", args.needed("command")?)));
    }
    let proto = match args.text("proto")?.unwrap_or("tcp") {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        other => {
            return Err(Refusal::own(format!("protocol '{other}' cannot be forwarded: tcp and udp can")));
        }
    };
    let address = args.text("address")?.map(str::parse).transpose();
    let address = address.map_err(|_| Refusal::own("--address takes an IPv4 address"))?;
    let guest = match (args.text("guest")?, command) {
        (Some(guest), _) => guest.to_owned(),
        // Nobody asks for it where something is deleted.
        (None, "delete") => "any".to_owned(),
        (None, _) => return Err(Refusal::own("name the guest with --guest")),
    };
    let dev = args.text("dev")?.map(str::to_owned);
    let count = ranges.len();
    // One forward a range, so that each can be deleted alone.
    for range in ranges {
        let forward =
            PortForward { proto, address, dev: dev.clone(), guest: guest.clone(), ranges: vec![range] };
        update(shell, &network, command, &forward, affect)?;
    }
    let what = if count == 1 { "Port forward" } else { "Port forwards" };
    shell.extra(&format!("{what} {done} network {}\n", network.name));
    Ok(())
}

fn update(
    shell: &mut Shell,
    network: &NetworkInfo,
    command: &str,
    forward: &PortForward,
    affect: Affect,
) -> Outcome {
    let request = Request::NetUpdate {
        network: network.uuid.clone(),
        command: command.to_owned(),
        section: "port-forward".to_owned(),
        xml: forward.to_xml(),
        parent_index: -1,
        affect,
        file: "port-forward".to_owned(),
    };
    shell.call_or(&request, || format!("Failed to update network {}", network.name)).map(drop)
}

/// One row of the list.
#[derive(Debug, Serialize)]
struct Row {
    proto: &'static str,
    address: Option<std::net::Ipv4Addr>,
    first: u16,
    last: u16,
    guest: String,
    to: u16,
}

fn list(shell: &mut Shell, args: &Args) -> Outcome {
    let network = shell.network(args)?;
    let inactive = args.has("config");
    let xml = match shell.call(&Request::NetDumpxml { network: network.uuid, inactive })? {
        Reply::Xml { xml } => xml,
        other => return Err(strange(&other)),
    };
    let definition = pontoon_netxml::parse_definition(&xml).map_err(|error| Refusal::own(error.message))?;
    let rows = definition.port_forwards.iter().flat_map(|forward| {
        forward.pieces().into_iter().map(|piece| Row {
            proto: forward.proto.as_str(),
            address: forward.address,
            first: piece.first,
            last: piece.last,
            guest: forward.guest.clone(),
            to: piece.to,
        })
    });
    let rows: Vec<Row> = rows.collect();
    if args.has("json") {
        return shell.json(&rows);
    }
    say(&table(&rows, shell.quiet));
    Ok(())
}

fn table(rows: &[Row], quiet: bool) -> String {
    let range = |first: u16, last: u16| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    let line = |row: &Row| {
        let address = row.address.map_or_else(|| "*".to_owned(), |address| address.to_string());
        vec![
            row.proto.to_owned(),
            address,
            range(row.first, row.last),
            row.guest.clone(),
            range(row.to, row.to + (row.last - row.first)),
        ]
    };
    let rows: Vec<_> = rows.iter().map(line).collect();
    crate::tables::forwards(rows, quiet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_as_they_are_written() {
        let one = |word: &str| {
            ranges(&[word.to_owned()]).ok().map(|ranges| (ranges[0].start, ranges[0].end, ranges[0].to))
        };
        assert_eq!(one("8080"), Some((8080, None, None)));
        assert_eq!(one("8080:80"), Some((8080, None, Some(80))));
        assert_eq!(one("5000-5010"), Some((5000, Some(5010), None)));
        assert_eq!(one("5000-5010:6000"), Some((5000, Some(5010), Some(6000))));
        for odd in ["", "0", "80:", ":80", "80-", "65536", "x", "80:0"] {
            assert_eq!(one(odd), None, "{odd}");
        }
    }
}
