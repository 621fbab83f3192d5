use alloc::vec;
use alloc::vec::Vec;

use etherparse::{
    Ethernet2Header, IpDscp, IpEcn, IpFragOffset, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header,
    SingleVlanHeader, TcpHeader, UdpHeader, VlanId,
};
use pontoon_wire::{be16, vnet};
use proptest::prelude::*;

use super::*;

const PORT: PortId = 3;
const PLAIN: vnet::Header = vnet::Header {
    flags: 0,
    gso_type: 0,
    header_length: vnet_u16(0),
    gso_size: vnet_u16(0),
    csum_start: vnet_u16(0),
    csum_offset: vnet_u16(0),
    buffers: vnet_u16(0),
};

const fn vnet_u16(value: u16) -> zerocopy::byteorder::little_endian::U16 {
    zerocopy::byteorder::little_endian::U16::new(value)
}

/// A frame in the terms a rule speaks of.
#[derive(Clone, Debug)]
struct Spec {
    v6: bool,
    tagged: bool,
    udp: bool,
    port: u16,
    ttl: u8,
    ecn: u8,
    id: u16,
    df: bool,
    payload: Vec<u8>,
    tcp: TcpHeader,
}

impl Spec {
    fn new(udp: bool) -> Self {
        let mut tcp = TcpHeader::new(0, 80, 1000, 512);
        (tcp.ack, tcp.acknowledgment_number) = (true, 77);
        let payload = vec![7; 100];
        Self { v6: false, tagged: false, udp, port: 4000, ttl: 64, ecn: 0, id: 50, df: true, payload, tcp }
    }

    fn tcp() -> Self {
        Self::new(false)
    }

    fn udp() -> Self {
        Self::new(true)
    }

    fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut spec = self.clone();
        change(&mut spec);
        spec
    }

    /// The segment that follows.
    fn next(&self) -> Self {
        self.with(|spec| {
            spec.id = spec.id.wrapping_add(1);
            spec.tcp.sequence_number = spec.tcp.sequence_number.wrapping_add(spec.payload.len() as u32);
            let first = spec.payload.first().copied().unwrap_or_default().wrapping_add(1);
            spec.payload.fill(first);
        })
    }

    fn frame(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let kind = if self.v6 { 0x86dd } else { 0x0800 };
        let outer = if self.tagged { 0x8100 } else { kind };
        let ethernet =
            Ethernet2Header { source: [2; 6], destination: [4; 6], ether_type: etherparse::EtherType(outer) };
        ethernet.write(&mut out).expect("room");
        if self.tagged {
            let vlan_id = VlanId::try_new(42).expect("id");
            let ether_type = etherparse::EtherType(kind);
            let tag = SingleVlanHeader { vlan_id, ether_type, ..SingleVlanHeader::default() };
            tag.write(&mut out).expect("room");
        }
        self.packet(&mut out);
        out
    }

    fn packet(&self, out: &mut Vec<u8>) {
        let mut tcp = self.tcp.clone();
        tcp.source_port = self.port;
        let length = self.payload.len() + if self.udp { 8 } else { tcp.header_len() };
        let protocol = if self.udp { IpNumber::UDP } else { IpNumber::TCP };
        let v4 = Ipv4Header {
            total_len: (20 + length) as u16,
            identification: self.id,
            dont_fragment: self.df,
            fragment_offset: IpFragOffset::ZERO,
            time_to_live: self.ttl,
            protocol,
            dscp: IpDscp::ZERO,
            ecn: IpEcn::try_new(self.ecn).expect("two bits"),
            source: [10, 0, 0, 1],
            destination: [10, 0, 0, 2],
            ..Ipv4Header::default()
        };
        let v6 = Ipv6Header {
            traffic_class: self.ecn,
            flow_label: Ipv6FlowLabel::try_new(0x12345).expect("20 bits"),
            payload_length: length as u16,
            next_header: protocol,
            hop_limit: self.ttl,
            source: [1; 16],
            destination: [2; 16],
        };
        let udp = UdpHeader {
            source_port: self.port,
            destination_port: 53,
            length: length as u16,
            checksum: match self.v6 {
                true => {
                    UdpHeader::with_ipv6_checksum(self.port, 53, &v6, &self.payload).expect("sum").checksum
                }
                false => {
                    UdpHeader::with_ipv4_checksum(self.port, 53, &v4, &self.payload).expect("sum").checksum
                }
            },
        };
        if self.v6 {
            v6.write(out).expect("room");
            tcp.checksum = tcp.calc_checksum_ipv6(&v6, &self.payload).expect("sum");
        } else {
            v4.write(out).expect("room");
            tcp.checksum = tcp.calc_checksum_ipv4(&v4, &self.payload).expect("sum");
        }
        if self.udp { udp.write(out) } else { tcp.write(out) }.expect("room");
        out.extend_from_slice(&self.payload);
    }

    /// The same with the checksum left to complete.
    fn partial(&self) -> (vnet::Header, Vec<u8>) {
        let mut frame = self.frame();
        let l3 = if self.tagged { 18 } else { 14 };
        let l4 = l3 + if self.v6 { 40 } else { 20 };
        let offset = if self.udp { 6 } else { 16 };
        let length = (frame.len() - l4) as u16;
        let addresses = if self.v6 { &frame[l3 + 8..l3 + 40] } else { &frame[l3 + 12..l3 + 20] };
        let sum = pontoon_wire::checksum::Sum::default().bytes(addresses).word(if self.udp { 17 } else { 6 });
        let sum = sum.word(length).fold();
        frame[l4 + offset..l4 + offset + 2].copy_from_slice(&sum.to_be_bytes());
        let header = vnet::Header {
            flags: vnet::NEEDS_CSUM,
            csum_start: (l4 as u16).into(),
            csum_offset: (offset as u16).into(),
            ..vnet::Header::default()
        };
        (header, frame)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Sent {
    port: PortId,
    vnet: vnet::Header,
    bytes: Vec<u8>,
    segments: u16,
    fixed_id: bool,
}

fn flush(coalescer: &mut Coalescer) -> Vec<Sent> {
    let mut sent = Vec::new();
    coalescer.flush(|out| {
        let bytes: Vec<u8> = out.parts().flatten().copied().collect();
        assert_eq!(bytes.len(), out.length());
        assert!(out.parts().count() <= usize::from(out.segments()) + 1);
        let (port, vnet) = (out.port(), out.vnet());
        sent.push(Sent { port, vnet, bytes, segments: out.segments(), fixed_id: out.fixed_id() });
    });
    assert!(coalescer.is_empty());
    sent
}

fn send_all(frames: &[(vnet::Header, Vec<u8>)]) -> Vec<Sent> {
    let mut coalescer = Coalescer::default();
    for (header, frame) in frames {
        assert!(coalescer.push(PORT, Offers::ALL, *header, frame));
    }
    flush(&mut coalescer)
}

/// Plain frames a list of frames stands for.
fn cut(sent: &[Sent]) -> Vec<Vec<u8>> {
    let mut plain = Vec::new();
    let mut scratch = vec![0; 70_000];
    for one in sent {
        let done =
            segment(one.vnet, &one.bytes, one.fixed_id, &mut scratch, |frame| plain.push(frame.to_vec()));
        assert!(done, "{:?}", one.vnet);
    }
    plain
}

/// Sends the frames; they have to come out as they went in. Returns how many segments each frame sent has.
fn merged(specs: &[Spec]) -> Vec<u16> {
    let frames: Vec<Vec<u8>> = specs.iter().map(Spec::frame).collect();
    let given: Vec<_> = frames.iter().map(|frame| (PLAIN, frame.clone())).collect();
    let sent = send_all(&given);
    assert_eq!(cut(&sent), frames);
    sent.iter().map(|sent| sent.segments).collect()
}

fn variants() -> Vec<Spec> {
    let mut all = Vec::new();
    for udp in [false, true] {
        for (v6, tagged) in [(false, false), (false, true), (true, false), (true, true)] {
            all.push(Spec::new(udp).with(|spec| (spec.v6, spec.tagged) = (v6, tagged)));
        }
    }
    all
}

#[test]
fn neighbours_of_one_flow_become_one_frame() {
    for one in variants() {
        let (two, three) = (one.next(), one.next().next());
        assert_eq!(merged(&[one.clone(), two.clone(), three.clone()]), [3], "{one:?}");
        let given: Vec<_> = [&one, &two, &three].map(|spec| (PLAIN, spec.frame())).into();
        let [sent] = &send_all(&given)[..] else { panic!("one frame") };
        let kind = match (one.udp, one.v6) {
            (true, _) => vnet::GSO_UDP_L4,
            (false, false) => vnet::GSO_TCPV4,
            (false, true) => vnet::GSO_TCPV6,
        };
        assert_eq!((sent.vnet.gso_type, sent.vnet.gso_size.get()), (kind, 100));
        assert_eq!(pontoon_wire::frame::check(sent.vnet, &sent.bytes), Ok(sent.vnet), "{one:?}");
    }
}

#[test]
fn checksums_left_to_complete_are_merged_with_complete_ones() {
    for one in variants() {
        let specs = [one.clone(), one.next(), one.next().next()];
        let given = [specs[0].partial(), (PLAIN, specs[1].frame()), specs[2].partial()];
        let sent = send_all(&given);
        assert_eq!(sent.iter().map(|sent| sent.segments).collect::<Vec<_>>(), [3]);
        assert_eq!(cut(&sent), specs.map(|spec| spec.frame()));
    }
}

#[test]
fn super_frames_are_continued() {
    for one in variants() {
        let specs: Vec<Spec> =
            core::iter::successors(Some(one.clone()), |spec| Some(spec.next())).take(4).collect();
        let pair: Vec<_> = specs[..2].iter().map(|spec| (PLAIN, spec.frame())).collect();
        let rest: Vec<_> = specs[2..].iter().map(|spec| (PLAIN, spec.frame())).collect();
        let (pair, rest) = (send_all(&pair), send_all(&rest));
        let given = [(pair[0].vnet, pair[0].bytes.clone()), (rest[0].vnet, rest[0].bytes.clone())];
        let sent = send_all(&given);
        assert_eq!(sent.iter().map(|sent| sent.segments).collect::<Vec<_>>(), [4], "{one:?}");
        assert_eq!(cut(&sent), specs.iter().map(Spec::frame).collect::<Vec<_>>());
    }
}

#[test]
fn a_shorter_segment_is_the_last_and_a_longer_begins_anew() {
    for one in variants() {
        let short = one.next().with(|spec| spec.payload.truncate(40));
        let after = short.next();
        assert_eq!(merged(&[one.clone(), short, after]), [2, 1]);
        let long = one.next().with(|spec| spec.payload.push(1));
        assert_eq!(merged(&[one, long.clone(), long.next()]), [1, 2]);
    }
}

#[test]
fn what_differs_is_not_merged() {
    type Change = fn(&mut Spec);
    let both: [Change; 3] = [|spec| spec.ttl = 63, |spec| spec.ecn = 3, |spec| spec.tagged = !spec.tagged];
    for one in variants() {
        for change in both {
            let two = one.next().with(change);
            assert_eq!(merged(&[one.clone(), two.clone(), two.next()]), [1, 2], "{two:?}");
        }
    }
    let tcp: [Change; 8] = [
        |spec| spec.tcp.sequence_number += 1,
        |spec| spec.tcp.sequence_number -= 100,
        |spec| spec.tcp.acknowledgment_number += 1,
        |spec| spec.tcp.window_size = 0,
        |spec| spec.tcp.urgent_pointer = 9,
        |spec| spec.tcp.ece = true,
        |spec| spec.tcp.ns = true,
        |spec| spec.tcp.set_options_raw(&[8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0]).expect("options"),
    ];
    for change in tcp {
        let one = Spec::tcp();
        let two = one.next().with(change);
        assert_eq!(merged(&[one, two.clone(), two.next()]), [1, 2], "{two:?}");
    }
    let v4: [Change; 2] = [|spec| spec.df = false, |spec| spec.id += 7];
    for change in v4 {
        for one in [Spec::tcp(), Spec::udp()] {
            let two = one.next().with(change);
            assert_eq!(merged(&[one, two.clone(), two.next()]), [1, 2], "{two:?}");
        }
    }
}

#[test]
fn timestamps_that_are_equal_do_not_hinder() {
    let options = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
    let one = Spec::tcp().with(|spec| spec.tcp.set_options_raw(&options).expect("options"));
    assert_eq!(merged(&[one.clone(), one.next()]), [2]);
    let later = [1, 1, 8, 10, 0, 0, 0, 2, 0, 0, 0, 2];
    let two = one.next().with(|spec| spec.tcp.set_options_raw(&later).expect("options"));
    assert_eq!(merged(&[one, two]), [1, 1]);
}

#[test]
fn push_and_fin_end_a_super_frame_and_stay_on_its_last_segment() {
    for change in [|spec: &mut Spec| spec.tcp.psh = true, |spec: &mut Spec| spec.tcp.fin = true] {
        let one = Spec::tcp();
        let two = one.next().with(change);
        let three = two.next().with(|spec| (spec.tcp.psh, spec.tcp.fin) = (false, false));
        assert_eq!(merged(&[one, two.clone(), three.clone()]), [2, 1]);
        assert_eq!(merged(&[two, three]), [1, 1], "nothing follows it");
    }
}

#[test]
fn control_flags_stay_alone() {
    type Change = fn(&mut Spec);
    let flags: [Change; 4] = [
        |spec| spec.tcp.syn = true,
        |spec| spec.tcp.rst = true,
        |spec| spec.tcp.urg = true,
        |spec| spec.tcp.cwr = true,
    ];
    for change in flags {
        let one = Spec::tcp();
        let two = one.next().with(change);
        let three = one.next().next();
        assert_eq!(merged(&[one, two, three.clone(), three.next()]), [1, 1, 2]);
    }
    let acknowledgement = Spec::tcp().with(|spec| spec.payload.clear());
    assert_eq!(merged(&[acknowledgement.clone(), acknowledgement]), [1, 1]);
}

#[test]
fn identifications_count_or_stand_still() {
    for (v4, df) in [(Spec::tcp(), true), (Spec::udp(), true), (Spec::tcp(), false), (Spec::udp(), false)] {
        let one = v4.with(|spec| (spec.df, spec.id) = (df, u16::MAX));
        let counting = [one.clone(), one.next(), one.next().next()];
        assert_eq!(merged(&counting), [3], "over the end of the range");
        let still = counting.clone().map(|spec| spec.with(|spec| spec.id = 0));
        assert_eq!(merged(&still), if df { vec![3] } else { vec![1, 1, 1] });
        let mixed = [one.clone(), one.next(), one.next().next().with(|spec| spec.id = 0)];
        assert_eq!(merged(&mixed), [2, 1]);
    }
}

#[test]
fn no_more_segments_and_octets_than_allowed() {
    let frames = |first: Spec| -> Vec<Spec> {
        core::iter::successors(Some(first), |spec| Some(spec.next())).take(130).collect()
    };
    assert_eq!(merged(&frames(Spec::udp())), [64, 64, 2]);
    let big = frames(Spec::tcp().with(|spec| spec.payload = vec![1; 1448]));
    assert_eq!(merged(&big), [45, 45, 40]);
}

#[test]
fn wrong_checksums_are_left_as_they_are() {
    for one in variants() {
        let specs = [one.clone(), one.next(), one.next().next(), one.next().next().next()];
        for wrong in 0..3 {
            let mut given: Vec<_> = specs.iter().map(|spec| (PLAIN, spec.frame())).collect();
            let last = given[wrong].1.len() - 1;
            given[wrong].1[last] ^= 1;
            let sent = send_all(&given);
            let expected: Vec<Vec<u8>> = given.into_iter().map(|(_, frame)| frame).collect();
            assert_eq!(cut(&sent), expected);
            assert!(sent.len() > 1);
        }
        let (mut header, frame) = one.next().partial();
        header.csum_offset = 2.into();
        let sent = send_all(&[(PLAIN, one.frame()), (header, frame)]);
        assert_eq!(sent.len(), 2, "a checksum elsewhere");
    }
}

#[test]
fn datagrams_without_checksum_are_left_alone() {
    let mut frames = [Spec::udp().frame(), Spec::udp().next().frame()];
    frames.iter_mut().for_each(|frame| frame[40..42].fill(0));
    for flags in [0, vnet::DATA_VALID] {
        let header = vnet::Header { flags, ..vnet::Header::default() };
        assert_eq!(send_all(&frames.clone().map(|frame| (header, frame))).len(), 2);
    }
}

#[test]
fn dhcp_and_groups_and_padding_are_left_alone() {
    let dhcp = Spec::udp().with(|spec| spec.port = 67);
    assert_eq!(merged(&[dhcp.clone(), dhcp.next()]), [1, 1]);
    for one in variants() {
        let mut padded = [one.frame(), one.next().frame()];
        padded.iter_mut().for_each(|frame| frame.push(0));
        assert_eq!(send_all(&padded.map(|frame| (PLAIN, frame))).len(), 2);
        let mut group = [one.frame(), one.next().frame()];
        group.iter_mut().for_each(|frame| frame[0] |= 1);
        assert_eq!(send_all(&group.map(|frame| (PLAIN, frame))).len(), 2);
    }
}

#[test]
fn a_port_gets_only_what_it_takes() {
    let (tcp, udp) = (Spec::tcp(), Spec::udp());
    let offers = Offers { tso: true, uso: false };
    for (offers, count) in [(Offers::ALL, 2), (offers, 3), (Offers::NONE, 4)] {
        let mut coalescer = Coalescer::default();
        for spec in [&tcp, &udp, &tcp.next(), &udp.next()] {
            assert!(coalescer.push(PORT, offers, PLAIN, &spec.frame()));
        }
        assert_eq!(flush(&mut coalescer).len(), count, "{offers:?}");
    }
}

#[test]
fn ports_and_flows_do_not_meet() {
    let flows: Vec<Spec> = (0..20).map(|port| Spec::tcp().with(|spec| spec.port += port)).collect();
    let mut coalescer = Coalescer::default();
    for round in [flows.clone(), flows.iter().map(Spec::next).collect()] {
        for (port, spec) in (0..2).flat_map(|port| round.iter().map(move |spec| (port, spec))) {
            assert!(coalescer.push(port, Offers::ALL, PLAIN, &spec.frame()));
        }
    }
    let sent = flush(&mut coalescer);
    for port in 0..2 {
        let mine: Vec<Sent> = sent.iter().filter(|sent| sent.port == port).cloned().collect();
        for flow in &flows {
            let of_flow = |frame: &Vec<u8>| be16(frame, 34) == Some(flow.port);
            let frames: Vec<Vec<u8>> = cut(&mine).into_iter().filter(of_flow).collect();
            assert_eq!(frames, [flow.frame(), flow.next().frame()]);
        }
    }
    assert!(sent.len() < 60, "most were merged: {}", sent.len());
}

#[test]
fn what_has_no_flow_is_overtaken_by_nothing() {
    let one = Spec::udp();
    let mut fragment = one.frame();
    fragment[20] |= 0x20;
    let mut arp = vec![0; 42];
    arp[12..14].copy_from_slice(&[8, 6]);
    for between in [fragment, arp] {
        let given = [(PLAIN, one.frame()), (PLAIN, between.clone()), (PLAIN, one.next().frame())];
        let sent = send_all(&given);
        assert_eq!(sent.len(), 3);
        assert_eq!(sent[1].bytes, between);
    }
}

#[test]
fn a_full_coalescer_refuses_until_it_is_flushed() {
    let frame = Spec::udp().frame();
    let mut coalescer = Coalescer::new(10 * frame.len(), 64);
    let taken = (0..100).take_while(|_| coalescer.push(PORT, Offers::NONE, PLAIN, &frame)).count();
    assert_eq!(taken, 10);
    assert_eq!(flush(&mut coalescer).len(), 10);
    assert!(coalescer.push(PORT, Offers::NONE, PLAIN, &frame));
    let mut few = Coalescer::new(OCTETS, 3);
    let capacity = few.chunks.capacity();
    assert_eq!((0..100).take_while(|_| few.push(PORT, Offers::NONE, PLAIN, &frame)).count(), capacity);
    assert!(Coalescer::default().push(PORT, Offers::ALL, PLAIN, &vec![0; LONGEST]));
}

#[test]
fn headers_that_lie_are_not_cut() {
    let frame = Spec::tcp().frame();
    let gso = |kind, size: u16| vnet::Header {
        flags: vnet::NEEDS_CSUM,
        gso_type: kind,
        gso_size: size.into(),
        ..vnet::Header::default()
    };
    let mut scratch = vec![0; 2000];
    let lies = [gso(vnet::GSO_TCPV6, 10), gso(vnet::GSO_UDP_L4, 10), gso(vnet::GSO_TCPV4, 0), gso(9, 10)];
    for lie in lies {
        assert!(!segment(lie, &frame, false, &mut scratch, |_| panic!("sent")), "{lie:?}");
    }
    assert!(!segment(gso(vnet::GSO_TCPV4, 90), &frame, false, &mut [0; 80], |_| panic!("sent")));
    for length in 0..54 {
        assert!(!segment(gso(vnet::GSO_TCPV4, 10), &frame[..length], false, &mut scratch, |_| panic!(
            "sent"
        )));
    }
}

/// One step of a random stream: which flow, how many octets, and what is odd about it.
#[derive(Clone, Debug)]
struct Step {
    flow: usize,
    length: usize,
    odd: u8,
    partial: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0usize..8, prop_oneof![Just(100usize), 1usize..200], 0u8..24, any::<bool>());
    let step = step.prop_map(|(flow, length, odd, partial)| Step { flow, length, odd, partial });
    prop::collection::vec(step, 1..60)
}

fn make_odd(spec: &mut Spec, odd: u8) {
    match odd {
        0 => spec.tcp.sequence_number = spec.tcp.sequence_number.wrapping_add(50),
        1 => spec.tcp.sequence_number = spec.tcp.sequence_number.wrapping_sub(100),
        2 => spec.tcp.psh = true,
        3 => spec.tcp.fin = true,
        4 => spec.tcp.cwr = true,
        5 => spec.tcp.urg = true,
        6 => spec.tcp.window_size = 0,
        7 => spec.ecn = 3,
        8 => spec.id = spec.id.wrapping_sub(1),
        9 => spec.df = false,
        10 => spec.ttl = 1,
        11 => spec.tcp.ece = true,
        _ => {}
    }
}

proptest! {
    #[test]
    fn every_flow_comes_out_as_it_went_in(steps in steps()) {
        let mut flows = variants();
        let (mut given, mut coalescer) = (Vec::new(), Coalescer::default());
        for step in &steps {
            let mut spec = flows[step.flow].clone();
            spec.payload.resize(step.length, step.length as u8);
            make_odd(&mut spec, step.odd);
            let (header, frame) = if step.partial { spec.partial() } else { (PLAIN, spec.frame()) };
            prop_assert!(coalescer.push(PORT, Offers::ALL, header, &frame));
            given.push((step.flow, spec.frame()));
            flows[step.flow].id = spec.next().id;
            flows[step.flow].tcp.sequence_number = spec.next().tcp.sequence_number;
        }
        let sent = cut(&flush(&mut coalescer));
        prop_assert_eq!(sent.len(), given.len());
        for flow in 0..flows.len() {
            let mine: Vec<&Vec<u8>> =
                given.iter().filter(|(of, _)| *of == flow).map(|(_, frame)| frame).collect();
            let out: Vec<&Vec<u8>> = sent.iter().filter(|frame| mine.contains(frame)).collect();
            prop_assert_eq!(out, mine);
        }
    }
}
