//! The namespaces, the daemon and the guests of one test.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::Signal;

use crate::api::Api;
use crate::judge::{Judge, read_capture};
use crate::net::{in_netns, serve_tcp};
use crate::process::{self, Output, Proc, run};
use crate::until;

/// Tools every world needs.
const TOOLS: &[&str] = &["ip", "timeout", "dnsmasq", "busybox"];

/// What a test asks of its world.
#[derive(Clone, Debug)]
pub struct Setup {
    pub workers: u16,
    /// Of both ends of the uplink.
    pub mtu: u16,
    /// Checksums are completed and segments cut before they are sent, so that captures can be judged.
    pub no_offload: bool,
    /// Shell commands in a mount namespace that only the daemon has, before it starts; `$STATE` is its directory.
    pub prepare: &'static str,
    /// tshark does not look at what arrives on the uplink, at guests and at the host: bulk transfers whose speed counts.
    pub unjudged: bool,
    /// Tools this test needs besides.
    pub tools: &'static [&'static str],
    /// Options of the daemon besides.
    pub daemon_options: &'static [&'static str],
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            workers: 1,
            mtu: 1500,
            no_offload: false,
            prepare: "",
            unjudged: false,
            tools: &[],
            daemon_options: &[],
        }
    }
}

/// One test's namespaces and processes; all of it is gone after the drop.
#[derive(Debug)]
pub struct World {
    prefix: String,
    dir: PathBuf,
    bin: PathBuf,
    setup: Setup,
    daemon: Option<Proc>,
    datapaths: Vec<u32>,
    filtered: bool,
    procs: Vec<Proc>,
    judges: Mutex<Vec<Judge>>,
    stop: Arc<AtomicBool>,
}

impl World {
    /// Builds it, with the daemon running. `None` when the machine lacks something, which has then been printed.
    ///
    /// # Panics
    /// When something fails that should not, or when something is missing and `PONTOON_REQUIRE_ALL` is 1.
    #[must_use]
    pub fn new(setup: &Setup) -> Option<Self> {
        let bin = match check(setup) {
            Ok(bin) => bin,
            Err(reason) => {
                let strict = std::env::var("PONTOON_REQUIRE_ALL").is_ok_and(|value| value == "1");
                assert!(!strict, "nothing may be skipped here: {reason}");
                println!("skipped: {reason}");
                return None;
            }
        };
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("pt{}{}", std::process::id(), letter(COUNT.fetch_add(1, Ordering::Relaxed)));
        let dir = scratch().join(&prefix);
        fs::create_dir_all(&dir).expect("directory of the test");
        let mut world = Self {
            prefix,
            dir,
            bin,
            setup: setup.clone(),
            daemon: None,
            datapaths: Vec::new(),
            filtered: false,
            procs: Vec::new(),
            judges: Mutex::default(),
            stop: Arc::new(AtomicBool::new(false)),
        };
        world.keep_state_in_memory();
        world.build_namespaces();
        world.judge("net", "eth0");
        world.build_internet();
        world.write_scripts();
        world.start_daemon();
        Some(world)
    }

    /// The executable.
    #[must_use]
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// The full name of `host`, `net`, `g1` or `g2`.
    #[must_use]
    pub fn ns(&self, which: &str) -> String {
        format!("{}-{which}", self.prefix)
    }

    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Makes one more namespace, with `lo` up and without IPv6.
    ///
    /// # Panics
    /// When that fails.
    pub fn add_namespace(&self, which: &str) {
        let ns = self.ns(which);
        let _ = run(&["ip", "netns", "add", &ns]).expect_ok("ip netns add");
        fs::create_dir_all(format!("/etc/netns/{ns}")).expect("/etc/netns");
        fs::write(resolv_conf(&ns), "").expect("resolv.conf");
        in_netns(&ns, || {
            for (key, value) in [
                ("ipv6/conf/all/disable_ipv6", "1"),
                ("ipv6/conf/default/disable_ipv6", "1"),
                ("ipv4/ip_forward", "0"),
                ("ipv4/ping_group_range", "0 2147483647"),
            ] {
                // A kernel without IPv6 has nothing to switch off.
                let _ = fs::write(format!("/proc/sys/net/{key}"), value);
            }
        });
        self.ip(which, "link set lo up");
    }

    /// What the daemon acknowledges is on disk, and one that others keep busy makes it wait for as long as a minute.
    fn keep_state_in_memory(&self) {
        let place = self.memory();
        // Without such a place, and where a test brings one of its own, the disk has to do.
        if self.setup.prepare.is_empty() && fs::create_dir(&place).is_ok() {
            std::os::unix::fs::symlink(&place, self.path("state")).expect("link to the state");
        }
    }

    fn memory(&self) -> PathBuf {
        Path::new("/dev/shm").join(&self.prefix)
    }

    fn build_namespaces(&self) {
        for which in ["host", "net", "g1", "g2"] {
            self.add_namespace(which);
        }
        self.add_uplink();
    }

    /// Makes the wire between host and internet, also in place of one that was deleted.
    pub fn add_uplink(&self) {
        let (host, net) = (self.ns("host"), self.ns("net"));
        let words = [
            "ip", "link", "add", "up0", "netns", &host, "type", "veth", "peer", "name", "eth0", "netns", &net,
        ];
        let _ = run(&words).expect_ok("veth pair");
        for (which, dev, addresses) in [
            ("host", "up0", &["203.0.113.3/24"][..]),
            ("net", "eth0", &["203.0.113.1/24", "203.0.113.80/24"]),
        ] {
            for address in addresses {
                self.ip(which, &format!("addr add {address} dev {dev}"));
            }
            self.ip(which, &format!("link set {dev} mtu {} up", self.setup.mtu));
            self.no_offload(which, dev);
            self.keep_order(which, dev);
        }
    }

    /// Has one processor receive what comes to a veth. Else the kernel has the sender's do it, and whoever moves to another
    /// one while it sends is overtaken by itself, which the judge cannot tell from a fault of ours.
    ///
    /// # Panics
    /// When that cannot be set.
    pub fn keep_order(&self, which: &str, dev: &str) {
        let script = format!("echo 1 > /sys/class/net/{dev}/queues/rx-0/rps_cpus");
        let _ = self.exec(which, &["sh", "-c", &script]).expect_ok("receive packet steering");
    }

    /// Makes another wire between host and internet.
    pub fn add_wire(&self, host_dev: &str, net_dev: &str, of_host: &str, of_net: &str, mtu: u16) {
        let (host, net) = (self.ns("host"), self.ns("net"));
        let ends = ["type", "veth", "peer", "name", net_dev, "netns", &net];
        let words = [&["ip", "link", "add", host_dev, "netns", &host][..], &ends].concat();
        let _ = run(&words).expect_ok("veth pair");
        for (which, dev, address) in [("host", host_dev, of_host), ("net", net_dev, of_net)] {
            self.ip(which, &format!("addr add {address} dev {dev}"));
            self.ip(which, &format!("link set {dev} mtu {mtu} up"));
            self.keep_order(which, dev);
        }
    }

    fn build_internet(&mut self) {
        let big = vec!["x".repeat(250); 10].join(",");
        let txt = format!("--txt-record=big.test,{big}");
        let mut dns = self.spawn(
            "net",
            "dnsmasq",
            &[
                "dnsmasq",
                "--no-daemon",
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--no-hosts",
                "--no-resolv",
                "--pid-file=",
                "--bind-interfaces",
                "--listen-address=203.0.113.1",
                "--except-interface=lo",
                "--address=/google.com/203.0.113.80",
                "--local=/google.com/",
                "--local=/test/",
                &txt,
            ],
        );
        dns.wait_said("started", 5);
        self.procs.push(dns);
        serve_tcp(&self.ns("net"), 80, &self.stop);
    }

    fn write_scripts(&self) {
        use std::os::unix::fs::PermissionsExt;
        for (name, text) in [("udhcpc.sh", UDHCPC), ("dhclient.sh", DHCLIENT)] {
            fs::write(self.path(name), text).expect("script");
            fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).expect("script");
        }
        fs::write(self.path("resolv.conf"), "nameserver 203.0.113.1\n").expect("resolv.conf");
    }

    fn daemon_words(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> =
            ["ip", "netns", "exec", &self.ns("host")].iter().map(OsString::from).collect();
        if !self.setup.prepare.is_empty() {
            let state = self.path("state");
            let script = format!("STATE='{}'; {} && exec \"$@\"", state.display(), self.setup.prepare);
            words.extend(["sh", "-c", &script, "sh"].iter().map(OsString::from));
        }
        words.extend([self.bin.clone().into(), "daemon".into()]);
        words.extend(self.setup.daemon_options.iter().map(OsString::from));
        words.extend(["--state-dir".into(), self.path("state").into()]);
        words.extend(["--runtime-dir".into(), self.path("run").into()]);
        words.extend(["--workers".into(), self.setup.workers.to_string().into()]);
        words.extend(["--resolv-conf".into(), self.path("resolv.conf").into()]);
        words
    }

    /// Starts the daemon and waits until it serves.
    ///
    /// # Panics
    /// When it does not.
    pub fn start_daemon(&mut self) {
        let mut daemon = Proc::start(&self.daemon_words(), &self.path("daemon.log"));
        daemon.wait_said("pontoon: ready", 60);
        self.daemon = Some(daemon);
        self.note_datapaths();
    }

    /// Runs a second daemon on the same directories.
    #[must_use]
    pub fn second_daemon(&self) -> Output {
        run(&self.daemon_words())
    }

    /// # Panics
    /// When there is none.
    pub fn stop_daemon(&mut self, signal: Signal) {
        self.note_datapaths();
        self.note_filtered();
        self.daemon.take().expect("a daemon").stop(signal);
    }

    /// # Panics
    /// When no daemon runs.
    #[must_use]
    pub fn daemon_pid(&self) -> u32 {
        self.daemon.as_ref().expect("a daemon").pid()
    }

    /// A file as the daemon sees it.
    #[must_use]
    pub fn seen_by_daemon(&self, name: &str) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.daemon_pid()));
        let path = self.path(name);
        root.join(path.strip_prefix("/").unwrap_or(&path))
    }

    /// What the daemon has logged.
    ///
    /// # Panics
    /// When no daemon runs.
    #[must_use]
    pub fn daemon_log(&self) -> String {
        self.daemon.as_ref().expect("a daemon").said()
    }

    /// Kills the datapath, which a daemon that runs starts anew.
    ///
    /// # Panics
    /// When there is none.
    pub fn kill_datapaths(&mut self) {
        for pid in self.datapaths() {
            let pid = rustix::process::Pid::from_raw(i32::try_from(pid).expect("pid")).expect("pid");
            rustix::process::kill_process(pid, Signal::KILL).expect("kill");
        }
    }

    /// Kills daemon and datapath.
    ///
    /// # Panics
    /// When there is none.
    pub fn kill_all(&mut self) {
        // They are found as children of the daemon.
        let _ = self.datapaths();
        self.stop_daemon(Signal::KILL);
        self.kill_datapaths();
    }

    /// Process ids of the datapaths seen so far that still run.
    pub fn datapaths(&mut self) -> Vec<u32> {
        self.note_datapaths();
        self.datapaths.clone()
    }

    fn note_datapaths(&mut self) {
        if let Some(daemon) = &self.daemon {
            self.datapaths.extend(process::children(daemon.pid(), "datapath"));
        }
        self.datapaths.sort_unstable();
        self.datapaths.dedup();
        self.datapaths.retain(|pid| process::is_running(*pid, "datapath"));
    }

    /// A datapath that its filter of system calls has ended lacks a rule, also when its successor did the work.
    fn note_filtered(&mut self) {
        self.filtered |= self.daemon.as_ref().is_some_and(|daemon| daemon.said().contains("SIGSYS"));
    }

    /// A connection to the daemon's socket.
    ///
    /// # Panics
    /// When there is no daemon.
    #[must_use]
    pub fn api(&self) -> Api {
        Api::connect(&self.path("run/pontoon.sock")).expect("API socket")
    }

    /// A verb of the command line.
    #[must_use]
    pub fn pontoon(&self, words: &[&str]) -> Output {
        let socket = self.path("run/pontoon.sock");
        let mut all: Vec<OsString> = vec![self.bin.clone().into(), "--socket".into(), socket.into()];
        all.extend(words.iter().map(OsString::from));
        run(&all)
    }

    /// A verb that has to work; its output without the last blank line.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn works(&self, words: &[&str]) -> String {
        let out = self.pontoon(words).expect_ok(&words.join(" "));
        out.strip_suffix("\n\n").map_or(out.clone(), |text| format!("{text}\n"))
    }

    /// How often the datapath has dropped for this reason.
    ///
    /// # Panics
    /// When the status cannot be read.
    #[must_use]
    pub fn drops(&self, reason: &str) -> u64 {
        let status: serde_json::Value =
            serde_json::from_str(&self.works(&["status", "--json"])).expect("JSON");
        let drops = status.pointer("/status/drops").and_then(serde_json::Value::as_array).expect("drops");
        let named = drops.iter().find(|drop| drop.get(0).is_some_and(|name| name == reason));
        named.and_then(|drop| drop.get(1)?.as_u64()).unwrap_or(0)
    }

    /// Writes a definition to a file of the test.
    ///
    /// # Panics
    /// When that fails.
    #[must_use]
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).expect("definition");
        path.to_string_lossy().into_owned()
    }

    /// Defines and starts a network.
    pub fn start_network(&self, name: &str, xml: &str) {
        let file = self.file(&format!("{name}.xml"), xml);
        let _ = self.works(&["net-define", &file]);
        let _ = self.works(&["net-start", name]);
        let bridge = xml.split_once("<bridge name='").and_then(|(_, rest)| rest.split('\'').next());
        if let Some(bridge) = bridge {
            self.judge("host", bridge);
        }
    }

    /// Has tshark look, at the end of the test, at all that arrives on an interface from now on.
    ///
    /// # Panics
    /// When there is no such interface.
    pub fn judge(&self, which: &str, dev: &str) {
        if self.setup.unjudged || !is_installed("tshark") {
            return;
        }
        let mut judges = self.judges.lock().unwrap_or_else(PoisonError::into_inner);
        let file = self.path(&format!("judge-{}.pcap", judges.len()));
        judges.push(Judge::start(&self.ns(which), dev, file).expect("packets of the interface"));
    }

    /// What tshark finds wrong with everything that was moved.
    fn verdicts(&self) -> Vec<String> {
        let judges = std::mem::take(&mut *self.judges.lock().unwrap_or_else(PoisonError::into_inner));
        judges.into_iter().filter_map(Judge::verdict).collect()
    }

    /// Gives a guest an interface on a network and brings it up.
    pub fn attach(&self, guest: &str, network: &str, dev: &str, mac: &str) {
        let ns = self.ns(guest);
        let said = self.works(&[
            "attach-interface",
            "--domain",
            guest,
            "--type",
            "network",
            "--source",
            network,
            "--target",
            dev,
            "--mac",
            mac,
            "--netns",
            &ns,
        ]);
        assert!(said.contains("Interface attached successfully"), "{said}");
        self.no_offload(guest, dev);
        self.judge(guest, dev);
        self.ip(guest, &format!("link set {dev} up"));
    }

    fn no_offload(&self, which: &str, dev: &str) {
        if self.setup.no_offload {
            let _ = self.exec(which, &["ethtool", "-K", dev, "tx", "off"]).expect_ok("ethtool");
        }
    }

    /// Attaches a guest and gets it an address by udhcpc, which stays running.
    pub fn guest(&mut self, guest: &str, network: &str, dev: &str, mac: &str) -> String {
        self.attach(guest, network, dev, mac);
        let mut client = self.udhcpc(guest, dev);
        let address = bound_address(&mut client);
        self.procs.push(client);
        address
    }

    /// Starts busybox's DHCP client.
    #[must_use]
    pub fn udhcpc(&self, guest: &str, dev: &str) -> Proc {
        let script = self.path("udhcpc.sh");
        let hostname = format!("hostname:{guest}");
        let words = ["busybox", "udhcpc", "-f", "-i", dev, "-s"];
        let script = script.to_string_lossy();
        let rest = [&*script, "-x", &hostname, "-t", "8", "-T", "1", "-A", "1"];
        self.spawn(guest, &format!("udhcpc-{guest}-{dev}"), &[&words[..], &rest].concat())
    }

    /// Runs a command in a namespace to its end.
    #[must_use]
    pub fn exec(&self, which: &str, words: &[&str]) -> Output {
        let ns = self.ns(which);
        run(&[&["ip", "netns", "exec", &ns], words].concat())
    }

    /// Starts a command in a namespace; what it says goes to `log` in the test's directory.
    #[must_use]
    pub fn spawn(&self, which: &str, log: &str, words: &[&str]) -> Proc {
        let ns = self.ns(which);
        Proc::start(&[&["ip", "netns", "exec", &ns], words].concat(), &self.path(&format!("{log}.log")))
    }

    /// `ip` in a namespace, with its words in one string; has to work.
    pub fn ip(&self, which: &str, words: &str) -> String {
        let ns = self.ns(which);
        let mut all = vec!["ip", "-n", &ns];
        all.extend(words.split(' '));
        run(&all).expect_ok(&format!("ip -n {which} {words}"))
    }

    /// Whether an echo comes back, of three with a second of patience each.
    #[must_use]
    pub fn pings(&self, which: &str, target: &str) -> bool {
        self.exec(which, &["ping", "-n", "-c", "3", "-i", "0.2", "-W", "1", target])
            .out
            .contains("bytes from")
    }

    /// The same of one, with less patience.
    #[must_use]
    pub fn pings_once(&self, which: &str, target: &str) -> bool {
        self.exec(which, &["ping", "-n", "-c", "1", "-W", "1", target]).out.contains("bytes from")
    }

    /// Keeps a process until the end of the test.
    pub fn keep(&mut self, proc: Proc) {
        self.procs.push(proc);
    }

    /// Starts a TCP server in a namespace that says who asks.
    pub fn serve(&self, which: &str, port: u16) {
        serve_tcp(&self.ns(which), port, &self.stop);
    }

    /// Starts capturing and waits until frames are being written.
    ///
    /// # Panics
    /// When that does not happen.
    #[must_use]
    pub fn capture(&self, which: &str, dev: &str) -> Capture {
        let file = self.path(&format!("{which}-{dev}.pcapng"));
        let name = file.to_string_lossy().into_owned();
        let mut proc =
            self.spawn(which, &format!("tshark-{which}-{dev}"), &["tshark", "-q", "-i", dev, "-w", &name]);
        proc.wait_said("Capturing on", 20);
        until("the capture begins", 10, || fs::metadata(&file).ok().filter(|data| data.len() > 0));
        Capture { proc, file }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for name in ["daemon.log", "run/datapath.log"] {
                let text = fs::read(self.path(name)).unwrap_or_default();
                eprintln!("--- {name}\n{}", String::from_utf8_lossy(&text));
            }
        }
        let verdicts = self.verdicts();
        self.note_filtered();
        self.stop.store(true, Ordering::Relaxed);
        self.note_datapaths();
        self.procs.clear();
        if let Some(mut daemon) = self.daemon.take() {
            daemon.stop(Signal::TERM);
        }
        for pid in &self.datapaths {
            if process::is_running(*pid, "datapath") {
                process::kill(*pid);
            }
        }
        let prefix = format!("{}-", self.prefix);
        for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(&prefix) {
                let _ = run(&["ip", "netns", "del", &name]);
                let _ = fs::remove_dir_all(format!("/etc/netns/{name}"));
            }
        }
        for dir in [&self.dir, &self.memory()] {
            let _ = fs::remove_dir_all(dir);
        }
        assert!(verdicts.is_empty() || std::thread::panicking(), "{}", verdicts.join("\n"));
        assert!(
            !self.filtered || std::thread::panicking(),
            "a datapath died of SIGSYS: the kernel's log has the call"
        );
    }
}

/// Frames being written to a file.
#[derive(Debug)]
pub struct Capture {
    proc: Proc,
    file: PathBuf,
}

impl Capture {
    /// Ends the capture and returns the frames tshark's filter matches, one line each.
    ///
    /// # Panics
    /// When tshark fails.
    #[must_use]
    pub fn finish(mut self, filters: &[&str]) -> Vec<String> {
        self.settle();
        self.proc.stop(Signal::INT);
        let file = self.file.to_string_lossy().into_owned();
        filters.iter().map(|filter| read_capture(&file, filter)).collect()
    }
}

impl Capture {
    /// Frames wait in the kernel for a while before they are written: polls until the file has stopped growing.
    fn settle(&self) {
        let size = || fs::metadata(&self.file).map_or(0, |data| data.len());
        let (mut last, mut quiet) = (size(), 0);
        until("the capture settles", 20, || {
            let now = size();
            quiet = if now == last { quiet + 1 } else { 0 };
            last = now;
            (quiet >= 20).then_some(())
        });
    }
}

/// The address udhcpc's script was given.
///
/// # Panics
/// When no lease comes.
pub fn bound_address(client: &mut Proc) -> String {
    let said = client.wait_said("event bound", 20);
    let line = said.lines().find(|line| line.starts_with("event bound")).unwrap_or_default();
    let word = line.split(' ').find_map(|word| word.strip_prefix("ip="));
    word.unwrap_or_else(|| panic!("no address in '{line}'")).to_owned()
}

/// Where tests keep their files: in memory if there is such a place, as a busy disk holds up whoever syncs for tens of
/// seconds.
fn scratch() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let asked = std::env::var_os("TMPDIR").is_some();
    if memory.is_dir() && !asked { memory.to_owned() } else { std::env::temp_dir() }
}

/// Letters, so that names stay short: an interface or a namespace of another test is never meant.
fn letter(count: u32) -> char {
    char::from_u32('a' as u32 + count % 26).unwrap_or('z')
}

fn resolv_conf(ns: &str) -> String {
    format!("/etc/netns/{ns}/resolv.conf")
}

/// The executable, or why this machine cannot run the test.
fn check(setup: &Setup) -> Result<PathBuf, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("needs root for network namespaces".into());
    }
    if !Path::new("/dev/net/tun").exists() {
        return Err("no /dev/net/tun".into());
    }
    let offload = if setup.no_offload { &["ethtool"][..] } else { &[] };
    for tool in TOOLS.iter().chain(setup.tools).chain(offload) {
        if !is_installed(tool) {
            return Err(format!("{tool} is not installed"));
        }
    }
    let probe = format!("pt{}p{:?}", std::process::id(), std::thread::current().id());
    let probe: String = probe.chars().filter(char::is_ascii_alphanumeric).collect();
    let added = run(&["ip", "netns", "add", &probe]);
    if !added.ok() {
        return Err(format!("network namespaces cannot be made: {}", added.err.trim()));
    }
    let _ = run(&["ip", "netns", "del", &probe]);
    executable().ok_or_else(|| "no pontoon executable: cargo build --bin pontoon, or set PONTOON_BIN".into())
}

fn is_installed(tool: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
    path.split(':').chain(system).any(|dir| Path::new(dir).join(tool).exists())
}

fn executable() -> Option<PathBuf> {
    if let Some(given) = std::env::var_os("PONTOON_BIN") {
        return Some(PathBuf::from(given)).filter(|path| path.exists());
    }
    // target/PROFILE/deps/this-test
    let this = std::env::current_exe().ok()?;
    let profile = this.parent()?.parent()?;
    let target = profile.parent()?;
    let places = [profile.to_owned(), target.join("debug"), target.join("release")];
    places.into_iter().map(|place| place.join("pontoon")).find(|path| path.exists())
}

const UDHCPC: &str = r#"#!/bin/sh
case "$1" in
deconfig)
    ip -4 addr flush dev "$interface"
    ip link set "$interface" up ;;
bound | renew)
    ip addr replace "$ip/$mask" dev "$interface"
    if [ -n "$router" ]; then ip route replace default via "${router%% *}" dev "$interface"; fi
    if [ -n "$dns" ]; then for server in $dns; do echo "nameserver $server"; done > /etc/resolv.conf; fi ;;
esac
echo "event $1 ip=$ip mask=$mask router=$router dns=$dns lease=$lease"
exit 0
"#;

const DHCLIENT: &str = r#"#!/bin/sh
case "$reason" in
PREINIT) ip link set "$interface" up ;;
BOUND | RENEW | REBIND | REBOOT)
    ip addr replace "$new_ip_address/$new_subnet_mask" dev "$interface"
    if [ -n "$new_routers" ]; then ip route replace default via "${new_routers%% *}" dev "$interface"; fi ;;
EXPIRE | FAIL | RELEASE | STOP) ip -4 addr flush dev "$interface" ;;
esac
echo "event $reason ip=$new_ip_address router=$new_routers dns=$new_domain_name_servers"
exit 0
"#;
