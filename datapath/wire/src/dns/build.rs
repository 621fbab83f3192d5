//! Writing messages.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{EDNS_SIZE, HEADER_LEN, LABEL_MAX, NAME_MAX, class, kind, word};

/// Labels remembered for names that end alike (RFC 1035 4.1.4).
const REMEMBERED: usize = 32;
/// A pointer has 14 bits.
const POINTER_MAX: usize = 0x3fff;

/// Whose record it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner<'a> {
    /// The question's name.
    Asked,
    Name(&'a str),
}

/// Writes a message front to back. What does not fit is left out whole, and [`Builder::finish`] says so.
pub struct Builder<'a> {
    out: &'a mut [u8],
    length: usize,
    overflow: bool,
    /// Where the header counts the records of this section.
    section: usize,
    /// Where labels begin.
    labels: [u16; REMEMBERED],
    remembered: usize,
}

impl<'a> Builder<'a> {
    pub fn new(out: &'a mut [u8], id: u16, flags: u16) -> Self {
        let (section, labels) = (6, [0; REMEMBERED]);
        let mut builder = Self { out, length: 0, overflow: false, section, labels, remembered: 0 };
        builder.bytes(&id.to_be_bytes());
        builder.bytes(&flags.to_be_bytes());
        builder.bytes(&[0; 8]);
        builder
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        match self.out.get_mut(self.length..end) {
            Some(place) if !self.overflow => {
                place.copy_from_slice(bytes);
                self.length = end;
            }
            _ => self.overflow = true,
        }
    }

    fn count(&mut self, at: usize) {
        let value = word(self.out, at).unwrap_or(0).wrapping_add(1).to_be_bytes();
        if let Some(place) = self.out.get_mut(at..at + 2) {
            place.copy_from_slice(&value);
        }
    }

    /// Name, type and class, copied as asked: clients compare the case (draft-vixie-dnsext-dns0x20).
    pub fn question(&mut self, bytes: &[u8]) {
        let mut at = self.length;
        self.bytes(bytes);
        self.count(4);
        while let Some(&size) = self.out.get(at).filter(|&&size| size != 0 && at < self.length) {
            self.remember(at);
            at += 1 + usize::from(size);
        }
    }

    /// What follows belongs to the additional section.
    pub fn additional(&mut self) {
        self.section = 10;
    }

    fn record(&mut self, owner: Owner<'_>, kind: u16, ttl: u32, data: impl FnOnce(&mut Self)) {
        let (start, remembered) = (self.length, self.remembered);
        match owner {
            Owner::Asked => self.bytes(&[0xc0, HEADER_LEN as u8]),
            Owner::Name(name) => self.name(name),
        }
        self.bytes(&kind.to_be_bytes());
        self.bytes(&class::IN.to_be_bytes());
        self.bytes(&ttl.to_be_bytes());
        let length_at = self.length;
        self.bytes(&[0; 2]);
        data(self);
        let length = self.length.saturating_sub(length_at + 2);
        if self.overflow || length > usize::from(u16::MAX) {
            self.overflow = true;
            (self.length, self.remembered) = (start, remembered);
            return;
        }
        if let Some(place) = self.out.get_mut(length_at..length_at + 2) {
            place.copy_from_slice(&(length as u16).to_be_bytes());
        }
        self.count(self.section);
    }

    pub fn address(&mut self, owner: Owner<'_>, ttl: u32, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.a(owner, ttl, address),
            IpAddr::V6(address) => self.aaaa(owner, ttl, address),
        }
    }

    pub fn a(&mut self, owner: Owner<'_>, ttl: u32, address: Ipv4Addr) {
        self.record(owner, kind::A, ttl, |out| out.bytes(&address.octets()));
    }

    pub fn aaaa(&mut self, owner: Owner<'_>, ttl: u32, address: Ipv6Addr) {
        self.record(owner, kind::AAAA, ttl, |out| out.bytes(&address.octets()));
    }

    pub fn ptr(&mut self, ttl: u32, name: &str) {
        self.record(Owner::Asked, kind::PTR, ttl, |out| out.name(name));
    }

    pub fn cname(&mut self, owner: Owner<'_>, ttl: u32, target: &str) {
        self.record(owner, kind::CNAME, ttl, |out| out.name(target));
    }

    /// Priority, weight, port; the target is not compressed (RFC 2782), and the root is no target.
    pub fn srv(&mut self, owner: Owner<'_>, ttl: u32, numbers: [u16; 3], target: &str) {
        self.record(owner, kind::SRV, ttl, |out| {
            numbers.iter().for_each(|number| out.bytes(&number.to_be_bytes()));
            out.whole_name(target);
        });
    }

    /// RFC 1035 3.3.14: text longer than 255 bytes becomes several strings.
    pub fn txt(&mut self, owner: Owner<'_>, ttl: u32, text: &str) {
        self.record(owner, kind::TXT, ttl, |out| {
            if text.is_empty() {
                out.bytes(&[0]);
            }
            for part in text.as_bytes().chunks(255) {
                out.string(part);
            }
        });
    }

    /// RFC 8482 4.2: the answer to ANY.
    pub fn hinfo(&mut self, ttl: u32) {
        self.record(Owner::Asked, kind::HINFO, ttl, |out| {
            out.string(b"RFC8482");
            out.string(b"");
        });
    }

    fn string(&mut self, part: &[u8]) {
        self.bytes(&[part.len() as u8]);
        self.bytes(part);
    }

    /// A name that cannot be encoded leaves the record out.
    fn whole_name(&mut self, name: &str) {
        let start = self.length;
        for label in name.split('.').filter(|label| !label.is_empty()) {
            self.label(label);
        }
        self.bytes(&[0]);
        self.overflow |= self.length - start > NAME_MAX;
    }

    /// The same, ended by a pointer to where the rest stands already.
    fn name(&mut self, name: &str) {
        let name = name.strip_suffix('.').unwrap_or(name);
        self.overflow |= name.len() > NAME_MAX - 2;
        let mut rest = name;
        while !rest.is_empty() {
            if let Some(at) = self.find(rest) {
                self.bytes(&(0xc000 | at).to_be_bytes());
                return;
            }
            let (label, tail) = rest.split_once('.').unwrap_or((rest, ""));
            self.remember(self.length);
            self.label(label);
            rest = tail;
        }
        self.bytes(&[0]);
    }

    fn label(&mut self, label: &str) {
        if label.is_empty() || label.len() > LABEL_MAX {
            self.overflow = true;
        }
        self.string(label.as_bytes());
    }

    fn remember(&mut self, at: usize) {
        if let Some(place) = self.labels.get_mut(self.remembered).filter(|_| at <= POINTER_MAX) {
            *place = at as u16;
            self.remembered += 1;
        }
    }

    /// Where `name` stands already.
    fn find(&self, name: &str) -> Option<u16> {
        let known = self.labels.get(..self.remembered)?;
        known.iter().copied().find(|&at| self.spells(usize::from(at), name))
    }

    /// Whether the name at an offset is `name`. Pointers this builder wrote only go back.
    fn spells(&self, at: usize, name: &str) -> bool {
        let written = self.out.get(..self.length).unwrap_or_default();
        let (mut at, mut rest) = (at, name);
        loop {
            let Some(&size) = written.get(at) else { return false };
            if size >= 0xc0 {
                at = usize::from(word(written, at).unwrap_or(0)) & POINTER_MAX;
                continue;
            }
            if size == 0 || rest.is_empty() {
                return size == 0 && rest.is_empty();
            }
            let (label, tail) = rest.split_once('.').unwrap_or((rest, ""));
            let end = at + 1 + usize::from(size);
            let same = written.get(at + 1..end).is_some_and(|one| one.eq_ignore_ascii_case(label.as_bytes()));
            if !same {
                return false;
            }
            (at, rest) = (end, tail);
        }
    }

    /// `rcode` gives the upper eight bits of an extended code.
    pub fn opt(&mut self, rcode: u16, dnssec_ok: bool) {
        let size = EDNS_SIZE.to_be_bytes();
        let extended = (rcode >> 4) as u8;
        let bits = if dnssec_ok { 0x80 } else { 0 };
        let start = self.length;
        self.bytes(&[0, 0, kind::OPT as u8, size[0], size[1], extended, 0, bits, 0, 0, 0]);
        if self.length > start {
            self.count(10);
        }
    }

    /// The length, and whether everything fitted.
    #[must_use]
    pub fn finish(self) -> (usize, bool) {
        (self.length, !self.overflow)
    }
}
