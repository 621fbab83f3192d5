//! The DNS codec, a forwarder and the connections of a TCP server.
//!
//! Input: a sequence of kind, port, time and message or frame (length first).

use std::net::{Ipv4Addr, Ipv6Addr};

use pontoon_engine::dns::tcp::TcpServer;
use pontoon_engine::dns::{Client, Config, Event, Forwarder, Names, Srv, Transport, Upstream, Verdict, Zone};
use pontoon_wire::dns::{Header, NAME_MAX, Question, Record, edns};

use crate::input::Input;

const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 100, 1);
const GUEST: Ipv4Addr = Ipv4Addr::new(192, 168, 100, 10);
const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 1, 1];
const RESOLVERS: u16 = 3;
const SOCKETS: u16 = 2;

struct OneLease;

impl Names for OneLease {
    fn by_name(&self, name: &str) -> Option<Ipv4Addr> {
        (name == "guest").then_some(GUEST)
    }

    fn by_ip(&self, ip: Ipv4Addr) -> Option<&str> {
        (ip == GUEST).then_some("guest")
    }
}

struct State {
    zone: Zone,
    forwarder: Forwarder,
    tcp: TcpServer,
    now: u64,
    /// The last query that left, to be answered.
    asked: Option<(u16, Vec<u8>)>,
    reply: Vec<u8>,
}

fn config() -> Config {
    Config {
        enabled: true,
        domain: Some("example.test".into()),
        gateway: GATEWAY,
        prefix: 24,
        hosts: vec![
            (Ipv4Addr::new(192, 168, 100, 2).into(), vec!["fixed".into()]),
            (Ipv6Addr::LOCALHOST.into(), vec!["fixed".into(), "six".into()]),
        ],
        txt: vec![("text".into(), "x".repeat(300))],
        srv: vec![Srv {
            name: "_s._tcp".into(),
            target: Some("fixed.example.test".into()),
            port: 1,
            priority: 2,
            weight: 3,
        }],
        cnames: vec![("alias".into(), "fixed".into()), ("*.star".into(), "alias".into())],
        domains: vec![("all.test".into(), Some(GUEST.into())), ("none.test".into(), None)],
        upstreams: vec![
            Upstream { domain: None, resolvers: vec![0, 1] },
            Upstream { domain: Some("corp".into()), resolvers: vec![2] },
        ],
        cache_size: 8,
        mtu: 600,
        ..Config::default()
    }
}

pub fn run(data: &[u8]) {
    let zone = Zone::new(config());
    let mut forwarder = Forwarder::new(1);
    forwarder.set_sockets(SOCKETS, &[0; RESOLVERS as usize], &|_, _, _| Vec::new());
    forwarder.set_cache(0, zone.config().cache_size);
    let tcp = TcpServer::new(MAC, GATEWAY, 24, 600, 1);
    let mut state = State { zone, forwarder, tcp, now: 1 << 40, asked: None, reply: vec![0; 65_535] };
    let mut input = Input(data);
    while !input.is_empty() {
        let (kind, port, time) = (input.byte(), input.byte(), input.byte());
        state.now += 1 << (time % 36);
        let bytes = input.block();
        codec(bytes);
        state.step(kind, port, bytes);
        state.expire();
    }
}

fn codec(message: &[u8]) {
    let Some(header) = Header::parse(message) else { return };
    let Ok(question) = Question::parse(message) else { return };
    assert!(question.end() <= message.len());
    let _ = question.name.text(&mut [0; NAME_MAX]);
    let _ = edns(message, &header, question.end());
    let mut at = question.end();
    while let Ok(record) = Record::parse(message, at) {
        assert!(record.end > at && record.end <= message.len());
        at = record.end;
    }
}

impl State {
    fn step(&mut self, kind: u8, port: u8, bytes: &[u8]) {
        match kind % 6 {
            0 => self.query(port, Transport::Udp, bytes),
            1 => self.respond(u16::from(port), bytes),
            2 => self.answer(bytes),
            3 => self.forwarder.upstream_failed(self.now, u16::from(port >> 1), port & 1 == 1, &mut |_| {}),
            4 => self.move_sockets(port),
            _ => self.frame(bytes),
        }
    }

    fn move_sockets(&mut self, epoch: u8) {
        let epochs: Vec<u32> = (0..RESOLVERS).map(|place| u32::from(epoch >> place & 1)).collect();
        let zone = &self.zone;
        self.forwarder.set_sockets(SOCKETS, &epochs, &|_, name, asked| zone.route(name, asked).to_vec());
    }

    fn query(&mut self, port: u8, transport: Transport, bytes: &[u8]) {
        let port = u16::from(port);
        let client = Client { network: 0, mac: MAC, ip: GUEST, port, server: GATEWAY, transport };
        match self.forwarder.query(self.now, &self.zone, &OneLease, client, bytes, &mut self.reply) {
            Verdict::Answer(length) => {
                inspect(&self.reply[..length], Header::parse(bytes).map(|header| header.id));
                if let Transport::Tcp(connection) = transport {
                    self.tcp.answer(connection, &self.reply[..length]);
                }
            }
            Verdict::Forward { socket, len, .. } => {
                assert!(socket < RESOLVERS * SOCKETS, "socket {socket} does not exist");
                self.asked = Some((socket, self.reply[..len].to_vec()));
            }
            Verdict::Waiting | Verdict::Drop(_) => {}
        }
    }

    fn respond(&mut self, socket: u16, bytes: &[u8]) {
        self.forwarder.response(self.now, socket, bytes, &mut self.reply, &mut |event| match event {
            Event::Answer { bytes, .. } => inspect(bytes, None),
            Event::Ask { socket, .. } => assert!(socket < RESOLVERS * SOCKETS),
        });
    }

    /// Answers the last query: its header, made a response, and its question, followed by `tail`.
    fn answer(&mut self, tail: &[u8]) {
        let Some((socket, mut message)) = self.asked.take() else { return };
        message[2] |= 0x80;
        message[7] = tail.first().copied().unwrap_or_default() & 3;
        message.extend_from_slice(tail.get(1..).unwrap_or_default());
        codec(&message);
        self.respond(socket, &message);
    }

    fn frame(&mut self, bytes: &[u8]) {
        self.tcp.receive(self.now, bytes, &mut |sent| assert!(sent.len() >= 14));
        let query = self.tcp.next_query().map(|query| (query.conn, query.payload.to_vec()));
        if let Some((connection, payload)) = query {
            self.query(1, Transport::Tcp(connection), &payload);
        }
    }

    fn expire(&mut self) {
        let now = self.now;
        self.forwarder.expire(now, &mut |_| {});
        assert!(self.forwarder.next_timeout().is_none_or(|due| due > now), "what is due is done");
        self.tcp.poll(now, &mut |_| {});
    }
}

fn inspect(reply: &[u8], id: Option<u16>) {
    let header = Header::parse(reply);
    assert!(header.is_some_and(|header| header.is_response() && id.is_none_or(|id| id == header.id)));
}
