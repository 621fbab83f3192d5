//! A guest with its front-end in this process, as QEMU is one: it shares memory, says where rings are, and has a driver.

use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pontoon_wire::vnet;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use super::{Buffers, Card, card_octets};
use crate::features::{Features, PROTOCOL_FEATURES};
use crate::memory::{Place, Regions};
use crate::message::{self as m, HEADER, MAX_BODY};

/// Where memory begins by the front-end's addresses.
const USER: u64 = 0x7f00_0000_0000;
const PATIENCE: Duration = Duration::from_secs(5);
/// How often room is waited for, where a device has fallen behind.
const TRIES: usize = 2_000;

/// A card with one pair of queues. The connection ends with it, as when QEMU is killed.
#[derive(Debug)]
pub struct FrontEnd {
    socket: UnixStream,
    features: Features,
    pub card: Card<Arc<Regions>>,
    memory: OwnedFd,
    kicks: [OwnedFd; 2],
    calls: [OwnedFd; 2],
}

impl FrontEnd {
    /// Connects to a back-end that listens, and starts both queues.
    ///
    /// # Errors
    /// The system's; `InvalidData` when the back-end says what it should not.
    pub fn connect(path: &Path, features: Features, buffers: Buffers) -> io::Result<Self> {
        Self::over(UnixStream::connect(path)?, features, buffers)
    }

    /// The same over a connection.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub fn over(socket: UnixStream, features: Features, buffers: Buffers) -> io::Result<Self> {
        socket.set_read_timeout(Some(PATIENCE))?;
        let features = Features(features.0 | PROTOCOL_FEATURES);
        let (memory, card) = card(features, buffers)?;
        let event = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let pair = || Ok::<_, io::Error>([event()?, event()?]);
        let front = Self { socket, features, card, memory, kicks: pair()?, calls: pair()? };
        front.negotiate()?;
        front.start()?;
        front.greet()
    }

    /// The driver starts anew with other features and in other memory, as when a guest boots again.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub fn restart(self, features: Features, buffers: Buffers) -> io::Result<Self> {
        for index in 0..2 {
            self.stop(index)?;
        }
        let features = Features(features.0 | PROTOCOL_FEATURES);
        let (memory, card) = card(features, buffers)?;
        let front = Self { features, card, memory, ..self };
        front.start()?;
        front.greet()
    }

    fn greet(mut self) -> io::Result<Self> {
        self.card.fill();
        self.card.receiving.ask(true);
        self.kick(0)?;
        Ok(self)
    }

    fn negotiate(&self) -> io::Result<()> {
        let offered = self.ask(m::GET_FEATURES, &[])?;
        let protocol = self.ask(m::GET_PROTOCOL_FEATURES, &[])?;
        if !Features(offered).has(self.features.0) || protocol & m::F_REPLY_ACK == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "features are not offered"));
        }
        self.say(m::SET_PROTOCOL_FEATURES, &m::F_REPLY_ACK.to_ne_bytes(), &[])?;
        self.say(m::SET_OWNER, &[], &[])
    }

    /// Tells all there is to know, and waits until it was heard.
    fn start(&self) -> io::Result<()> {
        let octets = rustix::fs::fstat(&self.memory)?.st_size.cast_unsigned();
        self.say(m::SET_FEATURES, &self.features.0.to_ne_bytes(), &[])?;
        self.say(m::SET_MEM_TABLE, &words(&[1, 0, octets, USER, 0]), &[self.memory.as_fd()])?;
        for (index, layout) in (0..2u32).zip(self.card.layouts()) {
            let (number, at) = (usize::from(index != 0), layout.at);
            let start = if layout.packed { 0x8000_8000 } else { 0 };
            let address = words(&[USER + at.descriptors, USER + at.device, USER + at.driver, 0]);
            self.say(m::SET_VRING_NUM, &pair(index, layout.size.into()), &[])?;
            self.say(m::SET_VRING_BASE, &pair(index, start), &[])?;
            self.say(m::SET_VRING_ADDR, &[pair(index, 0), address].concat(), &[])?;
            self.say(m::SET_VRING_KICK, &words(&[index.into()]), &[self.kicks[number].as_fd()])?;
            self.say(m::SET_VRING_CALL, &words(&[index.into()]), &[self.calls[number].as_fd()])?;
            self.confirm(m::SET_VRING_ENABLE, &pair(index, 1))?;
        }
        Ok(())
    }

    /// Stops a queue; where it was.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub fn stop(&self, index: u32) -> io::Result<u32> {
        self.ask(m::GET_VRING_BASE, &pair(index, 0)).map(|word| (word >> 32) as u32)
    }

    /// Sends a message without waiting for anything.
    ///
    /// # Errors
    /// The socket's.
    pub fn say(&self, request: u32, body: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send_message(&m::request(request, false, body), fds)
    }

    fn send_message(&self, octets: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let slices = [IoSlice::new(octets)];
        let sent = rustix::net::sendmsg(&self.socket, &slices, &mut control, SendFlags::NOSIGNAL)?;
        (&self.socket).write_all(octets.get(sent..).unwrap_or_default())
    }

    /// Asks for a word.
    fn ask(&self, request: u32, body: &[u8]) -> io::Result<u64> {
        self.send_message(&m::request(request, false, body), &[])?;
        self.hear(request)
    }

    fn confirm(&self, request: u32, body: &[u8]) -> io::Result<()> {
        self.send_message(&m::request(request, true, body), &[])?;
        match self.hear(request)? {
            0 => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("request {request} was refused"))),
        }
    }

    fn hear(&self, request: u32) -> io::Result<u64> {
        let invalid = || io::Error::new(io::ErrorKind::InvalidData, "not an answer of vhost-user");
        let (mut header, mut body) = ([0; HEADER], [0; 8]);
        (&self.socket).read_exact(&mut header)?;
        let length = u32::from_ne_bytes([header[8], header[9], header[10], header[11]]) as usize;
        if header[..4] != request.to_ne_bytes() || length != body.len() || length > MAX_BODY {
            return Err(invalid());
        }
        (&self.socket).read_exact(&mut body)?;
        Ok(u64::from_ne_bytes(body))
    }

    fn kick(&self, index: usize) -> io::Result<()> {
        rustix::io::write(&self.kicks[index], &1u64.to_ne_bytes())?;
        Ok(())
    }

    /// Queues a frame for the device; `false` when it has not taken earlier ones for long.
    ///
    /// # Errors
    /// The system's.
    pub fn send(&mut self, header: vnet::Header, frame: &[u8]) -> io::Result<bool> {
        for _ in 0..TRIES {
            if self.card.send(header, frame) {
                return Ok(true);
            }
            self.flush()?;
            std::thread::sleep(Duration::from_micros(20));
        }
        Ok(false)
    }

    /// Shows the device what was sent.
    ///
    /// # Errors
    /// The system's.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.card.sending.publish() { self.kick(1) } else { Ok(()) }
    }

    /// Takes all that has arrived, and asks to be called for what comes next.
    ///
    /// # Errors
    /// The system's.
    pub fn receive(
        &mut self,
        buffer: &mut [u8],
        mut take: impl FnMut(vnet::Header, &[u8]),
    ) -> io::Result<usize> {
        let (mut frames, mut asked, start) = (0, false, self.card.header());
        let _ = rustix::io::read(&self.calls[0], &mut [0; 8]);
        loop {
            let before = frames;
            while let Some((header, length)) = self.card.receive(buffer) {
                take(header, buffer.get(start..start + length).unwrap_or_default());
                frames += 1;
            }
            if self.card.receiving.publish() {
                self.kick(0)?;
            }
            if asked && frames == before {
                return Ok(frames);
            }
            self.card.receiving.ask(true);
            asked = true;
        }
    }

    /// Readable when the device calls for what has arrived.
    #[must_use]
    pub fn called(&self) -> BorrowedFd<'_> {
        self.calls[0].as_fd()
    }

    /// The guest's memory, to write into what the driver would not.
    #[must_use]
    pub fn memory(&self) -> &OwnedFd {
        &self.memory
    }

    /// Wakes the device, whether or not there is anything.
    ///
    /// # Errors
    /// The system's.
    pub fn wake(&self) -> io::Result<()> {
        self.kick(0)?;
        self.kick(1)
    }
}

fn card(features: Features, buffers: Buffers) -> io::Result<(OwnedFd, Card<Arc<Regions>>)> {
    let octets = card_octets(buffers).next_multiple_of(4096);
    let memory = memfd_create("guest", MemfdFlags::CLOEXEC)?;
    ftruncate(&memory, octets)?;
    let mut regions = Regions::default();
    regions.add(Place { guest: 0, size: octets, user: USER, offset: 0 }, memory.try_clone()?)?;
    Ok((memory, Card::new(Arc::new(regions), 0, features, buffers)))
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn pair(first: u32, second: u32) -> Vec<u8> {
    [first.to_ne_bytes(), second.to_ne_bytes()].concat()
}
