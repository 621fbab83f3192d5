//! The executable called as a user calls it: under another name, with variables, with input, on a terminal.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::process::Output;
use crate::world::World;

/// One name of the executable.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    dir: PathBuf,
    vars: Vec<(String, OsString)>,
}

impl World {
    /// The executable by a link of this name; it finds this world's daemon.
    ///
    /// # Panics
    /// When the link cannot be made.
    #[must_use]
    pub fn program(&self, name: &str) -> Program {
        let path = self.path(name);
        if fs::symlink_metadata(&path).is_err() {
            std::os::unix::fs::symlink(self.bin(), &path).expect("link");
        }
        let program = Program { path, dir: self.path("."), vars: Vec::new() };
        program.with("PONTOON_SOCKET", self.path("run/pontoon.sock").into_os_string()).with("TZ", "UTC")
    }
}

impl Program {
    /// With a variable set.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.vars.push((name.to_owned(), value.into()));
        self
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.args(["-k", "1", "60"]).arg(&self.path).args(words).current_dir(&self.dir);
        for name in ["PONTOON_FORMAT", "VISUAL", "EDITOR", "VIRSH_DEFAULT_CONNECT_URI"] {
            command.env_remove(name);
        }
        command.envs(self.vars.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs it to its end, one minute at most.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn run(&self, words: &[&str]) -> Output {
        self.fed(words, "")
    }

    /// Runs it with something on its standard input.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn fed(&self, words: &[&str], input: &str) -> Output {
        let file = self.dir.join("input");
        fs::write(&file, input).expect("input");
        let mut command = self.command(words);
        let output = command.stdin(File::open(file).expect("input")).output().expect("coreutils' timeout");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Output { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Starts it on a terminal.
    ///
    /// # Panics
    /// When there is no terminal to be had.
    #[must_use]
    pub fn talk(&self, words: &[&str]) -> Dialogue {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("terminal");
        grantpt(&master).expect("terminal");
        unlockpt(&master).expect("terminal");
        let name = ptsname(&master, Vec::new()).expect("terminal");
        let side =
            File::options().read(true).write(true).open(name.to_str().expect("path")).expect("terminal");
        let copy = || Stdio::from(side.try_clone().expect("terminal"));
        let mut command = self.command(words);
        let child = command.stdin(copy()).stdout(copy()).stderr(copy()).spawn().expect("coreutils' timeout");
        let master = File::from(master);
        let mut reader = master.try_clone().expect("terminal");
        let (sender, said) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 1024];
            // A terminal whose other side is closed gives an error.
            while let Ok(count) = reader.read(&mut buffer) {
                if count == 0 || sender.send(buffer.get(..count).unwrap_or_default().to_vec()).is_err() {
                    break;
                }
            }
        });
        Dialogue { child, master, said, heard: String::new() }
    }
}

/// A program on a terminal.
#[derive(Debug)]
pub struct Dialogue {
    child: Child,
    master: File,
    said: Receiver<Vec<u8>>,
    heard: String,
}

impl Dialogue {
    /// Waits until it has said `words`, and types `answer`.
    ///
    /// # Panics
    /// When it does not say so within 20 seconds.
    pub fn answer(&mut self, words: &str, answer: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.heard.contains(words) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.said.recv_timeout(left) {
                Ok(bytes) => self.heard.push_str(&String::from_utf8_lossy(&bytes)),
                Err(why) => panic!("no '{words}' ({why}): {}", self.heard),
            }
        }
        let (_, rest) = self.heard.split_once(words).expect("was found");
        self.heard = rest.to_owned();
        self.master.write_all(answer.as_bytes()).expect("terminal");
    }

    /// What else it says to its end, and its exit status.
    ///
    /// # Panics
    /// When it does not end.
    #[must_use]
    pub fn end(mut self) -> (String, Option<i32>) {
        let status = crate::until("the program ends", 20, || self.child.try_wait().expect("wait"));
        while let Ok(bytes) = self.said.recv_timeout(Duration::from_millis(200)) {
            self.heard.push_str(&String::from_utf8_lossy(&bytes));
        }
        (self.heard.clone(), status.code())
    }
}

impl Drop for Dialogue {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _: Result<_, RecvTimeoutError> = self.said.recv_timeout(Duration::ZERO);
    }
}
