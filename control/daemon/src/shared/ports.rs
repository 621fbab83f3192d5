//! Which of the host's ports are NAT's, and keeping the host from giving them to its own programs.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use crate::disk::Disk;

/// First and last.
pub(crate) type Range = (u16, u16);

/// What libvirt writes into definitions: any port that is no service's.
const ANY: Range = (1024, u16::MAX);
/// The block that is taken when nothing speaks against it: behind the ports Linux gives to programs that ask for none,
/// and where its masquerading was before netfilter.
const BLOCK: Range = (61000, u16::MAX);
/// Size of the others.
const SIZE: u16 = 4096;

const EPHEMERAL: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// A definition that leaves the choice: by saying nothing, or what libvirt says by itself.
pub(super) fn is_free_choice(wanted: Option<Range>) -> bool {
    wanted.is_none_or(|wanted| wanted == ANY)
}

/// Blocks in the order they are tried: outside of the ports the host gives away first.
pub(super) fn blocks(ephemeral: Range) -> Vec<Range> {
    let aligned = (1..u16::MAX / SIZE).rev().map(|number| (number * SIZE, number * SIZE + (SIZE - 1)));
    let (outside, inside): (Vec<_>, Vec<_>) =
        [BLOCK].into_iter().chain(aligned).partition(|block| !overlap(*block, ephemeral));
    outside.into_iter().chain(inside).collect()
}

pub(super) fn overlap(one: Range, other: Range) -> bool {
    one.0 <= other.1 && other.0 <= one.1
}

/// The ports the host gives to programs that ask for none.
pub(super) fn ephemeral() -> Range {
    let text = fs::read_to_string(EPHEMERAL).unwrap_or_default();
    let mut words = text.split_whitespace().filter_map(|word| word.parse().ok());
    words.next().zip(words.next()).unwrap_or((32768, 60999))
}

/// `8080,9000-9010`
fn parse(text: &str) -> BTreeSet<u16> {
    let ranges = text.trim().split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse::<u16>().ok()?..=last.trim().parse::<u16>().ok()?)
    });
    ranges.flatten().collect()
}

fn print(ports: &BTreeSet<u16>) -> String {
    let mut ranges: Vec<Range> = Vec::new();
    for port in ports {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*port) => *last = *port,
            _ => ranges.push((*port, *port)),
        }
    }
    let one = |(first, last): &Range| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    ranges.iter().map(one).collect::<Vec<_>>().join(",")
}

/// Has the host reserve exactly `wanted` besides what others have reserved. The note says which ports are reserved
/// because of us, also to the daemon after one that was killed.
pub(super) fn reserve(disk: &dyn Disk, note: &Path, wanted: &[Range]) -> io::Result<()> {
    reserve_in(Path::new(RESERVED), disk, note, wanted)
}

fn reserve_in(switch: &Path, disk: &dyn Disk, note: &Path, wanted: &[Range]) -> io::Result<()> {
    let ours =
        disk.read(note).map_or_else(|_| BTreeSet::new(), |bytes| parse(&String::from_utf8_lossy(&bytes)));
    let wanted: BTreeSet<u16> = wanted.iter().flat_map(|(first, last)| *first..=*last).collect();
    if wanted.is_empty() && ours.is_empty() {
        return Ok(());
    }
    let present = parse(&fs::read_to_string(switch)?);
    let others: BTreeSet<u16> = present.difference(&ours).copied().collect();
    let added: BTreeSet<u16> = wanted.difference(&others).copied().collect();
    // Noted before it is done: ports that are noted and not reserved do no harm.
    if !ours.is_superset(&added) {
        disk.replace_unsynced(note, print(&ours.union(&added).copied().collect()).as_bytes())?;
    }
    let next: BTreeSet<u16> = others.union(&added).copied().collect();
    if next != present {
        fs::write(switch, format!("{}\n", print(&next)))?;
    }
    match added.is_empty() {
        true => disk.remove(note),
        false if added != ours => disk.replace_unsynced(note, print(&added).as_bytes()),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    #[test]
    fn a_block_outside_of_what_the_host_gives_away_comes_first() {
        assert_eq!(blocks((32768, 60999))[..2], [(61000, 65535), (28672, 32767)]);
        assert_eq!(blocks((1024, 65535))[0], (61000, 65535));
        assert_eq!(blocks((32768, 65535))[0], (28672, 32767));
        assert!(blocks((1, 65535)).iter().all(|(first, last)| first < last && *first >= 1024));
        assert!(is_free_choice(None) && is_free_choice(Some((1024, 65535))));
        assert!(!is_free_choice(Some((1024, 65534))));
    }

    #[test]
    fn ranges_are_read_and_printed_as_the_kernel_does() {
        for text in ["", "8080", "8080,9000-9010", "1-65535"] {
            assert_eq!(print(&parse(&format!("{text}\n"))), text);
        }
        assert_eq!(print(&parse("9,7-8,20")), "7-9,20");
    }

    #[test]
    fn what_others_reserved_stays_whatever_happens() {
        let dir = crate::testing::scratch("reserved");
        std::fs::create_dir_all(&dir).expect("directory");
        let (switch, note) = (dir.join("switch"), dir.join("note"));
        let set = |wanted: &[Range]| reserve_in(&switch, &RealDisk, &note, wanted).expect("reserved");
        let now = || fs::read_to_string(&switch).expect("switch").trim().to_owned();
        fs::write(&switch, "8080,61000-61001\n").expect("switch");
        set(&[(61000, 61003)]);
        assert_eq!(now(), "8080,61000-61003");
        set(&[(61000, 61003)]);
        set(&[(5000, 5001)]);
        assert_eq!(now(), "5000-5001,8080,61000-61001");
        // Killed here, and started again with another range, or none.
        set(&[(7000, 7000)]);
        assert_eq!(now(), "7000,8080,61000-61001");
        set(&[]);
        assert_eq!((now().as_str(), note.exists()), ("8080,61000-61001", false));
        // Killed between the note and the deed.
        fs::write(&note, "9000-9001").expect("note");
        set(&[]);
        assert_eq!((now().as_str(), note.exists()), ("8080,61000-61001", false));
        fs::remove_dir_all(&dir).expect("clean");
    }
}
