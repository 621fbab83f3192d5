//! Bridge protocol data units, and a bridge that hears them.
//!
//! Input: a sequence of port, time and frame (length first).

use pontoon_engine::stp::{Bridge, Config, Effects, Gate, PortConfig};
use pontoon_engine::{PortId, Time};
use pontoon_wire::bpdu::{Bpdu, FRAME};

use crate::input::Input;

const PORTS: PortId = 4;
const SOURCE: [u8; 6] = [2, 0, 0, 0, 0, 1];

struct Watch;

impl Effects for Watch {
    fn send(&mut self, port: PortId, number: u16, bpdu: &Bpdu) {
        assert!(port < PORTS && number == port + 1);
        let mut frame = [0; FRAME];
        assert_eq!(bpdu.emit(&mut frame, SOURCE), Some(FRAME));
        // What has grown too old on the way is sent on, and nobody listens (17.21.23, 9.3.4).
        let old = matches!(bpdu, Bpdu::Config(body) if body.message_age >= body.max_age);
        assert_eq!(Bpdu::parse(&frame), (!old).then_some(*bpdu), "what is sent is understood");
    }

    fn gate(&mut self, port: PortId, _gate: Gate) {
        assert!(port < PORTS);
    }

    fn flush(&mut self, ports: &[PortId]) {
        assert!(ports.iter().all(|port| *port < PORTS));
    }
}

pub fn run(data: &[u8]) {
    let mut now = Time::from_secs(1000);
    let config = Config { id: 0x8000_0200_0000_0001, max_age: 2000, hello: 200, forward_delay: 1500 };
    let mut bridge = Bridge::new(config, now);
    let ports: Vec<PortConfig> =
        (0..PORTS).map(|port| PortConfig { port, number: port + 1, priority: 32, cost: 100 }).collect();
    bridge.configure(now, config, &ports);
    let mut input = Input(data);
    while !input.is_empty() {
        let (port, time) = (input.byte(), input.byte());
        let until = Time(now.0 + (1 << (time % 38)));
        pass(&mut bridge, &mut now, until);
        let frame = input.block();
        if let Some(bpdu) = Bpdu::parse(frame) {
            round_trip(&bpdu);
            bridge.receive(now, PortId::from(port % 8), &bpdu, &mut Watch);
        }
        let _ = bridge.report(now);
    }
}

/// Lets the bridge do what is due; what it does makes the next due later.
fn pass(bridge: &mut Bridge, now: &mut Time, until: Time) {
    for _ in 0..1000 {
        let Some(due) = bridge.next_timeout().filter(|due| *due <= until) else { break };
        *now = due.max(*now);
        bridge.run(*now, &mut Watch);
    }
    assert!(bridge.next_timeout().is_none_or(|due| due > *now), "what is due is done");
    *now = until;
}

fn round_trip(bpdu: &Bpdu) {
    let mut frame = [0; FRAME];
    assert_eq!(bpdu.emit(&mut frame, SOURCE), Some(FRAME));
    assert_eq!(Bpdu::parse(&frame), Some(*bpdu));
}
