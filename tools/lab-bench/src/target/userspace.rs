//! Peers that are one program each: VDE, pasta, slirp4netns.

use std::net::Ipv4Addr;

use crate::lab::{CLIENT, DEVICE, GATEWAY, Lab, OUTSIDE, Side};

/// A program to compare with, e.g. a prototype.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub name: String,
    /// For `sh`.
    pub line: String,
}

/// It finds the mode and the namespaces that want a tap [`DEVICE`] in its environment; with NAT also the address and
/// prefix length of each of its sides.
pub(super) fn command(lab: &mut Lab, command: &Command) -> anyhow::Result<()> {
    let (client, server) = (lab.client.name().to_owned(), lab.server.name().to_owned());
    let mode = lab.mode.name();
    lab.start("sh", |shell| {
        shell.args(["-c", &format!("exec {}", command.line)]);
        shell.envs([("LAB_MODE", mode), ("LAB_CLIENT", &client), ("LAB_SERVER", &server)]);
        shell.env("LAB_INSIDE", format!("{GATEWAY}/24")).env("LAB_OUTSIDE", format!("{OUTSIDE}/24"));
    })
}

/// VDE 2: its switch, and a plug for each side.
pub(super) fn vde(lab: &mut Lab) -> anyhow::Result<()> {
    let control = lab.file("vde.ctl");
    let path = control.to_string_lossy().into_owned();
    // The switch ends when its standard input does.
    lab.start("sh", |command| {
        command.args(["-c", &format!("sleep 100000 | vde_switch -s {path}")]);
    })?;
    lab.wait("the switch serves", |_| control.join("ctl").exists())?;
    for side in [Side::Client, Side::Server] {
        lab.start_at(side, "vde_plug2tap", |command| {
            command.args(["-s", &path, DEVICE]);
        })?;
    }
    Ok(())
}

/// Translates to sockets of the router's namespace.
pub(super) fn pasta(lab: &mut Lab) -> anyhow::Result<()> {
    outside(lab)?;
    let netns = format!("/run/netns/{}", lab.client.name());
    let (address, gateway) = (CLIENT.to_string(), GATEWAY.to_string());
    lab.start("pasta", |command| {
        command.args(["-f", "-q", "--runas", "0", "--netns", &netns, "-I", DEVICE]);
        command.args(["-a", &address, "-n", "24", "-g", &gateway, "-i", "pb", "-m", "1500"]);
        command.args(["-t", "none", "-u", "none", "-T", "none", "-U", "none"]);
    })
}

/// libslirp's translation; it gives the guest its own choice of addresses.
pub(super) fn slirp4netns(lab: &mut Lab) -> anyhow::Result<()> {
    outside(lab)?;
    let netns = format!("/run/netns/{}", lab.client.name());
    lab.inside = (Ipv4Addr::new(10, 77, 0, 100), Ipv4Addr::new(10, 77, 0, 2));
    lab.start("slirp4netns", |command| {
        command.args(["--netns-type=path", "--cidr=10.77.0.0/24", "--mtu=1500", &netns, DEVICE]);
    })
}

fn outside(lab: &Lab) -> anyhow::Result<()> {
    lab.veth(&lab.server, "pb")?;
    lab.router.ip(&format!("addr add {OUTSIDE}/24 dev pb"))?;
    Ok(())
}
