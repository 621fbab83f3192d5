//! Where programs hang: on tcx by a link that goes with its last descriptor, or before Linux 6.6 on the clsact queueing
//! discipline, whose filters stay. There a stub hangs that calls the program in a map which the kernel empties when the
//! last descriptor of it goes.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcBpfFlags, TcFilterBpfOption, TcHandle, TcMessage, TcOption};

use super::asm::Instruction;
use super::bpf::{self, MapKind};
use super::program;
use crate::netlink::request;

/// Our place among filters, so that the next daemon finds and replaces what is there.
const PRIORITY: u32 = 0x7074;
const HANDLE: u16 = 1;
/// `ETH_P_ALL` in the network's order.
const ANY: u32 = (libc::ETH_P_ALL as u16).to_be() as u32;

/// A program on an interface.
#[derive(Debug)]
pub(super) struct Hook {
    pub(super) interface: u32,
    /// The program acts as long as this or a copy of it is open.
    pub(super) holds: OwnedFd,
    stays: bool,
}

/// Hangs a program on what arrives at an interface. `classic`: not on tcx.
pub(super) fn hang(
    code: &[Instruction],
    name: &CStr,
    interface: u32,
    classic: bool,
) -> Result<Hook, (Step, io::Error)> {
    let program = bpf::program(code, name).map_err(|error| (Step::Load, error))?;
    if !classic {
        match bpf::link(&program, interface) {
            Ok(holds) => return Ok(Hook { interface, holds, stays: false }),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            Err(error) => return Err((Step::Link, error)),
        }
    }
    let holds = bpf::map(MapKind::Programs, 4, 4, 1).map_err(|error| (Step::Load, error))?;
    let stub = bpf::program(&program::stub(&holds), name).map_err(|error| (Step::Load, error))?;
    bpf::put_program(&holds, &program).map_err(|error| (Step::Load, error))?;
    add_clsact(interface).map_err(|error| (Step::Qdisc, error))?;
    add_filter(interface, &stub, name).map_err(|error| (Step::Filter, error))?;
    Ok(Hook { interface, holds, stays: true })
}

/// What was being done when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Map,
    Load,
    Link,
    Qdisc,
    Filter,
}

impl Hook {
    /// Takes it away, unless `next` has taken its place.
    pub(super) fn unhang(self, next: Option<&Self>) {
        if !self.stays || next.is_some_and(|next| next.interface == self.interface && next.stays) {
            return;
        }
        let mut filter = at_ingress(self.interface);
        (filter.header.handle, filter.header.info) = (handle(), PRIORITY << 16 | ANY);
        filter.attributes = vec![TcAttribute::Kind("bpf".into())];
        // The interface may be gone, and the filter with it.
        let _ = request(RouteNetlinkMessage::DelTrafficFilter(filter), NLM_F_ACK);
    }
}

fn handle() -> TcHandle {
    TcHandle { major: 0, minor: HANDLE }
}

fn at_ingress(interface: u32) -> TcMessage {
    let mut message = TcMessage::with_index(interface.cast_signed());
    message.header.parent = TcHandle { minor: TcHandle::MIN_INGRESS, ..TcHandle::CLSACT };
    message
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

fn add_filter(interface: u32, program: &OwnedFd, name: &CStr) -> io::Result<()> {
    let mut message = at_ingress(interface);
    (message.header.handle, message.header.info) = (handle(), PRIORITY << 16 | ANY);
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
