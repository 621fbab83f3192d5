//! The guest's side: frames are read from it and built for it.

use std::net::Ipv4Addr;

use pontoon_ports::sys::DATAGRAMS;
use pontoon_ports::{PacketQueue, Received, Sent, TapQueue};
use pontoon_wire::{Mac, arp, checksum, ethernet, icmp, ipv4, vnet};

use crate::Flow;

/// What the gateway is called on the guest's link.
pub(crate) const GATEWAY_MAC: Mac = [0x52, 0x54, 0, 0x75, 0x70, 1];
/// The longest TCP header.
const LONGEST_TCP: usize = 60;
const UDP: usize = 8;
const L4: usize = ethernet::HEADER + ipv4::HEADER;

/// Carries frames to and from a guest.
pub trait Link {
    fn receive(&mut self, buffer: &mut [u8]) -> Received;
    fn send(&mut self, header: vnet::Header, parts: &[&[u8]]) -> Sent;
}

impl Link for TapQueue {
    fn receive(&mut self, buffer: &mut [u8]) -> Received {
        self.receive(buffer)
    }

    fn send(&mut self, header: vnet::Header, parts: &[&[u8]]) -> Sent {
        self.send(header, parts)
    }
}

impl Link for PacketQueue {
    fn receive(&mut self, buffer: &mut [u8]) -> Received {
        self.receive(buffer)
    }

    fn send(&mut self, header: vnet::Header, parts: &[&[u8]]) -> Sent {
        self.send(header, parts)
    }
}

/// A TCP segment for the guest; longer than `mss` it is a super-frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment<'a> {
    pub(crate) flow: Flow,
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    /// A multiple of four octets.
    pub(crate) options: &'a [u8],
    pub(crate) payload: &'a [u8],
    pub(crate) mss: u16,
}

pub(crate) struct Side {
    pub(crate) link: Box<dyn Link>,
    /// The guest, as it has last been heard.
    mac: Mac,
    id: u16,
}

impl Side {
    pub(crate) fn new(link: Box<dyn Link>) -> Self {
        Self { link, mac: ethernet::BROADCAST, id: 0 }
    }

    pub(crate) fn heard(&mut self, mac: Mac) {
        if !ethernet::is_group(mac) {
            self.mac = mac;
        }
    }

    /// Sends one frame; the guest's kernel takes it or drops it as any card would, and TCP makes up for that.
    fn send(&mut self, header: vnet::Header, parts: &[&[u8]]) {
        let _ = self.link.send(header, parts);
    }

    fn head(&mut self, head: &mut [u8], flow: &Flow, protocol: u8, payload: usize) {
        self.id = self.id.wrapping_add(1);
        ethernet::emit(head, self.mac, GATEWAY_MAC, ethernet::IPV4);
        let packet = head.get_mut(ethernet::HEADER..).unwrap_or_default();
        ipv4::emit(packet, *flow.remote.ip(), *flow.guest.ip(), protocol, payload, self.id, true);
    }

    pub(crate) fn tcp(&mut self, segment: &Segment<'_>) {
        let Segment { flow, options, payload, .. } = segment;
        let header = 20 + options.len();
        let mut head = [0; L4 + LONGEST_TCP];
        let length = header + payload.len();
        self.head(&mut head, flow, ipv4::TCP, length);
        let Some(head) = head.get_mut(..L4 + header) else { return };
        let Some((fixed, rest)) = head.get_mut(L4..).and_then(<[u8]>::split_first_chunk_mut::<20>) else {
            return;
        };
        fixed[..2].copy_from_slice(&flow.remote.port().to_be_bytes());
        fixed[2..4].copy_from_slice(&flow.guest.port().to_be_bytes());
        fixed[4..8].copy_from_slice(&segment.sequence.to_be_bytes());
        fixed[8..12].copy_from_slice(&segment.acknowledgement.to_be_bytes());
        fixed[12] = (header / 4 * 16) as u8;
        fixed[13] = segment.flags;
        fixed[14..16].copy_from_slice(&segment.window.to_be_bytes());
        fixed[16..18].copy_from_slice(&partial(flow, ipv4::TCP, length).to_be_bytes());
        rest.copy_from_slice(options);
        let mut offload = unfinished(16);
        if payload.len() > usize::from(segment.mss) {
            (offload.gso_type, offload.gso_size) = (vnet::GSO_TCPV4, segment.mss.into());
            offload.header_length = ((L4 + header) as u16).into();
        }
        self.send(offload, &[head, payload]);
    }

    /// Datagrams of `size` octets each, the last one perhaps shorter, in at most [`DATAGRAMS`] pieces.
    pub(crate) fn udp(&mut self, flow: &Flow, pieces: &[&[u8]], size: usize) {
        let payload: usize = pieces.iter().map(|piece| piece.len()).sum();
        let mut head = [0; L4 + UDP];
        let length = UDP + payload;
        self.head(&mut head, flow, ipv4::UDP, length);
        let Some(header) = head.last_chunk_mut::<UDP>() else { return };
        header[..2].copy_from_slice(&flow.remote.port().to_be_bytes());
        header[2..4].copy_from_slice(&flow.guest.port().to_be_bytes());
        header[4..6].copy_from_slice(&(length as u16).to_be_bytes());
        header[6..].copy_from_slice(&partial(flow, ipv4::UDP, length).to_be_bytes());
        let mut offload = unfinished(6);
        if payload > size {
            (offload.gso_type, offload.gso_size) = (vnet::GSO_UDP_L4, (size as u16).into());
            offload.header_length = ((L4 + UDP) as u16).into();
        }
        let mut parts = [&[][..]; DATAGRAMS + 1];
        let Some(parts) = parts.get_mut(..=pieces.len()) else { return };
        parts[0] = &head;
        parts[1..].copy_from_slice(pieces);
        if self.link.send(offload, parts) == Sent::NotTaken {
            self.one_by_one(flow, pieces, size);
        }
    }

    fn one_by_one(&mut self, flow: &Flow, pieces: &[&[u8]], size: usize) {
        for datagram in pieces.iter().flat_map(|piece| piece.chunks(size.max(1))) {
            self.udp(flow, &[datagram], datagram.len());
        }
    }

    /// An ICMP message from the remote end, with its checksum.
    pub(crate) fn icmp(&mut self, flow: &Flow, message: &[u8]) {
        let mut head = [0; L4];
        self.head(&mut head, flow, ipv4::ICMP, message.len());
        self.send(vnet::Header::default(), &[&head, message]);
    }

    /// Tells the guest that what it sent does not get there; `first` are the first octets behind its IP header.
    pub(crate) fn unreachable(
        &mut self,
        from: Ipv4Addr,
        code: u8,
        flow: &Flow,
        protocol: u8,
        first: [u8; 8],
    ) {
        let mut offending = [0; ipv4::HEADER + 8];
        ipv4::emit(&mut offending, *flow.guest.ip(), *flow.remote.ip(), protocol, 8, 0, true);
        offending[ipv4::HEADER..].copy_from_slice(&first);
        let error = icmp::Error { kind: icmp::UNREACHABLE, code, rest: 0 };
        let mut frame = [0; 128];
        let macs = (GATEWAY_MAC, self.mac);
        let length = icmp::emit_error(&mut frame, macs, from, *flow.guest.ip(), error, &offending);
        if let Some(frame) = length.and_then(|length| frame.get(..length)) {
            self.send(vnet::Header::default(), &[frame]);
        }
    }

    /// Answers who asks for an address that is the gateway's.
    pub(crate) fn arp(&mut self, frame: &[u8], is_ours: impl Fn(Ipv4Addr) -> bool) {
        let Some(asked) = arp::Packet::parse(frame) else { return };
        if asked.operation != arp::REQUEST || !is_ours(asked.target_ip) || asked.sender_ip == asked.target_ip
        {
            return;
        }
        let answer = arp::Packet {
            operation: arp::REPLY,
            sender_mac: GATEWAY_MAC,
            sender_ip: asked.target_ip,
            target_mac: asked.sender_mac,
            target_ip: asked.sender_ip,
        };
        let mut frame = [0; 64];
        if let Some(length) = answer.emit(&mut frame, asked.sender_mac) {
            self.send(vnet::Header::default(), &[frame.get(..length).unwrap_or_default()]);
        }
    }
}

/// The ports and the two words behind them, as an error quotes them.
pub(crate) fn first_octets(flow: &Flow, rest: [u8; 4]) -> [u8; 8] {
    let ([a, b], [c, d]) = (flow.guest.port().to_be_bytes(), flow.remote.port().to_be_bytes());
    let [e, f, g, h] = rest;
    [a, b, c, d, e, f, g, h]
}

/// The checksum at `offset` of the transport's header is left to the receiver, who will not need it.
fn unfinished(offset: u16) -> vnet::Header {
    vnet::Header {
        flags: vnet::NEEDS_CSUM,
        csum_start: (L4 as u16).into(),
        csum_offset: offset.into(),
        ..vnet::Header::default()
    }
}

fn partial(flow: &Flow, protocol: u8, length: usize) -> u16 {
    checksum::Sum::default().pseudo(*flow.remote.ip(), *flow.guest.ip(), protocol, length as u16).fold()
}
