//! A DHCP client for uplinks without a static address: smoltcp's, on a device of one frame.

use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use pontoon_wire::frame::Packet;
use pontoon_wire::{Mac, ipv4};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::dhcpv4;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress};

use crate::snapshot::Subnet;

/// Frames the client may have in hand at once; it answers one message with one.
const QUEUE: usize = 4;
const FRAME: usize = 1514;

/// What became of the uplink's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Configured(Subnet, Option<Ipv4Addr>),
    Lost,
}

/// The client of one uplink.
pub struct DhcpClient {
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    queue: Queue,
}

impl DhcpClient {
    #[must_use]
    pub fn new(mac: Mac, seed: u64, now_ns: u64) -> Self {
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(mac)));
        config.random_seed = seed;
        let mut queue = Queue::default();
        let interface = Interface::new(config, &mut queue, instant(now_ns));
        let mut sockets = SocketSet::new(vec![]);
        let handle = sockets.add(dhcpv4::Socket::new());
        Self { interface, sockets, handle, queue }
    }

    /// Lets the client work; `frame` is one that arrived for it, `transmit` gets whole frames.
    pub fn poll(
        &mut self,
        now_ns: u64,
        frame: Option<&[u8]>,
        transmit: &mut dyn FnMut(&[u8]),
    ) -> Option<Change> {
        self.queue.received = frame.filter(|frame| is_from_a_server(frame)).map(<[u8]>::to_vec);
        self.interface.poll(instant(now_ns), &mut self.queue, &mut self.sockets);
        for frame in self.queue.sent.drain(..) {
            transmit(&frame);
        }
        match self.sockets.get_mut::<dhcpv4::Socket<'_>>(self.handle).poll()? {
            dhcpv4::Event::Configured(config) => {
                let subnet =
                    Subnet { address: config.address.address(), prefix: config.address.prefix_len() };
                Some(Change::Configured(subnet, config.router))
            }
            dhcpv4::Event::Deconfigured => Some(Change::Lost),
        }
    }
}

/// The stack answers to where a message came from, and does not survive to be asked to send to nobody.
fn is_from_a_server(frame: &[u8]) -> bool {
    Packet::parse(frame).is_some_and(|packet| {
        let source = packet.source();
        let somebody = !source.is_unspecified()
            && !source.is_multicast()
            && !source.is_broadcast()
            && !source.is_loopback();
        somebody && packet.ip.protocol == ipv4::UDP && !packet.ip.is_fragment()
    })
}

fn instant(now_ns: u64) -> Instant {
    Instant::from_micros(i64::try_from(now_ns / 1000).unwrap_or(i64::MAX))
}

#[derive(Default)]
struct Queue {
    received: Option<Vec<u8>>,
    sent: Vec<Vec<u8>>,
}

struct Received(Vec<u8>);
struct Send<'a>(&'a mut Vec<Vec<u8>>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, work: F) -> R {
        work(&self.0)
    }
}

impl TxToken for Send<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, work: F) -> R {
        let mut frame = vec![0; length];
        let result = work(&mut frame);
        self.0.push(frame);
        result
    }
}

impl Device for Queue {
    type RxToken<'a> = Received;
    type TxToken<'a> = Send<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Received, Send<'_>)> {
        Some((Received(self.received.take()?), Send(&mut self.sent)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Send<'_>> {
        (self.sent.len() < QUEUE).then_some(Send(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME;
        capabilities.checksum = ChecksumCapabilities::default();
        // A veth or tap peer may leave the UDP checksum for us to complete.
        capabilities.checksum.udp = smoltcp::phy::Checksum::Tx;
        capabilities
    }
}
