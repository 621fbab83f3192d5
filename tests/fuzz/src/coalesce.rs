//! Frames of a few flows through the coalescer and its inverse: every flow has to come out as it went in.
//!
//! Input: steps of four octets (flow, oddity, size, offload); the flows of a step go on where they stopped. Step 10
//! takes any bytes as a frame.

use std::collections::{BTreeMap, BTreeSet};

use pontoon_engine::PortId;
use pontoon_engine::coalesce::{Coalescer, LONGEST, Offers, segment};
use pontoon_wire::checksum::Sum;
use pontoon_wire::{be16, frame, vnet};

use crate::frames::vnet_header;
use crate::input::Input;

const SIZES: [usize; 8] = [0, 1, 18, 100, 536, 1448, 1460, 3000];
const SCRATCH: usize = frame::MAX + 1;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;
const ACK: u8 = 16;
const URG: u8 = 32;
const ECE: u8 = 64;
const CWR: u8 = 128;

#[derive(Clone, Copy)]
struct Flow {
    port: PortId,
    v6: bool,
    tagged: bool,
    udp: bool,
    id: u16,
    sequence: u32,
}

/// A frame and its flow, if that can be told.
type Entry = (Option<Vec<u8>>, Vec<u8>);

/// Plain frames by port and flow; those without a flow are in all flows of their port.
#[derive(Default)]
struct Ledger(BTreeMap<PortId, Vec<Entry>>);

impl Ledger {
    fn write(&mut self, port: PortId, plain: &[u8]) {
        self.0.entry(port).or_default().push((label(plain), plain.to_vec()));
    }

    fn assert_same(&self, sent: &Self) {
        let count = |ledger: &Self| ledger.0.values().map(Vec::len).sum::<usize>();
        assert_eq!(count(self), count(sent), "frames are lost or invented");
        for (port, given) in &self.0 {
            let Some(sent) = sent.0.get(port) else { panic!("nothing on port {port}") };
            let flows: BTreeSet<_> = given.iter().filter_map(|(flow, _)| flow.as_ref()).collect();
            for flow in flows {
                let mine = |entry: &&Entry| entry.0.as_ref().is_none_or(|label| label == flow);
                let same = given.iter().filter(mine).eq(sent.iter().filter(mine));
                assert!(same, "a flow of port {port} is changed: {flow:02x?}");
            }
        }
    }
}

/// Version, protocol, addresses and ports of a packet that has them all.
fn label(frame: &[u8]) -> Option<Vec<u8>> {
    let tagged = be16(frame, 12)? == 0x8100;
    let l3 = if tagged { 18 } else { 14 };
    let ip = frame.get(l3..)?;
    let (protocol, addresses, l4) = match (be16(frame, l3 - 2)?, *ip.first()?) {
        (0x0800, 0x45) if be16(ip, 6)? & 0x3fff == 0 => (*ip.get(9)?, ip.get(12..20)?, 20),
        (0x86dd, 0x60..=0x6f) => (*ip.get(6)?, ip.get(8..40)?, 40),
        _ => return None,
    };
    let ports = ip.get(l4..l4 + 4)?;
    matches!(protocol, 6 | 17).then(|| [&[protocol], addresses, ports].concat())
}

pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let mut coalescer = Coalescer::new(64 * 1024, 64);
    let mut flows: Vec<Flow> = (0..8).map(flow).collect();
    let (mut given, mut sent) = (Ledger::default(), Ledger::default());
    let mut scratch = vec![0; SCRATCH];
    while !input.is_empty() {
        let step = [input.byte(), input.byte(), input.byte(), input.byte()];
        let (port, header, frame) = match step[0] % 12 {
            index @ 0..8 => {
                let flow = &mut flows[usize::from(index)];
                let (header, frame) = flow.frame(step);
                (flow.port, header, frame)
            }
            8 => (0, vnet::Header::default(), arp()),
            9 => (0, vnet::Header::default(), fragment(flows[4])),
            10 => (u16::from(step[1] % 2), vnet_header(&mut input), input.block().to_vec()),
            _ => {
                flush(&mut coalescer, &mut sent, &mut scratch);
                continue;
            }
        };
        let Some((header, frame)) = admitted(header, frame) else { continue };
        let plain = |plain: &[u8]| given.write(port, plain);
        if !segment(header, &frame, false, &mut scratch, plain) {
            continue;
        }
        let offers = if port == 0 { Offers::ALL } else { Offers { tso: true, uso: false } };
        if !coalescer.push(port, offers, header, &frame) {
            flush(&mut coalescer, &mut sent, &mut scratch);
            assert!(coalescer.push(port, offers, header, &frame), "an empty coalescer takes a frame");
        }
    }
    flush(&mut coalescer, &mut sent, &mut scratch);
    given.assert_same(&sent);
}

/// What the engine would let through and the worker would not send at once.
fn admitted(header: vnet::Header, frame: Vec<u8>) -> Option<(vnet::Header, Vec<u8>)> {
    let mut header = frame::check(header, &frame).ok().filter(|_| frame.len() <= LONGEST)?;
    // Who says so has verified it; here nobody has.
    header.flags &= vnet::NEEDS_CSUM;
    Some((header, frame))
}

fn flush(coalescer: &mut Coalescer, sent: &mut Ledger, scratch: &mut [u8]) {
    coalescer.flush(|out| {
        let bytes: Vec<u8> = out.parts().flatten().copied().collect();
        assert_eq!(bytes.len(), out.length());
        assert!(frame::check(out.vnet(), &bytes).is_ok(), "{:?}", out.vnet());
        let (port, header) = (out.port(), out.vnet());
        assert!(port == 0 || header.gso_type != vnet::GSO_UDP_L4 || out.segments() == 1);
        let done = segment(header, &bytes, out.fixed_id(), scratch, |plain| sent.write(port, plain));
        assert!(done, "{header:?}");
    });
}

fn flow(index: u8) -> Flow {
    let (v6, tagged, port) = (index % 4 == 2, index % 4 == 1, u16::from(index % 4 == 3));
    Flow { port, v6, tagged, udp: index >= 4, id: 65_530, sequence: u32::MAX - 5000 }
}

fn arp() -> Vec<u8> {
    let mut frame = vec![0; 42];
    frame[12..14].copy_from_slice(&[8, 6]);
    frame
}

fn fragment(mut flow: Flow) -> Vec<u8> {
    let (_, mut frame) = flow.frame([0, 0, 3, 0]);
    frame[20] |= 0x20;
    frame
}

impl Flow {
    /// The next frame: `[_, oddity, size, offload]`.
    fn frame(&mut self, [_, odd, size, offload]: [u8; 4]) -> (vnet::Header, Vec<u8>) {
        let length = SIZES[usize::from(size % 8)];
        let segments = usize::from(size >> 4).max(1);
        let super_frame = segments > 1 && length > 0 && offload % 4 != 0;
        let total =
            if super_frame { length * segments - usize::from(offload >> 4).min(length - 1) } else { length };
        let total = total.min(LONGEST - 200);
        let mut bytes = self.network(odd, total);
        let l3 = if self.tagged { 18 } else { 14 };
        let l4 = l3 + if self.v6 { 40 } else { 20 };
        let payload = self.transport(&mut bytes, odd, total);
        bytes.extend((0..total).map(|at| (at as u8).wrapping_mul(31) ^ odd ^ size));
        let partial = super_frame || offload % 4 == 1;
        self.sums(&mut bytes, l3, l4, partial, odd);
        self.go_on(total, if super_frame { total.div_ceil(length) } else { 1 });
        (self.header(partial, super_frame && total > length, length, l4, payload), bytes)
    }

    fn go_on(&mut self, total: usize, segments: usize) {
        self.sequence = self.sequence.wrapping_add(total as u32);
        self.id = self.id.wrapping_add(segments as u16);
    }

    fn header(&self, partial: bool, gso: bool, size: usize, l4: usize, payload: usize) -> vnet::Header {
        let mut header = vnet::Header::default();
        if partial {
            header.flags = vnet::NEEDS_CSUM;
            header.csum_start = (l4 as u16).into();
            header.csum_offset = if self.udp { 6 } else { 16 }.into();
        }
        if gso {
            header.gso_type = match (self.udp, self.v6) {
                (true, _) => vnet::GSO_UDP_L4,
                (false, false) => vnet::GSO_TCPV4,
                (false, true) => vnet::GSO_TCPV6,
            };
            (header.gso_size, header.header_length) = ((size as u16).into(), (payload as u16).into());
        }
        header
    }

    fn network(&self, odd: u8, total: usize) -> Vec<u8> {
        let mut bytes = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
        if self.tagged {
            bytes.extend([0x81, 0, 0, 42]);
        }
        let length = total + if self.udp { 8 } else { self.tcp_header(odd) };
        let (ttl, tos) = (if odd == 1 { 1 } else { 64 }, if odd == 2 { 3 } else { 0 });
        let protocol = if self.udp { 17 } else { 6 };
        if self.v6 {
            bytes.extend([0x86, 0xdd, 0x60, tos << 4, 0, 0]);
            bytes.extend((length as u16).to_be_bytes());
            bytes.extend([protocol, ttl]);
            bytes.extend([[0xfd; 16], [0xfe; 16]].concat());
            return bytes;
        }
        let id = match odd {
            3 => self.id.wrapping_add(9),
            4..=9 => 0,
            _ => self.id,
        };
        bytes.extend([8, 0, 0x45, tos]);
        bytes.extend(((length + 20) as u16).to_be_bytes());
        bytes.extend(id.to_be_bytes());
        bytes.extend([if odd == 9 { 0 } else { 0x40 }, 0, ttl, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        bytes
    }

    fn tcp_header(&self, odd: u8) -> usize {
        if odd == 20 || odd == 21 { 32 } else { 20 }
    }

    /// Returns where the payload begins.
    fn transport(&self, bytes: &mut Vec<u8>, odd: u8, total: usize) -> usize {
        bytes.extend([0x10, 0x92, 0x04, 0xd2]);
        if self.udp {
            bytes.extend(((total + 8) as u16).to_be_bytes());
            bytes.extend([0, 0]);
            return bytes.len();
        }
        let flags = match odd {
            10 => FIN,
            11 => SYN,
            12 => RST,
            13 => PSH,
            14 => URG,
            15 => ECE,
            16 => CWR,
            _ => 0,
        };
        let sequence = match odd {
            17 => self.sequence.wrapping_add(1),
            18 => self.sequence.wrapping_sub(100),
            _ => self.sequence,
        };
        bytes.extend(sequence.to_be_bytes());
        bytes.extend(if odd == 19 { [0, 0, 0, 9] } else { [0, 0, 0, 8] });
        bytes.extend([(self.tcp_header(odd) as u8) << 2, ACK | flags]);
        bytes.extend(if odd == 22 { [0, 0] } else { [1, 0] });
        bytes.extend([0, 0, 0, u8::from(odd == 14 || odd == 23)]);
        if self.tcp_header(odd) == 32 {
            bytes.extend([1, 1, 8, 10, 0, 0, 0, odd, 0, 0, 0, 1]);
        }
        bytes.len()
    }

    fn sums(&self, bytes: &mut [u8], l3: usize, l4: usize, partial: bool, odd: u8) {
        if !self.v6 {
            let sum = Sum::default().bytes(&bytes[l3..l4]).finish();
            bytes[l3 + 10..l3 + 12].copy_from_slice(&sum.to_be_bytes());
        }
        let addresses = if self.v6 { l3 + 8..l3 + 40 } else { l3 + 12..l3 + 20 };
        let protocol = if self.udp { 17 } else { 6 };
        let pseudo = Sum::default().bytes(&bytes[addresses]).word(protocol).word((bytes.len() - l4) as u16);
        let sum = if partial { pseudo.fold() } else { pseudo.bytes(&bytes[l4..]).finish() };
        let sum = if self.udp && sum == 0 { 0xffff } else { sum };
        let sum = if odd == 24 { sum ^ 1 } else { sum };
        let field = l4 + if self.udp { 6 } else { 16 };
        bytes[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    }
}
