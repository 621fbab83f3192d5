//! Open vSwitch's userspace datapath. For NAT its own connection tracking, with three flows and no controller.

use std::path::Path;
use std::process::Command;

use anyhow::Context;

use crate::lab::{DEVICE, GATEWAY, Lab, Mode, OUTSIDE, Side};

const DPDK: &str = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk";
/// Debian's build without DPDK, where both are installed.
const PLAIN: &str = "/usr/lib/openvswitch-switch/ovs-vswitchd";
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
const DIRECTORIES: [&str; 4] = ["OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR"];
const ENDS: [(Side, &str); 2] = [(Side::Client, "pa"), (Side::Server, "pb")];

/// How ports are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// `AF_PACKET` on veth pairs.
    Packet,
    /// Taps.
    Tap,
    /// `AF_XDP` on veth pairs.
    Xdp,
    /// The DPDK build with segmentation offload, `AF_PACKET` ports, no huge pages.
    Dpdk,
}

impl Ports {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Packet => "ovs-netdev",
            Self::Tap => "ovs-tap",
            Self::Xdp => "ovs-afxdp",
            Self::Dpdk => "ovs-dpdk",
        }
    }

    pub(super) fn program(self) -> &'static str {
        if self == Self::Dpdk { DPDK } else { "ovs-vswitchd" }
    }
}

/// Where its tools find the database.
struct Ovs {
    dir: String,
}

impl Ovs {
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        self.prepare(&mut command);
        command
    }

    fn prepare(&self, command: &mut Command) {
        command.envs(DIRECTORIES.map(|name| (name, &self.dir)));
    }

    fn tool(&self, program: &str, words: &[&str]) -> anyhow::Result<String> {
        let output = self.command(program).args(words).output().with_context(|| program.to_owned())?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        anyhow::ensure!(output.status.success(), "{program} {}: {}", words.join(" "), said.trim());
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn vsctl(&self, words: &[&str]) -> anyhow::Result<String> {
        let db = format!("--db=unix:{}/db.sock", self.dir);
        self.tool("ovs-vsctl", &[&[db.as_str(), "--timeout=20"], words].concat())
    }

    fn add_flow(&self, flow: &str) -> anyhow::Result<String> {
        self.tool("ovs-ofctl", &["add-flow", &format!("{}/br0.mgmt", self.dir), flow])
    }
}

pub(super) fn start(lab: &mut Lab, ports: Ports) -> anyhow::Result<()> {
    let dir = lab.file("ovs");
    std::fs::create_dir_all(&dir)?;
    let ovs = Ovs { dir: dir.to_string_lossy().into_owned() };
    start_daemons(lab, &ovs, ports)?;
    ovs.vsctl(&["add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev", "fail-mode=secure"])?;
    for (side, end) in ENDS {
        attach(lab, &ovs, ports, side, end)?;
    }
    flows(lab, &ovs)
}

fn start_daemons(lab: &mut Lab, ovs: &Ovs, ports: Ports) -> anyhow::Result<()> {
    let dir = &ovs.dir;
    let database = format!("{dir}/conf.db");
    ovs.tool("ovsdb-tool", &["create", &database, SCHEMA])?;
    lab.start("ovsdb-server", |command| {
        ovs.prepare(command);
        command.args([
            &database,
            &format!("--remote=punix:{dir}/db.sock"),
            &format!("--unixctl={dir}/db.ctl"),
        ]);
    })?;
    lab.wait("the database serves", |_| Path::new(&format!("{dir}/db.sock")).exists())?;
    ovs.vsctl(&["--no-wait", "init"])?;
    if ports == Ports::Dpdk {
        let set = ["--no-wait", "set", "Open_vSwitch", ".", "other_config:dpdk-init=true"];
        let extra = "other_config:dpdk-extra=\"--no-huge --legacy-mem -m 1024 --no-pci\"";
        let more = [extra, "other_config:userspace-tso-enable=true", "other_config:pmd-cpu-mask=0x2"];
        ovs.vsctl(&[&set[..], &more].concat())?;
    }
    let program = match ports {
        Ports::Dpdk => DPDK,
        _ if Path::new(PLAIN).exists() => PLAIN,
        _ => "ovs-vswitchd",
    };
    lab.start(program, |command| {
        ovs.prepare(command);
        command.args([&format!("unix:{dir}/db.sock"), &format!("--unixctl={dir}/vs.ctl")]);
        command.arg("-vconsole:warn");
    })
}

fn attach(lab: &mut Lab, ovs: &Ovs, ports: Ports, side: Side, end: &str) -> anyhow::Result<()> {
    if ports == Ports::Tap {
        ovs.vsctl(&["add-port", "br0", end, "--", "set", "interface", end, "type=internal"])?;
        lab.wait("the tap appears", |lab| lab.router.ip(&format!("link show {end}")).is_ok())?;
        let netns = lab.netns(side).name().to_owned();
        lab.router.ip(&format!("link set {end} netns {netns} name {DEVICE}"))?;
        let _ = lab.netns(side).sh(&format!("ethtool -K {DEVICE} tx off"));
        return Ok(());
    }
    lab.veth(lab.netns(side), end)?;
    if ports != Ports::Dpdk {
        // It completes no checksums on such ports.
        lab.netns(side).sh(&format!("ethtool -K {DEVICE} tx off"))?;
    }
    if ports == Ports::Xdp {
        // A veth runs XDP in its driver only with NAPI, which GRO switches on.
        let _ = lab.netns(side).sh(&format!("ethtool -K {DEVICE} gro on"));
        let set = ["--", "set", "interface", end, "type=afxdp", "options:n_rxq=1"];
        ovs.vsctl(&[&["add-port", "br0", end], &set[..]].concat())?;
    } else {
        ovs.vsctl(&["add-port", "br0", end])?;
    }
    Ok(())
}

fn flows(lab: &mut Lab, ovs: &Ovs) -> anyhow::Result<()> {
    if lab.mode == Mode::L2 {
        return ovs.add_flow("actions=NORMAL").map(drop);
    }
    let number = |end: &str| ovs.vsctl(&["get", "interface", end, "ofport"]);
    let (inside, outside) = (number("pa")?, number("pb")?);
    let (client, server) = (lab.mac(Side::Client)?, lab.mac(Side::Server)?);
    lab.neighbours = vec![(Side::Client, GATEWAY, server.clone()), (Side::Server, OUTSIDE, client.clone())];
    for flow in [
        format!(
            "in_port={inside},ip,actions=ct(commit,zone=1,nat(src={OUTSIDE})),mod_dl_dst:{server},output:{outside}"
        ),
        format!("in_port={outside},ip,actions=ct(zone=1,nat,table=1)"),
        format!("table=1,ct_state=+trk+est,ip,actions=mod_dl_dst:{client},output:{inside}"),
    ] {
        ovs.add_flow(&flow)?;
    }
    Ok(())
}
