//! A day of two guests, in virtual time.

use pontoon_sim::guest::{Host, Net};
use pontoon_sim::{GATEWAY, GUEST_1, GUEST_2, Rng, SERVER, UPLINK, World};

const HOUR: u64 = 3600;
/// Sessions a worker has room for.
const SLOTS: usize = 128;

fn day(workers: u16, seed: u64) {
    let at = format!("workers {workers} seed {seed}");
    let world = World::with_slots(workers, seed, SLOTS);
    let start = world.now.mono.secs();
    let mut net = Net::new(world, seed);
    net.lateness = 5_000_000_000;
    let now = net.world.now.mono;
    net.hosts = vec![
        Host::by_dhcp(GUEST_1, [0x52, 0x54, 0, 0, 2, 1], seed, now),
        Host::by_dhcp(GUEST_2, [0x52, 0x54, 0, 0, 2, 2], seed + 1, now),
        Host::configured(UPLINK, [0x52, 0x54, 0, 0, 8, 1], SERVER, now),
    ];
    let leased = |net: &mut Net| net.hosts[..2].iter().all(|host| host.lease.is_some());
    assert!(net.run(60, leased), "{at}: no lease");
    let leases = [net.hosts[0].lease.clone(), net.hosts[1].lease.clone()];
    let echo = net.hosts[2].udp_bind(7);
    let mut rng = Rng(seed * 31 + 7);
    let (mut asked, mut answered, mut connections, mut most) = (0, 0, 0, 0);
    while net.world.now.mono.secs() < start + 24 * HOUR {
        let guest = rng.below(2);
        if rng.below(4) == 0 {
            connections += u32::from(session(&mut net, guest, 10_000 + rng.below(20_000) as u16));
        }
        let local = net.hosts[guest].udp_bind(30_000 + rng.below(30_000) as u16);
        for _ in 0..=rng.below(3) {
            let socket = net.hosts[guest].udp(local);
            socket.send_slice(b"still there?", (SERVER, 7)).expect("room for a datagram");
            asked += 1;
            answered += u32::from(echoed(&mut net, (guest, local), echo));
            net.run(1 + rng.below(600) as u64, |_| false);
        }
        net.hosts[guest].sockets.remove(local);
        most = most.max(net.world.fullest());
        assert!(net.world.fullest() <= SLOTS, "{at}");
    }
    assert_eq!(answered, asked, "{at}: all datagrams were answered");
    assert!(asked > 100 && connections > 10, "{at}: {asked} datagrams, {connections} connections");
    assert!(most > 0, "{at}");
    for (host, lease) in net.hosts[..2].iter().zip(leases) {
        assert_eq!((&host.lease, host.lost), (&lease, 0), "{at}: one address all day");
        // A lease of an hour is renewed after half of it.
        assert!((40..=60).contains(&host.acks), "{at}: {} renewals", host.acks);
    }
    assert_eq!(net.world.drops(), [], "{at}");
    // Longer than any timeout of a session.
    net.run(3 * HOUR, |_| false);
    assert_eq!(net.world.sessions(), 0, "{at}: all expired");
    let socket = net.hosts[0].ping_socket(9);
    net.hosts[0].ping(socket, GATEWAY, 9, 1);
    assert!(net.run(5, |net| !net.hosts[0].pongs(socket).is_empty()), "{at}: the gateway lives");
}

type Handle = smoltcp::iface::SocketHandle;

/// Whether the datagram that is under way comes back from the server.
fn echoed(net: &mut Net, (guest, local): (usize, Handle), echo: Handle) -> bool {
    net.run(5, |net| {
        while let Ok((bytes, from)) = net.hosts[2].udp(echo).recv().map(|(b, m)| (b.to_vec(), m.endpoint)) {
            net.hosts[2].udp(echo).send_slice(&bytes, from).expect("room for a datagram");
        }
        net.hosts[guest].udp(local).recv().is_ok()
    })
}

/// A TCP connection from beginning to end, or one that both forget.
fn session(net: &mut Net, guest: usize, port: u16) -> bool {
    let listener = net.hosts[2].listen(80);
    let client = net.hosts[guest].connect((SERVER, 80), port);
    let open =
        net.run(30, |net| net.hosts[guest].tcp(client).may_send() && net.hosts[2].tcp(listener).may_send());
    if !port.is_multiple_of(3) {
        net.hosts[guest].tcp(client).close();
        net.hosts[2].tcp(listener).close();
        net.run(30, |net| !net.hosts[guest].tcp(client).is_open() && !net.hosts[2].tcp(listener).is_open());
    }
    net.hosts[guest].sockets.remove(client);
    net.hosts[2].sockets.remove(listener);
    open
}

#[test]
fn in_a_day_leases_are_renewed_and_sessions_come_and_go() {
    for (workers, seed) in [(1, 11), (2, 12), (4, 13)] {
        day(workers, seed);
    }
}
