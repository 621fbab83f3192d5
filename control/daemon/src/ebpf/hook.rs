//! Where programs hang: on tcx by a link that goes with its last descriptor, or before Linux 6.6 on the clsact queueing
//! discipline, whose filters stay. There a stub hangs that calls the program in a map which the kernel empties when the
//! last descriptor of it goes.

use std::ffi::CStr;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcBpfFlags, TcFilterBpfOption, TcHandle, TcMessage, TcOption};

use super::PASS;
use super::asm::{Assembler, Helper, Instruction, Register};
use super::bpf::{self, MapKind, Way};
use crate::netlink::request;

/// Our place among filters, so that the next daemon finds and replaces what is there.
const PRIORITY: u32 = 0x7074;
/// `ETH_P_ALL` in the network's order.
const ANY: u32 = (libc::ETH_P_ALL as u16).to_be() as u32;

/// Where a program hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) interface: u32,
    pub(crate) way: Way,
    /// Tells programs of different purposes apart.
    pub(crate) handle: u16,
}

/// A program on an interface.
#[derive(Debug)]
pub(crate) struct Hook {
    place: Place,
    /// The program acts as long as this or a copy of it is open.
    pub(crate) holds: OwnedFd,
    stays: bool,
}

/// Hangs a program. `classic`: not on tcx.
pub(crate) fn hang(
    code: &[Instruction],
    name: &CStr,
    place: Place,
    classic: bool,
) -> Result<Hook, (Step, io::Error)> {
    let program = bpf::program(code, name).map_err(|error| (Step::Load, error))?;
    if !classic {
        match bpf::link(&program, place.interface, place.way) {
            Ok(holds) => return Ok(Hook { place, holds, stays: false }),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            Err(error) => return Err((Step::Link, error)),
        }
    }
    let holds = bpf::map(MapKind::Programs, 4, 4, 1).map_err(|error| (Step::Load, error))?;
    let stub = bpf::program(&stub(&holds), name).map_err(|error| (Step::Load, error))?;
    bpf::put_program(&holds, &program).map_err(|error| (Step::Load, error))?;
    add_clsact(place.interface).map_err(|error| (Step::Qdisc, error))?;
    add_filter(place, &stub, name).map_err(|error| (Step::Filter, error))?;
    Ok(Hook { place, holds, stays: true })
}

/// What was being done when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Map,
    Load,
    Link,
    Qdisc,
    Filter,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Map => "creating an eBPF map",
            Self::Load => "loading an eBPF program",
            Self::Link => "attaching an eBPF program",
            Self::Qdisc => "adding the clsact queueing discipline",
            Self::Filter => "adding an eBPF filter",
        })
    }
}

impl Step {
    /// What the kernel lacks, or the daemon.
    pub(crate) fn advice(self, error: &io::Error) -> &'static str {
        match (self, error.raw_os_error()) {
            (_, Some(libc::EPERM | libc::EACCES)) => {
                "the daemon needs CAP_BPF and CAP_NET_ADMIN outside of any user namespace: run it as root, or in a \
                 container with --cap-add BPF --cap-add NET_ADMIN; a kernel that is locked down allows no programs"
            }
            (_, Some(libc::ENOSYS)) => "this kernel is built without CONFIG_BPF_SYSCALL",
            (Self::Qdisc, _) => {
                "this kernel is older than 6.6 and has no CONFIG_NET_SCH_INGRESS (module sch_ingress)"
            }
            (Self::Filter, _) => {
                "this kernel is older than 6.6 and has no CONFIG_NET_CLS_BPF or CONFIG_NET_CLS_ACT (module cls_bpf)"
            }
            _ => "this needs Linux 5.10 with CONFIG_BPF_SYSCALL and CONFIG_NET_CLS_ACT",
        }
    }
}

impl Hook {
    /// Both hang at one place.
    pub(crate) fn is_where(&self, other: &Self) -> bool {
        self.place == other.place
    }

    /// Takes it away, unless `next` has taken its place.
    pub(crate) fn unhang(self, next: Option<&Self>) {
        if !self.stays || next.is_some_and(|next| next.place == self.place && next.stays) {
            return;
        }
        let mut filter = at(self.place);
        filter.attributes = vec![TcAttribute::Kind("bpf".into())];
        // The interface may be gone, and the filter with it.
        let _ = request(RouteNetlinkMessage::DelTrafficFilter(filter), NLM_F_ACK);
    }
}

fn at(place: Place) -> TcMessage {
    let mut message = TcMessage::with_index(place.interface.cast_signed());
    let minor = match place.way {
        Way::Arriving => TcHandle::MIN_INGRESS,
        Way::Leaving => TcHandle::MIN_EGRESS,
    };
    message.header.parent = TcHandle { minor, ..TcHandle::CLSACT };
    message.header.handle = TcHandle { major: 0, minor: place.handle };
    message.header.info = PRIORITY << 16 | ANY;
    message
}

/// Goes on with the program in a map that empties when nobody holds it any more.
fn stub(programs: &OwnedFd) -> Vec<Instruction> {
    let mut code = Assembler::default();
    code.map(Register::R2, programs.as_raw_fd());
    code.set(Register::R3, 0);
    code.call(Helper::TailCall);
    code.set(Register::R0, PASS);
    code.exit();
    code.finish()
}

/// One that is there already is well; it is left behind, because others may use it.
fn add_clsact(interface: u32) -> io::Result<()> {
    let mut message = TcMessage::with_index(interface.cast_signed());
    message.header.parent = TcHandle::CLSACT;
    message.header.handle = TcHandle { major: TcHandle::CLSACT.major, minor: 0 };
    message.attributes = vec![TcAttribute::Kind("clsact".into())];
    match request(RouteNetlinkMessage::NewQueueDiscipline(message), NLM_F_ACK | NLM_F_CREATE) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        other => other.map(drop),
    }
}

fn add_filter(place: Place, program: &OwnedFd, name: &CStr) -> io::Result<()> {
    let mut message = at(place);
    let options = [
        TcFilterBpfOption::ProgFd(program.as_raw_fd().cast_unsigned()),
        TcFilterBpfOption::ProgName(name.to_string_lossy().into_owned()),
        TcFilterBpfOption::Flags(TcBpfFlags::DirectAction),
    ];
    message.attributes =
        vec![TcAttribute::Kind("bpf".into()), TcAttribute::Options(options.map(TcOption::Bpf).into())];
    let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    request(RouteNetlinkMessage::NewTrafficFilter(message), flags).map(drop)
}
