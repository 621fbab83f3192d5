//! `pontoon bridge-helper`: does for QEMU what qemu-bridge-helper does, with the daemon making the tap. So it needs no
//! privilege but the right to speak to the daemon.

use std::io::{self, IoSlice, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use pontoon_proto::api::{Attach, Cable, Reply, Request, Response};
use pontoon_proto::codec;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};

use crate::doors::guest_name;
use crate::sys;

/// Where QEMU's own helper looks.
const ACL: &str = "/etc/qemu/bridge.conf";
/// Files that include each other.
const DEPTH: usize = 8;
/// Largest answer of the daemon.
const MOST: u64 = 1 << 20;

/// What QEMU says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeHelperArgs {
    pub bridge: String,
    /// A unix socket the descriptor goes to.
    pub fd: RawFd,
    pub vnet_header: bool,
    /// The daemon's API socket.
    pub socket: PathBuf,
    /// Another list of who may use which bridge. Not where the helper has more rights than who calls it.
    pub acl: Option<PathBuf>,
}

/// Gets a tap that is plugged into the bridge and hands it to QEMU.
///
/// # Errors
/// What keeps it from doing so, in words for the user.
pub fn bridge_helper(args: &BridgeHelperArgs) -> anyhow::Result<()> {
    let target = sys::take_inherited(args.fd).with_context(|| format!("--fd={}", args.fd))?;
    ensure!(
        args.acl.is_none() || rustix::process::getuid() == rustix::process::geteuid(),
        "--acl is not for a helper with more rights than its caller"
    );
    check_acl(args.acl.as_deref().unwrap_or(Path::new(ACL)), &args.bridge)?;
    let tap = ask(args)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    let fds = [tap.as_fd()];
    ensure!(rights.push(SendAncillaryMessage::ScmRights(&fds)), "no room for the descriptor");
    rustix::net::sendmsg(&target, &[IoSlice::new(&[0])], &mut rights, SendFlags::empty())
        .context("failed to write fd to unix socket")?;
    Ok(())
}

fn check_acl(path: &Path, bridge: &str) -> anyhow::Result<()> {
    let mut rules = Rules::default();
    rules.read(path, bridge, DEPTH).with_context(|| {
        format!("failed to parse default acl file `{}'\nmake it, with a line: allow {bridge}", path.display())
    })?;
    ensure!(
        rules.allowed && !rules.denied,
        "access denied by acl file\nthis line in {} allows it: allow {bridge}",
        path.display()
    );
    Ok(())
}

/// What a list says of one bridge: it has to be allowed and not denied, in whatever order.
#[derive(Debug, Default)]
struct Rules {
    allowed: bool,
    denied: bool,
}

impl Rules {
    fn read(&mut self, path: &Path, bridge: &str, depth: usize) -> anyhow::Result<()> {
        let text = std::fs::read_to_string(path)?;
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (command, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            let value = rest.trim();
            ensure!(!value.is_empty(), "Invalid config line: {line}");
            let applies = value == bridge || value == "all";
            match command {
                "allow" => self.allowed |= applies,
                "deny" => self.denied |= applies,
                // One that cannot be read is passed over, as QEMU does it.
                "include" if depth > 0 => drop(self.read(Path::new(value), bridge, depth - 1)),
                "include" => {}
                _ => bail!("Unknown command `{command}'"),
            }
        }
        Ok(())
    }
}

/// Has the daemon make a tap; its descriptor rides on the answer.
fn ask(args: &BridgeHelperArgs) -> anyhow::Result<OwnedFd> {
    let socket = args.socket.display();
    let stream = UnixStream::connect(&args.socket)
        .with_context(|| format!("Failed to connect socket to '{socket}'\nstart it with: pontoon daemon"))?;
    let kind = if args.vnet_header { "handed-vnet" } else { "handed" };
    let request = Request::AttachInterface(Box::new(Attach {
        domain: caller(),
        kind: "bridge".to_owned(),
        source: args.bridge.clone(),
        cable: Some(Cable { kind: kind.to_owned(), ..Cable::default() }),
        ..Attach::default()
    }));
    codec::write_api(&stream, &request)?;
    let (response, fd) = answer(&stream).context("lost the connection to the daemon")?;
    match response {
        Response::Parameters(Reply::Attached { .. }) => fd.context("the daemon sent no descriptor"),
        Response::Parameters(other) => bail!("unexpected answer of the daemon: {other:?}"),
        Response::Error(failure) => bail!("{}", failure.message),
    }
}

fn answer(mut stream: &UnixStream) -> anyhow::Result<(Response, Option<OwnedFd>)> {
    let mut bytes = vec![0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let got = rustix::net::recvmsg(stream, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    bytes.truncate(got);
    while bytes.last() != Some(&0) {
        let before = bytes.len();
        let mut more = [0; 4096];
        let count = stream.read(&mut more)?;
        bytes.extend_from_slice(more.get(..count).unwrap_or_default());
        if bytes.len() == before || bytes.len() as u64 > MOST {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
    bytes.pop();
    Ok((serde_json::from_slice(&bytes)?, fds.into_iter().next()))
}

/// The guest's name, if who called is its QEMU, or a shell of its QEMU.
fn caller() -> String {
    let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    let of = |pid: i32| guest_name(&std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default());
    of(parent).or_else(|| of(parent_of(parent)?)).unwrap_or_else(|| format!("pid-{parent}"))
}

fn parent_of(pid: i32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bridges_are_allowed_by_the_list_alone() {
        let dir = crate::testing::scratch("acl");
        std::fs::create_dir_all(&dir).expect("directory");
        let (main, more) = (dir.join("bridge.conf"), dir.join("more.conf"));
        let check = |text: &str| {
            std::fs::write(&main, text).expect("write");
            check_acl(&main, "virbr1").map_err(|error| format!("{error:#}"))
        };
        std::fs::write(&more, "allow virbr1\n").expect("write");
        let include = format!("include {}", more.display());
        for text in ["allow virbr1", "  # a word\n\n allow\tvirbr1  ", "allow all", include.as_str()] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        for text in ["", "allow virbr2", "allow all\ndeny virbr1", "deny all\nallow virbr1", "include /none"]
        {
            assert!(check(text).expect_err(text).starts_with("access denied by acl file"), "{text}");
        }
        assert!(check("allow").expect_err("no name").contains("Invalid config line: allow"));
        assert!(check("permit virbr1").expect_err("word").contains("Unknown command `permit'"));
        let round = format!("allow virbr1\ninclude {}", main.display());
        assert_eq!(check(&round), Ok(()), "a file that includes itself");
        std::fs::remove_file(&main).expect("remove");
        let gone = check_acl(&main, "virbr1").expect_err("none");
        assert!(format!("{gone}").contains("allow virbr1"), "{gone}");
        std::fs::remove_dir_all(&dir).expect("clean");
    }
}
