//! An uplink's DHCP client and its neighbours: what the segment outside sends.
//!
//! Input: a sequence of kind, time and frame (length first).

use std::net::Ipv4Addr;

use pontoon_engine::Time;
use pontoon_engine::uplink::dhcp_client::{Change, DhcpClient};
use pontoon_engine::uplink::{Neighbours, Resolve};
use pontoon_wire::brief::raw;
use pontoon_wire::frame::Packet;
use pontoon_wire::{arp, ethernet, vnet};

use crate::input::Input;

pub(crate) const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];
/// The frame answers the client: its transaction id is put in place.
pub const ANSWER: u8 = 1;
/// Before this an IPv4 packet for the address in the kind's upper bits wants to leave.
pub const SEND: u8 = 2;
/// Offset of the transaction id: Ethernet, IPv4, UDP, four octets.
const XID: usize = 14 + 20 + 8 + 4;

pub fn run(data: &[u8]) {
    let mut now = Time::from_secs(1000);
    let mut client = DhcpClient::new(MAC, 1, now.0);
    let mut neighbours = Neighbours::default();
    neighbours.renew(MAC, None);
    let mut xid: Option<[u8; 4]> = None;
    let mut input = Input(data);
    while !input.is_empty() {
        let (kind, time) = (input.byte(), input.byte());
        now.0 += 1 << (time % 40);
        let mut frame = input.block().to_vec();
        if let (true, Some(xid), Some(place)) = (kind & ANSWER != 0, xid, frame.get_mut(XID..XID + 4)) {
            place.copy_from_slice(&xid);
        }
        if kind & SEND != 0 {
            send(&mut neighbours, now, kind >> 2, &frame);
        }
        if let Some(packet) = arp::Packet::parse(&frame) {
            for (_, waited) in neighbours.learn(now, packet.sender_ip, packet.sender_mac) {
                assert!(waited.len() <= 4096);
            }
        }
        neighbours.expire(now, &mut |_| {});
        xid = poll(&mut client, now, &frame).or(xid);
    }
}

fn send(neighbours: &mut Neighbours, now: Time, last: u8, frame: &[u8]) {
    let hop = Ipv4Addr::new(203, 0, 113, last);
    let recent = neighbours.recent(now, raw(hop)).copied();
    let resolved = neighbours.resolve(now, hop);
    if let Some(macs) = recent {
        let mac = macs[..6].try_into().unwrap_or_default();
        assert_eq!((resolved, &macs[6..]), (Resolve::Known { mac, ask: false }, &MAC[..]));
    }
    match resolved {
        Resolve::Known { mac, .. } => assert!(!ethernet::is_group(mac), "a group is nobody's address"),
        Resolve::Unknown { .. } => drop(neighbours.wait(hop, vnet::Header::default(), frame)),
    }
}

/// Gives the client a frame; the transaction id it asks with.
fn poll(client: &mut DhcpClient, now: Time, frame: &[u8]) -> Option<[u8; 4]> {
    let mut asked = None;
    let change = client.poll(now.0, (frame.len() >= ethernet::HEADER).then_some(frame), &mut |sent| {
        assert!(Packet::parse(sent).is_some() || arp::Packet::parse(sent).is_some(), "what leaves is sound");
        asked = sent.get(XID..).and_then(|rest| rest.first_chunk::<4>()).copied();
    });
    if let Some(Change::Configured(subnet, _)) = change {
        assert!(subnet.prefix <= 32);
    }
    asked
}
