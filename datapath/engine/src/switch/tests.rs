use super::*;

fn mac(n: u32) -> Mac {
    let [a, b, c, d] = n.to_be_bytes();
    [0x52, 0x54, a, b, c, d]
}

#[test]
fn an_address_is_forgotten_after_300_seconds_of_silence_and_not_before() {
    let table = MacTable::new(1);
    assert_eq!(table.learn(Time::from_secs(10), mac(1), 3, 16), Learned::New);
    assert_eq!(table.lookup(Time::from_secs(309), mac(1)), Some(3));
    assert_eq!(table.lookup(Time::from_secs(311), mac(1)), None);
    assert_eq!(table.learn(Time::from_secs(300), mac(1), 3, 16), Learned::Known);
    assert_eq!(table.lookup(Time::from_secs(599), mac(1)), Some(3));
}

#[test]
fn a_station_that_moves_is_found_at_its_new_port_at_once() {
    let table = MacTable::new(1);
    table.learn(Time::default(), mac(1), 3, 16);
    assert_eq!(table.learn(Time::default(), mac(1), 4, 16), Learned::Moved);
    assert_eq!(table.lookup(Time::default(), mac(1)), Some(4));
}

#[test]
fn a_static_entry_neither_ages_nor_moves() {
    let table = MacTable::new(1);
    table.insert_static(mac(9), 7);
    assert_eq!(table.learn(Time::default(), mac(9), 3, 16), Learned::Refused);
    assert_eq!(table.lookup(Time::from_secs(1_000_000), mac(9)), Some(7));
}

#[test]
fn a_port_learns_no_more_than_its_limit_and_gets_room_back_when_entries_go() {
    let table = MacTable::new(1);
    for n in 0..16 {
        assert_eq!(table.learn(Time::default(), mac(n), 1, 16), Learned::New);
    }
    assert_eq!(table.learn(Time::default(), mac(16), 1, 16), Learned::PortLimit);
    assert_eq!(table.learn(Time::default(), mac(16), 2, 16), Learned::New, "another port is not concerned");
    table.flush_port(1);
    assert_eq!(table.lookup(Time::default(), mac(0)), None);
    assert_eq!(table.lookup(Time::default(), mac(16)), Some(2));
    assert_eq!(table.learn(Time::default(), mac(17), 1, 16), Learned::New);
}

#[test]
fn a_flood_of_addresses_fills_the_table_and_evicts_nobody() {
    let table = MacTable::new(42);
    table.learn(Time::default(), mac(u32::MAX), 2, 16);
    let learned =
        (0..1_000_000).filter(|&n| table.learn(Time::default(), mac(n), 1, u16::MAX) == Learned::New);
    assert!(learned.count() < CAPACITY);
    assert_eq!(table.lookup(Time::default(), mac(u32::MAX)), Some(2));
    let mut from = 0;
    loop {
        from = table.sweep(Time::from_secs(301), from, 1000);
        if from == 0 {
            break;
        }
    }
    let mut left = 0;
    table.for_each(Time::from_secs(301), &mut |_, _, _| left += 1);
    assert_eq!(left, 0);
}

#[test]
fn four_thousand_addresses_fit() {
    let table = MacTable::new(7);
    let learned =
        (0..4096).filter(|&n| table.learn(Time::default(), mac(n), (n % 256) as u16, 64) == Learned::New);
    assert_eq!(learned.count(), 4096);
}

#[test]
fn ageing_is_what_it_is_set_to() {
    let table = MacTable::new(1);
    table.learn(Time::from_secs(10), mac(1), 3, 16);
    table.set_ageing(5);
    assert_eq!(table.lookup(Time::from_secs(15), mac(1)), Some(3));
    assert_eq!(table.lookup(Time::from_secs(16), mac(1)), None);
    table.set_ageing(0);
    assert_eq!(table.lookup(Time::from_secs(10), mac(1)), Some(3), "the second it was seen in");
    assert_eq!(table.lookup(Time::from_secs(11), mac(1)), None);
}

#[test]
fn flushing_leaves_static_entries_and_other_ports_alone() {
    let table = MacTable::new(1);
    for n in 0..40 {
        table.learn(Time::default(), mac(n), (n % 4) as u16, 64);
    }
    table.insert_static(mac(100), 1);
    table.flush_learned(&[1, 3]);
    let found = |n| table.lookup(Time::default(), mac(n));
    assert!((0..40).all(|n| found(n) == (n % 2 == 0).then_some((n % 4) as u16)));
    assert_eq!(found(100), Some(1));
    assert_eq!((table.forget(mac(100)), table.forget(mac(0)), table.forget(mac(0))), (false, true, false));
    table.flush();
    assert_eq!((found(2), found(100)), (None, Some(1)));
}

#[test]
fn static_entries_are_replaced_as_a_whole() {
    let table = MacTable::new(1);
    table.learn(Time::default(), mac(1), 5, 64);
    table.replace_static(&[(mac(1), 2), (mac(2), 2)]);
    table.replace_static(&[(mac(1), 2), (mac(3), 4)]);
    let found = [1, 2, 3].map(|n| table.lookup(Time::from_secs(9999), mac(n)));
    assert_eq!(found, [Some(2), None, Some(4)]);
    assert_eq!(table.learn(Time::default(), mac(1), 5, 64), Learned::Refused);
    table.replace_static(&[]);
    assert_eq!(table.learn(Time::default(), mac(1), 5, 1), Learned::New);
}
