//! eBPF instructions, and an assembler whose jumps go forward to labels.

use std::os::fd::RawFd;

/// As the kernel reads it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instruction {
    code: u8,
    /// Destination in the lower half, source in the upper.
    registers: u8,
    offset: i16,
    value: i32,
}

/// Registers: `R0` is for results, `R1` to `R5` for arguments, `R6` to `R9` outlive calls, `FRAME` is the stack's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Register {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    Frame,
}

/// Octets of a load or store.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(crate) enum Size {
    Four = 0x00,
    Two = 0x08,
    One = 0x10,
}

/// Arithmetic with a constant, on 64 bits.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(crate) enum Operation {
    Add = 0x00,
    And = 0x50,
    ShiftLeft = 0x60,
    ShiftRight = 0x70,
}

/// Comparison with a constant, without signs, of 32 bits.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(crate) enum If {
    Equal = 0x10,
    /// Bits in common.
    Common = 0x40,
    Other = 0x50,
    Below = 0xa0,
    UpTo = 0xb0,
}

/// Functions of the kernel, `<linux/bpf.h>`.
#[derive(Clone, Copy, Debug)]
#[repr(i32)]
pub(crate) enum Helper {
    MapLookup = 1,
    MapUpdate = 2,
    MapDelete = 3,
    StoreBytes = 9,
    MendHeaderSum = 10,
    MendSum = 11,
    TailCall = 12,
    CloneRedirect = 13,
    Redirect = 23,
    LoadBytes = 26,
    ChangeHead = 43,
    RedirectNeighbour = 152,
}

/// A place in the code that is bound once, behind all jumps to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Label(usize);

#[derive(Debug, Default)]
pub(crate) struct Assembler {
    code: Vec<Instruction>,
    labels: Vec<Option<usize>>,
    jumps: Vec<(usize, Label)>,
}

impl Assembler {
    pub(crate) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    pub(crate) fn bind(&mut self, label: Label) {
        if let Some(place) = self.labels.get_mut(label.0) {
            *place = Some(self.code.len());
        }
    }

    pub(crate) fn copy(&mut self, to: Register, from: Register) {
        self.put(0xbf, to, from, 0, 0);
    }

    pub(crate) fn add(&mut self, to: Register, from: Register) {
        self.put(0x0f, to, from, 0, 0);
    }

    pub(crate) fn set(&mut self, to: Register, value: i32) {
        self.put(0xb7, to, Register::R0, 0, value);
    }

    pub(crate) fn compute(&mut self, operation: Operation, register: Register, value: i32) {
        self.put(0x07 | operation as u8, register, Register::R0, 0, value);
    }

    /// To the network's order of octets and back.
    pub(crate) fn swap(&mut self, register: Register, bits: i32) {
        self.put(0xdc, register, Register::R0, 0, bits);
    }

    pub(crate) fn load(&mut self, size: Size, to: Register, base: Register, offset: i16) {
        self.put(0x61 | size as u8, to, base, offset, 0);
    }

    pub(crate) fn store(&mut self, size: Size, base: Register, offset: i16, from: Register) {
        self.put(0x63 | size as u8, base, from, offset, 0);
    }

    pub(crate) fn store_value(&mut self, size: Size, base: Register, offset: i16, value: i32) {
        self.put(0x62 | size as u8, base, Register::R0, offset, value);
    }

    /// The map with this descriptor.
    pub(crate) fn map(&mut self, to: Register, map: RawFd) {
        const PSEUDO_MAP_FD: u8 = 1;
        self.code.push(Instruction {
            code: 0x18,
            registers: to as u8 | PSEUDO_MAP_FD << 4,
            offset: 0,
            value: map,
        });
        self.put(0, Register::R0, Register::R0, 0, 0);
    }

    pub(crate) fn call(&mut self, helper: Helper) {
        self.put(0x85, Register::R0, Register::R0, 0, helper as i32);
    }

    pub(crate) fn exit(&mut self) {
        self.put(0x95, Register::R0, Register::R0, 0, 0);
    }

    pub(crate) fn jump(&mut self, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.put(0x05, Register::R0, Register::R0, 0, 0);
    }

    pub(crate) fn jump_if(&mut self, register: Register, test: If, value: u32, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.put(0x06 | test as u8, register, Register::R0, 0, value.cast_signed());
    }

    /// Compares 32 bits of two registers; only for `Equal` and `Other`.
    pub(crate) fn jump_if_both(&mut self, one: Register, test: If, other: Register, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.put(0x0e | test as u8, one, other, 0, 0);
    }

    /// A pointer may only be compared like this, as a whole and with nothing.
    pub(crate) fn jump_if_null(&mut self, register: Register, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.put(0x15, register, Register::R0, 0, 0);
    }

    fn put(&mut self, code: u8, to: Register, from: Register, offset: i16, value: i32) {
        let registers = to as u8 | (from as u8) << 4;
        self.code.push(Instruction { code, registers, offset, value });
    }

    /// The code with its jumps filled in. A label that was not bound is the end, which the kernel refuses.
    pub(crate) fn finish(mut self) -> Vec<Instruction> {
        let end = self.code.len();
        for (at, label) in self.jumps {
            let target = self.labels.get(label.0).copied().flatten().unwrap_or(end);
            if let Some(jump) = self.code.get_mut(at) {
                jump.offset = i16::try_from(target.saturating_sub(at + 1)).unwrap_or(i16::MAX);
            }
        }
        self.code
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_what_the_kernel_reads() {
        let mut code = Assembler::default();
        let end = code.label();
        code.load(Size::Four, Register::R0, Register::R1, 16);
        code.jump_if(Register::R0, If::Other, 8, end);
        code.map(Register::R1, 7);
        code.store(Size::Two, Register::Frame, -8, Register::R6);
        code.bind(end);
        code.exit();
        let bytes = |i: &Instruction| (i.code, i.registers, i.offset, i.value);
        let code: Vec<_> = code.finish().iter().map(bytes).collect();
        assert_eq!(
            code,
            [
                (0x61, 0x10, 16, 0),
                (0x56, 0x00, 3, 8),
                (0x18, 0x11, 0, 7),
                (0, 0, 0, 0),
                (0x6b, 0x6a, -8, 0),
                (0x95, 0, 0, 0)
            ]
        );
    }
}
