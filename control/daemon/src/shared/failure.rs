//! What to say when the host's address cannot be shared, and what to do about it.

use std::io;

use pontoon_netxml::PONTOON_NAMESPACE;
use pontoon_proto::api::Failure;

use super::hook::Step;
use super::ports::Range;
use super::sockets::{self, Clash};
use crate::failure::fail_help;
use crate::live::LiveUplink;

/// The other way out.
fn direct() -> String {
    format!(
        "or give the network an address of its own:\n  <pontoon:uplink xmlns:pontoon='{PONTOON_NAMESPACE}' \
         kind='direct' dev='eth1'/>"
    )
}

/// The kernel did not take a program.
pub(super) fn refused(uplink: &LiveUplink, step: Step, error: &io::Error) -> Failure {
    let place = uplink.target.as_ref().map_or(uplink.dev.as_str(), |target| target.name.as_str());
    let message = format!(
        "internal error: the host's address on '{place}' cannot be shared: {}: {error}",
        match step {
            Step::Map => "creating an eBPF map",
            Step::Load => "loading an eBPF program",
            Step::Link => "attaching an eBPF program",
            Step::Qdisc => "adding the clsact queueing discipline",
            Step::Filter => "adding an eBPF filter",
        }
    );
    fail_help(message, format!("{}; {}", advice(step, error), direct()))
}

fn advice(step: Step, error: &io::Error) -> &'static str {
    match (step, error.raw_os_error()) {
        (_, Some(libc::EPERM | libc::EACCES)) => {
            "the daemon needs CAP_BPF and CAP_NET_ADMIN outside of any user namespace: run it as root, or in a container \
             with --cap-add BPF --cap-add NET_ADMIN; a kernel that is locked down allows no programs"
        }
        (_, Some(libc::ENOSYS)) => "this kernel is built without CONFIG_BPF_SYSCALL",
        (Step::Qdisc, _) => {
            "this kernel is older than 6.6 and has no CONFIG_NET_SCH_INGRESS (module sch_ingress)"
        }
        (Step::Filter, _) => {
            "this kernel is older than 6.6 and has no CONFIG_NET_CLS_BPF or CONFIG_NET_CLS_ACT (module cls_bpf)"
        }
        _ => "this needs Linux 5.10 with CONFIG_BPF_SYSCALL and CONFIG_NET_CLS_ACT",
    }
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
