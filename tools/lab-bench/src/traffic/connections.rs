//! TCP connections one after the other: connect, one octet there, one back, closed by the server.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::{ECHO_PORT, Path, Stop, is_set};
use crate::netns::Netns;

/// Connections at the same time.
const PARALLEL: usize = 16;
const EVENTS: usize = 64;
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// Answers connections until it is dropped.
#[derive(Debug)]
pub struct Server {
    // Ends the thread when dropped.
    _stop: Stop,
}

/// A connection being served or used, found by its number.
#[derive(Debug, Default)]
struct Open(Vec<Option<TcpStream>>);

impl Open {
    fn add(&mut self, stream: TcpStream) -> u64 {
        let free = self.0.iter().position(Option::is_none).unwrap_or(self.0.len());
        if free == self.0.len() {
            self.0.push(None);
        }
        if let Some(slot) = self.0.get_mut(free) {
            *slot = Some(stream);
        }
        free as u64
    }

    fn of(&mut self, number: u64) -> Option<&mut TcpStream> {
        self.0.get_mut(usize::try_from(number).ok()?)?.as_mut()
    }

    fn close(&mut self, number: u64) {
        if let Some(slot) = usize::try_from(number).ok().and_then(|index| self.0.get_mut(index)) {
            *slot = None;
        }
    }
}

const LISTENER: u64 = u64::MAX;

impl Server {
    /// # Errors
    /// When the port is taken.
    pub fn start(server: &Netns) -> io::Result<Self> {
        let listener = server.enter(|| {
            let socket = nonblocking()?;
            rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
            rustix::net::bind(&socket, &SocketAddr::from((Ipv4Addr::UNSPECIFIED, ECHO_PORT)))?;
            rustix::net::listen(&socket, 4096)?;
            Ok::<_, io::Error>(TcpListener::from(socket))
        })??;
        let stop = Stop::default();
        let flag = stop.flag();
        server.spawn(move || serve(&listener, || is_set(&flag)))?;
        Ok(Self { _stop: stop })
    }
}

fn nonblocking() -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    Ok(socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?)
}

fn watch(epoll: &OwnedFd, fd: impl AsFd, number: u64, flags: epoll::EventFlags) -> io::Result<()> {
    Ok(epoll::add(epoll, fd, epoll::EventData::new_u64(number), flags)?)
}

fn serve(listener: &TcpListener, ended: impl Fn() -> bool) -> io::Result<()> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    watch(&epoll, listener, LISTENER, epoll::EventFlags::IN)?;
    let (mut open, mut events) = (Open::default(), Vec::with_capacity(EVENTS));
    while !ended() {
        events.clear();
        epoll::wait(&epoll, spare_capacity(&mut events), Some(&PATIENCE))?;
        for event in &events {
            match event.data.u64() {
                LISTENER => accept(listener, &epoll, &mut open)?,
                number => {
                    if let Some(stream) = open.of(number) {
                        let mut octet = [0];
                        // What the client gave up is its own count.
                        let _ = stream.read_exact(&mut octet).and_then(|()| stream.write_all(&octet));
                    }
                    open.close(number);
                }
            }
        }
    }
    Ok(())
}

fn accept(listener: &TcpListener, epoll: &OwnedFd, open: &mut Open) -> io::Result<()> {
    while let Ok((stream, _)) = listener.accept() {
        stream.set_nonblocking(true)?;
        let number = open.add(stream);
        if let Some(stream) = open.of(number) {
            watch(epoll, &*stream, number, epoll::EventFlags::IN)?;
        }
    }
    Ok(())
}

/// Connections a second that were served, and how many failed.
///
/// # Errors
/// The sockets'.
pub fn measure(path: &Path<'_>, time: Duration) -> io::Result<(f64, u64)> {
    let to = path.to(ECHO_PORT);
    path.client.enter(move || Client::run(to, time))?
}

struct Client {
    epoll: OwnedFd,
    open: Open,
    live: usize,
    done: u64,
    failed: u64,
}

impl Client {
    fn run(to: SocketAddr, time: Duration) -> io::Result<(f64, u64)> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut client = Self { epoll, open: Open::default(), live: 0, done: 0, failed: 0 };
        let (begin, mut events) = (Instant::now(), Vec::with_capacity(EVENTS));
        while begin.elapsed() < time && !crate::sys::interrupted() {
            while client.live < PARALLEL && client.connect(to)? {}
            events.clear();
            epoll::wait(&client.epoll, spare_capacity(&mut events), Some(&PATIENCE))?;
            for event in &events {
                client.handle(event.data.u64(), event.flags)?;
            }
        }
        Ok((client.done as f64 / begin.elapsed().as_secs_f64(), client.failed))
    }

    /// False when no more can be opened now.
    fn connect(&mut self, to: SocketAddr) -> io::Result<bool> {
        let socket = nonblocking()?;
        match rustix::net::connect(&socket, &to) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(_) => {
                self.failed += 1;
                return Ok(false);
            }
        }
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        let number = self.open.add(stream);
        if let Some(stream) = self.open.of(number) {
            watch(&self.epoll, &*stream, number, epoll::EventFlags::OUT)?;
        }
        self.live += 1;
        Ok(true)
    }

    fn handle(&mut self, number: u64, flags: epoll::EventFlags) -> io::Result<()> {
        let Some(stream) = self.open.of(number) else { return Ok(()) };
        if flags.contains(epoll::EventFlags::OUT) {
            if stream.write(b"x").is_ok() {
                let data = epoll::EventData::new_u64(number);
                epoll::modify(&self.epoll, &*stream, data, epoll::EventFlags::IN)?;
                return Ok(());
            }
            self.failed += 1;
        } else {
            let mut octet = [0];
            match stream.read(&mut octet) {
                // The answer; the end comes next.
                Ok(1) => return Ok(()),
                Ok(_) => self.done += 1,
                Err(_) => self.failed += 1,
            }
        }
        self.open.close(number);
        self.live -= 1;
        Ok(())
    }
}
