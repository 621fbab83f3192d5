//! Definitions as files: `NAME.xml` and its copy `NAME.xml.bak`, each with a checksum in its first line.
//!
//! The copy is there for damage: a file that was cut or of which one byte changed is replaced by it. Anything else
//! that can be read counts as an edit by hand and is taken, and so is a file without the first line.

use pontoon_netxml::{DumpOptions, Network};

use crate::leases::crc32;

const HEADER: &str = "<!-- pontoon checksum ";
const ADVICE: &str = ": use 'pontoon net-edit', or remove this line together with an edit by hand. -->\n";

/// The text of a definition, with its first line.
pub(crate) fn signed(payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{HEADER}{:08x}{ADVICE}", crc32(payload)).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

pub(crate) fn text(network: &Network) -> Vec<u8> {
    network.to_xml(&DumpOptions { inactive: true, connections: None }).into_bytes()
}

/// A file split at its first line.
struct Parts<'a> {
    payload: &'a [u8],
    /// Whether the checksum is there, and whether it is right.
    checksum: Option<bool>,
}

fn split(bytes: &[u8]) -> Parts<'_> {
    let unsigned = Parts { payload: bytes, checksum: None };
    let Some(rest) = bytes.strip_prefix(HEADER.as_bytes()) else { return unsigned };
    let (Some(sum), Some(payload)) =
        (rest.get(..8), rest.get(8..).and_then(|rest| rest.strip_prefix(ADVICE.as_bytes())))
    else {
        return unsigned;
    };
    let right = sum == format!("{:08x}", crc32(payload)).as_bytes();
    Parts { payload, checksum: Some(right) }
}

/// Reads a definition that has to be the one of `name`.
fn read(bytes: &[u8], name: &str) -> Result<Network, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let network = pontoon_netxml::parse(text).map_err(|error| error.render(&format!("{name}.xml")))?;
    if network.name != name {
        return Err(format!("it defines network '{}', which the file's name does not say", network.name));
    }
    Ok(network)
}

/// What to make of a definition's two files.
#[derive(Debug, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) network: Option<Network>,
    /// Why the file has to be set aside.
    pub(crate) aside: Option<String>,
    /// Somebody edited the file.
    pub(crate) edited: bool,
    /// What the file and its copy should hold, where they do not.
    pub(crate) file: Option<Vec<u8>>,
    pub(crate) copy: Option<Vec<u8>>,
}

/// `file` is `None` when it cannot be read; then it is left as it is.
pub(crate) fn judge(file: Option<&[u8]>, copy: Option<&[u8]>, name: &str) -> Verdict {
    let parts = copy.map(split).filter(|parts| parts.checksum == Some(true));
    let sound = parts.and_then(|parts| Some((parts.payload, read(parts.payload, name).ok()?)));
    let Some(bytes) = file else {
        return Verdict { network: sound.map(|(_, network)| network), ..Verdict::nothing() };
    };
    let parts = split(bytes);
    let found = read(parts.payload, name);
    let hurt = sound
        .as_ref()
        .is_some_and(|(payload, _)| is_damage(bytes, &signed(payload)) || is_damage(parts.payload, payload));
    let verdict = match (&found, parts.checksum, &sound) {
        (Ok(network), Some(true), _) => Verdict { network: Some(network.clone()), ..Verdict::nothing() },
        (Ok(network), None, Some((payload, _))) if parts.payload == *payload => {
            Verdict { network: Some(network.clone()), ..Verdict::nothing() }
        }
        (Ok(network), _, Some((_, other))) if hurt => {
            let why =
                "it differs from its copy in one byte or by its end, and its checksum says which is right";
            let aside = (network != other).then(|| why.to_owned());
            Verdict { aside, ..Verdict::restored(other.clone(), &sound) }
        }
        (Ok(network), _, _) => Verdict { network: Some(network.clone()), edited: true, ..Verdict::nothing() },
        (Err(why), _, Some((_, other))) => {
            Verdict { aside: Some(why.clone()), ..Verdict::restored(other.clone(), &sound) }
        }
        (Err(why), _, None) => Verdict { aside: Some(why.clone()), ..Verdict::nothing() },
    };
    let payload = verdict.file.as_deref().map_or(parts.payload, |bytes| split(bytes).payload);
    let right = signed(payload);
    Verdict {
        // The line of a file edited by hand would be wrong for ever; one without the line stays as it was written.
        file: verdict
            .file
            .clone()
            .or_else(|| (parts.checksum == Some(false) && verdict.network.is_some()).then(|| right.clone())),
        copy: (verdict.network.is_some() && copy != Some(&right)).then_some(right),
        ..verdict
    }
}

impl Verdict {
    fn nothing() -> Self {
        Self { network: None, aside: None, edited: false, file: None, copy: None }
    }

    fn restored(network: Network, copy: &Option<(&[u8], Network)>) -> Self {
        let file = copy.as_ref().map(|(payload, _)| signed(payload));
        Self { network: Some(network), file, ..Self::nothing() }
    }
}

/// Whether `bytes` is what a disk makes of `right`, and not an editor.
fn is_damage(bytes: &[u8], right: &[u8]) -> bool {
    let one_differs = || bytes.iter().zip(right).filter(|(one, other)| one != other).count() == 1;
    right.starts_with(bytes) || bytes.len() == right.len() && one_differs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(mtu: u16) -> Network {
        let text = format!(
            "<network><name>n</name><uuid>3e3fce45-4f53-4fa7-bb32-11f34168b82b</uuid><description>words</description>\
             <bridge name='virbr7'/><mtu size='{mtu}'/><mac address='52:54:00:00:00:01'/>\
             <ip address='10.1.0.1' prefix='24'/></network>"
        );
        pontoon_netxml::parse(&text).expect("network")
    }

    fn file(mtu: u16) -> Vec<u8> {
        signed(&text(&network(mtu)))
    }

    #[test]
    fn a_whole_file_is_taken_and_its_copy_follows() {
        let (new, old) = (file(1400), file(1300));
        let same = judge(Some(&new), Some(&new), "n");
        assert_eq!(same, Verdict { network: Some(network(1400)), ..Verdict::nothing() });
        for copy in [None, Some(&old[..]), Some(&b"torn"[..])] {
            let verdict = judge(Some(&new), copy, "n");
            let expected =
                Verdict { network: Some(network(1400)), copy: Some(new.clone()), ..Verdict::nothing() };
            assert_eq!(verdict, expected);
        }
    }

    #[test]
    fn a_file_cut_or_changed_at_any_byte_is_restored() {
        let whole = file(1400);
        let restored = |hurt: &[u8], what: &str| {
            let verdict = judge(Some(hurt), Some(&whole), "n");
            assert_eq!(verdict.network, Some(network(1400)), "{what}");
            assert_eq!(verdict.file.as_ref(), Some(&whole), "{what}");
            assert!(!verdict.edited && verdict.copy.is_none(), "{what}");
            let other = judge(Some(&whole), Some(hurt), "n");
            assert_eq!((other.network, other.aside), (Some(network(1400)), None), "{what} in the copy");
            assert_eq!(other.copy.as_ref(), Some(&whole), "{what} in the copy");
        };
        for at in 0..whole.len() {
            restored(&whole[..at], &format!("cut at {at}"));
            for value in [b'\n', b'7', 0xff, whole[at] ^ 1, whole[at] ^ 0x20] {
                let mut hurt = whole.clone();
                hurt[at] = value;
                if hurt != whole {
                    restored(&hurt, &format!("{value} at {at}"));
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_used_is_set_aside_and_what_can_is_not() {
        let whole = file(1400);
        let aside = |hurt: &[u8]| judge(Some(hurt), Some(&whole), "n").aside;
        assert!(aside(&whole[..200]).is_some() && aside(b"").is_some() && aside(&[0xff; 50]).is_some());
        let mut changed = whole.clone();
        let at = changed.windows(5).position(|word| word == b"words").expect("words");
        changed[at] = b'W';
        assert!(aside(&changed).is_some_and(|why| why.contains("one byte")));
        let renamed = String::from_utf8(whole.clone()).expect("text").replace("<name>n<", "<name>other<");
        assert!(aside(renamed.as_bytes()).is_some_and(|why| why.contains("network 'other'")));
        assert_eq!(judge(Some(b"<network"), None, "n").network, None);
        assert!(judge(Some(b"<network"), Some(b"<network"), "n").aside.is_some());
    }

    #[test]
    fn edits_by_hand_are_taken() {
        let (whole, other) = (file(1400), network(9000));
        let edited = String::from_utf8(whole.clone()).expect("text").replace("1400", "9000");
        let verdict = judge(Some(edited.as_bytes()), Some(&whole), "n");
        assert_eq!((verdict.network.as_ref(), verdict.edited, verdict.aside), (Some(&other), true, None));
        assert_eq!((verdict.file, verdict.copy), (Some(file(9000)), Some(file(9000))));

        let mut plain = text(&other);
        plain.extend(b"<!-- mine -->\n");
        let verdict = judge(Some(&plain), Some(&whole), "n");
        assert_eq!((verdict.network, verdict.edited), (Some(other), true));
        assert_eq!(
            (verdict.file, verdict.copy),
            (None, Some(signed(&plain))),
            "the file stays as it was written"
        );
        let again = judge(Some(&plain), Some(&signed(&plain)), "n");
        assert!(
            !again.edited && again.file.is_none() && again.copy.is_none(),
            "and is nothing new the next time"
        );
    }

    #[test]
    fn a_file_that_cannot_be_read_is_left_alone() {
        let verdict = judge(None, Some(&file(1400)), "n");
        assert_eq!(verdict, Verdict { network: Some(network(1400)), ..Verdict::nothing() });
        assert_eq!(judge(None, None, "n"), Verdict::nothing());
    }
}
