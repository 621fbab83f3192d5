//! DHCPv4 messages (RFC 2131 §2, options RFC 2132, long options RFC 3396).
//!
//! [`Message`] is a borrowed view whose constructor checks every length once, so that the accessors are total.
//! [`Builder`] writes into the caller's buffer and refuses whatever does not fit.
use core::net::Ipv4Addr;

/// UDP port of the server.
pub const SERVER_PORT: u16 = 67;
/// UDP port of the client.
pub const CLIENT_PORT: u16 = 68;
/// The magic cookie in front of the options (RFC 2131 §3).
pub const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Bytes of the fixed part including the cookie.
pub const FIXED_LEN: usize = 240;
/// The smallest BOOTP message (RFC 951 §3, RFC 1542 §2.1); shorter ones are dropped by old relays and clients.
pub const MIN_LEN: usize = 300;
/// UDP payload that every client accepts: a 576-byte datagram less the IP and UDP headers (RFC 2131 §2).
pub const DEFAULT_LIMIT: usize = 576 - 28;
/// The broadcast bit of `flags` (RFC 2131 §2).
pub const FLAG_BROADCAST: u16 = 0x8000;

/// Option codes (RFC 2132 unless noted).
pub mod code {
    pub const PAD: u8 = 0;
    pub const SUBNET_MASK: u8 = 1;
    pub const ROUTER: u8 = 3;
    pub const DNS: u8 = 6;
    pub const HOST_NAME: u8 = 12;
    pub const DOMAIN: u8 = 15;
    pub const MTU: u8 = 26;
    pub const BROADCAST: u8 = 28;
    pub const REQUESTED_IP: u8 = 50;
    pub const LEASE_TIME: u8 = 51;
    pub const OVERLOAD: u8 = 52;
    pub const MESSAGE_TYPE: u8 = 53;
    pub const SERVER_ID: u8 = 54;
    pub const PARAMETER_LIST: u8 = 55;
    pub const MAX_SIZE: u8 = 57;
    pub const RENEWAL_TIME: u8 = 58;
    pub const REBINDING_TIME: u8 = 59;
    pub const CLIENT_ID: u8 = 61;
    pub const SERVER_NAME: u8 = 66;
    pub const BOOT_FILE: u8 = 67;
    /// Client FQDN (RFC 4702).
    pub const FQDN: u8 = 81;
    /// Domain search list (RFC 3397).
    pub const DOMAIN_SEARCH: u8 = 119;
    pub const END: u8 = 255;
}

/// DHCP message type, option 53 (RFC 2132 §9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageType {
    Discover = 1,
    Offer = 2,
    Request = 3,
    Decline = 4,
    Ack = 5,
    Nak = 6,
    Release = 7,
    Inform = 8,
}

impl MessageType {
    pub const fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            1 => Self::Discover,
            2 => Self::Offer,
            3 => Self::Request,
            4 => Self::Decline,
            5 => Self::Ack,
            6 => Self::Nak,
            7 => Self::Release,
            8 => Self::Inform,
            _ => return None,
        })
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Discover => "DISCOVER",
            Self::Offer => "OFFER",
            Self::Request => "REQUEST",
            Self::Decline => "DECLINE",
            Self::Ack => "ACK",
            Self::Nak => "NAK",
            Self::Release => "RELEASE",
            Self::Inform => "INFORM",
        }
    }
}

/// Why bytes are no message, or why an option was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Shorter than the fixed part.
    Truncated,
    /// Plain BOOTP or something else entirely.
    BadCookie,
    /// An option's length points outside its field.
    BadOption,
    /// The buffer or the client's maximum message size is exhausted.
    NoSpace,
}

/// A checked view of one message.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    fixed: &'a [u8; FIXED_LEN],
    options: &'a [u8],
    overload: u8,
}

impl<'a> Message<'a> {
    /// Checks the cookie and the bounds of all options, including those in an overloaded `sname` and `file`.
    pub fn parse(payload: &'a [u8]) -> Result<Self, Error> {
        let (fixed, options) = payload.split_first_chunk::<FIXED_LEN>().ok_or(Error::Truncated)?;
        let mut message = Self { fixed, options, overload: 0 };
        if message.array::<236, 4>() != COOKIE {
            return Err(Error::BadCookie);
        }
        // Overload is honoured only from the options field itself (RFC 2132 §9.3).
        let own = message.options();
        check(options)?;
        let overload = { own }.find(|(code, _)| *code == code::OVERLOAD);
        message.overload = match overload.map(|(_, data)| data) {
            None => 0,
            Some([value @ 1..=3]) => *value,
            Some(_) => return Err(Error::BadOption),
        };
        if message.overload & 1 != 0 {
            check(message.file())?;
        }
        if message.overload & 2 != 0 {
            check(message.sname())?;
        }
        Ok(message)
    }

    /// `N` bytes at the constant offset `AT`; the bound is checked when compiling.
    fn array<const AT: usize, const N: usize>(&self) -> [u8; N] {
        const { assert!(AT + N <= FIXED_LEN) };
        let mut out = [0; N];
        out.copy_from_slice(&self.fixed[AT..AT + N]);
        out
    }

    pub fn op(&self) -> u8 {
        self.fixed[0]
    }
    pub fn htype(&self) -> u8 {
        self.fixed[1]
    }
    pub fn hlen(&self) -> u8 {
        self.fixed[2]
    }
    pub fn hops(&self) -> u8 {
        self.fixed[3]
    }
    pub fn xid(&self) -> u32 {
        u32::from_be_bytes(self.array::<4, 4>())
    }
    pub fn secs(&self) -> u16 {
        u16::from_be_bytes(self.array::<8, 2>())
    }
    pub fn flags(&self) -> u16 {
        u16::from_be_bytes(self.array::<10, 2>())
    }
    pub fn broadcast(&self) -> bool {
        self.flags() & FLAG_BROADCAST != 0
    }
    pub fn ciaddr(&self) -> Ipv4Addr {
        self.array::<12, 4>().into()
    }
    pub fn yiaddr(&self) -> Ipv4Addr {
        self.array::<16, 4>().into()
    }
    pub fn siaddr(&self) -> Ipv4Addr {
        self.array::<20, 4>().into()
    }
    pub fn giaddr(&self) -> Ipv4Addr {
        self.array::<24, 4>().into()
    }
    /// All 16 bytes; only the first `hlen` mean something.
    pub fn chaddr(&self) -> [u8; 16] {
        self.array::<28, 16>()
    }
    /// The Ethernet address in `chaddr`.
    pub fn mac(&self) -> [u8; 6] {
        self.array::<28, 6>()
    }
    pub fn sname(&self) -> &'a [u8] {
        &self.fixed[44..108]
    }
    pub fn file(&self) -> &'a [u8] {
        &self.fixed[108..236]
    }

    /// All options in the order of RFC 3396 §7: the options field, then `file`, then `sname`.
    pub fn options(&self) -> Options<'a> {
        Options {
            now: self.options,
            file: if self.overload & 1 != 0 { self.file() } else { &[] },
            sname: if self.overload & 2 != 0 { self.sname() } else { &[] },
        }
    }

    /// The first instance of an option, which is the whole of it unless it was split (see [`Self::joined`]).
    pub fn option(&self, code: u8) -> Option<&'a [u8]> {
        self.options().find(|(found, _)| *found == code).map(|(_, data)| data)
    }

    /// All instances of an option joined in `buffer` (RFC 3396 §7). `NoSpace` if the buffer is too short.
    pub fn joined<'b>(&self, code: u8, buffer: &'b mut [u8]) -> Result<Option<&'b [u8]>, Error> {
        let (mut len, mut seen) = (0, false);
        for (_, data) in self.options().filter(|(found, _)| *found == code) {
            let part = buffer.get_mut(len..len + data.len()).ok_or(Error::NoSpace)?;
            part.copy_from_slice(data);
            len += data.len();
            seen = true;
        }
        Ok(if seen { buffer.get(..len) } else { None })
    }

    /// Option 53; `None` for BOOTP and for types this codec does not know.
    pub fn message_type(&self) -> Option<MessageType> {
        match self.option(code::MESSAGE_TYPE) {
            Some([value]) => MessageType::from_u8(*value),
            _ => None,
        }
    }

    /// An option that holds exactly one address.
    pub fn address(&self, code: u8) -> Option<Ipv4Addr> {
        let bytes: [u8; 4] = self.option(code)?.try_into().ok()?;
        Some(bytes.into())
    }

    /// The client's UDP payload limit: option 57 counts the IP datagram and is at least 576 (RFC 2132 §9.10).
    pub fn reply_limit(&self) -> usize {
        match self.option(code::MAX_SIZE) {
            Some([high, low]) => usize::from(u16::from_be_bytes([*high, *low])).max(576) - 28,
            _ => DEFAULT_LIMIT,
        }
    }
}

fn fill(field: &mut [u8], name: &[u8]) {
    let room = field.len() - 1;
    field.fill(0);
    for (place, byte) in field.iter_mut().zip(name.iter().take(room)) {
        *place = *byte;
    }
}

/// Verifies that the options of one field end inside it. A missing end option is tolerated.
fn check(field: &[u8]) -> Result<(), Error> {
    let mut rest = field;
    while let Some((&code, tail)) = rest.split_first() {
        rest = match code {
            code::END => return Ok(()),
            code::PAD => tail,
            _ => {
                let (&len, tail) = tail.split_first().ok_or(Error::BadOption)?;
                tail.get(usize::from(len)..).ok_or(Error::BadOption)?
            }
        };
    }
    Ok(())
}

/// Iterator over `(code, data)` without pad and end.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    now: &'a [u8],
    file: &'a [u8],
    sname: &'a [u8],
}

impl<'a> Options<'a> {
    /// Moves on to the next overloaded field.
    fn next_field(&mut self) -> bool {
        self.now = core::mem::take(&mut self.file);
        if self.now.is_empty() {
            self.now = core::mem::take(&mut self.sname);
        }
        !self.now.is_empty()
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some((&code, tail)) = self.now.split_first() else {
                if self.next_field() {
                    continue;
                }
                return None;
            };
            self.now = tail;
            match code {
                code::PAD => {}
                code::END => self.now = &[],
                _ => {
                    let split = tail.split_first().and_then(|(&len, rest)| rest.split_at_checked(len.into()));
                    // Only reachable while parsing: a checked message has no option that overruns.
                    let Some((data, rest)) = split else {
                        self.now = &[];
                        continue;
                    };
                    self.now = rest;
                    return Some((code, data));
                }
            }
        }
    }
}

/// Writes one message; options are appended in call order.
#[derive(Debug)]
pub struct Builder<'b> {
    fixed: &'b mut [u8; FIXED_LEN],
    options: &'b mut [u8],
    used: usize,
}

impl<'b> Builder<'b> {
    /// Starts a message of at most `limit` bytes in `buffer`, for an Ethernet client.
    pub fn new(
        buffer: &'b mut [u8],
        limit: usize,
        op: u8,
        xid: u32,
        mac: [u8; 6],
        kind: MessageType,
    ) -> Result<Self, Error> {
        let end = buffer.len().min(limit);
        let (fixed, options) = buffer
            .get_mut(..end)
            .and_then(|bytes| bytes.split_first_chunk_mut::<FIXED_LEN>())
            .ok_or(Error::NoSpace)?;
        *fixed = [0; FIXED_LEN];
        let mut builder = Self { fixed, options, used: 0 };
        builder.put::<0, 3>([op, 1, 6]);
        builder.put::<4, 4>(xid.to_be_bytes());
        builder.put::<28, 6>(mac);
        builder.put::<236, 4>(COOKIE);
        builder.option(code::MESSAGE_TYPE, &[kind as u8])?;
        Ok(builder)
    }

    /// Starts the answer to `request`: xid, flags, giaddr and chaddr are copied (RFC 2131 §4.3.1 table 3).
    pub fn reply(buffer: &'b mut [u8], request: &Message<'_>, kind: MessageType) -> Result<Self, Error> {
        let mut builder = Self::new(buffer, request.reply_limit(), 2, request.xid(), request.mac(), kind)?;
        builder.flags(request.flags());
        builder.giaddr(request.giaddr());
        Ok(builder)
    }

    fn put<const AT: usize, const N: usize>(&mut self, bytes: [u8; N]) {
        const { assert!(AT + N <= FIXED_LEN) };
        self.fixed[AT..AT + N].copy_from_slice(&bytes);
    }

    pub fn secs(&mut self, secs: u16) {
        self.put::<8, 2>(secs.to_be_bytes());
    }
    pub fn flags(&mut self, flags: u16) {
        self.put::<10, 2>(flags.to_be_bytes());
    }
    pub fn ciaddr(&mut self, address: Ipv4Addr) {
        self.put::<12, 4>(address.octets());
    }
    pub fn yiaddr(&mut self, address: Ipv4Addr) {
        self.put::<16, 4>(address.octets());
    }
    pub fn siaddr(&mut self, address: Ipv4Addr) {
        self.put::<20, 4>(address.octets());
    }
    pub fn giaddr(&mut self, address: Ipv4Addr) {
        self.put::<24, 4>(address.octets());
    }

    /// The name of the server to boot from; what does not fit with its zero is cut.
    pub fn sname(&mut self, name: &[u8]) {
        fill(&mut self.fixed[44..108], name);
    }
    /// The boot file's name, likewise.
    pub fn file(&mut self, name: &[u8]) {
        fill(&mut self.fixed[108..236], name);
    }

    /// Appends an option whole or not at all; data over 255 bytes is split (RFC 3396 §5).
    pub fn option(&mut self, code: u8, data: &[u8]) -> Result<(), Error> {
        let parts = data.len().div_ceil(255).max(1);
        // One byte stays reserved for the end option.
        let need = data.len() + 2 * parts;
        if self.used + need + 1 > self.options.len() {
            return Err(Error::NoSpace);
        }
        let mut rest = data;
        for _ in 0..parts {
            let (part, tail) = rest.split_at(rest.len().min(255));
            self.raw(&[code, part.len() as u8]);
            self.raw(part);
            rest = tail;
        }
        Ok(())
    }

    /// Appends bytes whose room `option` has checked.
    fn raw(&mut self, bytes: &[u8]) {
        if let Some(room) = self.options.get_mut(self.used..self.used + bytes.len()) {
            room.copy_from_slice(bytes);
            self.used += bytes.len();
        }
    }

    /// Writes the end option, pads to [`MIN_LEN`] where there is room, and returns the length.
    pub fn finish(mut self) -> usize {
        self.raw(&[code::END]);
        let padded = self.used.max(MIN_LEN - FIXED_LEN).min(self.options.len());
        if let Some(padding) = self.options.get_mut(self.used..padded) {
            padding.fill(code::PAD);
        }
        FIXED_LEN + padded
    }
}
