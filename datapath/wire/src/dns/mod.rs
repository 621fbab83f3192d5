//! DNS messages (RFC 1035, RFC 6891): header, the one question, records to skip, and a small builder.
//!
//! Everything here is total: any byte string gives a value or an error, never a panic.

mod build;

pub use build::{Builder, Owner};

pub const HEADER_LEN: usize = 12;
/// RFC 1035 2.3.4: a name on the wire, with its root label.
pub const NAME_MAX: usize = 255;
pub const LABEL_MAX: usize = 63;
/// The size that survives every path without fragments (DNS flag day 2020).
pub const EDNS_SIZE: u16 = 1232;
/// RFC 1035 4.2.1: what a client without EDNS accepts over UDP.
pub const UDP_SIZE: usize = 512;

pub mod flag {
    pub const QR: u16 = 0x8000;
    pub const OPCODE: u16 = 0x7800;
    pub const AA: u16 = 0x0400;
    pub const TC: u16 = 0x0200;
    pub const RD: u16 = 0x0100;
    pub const RA: u16 = 0x0080;
    pub const AD: u16 = 0x0020;
    pub const CD: u16 = 0x0010;
    pub const RCODE: u16 = 0x000f;
}

pub mod rcode {
    pub const NOERROR: u16 = 0;
    pub const FORMERR: u16 = 1;
    pub const SERVFAIL: u16 = 2;
    pub const NXDOMAIN: u16 = 3;
    pub const NOTIMP: u16 = 4;
    pub const REFUSED: u16 = 5;
    /// RFC 6891 9: the upper eight bits travel in OPT.
    pub const BADVERS: u16 = 16;
}

pub mod kind {
    pub const A: u16 = 1;
    pub const CNAME: u16 = 5;
    pub const SOA: u16 = 6;
    pub const PTR: u16 = 12;
    pub const HINFO: u16 = 13;
    pub const TXT: u16 = 16;
    pub const AAAA: u16 = 28;
    pub const SRV: u16 = 33;
    pub const OPT: u16 = 41;
    pub const DS: u16 = 43;
    pub const DNSKEY: u16 = 48;
    /// RFC 6895 3.1: query-only types start here; ANY ends them.
    pub const META_FIRST: u16 = 249;
    pub const ANY: u16 = 255;
}

pub mod class {
    pub const IN: u16 = 1;
    pub const CHAOS: u16 = 3;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    Short,
    Name,
    Record,
    /// RFC 6891 6.1.1: more than one OPT, or one whose owner is not the root.
    Opt,
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes([*pair.first()?, *pair.get(1)?]))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub id: u16,
    pub flags: u16,
    pub questions: u16,
    pub answers: u16,
    pub authorities: u16,
    pub additionals: u16,
}

impl Header {
    #[must_use]
    pub fn parse(message: &[u8]) -> Option<Self> {
        Some(Self {
            id: word(message, 0)?,
            flags: word(message, 2)?,
            questions: word(message, 4)?,
            answers: word(message, 6)?,
            authorities: word(message, 8)?,
            additionals: word(message, 10)?,
        })
    }

    #[must_use]
    pub fn is_response(&self) -> bool {
        self.flags & flag::QR != 0
    }

    #[must_use]
    pub fn opcode(&self) -> u16 {
        (self.flags & flag::OPCODE) >> 11
    }

    #[must_use]
    pub fn rcode(&self) -> u16 {
        self.flags & flag::RCODE
    }
}

/// An uncompressed name in wire form, checked, its root label included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'a>(&'a [u8]);

impl<'a> Name<'a> {
    /// Pointers are refused: a question has nothing before it to point at but the header.
    fn parse(message: &'a [u8], start: usize) -> Result<Self, Malformed> {
        let mut at = start;
        loop {
            let length = usize::from(*message.get(at).ok_or(Malformed::Short)?);
            if length > LABEL_MAX {
                return Err(Malformed::Name);
            }
            at += 1 + length;
            if at - start > NAME_MAX {
                return Err(Malformed::Name);
            }
            if length == 0 {
                return message.get(start..at).map(Self).ok_or(Malformed::Short);
            }
        }
    }

    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    #[must_use]
    pub fn eq_ignore_case(&self, other: &Name<'_>) -> bool {
        self.0.eq_ignore_ascii_case(other.0)
    }

    /// Lower-case dotted text without the root's dot. Bytes no host name holds become `?`, so that a
    /// label containing a dot cannot pass for two labels.
    #[must_use]
    pub fn text<'b>(&self, buffer: &'b mut [u8; NAME_MAX]) -> &'b str {
        let mut length = 0;
        let mut at = 0;
        while let Some(&size) = self.0.get(at) {
            let end = at + 1 + usize::from(size);
            for &byte in self.0.get(at + 1..end).unwrap_or_default() {
                let odd = !byte.is_ascii_graphic() || byte == b'.';
                length = put(buffer, length, if odd { b'?' } else { byte.to_ascii_lowercase() });
            }
            at = end;
            if size != 0 && self.0.get(at).is_some_and(|&next| next != 0) {
                length = put(buffer, length, b'.');
            }
        }
        core::str::from_utf8(buffer.get(..length).unwrap_or_default()).unwrap_or_default()
    }
}

fn put(buffer: &mut [u8; NAME_MAX], at: usize, byte: u8) -> usize {
    if let Some(slot) = buffer.get_mut(at) {
        *slot = byte;
        return at + 1;
    }
    at
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question<'a> {
    pub name: Name<'a>,
    pub kind: u16,
    pub class: u16,
    /// name, type and class as they stand in the message
    pub bytes: &'a [u8],
}

impl<'a> Question<'a> {
    /// The first question; the caller has looked at the count.
    pub fn parse(message: &'a [u8]) -> Result<Self, Malformed> {
        let name = Name::parse(message, HEADER_LEN)?;
        let after = HEADER_LEN + name.0.len();
        let kind = word(message, after).ok_or(Malformed::Short)?;
        let class = word(message, after + 2).ok_or(Malformed::Short)?;
        let bytes = message.get(HEADER_LEN..after + 4).ok_or(Malformed::Short)?;
        Ok(Self { name, kind, class, bytes })
    }

    #[must_use]
    pub fn end(&self) -> usize {
        HEADER_LEN + self.bytes.len()
    }
}

/// The offset after a name that may end in a pointer. Pointers are not followed, so a cyclic one costs
/// nothing; it must still point backwards (RFC 1035 4.1.4).
pub fn skip_name(message: &[u8], start: usize) -> Result<usize, Malformed> {
    let mut at = start;
    loop {
        let length = usize::from(*message.get(at).ok_or(Malformed::Short)?);
        match length {
            0 => return Ok(at + 1),
            1..=LABEL_MAX => at += 1 + length,
            0xc0.. => {
                let target = usize::from(word(message, at).ok_or(Malformed::Short)? & 0x3fff);
                return if target < at { Ok(at + 2) } else { Err(Malformed::Name) };
            }
            _ => return Err(Malformed::Name),
        }
        if at - start >= NAME_MAX {
            return Err(Malformed::Name);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub start: usize,
    /// offset of the type field
    pub fixed: usize,
    pub kind: u16,
    pub class: u16,
    pub ttl: u32,
    pub data: &'a [u8],
    pub end: usize,
}

impl<'a> Record<'a> {
    pub fn parse(message: &'a [u8], start: usize) -> Result<Self, Malformed> {
        let fixed = skip_name(message, start)?;
        let field = |at: usize| word(message, fixed + at).ok_or(Malformed::Record);
        let begin = fixed + 10;
        let end = begin + usize::from(field(8)?);
        Ok(Self {
            start,
            fixed,
            kind: field(0)?,
            class: field(2)?,
            ttl: u32::from(field(4)?) << 16 | u32::from(field(6)?),
            data: message.get(begin..end).ok_or(Malformed::Record)?,
            end,
        })
    }
}

/// The OPT pseudo-record (RFC 6891 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    pub size: u16,
    pub version: u8,
    pub dnssec_ok: bool,
    /// offset of the requestor's size field
    pub size_at: usize,
    pub start: usize,
    pub end: usize,
}

/// Walks every record the header announces after the question ending at `at`.
pub fn edns(message: &[u8], header: &Header, at: usize) -> Result<Option<Edns>, Malformed> {
    let mut at = at;
    for _ in 0..u32::from(header.answers) + u32::from(header.authorities) {
        at = Record::parse(message, at)?.end;
    }
    let mut found = None;
    for _ in 0..header.additionals {
        let record = Record::parse(message, at)?;
        at = record.end;
        if record.kind != kind::OPT {
            continue;
        }
        if found.is_some() || message.get(record.start) != Some(&0) {
            return Err(Malformed::Opt);
        }
        found = Some(Edns {
            size: record.class,
            version: (record.ttl >> 16) as u8,
            dnssec_ok: record.ttl & 0x8000 != 0,
            size_at: record.fixed + 2,
            start: record.start,
            end: record.end,
        });
    }
    Ok(found)
}

/// How many seconds an answer may be kept: as long as its shortest record, and one that says no as long as the zone
/// allows (RFC 2308 5). `None`: not at all.
#[must_use]
pub fn lifetime(message: &[u8], header: &Header, question: &Question<'_>) -> Option<u32> {
    let (mut at, mut shortest, mut found, mut negative) = (question.end(), u32::MAX, false, None);
    for _ in 0..header.answers {
        let record = Record::parse(message, at).ok()?;
        shortest = shortest.min(record.ttl);
        found |= record.kind == question.kind;
        at = record.end;
    }
    for _ in 0..header.authorities {
        let record = Record::parse(message, at).ok()?;
        if record.kind == kind::SOA {
            let minimum = record.data.last_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes))?;
            negative = Some(record.ttl.min(minimum));
        }
        at = record.end;
    }
    let usable = if found && header.rcode() == rcode::NOERROR { shortest } else { shortest.min(negative?) };
    (usable > 0).then_some(usable)
}

/// Takes the seconds since an answer came off the times its records have left.
pub fn age(message: &mut [u8], header: &Header, question_end: usize, seconds: u32) {
    let mut at = question_end;
    let records = u32::from(header.answers) + u32::from(header.authorities) + u32::from(header.additionals);
    for _ in 0..records {
        let Ok(record) = Record::parse(message, at) else { return };
        let (kind, left, field) = (record.kind, record.ttl.saturating_sub(seconds), record.fixed + 4);
        at = record.end;
        // what stands there in OPT is no time
        if let Some(place) = message.get_mut(field..field + 4).filter(|_| kind != kind::OPT) {
            place.copy_from_slice(&left.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUERY: &[u8] = b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\x01\x03WwW\x02aB\0\0\x01\0\x01\
        \0\0\x29\x10\0\0\0\x80\0\0\0";

    #[test]
    fn parses_a_query_with_edns() {
        let header = Header::parse(QUERY).expect("header");
        assert_eq!((header.id, header.questions, header.opcode(), header.rcode()), (0x1234, 1, 0, 0));
        let question = Question::parse(QUERY).expect("question");
        assert_eq!(question.name.text(&mut [0; NAME_MAX]), "www.ab");
        assert_eq!((question.kind, question.class), (kind::A, class::IN));
        let found = edns(QUERY, &header, question.end()).expect("records").expect("opt");
        assert_eq!((found.size, found.version, found.dnssec_ok, found.end), (4096, 0, true, QUERY.len()));
    }

    #[test]
    fn refuses_bad_names() {
        let with = |name: &[u8]| {
            let mut message = [0; 400];
            message[12..12 + name.len()].copy_from_slice(name);
            Question::parse(&message[..16 + name.len()]).map(|_| ())
        };
        assert_eq!(with(b"\xc0\x0c"), Err(Malformed::Name), "pointer");
        assert_eq!(with(b"\x40abc\0"), Err(Malformed::Name), "label of 64");
        assert_eq!(with(&[1; 300]), Err(Malformed::Name), "name of 300");
        assert_eq!(with(b"\0"), Ok(()));
        assert_eq!(Question::parse(&QUERY[..20]), Err(Malformed::Short));
    }

    #[test]
    fn pointers_only_go_back() {
        let mut message = [0; 40];
        message[20..22].copy_from_slice(&[0xc0, 20]);
        assert_eq!(skip_name(&message, 20), Err(Malformed::Name), "cyclic");
        message[21] = 200;
        assert_eq!(skip_name(&message, 20), Err(Malformed::Name), "out of bounds");
        message[21] = 12;
        assert_eq!(skip_name(&message, 20), Ok(22));
    }

    #[test]
    fn a_dot_inside_a_label_is_not_a_separator() {
        let message = b"\0\0\0\0\0\x01\0\0\0\0\0\0\x03a.b\0\0\x01\0\x01";
        let question = Question::parse(message).expect("question");
        assert_eq!(question.name.text(&mut [0; NAME_MAX]), "a?b");
    }
}
