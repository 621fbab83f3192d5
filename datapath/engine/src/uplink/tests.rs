use super::*;

const IP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

#[test]
fn frames_wait_for_the_answer_and_then_all_leave() {
    let mut table = Neighbours::default();
    assert_eq!(table.resolve(Time::default(), IP), Resolve::Unknown { ask: true });
    assert_eq!(table.resolve(Time::default(), IP), Resolve::Unknown { ask: false });
    for n in 0..PENDING {
        assert!(table.wait(IP, vnet::Header::default(), &[n as u8]));
    }
    assert!(!table.wait(IP, vnet::Header::default(), &[0]), "the queue is bounded");
    assert_eq!(table.learn(Time::default(), IP, [2; 6]).len(), PENDING);
    assert_eq!(table.resolve(Time::from_secs(1), IP), Resolve::Known { mac: [2; 6], ask: false });
    assert_eq!(table.resolve(Time::from_secs(31), IP), Resolve::Known { mac: [2; 6], ask: true });
}

#[test]
fn a_silent_neighbour_is_asked_three_times_and_given_up() {
    let mut table = Neighbours::default();
    table.resolve(Time::default(), IP);
    table.wait(IP, vnet::Header::default(), &[1]);
    let (mut asked, mut lost) = (1, 0);
    for second in 1..10 {
        lost += table.expire(Time::from_secs(second), &mut |_| asked += 1);
    }
    assert_eq!((asked, lost, table.is_waiting()), (3, 1, false));
}

#[test]
fn an_answer_nobody_asked_for_is_not_believed() {
    let mut table = Neighbours::default();
    table.learn(Time::default(), IP, [2; 6]);
    assert_eq!(table.resolve(Time::default(), IP), Resolve::Unknown { ask: true });
}

#[test]
fn a_scan_fills_its_share_of_the_table_and_pushes_nobody_out() {
    let mut table = Neighbours::default();
    table.resolve(Time::default(), IP);
    table.learn(Time::default(), IP, [2; 6]);
    for n in 0..5000 {
        let ip = Ipv4Addr::from_bits(n as u32);
        table.resolve(Time(n), ip);
        table.wait(ip, vnet::Header::default(), &[1]);
    }
    assert_eq!((table.entries.len(), table.unresolved, table.waiting), (UNRESOLVED + 1, UNRESOLVED, WAITING));
    assert_eq!(table.resolve(Time::from_secs(1), IP), Resolve::Known { mac: [2; 6], ask: false });
    let lost: usize = (1..10).map(|second| table.expire(Time::from_secs(second), &mut |_| {})).sum();
    assert_eq!((lost, table.unresolved, table.waiting), (WAITING, 0, 0));
}

#[test]
fn answers_fill_the_table_and_then_the_oldest_goes() {
    let mut table = Neighbours::default();
    for n in 0..2000 {
        let ip = Ipv4Addr::from_bits(n as u32);
        table.resolve(Time(n), ip);
        table.learn(Time(n), ip, [2; 6]);
    }
    assert_eq!((table.entries.len(), table.unresolved), (NEIGHBOURS, 0));
    assert!(table.entries.keys().all(|ip| ip.to_bits() >= 2000 - NEIGHBOURS as u32));
}

#[test]
fn an_address_is_published_whole() {
    let address = Address::default();
    assert_eq!(address.get(), None);
    let subnet = Subnet { address: Ipv4Addr::new(203, 0, 113, 2), prefix: 24 };
    address.set(subnet, Some(IP));
    assert_eq!(address.get(), Some((subnet, Some(IP))));
    address.clear();
    assert_eq!(address.get(), None);
}
