//! What a front-end has said so far, and what follows from it for the virtqueues.
//!
//! A session is told messages and starts and stops queues at its [`Device`]; it reads no socket and knows no thread. A
//! queue runs when its size, addresses, descriptors and memory are known and it is enabled. Whatever of that changes
//! stops it first, and it goes on where it was.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::features::{EVENT_IDX, Features, OFFERED, PROTOCOL_FEATURES, RING_PACKED};
use crate::memory::{MAX_REGIONS, Place, Regions};
use crate::message::{self as m, Message, Words};
use crate::net::Queue;
use crate::ring::{Addresses, Layout, MAX_SIZE, Ring};

/// Pairs of queues a guest may have.
pub const MAX_PAIRS: u16 = 16;

/// Not offered: `LOG_SHMFD` (live migration), `CONFIG` (QEMU's network card has no use for it and says so at each
/// start), `INFLIGHT_SHMFD` (a buffer is given back as it is taken, so none is ever in flight).
pub const PROTOCOL_OFFERED: u64 =
    m::F_MQ | m::F_REPLY_ACK | m::F_MTU | m::F_RESET_DEVICE | m::F_MEM_SLOTS | m::F_STATUS;

/// Octets of an IP packet that any link carries (RFC 791).
const LEAST_MTU: u64 = 68;
/// The driver has reset the device.
const STATUS_RESET: u64 = 0;
/// Marks a message of a descriptor without one; the number of the queue is in the octet before.
const NO_FD: u64 = 1 << 8;
const INDEX: u64 = 0xff;

/// A queue in working order and how its sides wake each other.
#[derive(Debug)]
pub struct Wired {
    pub queue: Queue<Arc<Regions>>,
    /// Readable when the driver has made something available.
    pub kick: Arc<OwnedFd>,
    /// Where the driver is called; without it, it polls.
    pub call: Option<Arc<OwnedFd>>,
}

/// Whoever runs the queues. Even numbers are those the guest receives by, odd ones those it sends by.
pub trait Device {
    fn start(&mut self, index: u16, wired: Wired);
    /// Where the queue was, in the form of `GET_VRING_BASE`; `None` when it had broken.
    fn stop(&mut self, index: u16) -> Option<u32>;
}

/// Why a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation(pub &'static str);

#[derive(Debug, Default)]
struct Vring {
    size: u16,
    /// Descriptors, driver's and device's part by the front-end's addresses.
    user: Option<[u64; 3]>,
    base: u32,
    kick: Option<Arc<OwnedFd>>,
    call: Option<Arc<OwnedFd>>,
    enabled: bool,
    running: bool,
}

#[derive(Debug)]
pub struct Session {
    features: Features,
    protocol: u64,
    regions: Arc<Regions>,
    vrings: Vec<Vring>,
    status: u64,
}

impl Default for Session {
    fn default() -> Self {
        let vrings = std::iter::repeat_with(Vring::default).take(2 * usize::from(MAX_PAIRS)).collect();
        Self { features: Features::default(), protocol: 0, regions: Arc::default(), vrings, status: 0 }
    }
}

/// What is to be answered: nothing, or the body of a reply.
type Answer = Result<Option<Vec<u8>>, Violation>;

impl Session {
    #[must_use]
    pub fn features(&self) -> Features {
        self.features
    }

    /// Acts on a message; returns the message to send back, if there is one.
    ///
    /// # Errors
    /// The front-end broke the protocol, or asked for what cannot be and does not wait to be told: the connection is to be
    /// closed.
    pub fn handle(
        &mut self,
        message: Message,
        device: &mut impl Device,
    ) -> Result<Option<Vec<u8>>, Violation> {
        let (request, acknowledge) =
            (message.request, message.wants_reply && self.protocol & m::F_REPLY_ACK != 0);
        match self.act(message, device) {
            Ok(Some(body)) => Ok(Some(m::reply(request, &body))),
            Ok(None) => Ok(acknowledge.then(|| m::reply(request, &0u64.to_ne_bytes()))),
            Err(_) if acknowledge => Ok(Some(m::reply(request, &1u64.to_ne_bytes()))),
            Err(violation) => Err(violation),
        }
    }

    /// Stops all queues, as when the front-end is gone.
    pub fn close(&mut self, device: &mut impl Device) {
        for index in 0..self.vrings.len() as u16 {
            self.halt(index, device);
        }
    }

    fn act(&mut self, Message { request, body, fds, .. }: Message, device: &mut impl Device) -> Answer {
        const SHORT: Violation = Violation("a message is too short");
        let number = |known: Option<u64>| known.ok_or(SHORT);
        let value = Words(&body).u64();
        let word = |word: u64| Ok(Some(word.to_ne_bytes().to_vec()));
        match request {
            m::GET_FEATURES => word(OFFERED),
            m::SET_FEATURES => self.set_features(number(value)?, device),
            m::GET_PROTOCOL_FEATURES => word(PROTOCOL_OFFERED),
            m::SET_PROTOCOL_FEATURES => self.set_protocol(number(value)?),
            m::GET_QUEUE_NUM => word(MAX_PAIRS.into()),
            m::GET_MAX_MEM_SLOTS => word(MAX_REGIONS as u64),
            m::SET_MEM_TABLE => self.set_table(&body, fds, device),
            m::ADD_MEM_REG => self.add_region(&body, fds, device),
            m::REM_MEM_REG => self.remove_region(&body, device),
            m::SET_VRING_NUM | m::SET_VRING_BASE | m::SET_VRING_ENABLE => {
                let mut words = Words(&body);
                let (index, number) = (words.u32().ok_or(SHORT)?, words.u32().ok_or(SHORT)?);
                self.set_number(request, index, number, device)
            }
            m::GET_VRING_BASE => self.stop(Words(&body).u32().ok_or(SHORT)?, device),
            m::SET_VRING_ADDR => self.set_addresses(&body, device).ok_or(SHORT)?,
            m::SET_VRING_KICK | m::SET_VRING_CALL | m::SET_VRING_ERR => {
                self.set_descriptor(request, number(value)?, fds, device)
            }
            m::NET_SET_MTU => match number(value)? {
                LEAST_MTU..=0xffff => Ok(None),
                _ => Err(Violation("an MTU that cannot be")),
            },
            m::SET_STATUS => {
                self.status = number(value)?;
                if self.status == STATUS_RESET {
                    self.close(device);
                    self.vrings.iter_mut().for_each(|vring| vring.kick = None);
                }
                Ok(None)
            }
            m::GET_STATUS => word(self.status),
            m::RESET_DEVICE | m::RESET_OWNER => {
                self.close(device);
                self.vrings.iter_mut().for_each(|vring| *vring = Vring::default());
                Ok(None)
            }
            // The switch hears of the guest by its next frame.
            m::SET_OWNER | m::SEND_RARP => Ok(None),
            _ => Err(Violation("a request that was not offered")),
        }
    }

    fn set_features(&mut self, bits: u64, device: &mut impl Device) -> Answer {
        if bits & !OFFERED != 0 {
            return Err(Violation("features that were not offered"));
        }
        self.halt_all(device);
        self.features = Features(bits);
        self.go_on(device)
    }

    fn set_protocol(&mut self, bits: u64) -> Answer {
        if bits & !PROTOCOL_OFFERED != 0 {
            return Err(Violation("protocol features that were not offered"));
        }
        self.protocol = bits;
        Ok(None)
    }

    fn set_table(&mut self, body: &[u8], fds: Vec<OwnedFd>, device: &mut impl Device) -> Answer {
        let mut words = Words(body);
        let count = words.u64().map(|head| head as u32 as usize);
        if count != Some(fds.len()) || fds.len() > MAX_REGIONS {
            return Err(Violation("a memory table without its descriptors"));
        }
        self.halt_all(device);
        // Before the new one is mapped: twice a guest's memory may be too much.
        self.regions = Arc::default();
        let mut regions = Regions::default();
        for fd in fds {
            let place = place(&mut words).ok_or(Violation("a memory table that is cut"))?;
            regions.add(place, fd).map_err(|_| Violation("a memory region that cannot be mapped"))?;
        }
        self.regions = Arc::new(regions);
        self.go_on(device)
    }

    fn add_region(&mut self, body: &[u8], mut fds: Vec<OwnedFd>, device: &mut impl Device) -> Answer {
        let mut words = Words(body.get(8..).unwrap_or_default());
        let (Some(place), Some(fd), true) = (place(&mut words), fds.pop(), fds.is_empty()) else {
            return Err(Violation("a memory region without its descriptor"));
        };
        let mut regions = Regions::clone(&self.regions);
        regions.add(place, fd).map_err(|_| Violation("a memory region that cannot be mapped"))?;
        self.halt_all(device);
        self.regions = Arc::new(regions);
        self.go_on(device)
    }

    fn remove_region(&mut self, body: &[u8], device: &mut impl Device) -> Answer {
        let place = place(&mut Words(body.get(8..).unwrap_or_default()));
        let place = place.ok_or(Violation("a memory region that is cut"))?;
        let mut regions = Regions::clone(&self.regions);
        if !regions.remove(place.guest, place.user, place.size) {
            return Err(Violation("a memory region that is not there"));
        }
        self.halt_all(device);
        self.regions = Arc::new(regions);
        self.go_on(device)
    }

    fn set_number(&mut self, request: u32, index: u32, number: u32, device: &mut impl Device) -> Answer {
        let index = self.check_index(index.into())?;
        if request == m::SET_VRING_NUM && !(1..=u32::from(MAX_SIZE)).contains(&number) {
            return Err(Violation("a ring of a size that cannot be"));
        }
        self.halt(index, device);
        let vring = self.vring(index)?;
        match request {
            m::SET_VRING_NUM => vring.size = number as u16,
            m::SET_VRING_BASE => vring.base = number,
            _ => vring.enabled = number != 0,
        }
        self.go_on(device)
    }

    /// Stops a queue and says where it was. It starts anew with its next kick descriptor.
    fn stop(&mut self, index: u32, device: &mut impl Device) -> Answer {
        let index = self.check_index(index.into())?;
        self.halt(index, device);
        let vring = self.vring(index)?;
        vring.kick = None;
        let mut body = u32::from(index).to_ne_bytes().to_vec();
        body.extend_from_slice(&vring.base.to_ne_bytes());
        Ok(Some(body))
    }

    fn set_addresses(&mut self, body: &[u8], device: &mut impl Device) -> Option<Answer> {
        let mut words = Words(body);
        let (index, _flags) = (words.u32()?, words.u32()?);
        let [descriptors, used, available] = [words.u64()?, words.u64()?, words.u64()?];
        Some(self.check_index(index.into()).and_then(|index| {
            self.halt(index, device);
            self.vring(index)?.user = Some([descriptors, available, used]);
            self.go_on(device)
        }))
    }

    fn set_descriptor(
        &mut self,
        request: u32,
        value: u64,
        mut fds: Vec<OwnedFd>,
        device: &mut impl Device,
    ) -> Answer {
        let index = self.check_index(value & INDEX)?;
        let fd = fds.pop();
        if fd.is_some() != (value & NO_FD == 0) || !fds.is_empty() {
            return Err(Violation("a queue's descriptor that did not come"));
        }
        let fd = fd.map(nonblocking).transpose()?.map(Arc::new);
        if request == m::SET_VRING_ERR {
            return Ok(None);
        }
        if request == m::SET_VRING_CALL && fd.as_deref().is_some_and(|fd| !is_event(fd)) {
            return Err(Violation("a queue's call that is no eventfd"));
        }
        if request == m::SET_VRING_KICK && fd.is_none() {
            return Err(Violation("a queue that has to be polled"));
        }
        self.halt(index, device);
        let vring = self.vring(index)?;
        match request {
            m::SET_VRING_KICK => vring.kick = fd,
            _ => vring.call = fd,
        }
        self.go_on(device)
    }

    fn check_index(&self, index: u64) -> Result<u16, Violation> {
        let known = u16::try_from(index).ok().filter(|index| usize::from(*index) < self.vrings.len());
        known.ok_or(Violation("a queue that was not offered"))
    }

    fn vring(&mut self, index: u16) -> Result<&mut Vring, Violation> {
        self.vrings.get_mut(usize::from(index)).ok_or(Violation("a queue that was not offered"))
    }

    fn halt(&mut self, index: u16, device: &mut impl Device) {
        if let Some(vring) = self.vrings.get_mut(usize::from(index))
            && std::mem::take(&mut vring.running)
        {
            vring.base = device.stop(index).unwrap_or(vring.base);
        }
    }

    fn halt_all(&mut self, device: &mut impl Device) {
        for index in 0..self.vrings.len() as u16 {
            self.halt(index, device);
        }
    }

    /// Starts all queues that can run and do not.
    fn go_on(&mut self, device: &mut impl Device) -> Answer {
        for index in 0..self.vrings.len() as u16 {
            let Some(wired) = self.wire(index)? else { continue };
            self.vring(index)?.running = true;
            device.start(index, wired);
        }
        Ok(None)
    }

    /// `None` while something is missing.
    fn wire(&self, index: u16) -> Result<Option<Wired>, Violation> {
        let Some(vring) = self.vrings.get(usize::from(index)).filter(|vring| !vring.running) else {
            return Ok(None);
        };
        // Without the feature there is no message that enables.
        let enabled = vring.enabled || !self.features.has(PROTOCOL_FEATURES);
        let (Some(kick), Some(user), true) = (&vring.kick, vring.user, enabled && vring.size > 0) else {
            return Ok(None);
        };
        if self.regions.is_empty() {
            return Ok(None);
        }
        let lost = Violation("a ring that is not in the guest's memory");
        let at = user.map(|user| self.regions.of_user(user));
        let [Some(descriptors), Some(driver), Some(device)] = at else { return Err(lost) };
        let layout = Layout {
            size: vring.size,
            at: Addresses { descriptors, driver, device },
            packed: self.features.has(RING_PACKED),
            event_index: self.features.has(EVENT_IDX),
        };
        let memory = Arc::clone(&self.regions);
        let ring =
            Ring::new(layout, vring.base, &memory, |at, length| memory.holds(at, length)).ok_or(lost)?;
        let queue = Queue::new(ring, memory, self.features);
        Ok(Some(Wired { queue, kick: Arc::clone(kick), call: vring.call.clone() }))
    }
}

/// A region as messages have it: guest's address, size, front-end's address, offset in the file.
fn place(words: &mut Words<'_>) -> Option<Place> {
    let (guest, size) = (words.u64()?, words.u64()?);
    let (user, offset) = (words.u64()?, words.u64()?);
    Some(Place { guest, size, user, offset })
}

/// An eventfd, or at least nothing a write could wait for that cannot be emptied: no pipe, socket or device.
fn is_event(fd: &OwnedFd) -> bool {
    const KIND: u32 = 0o170_000;
    rustix::fs::fstat(fd).is_ok_and(|found| found.st_mode & KIND == 0)
}

fn nonblocking(fd: OwnedFd) -> Result<OwnedFd, Violation> {
    let set = rustix::fs::fcntl_getfl(&fd)
        .and_then(|flags| rustix::fs::fcntl_setfl(&fd, flags | rustix::fs::OFlags::NONBLOCK));
    set.map(|()| fd).map_err(|_| Violation("a queue's descriptor that cannot be used"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{EventfdFlags, eventfd};

    struct Nobody;

    impl Device for Nobody {
        fn start(&mut self, _index: u16, _wired: Wired) {}

        fn stop(&mut self, _index: u16) -> Option<u32> {
            None
        }
    }

    #[test]
    fn only_an_eventfd_is_called() {
        let call = |fd: OwnedFd| {
            let body = 0u64.to_ne_bytes().to_vec();
            let message = Message { request: m::SET_VRING_CALL, wants_reply: false, body, fds: vec![fd] };
            Session::default().handle(message, &mut Nobody)
        };
        let (reader, writer) = rustix::pipe::pipe().expect("pipe");
        let (socket, _peer) = std::os::unix::net::UnixStream::pair().expect("sockets");
        for other in [reader, writer, socket.into()] {
            assert!(call(other).is_err());
        }
        assert!(call(eventfd(0, EventfdFlags::CLOEXEC).expect("eventfd")).is_ok());
    }
}
