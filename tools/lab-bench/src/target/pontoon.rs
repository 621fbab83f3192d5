//! pontoon as a user runs it: the daemon, a network, and an interface for each side.

use anyhow::Context;

use super::{Pontoon, Uplink};
use crate::lab::{DEVICE, GATEWAY, Lab, Mode, OUTSIDE};
use crate::netns::{Netns, run};

/// The interface of a direct or shared uplink.
const UPLINK: &str = "pb";

pub(super) fn start(lab: &mut Lab, pontoon: &Pontoon) -> anyhow::Result<()> {
    let other = Netns::make("c")?;
    let program = pontoon.program.to_str().context("the program's path is not text")?.to_owned();
    let socket = lab.file("pontoon.sock").to_string_lossy().into_owned();
    let (state, runtime) = (lab.file("state"), lab.file("run"));
    lab.start(&program, |command| {
        command.args(["--socket", &socket, "daemon", "--workers", &pontoon.workers.to_string()]);
        command.arg("--state-dir").arg(state).arg("--runtime-dir").arg(runtime);
        command.env("PONTOON_LEVERS", &pontoon.levers);
    })?;
    let verb = |words: &[&str]| run(&[&[&program, "--socket", &socket], words].concat());
    lab.wait("the daemon serves", |_| verb(&["net-list"]).is_ok())?;
    if pontoon.uplink != Uplink::Tap && lab.mode == Mode::Nat {
        lab.veth(&lab.server, UPLINK)?;
    }
    if matches!(pontoon.uplink, Uplink::Shared | Uplink::User) && lab.mode == Mode::Nat {
        lab.router.ip(&format!("addr add {OUTSIDE}/24 dev {UPLINK}"))?;
        lab.router.ip(&format!("route add default via {} dev {UPLINK}", lab.mode.server()))?;
    }
    let file = lab.file("network.xml").to_string_lossy().into_owned();
    std::fs::write(&file, definition(lab, pontoon.uplink))?;
    verb(&["net-define", &file])?;
    verb(&["net-start", "bench"])?;
    let mut guests = vec![&lab.client, &other];
    if lab.mode == Mode::L2 {
        guests.push(&lab.server);
    }
    for guest in guests {
        let words = ["--domain", guest.name(), "--type", "network", "--source", "bench"];
        let place = ["--target", DEVICE, "--netns", guest.name()];
        verb(&[&["attach-interface"], &words[..], &place].concat())?;
    }
    lab.other = Some(other);
    Ok(())
}

fn definition(lab: &Lab, uplink: Uplink) -> String {
    if lab.mode == Mode::L2 {
        return "<network><name>bench</name><bridge name='virbr9'/></network>\n".to_owned();
    }
    let place = match uplink {
        Uplink::Shared => "kind='shared'".to_owned(),
        Uplink::User => "kind='user'".to_owned(),
        Uplink::Direct => format!("kind='direct' dev='{UPLINK}' address='{OUTSIDE}/24'"),
        Uplink::Tap => {
            format!("kind='tap' dev='{DEVICE}' netns='{}' address='{OUTSIDE}/24'", lab.server.name())
        }
    };
    format!(
        "<network>
  <name>bench</name>
  <forward mode='nat'/>
  <pontoon:uplink xmlns:pontoon='urn:pontoon:network:1' {place}/>
  <bridge name='virbr9'/>
  <ip address='{GATEWAY}' netmask='255.255.255.0'/>
</network>
"
    )
}
