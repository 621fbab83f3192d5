//! Echo requests leave by ping sockets, where `net.ipv4.ping_group_range` gives them to this process's group.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use pontoon_wire::{checksum, icmp, ipv4};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto};

use crate::Flow;
use crate::run::{Cx, PING};
use crate::table::Table;

const IDLE: Duration = Duration::from_secs(60);
const BURST: usize = 16;

/// Guest, its identifier, and whom it pings.
type Key = (Ipv4Addr, u16, Ipv4Addr);

#[derive(Debug)]
struct Pinger {
    key: Key,
    socket: OwnedFd,
    /// Of the last request, which an error is about.
    sequence: [u8; 2],
    last: Instant,
}

impl Pinger {
    fn flow(&self) -> Flow {
        flow(self.key)
    }
}

pub(crate) struct Ping {
    table: Table<Key, Pinger>,
    buffer: Vec<u8>,
    /// Ping sockets were refused.
    pub(crate) refused: bool,
}

impl Ping {
    pub(crate) fn new(limit: usize) -> Self {
        Self { table: Table::new(limit), buffer: vec![0; 1 << 16], refused: false }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.table.len() == 0
    }

    /// An ICMP message of a guest; all but echo requests are dropped.
    pub(crate) fn send(&mut self, cx: &mut Cx<'_>, guest: Ipv4Addr, remote: Ipv4Addr, message: &[u8]) {
        let Some([icmp::ECHO_REQUEST, 0, _, _, id_high, id_low, high, low]) = message.first_chunk::<8>()
        else {
            return;
        };
        let key = (guest, u16::from_be_bytes([*id_high, *id_low]), remote);
        if cx.config.is_ours(remote) {
            return self.answer(cx, key, message);
        }
        if cx.config.host(SocketAddrV4::new(remote, 1)).is_none() {
            return;
        }
        let sent = self.find(cx, key).and_then(|slot| {
            let pinger = self.table.get(slot).ok_or(Errno::BADF)?;
            (pinger.last, pinger.sequence) = (cx.now, [*high, *low]);
            rustix::net::send(&pinger.socket, message, SendFlags::NOSIGNAL)
        });
        match sent {
            Err(Errno::ACCESS | Errno::PERM) => {
                self.refused = true;
                tell(cx, key, icmp::ADMINISTRATIVELY_PROHIBITED, [*high, *low]);
            }
            Err(error) => tell_of(cx, key, error, [*high, *low]),
            Ok(_) => {}
        }
    }

    fn answer(&mut self, cx: &mut Cx<'_>, key: Key, message: &[u8]) {
        let Some(answer) = self.buffer.get_mut(..message.len()) else { return };
        answer.copy_from_slice(message);
        finish(answer, key.1);
        cx.side.icmp(&flow(key), answer);
    }

    fn find(&mut self, cx: &mut Cx<'_>, key: Key) -> rustix::io::Result<usize> {
        if let Some(slot) = self.table.find(&key) {
            return Ok(slot);
        }
        if self.table.is_full()
            && let Some(oldest) = self.table.lowest(|pinger| Some(pinger.last))
        {
            self.table.remove(oldest);
        }
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket =
            rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, Some(ipproto::ICMP))?;
        rustix::net::connect(&socket, &SocketAddrV4::new(key.2, 0))?;
        let slot = self.table.next_slot();
        cx.watch(&socket, PING, slot, false)?;
        self.table.put(key, Pinger { key, socket, sequence: [0; 2], last: cx.now });
        Ok(slot)
    }

    /// Reads what came; true when there may be more.
    pub(crate) fn receive(&mut self, cx: &mut Cx<'_>, slot: usize) -> bool {
        let Some(pinger) = self.table.get(slot) else { return false };
        for _ in 0..BURST {
            match rustix::net::recv(&pinger.socket, &mut self.buffer[..], RecvFlags::empty()) {
                Ok((length, _)) => {
                    let Some(answer) = self.buffer.get_mut(..length).filter(|answer| answer.len() >= 8)
                    else {
                        continue;
                    };
                    finish(answer, pinger.key.1);
                    cx.side.icmp(&pinger.flow(), answer);
                }
                Err(Errno::AGAIN) => return false,
                Err(error) => tell_of(cx, pinger.key, error, pinger.sequence),
            }
        }
        true
    }

    pub(crate) fn tick(&mut self, now: Instant) {
        self.table.retain(|pinger| now.duration_since(pinger.last) < IDLE);
    }
}

fn flow((guest, _, remote): Key) -> Flow {
    Flow { guest: SocketAddrV4::new(guest, 0), remote: SocketAddrV4::new(remote, 0) }
}

/// Makes a reply with the guest's identifier of a message: the kernel has put in its own.
fn finish(message: &mut [u8], id: u16) {
    if let Some([kind, code, high, low, id_high, id_low]) = message.first_chunk_mut::<6>() {
        [*kind, *code, *high, *low] = [icmp::ECHO_REPLY, 0, 0, 0];
        [*id_high, *id_low] = id.to_be_bytes();
    }
    let [high, low] = checksum::of(message).to_be_bytes();
    if let Some([_, _, a, b]) = message.first_chunk_mut::<4>() {
        (*a, *b) = (high, low);
    }
}

fn tell_of(cx: &mut Cx<'_>, key: Key, error: Errno, sequence: [u8; 2]) {
    match error {
        Errno::NETUNREACH => tell(cx, key, icmp::NET_UNREACHABLE, sequence),
        Errno::HOSTUNREACH => tell(cx, key, icmp::HOST_UNREACHABLE, sequence),
        _ => {}
    }
}

fn tell(cx: &mut Cx<'_>, key: Key, code: u8, [high, low]: [u8; 2]) {
    let [a, b] = key.1.to_be_bytes();
    let from = cx.config.gateway;
    cx.side.unreachable(from, code, &flow(key), ipv4::ICMP, [icmp::ECHO_REQUEST, 0, 0, 0, a, b, high, low]);
}
