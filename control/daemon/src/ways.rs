//! By which way a network leaves: its uplink, or the host's own routing.

use ipnet::Ipv4Net;
use pontoon_netxml::{Mode, Network, PONTOON_NAMESPACE, Uplink, UplinkKind};
use pontoon_proto::api::Failure;

use crate::document;
use crate::failure::{Answer, fail_help, internal};
use crate::netlink;

/// The uplink a network is to use; `None` for isolated networks, and for routed ones that leave through the host.
///
/// What cannot run is refused here, when a network is started, never when it is defined: files that are on disk stay
/// usable.
pub(crate) fn wanted(network: &Network) -> Answer<Option<Uplink>> {
    if let Some(error) = network.unsupported() {
        return Err(fail_help(error.message, error.help.unwrap_or_default()));
    }
    match network.forward.mode {
        Mode::Isolated | Mode::Bridge => Ok(None),
        Mode::Nat | Mode::Route | Mode::Open => match (&network.uplink, &network.forward.dev) {
            (Some(uplink), dev) if uplink.kind == UplinkKind::User => {
                by_sockets(network, uplink, dev.as_ref())
            }
            (Some(uplink), _) if uplink.kind == UplinkKind::Shared && network.forward.mode != Mode::Nat => {
                Err(not_translated(network))
            }
            (Some(uplink), Some(dev)) if uplink.dev.is_empty() => Ok(Some(with_host(dev))),
            (Some(uplink), Some(dev)) if uplink.dev != *dev => Err(disagree(network, &uplink.dev, dev)),
            (Some(uplink), _) => Ok(Some(uplink.clone())),
            (None, dev) if network.forward.mode == Mode::Nat => {
                Ok(Some(with_host(dev.as_deref().unwrap_or_default())))
            }
            (None, Some(dev)) => of_its_own(network, dev).map(Some),
            (None, None) => through_the_host(network).map(|()| None),
        },
        mode => Err(fail_help(
            format!(
                "unsupported configuration: network '{}' has forward mode='{mode}', which is not supported yet",
                network.name
            ),
            "forward modes nat, route, open and bridge and networks without <forward> (isolated) can be started",
        )),
    }
}

/// The host's own address, as libvirt's NAT has it.
fn with_host(dev: &str) -> Uplink {
    let (kind, dev) = (UplinkKind::Shared, dev.to_owned());
    Uplink { kind, dev, netns: None, address: None, gateway: None }
}

/// Sockets have the host's address, and leave where the host routes them.
fn by_sockets(network: &Network, uplink: &Uplink, dev: Option<&String>) -> Answer<Option<Uplink>> {
    let name = &network.name;
    if network.forward.mode != Mode::Nat {
        return Err(not_translated(network));
    }
    if let Some(dev) = dev {
        return Err(fail_help(
            format!(
                "unsupported configuration: network '{name}' has forward dev='{dev}' but leaves by sockets of the host"
            ),
            "leave out forward dev: the host's routes decide where sockets send; or write kind='shared'",
        ));
    }
    if network.forward.nat_addresses.is_some() {
        return Err(fail_help(
            format!(
                "unsupported configuration: network '{name}' has <nat><address> but leaves by sockets of the host"
            ),
            "leave out <address>: sockets have the host's own; or write kind='direct'",
        ));
    }
    Ok(Some(uplink.clone()))
}

fn not_translated(network: &Network) -> Failure {
    let (name, mode) = (&network.name, network.forward.mode);
    fail_help(
        format!(
            "unsupported configuration: network '{name}' has forward mode='{mode}', for which the host's address cannot \
             be shared"
        ),
        "only NAT leaves from the host's address: leave out <pontoon:uplink> and let the host forward, or write \
         kind='direct'",
    )
}

/// `<forward dev>` of a routed network: an address of pontoon's own on that interface, from a DHCP server there.
fn of_its_own(network: &Network, dev: &str) -> Answer<Uplink> {
    let listing = |error| internal(format!("listing interfaces: {error}"));
    let link = netlink::index(dev).map_err(listing)?;
    let addresses = netlink::addresses().map_err(listing)?;
    let used = link.and_then(|link| addresses.into_iter().find(|(index, _)| *index == link));
    match used {
        Some((_, net)) => Err(shared(network, dev, net)),
        None => Ok(Uplink {
            kind: UplinkKind::Direct,
            dev: dev.to_owned(),
            netns: None,
            address: None,
            gateway: None,
        }),
    }
}

fn shared(network: &Network, dev: &str, net: Ipv4Net) -> Failure {
    fail_help(
        format!(
            "unsupported configuration: network '{}' has forward dev='{dev}', and the host itself has the address {} \
             there, which cannot be shared yet",
            network.name,
            net.addr()
        ),
        format!(
            "give the network an address of its own in {}, for example\n  <pontoon:uplink \
             xmlns:pontoon='{PONTOON_NAMESPACE}' kind='direct' dev='{dev}' address='ADDRESS/{}'/>\nor leave out address \
             to ask a DHCP server for one",
            net.trunc(),
            net.prefix_len()
        ),
    )
}

fn disagree(network: &Network, uplink: &str, dev: &str) -> Failure {
    fail_help(
        format!(
            "unsupported configuration: network '{}' has forward dev='{dev}' but a <pontoon:uplink> on '{uplink}'",
            network.name
        ),
        "name the same interface in both places, or leave out forward dev",
    )
}

/// A routed network without an uplink leaves by the host's routes, if the host forwards.
fn through_the_host(network: &Network) -> Answer<()> {
    const SWITCH: &str = "/proc/sys/net/ipv4/ip_forward";
    let (name, mode) = (&network.name, network.forward.mode);
    match std::fs::read_to_string(SWITCH) {
        Ok(value) if value.trim() != "0" => Ok(()),
        _ if document::address(network).is_none() => Ok(()),
        _ => Err(fail_help(
            format!(
                "unsupported configuration: network '{name}' has forward mode='{mode}' but no <pontoon:uplink>, and this \
                 host does not forward"
            ),
            format!(
                "let the host forward with `sysctl net.ipv4.ip_forward=1`, or add the interface the network leaves by, \
                 for example\n  <pontoon:uplink xmlns:pontoon='{PONTOON_NAMESPACE}' kind='direct' dev='eth1'/>"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(parts: &str) -> Network {
        let text = format!(
            "<network><name>n</name><uuid>3e3fce45-4f53-4fa7-bb32-11f34168b82b</uuid><bridge name='virbr1'/>{parts}\
             <ip address='10.1.0.1' prefix='24'/></network>"
        );
        pontoon_netxml::parse(&text).expect("network")
    }

    const UPLINK: &str = "<pontoon:uplink xmlns:pontoon='urn:pontoon:network:1' kind='direct' dev='eth1'/>";

    #[test]
    fn what_cannot_run_is_refused_with_a_way_out() {
        assert_eq!(wanted(&network("")).expect("isolated"), None);
        let failure =
            wanted(&network(&format!("<forward mode='nat' dev='eth0'/>{UPLINK}"))).expect_err("two devices");
        assert_eq!(
            failure.message,
            "unsupported configuration: network 'n' has forward dev='eth0' but a <pontoon:uplink> on 'eth1'"
        );
    }

    #[test]
    fn nat_leaves_from_the_hosts_address_unless_the_definition_says_otherwise() {
        let way = |parts: &str| {
            let uplink = wanted(&network(parts)).expect("wanted").expect("an uplink");
            (uplink.kind, uplink.dev)
        };
        let shared = |dev: &str| (UplinkKind::Shared, dev.to_owned());
        let any = UPLINK.replace("direct' dev='eth1", "shared");
        assert_eq!(way("<forward/>"), shared(""));
        assert_eq!(way("<forward mode='nat' dev='eth1'/>"), shared("eth1"));
        assert_eq!(way(&format!("<forward/>{any}")), shared(""));
        assert_eq!(way(&format!("<forward dev='eth2'/>{any}")), shared("eth2"));
        assert_eq!(way(&format!("<forward/>{}", UPLINK.replace("direct", "shared"))), shared("eth1"));
        assert_eq!(way(&format!("<forward/>{UPLINK}")).0, UplinkKind::Direct);
        let sockets = UPLINK.replace("direct' dev='eth1", "user");
        assert_eq!(way(&format!("<forward/>{sockets}")), (UplinkKind::User, String::new()));
        let failure = wanted(&network(&format!("<forward dev='eth1'/>{sockets}"))).expect_err("a device");
        assert!(failure.message.contains("forward dev='eth1' but leaves by sockets"), "{}", failure.message);
        let failure = wanted(&network(&format!("<forward mode='route'/>{any}"))).expect_err("not translated");
        assert!(
            failure.message.contains("forward mode='route', for which the host's address cannot be shared")
        );
    }

    #[test]
    fn a_device_alone_of_a_routed_network_is_an_uplink_with_an_address_of_its_own() {
        let routed = network("<forward mode='route' dev='pt-none'/>");
        let uplink = wanted(&routed).expect("wanted").expect("an uplink");
        assert_eq!((uplink.dev.as_str(), uplink.kind, uplink.address), ("pt-none", UplinkKind::Direct, None));
        for mode in ["nat", "route"] {
            let same = network(&format!("<forward mode='{mode}' dev='eth1'/>{UPLINK}"));
            assert_eq!(wanted(&same).expect("wanted"), same.uplink);
        }
        let failure = shared(&network(""), "eth1", "10.0.0.5/24".parse().expect("net"));
        assert!(
            failure.message.contains("10.0.0.5") && failure.detail.expect("help").contains("10.0.0.0/24")
        );
    }
}
