//! Guests and a server with real TCP/IP stacks.

use std::net::Ipv4Addr;

use pontoon_sim::guest::{Host, Net};
use pontoon_sim::{EXTERNAL, GATEWAY, GUEST_1, GUEST_2, ISOLATED, SERVER, UPLINK, World};

const MAC_1: [u8; 6] = [0x52, 0x54, 0, 0, 2, 1];
const MAC_2: [u8; 6] = [0x52, 0x54, 0, 0, 2, 2];
const MAC_4: [u8; 6] = [0x52, 0x54, 0, 0, 2, 4];
const SERVER_MAC: [u8; 6] = [0x52, 0x54, 0, 0, 8, 1];
const ISOLATED_GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 110, 1);

/// Guests 1 and 2, the server, the isolated guest; with leases.
fn net(workers: u16, seed: u64) -> Net {
    let world = World::new(workers, seed);
    let now = world.now.mono;
    let mut net = Net::new(world, seed);
    net.hosts = vec![
        Host::by_dhcp(GUEST_1, MAC_1, seed, now),
        Host::by_dhcp(GUEST_2, MAC_2, seed + 100, now),
        Host::configured(UPLINK, SERVER_MAC, SERVER, now),
        Host::by_dhcp(ISOLATED, MAC_4, seed + 200, now),
    ];
    let leased = |net: &mut Net| [0, 1, 3].iter().all(|&at| net.hosts[at].lease.is_some());
    assert!(net.run(60, leased), "workers {workers} seed {seed}: no lease");
    net
}

fn each(test: impl Fn(u16, u64)) {
    for workers in [1, 2, 4] {
        for seed in [3, 17, 91] {
            test(workers, seed);
        }
    }
}

#[test]
fn guests_obtain_different_leases_and_only_nat_gives_a_router() {
    each(|workers, seed| {
        let net = net(workers, seed);
        let leases: Vec<_> = net.hosts.iter().filter_map(|host| host.lease.clone()).collect();
        let at = format!("workers {workers} seed {seed}: {leases:?}");
        for (lease, gateway) in leases.iter().zip([GATEWAY, GATEWAY, ISOLATED_GATEWAY]) {
            let [a, b, c, d] = lease.address.address().octets();
            let [e, f, g, _] = gateway.octets();
            assert_eq!(([a, b, c], lease.address.prefix_len()), ([e, f, g], 24), "{at}");
            assert!((10..=254).contains(&d), "{at}");
            assert_eq!(lease.router, (gateway == GATEWAY).then_some(gateway), "{at}");
            assert_eq!(lease.dns, [gateway], "{at}");
        }
        assert_ne!(leases[0].address, leases[1].address, "{at}");
        assert_eq!(net.world.drops(), [], "{at}");
    });
}

#[test]
fn guests_ping_the_gateway_and_each_other_and_the_outside() {
    each(|workers, seed| {
        let mut net = net(workers, seed);
        let peer = net.hosts[1].lease.clone().expect("leased").address.address();
        let targets = [GATEWAY, peer, SERVER, EXTERNAL];
        let socket = net.hosts[0].ping_socket(77);
        for (seq, to) in (0..).zip(targets) {
            net.hosts[0].ping(socket, to, 77, seq);
            let mut pongs = Vec::new();
            let answered = net.run(10, |net| {
                pongs.extend(net.hosts[0].pongs(socket));
                !pongs.is_empty()
            });
            // The router answers for its external address as well.
            assert!(answered, "workers {workers} seed {seed}: {to}");
            assert!(pongs.iter().all(|&pong| pong == (to, seq)), "workers {workers} seed {seed}: {pongs:?}");
        }
        assert_eq!(net.world.drops(), [], "workers {workers} seed {seed}");
    });
}

fn pattern(at: usize) -> u8 {
    (at as u32).wrapping_mul(0x9e37_79b1).to_be_bytes()[0]
}

/// Moves `length` octets from one host to the other over sockets that are open.
fn transfer(net: &mut Net, from: (usize, Handle), to: (usize, Handle), length: usize) -> bool {
    let (mut sent, mut received) = (0, 0);
    net.run(600, |net| {
        let socket = net.hosts[from.0].tcp(from.1);
        while sent < length && socket.can_send() {
            let chunk: Vec<u8> = (sent..length.min(sent + 4096)).map(pattern).collect();
            sent += socket.send_slice(&chunk).expect("an open socket");
        }
        let socket = net.hosts[to.0].tcp(to.1);
        while socket.can_recv() {
            let mut chunk = [0; 4096];
            let count = socket.recv_slice(&mut chunk).expect("an open socket");
            assert!((received..).zip(&chunk[..count]).all(|(at, &byte)| byte == pattern(at)), "changed");
            received += count;
        }
        received == length
    })
}

type Handle = smoltcp::iface::SocketHandle;

#[test]
fn a_hundred_kilobytes_go_through_nat_both_ways_despite_loss_and_reordering() {
    each(|workers, seed| {
        let at = format!("workers {workers} seed {seed}");
        let mut net = net(workers, seed);
        (net.loss, net.jitter) = (20, 900);
        let listener = net.hosts[2].listen(80);
        let client = net.hosts[0].connect((SERVER, 80), 40_000);
        assert!(net.run(120, |net| net.hosts[0].tcp(client).may_send()), "{at}: not connected");
        assert!(net.run(120, |net| net.hosts[2].tcp(listener).may_send()), "{at}: not accepted");
        let remote = net.hosts[2].tcp(listener).remote_endpoint().expect("connected");
        assert_eq!(remote.addr, EXTERNAL.into(), "{at}");
        assert!(transfer(&mut net, (0, client), (2, listener), 100_000), "{at}: up");
        assert!(transfer(&mut net, (2, listener), (0, client), 100_000), "{at}: down");
        net.hosts[0].tcp(client).close();
        net.hosts[2].tcp(listener).close();
        let closed = |net: &mut Net| !net.hosts[2].tcp(listener).is_open();
        assert!(net.run(300, closed), "{at}: not closed");
        assert_eq!(net.world.sessions(), 1, "{at}");
        assert!(!net.run(235, |net| net.world.sessions() == 0), "{at}: gone too early");
        assert!(net.run(10, |net| net.world.sessions() == 0), "{at}: still there");
    });
}

#[test]
fn two_guests_with_the_same_local_port_are_two_endpoints_outside() {
    each(|workers, seed| {
        let at = format!("workers {workers} seed {seed}");
        let mut net = net(workers, seed);
        let listeners = [net.hosts[2].listen(80), net.hosts[2].listen(80)];
        let clients = [net.hosts[0].connect((SERVER, 80), 5555), net.hosts[1].connect((SERVER, 80), 5555)];
        let open = |net: &mut Net| {
            (0..2).all(|at| net.hosts[at].tcp(clients[at]).may_send())
                && listeners.iter().all(|&handle| net.hosts[2].tcp(handle).may_send())
        };
        assert!(net.run(60, open), "{at}");
        let remotes = listeners.map(|handle| net.hosts[2].tcp(handle).remote_endpoint().expect("connected"));
        assert_ne!(remotes[0], remotes[1], "{at}");
        assert_eq!(net.world.sessions(), 2, "{at}");
        assert_eq!(net.world.drops(), [], "{at}");
    });
}

#[test]
fn a_guest_of_an_isolated_network_cannot_get_out_even_when_it_makes_up_a_route() {
    each(|workers, seed| {
        let at = format!("workers {workers} seed {seed}");
        let mut net = net(workers, seed);
        let lease = net.hosts[3].lease.clone().expect("leased");
        let socket = net.hosts[3].ping_socket(5);
        net.hosts[3].ping(socket, ISOLATED_GATEWAY, 5, 1);
        assert!(net.run(5, |net| net.hosts[3].pongs(socket) == [(ISOLATED_GATEWAY, 1)]), "{at}");
        net.hosts[3].set_address(Some(lease.address), Some(ISOLATED_GATEWAY));
        let peer = net.hosts[0].lease.clone().expect("leased").address.address();
        for (seq, to) in (2..).zip([SERVER, EXTERNAL, peer, GATEWAY]) {
            net.hosts[3].ping(socket, to, 5, seq);
            assert!(!net.run(3, |net| !net.hosts[3].pongs(socket).is_empty()), "{at}: {to} answered");
        }
        assert_eq!(net.hosts[3].errors, [(3, 13); 4], "{at}");
        assert_eq!(net.world.drops(), [("not_forwarded", 4)], "{at}");
        assert_eq!(net.world.sessions(), 0, "{at}");
    });
}
