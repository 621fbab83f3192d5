//! What to give QEMU or libvirt so that a guest is plugged into a network.

use std::path::Path;

use pontoon_proto::api::NetworkInfo;

use super::shell_verbs::escape_xml;
use crate::outcome::{Outcome, Refusal, say};
use crate::vsh::parse::Args;
use crate::vsh::shell::Shell;
use crate::vsh::table::{Access, Command, Complete, Opt};

pub(crate) const QEMU_ARGS: Command = Command {
    name: "qemu-args",
    help: "print what plugs a QEMU into a network",
    about: "Print QEMU's options for an interface on a network, and what else has to be done.",
    options: &[
        Opt::network(),
        Opt::text("kind", "stream (default), dgram, tap (by the bridge helper), or vhostuser")
            .completed(Complete::Words(&["stream", "dgram", "tap", "vhostuser"])),
        Opt::text("domain", "name of the guest (default: guest)"),
    ],
    examples: &["pontoon qemu-args default", "pontoon qemu-args default --kind tap"],
    access: Access::Reads,
    run: qemu_args,
};

pub(crate) const DOMAIN_XML: Command = Command {
    name: "domain-xml",
    help: "print what plugs a guest of libvirt into a network",
    about: "Print the <interface> of a libvirt guest on a network, and what else has to be done.",
    options: &[
        Opt::network(),
        Opt::text("kind", "bridge (default, by the bridge helper), ethernet, or vhostuser")
            .completed(Complete::Words(&["bridge", "ethernet", "vhostuser"])),
        Opt::text("domain", "name of the guest (default: guest)"),
    ],
    examples: &["pontoon domain-xml default", "pontoon domain-xml default --kind vhostuser --domain node-2"],
    access: Access::Reads,
    run: domain_xml,
};

fn bridge(network: &NetworkInfo) -> Result<&str, Refusal> {
    let none = || Refusal::own(format!("network '{}' has no bridge", network.name));
    network.bridge.as_deref().ok_or_else(none)
}

/// Where a network's and a guest's sockets are: beside the API's.
fn place(shell: &Shell, name: &str) -> String {
    let dir = shell.client.socket().parent().unwrap_or(Path::new("/")).join("ports");
    dir.join(name).to_string_lossy().into_owned()
}

fn qemu_args(shell: &mut Shell, args: &Args) -> Outcome {
    let network = shell.network(args)?;
    let domain = args.text("domain")?.unwrap_or("guest");
    let (device, name) = ("-device virtio-net-pci,netdev=net0", &network.name);
    let attach = |rest: &str| format!("# pontoon attach-interface {domain} network {name} --kind {rest}\n");
    let text = match args.text("kind")?.unwrap_or("stream") {
        "stream" => {
            let path = place(shell, &format!("{name}.stream"));
            let netdev = format!("-netdev stream,id=net0,server=off,addr.type=unix,addr.path={path}");
            format!("-name {domain} {netdev} {device}\n")
        }
        "dgram" => {
            let (ours, theirs) =
                (place(shell, &format!("{domain}.dgram")), place(shell, &format!("{domain}.qemu")));
            format!(
                "{}-netdev dgram,id=net0,local.type=unix,local.path={theirs},remote.type=unix,remote.path={ours} \
                 {device}\n",
                attach(&format!("dgram --socket {ours} --peer {theirs}"))
            )
        }
        "tap" => {
            let bridge = bridge(&network)?;
            let program = std::env::current_exe().unwrap_or_else(|_| "pontoon".into());
            format!(
                "# /etc/qemu/bridge.conf: allow {bridge}\n-name {domain} -netdev \
                 bridge,id=net0,br={bridge},helper='{} bridge-helper' {device}\n",
                program.display()
            )
        }
        "vhostuser" => {
            let path = place(shell, &format!("{domain}.vhost"));
            format!(
                "{}-m 1G -object memory-backend-memfd,id=mem0,size=1G,share=on -M q35,memory-backend=mem0 -chardev \
                 socket,id=char0,path={path},reconnect=1 -netdev vhost-user,id=net0,chardev=char0 {device}\n",
                attach(&format!("vhostuser --socket {path}"))
            )
        }
        other => return Err(Refusal::own(format!("unknown kind '{other}'"))),
    };
    say(&text);
    Ok(())
}

fn domain_xml(shell: &mut Shell, args: &Args) -> Outcome {
    let network = shell.network(args)?;
    let domain = args.text("domain")?.unwrap_or("guest");
    let attach = |rest: &str| {
        let words = format!("pontoon attach-interface {domain} network {} {rest}", network.name);
        format!("# {words}\n")
    };
    let text = match args.text("kind")?.unwrap_or("bridge") {
        "bridge" => format!(
            "# qemu.conf: bridge_helper = \"/usr/lib/qemu/qemu-bridge-helper\", a link to pontoon; \
             /etc/qemu/bridge.conf: allow {0}\n<interface type='bridge'>\n  <source bridge='{0}'/>\n  <model \
             type='virtio'/>\n</interface>\n",
            escape_xml(bridge(&network)?)
        ),
        "ethernet" => {
            let tap: String = format!("t-{domain}").chars().take(15).collect();
            format!(
                "<interface type='ethernet'>\n  <target dev='{}'/>\n  <model type='virtio'/>\n</interface>\n{}",
                escape_xml(&tap),
                attach(&format!("--kind adopt --target {tap}    # once the guest runs"))
            )
        }
        "vhostuser" => {
            let path = place(shell, &format!("{domain}.vhost"));
            format!(
                "{}<interface type='vhostuser'>\n  <source type='unix' path='{}' mode='client'/>\n  <model \
                 type='virtio'/>\n</interface>\n<memoryBacking>\n  <source type='memfd'/>\n  <access \
                 mode='shared'/>\n</memoryBacking>\n",
                attach(&format!("--kind vhostuser --socket {path}")),
                escape_xml(&path)
            )
        }
        other => return Err(Refusal::own(format!("unknown kind '{other}'"))),
    };
    say(&text);
    Ok(())
}
