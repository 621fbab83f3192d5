//! Lines, copies and parts of lease logs, and what damage costs.

use super::*;
use crate::disk_fake::{FakeDisk, Fault};

pub(crate) fn lease(last: u8, expiry: u64) -> Lease {
    Lease {
        ip: Ipv4Addr::new(192, 168, 122, last),
        mac: [0x52, 0x54, 0, 0, 0, last],
        client_id: Some(vec![1, 2, last]),
        hostname: Some(format!("guest{last}")),
        expiry,
    }
}

pub(crate) fn line(lease: &Lease) -> Vec<u8> {
    format_line(lease).expect("line").into_bytes()
}

/// The line that takes an address of [`lease`] away.
pub(crate) fn removal(last: u8) -> Vec<u8> {
    let json = format!(r#"{{"remove":"192.168.122.{last}"}}"#);
    format!("{:08x} {json}\n", crc32(json.as_bytes())).into_bytes()
}

fn log_of(leases: &[Lease]) -> Vec<u8> {
    leases.iter().map(|lease| format_line(lease).expect("line")).collect::<String>().into_bytes()
}

#[test]
fn the_checksum_is_the_usual_one() {
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
}

#[test]
fn a_client_that_moved_leaves_its_old_address_but_not_to_take_anothers() {
    let moved = Lease { ip: Ipv4Addr::new(192, 168, 122, 9), ..lease(2, 30) };
    let heir = Lease { ip: Ipv4Addr::new(192, 168, 122, 2), ..lease(3, 40) };
    let again = Lease { ip: Ipv4Addr::new(192, 168, 122, 10), ..lease(2, 50) };
    let log = alone(&log_of(&[lease(2, 0), moved.clone()]));
    assert_eq!(log.leases, [moved]);
    let log = alone(&log_of(&[lease(2, 20), heir.clone(), again.clone()]));
    assert_eq!(log.leases, [heir, again]);
}

#[test]
fn the_last_line_about_an_address_wins_and_remove_removes() {
    let mut bytes = log_of(&[lease(2, 10), lease(3, 10), lease(2, 20)]);
    bytes.extend(removal(3));
    assert_eq!(alone(&bytes), Log { leases: vec![lease(2, 20)], ..Log::default() });
}

#[test]
fn damage_at_any_byte_costs_at_most_the_lines_it_touches() {
    let all = [lease(2, 0), lease(3, 0), lease(4, 0)];
    let bytes = log_of(&all);
    for at in 0..bytes.len() {
        for value in [0, b'\n', b'x', 0xff, bytes[at] ^ 1] {
            let mut hurt = bytes.clone();
            hurt[at] = value;
            let log = alone(&hurt);
            assert!(log.leases.iter().all(|lease| all.contains(lease)), "offset {at}");
            assert!(!log.leases.is_empty(), "offset {at}");
            if value != bytes[at] && bytes[at] != b'\n' && value != b'\n' && !bytes[at].is_ascii_hexdigit() {
                assert_eq!(log.leases.len(), 2, "offset {at}");
            }
        }
    }
}

#[test]
fn a_log_cut_at_any_byte_keeps_the_whole_lines_before() {
    let bytes = log_of(&[lease(2, 0), lease(3, 0)]);
    let first = format_line(&lease(2, 0)).expect("line").len();
    for cut in 0..bytes.len() {
        let expected = usize::from(cut >= first - 1) + usize::from(cut >= bytes.len() - 1);
        assert_eq!(alone(&bytes[..cut]).leases.len(), expected, "cut at {cut}");
    }
}

#[test]
fn expired_leases_are_hidden_infinite_ones_are_not() {
    assert_eq!(current(vec![lease(2, 5), lease(3, 0), lease(4, 6)], 5), vec![lease(3, 0), lease(4, 6)]);
}

/// A log whose copy is missing.
fn alone(bytes: &[u8]) -> Log {
    let half = merge(parse(bytes), Half::default());
    Log { leases: replay(half.entries.into_iter()), damaged: half.damaged }
}

/// A disk with a log and its copy.
fn disk(log: &[u8], copy: &[u8]) -> FakeDisk {
    let disk = FakeDisk::default();
    disk.write(path(), log).expect("write");
    disk.write(&with_suffix(path(), COPY), copy).expect("write");
    disk.settle();
    disk
}

fn path() -> &'static Path {
    Path::new("/leases/n.leases")
}

#[test]
fn damage_at_any_byte_of_either_file_costs_no_lease() {
    let mut bytes = log_of(&[lease(2, 10), lease(3, 0), lease(4, 0), lease(2, 0)]);
    bytes.extend(removal(3));
    let expected = [lease(2, 0), lease(4, 0)];
    for at in 0..bytes.len() {
        let mut hurts = vec![bytes[..at].to_vec()];
        for value in [0, b'\n', b'x', 0xff, bytes[at] ^ 1] {
            let mut hurt = bytes.clone();
            hurt[at] = value;
            hurts.push(hurt);
        }
        for hurt in hurts {
            for disk in [disk(&hurt, &bytes), disk(&bytes, &hurt)] {
                assert_eq!(compact(&disk, path()).expect("compact").leases, expected, "offset {at}");
                assert_eq!(read(&disk, path()).expect("read").leases, expected, "offset {at}, again");
            }
        }
    }
}

#[test]
fn damage_in_both_files_costs_what_both_have_lost() {
    let hurt = |line: usize| {
        let mut lines: Vec<Vec<u8>> = [lease(2, 0), lease(3, 0), lease(4, 0)].map(|l| log_of(&[l])).into();
        lines[line][12] ^= 1;
        lines.concat()
    };
    let log = read(&disk(&hurt(0), &hurt(2)), path()).expect("read");
    assert_eq!((log.leases.len(), log.damaged.len()), (3, 2));
    let log = read(&disk(&hurt(1), &hurt(1)), path()).expect("read");
    assert_eq!((log.leases, log.damaged.len()), (vec![lease(2, 0), lease(4, 0)], 1));
}

#[test]
fn compaction_keeps_what_is_valid_and_sets_the_rest_aside() {
    let mut bytes = log_of(&[lease(2, 1), lease(3, 0)]);
    bytes.extend(b"garbage\n");
    let disk = disk(&bytes, &bytes);
    let log = compact(&disk, path()).expect("compact");
    assert_eq!((log.leases, log.damaged), (vec![lease(3, 0)], vec![b"garbage".to_vec()]));
    assert_eq!(disk.read(path()).expect("read"), log_of(&[lease(3, 0)]));
    assert_eq!(disk.read(Path::new("/leases/n.leases.bad-1")).expect("aside"), b"garbage\n");
}

#[test]
fn a_log_that_was_removed_is_empty_whatever_its_copy_says() {
    let disk = disk(b"", &log_of(&[lease(2, 0)]));
    disk.remove(path()).expect("remove");
    assert_eq!(read(&disk, path()).expect("read"), Log::default());
}

#[test]
fn compaction_that_is_cut_short_or_fails_at_any_step_loses_no_lease() {
    let bytes = log_of(&[lease(2, 10), lease(3, 0), lease(4, 0), lease(2, 0), lease(9, 1)]);
    let expected = [lease(2, 0), lease(3, 0), lease(4, 0)];
    let held = |disk: &FakeDisk| current(read(disk, path()).expect("read").leases, now());
    for fault in [Fault::Crash, Fault::Full, Fault::Broken] {
        for at in 1.. {
            let disk = disk(&bytes, &bytes);
            disk.fail(Some((at, fault)));
            let done = compact(&disk, path());
            if disk.steps() < at {
                assert!(done.is_ok() && at > 6, "{at} steps");
                break;
            }
            assert_eq!(held(&disk), expected, "{fault:?} at {at}");
            for later in disk.after_crash() {
                assert_eq!(held(&later), expected, "{fault:?} at {at}");
            }
        }
    }
}

/// A log in parts, the last of which is written to.
fn in_parts() -> FakeDisk {
    let disk = disk(&log_of(&[lease(2, 10), lease(3, 0)]), b"");
    for (number, leases) in [(1, [lease(4, 0), lease(2, 0)]), (2, [lease(5, 0), lease(3, 1)])] {
        for file in [part(path(), number), with_suffix(&part(path(), number), COPY)] {
            disk.write(&file, &log_of(&leases)).expect("write");
        }
    }
    disk.settle();
    disk
}

#[test]
fn a_log_in_parts_is_read_in_their_order() {
    let disk = in_parts();
    let expected = [lease(2, 0), lease(3, 1), lease(4, 0), lease(5, 0)];
    assert_eq!(read(&disk, path()).expect("read").leases, expected);
    assert_eq!(parts(&disk, path()).last(), Some(&part(path(), 2)));
    for number in 3..=11 {
        disk.write(&part(path(), number), b"").expect("write");
    }
    assert_eq!(parts(&disk, path()).last(), Some(&part(path(), 11)), "numbers, not text");
    disk.remove(path()).expect("remove");
    assert_eq!(read(&disk, path()).expect("read"), Log::default(), "a log that was removed is empty");
}

#[test]
fn parts_are_folded_and_no_fault_at_any_step_loses_a_lease() {
    let expected = [lease(2, 0), lease(4, 0), lease(5, 0)];
    let held = |disk: &FakeDisk| current(read(disk, path()).expect("read").leases, now());
    for name in ["compact", "rotate"] {
        let operation = |disk: &FakeDisk| match name {
            "compact" => compact(disk, path()).map(drop),
            _ => rotate(disk, path()).map(drop),
        };
        for fault in [Fault::Crash, Fault::Full, Fault::Broken] {
            for at in 1.. {
                let disk = in_parts();
                disk.fail(Some((at, fault)));
                let done = operation(&disk);
                let steps = disk.steps();
                disk.fail(None);
                let mut disks = disk.after_crash();
                disks.push(disk);
                for disk in disks {
                    assert_eq!(held(&disk), expected, "{name}: {fault:?} at {at}");
                }
                if steps < at {
                    assert!(done.is_ok() && at > 6, "{at} steps");
                    break;
                }
            }
        }
    }
    let disk = in_parts();
    assert_eq!(rotate(&disk, path()).expect("rotate"), part(path(), 3));
    assert_eq!(parts(&disk, path()), [path().to_owned(), part(path(), 2), part(path(), 3)]);
    compact(&disk, path()).expect("compact");
    assert_eq!(parts(&disk, path()), [path()]);
    rotate(&disk, path()).expect("rotate");
    remove(&disk, path());
    assert!(disk.list(Path::new("/leases")).expect("list").is_empty());
}
