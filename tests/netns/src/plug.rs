//! A guest's end of a socket, as QEMU has it: frames of an interface in a namespace go to the socket and back.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use pontoon_vhost::Features;
use pontoon_vhost::driver::{Buffers, FrontEnd};
use pontoon_wire::vnet;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::SendFlags;
use zerocopy::{FromBytes, IntoBytes};

use crate::raw::{HEADER, Tap};
use crate::world::World;

/// Carries frames until it is dropped.
#[derive(Debug)]
pub struct Plug {
    stop: Arc<AtomicBool>,
    /// Nothing is taken from the socket.
    stopped: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    stream: Option<UnixStream>,
    drivers: Option<Sender<(Features, Sender<()>)>>,
}

/// As Linux has them with mergeable buffers, and room for the largest frame that is sent.
const BUFFERS: Buffers = Buffers { size: 256, receive: 1536, send: 66_000, pieces: 1 };

/// The socket's side of it.
enum Socket {
    Stream(UnixStream),
    Dgram(UnixDatagram),
}

impl World {
    /// Makes an interface `dev` in a namespace whose other end, `plug-DEV`, is for a [`Plug`].
    pub fn add_plug(&self, guest: &str, dev: &str, mac: &str) {
        let words = format!("link add {dev} address {mac} type veth peer name plug-{dev}");
        self.ip(guest, &words);
        for name in [dev.to_owned(), format!("plug-{dev}")] {
            let _ = self.exec(guest, &["ethtool", "-K", &name, "tx", "off"]).expect_ok("ethtool");
            self.ip(guest, &format!("link set {name} up"));
        }
        self.judge(guest, dev);
    }
}

impl Plug {
    /// Connects to a stream socket, as `-netdev stream,server=off`.
    ///
    /// # Panics
    /// When that fails.
    #[must_use]
    pub fn connect(netns: &str, dev: &str, path: &Path) -> Self {
        Self::start(netns, dev, Socket::Stream(UnixStream::connect(path).expect("connect")))
    }

    /// Listens at a path and waits for the one who connects, as `-netdev stream,server=on`.
    ///
    /// # Panics
    /// When that fails.
    #[must_use]
    pub fn listen(netns: &str, dev: &str, path: &Path) -> Self {
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path).expect("listen");
        listener.set_nonblocking(true).expect("listen");
        let stream = crate::until("somebody connects", 10, || listener.accept().ok()).0;
        stream.set_nonblocking(false).expect("blocking");
        Self::start(netns, dev, Socket::Stream(stream))
    }

    /// Sends datagrams from one path to another, as `-netdev dgram`; `greeting` first, unless it is empty.
    ///
    /// # Panics
    /// When that fails.
    #[must_use]
    pub fn dgram(netns: &str, dev: &str, local: &Path, remote: &Path, greeting: &[u8]) -> Self {
        let _ = std::fs::remove_file(local);
        let socket = UnixDatagram::bind(local).expect("bind");
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("timeout");
        crate::until("the socket is there", 10, || socket.connect(remote).ok());
        if !greeting.is_empty() {
            socket.send(greeting).expect("greeting");
        }
        Self::start(netns, dev, Socket::Dgram(socket))
    }

    /// Connects as a front-end of vhost-user, with a driver that agrees to `features`.
    ///
    /// # Panics
    /// When that fails.
    #[must_use]
    pub fn vhost_user(netns: &str, dev: &str, path: &Path, features: Features) -> Self {
        let tap = Tap::open(netns, &format!("plug-{dev}")).expect("packet socket");
        let connect = || FrontEnd::connect(path, features, BUFFERS).ok();
        let front = crate::until("the back-end answers", 10, connect);
        let (stop, stopped) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let (drivers, changes) = channel();
        let (ended, held) = (Arc::clone(&stop), Arc::clone(&stopped));
        let carry = move || {
            let gone = carry(tap, front, &changes, [&ended, &held]);
            println!("a front-end ends: {gone:?}");
        };
        let threads = vec![std::thread::spawn(carry)];
        Self { stop, stopped, threads, stream: None, drivers: Some(drivers) }
    }

    /// Has the driver of a vhost-user card start anew with other features, and waits until it has.
    ///
    /// # Panics
    /// When it is no such card, or its back-end has gone.
    pub fn agree(&self, features: Features) {
        let (done, ready) = channel();
        self.drivers.as_ref().expect("a card").send((features, done)).expect("it runs");
        ready.recv().expect("the back-end agrees");
    }

    fn start(netns: &str, dev: &str, socket: Socket) -> Self {
        let tap = Tap::open(netns, &format!("plug-{dev}")).expect("packet socket");
        let back = tap.as_fd().try_clone_to_owned().expect("clone");
        let (stop, stopped) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let (ended, paused) = (Arc::clone(&stop), Arc::clone(&stopped));
        let copy = match &socket {
            Socket::Stream(stream) => Socket::Stream(stream.try_clone().expect("clone")),
            Socket::Dgram(socket) => Socket::Dgram(socket.try_clone().expect("clone")),
        };
        let stream = match &socket {
            Socket::Stream(stream) => Some(stream.try_clone().expect("clone")),
            Socket::Dgram(_) => None,
        };
        let also_ended = Arc::clone(&stop);
        let threads = vec![
            std::thread::spawn(move || to_socket(tap, socket, &ended)),
            std::thread::spawn(move || from_socket(copy, &back, &also_ended, &paused)),
        ];
        Self { stop, stopped, threads, stream, drivers: None }
    }

    /// Stops taking from the socket, as a guest that is stopped, or goes on.
    pub fn hold(&self, held: bool) {
        self.stopped.store(held, Ordering::Relaxed);
    }

    /// Whether the other side has closed the connection.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }
}

impl Drop for Plug {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(stream) = &self.stream {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

fn to_socket(mut tap: Tap, mut socket: Socket, ended: &AtomicBool) {
    let patience = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    while !ended.load(Ordering::Relaxed) {
        let _ = poll(&mut [PollFd::new(&tap, PollFlags::IN)], Some(&patience));
        while let Ok(frame) = tap.next() {
            let sent = match &mut socket {
                Socket::Stream(stream) => {
                    let framed = [&(frame.len() as u32).to_be_bytes(), frame].concat();
                    stream.write_all(&framed)
                }
                // One that the other side does not take is lost.
                Socket::Dgram(socket) => socket.send(frame).map(drop).or(Ok::<_, io::Error>(())),
            };
            if sent.is_err() {
                return;
            }
        }
    }
}

fn from_socket(mut socket: Socket, tap: &OwnedFd, ended: &AtomicBool, held: &AtomicBool) {
    let mut buffer = vec![0; HEADER + (1 << 17)];
    while !ended.load(Ordering::Relaxed) {
        if held.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        }
        let Some(room) = buffer.get_mut(HEADER..) else { return };
        let length = match &mut socket {
            Socket::Stream(stream) => match framed(stream, room) {
                Ok(length) => length,
                Err(_) => return,
            },
            Socket::Dgram(socket) => socket.recv(room).unwrap_or(0),
        };
        if length > 0 {
            let _ =
                rustix::net::send(tap, buffer.get(..HEADER + length).unwrap_or_default(), SendFlags::empty());
        }
    }
}

/// Carries frames between an interface and the rings of a card, until it is ended or the back-end goes.
fn carry(
    mut tap: Tap,
    mut front: FrontEnd,
    changes: &Receiver<(Features, Sender<()>)>,
    [ended, held]: [&AtomicBool; 2],
) -> io::Result<()> {
    let patience = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    let back = tap.as_fd().try_clone_to_owned()?;
    let mut buffer = vec![0; 1 << 17];
    while !ended.load(Ordering::Relaxed) {
        if let Ok((features, done)) = changes.try_recv() {
            front = front.restart(features, BUFFERS)?;
            let _ = done.send(());
        }
        if held.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        }
        let mut watched =
            [PollFd::new(&tap, PollFlags::IN), PollFd::from_borrowed_fd(front.called(), PollFlags::IN)];
        let _ = poll(&mut watched, Some(&patience));
        while let Ok((header, frame)) = tap.next_whole() {
            // The kernel's header is one without the number of buffers.
            let mut whole = [0; vnet::LENGTH];
            whole[..HEADER].copy_from_slice(header);
            let header = vnet::Header::read_from_bytes(&whole).expect("as long as one");
            // One that finds no room is lost.
            front.send(header, frame)?;
        }
        front.flush()?;
        front.receive(&mut buffer, |header, frame| {
            let whole = [&header.as_bytes()[..HEADER], frame].concat();
            let _ = rustix::net::send(&back, &whole, SendFlags::empty());
        })?;
    }
    Ok(())
}

fn framed(stream: &mut UnixStream, room: &mut [u8]) -> io::Result<usize> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    stream.read_exact(room.get_mut(..length).ok_or(io::ErrorKind::InvalidData)?)?;
    Ok(length)
}

/// Where guests plug in to a network.
#[must_use]
pub fn door(world: &World, network: &str) -> PathBuf {
    world.path("run/ports").join(format!("{network}.stream"))
}
