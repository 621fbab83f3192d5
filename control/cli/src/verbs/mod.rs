//! The commands, in virsh's groups and order.

mod attach;
pub(crate) mod conntrack;
mod define_as;
mod editor;
mod events;
mod guests;
mod leases;
mod network;
mod paste;
mod port_forward;
mod ports;
mod shell_verbs;
pub(crate) mod status;
pub(crate) mod trace;
mod update;

use serde::Serialize;

use crate::outcome::say;
use crate::vsh::table::Group;

pub(crate) static GROUPS: &[Group] = &[
    Group {
        title: "Networking",
        keyword: "network",
        commands: &[
            network::AUTOSTART,
            network::CREATE,
            network::DEFINE,
            define_as::DEFINE_AS,
            update::DESC,
            network::DESTROY,
            leases::LEASES,
            network::DUMPXML,
            update::EDIT,
            events::EVENT,
            network::INFO,
            network::LIST,
            update::METADATA,
            network::NAME,
            network::START,
            network::UNDEFINE,
            update::UPDATE,
            network::UUID,
            ports::LIST,
            ports::CREATE,
            ports::DUMPXML,
            ports::DELETE,
            port_forward::PORT_FORWARD,
        ],
    },
    Group {
        title: "Interfaces of guests",
        keyword: "domain",
        commands: &[
            guests::ATTACH_DEVICE,
            attach::ATTACH,
            guests::DETACH_DEVICE,
            attach::DETACH,
            guests::GETLINK,
            guests::SETLINK,
            guests::ADDR,
            guests::LIST,
            guests::STAT,
            guests::TUNE,
            guests::UPDATE,
            paste::QEMU_ARGS,
            paste::DOMAIN_XML,
        ],
    },
    Group {
        title: "Virsh itself",
        keyword: "virsh",
        commands: &[
            shell_verbs::CD,
            shell_verbs::ECHO,
            shell_verbs::EXIT,
            shell_verbs::HELP,
            shell_verbs::PWD,
            shell_verbs::QUIT,
            shell_verbs::CONNECT,
        ],
    },
];

pub(crate) fn print_json<T: Serialize + ?Sized>(value: &T) {
    // Answers hold no map with other keys than strings, so this cannot fail.
    say(&format!("{}\n", serde_json::to_string_pretty(value).unwrap_or_default()));
}
