//! Frames made and read by etherparse, which shares no code with the engine: the oracle of the tests.

use std::net::Ipv4Addr;
use std::ops::Range;

use etherparse::{
    IpHeaders, IpNumber, Ipv4Header, NetSlice, PacketBuilder, PacketBuilderStep, SlicedPacket, TransportSlice,
};

pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const BROADCAST: [u8; 6] = [0xff; 6];

/// MAC and IPv4 address.
pub type Station = ([u8; 6], Ipv4Addr);

/// The ends of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    pub macs: ([u8; 6], [u8; 6]),
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub ttl: u8,
    pub dont_fragment: bool,
}

impl Ends {
    /// From one MAC and address to another, TTL 64, may be fragmented.
    #[must_use]
    pub fn new(from: Station, to: Station) -> Self {
        Self { macs: (from.0, to.0), source: from.1, destination: to.1, ttl: 64, dont_fragment: false }
    }

    fn start(&self) -> PacketBuilderStep<IpHeaders> {
        let (source, destination) = (self.source.octets(), self.destination.octets());
        let header = Ipv4Header::new(0, self.ttl, IpNumber::UDP, source, destination);
        let mut header = header.expect("no payload is no error");
        header.dont_fragment = self.dont_fragment;
        header.identification = 0x1234;
        PacketBuilder::ethernet2(self.macs.0, self.macs.1).ip(IpHeaders::Ipv4(header, Default::default()))
    }

    /// Any protocol; the payload is the whole transport packet.
    #[must_use]
    pub fn raw(&self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        self.start().write(&mut out, IpNumber(protocol), payload).expect("a Vec takes all");
        out
    }

    #[must_use]
    pub fn udp(&self, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        self.start().udp(ports.0, ports.1).write(&mut out, payload).expect("a Vec takes all");
        out
    }

    /// `flags`: any of "S", "A", "F", "R".
    #[must_use]
    pub fn tcp(&self, ports: (u16, u16), flags: &str, numbers: (u32, u32), payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut step = self.start().tcp(ports.0, ports.1, numbers.0, 64_000);
        for flag in flags.chars() {
            step = match flag {
                'S' => step.syn(),
                'A' => step.ack(numbers.1),
                'F' => step.fin(),
                'R' => step.rst(),
                _ => panic!("flag {flag}"),
            };
        }
        step.write(&mut out, payload).expect("a Vec takes all");
        out
    }

    /// An echo request (`true`) or reply, with id and sequence number.
    #[must_use]
    pub fn echo(&self, request: bool, (id, sequence): (u16, u16), payload: &[u8]) -> Vec<u8> {
        let (mut out, start) = (Vec::new(), self.start());
        let step = if request {
            start.icmpv4_echo_request(id, sequence)
        } else {
            start.icmpv4_echo_reply(id, sequence)
        };
        step.write(&mut out, payload).expect("a Vec takes all");
        out
    }
}

/// Cuts the packet of a frame behind `at` octets of its payload (a multiple of eight).
#[must_use]
pub fn cut(frame: &[u8], at: usize) -> [Vec<u8>; 2] {
    [piece(frame, 0..at), piece(frame, at..frame.len() - 34)]
}

/// A fragment of the packet of a frame: these octets of its payload.
///
/// # Panics
/// When the packet does not have them.
#[must_use]
pub fn piece(frame: &[u8], octets: Range<usize>) -> Vec<u8> {
    let (mut header, _) = Ipv4Header::from_slice(&frame[14..]).expect("a sound header");
    let payload = &frame[34..];
    header.set_payload_len(octets.len()).expect("short enough");
    header.fragment_offset = ((octets.start / 8) as u16).try_into().expect("short enough");
    (header.more_fragments, header.dont_fragment) = (octets.end < payload.len(), false);
    header.header_checksum = header.calc_header_checksum();
    let mut out = frame[..14].to_vec();
    header.write(&mut out).expect("a Vec takes all");
    out.extend(&payload[octets]);
    out
}

/// Puts the fragments of one datagram together, in whatever order they are. `None` when some are missing.
///
/// # Panics
/// When they are not sound, longer than `mtu`, or of several datagrams; or the checksum of the whole is wrong.
#[must_use]
pub fn join(fragments: &[Vec<u8>], mtu: usize) -> Option<Seen> {
    let mut parts: Vec<_> = fragments.iter().map(|frame| (parse(frame), frame)).collect();
    parts.sort_by_key(|(seen, _)| seen.fragment.0);
    let first = parts.first()?.1;
    let (mut whole, mut payload) = (first[..34].to_vec(), Vec::<u8>::new());
    for (at, (seen, frame)) in parts.iter().enumerate() {
        assert!(seen.length <= mtu, "{} of {mtu}", seen.length);
        assert_eq!(frame[18..20], first[18..20], "identification");
        if seen.fragment != (payload.len(), at + 1 < parts.len()) {
            return None;
        }
        payload.extend(&frame[34..14 + seen.length]);
    }
    whole[16..18].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
    whole[20..22].copy_from_slice(&[0, 0]);
    whole[24..26].copy_from_slice(&[0, 0]);
    let (header, _) = Ipv4Header::from_slice(&whole[14..]).expect("a header");
    let sum = header.calc_header_checksum();
    whole[24..26].copy_from_slice(&sum.to_be_bytes());
    whole.extend(payload);
    Some(parse(&whole))
}

/// An ARP packet in a frame; `operation` 1 asks and 2 answers.
#[must_use]
pub fn arp(operation: u8, sender: Station, target: Station) -> Vec<u8> {
    let mut out = if operation == 1 { BROADCAST.to_vec() } else { target.0.to_vec() };
    out.extend(sender.0);
    out.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, operation]);
    out.extend(sender.0);
    out.extend(sender.1.octets());
    out.extend(target.0);
    out.extend(target.1.octets());
    out
}

/// What an ARP frame says: operation, sender and target.
#[must_use]
pub fn parse_arp(frame: &[u8]) -> Option<(u8, Station, Station)> {
    if frame.get(12..14)? != [8, 6] {
        return None;
    }
    let mac = |at: usize| frame.get(at..at + 6)?.try_into().ok();
    let ip = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(frame.get(at..at + 4)?).ok()?));
    Some((*frame.get(21)?, (mac(22)?, ip(28)?), (mac(32)?, ip(38)?)))
}

/// An IPv4 packet whose checksums were found right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub macs: ([u8; 6], [u8; 6]),
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub protocol: u8,
    pub ttl: u8,
    pub length: usize,
    /// Offset in octets, and whether more follow.
    pub fragment: (usize, bool),
    /// Of UDP and TCP; of ICMP type and code.
    pub ports: (u16, u16),
    /// Of ICMP: the rest of the header. Id first, MTU last.
    pub rest: (u16, u16),
    pub payload: Vec<u8>,
}

/// Reads an IPv4 frame and recomputes its checksums.
///
/// # Panics
/// When one is wrong, or the frame is no sound IPv4.
#[must_use]
pub fn parse(frame: &[u8]) -> Seen {
    let sliced = SlicedPacket::from_ethernet(frame).expect("a sound frame");
    let Some(NetSlice::Ipv4(net)) = &sliced.net else { panic!("not IPv4: {frame:02x?}") };
    let header = net.header().to_header();
    assert_eq!(header.header_checksum, header.calc_header_checksum(), "IPv4 checksum");
    let mac = |at: usize| frame[at..at + 6].try_into().expect("six octets");
    let mut seen = Seen {
        macs: (mac(6), mac(0)),
        source: header.source.into(),
        destination: header.destination.into(),
        protocol: header.protocol.0,
        ttl: header.time_to_live,
        length: usize::from(header.total_len),
        fragment: (usize::from(header.fragment_offset.value()) * 8, header.more_fragments),
        ports: (0, 0),
        rest: (0, 0),
        payload: net.payload().payload.to_vec(),
    };
    match &sliced.transport {
        Some(TransportSlice::Udp(udp)) => {
            let sum = udp.to_header().calc_checksum_ipv4(&header, udp.payload()).expect("short enough");
            assert_eq!(udp.checksum(), sum, "UDP checksum");
            seen.ports = (udp.source_port(), udp.destination_port());
            seen.payload = udp.payload().to_vec();
        }
        Some(TransportSlice::Tcp(tcp)) => {
            let sum = tcp.to_header().calc_checksum_ipv4(&header, tcp.payload()).expect("short enough");
            assert_eq!(tcp.checksum(), sum, "TCP checksum");
            seen.ports = (tcp.source_port(), tcp.destination_port());
            seen.payload = tcp.payload().to_vec();
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            let sum = icmp.icmp_type().calc_checksum(icmp.payload());
            assert_eq!(icmp.checksum(), sum, "ICMP checksum");
            let [a, b, c, d] = icmp.bytes5to8();
            seen.ports = (u16::from(icmp.type_u8()), u16::from(icmp.code_u8()));
            seen.rest = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            seen.payload = icmp.payload().to_vec();
        }
        _ => {}
    }
    seen
}
