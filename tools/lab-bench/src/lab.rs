//! Three namespaces, a target between them, and what it takes to measure the way through it.
//!
//! ```text
//!  client: lan0 -- target in the router namespace -- lan0: server
//! ```

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path as FilePath, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::netns::Netns;
use crate::process::{Proc, Usage};
use crate::traffic::requests::{self, Echo};
use crate::traffic::{Path, connections};

pub const DEVICE: &str = "lan0";
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
pub const SWITCHED: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 3);
/// A second client, where a target has room for one.
pub const OTHER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 4);
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
pub const INTERNET: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

/// What the target does with frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Switches between two ports.
    L2,
    /// Translates from inside to outside.
    Nat,
}

impl Mode {
    pub const ALL: [Self; 2] = [Self::L2, Self::Nat];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::L2 => "l2",
            Self::Nat => "nat",
        }
    }

    /// The server's address.
    #[must_use]
    pub fn server(self) -> Ipv4Addr {
        match self {
            Self::L2 => SWITCHED,
            Self::Nat => INTERNET,
        }
    }
}

/// All of one measurement; everything is gone after the drop.
#[derive(Debug)]
pub struct Lab {
    pub mode: Mode,
    // The switch before the namespaces it has devices in.
    procs: Vec<Proc>,
    echo: Option<Echo>,
    server_of_connections: Option<connections::Server>,
    pub client: Netns,
    pub router: Netns,
    pub server: Netns,
    /// A second client, where the target connected it.
    pub other: Option<Netns>,
    /// The client's address and gateway.
    pub inside: (Ipv4Addr, Ipv4Addr),
    /// Namespace, address and MAC address of neighbours who answer no ARP.
    pub neighbours: Vec<(Side, Ipv4Addr, String)>,
    dir: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

impl Lab {
    /// # Errors
    /// Without the privilege to make namespaces.
    pub fn new(mode: Mode) -> anyhow::Result<Self> {
        let dir = std::env::temp_dir().join(format!("lab-bench.{}", std::process::id()));
        std::fs::create_dir_all(&dir).context("directory of the run")?;
        Ok(Self {
            mode,
            procs: Vec::new(),
            echo: None,
            server_of_connections: None,
            client: Netns::make("a")?,
            router: Netns::make("r")?,
            server: Netns::make("b")?,
            other: None,
            inside: (CLIENT, GATEWAY),
            neighbours: Vec::new(),
            dir,
        })
    }

    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    #[must_use]
    pub fn dir(&self) -> &FilePath {
        &self.dir
    }

    #[must_use]
    pub fn netns(&self, side: Side) -> &Netns {
        match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        }
    }

    /// Starts a part of the target in the router's namespace; its processor time is the switch's.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&mut self, program: &str, prepare: impl FnOnce(&mut Command)) -> anyhow::Result<()> {
        let command = self.router.command(program);
        self.start_command(command, prepare)
    }

    /// The same in the namespace of a side.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_at(
        &mut self,
        side: Side,
        program: &str,
        prepare: impl FnOnce(&mut Command),
    ) -> anyhow::Result<()> {
        let command = self.netns(side).command(program);
        self.start_command(command, prepare)
    }

    fn start_command(
        &mut self,
        mut command: Command,
        prepare: impl FnOnce(&mut Command),
    ) -> anyhow::Result<()> {
        prepare(&mut command);
        let log = rustix::fs::memfd_create("log", rustix::fs::MemfdFlags::CLOEXEC)?;
        self.procs.push(Proc::start(command, File::from(log))?);
        Ok(())
    }

    /// Polls until `done`, while the target runs.
    ///
    /// # Errors
    /// When the target ends, or after ten seconds.
    pub fn wait(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !done(self) {
            self.procs.iter_mut().try_for_each(Proc::check)?;
            if Instant::now() >= deadline {
                bail!("not within ten seconds: {what}{}", self.said());
            }
            if crate::sys::interrupted() {
                bail!("interrupted");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn said(&mut self) -> String {
        let said = self.procs.iter_mut().map(Proc::said).filter(|said| !said.trim().is_empty());
        said.map(|said| format!("\n{}", said.trim())).collect()
    }

    /// A veth pair from a side's [`DEVICE`] to the router, where its end is `end`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn veth(&self, from: &Netns, end: &str) -> anyhow::Result<()> {
        from.ip(&format!("link add {DEVICE} type veth peer name {end} netns {}", self.router.name()))?;
        self.router.ip(&format!("link set {end} up"))?;
        Ok(())
    }

    /// MAC address of a side's device.
    ///
    /// # Errors
    /// When it is not there.
    pub fn mac(&self, side: Side) -> anyhow::Result<String> {
        let text = self.netns(side).ip(&format!("-o link show {DEVICE}"))?;
        let mac = text.split_whitespace().skip_while(|word| *word != "link/ether").nth(1);
        mac.map(str::to_owned).context("a device without a MAC address")
    }

    /// Gives the sides their addresses once the target has made their devices, and waits for the first answer.
    ///
    /// # Errors
    /// When there is no way through.
    pub fn connect(&mut self) -> anyhow::Result<()> {
        let mut ends = vec![(Side::Client, self.inside.0), (Side::Server, self.mode.server())];
        for (side, address) in ends.drain(..) {
            self.wait("the devices appear", |lab| {
                lab.netns(side).ip(&format!("link show {DEVICE}")).is_ok()
            })?;
            configure(self.netns(side), address)?;
        }
        if let Some(other) = &self.other {
            configure(other, OTHER)?;
        }
        if self.mode == Mode::Nat {
            let gateway = self.inside.1;
            for inside in [Some(&self.client), self.other.as_ref()].into_iter().flatten() {
                inside.ip(&format!("route replace default via {gateway}"))?;
            }
        }
        for (side, address, mac) in &self.neighbours {
            let words = format!("neigh replace {address} lladdr {mac} dev {DEVICE} nud permanent");
            self.netns(*side).ip(&words)?;
        }
        self.echo = Some(Echo::start(&self.server)?);
        self.server_of_connections = Some(connections::Server::start(&self.server)?);
        self.wait("the first answer", |lab| {
            let way = |path: &Path<'_>| {
                requests::measure(path, Duration::from_millis(30)).is_ok_and(|latency| latency.rate > 0.0)
            };
            way(&lab.path()) && lab.other_path().is_none_or(|path| way(&path))
        })
    }

    #[must_use]
    pub fn path(&self) -> Path<'_> {
        Path { client: &self.client, server: &self.server, address: self.mode.server() }
    }

    #[must_use]
    pub fn other_path(&self) -> Option<Path<'_>> {
        let other = self.other.as_ref()?;
        Some(Path { client: other, server: &self.server, address: self.mode.server() })
    }

    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage::now(&self.procs.iter().map(Proc::session).collect::<Vec<_>>())
    }

    /// Waits until nothing but the target uses the processors, but not for ever.
    pub fn wait_quiet(&self, longest: Duration) {
        let end = Instant::now() + longest;
        while Instant::now() < end && !crate::sys::interrupted() {
            let before = self.usage();
            std::thread::sleep(Duration::from_millis(150));
            let cores = self.usage().since(&before);
            if cores.machine - cores.switch < 0.25 {
                return;
            }
        }
    }
}

fn configure(netns: &Netns, address: Ipv4Addr) -> anyhow::Result<()> {
    netns.ip(&format!("addr replace {address}/24 dev {DEVICE}"))?;
    netns.ip(&format!("link set {DEVICE} mtu 1500 up"))?;
    Ok(())
}

impl Drop for Lab {
    fn drop(&mut self) {
        // The last started first.
        while self.procs.pop().is_some() {}
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
