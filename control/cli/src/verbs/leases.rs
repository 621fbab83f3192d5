//! `net-dhcp-leases`, and waiting for a lease.

use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use pontoon_proto::api::{LeaseInfo, Reply, Request};

use crate::outcome::{Outcome, Refusal, say};
use crate::tables;
use crate::vsh::parse::Args;
use crate::vsh::shell::{Shell, strange};
use crate::vsh::table::{Access, Command, Complete, Opt};

/// Seconds `--wait` waits when it does not say.
pub(crate) const PATIENCE: u64 = 30;
/// Between two questions to the daemon.
const PAUSE: Duration = Duration::from_millis(200);

pub(crate) const LEASES: Command = Command {
    name: "net-dhcp-leases",
    help: "print lease info for a given network",
    about: "Print lease info for a given network",
    options: &[
        Opt::network(),
        Opt::text("mac", "MAC address").unwanted().completed(Complete::Mac),
        Opt::FORMAT,
        Opt::JSON,
        Opt::wait("wait until there is a lease (30 seconds, or as many as given)"),
    ],
    examples: &[
        "pontoon net-dhcp-leases default",
        "pontoon net-dhcp-leases default --mac 52:54:00:d7:8d:61 --wait=60",
    ],
    access: Access::Reads,
    run: leases,
};

/// Asks again and again until `found` has something; `None` when the time is over.
pub(crate) fn wait_for<T>(
    seconds: u64,
    mut find: impl FnMut() -> Result<Option<T>, Refusal>,
) -> Result<Option<T>, Refusal> {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(found) = find()? {
            return Ok(Some(found));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        std::thread::sleep(PAUSE.min(deadline.saturating_duration_since(Instant::now())));
    }
}

/// The leases of a network, sorted by MAC address.
pub(crate) fn of(
    shell: &Shell,
    network: &str,
    mac: Option<&str>,
    failed: impl FnOnce() -> String,
) -> Result<Vec<LeaseInfo>, Refusal> {
    let request = Request::NetDhcpLeases { network: network.to_owned(), mac: mac.map(str::to_owned) };
    match shell.call_or(&request, failed)? {
        Reply::Leases { mut leases } => {
            leases.sort_by_key(|lease| lease.mac.to_ascii_lowercase());
            Ok(leases)
        }
        other => Err(strange(&other)),
    }
}

fn leases(shell: &mut Shell, args: &Args) -> Outcome {
    let mac = args.text("mac")?;
    let typed = args.needed("network")?;
    let format = shell.format(args)?;
    let network = shell.network_named(typed)?;
    let failed = || format!("Failed to get leases info for {typed}");
    let found = match args.wait(PATIENCE)? {
        None => of(shell, &network.uuid, mac, failed)?,
        Some(seconds) => {
            let find = || {
                let found = of(shell, &network.uuid, mac, failed)?;
                Ok((!found.is_empty()).then_some(found))
            };
            let late = || Refusal::own(failed()).and(format!("no lease within {seconds} seconds"));
            wait_for(seconds, find)?.ok_or_else(late)?
        }
    };
    if args.has("json") {
        return shell.json(&found);
    }
    say(&tables::leases(&found, format, shell.quiet, &TimeZone::system()));
    Ok(())
}
