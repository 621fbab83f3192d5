//! What a front-end of vhost-user says and what is in its guest's memory, both of any bytes.
//!
//! Input: steps that begin with an octet. Below 64 it is a message: the request, an octet of flags (1: wants a reply; then
//! two bits how many descriptors come, one whether they are memory), a block that is the body. From 64 on something
//! happens: we take frames, give one, or the guest writes a block into its memory or cuts its file.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use pontoon_vhost::message::Message;
use pontoon_vhost::net::HEADROOM;
use pontoon_vhost::{Device, Given, Session, Taken, Wired};
use pontoon_wire::{frame, vnet};
use rustix::event::EventfdFlags;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use crate::frames::vnet_header;
use crate::input::Input;

pub const TAKE: u8 = 64;
pub const GIVE: u8 = 65;
pub const SCRIBBLE: u8 = 66;
pub const CUT: u8 = 67;
/// Octets of the guest's memory.
pub const MEMORY: u64 = 1 << 16;

/// Frames taken from one queue in a step: a guest may have made as many available as it likes.
const BATCH: usize = 8;

#[derive(Default)]
struct Worker {
    queues: BTreeMap<u16, Wired>,
    taken: usize,
    given: usize,
}

impl Device for Worker {
    fn start(&mut self, index: u16, wired: Wired) {
        assert!(self.queues.insert(index, wired).is_none(), "queue {index} runs already");
    }

    fn stop(&mut self, index: u16) -> Option<u32> {
        let wired = self.queues.remove(&index);
        Some(wired.expect("a queue that runs").queue.base())
    }
}

impl Worker {
    fn take(&mut self, buffer: &mut [u8]) {
        for (_, wired) in self.queues.iter_mut().filter(|(index, _)| *index % 2 == 1) {
            for _ in 0..BATCH {
                match wired.queue.take(buffer) {
                    Taken::Frame { length, .. } => {
                        assert!(length > 0 && HEADROOM + length <= buffer.len());
                        self.taken += 1;
                    }
                    Taken::Dropped => {}
                    Taken::Nothing | Taken::Broken(_) => break,
                }
            }
            let _ = wired.queue.wants_call();
        }
    }

    fn give(&mut self, header: vnet::Header, octets: &[u8]) {
        for (_, wired) in self.queues.iter_mut().filter(|(index, _)| *index % 2 == 0) {
            let (head, tail) = octets.split_at(octets.len() / 3);
            let given = wired.queue.give(header, &[head, tail]);
            assert!(given != Given::Done || wired.queue.features().takes(&header));
            self.given += usize::from(given == Given::Done);
            let _ = wired.queue.wants_call();
        }
    }
}

/// A guest's memory, as its front-end passes it on.
fn memory() -> OwnedFd {
    let file = memfd_create("guest", MemfdFlags::CLOEXEC).expect("memfd");
    ftruncate(&file, MEMORY).expect("size");
    file
}

fn descriptor(memory: &OwnedFd, is_memory: bool) -> OwnedFd {
    if is_memory {
        return memory.try_clone().expect("descriptor");
    }
    rustix::event::eventfd(0, EventfdFlags::CLOEXEC).expect("eventfd")
}

pub fn run(data: &[u8]) {
    play(data);
}

/// Frames taken and given.
fn play(data: &[u8]) -> (usize, usize) {
    let mut input = Input(data);
    let (mut session, mut worker, memory) = (Session::default(), Worker::default(), memory());
    let mut buffer = vec![0; HEADROOM + frame::MAX];
    while !input.is_empty() {
        match input.byte() {
            TAKE => worker.take(&mut buffer),
            GIVE => {
                let header = vnet_header(&mut input);
                let length = usize::from(input.word());
                worker.give(header, &buffer[..length]);
            }
            SCRIBBLE => {
                let at = input.word();
                let _ = rustix::io::pwrite(&memory, input.block(), at.into());
            }
            CUT => drop(ftruncate(&memory, u64::from(input.word()) & 0xf000)),
            request => {
                let flags = input.byte();
                let count = usize::from(flags >> 1 & 3);
                let fds = (0..count).map(|_| descriptor(&memory, flags & 8 != 0)).collect();
                let body = input.block().to_vec();
                let message = Message { request: request.into(), wants_reply: flags & 1 != 0, body, fds };
                if session.handle(message, &mut worker).is_err() {
                    break;
                }
            }
        }
    }
    session.close(&mut worker);
    assert!(worker.queues.is_empty(), "queues run on without a session");
    (worker.taken, worker.given)
}

/// A front-end as QEMU is, in all kinds of rings, with frames both ways.
#[must_use]
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    use pontoon_vhost::features::{
        EVENT_IDX, INDIRECT_DESC, MRG_RXBUF, PROTOCOL_FEATURES, RING_PACKED, VERSION_1,
    };
    let usual = VERSION_1 | MRG_RXBUF | PROTOCOL_FEATURES | INDIRECT_DESC;
    let legacy = card(0);
    let mut cut = card(usual);
    cut.extend([CUT, 0, 0, TAKE]);
    vec![
        ("split", card(usual)),
        ("event-index", card(usual | EVENT_IDX)),
        ("packed", card(usual | RING_PACKED | EVENT_IDX)),
        ("legacy", legacy),
        ("cut", cut),
    ]
}

/// Memory, two queues of 4 places each with buffers, and what runs over them.
fn card(features: u64) -> Vec<u8> {
    use pontoon_vhost::features::RING_PACKED;
    use pontoon_vhost::message as m;
    const USER: u64 = 0x7f00_0000_0000;
    let packed = features & RING_PACKED != 0;
    let mut octets = Vec::new();
    let mut say = |request: u32, flags: u8, body: &[u8]| {
        octets.extend([request as u8, flags]);
        octets.extend((body.len() as u16).to_be_bytes());
        octets.extend(body);
    };
    let words = |words: &[u64]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
    let pair = |a: u32, b: u32| [a.to_ne_bytes(), b.to_ne_bytes()].concat();
    say(m::GET_FEATURES, 0, &[]);
    say(m::SET_PROTOCOL_FEATURES, 0, &words(&[m::F_REPLY_ACK | m::F_MEM_SLOTS]));
    say(m::SET_FEATURES, 1, &words(&[features]));
    say(m::SET_MEM_TABLE, 0b1011, &words(&[1, 0, MEMORY, USER, 0]));
    for index in 0..2u32 {
        let at = USER + u64::from(index) * 0x1000;
        say(m::SET_VRING_NUM, 0, &pair(index, 4));
        say(m::SET_VRING_BASE, 0, &pair(index, if packed { 0x8000_8000 } else { 0 }));
        say(m::SET_VRING_ADDR, 0, &[pair(index, 0), words(&[at, at + 0x800, at + 0x400, 0])].concat());
        say(m::SET_VRING_KICK, 0b0010, &words(&[index.into()]));
        say(m::SET_VRING_CALL, 0b0010, &words(&[index.into()]));
        say(m::SET_VRING_ENABLE, 0, &pair(index, 1));
    }
    for index in 0..2u16 {
        let mut ring = Vec::new();
        for place in 0..4u16 {
            let buffer = 0x4000 + 0x1000 * u64::from(index) + 0x200 * u64::from(place);
            let (flags, last) = if packed { (1 << 7, place) } else { (0, 0) };
            let write = if index == 0 { 2 } else { 0 };
            ring.extend(buffer.to_le_bytes());
            ring.extend(0x200u32.to_le_bytes());
            let two = if packed { [last, flags | write] } else { [flags | write, last] };
            two.iter().for_each(|word| ring.extend(word.to_le_bytes()));
        }
        let mut write = |at: u16, bytes: &[u8]| {
            octets.push(SCRIBBLE);
            octets.extend(at.to_be_bytes());
            octets.extend((bytes.len() as u16).to_be_bytes());
            octets.extend(bytes);
        };
        write(0x1000 * index, &ring);
        if !packed {
            let available: Vec<u8> =
                [0, 4, 0, 1, 2, 3].iter().flat_map(|word: &u16| word.to_le_bytes()).collect();
            write(0x1000 * index + 0x400, &available);
        }
    }
    octets.push(TAKE);
    for length in [60u16, 900, 3000] {
        octets.push(GIVE);
        octets.extend([0; 10]);
        octets.extend(length.to_be_bytes());
    }
    let mut say = |request: u32, body: &[u8]| {
        octets.extend([request as u8, 1]);
        octets.extend((body.len() as u16).to_be_bytes());
        octets.extend(body);
    };
    say(m::GET_VRING_BASE, &pair(1, 0));
    say(m::RESET_DEVICE, &[]);
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_get_as_far_as_frames() {
        for (name, bytes) in seeds() {
            let (taken, given) = play(&bytes);
            assert!(taken >= 4 && given >= 1, "{name}: {taken} taken, {given} given");
        }
    }
}
