//! The kernel: a bridge on veth pairs, and for NAT forwarding with connection tracking and masquerade by nftables,
//! with the rules libvirt's networks have.

use crate::lab::{GATEWAY, Lab, Mode, OUTSIDE};
use crate::netns::{Netns, run};

const RULES: &str = "table ip n {
    chain forward {
        type filter hook forward priority 0; policy drop;
        ct state established,related accept;
        iifname br0 accept;
    };
    chain postrouting {
        type nat hook postrouting priority 100;
        oifname pb masquerade;
    };
}";

pub(super) fn start(lab: &mut Lab) -> anyhow::Result<()> {
    let other = Netns::make("c")?;
    let router = &lab.router;
    router.ip("link add br0 type bridge")?;
    router.ip("link set br0 up")?;
    // Where br_netfilter is loaded it would send switched frames through iptables.
    let _ = router.sh("sysctl -qw net.bridge.bridge-nf-call-iptables=0");
    for (from, end) in [(&lab.client, "pa"), (&other, "pc")] {
        lab.veth(from, end)?;
        router.ip(&format!("link set {end} master br0"))?;
    }
    lab.veth(&lab.server, "pb")?;
    match lab.mode {
        Mode::L2 => drop(router.ip("link set pb master br0")?),
        Mode::Nat => {
            router.ip(&format!("addr add {GATEWAY}/24 dev br0"))?;
            router.ip(&format!("addr add {OUTSIDE}/24 dev pb"))?;
            router.sh("sysctl -qw net.ipv4.ip_forward=1")?;
            run(&["ip", "netns", "exec", router.name(), "nft", RULES])?;
        }
    }
    lab.other = Some(other);
    Ok(())
}
