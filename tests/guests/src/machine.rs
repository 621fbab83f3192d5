//! One running guest.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pontoon_netns_tests::{Proc, World, until};
use serde_json::{Value, json};

use crate::{Image, Nic};

/// Memory in MiB.
const MEMORY: &str = "160";
const PATIENCE: Duration = Duration::from_secs(70);

/// Ends with the drop.
#[derive(Debug)]
pub struct Machine {
    name: String,
    qemu: Proc,
    console: PathBuf,
    commands: BufReader<UnixStream>,
    monitor: BufReader<UnixStream>,
    nics: usize,
    asked: u32,
}

/// What a script in a guest came to.
#[derive(Clone, Debug)]
pub struct Said {
    pub status: i32,
    pub text: String,
}

impl Machine {
    /// Starts QEMU in the world's `host` namespace; the guest itself comes up while the caller does other things.
    ///
    /// # Panics
    /// When QEMU does not start.
    #[must_use]
    pub fn start(world: &World, image: &Image, name: &str, nics: &[(Nic, &str)]) -> Self {
        let place = |what: &str| world.path(&format!("{name}.{what}"));
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let socket = |what: &str| format!("unix:{},server=on,wait=off", text(&place(what)));
        let append = format!(
            "console=ttyS0 quiet panic=-1 nokaslr mitigations=off tsc=reliable no_timer_check random.trust_cpu=on \
             net.ifnames=0 guest={name}"
        );
        // Shared, as vhost-user needs it.
        let memory = format!("memory-backend-memfd,id=ram,size={MEMORY}M,share=on");
        let (kernel, initramfs) = (text(&image.kernel), text(&image.initramfs));
        let console = format!("file:{}", text(&place("console")));
        let (commands, monitor) = (socket("commands"), socket("qmp"));
        let mut words: Vec<String> = [
            "qemu-system-x86_64",
            "-name",
            name,
            "-M",
            "q35,usb=off,smbus=off,sata=off,memory-backend=ram",
            "-object",
            &memory,
            "-accel",
            "tcg",
            "-cpu",
            "max",
            "-m",
            MEMORY,
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-display",
            "none",
            "-kernel",
            &kernel,
            "-initrd",
            &initramfs,
            "-append",
            &append,
            "-serial",
            &console,
            "-serial",
            &commands,
            "-qmp",
            &monitor,
            "-device",
            "pcie-root-port,id=port0,chassis=1,slot=1",
        ]
        .map(str::to_owned)
        .into();
        for (number, (nic, mac)) in nics.iter().enumerate() {
            let (netdev, device) = (nic.netdev(number), nic.device(number, mac, None));
            if let Some((chardev, _)) = nic.socket(number) {
                words.extend(["-chardev".into(), chardev]);
            }
            words.extend(["-netdev".into(), netdev.to_string(), "-device".into(), device.to_string()]);
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let qemu = world.spawn("host", &format!("qemu-{name}"), &words);
        let connect = |what| {
            let stream = until(&format!("{name}'s QEMU runs: {}", qemu.said()), 20, || {
                let ended = std::fs::read_to_string(format!("/proc/{}/stat", qemu.pid()));
                assert!(!ended.is_ok_and(|stat| stat.contains(") Z ")), "{}", qemu.said());
                UnixStream::connect(place(what)).ok()
            });
            stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
            BufReader::new(stream)
        };
        let (commands, monitor) = (connect("commands"), connect("qmp"));
        let console = place("console");
        let nics = nics.len();
        let mut machine = Self { name: name.to_owned(), qemu, console, commands, monitor, nics, asked: 0 };
        machine.line_of_monitor();
        machine.ask("qmp_capabilities", &json!({}));
        machine
    }

    /// Waits until the guest takes commands.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn ready(&self) {
        let console =
            || String::from_utf8_lossy(&std::fs::read(&self.console).unwrap_or_default()).into_owned();
        let up = || console().contains("guest: ready").then_some(());
        until(&format!("{} is up", self.name), 60, up);
    }

    #[must_use]
    pub fn qemu(&self) -> &Proc {
        &self.qemu
    }

    /// Runs a shell script in the guest, a minute at most.
    ///
    /// # Panics
    /// When the guest does not answer.
    pub fn run(&mut self, script: &str) -> Said {
        self.asked += 1;
        let line = format!("{} {}\n", self.asked, base64(script.as_bytes()));
        self.commands.get_mut().write_all(line.as_bytes()).expect("commands");
        loop {
            let mut line = String::new();
            let length = self.commands.read_line(&mut line).expect("an answer of the guest");
            assert!(length > 0, "{} went away", self.name);
            let mut words = line.split_whitespace();
            if words.next() != Some("R") || words.next() != Some(&self.asked.to_string()) {
                continue;
            }
            let status = words.next().and_then(|word| word.parse().ok()).unwrap_or(-1);
            let text = String::from_utf8_lossy(&unbase64(words.next().unwrap_or_default())).into_owned();
            return Said { status, text };
        }
    }

    /// Runs a script that has to work; what it said.
    ///
    /// # Panics
    /// When it does not.
    pub fn works(&mut self, script: &str) -> String {
        let said = self.run(script);
        assert_eq!(said.status, 0, "{}: {script}\n{}", self.name, said.text);
        said.text
    }

    /// Waits for an address.
    ///
    /// # Panics
    /// When none comes.
    pub fn address(&mut self, dev: &str) -> String {
        let script = format!(
            "for i in $(seq 300); do ip -4 -o addr show dev {dev} 2>/dev/null | sed -n 's/.*inet \\([0-9.]*\\).*/\\1/p' \
             | grep . && exit 0; usleep 100000; done; cat /run/dhcp.{dev}; exit 1"
        );
        self.works(&script).trim().to_owned()
    }

    /// Plugs one more interface into the running guest.
    ///
    /// # Panics
    /// When QEMU refuses.
    pub fn hot_plug(&mut self, nic: &Nic, mac: &str) {
        let number = self.nics;
        self.nics += 1;
        if let Some((_, chardev)) = nic.socket(number) {
            self.ask("chardev-add", &chardev);
        }
        self.ask("netdev_add", &nic.netdev(number));
        self.ask("device_add", &nic.device(number, mac, Some("port0")));
    }

    fn ask(&mut self, command: &str, arguments: &Value) {
        let request = json!({"execute": command, "arguments": arguments});
        self.monitor.get_mut().write_all(format!("{request}\n").as_bytes()).expect("monitor");
        loop {
            let answer = self.line_of_monitor();
            assert!(answer.get("error").is_none(), "{command} {arguments}: {answer}");
            if answer.get("return").is_some() {
                return;
            }
        }
    }

    fn line_of_monitor(&mut self) -> Value {
        let mut line = String::new();
        self.monitor.read_line(&mut line).expect("an answer of QEMU");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}\n{}", self.qemu.said()))
    }
}

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

fn unbase64(text: &str) -> Vec<u8> {
    let values = text.bytes().filter_map(|letter| LETTERS.iter().position(|one| *one == letter));
    let (mut bytes, mut word, mut bits) = (Vec::new(), 0u32, 0);
    for value in values {
        word = word << 6 | value as u32;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((word >> bits) as u8);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_there_and_back() {
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(plain.as_bytes()), coded);
            assert_eq!(unbase64(coded), plain.as_bytes());
        }
    }
}
