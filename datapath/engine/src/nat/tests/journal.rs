//! Notes of what begins and ends.

use super::*;

fn changes(bench: &mut Bench) -> Vec<(bool, bool, u16, End)> {
    let mut found = Vec::new();
    let lost = bench.nat.take_changes(bench.now, |change| {
        found.push((change.begins, change.mapping, change.session.inside.1, change.session.remote));
    });
    assert_eq!(lost, 0);
    found
}

#[test]
fn sessions_and_mappings_are_noted_where_they_are_of_interest() {
    let mut bench = Bench::new(8);
    bench.udp_out((GUEST, 5000), (SERVER, 53)).unwrap();
    assert!(!bench.nat.has_changes(), "nobody asked");
    bench.nat.watch(Interest { sessions: true, mappings: Vec::new() });
    bench.udp_out((GUEST, 5000), (ROUTER, 53)).unwrap();
    bench.udp_out((GUEST, 6000), (ROUTER, 53)).unwrap();
    let (first, second) = ((SERVER, 53), (ROUTER, 53));
    assert_eq!(changes(&mut bench), [(true, false, 5000, second), (true, true, 6000, second)]);
    bench.wait(301);
    let ended = [(false, false, 5000, first), (false, true, 5000, second), (false, true, 6000, second)];
    assert_eq!(changes(&mut bench), ended);
    assert!(!bench.nat.has_changes());
    bench.nat.watch(Interest { sessions: false, mappings: vec![INSIDE.network] });
    bench.udp_out((GUEST, 5000), first).unwrap();
    bench.udp_out((GUEST, 5000), second).unwrap();
    assert_eq!(changes(&mut bench), [(true, true, 5000, first)]);
    bench.nat.flush_network(INSIDE.network);
    assert_eq!(changes(&mut bench).len(), 1, "the mapping ends once");
    bench.nat.watch(Interest { sessions: false, mappings: vec![9] });
    bench.udp_out((GUEST, 5000), first).unwrap();
    assert_eq!(changes(&mut bench), []);
    bench.nat.watch(Interest::default());
    bench.nat.flush_network(INSIDE.network);
    assert!(!bench.nat.has_changes());
}

#[test]
fn what_there_is_no_room_for_is_counted() {
    let mut bench = Bench::new(6000);
    bench.nat.watch(Interest { sessions: true, mappings: Vec::new() });
    for number in 0..5000u32 {
        let guest = Ipv4Addr::from(u32::from(GUEST) + number / 1000);
        let to = (SERVER, 1 + number as u16 % 1000);
        bench.udp_out((guest, 5000), to).unwrap();
    }
    let mut count = 0;
    let lost = bench.nat.take_changes(bench.now, |_| count += 1);
    assert_eq!((count, lost), (4096, 5000 - 4096));
    bench.udp_out((GUEST, 5001), (SERVER, 9)).unwrap();
    assert_eq!(changes(&mut bench).len(), 1, "and then there is room again");
}
