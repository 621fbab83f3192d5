use super::*;
use crate::tables::Format;
use pontoon_proto::api::MacInfo;
use pontoon_proto::bridge::{BridgePort, BridgeStp};

fn parse(words: &[&str]) -> Parsed {
    options::parse(words.iter().map(|word| (*word).to_owned()).collect())
}

#[test]
fn options_stand_anywhere_and_unknown_ones_are_getopt_s() {
    for help in [&["-h"][..], &["--help"], &["show", "--he"], &["-hV"]] {
        assert_eq!(parse(help), Parsed::Help);
    }
    for version in [&["-V"][..], &["show", "br0", "--version"]] {
        assert_eq!(parse(version), Parsed::Version);
    }
    let unknown = |text: &str| Parsed::Unknown(text.to_owned());
    assert_eq!(parse(&["setageing", "br0", "-5"]), unknown("invalid option -- '5'"));
    assert_eq!(parse(&["--nope"]), unknown("unrecognized option '--nope'"));
    assert_eq!(parse(&["--format=odd"]), unknown("unrecognized option '--format=odd'"));
    let words = ["setageing", "br0", "-5"].map(str::to_owned).to_vec();
    assert_eq!(parse(&["setageing", "br0", "--", "-5"]), Parsed::Words(Flags::default(), words));
    let flags = Flags { json: true, format: Format::Legacy };
    assert_eq!(
        parse(&["show", "--json", "-", "--format=legacy"]),
        Parsed::Words(flags, vec!["show".to_owned(), "-".to_owned()])
    );
}

#[test]
fn the_usage_is_brctl_s() {
    let expected = "Usage: brctl [commands]
commands:
\taddbr     \t<bridge>\t\tadd bridge
\tdelbr     \t<bridge>\t\tdelete bridge
\taddif     \t<bridge> <device>\tadd interface to bridge
\tdelif     \t<bridge> <device>\tdelete interface from bridge
\thairpin   \t<bridge> <port> {on|off}\tturn hairpin on/off
\tsetageing \t<bridge> <time>\t\tset ageing time
\tsetbridgeprio\t<bridge> <prio>\t\tset bridge priority
\tsetfd     \t<bridge> <time>\t\tset bridge forward delay
\tsethello  \t<bridge> <time>\t\tset hello time
\tsetmaxage \t<bridge> <time>\t\tset max message age
\tsetpathcost\t<bridge> <port> <cost>\tset path cost
\tsetportprio\t<bridge> <port> <prio>\tset port priority
\tshow      \t[ <bridge> ]\t\tshow a list of bridges
\tshowmacs  \t<bridge>\t\tshow a list of mac addrs
\tshowstp   \t<bridge>\t\tshow bridge stp info
\tstp       \t<bridge> {on|off}\tturn stp on/off
";
    assert_eq!(usage(), expected);
}

#[test]
fn bridges_are_brctl_s() {
    let bridge = BridgeInfo {
        name: "virbr0".to_owned(),
        network: "default".to_owned(),
        mac: "52:54:00:35:ac:06".to_owned(),
        id: "8000.52540035ac06".to_owned(),
        stp: true,
        interfaces: vec!["vnet0".to_owned(), "vnet1".to_owned()],
    };
    let header = "bridge name\tbridge id\t\tSTP enabled\tinterfaces\n";
    assert_eq!(
        tables::bridges(&[&bridge], Format::Modern),
        format!("{header}virbr0\t\t8000.52540035ac06\tyes\t\tvnet0\n\t\t\t\t\t\t\tvnet1\n")
    );
    assert_eq!(
        tables::bridges(&[&bridge], Format::Legacy),
        format!(
            "{header}virbr0\t\t8000.52540035ac06\tyes\t\tvirbr0-nic\n\t\t\t\t\t\t\tvnet0\n\t\t\t\t\t\t\tvnet1\n"
        )
    );
    assert_eq!(tables::bridges(&[], Format::Modern), "");
}

#[test]
fn macs_are_sorted_as_brctl_s() {
    let mac = |port, mac: &str, local, age_seconds| MacInfo { port, mac: mac.to_owned(), local, age_seconds };
    let list = [mac(2, "52:54:00:d7:8d:61", false, 12), mac(1, "52:54:00:35:ac:06", true, 0)];
    assert_eq!(
        tables::macs(&list),
        "port no\tmac addr\t\tis local?\tageing timer\n  1\t52:54:00:35:ac:06\tyes\t\t   0.00\n  2\t52:54:00:d7:8d:61\tno\t\t  12.00\n"
    );
}

/// The same as brctl showed of a kernel bridge, timers and all.
#[test]
fn the_spanning_tree_is_laid_out_as_brctl_s() {
    let id = || "8000.0604b5ad4e35".to_owned();
    let port = |name: &str, number: u16| BridgePort {
        name: name.to_owned(),
        number,
        id: 0x8000 | number,
        designated_root: id(),
        designated_bridge: id(),
        designated_port: 0x8001,
        path_cost: 2,
        ..BridgePort::default()
    };
    let (forwarding, blocking) = (port("v0", 1), port("v1", 2));
    let shown = BridgeStp {
        name: "br0".to_owned(),
        stp: true,
        bridge_id: id(),
        designated_root: id(),
        max_age: 2000,
        hello_time: 200,
        forward_delay: 200,
        bridge_max_age: 2000,
        bridge_hello_time: 200,
        bridge_forward_delay: 200,
        ageing_time: 400,
        hello_timer: 154,
        topology_change_timer: 2101,
        topology_change: true,
        topology_change_detected: true,
        ports: vec![
            BridgePort { state: "forwarding".to_owned(), hold_timer: 54, hairpin: true, ..forwarding },
            BridgePort {
                state: "blocking".to_owned(),
                message_age_timer: 1974,
                config_pending: true,
                topology_change_ack: true,
                ..blocking
            },
        ],
        ..BridgeStp::default()
    };
    let expected = concat!(
        "br0\n",
        " bridge id\t\t8000.0604b5ad4e35\n",
        " designated root\t8000.0604b5ad4e35\n",
        " root port\t\t   0\t\t\tpath cost\t\t   0\n",
        " max age\t\t  20.00\t\t\tbridge max age\t\t  20.00\n",
        " hello time\t\t   2.00\t\t\tbridge hello time\t   2.00\n",
        " forward delay\t\t   2.00\t\t\tbridge forward delay\t   2.00\n",
        " ageing time\t\t   4.00\n",
        " hello timer\t\t   1.54\t\t\ttcn timer\t\t   0.00\n",
        " topology change timer\t  21.01\t\t\tgc timer\t\t   0.00\n",
        " flags\t\t\tTOPOLOGY_CHANGE TOPOLOGY_CHANGE_DETECTED \n",
        "\n",
        "\n",
        "v0 (1)\n",
        " port id\t\t8001\t\t\tstate\t\t     forwarding\n",
        " designated root\t8000.0604b5ad4e35\tpath cost\t\t   2\n",
        " designated bridge\t8000.0604b5ad4e35\tmessage age timer\t   0.00\n",
        " designated port\t8001\t\t\tforward delay timer\t   0.00\n",
        " designated cost\t   0\t\t\thold timer\t\t   0.54\n",
        " flags\t\t\t\n",
        " hairpin mode\t\t   1\n",
        "\n",
        "v1 (2)\n",
        " port id\t\t8002\t\t\tstate\t\t       blocking\n",
        " designated root\t8000.0604b5ad4e35\tpath cost\t\t   2\n",
        " designated bridge\t8000.0604b5ad4e35\tmessage age timer\t  19.74\n",
        " designated port\t8001\t\t\tforward delay timer\t   0.00\n",
        " designated cost\t   0\t\t\thold timer\t\t   0.00\n",
        " flags\t\t\tCONFIG_PENDING TOPOLOGY_CHANGE_ACK \n",
        "\n",
    );
    assert_eq!(tables::stp(&shown, Format::Modern), expected);
    let legacy = tables::stp(&shown, Format::Legacy);
    assert!(legacy.contains("\n\nbr0-nic (1)\n port id\t\t8001\t\t\tstate\t\t       disabled\n"), "{legacy}");
}
