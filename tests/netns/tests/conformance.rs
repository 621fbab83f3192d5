//! The same probes on pontoon's NAT and on nftables' masquerade: where they differ, pontoon is better, by this list.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::time::Duration;

use pontoon_netns_tests::{Setup, World, in_netns, xml};

/// How long what is not to come is waited for.
const SILENCE: Duration = Duration::from_millis(600);
const PATIENCE: Duration = Duration::from_secs(5);
/// What nftables does else, and not as the RFCs have it (RFC 4787 REQ-3 and REQ-9, RFC 5382 REQ-4).
const BETTER: [&str; 3] = ["hairpin", "one port for two guests", "unsolicited SYN"];

/// A NAT, two guests behind it and two addresses outside, in namespace `net`.
struct Device<'a> {
    world: &'a World,
    guests: [&'a str; 2],
    external: Ipv4Addr,
    servers: [Ipv4Addr; 2],
}

fn socket(world: &World, which: &str, address: Ipv4Addr, port: u16) -> UdpSocket {
    let socket = in_netns(&world.ns(which), || UdpSocket::bind((address, port)).expect("a UDP socket"));
    socket.set_read_timeout(Some(PATIENCE)).expect("patience");
    socket
}

/// Whom a datagram is from, unless none comes.
fn hears(socket: &UdpSocket, patience: Duration) -> Option<SocketAddrV4> {
    socket.set_read_timeout(Some(patience)).expect("patience");
    match socket.recv_from(&mut [0; 64]).ok()?.1 {
        SocketAddr::V4(from) => Some(from),
        SocketAddr::V6(_) => None,
    }
}

impl Device<'_> {
    fn guest(&self, number: usize, port: u16) -> UdpSocket {
        socket(self.world, self.guests[number], Ipv4Addr::UNSPECIFIED, port)
    }

    fn server(&self, number: usize, port: u16) -> UdpSocket {
        socket(self.world, "net", self.servers[number], port)
    }

    /// Where a guest's datagram to a server comes from.
    fn mapped(&self, guest: &UdpSocket, server: &UdpSocket) -> SocketAddrV4 {
        let to = server.local_addr().expect("an address");
        guest.send_to(b"probe", to).expect("sent");
        let from = hears(server, PATIENCE).expect("the datagram arrives");
        assert_eq!(*from.ip(), self.external);
        from
    }

    fn probe(&self) -> BTreeMap<&'static str, String> {
        let mut found = BTreeMap::new();
        let (one, other) = (self.guest(0, 40001), self.guest(1, 40002));
        let servers = [self.server(0, 4000), self.server(0, 4001), self.server(1, 4000)];
        let first = self.mapped(&one, &servers[0]);
        let ports: Vec<_> = servers.iter().map(|server| self.mapped(&one, server).port()).collect();
        found.insert("mapping", format!("{:?}", ports.iter().all(|port| *port == first.port())));
        // Of another mapping: what a stranger sends the kernel notes, and moves the guest's next session for it.
        let asker = self.guest(0, 40003);
        let asked = self.mapped(&asker, &servers[0]);
        let reached = |from: &UdpSocket| {
            from.send_to(b"answer", asked).expect("sent");
            hears(&asker, SILENCE).is_some()
        };
        found.insert("answer", format!("{:?}", reached(&servers[0])));
        found.insert("from another port", format!("{:?}", reached(&servers[1])));
        found.insert("from another address", format!("{:?}", reached(&servers[2])));
        self.mapped(&other, &servers[0]);
        other.send_to(b"hairpin", first).expect("sent");
        let from = hears(&one, SILENCE).map(|from| *from.ip() == self.external);
        found.insert("hairpin", format!("{from:?}"));
        let both = [self.guest(0, 45002), self.guest(1, 45002)];
        let ports = [self.mapped(&both[0], &servers[0]), self.mapped(&both[1], &servers[2])];
        found.insert("one port for two guests", format!("{:?}", ports[0].port() == ports[1].port()));
        let syn = in_netns(&self.world.ns("net"), || {
            TcpStream::connect_timeout(&(self.external, 40001).into(), SILENCE)
        });
        found.insert("unsolicited SYN", format!("{:?}", syn.map(drop).map_err(|error| error.kind())));
        found
    }
}

/// A router of the kernel's with two guests on a bridge.
fn masquerade(world: &World) {
    for which in ["nft", "k1", "k2"] {
        world.add_namespace(which);
    }
    let nft = world.ns("nft");
    let far = world.ns("net");
    world.ip("nft", &format!("link add up0 type veth peer name nft0 netns {far}"));
    world.ip("nft", "link add br0 type bridge");
    for (guest, last) in [("k1", 11), ("k2", 12)] {
        world.ip(guest, &format!("link add eth0 type veth peer name {guest} netns {nft}"));
        world.ip(guest, &format!("addr add 192.168.122.{last}/24 dev eth0"));
        world.ip(guest, "link set eth0 up");
        world.ip(guest, "route add default via 192.168.122.1");
        world.ip("nft", &format!("link set {guest} master br0 up"));
    }
    for (which, dev, address) in [
        ("nft", "br0", "192.168.122.1/24"),
        ("nft", "up0", "198.51.100.1/24"),
        ("net", "nft0", "198.51.100.10/24"),
        ("net", "nft0", "198.51.100.11/24"),
    ] {
        world.ip(which, &format!("addr add {address} dev {dev}"));
        world.ip(which, &format!("link set {dev} up"));
    }
    let rules = "echo 1 > /proc/sys/net/ipv4/ip_forward
nft -f - <<END
table ip n {
 chain p { type nat hook postrouting priority 100; policy accept;
  oifname \"up0\" ip saddr 192.168.122.0/24 masquerade
 }
}
table inet f {
 chain fw { type filter hook forward priority 0; policy accept;
  ct state invalid drop
  iifname \"up0\" ct state established,related accept
  iifname \"br0\" accept
  iifname \"up0\" drop
 }
}
END";
    let _ = world.exec("nft", &["sh", "-c", rules]).expect_ok("nft");
}

//= RFC4787#REQ-1, RFC4787#REQ-3, RFC4787#REQ-9, RFC5382#REQ-4 type=test
#[test]
fn pontoon_and_nftables_differ_where_pontoon_is_better() {
    let setup = Setup { tools: &["nft"], ..Setup::default() };
    let Some(mut world) = World::new(&setup) else { return };
    world.start_network("natntw", &xml::natntw());
    world.guest("g1", "natntw", "eth0", "52:54:00:d7:8d:61");
    world.guest("g2", "natntw", "eth0", "52:54:00:c6:3c:03");
    masquerade(&world);
    let address = |a, b, c, d| Ipv4Addr::new(a, b, c, d);
    let ours = Device {
        world: &world,
        guests: ["g1", "g2"],
        external: address(203, 0, 113, 2),
        servers: [address(203, 0, 113, 1), address(203, 0, 113, 80)],
    };
    let kernel = Device {
        world: &world,
        guests: ["k1", "k2"],
        external: address(198, 51, 100, 1),
        servers: [address(198, 51, 100, 10), address(198, 51, 100, 11)],
    };
    let (ours, kernel) = (ours.probe(), kernel.probe());
    let differ: Vec<_> = ours.keys().copied().filter(|probe| ours[probe] != kernel[probe]).collect();
    assert_eq!(differ, BETTER, "pontoon {ours:#?}\nnftables {kernel:#?}");
    let better = BETTER.map(|probe| ours[probe].as_str());
    assert_eq!(better, ["Some(true)", "false", "Err(TimedOut)"]);
}
