//! Port forwards: where their guests are, and what stands in their way.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use pontoon_netxml::{GuestName, Network, Piece, common};
use pontoon_proto::document::PortForward;
use pontoon_proto::message::Lease;

use crate::document::v4;
use crate::failure::{Answer, fail_help};
use crate::known::Known;
use crate::leases;
use crate::live::{Kind, Live, LiveNetwork, LiveUplink};
use crate::state::State;

/// What the datapath is told.
pub(crate) fn describe(live: &LiveNetwork) -> Vec<PortForward> {
    let each = live.network.port_forwards.iter().flat_map(|forward| {
        let guest = live.guests.get(&forward.guest).copied();
        let (protocol, address) = (forward.proto.number(), forward.address);
        let piece = move |Piece { first, last, to }: Piece| PortForward {
            protocol,
            address,
            ports: (first, last),
            to,
            guest,
        };
        forward.pieces().into_iter().map(piece)
    });
    each.collect()
}

/// First and last ports of the outside that lead to guests.
pub(crate) fn ports(network: &Network) -> impl Iterator<Item = (u16, u16)> {
    let pieces = network.port_forwards.iter().flat_map(pontoon_netxml::PortForward::pieces);
    pieces.map(|piece| (piece.first, piece.last))
}

/// Protocol, address if it is one only, and first and last ports of the outside that lead to guests.
pub(crate) fn endpoints(network: &Network) -> impl Iterator<Item = (u8, Option<Ipv4Addr>, (u16, u16))> + '_ {
    network.port_forwards.iter().flat_map(|forward| {
        let (protocol, address) = (forward.proto.number(), forward.address);
        forward.pieces().into_iter().map(move |piece| (protocol, address, (piece.first, piece.last)))
    })
}

impl Known {
    /// Notes where the guests of forwards are.
    pub(crate) fn locate(&self, live: &mut Live) {
        for network in &mut live.networks {
            let names =
                network.network.port_forwards.iter().map(|forward| (&forward.guest, forward.guest_name()));
            let names: BTreeMap<_, _> = names.collect();
            let leases = if names.is_empty() { Vec::new() } else { self.leases_of(&network.network.name) };
            let places = names.into_iter();
            let places = places
                .filter_map(|(text, name)| Some((text.clone(), place(&network.network, &leases, &name)?)));
            network.guests = places.collect();
        }
    }

    fn leases_of(&self, network: &str) -> Vec<Lease> {
        match leases::read(self.store.disk(), &self.store.leases(network)) {
            Ok(log) => leases::current(log.leases, leases::now()),
            Err(error) => {
                tracing::warn!("leases of network '{network}' cannot be read: {error}");
                Vec::new()
            }
        }
    }
}

/// Where a guest is: by the lease that lasts longest, else as the definition has it.
fn place(network: &Network, leases: &[Lease], name: &GuestName) -> Option<Ipv4Addr> {
    let same = |one: &str, other: &str| one.eq_ignore_ascii_case(other);
    let leased = |lease: &&Lease| match name {
        GuestName::Mac(mac) => lease.mac == *mac,
        GuestName::Host(host) => lease.hostname.as_deref().is_some_and(|other| same(other, host)),
        GuestName::Address(_) => false,
    };
    if let GuestName::Address(address) = name {
        return Some(*address);
    }
    let lasting = |lease: &&Lease| if lease.expiry == 0 { u64::MAX } else { lease.expiry };
    if let Some(lease) = leases.iter().filter(leased).max_by_key(lasting) {
        return Some(lease.ip);
    }
    let mut hosts = network.ips.iter().flat_map(|ip| &ip.hosts);
    let host = hosts.find(|host| match name {
        GuestName::Mac(mac) => host.mac == Some(*mac),
        GuestName::Host(wanted) => host.name.as_deref().is_some_and(|name| same(name, wanted)),
        GuestName::Address(_) => false,
    });
    if let Some(address) = host.and_then(|host| host.ip).and_then(v4) {
        return Some(address);
    }
    let GuestName::Host(wanted) = name else { return None };
    let named = network.dns.hosts.iter().find(|host| host.names.iter().any(|name| same(name, wanted)));
    named.and_then(|host| v4(host.ip))
}

impl State {
    pub(crate) fn locate_guests(&mut self) {
        let mut live = self.live.clone();
        self.known.locate(&mut live);
        if live != self.live {
            self.live = live;
        }
    }

    /// Has forwards follow guests whose lease is another one now.
    pub(crate) fn follow_guests(&mut self) {
        let before = self.live.clone();
        self.locate_guests();
        if before != self.live
            && let Err(failure) = self.apply()
        {
            tracing::error!("port forwards: {}", failure.message);
        }
    }

    /// Refuses forwards of the active network `id` that cannot work as `next` has them.
    pub(crate) fn check_forwards(&mut self, id: u16, next: &Network) -> Answer<()> {
        if next.port_forwards.is_empty() {
            return Ok(());
        }
        let Some(live) = self.live.by_id(id).cloned() else { return Ok(()) };
        let uplink = self.live.uplinks.iter().find(|uplink| Some(uplink.id) == live.uplink).cloned();
        if uplink.as_ref().is_some_and(|uplink| uplink.kind == Kind::User) {
            return Err(by_sockets(next));
        }
        for forward in &next.port_forwards {
            if let Some(uplink) = &uplink {
                check_device(next, forward, uplink)?;
            }
            self.check_others(&live, next, forward)?;
        }
        // What is active already is not asked about again; a network that starts is in `live` as it wants to be.
        let known = if live.ports.is_some() { live.network.port_forwards } else { Vec::new() };
        let fresh: Vec<_> = next.port_forwards.iter().filter(|forward| !known.contains(forward)).collect();
        match uplink {
            Some(uplink) if self.is_on_shared(Some(uplink.id)) => {
                fresh.into_iter().try_for_each(|forward| self.check_sockets(next, forward, &uplink))
            }
            _ => Ok(()),
        }
    }

    fn check_others(
        &self,
        live: &LiveNetwork,
        next: &Network,
        forward: &pontoon_netxml::PortForward,
    ) -> Answer<()> {
        let others =
            self.live.networks.iter().filter(|other| other.id != live.id && other.uplink == live.uplink);
        for other in others {
            let taken = other.network.port_forwards.iter().find_map(|other| common(other, forward));
            if let Some(port) = taken {
                let (name, proto) = (&next.name, forward.proto.as_str());
                return Err(fail_help(
                    format!(
                        "operation failed: {proto} port {port} cannot be forwarded to network '{name}': network '{}' has it",
                        other.network.name
                    ),
                    "choose another port, or another address with address='...'",
                ));
            }
        }
        Ok(())
    }

    fn check_sockets(
        &mut self,
        next: &Network,
        forward: &pontoon_netxml::PortForward,
        uplink: &LiveUplink,
    ) -> Answer<()> {
        let own = uplink.address.map(|net| net.addr());
        let listens = |address: Ipv4Addr| match forward.address {
            Some(wanted) => address == wanted,
            // The host itself asks there too.
            None => Some(address) == own || address == Ipv4Addr::LOCALHOST,
        };
        for Piece { first, last, .. } in forward.pieces() {
            let Some(owners) = self.sockets_at((first, last), forward.proto.as_str(), &listens)? else {
                continue;
            };
            let ports = if first == last { format!("port {first}") } else { format!("ports {first}-{last}") };
            return Err(fail_help(
                format!(
                    "operation failed: {} {ports} of the host cannot be forwarded to network '{}': {owners}",
                    forward.proto.as_str(),
                    next.name
                ),
                "stop that program, or forward another port",
            ));
        }
        Ok(())
    }
}

fn by_sockets(next: &Network) -> pontoon_proto::api::Failure {
    fail_help(
        format!(
            "unsupported configuration: network '{}' leaves by sockets of the host, where no ports are forwarded",
            next.name
        ),
        "leave out <portForward>, or let the network leave otherwise: kind='shared' or kind='direct'",
    )
}

fn check_device(next: &Network, forward: &pontoon_netxml::PortForward, uplink: &LiveUplink) -> Answer<()> {
    let names = [Some(uplink.dev.as_str()), uplink.device()];
    match forward.dev.as_deref() {
        Some(dev) if !names.contains(&Some(dev)) => Err(fail_help(
            format!(
                "unsupported configuration: a port of '{dev}' cannot be forwarded to network '{}', which leaves by '{}'",
                next.name,
                uplink.device().unwrap_or(&uplink.dev)
            ),
            "leave out dev, or name that interface",
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const XML: &str = "<network><name>n</name><forward mode='nat'/><dns><host ip='10.1.0.7'><hostname>db</hostname>\
        </host></dns><ip address='10.1.0.1' prefix='24'><dhcp><range start='10.1.0.20' end='10.1.0.90'/>\
        <host mac='52:54:00:00:00:05' name='web' ip='10.1.0.5'/></dhcp></ip></network>";

    fn lease(last: u8, mac: u8, name: &str, expiry: u64) -> Lease {
        Lease {
            ip: [10, 1, 0, last].into(),
            mac: [0x52, 0x54, 0, 0, 0, mac],
            client_id: None,
            hostname: Some(name.into()),
            expiry,
        }
    }

    #[test]
    fn a_guest_is_where_its_lease_says_else_where_the_definition_does() {
        let network = pontoon_netxml::parse(XML).expect("xml");
        let leases = [lease(20, 9, "vm", 100), lease(21, 9, "vm", 300), lease(22, 8, "Web", 200)];
        let at = |leases: &[Lease], name: GuestName| place(&network, leases, &name).map(|ip| ip.octets()[3]);
        let mac = |last| GuestName::Mac([0x52, 0x54, 0, 0, 0, last]);
        let host = |name: &str| GuestName::Host(name.into());
        assert_eq!(at(&leases, mac(9)), Some(21));
        assert_eq!(at(&leases, host("VM")), Some(21));
        assert_eq!(at(&leases, host("web")), Some(22));
        assert_eq!(at(&[], host("web")), Some(5));
        assert_eq!(at(&[], mac(5)), Some(5));
        assert_eq!(at(&[], host("db")), Some(7));
        assert_eq!((at(&[], mac(9)), at(&[], host("vm"))), (None, None));
        assert_eq!(at(&leases, GuestName::Address([10, 1, 0, 77].into())), Some(77));
    }
}
