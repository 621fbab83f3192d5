//! The lab's story: define, start and use a NAT network and an isolated one, and check each claim.

use std::fmt::Display;
use std::fs::{self, File};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use pontoon_proto::api::Request;

use super::guest::{self, Lease};
use super::host::{self, Netlink, in_netns};
use super::services::{self, SERVER};
use crate::client::Client;

/// The lab's files, on its private tmpfs.
pub(super) const HOME: &str = "/run/pontoon-lab";
const SOCKET: &str = "/run/pontoon/pontoon.sock";
const HOST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const ISOLATED: Ipv4Addr = Ipv4Addr::new(192, 168, 110, 1);
const NAT: Ipv4Addr = Ipv4Addr::new(192, 168, 100, 1);
const NODE_1: [u8; 6] = [0x52, 0x54, 0x00, 0xae, 0x45, 0x66];
const NODE_2: [u8; 6] = [0x52, 0x54, 0x00, 0xd7, 0x8d, 0x61];
const NODE_2_NAT: [u8; 6] = [0x52, 0x54, 0x00, 0xc6, 0x3c, 0x03];

const UPLINK: &str = "  <pontoon:uplink xmlns:pontoon='urn:pontoon:network:1' kind='direct' dev='up0' \
                      address='203.0.113.2/24' gateway='203.0.113.1'/>\n";

/// The daemon's process.
pub(super) struct Daemon(pub(super) Child);

impl Daemon {
    pub(super) fn stop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
    }
}

#[derive(Default)]
struct Story {
    checks: u32,
    failed: u32,
}

/// Tells all of it; `false` when a check failed.
pub(super) fn tell(seconds: u32) -> anyhow::Result<(bool, Daemon)> {
    let start = Instant::now();
    let mut story = Story::default();
    headline("an internet, a host and two guests, in namespaces of their own");
    build().context("cannot build the lab's namespaces")?;
    println!("internet {SERVER} (google.com), host {HOST}, node-1, node-2");
    headline("pontoon daemon");
    let daemon = start_daemon()?;
    println!("the daemon answers at {SOCKET}");
    story.networks()?;
    let isolated = story.isolated()?;
    story.nat(isolated.address, seconds)?;
    story.overview();
    println!("\n== done ({:.1} s)", start.elapsed().as_secs_f64());
    let passed = story.failed == 0;
    if passed {
        println!("lab: PASS ({} checks)", story.checks);
    } else {
        println!("lab: FAIL ({} of {} checks)", story.failed, story.checks);
        show_log();
    }
    Ok((passed, daemon))
}

fn headline(text: &str) {
    println!("\n== {text}");
}

fn build() -> io::Result<()> {
    host::name_netns("host")?;
    host::prepare()?;
    for name in ["internet", "node-1", "node-2"] {
        host::add_netns(name)?;
    }
    let internet = File::open(host::netns("internet"))?;
    let mut netlink = Netlink::open()?;
    netlink.veth("up0", "eth0", internet.as_fd())?;
    netlink.up("up0")?;
    in_netns("internet", || {
        let mut netlink = Netlink::open()?;
        netlink.up("eth0")?;
        netlink.address("eth0", SERVER, 24)?;
        netlink.address("eth0", GATEWAY, 24)?;
        services::start()
    })
}

fn start_daemon() -> anyhow::Result<Daemon> {
    let log = File::create("daemon.log")?;
    let state = format!("{HOME}/state");
    let resolv_conf = format!("{HOME}/resolv.conf");
    let mut command = Command::new("/proc/self/exe");
    command.args(["daemon", "--state-dir", &state, "--runtime-dir", "/run/pontoon"]);
    command.args(["--resolv-conf", &resolv_conf]).stdin(Stdio::null());
    let child = command.stdout(log.try_clone()?).stderr(log).spawn().context("cannot start the daemon")?;
    let mut daemon = Daemon(child);
    let client = Client::new(Some(SOCKET.into()));
    let end = Instant::now() + Duration::from_secs(15);
    while client.call(&Request::Ping).is_err() {
        if let Some(status) = daemon.0.try_wait()? {
            show_log();
            bail!("the daemon ended: {status}");
        }
        if Instant::now() > end {
            show_log();
            bail!("the daemon does not answer");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(daemon)
}

fn show_log() {
    let log = fs::read_to_string("daemon.log").unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    println!("last lines of the daemon:");
    for line in lines.iter().skip(lines.len().saturating_sub(20)) {
        println!("   {line}");
    }
}

fn definition(name: &str, bridge: &str, subnet: u8, nat: bool, first: u8) -> String {
    let forward = "  <forward mode='nat'>\n    <nat>\n      <port start='1024' end='65535'/>\n    </nat>\n  </forward>\n";
    let (forward, uplink) = if nat { (forward, UPLINK) } else { ("", "") };
    format!(
        "<network>\n  <name>{name}</name>\n{forward}{uplink}  <bridge name='{bridge}' stp='on' delay='0'/>\n  \
         <ip address='192.168.{subnet}.1' netmask='255.255.255.0'>\n    <dhcp>\n      \
         <range start='192.168.{subnet}.{first}' end='192.168.{subnet}.254'/>\n    </dhcp>\n  </ip>\n</network>\n"
    )
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

impl Story {
    fn check(&mut self, claim: &str, holds: bool) {
        self.checks += 1;
        self.failed += u32::from(!holds);
        println!("{} {claim}", if holds { "ok  " } else { "FAIL" });
    }

    /// A check of something that may also fail to happen at all.
    fn attempt<T, E: Display>(&mut self, claim: &str, result: Result<T, E>) -> Option<T> {
        if let Err(error) = &result {
            println!("   {error}");
        }
        self.check(claim, result.is_ok());
        result.ok()
    }

    /// Runs this executable with these words, as a user would, and shows what it prints.
    fn pontoon(&mut self, words: &[&str]) -> String {
        println!("$ pontoon {}", words.join(" "));
        let mut command = Command::new("/proc/self/exe");
        command.args(words).env("PONTOON_SOCKET", SOCKET).stdin(Stdio::null());
        let (text, success) = match command.output() {
            Ok(output) => {
                let text = [output.stdout, output.stderr].concat();
                (String::from_utf8_lossy(&text).into_owned(), output.status.success())
            }
            Err(error) => (error.to_string(), false),
        };
        for line in text.trim_end().lines() {
            println!("   {line}");
        }
        if !success {
            self.check(&format!("pontoon {}", words.join(" ")), false);
        }
        text
    }

    fn networks(&mut self) -> anyhow::Result<()> {
        for (file, name, bridge, subnet, nat, first) in [
            ("nat.xml", "natntw", "virbr1", 100, true, 10),
            ("hostonly.xml", "hostntw", "virbr2", 110, false, 10),
            ("default.xml", "default", "virbr0", 122, true, 2),
        ] {
            headline(&format!("network {name} on {bridge}"));
            let xml = definition(name, bridge, subnet, nat, first);
            fs::write(file, &xml)?;
            println!("$ cat {file}\n{}", xml.trim_end());
            let text = self.pontoon(&["net-define", file]);
            self.check("defined", text.starts_with(&format!("Network {name} defined from {file}\n")));
            let text = self.pontoon(&["net-info", name]);
            self.check("not active yet", text.contains("Active:         no\n"));
            let text = self.pontoon(&["net-start", name]);
            self.check("started", text.starts_with(&format!("Network {name} started\n")));
            let text = self.pontoon(&["net-autostart", name]);
            self.check("autostart", text.starts_with(&format!("Network {name} marked as autostarted\n")));
        }
        headline("all networks");
        let text = self.pontoon(&["net-list"]);
        self.check("three active networks", text.matches(" active ").count() == 3);
        let text = self.pontoon(&["net-dumpxml", "natntw"]);
        self.check("the dump has a UUID and the bridge", text.contains("<uuid>") && text.contains("virbr1"));
        Ok(())
    }

    fn attach(&mut self, node: &str, bridge: &str, device: &str, mac: [u8; 6]) {
        let mac = mac_text(mac);
        let text = self.pontoon(&[
            "attach-interface",
            "--domain",
            node,
            "--type",
            "bridge",
            "--source",
            bridge,
            "--model",
            "virtio",
            "--mac",
            &mac,
            "--netns",
            node,
            "--target",
            device,
        ]);
        self.check("attached", text.starts_with("Interface attached successfully\n"));
    }

    fn lease(&mut self, node: &str, device: &str, mac: [u8; 6], network: &str) -> anyhow::Result<Lease> {
        println!("$ {node}: dhcp {device}");
        let result = in_netns(node, || guest::dhcp(device, mac, node));
        let lease = self.attempt(&format!("{node} has a lease"), result);
        let lease = lease.with_context(|| format!("{node} cannot go on without an address"))?;
        println!(
            "   {}/{}, router {:?}, resolver {:?}",
            lease.address, lease.prefix, lease.router, lease.resolver
        );
        let text = self.pontoon(&["net-dhcp-leases", network]);
        let row = text.lines().find(|row| row.contains(&lease.address.to_string())).unwrap_or_default();
        self.check("the lease carries the host name", row.contains(node) && row.contains(&mac_text(mac)));
        Ok(lease)
    }

    /// Pings from a namespace and says whether all came back (or, with `silent`, none).
    fn ping(&mut self, from: &str, to: Ipv4Addr, count: u16, silent: bool, claim: &str) {
        println!("$ {from}: ping -c {count} {to}");
        let echoes = in_netns(from, || guest::ping(to, count)).unwrap_or_else(|error| {
            println!("   {error}");
            Vec::new()
        });
        for echo in &echoes {
            let time = echo.time.as_secs_f64() * 1e3;
            println!("   64 bytes from {to}: icmp_seq={} ttl={} time={time:.3} ms", echo.sequence, echo.ttl);
        }
        println!("   {count} packets transmitted, {} received", echoes.len());
        self.check(claim, if silent { echoes.is_empty() } else { echoes.len() == usize::from(count) });
    }

    fn isolated(&mut self) -> anyhow::Result<Lease> {
        headline("node-1 and node-2 on the isolated network");
        self.attach("node-2", "virbr2", "eth0", NODE_2);
        let lease = self.lease("node-2", "eth0", NODE_2, "hostntw")?;
        let octets = lease.address.octets();
        self.check("lease in 192.168.110.10-254", octets[..3] == [192, 168, 110] && octets[3] >= 10);
        self.attach("node-1", "virbr2", "eth0", NODE_1);
        self.lease("node-1", "eth0", NODE_1, "hostntw")?;
        let text = self.pontoon(&["brctl", "show", "virbr2"]);
        self.check("brctl shows the bridge", text.contains("virbr2\t\t8000.5254"));
        self.ping("host", lease.address, 3, false, "host pings the guest");
        self.ping("node-2", ISOLATED, 2, false, "guest pings the host");
        self.ping("node-1", lease.address, 2, false, "guests reach each other");
        self.ping("node-2", SERVER, 1, true, "no way out (no route)");
        let forced = in_netns("node-2", || Netlink::open()?.route(Some((SERVER, 32)), ISOLATED));
        self.attempt("a route out is forced", forced);
        self.ping("node-2", SERVER, 1, true, "no way out (route forced)");
        println!("$ node-2: nslookup google.com {ISOLATED}");
        let answer = in_netns("node-2", || guest::resolve(ISOLATED, "google.com"));
        println!("   {answer:?}");
        self.check("no outside names (REFUSED)", matches!(answer, Ok((5, None))));
        let answer = in_netns("node-1", || guest::resolve(ISOLATED, "node-2"));
        self.check("the network's DNS knows the guest's name", answer.ok() == Some((0, Some(lease.address))));
        Ok(lease)
    }

    fn nat(&mut self, isolated: Ipv4Addr, seconds: u32) -> anyhow::Result<()> {
        headline("second NIC of node-2, on natntw");
        self.attach("node-2", "virbr1", "eth1", NODE_2_NAT);
        let lease = self.lease("node-2", "eth1", NODE_2_NAT, "natntw")?;
        // The default route does not help while the forced one is more specific.
        in_netns("node-2", || Netlink::open()?.route(Some((SERVER, 32)), NAT))?;
        let text = self.pontoon(&["brctl", "show", "virbr1"]);
        self.check("brctl shows the bridge", text.contains("virbr1\t\t8000.5254"));
        println!("$ node-2: nslookup google.com {NAT}");
        let answer = in_netns("node-2", || guest::resolve(lease.resolver.unwrap_or(NAT), "google.com"));
        println!("   {answer:?}");
        self.check("google.com is known", matches!(answer, Ok((0, Some(SERVER)))));
        self.ping("node-2", SERVER, 3, false, "ping google.com");
        self.web();
        headline("from the internet");
        for (name, address) in [("natntw", lease.address), ("hostntw", isolated)] {
            in_netns("internet", || Netlink::open()?.route(Some((address, 32)), HOST))?;
            let claim = format!("the internet cannot reach the guest on {name}");
            self.ping("internet", address, 1, true, &claim);
        }
        headline(&format!("throughput through NAT, {seconds} s"));
        let rate = in_netns("node-2", || guest::throughput(SERVER, seconds));
        if let Some(rate) = self.attempt("a stream from the internet", rate) {
            println!("   {rate:.2} Gbit/s measured here");
        }
        Ok(())
    }

    fn web(&mut self) {
        println!("$ node-2: get http://google.com/");
        let page = self.page("/", None);
        self.check(
            "web page through NAT, from the host's address",
            page.starts_with(&format!("you are {HOST} port ")),
        );
        println!("$ node-2: get http://google.com/ from port 500");
        let page = self.page("/", Some(500));
        let port = page.rsplit(' ').next().and_then(|port| port.trim().parse::<u16>().ok());
        self.check("source port 500 is moved into 1024-65535", port.is_some_and(|port| port >= 1024));
        println!("$ node-2: get http://google.com/20m");
        let start = Instant::now();
        let page = in_netns("node-2", || guest::get(SERVER, "/20m", None)).unwrap_or_default();
        println!("   {} bytes in {:.2} s", page.len(), start.elapsed().as_secs_f64());
        self.check("20 MB download, every byte right", page == services::pattern(services::DOWNLOAD));
    }

    fn page(&mut self, path: &str, port: Option<u16>) -> String {
        let page = in_netns("node-2", || guest::get(SERVER, path, port));
        let text =
            page.map_or_else(|error| error.to_string(), |page| String::from_utf8_lossy(&page).into_owned());
        println!("   {}", text.trim_end());
        text
    }

    fn overview(&mut self) {
        headline("what the daemon shows");
        self.pontoon(&["brctl", "show"]);
        self.pontoon(&["brctl", "showmacs", "virbr1"]);
        self.pontoon(&["status"]);
    }
}
