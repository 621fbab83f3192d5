//! Reservations, changes of configuration, and leases from disk; limits.
use alloc::{string::ToString, vec, vec::Vec};
use core::net::Ipv4Addr;

use super::{
    tests::{NOW, Net, config, ip, mac, refused},
    *,
};

#[test]
fn reservations() {
    let mut settings = config(10, 11);
    let host = |mac, client_id: Option<&[u8]>, name: Option<&str>, ip| Reservation {
        mac,
        client_id: client_id.map(<[u8]>::to_vec),
        name: name.map(ToString::to_string),
        ip,
        ..Reservation::default()
    };
    settings.hosts = vec![
        host(Some(mac(1)), None, None, Some(ip(10))),
        host(None, Some(b"id"), None, Some(ip(5))),
        host(None, None, Some("byname"), Some(ip(6))),
        host(Some(mac(4)), None, Some("named"), None),
        host(Some(mac(5)), None, None, Some(ip(1))),
    ];
    let mut net = Net::new(settings);
    assert_eq!(net.lease(mac(4), &[]), ip(11));
    assert_eq!(net.server.lookup_name("named", NOW), Some(ip(11)));
    assert_eq!(net.discover(mac(5), &[]), Err(Drop::PoolExhausted));
    refused(&net.reboot(mac(5), ip(10)));
    assert_eq!(net.lease(mac(1), &[]), ip(10));
    assert_eq!(net.lease(mac(1), &[(61, b"after boot")]), ip(10));
    assert_eq!(net.lease(mac(7), &[(61, b"id")]), ip(5));
    assert_eq!(net.lease(mac(8), &[(12, b"byname")]), ip(6));
    assert_eq!(net.discover(mac(9), &[(12, b"byname")]), Err(Drop::PoolExhausted));
    refused(&net.renew(mac(1), ip(11)));
}

#[test]
fn reconfigure_keeps_what_fits() {
    let mut net = Net::new(config(10, 20));
    let own = net.lease(mac(1), &[(12, b"one")]);
    net.server.reconfigure(config(10, 30));
    assert_eq!(net.server.lookup_name("one", NOW), Some(own));
    let mut reserved = config(10, 30);
    reserved.hosts = vec![Reservation { mac: Some(mac(2)), ip: Some(own), ..Reservation::default() }];
    net.server.reconfigure(reserved);
    assert_ne!(net.lease(mac(2), &[]), own, "its guest still uses it");
    let outcome = net.renew(mac(1), own);
    assert!(matches!(outcome, Outcome::Revoke { change: Change::Remove(gone, _), .. } if gone == own));
    assert_eq!(net.lease(mac(2), &[]), own);
    net.server.reconfigure(config(40, 50));
    assert_eq!(net.server.leases().map(|lease| lease.ip).collect::<Vec<_>>(), [own]);
    refused(&net.renew(mac(2), own));
    assert_eq!(net.server.leases().count(), 0);
    let mut elsewhere = config(10, 20);
    (elsewhere.server, elsewhere.ranges) = (Ipv4Addr::new(10, 0, 1, 1), vec![]);
    net.lease(mac(2), &[]);
    net.server.reconfigure(elsewhere);
    assert_eq!(net.server.leases().count(), 0, "another subnet");
}

#[test]
fn restore_tolerates_anything() {
    let mut net = Net::new(config(10, 20));
    let lease = |last, client_id: Option<Vec<u8>>, hostname: Option<&str>, expiry| Lease {
        ip: ip(last),
        mac: mac(1),
        client_id,
        hostname: hostname.map(ToString::to_string),
        expiry,
    };
    for last in [0, 1, 255] {
        net.server.restore(lease(last, None, None, 0));
    }
    net.server.restore(lease(10, Some(vec![]), None, 0));
    net.server.restore(lease(10, Some(vec![0; 256]), None, 0));
    net.server.restore(Lease { mac: [0xff; 6], ..lease(10, None, None, 0) });
    assert_eq!(net.server.leases().count(), 0);
    net.server.restore(lease(10, None, Some("../x"), 500));
    net.server.restore(lease(11, None, None, 400));
    net.server.restore(lease(12, None, Some("ok"), 600));
    net.server.restore(lease(12, Some(vec![7]), None, 300));
    assert_eq!(net.server.leases().cloned().collect::<Vec<_>>(), [lease(12, None, Some("ok"), 600)]);
    assert_eq!(net.expire(), 1);
}

#[test]
fn odd_configurations() {
    for (low, high, prefix) in [(0, 255, 32), (0, 255, 31), (0, 255, 0), (20, 10, 24), (0, 255, 200)] {
        let mut settings = config(low, high);
        settings.prefix = prefix;
        let mut net = Net::new(settings);
        if let Ok(offered) = net.discover(mac(1), &[]) {
            assert_ne!(offered, ip(1));
        }
    }
    let mut whole = config(0, 0);
    let all = Range { first: Ipv4Addr::UNSPECIFIED, last: Ipv4Addr::BROADCAST, lease_seconds: 3600 };
    (whole.prefix, whole.ranges) = (0, vec![all.clone(), all]);
    assert!(Net::new(whole).server.table.pool.size() <= MAX_POOL as usize);
}

#[test]
fn offers_are_capped() {
    let mut settings = config(0, 255);
    settings.prefix = 16;
    settings.ranges[0].first = Ipv4Addr::new(10, 0, 1, 0);
    settings.ranges[0].last = Ipv4Addr::new(10, 0, 255, 255);
    let mut net = Net::new(settings);
    for client in 0..5000u16 {
        let [high, low] = client.to_be_bytes();
        net.discover([2, 0, 0, 1, high, low], &[]).unwrap();
    }
    assert_eq!(net.server.table.into_slots().count(), 4096);
}

#[test]
fn d18_one_mac_cannot_take_the_pool() {
    let mut net = Net::new(config(10, 49));
    let mut given = 0;
    for id in 0..100u8 {
        match net.discover(mac(1), &[(61, &[id])]) {
            Ok(offered) => {
                given += usize::from(matches!(
                    net.select(mac(1), offered, &[(61, &[id])]),
                    Outcome::Commit { .. }
                ));
            }
            Err(reason) => assert_eq!(reason, Drop::TooManyPerMac),
        }
    }
    assert_eq!(given, MAX_PER_MAC);
    refused(&net.reboot(mac(1), ip(49)));
    net.lease(mac(2), &[]);
}
