//! What to say when the host's address cannot be shared, and what to do about it.

use std::io;

use pontoon_netxml::PONTOON_NAMESPACE;
use pontoon_proto::api::Failure;

use super::ports::Range;
use super::sockets::{self, Clash};
use crate::ebpf::hook::Step;
use crate::failure::fail_help;
use crate::live::LiveUplink;

/// The other ways out.
fn direct() -> String {
    format!(
        "or give the network an address of its own:\n  <pontoon:uplink xmlns:pontoon='{PONTOON_NAMESPACE}' \
         kind='direct' dev='eth1'/>\nor let it leave by sockets of the host, which needs no privilege:\n  \
         <pontoon:uplink xmlns:pontoon='{PONTOON_NAMESPACE}' kind='user'/>"
    )
}

/// The kernel did not take a program.
pub(super) fn refused(uplink: &LiveUplink, step: Step, error: &io::Error) -> Failure {
    let place = uplink.target.as_ref().map_or(uplink.dev.as_str(), |target| target.name.as_str());
    let message =
        format!("internal error: the host's address on '{place}' cannot be shared: {step}: {error}");
    fail_help(message, format!("{}; {}", step.advice(error), direct()))
}

/// Somebody has sockets on ports that NAT is to have.
pub(super) fn clash(network: &str, (first, last): Range, clashes: &[Clash]) -> Failure {
    fail_help(
        format!(
            "operation failed: NAT of network '{network}' cannot have the host's ports {first}-{last}: {}",
            sockets::name(clashes)
        ),
        format!(
            "stop that, or name ports that nobody uses with <nat><port start='...' end='...'/></nat>; {}",
            direct()
        ),
    )
}

/// The host may give NAT's ports to its own programs.
pub(super) fn reservation(error: &io::Error) -> Failure {
    fail_help(
        format!("internal error: cannot write /proc/sys/net/ipv4/ip_local_reserved_ports: {error}"),
        format!(
            "NAT's ports have to be kept from the host's programs: let the daemon write there, or name ports outside of \
             /proc/sys/net/ipv4/ip_local_port_range with <nat><port start='...' end='...'/></nat>; {}",
            direct()
        ),
    )
}
