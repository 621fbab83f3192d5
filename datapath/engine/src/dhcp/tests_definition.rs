//! What the elements of a definition make of the server's answers.
use alloc::{string::ToString, vec, vec::Vec};
use core::net::Ipv4Addr;

use pontoon_wire::dhcp::MessageType as Type;

use super::{
    tests::{NOW, Net, acked, config, ip, mac, range, refused},
    *,
};

const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

fn host(last: u8, lease_seconds: Option<u32>) -> Reservation {
    Reservation { mac: Some(mac(last)), ip: Some(ip(last)), lease_seconds, ..Reservation::default() }
}

/// Seconds granted and address, by the whole exchange.
fn granted(net: &mut Net, client: u8) -> (Ipv4Addr, u64) {
    let offered = net.discover(mac(client), &[]).unwrap();
    let lease = acked(&net.select(mac(client), offered, &[]));
    (lease.ip, if lease.expiry == 0 { 0 } else { lease.expiry - NOW })
}

#[test]
fn ranges_and_hosts_have_lease_times_of_their_own() {
    let mut settings = config(10, 10);
    settings.ranges[0].lease_seconds = 200;
    settings.ranges.push(Range { lease_seconds: INFINITE, ..range(20, 20) });
    settings.hosts = vec![host(30, Some(300)), host(31, None), host(20, Some(400)), host(32, Some(INFINITE))];
    settings.lease_seconds = 777;
    let mut net = Net::new(settings);
    assert_eq!(granted(&mut net, 30), (ip(30), 300));
    assert_eq!(granted(&mut net, 31), (ip(31), 777), "in no range");
    assert_eq!(granted(&mut net, 20), (ip(20), 400), "the host's own before the range's");
    assert_eq!(granted(&mut net, 32), (ip(32), 0));
    assert_eq!(granted(&mut net, 1), (ip(10), 200));
    let asked = net.say(Type::Discover, mac(30), ANY, &[(51, &150u32.to_be_bytes())]);
    let Outcome::Reply(reply) = asked else { panic!("{asked:?}") };
    assert_eq!(net.answer(&reply).option(51), Some(&150u32.to_be_bytes()[..]), "less on request");
}

#[test]
fn without_ranges_only_hosts_are_served() {
    let mut settings = config(10, 10);
    settings.ranges.clear();
    settings.hosts = vec![host(30, None)];
    let mut net = Net::new(settings);
    assert_eq!(net.lease(mac(30), &[]), ip(30));
    assert_eq!(net.discover(mac(1), &[]), Err(Drop::PoolExhausted));
    refused(&net.reboot(mac(1), ip(30)));
}

#[test]
fn own_addresses_are_nobodys() {
    let mut settings = config(1, 4);
    settings.own = vec![ip(2), ip(3)];
    settings.hosts = vec![host(2, None)];
    let mut net = Net::new(settings);
    assert_eq!(net.lease(mac(2), &[]), ip(4), "a reservation of it is none");
    assert_eq!(net.discover(mac(9), &[]), Err(Drop::PoolExhausted));
    refused(&net.reboot(mac(9), ip(3)));
    refused(&net.reboot(mac(9), ip(1)));
}

#[test]
fn a_host_of_any_identifier_is_its_mac_address() {
    let mut settings = config(10, 20);
    settings.hosts = vec![Reservation { any_client_id: true, ..host(30, None) }];
    let mut net = Net::new(settings);
    for id in [&b"loader"[..], b"system", b"other"] {
        assert_eq!(net.lease(mac(30), &[(61, id)]), ip(30));
        assert_eq!(net.server.leases().count(), 1);
    }
    let lease = net.server.leases().next().unwrap();
    assert_eq!(lease.client_id, None);
}

/// The answer to a DISCOVER that asks for these options.
fn offer(net: &mut Net, wanted: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let list: &[(u8, &[u8])] = if wanted.is_empty() { &[] } else { &[(55, wanted)] };
    let Outcome::Reply(reply) = net.say(Type::Discover, mac(1), ANY, list) else { panic!() };
    let mut options: Vec<_> =
        net.answer(&reply).options().map(|(code, data)| (code, data.to_vec())).collect();
    let answer = net.answer(&reply);
    options.push((0, answer.siaddr().octets().to_vec()));
    options.push((1, text(answer.file())));
    options.push((2, text(answer.sname())));
    options
}

fn text(field: &[u8]) -> Vec<u8> {
    field.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}

/// The last of that code: fields stand behind the options.
fn found(options: &[(u8, Vec<u8>)], code: u8) -> Option<&[u8]> {
    options.iter().rev().find(|(listed, _)| *listed == code).map(|(_, data)| data.as_slice())
}

#[test]
fn boot_files_stand_in_fields_and_options() {
    let mut settings = config(10, 20);
    let plain = offer(&mut Net::new(settings.clone()), &[66, 67]);
    assert_eq!((found(&plain, 66), found(&plain, 67), found(&plain, 1)), (None, None, Some(&b""[..])));
    settings.boot = Some(Boot { file: "pxeboot.img".to_string(), ..Boot::default() });
    let mut net = Net::new(settings.clone());
    let bare = offer(&mut net, &[]);
    assert_eq!(found(&bare, 0), Some(&[10, 0, 0, 1][..]), "the gateway");
    assert_eq!((found(&bare, 1), found(&bare, 2)), (Some(&b"pxeboot.img"[..]), Some(&b""[..])));
    assert_eq!((found(&bare, 66), found(&bare, 67)), (None, None), "nobody asked");
    settings.boot.as_mut().unwrap().next_server = Some(Ipv4Addr::new(10, 9, 9, 9));
    let asked = offer(&mut Net::new(settings), &[66, 67]);
    assert_eq!(found(&asked, 0), Some(&[10, 9, 9, 9][..]));
    assert_eq!((found(&asked, 66), found(&asked, 67)), (Some(&b"10.9.9.9"[..]), Some(&b"pxeboot.img"[..])));
    let mut long = config(10, 20);
    long.boot = Some(Boot { file: "x".repeat(300), server_name: "y".repeat(300), next_server: None });
    let cut = offer(&mut Net::new(long), &[]);
    assert_eq!((found(&cut, 1).unwrap().len(), found(&cut, 2).unwrap().len()), (127, 63));
}

#[test]
fn options_replace_suppress_and_add() {
    let mut settings = config(10, 20);
    settings.options = vec![
        (3, vec![]),
        (6, vec![9, 9, 9, 9, 8, 8, 8, 8]),
        (26, 1400u16.to_be_bytes().to_vec()),
        (15, b"other.test".to_vec()),
        (42, vec![10, 0, 0, 5]),
        (51, vec![0; 4]),
        (53, vec![9]),
    ];
    let mut net = Net::new(settings);
    let all = offer(&mut net, &[]);
    assert_eq!(found(&all, 3), None, "empty: no router");
    assert_eq!(found(&all, 6), Some(&[9, 9, 9, 9, 8, 8, 8, 8][..]));
    assert_eq!(found(&all, 26), Some(&1400u16.to_be_bytes()[..]));
    assert_eq!(found(&all, 15), Some(&b"other.test"[..]));
    assert_eq!(found(&all, 42), Some(&[10, 0, 0, 5][..]));
    assert_eq!(found(&all, 51), Some(&3600u32.to_be_bytes()[..]), "the server's own word");
    assert_eq!(found(&all, 53), Some(&[2][..]));
    assert_eq!(found(&offer(&mut net, &[1, 3]), 42), None, "not asked for");
    assert!(found(&offer(&mut net, &[1, 42]), 42).is_some());
}

#[test]
fn the_search_list_is_for_those_who_ask() {
    let mut net = Net::new(config(10, 20));
    assert_eq!(found(&offer(&mut net, &[1]), 119), None);
    assert_eq!(found(&offer(&mut net, &[119]), 119), Some(&b"\x03lab\x04test\0"[..]));
}

#[test]
fn a_guest_beyond_its_share_of_the_disk_lives_on_what_is_on_record() {
    let mut net = Net::new(config(10, 20));
    let own = net.lease(mac(1), &[]);
    let other = net.discover(mac(2), &[]).unwrap();
    net.writable = false;
    assert_eq!(net.renew(mac(1), own), Outcome::Drop(Drop::Busy), "not on disk yet");
    net.server.committed(own, mac(1), NOW + 3600);
    net.now += 600;
    let outcome = net.renew(mac(1), own);
    let Outcome::Reply(reply) = outcome else { panic!("{outcome:?}") };
    assert_eq!(reply.kind, Type::Ack);
    assert_eq!(net.answer(&reply).option(51), Some(&3000u32.to_be_bytes()[..]), "what is left of it");
    assert_eq!(net.server.leases().next().unwrap().expiry, NOW + 3600);
    assert_eq!(net.select(mac(2), other, &[]), Outcome::Drop(Drop::Busy));
    assert_eq!(net.say(Type::Release, mac(1), own, &[]), Outcome::Drop(Drop::Busy));
    net.now += 1300;
    assert_eq!(net.renew(mac(1), own), Outcome::Drop(Drop::Busy), "too little is left");
    net.writable = true;
    assert_eq!(acked(&net.renew(mac(1), own)).expiry, net.now + 3600);
}

#[test]
fn a_host_entry_changed_while_it_runs_holds_from_the_next_renewal() {
    let mut settings = config(10, 20);
    settings.hosts = vec![host(30, None)];
    let mut net = Net::new(settings.clone());
    assert_eq!(net.lease(mac(30), &[]), ip(30));
    settings.hosts[0].ip = Some(ip(31));
    net.server.reconfigure(settings.clone());
    assert_eq!(net.server.leases().next().unwrap().ip, ip(30), "the guest still has it");
    refused(&net.renew(mac(30), ip(30)));
    assert_eq!(net.lease(mac(30), &[]), ip(31));
    settings.hosts.clear();
    net.server.reconfigure(settings);
    // Its system starts anew instead of renewing.
    let fresh = net.lease(mac(30), &[]);
    assert!((ip(10)..=ip(20)).contains(&fresh), "{fresh}");
    assert_eq!(net.server.leases().count(), 1);
}

#[test]
fn a_host_by_name_that_takes_another_leaves_its_address() {
    let mut settings = config(10, 13);
    settings.hosts =
        vec![Reservation { name: Some("db".to_string()), ip: Some(ip(30)), ..Reservation::default() }];
    let mut net = Net::new(settings);
    assert_eq!(net.lease(mac(1), &[(12, b"db")]), ip(30));
    let other = net.lease(mac(1), &[(12, b"web")]);
    assert!((ip(10)..=ip(13)).contains(&other), "{other}");
    assert_eq!(net.lease(mac(2), &[(12, b"db")]), ip(30));
}

#[test]
fn a_host_is_known_by_identifier_and_by_name() {
    let mut settings = config(10, 13);
    settings.hosts = vec![Reservation {
        client_id: Some(vec![1, 2]),
        name: Some("db".to_string()),
        ip: Some(ip(30)),
        ..Reservation::default()
    }];
    let mut net = Net::new(settings);
    assert_eq!(net.lease(mac(1), &[(61, &[1, 2]), (12, b"other")]), ip(30));
    assert_ne!(net.lease(mac(2), &[(12, b"db")]), ip(30), "it is in use");
    net.say(Type::Release, mac(1), ip(30), &[(61, &[1, 2])]);
    assert_eq!(net.lease(mac(2), &[(12, b"db")]), ip(30));
}
