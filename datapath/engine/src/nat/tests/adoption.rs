use super::*;

/// Sessions after a crash: the same memory content, another process.
fn filled() -> (Vec<Slot>, Time) {
    let now = Time::from_secs(1000);
    let memory: &'static mut [Slot] = slots(32);
    // The test reads what a crash would leave behind through a copy taken from the table.
    let mut nat = Nat::new(0, 1, 42, memory, now);
    for n in 0..20 {
        let mut frame = udp((GUEST, 500 + n), (SERVER, 53), b"x");
        let packet = Packet::parse(&frame).unwrap();
        nat.outbound(now, &OUTSIDE, &INSIDE, &vnet::Header::default(), &mut frame, &packet).unwrap();
    }
    let copy = (0..32).map(|number| nat.table.slot(number)).collect();
    (copy, now)
}

fn adopt(memory: Vec<Slot>, now: Time) -> Nat {
    Nat::new(0, 1, 99, memory.leak(), now)
}

#[test]
fn sessions_survive_the_process() {
    let (memory, now) = filled();
    let slot = memory.iter().find(|slot| slot.is_used()).copied().unwrap();
    let mut nat = adopt(memory.clone(), now);
    assert_eq!(nat.len(), 20);
    let mut frame = udp((SERVER, 53), (EXTERNAL, slot.external_port.get()), b"x");
    let packet = Packet::parse(&frame).unwrap();
    let vnet = vnet::Header::default();
    assert_eq!(nat.inbound(now, 3, false, &vnet, &mut frame, &packet), Ok(INSIDE));
    assert_eq!(adopt(memory, now.after_secs(301)).len(), 0);
}

#[test]
fn damaged_slots_are_left_behind() {
    use zerocopy::IntoBytes;
    let (mut memory, now) = filled();
    memory[0].external_port = (memory[0].external_port.get() ^ 1).into();
    memory[1].as_mut_bytes().fill(0xff);
    memory[2].state = 77;
    memory[20] = memory[3];
    let mut clash = memory[4];
    clash.inside_port = (clash.inside_port.get() ^ 0x4000).into();
    clash.remote_port = (clash.remote_port.get() ^ 1).into();
    clash.seal();
    memory[21] = clash;
    memory[5].renew = u64::MAX;
    let mut nat = adopt(memory, now);
    assert_eq!(nat.len(), 17);
    nat.expire(now.after_secs(301));
    assert_eq!(nat.len(), 0);
}

proptest::proptest! {
    #[test]
    fn random_memory(bytes in proptest::collection::vec(proptest::num::u8::ANY, 64 * 32), at in 0_usize..20, bit in 0_usize..512) {
        use zerocopy::{FromBytes, IntoBytes};
        let memory: Vec<Slot> = bytes.chunks(64).map(|chunk| Slot::read_from_bytes(chunk).unwrap()).collect();
        let (mut damaged, now) = filled();
        damaged[at].as_mut_bytes()[bit / 8] ^= 1 << (bit % 8);
        for memory in [memory, damaged] {
            let mut nat = adopt(memory, now);
            nat.expire(now.after_secs(8000));
            proptest::prop_assert_eq!(nat.len(), 0);
        }
    }
}
