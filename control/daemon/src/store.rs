//! Files that outlive the daemon: definitions, autostart marks, leases, and the note of what is active.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pontoon_netxml::Network;
use rustix::fs::FlockOperation;

use crate::definition::{self, Verdict};
use crate::disk::{Disk, RealDisk, with_suffix};
use crate::failure::{Answer, fail_help};

/// Ends the name of a file's copy.
pub(crate) const COPY: &str = ".bak";

/// The state directory.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    root: PathBuf,
    disk: Arc<dyn Disk>,
}

impl Store {
    /// Opens the directory, making what is missing.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        for dir in [root.to_owned(), root.join("networks"), root.join("autostart"), root.join("leases")] {
            make_dir(&dir, 0o700)?;
        }
        Ok(Self::on(Arc::new(RealDisk), root))
    }

    pub(crate) fn on(disk: Arc<dyn Disk>, root: &Path) -> Self {
        Self { root: root.to_owned(), disk }
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    pub(crate) fn lease_dir(&self) -> PathBuf {
        self.root.join("leases")
    }

    pub(crate) fn leases(&self, name: &str) -> PathBuf {
        self.lease_dir().join(format!("{name}.leases"))
    }

    fn definition(&self, name: &str) -> PathBuf {
        self.root.join("networks").join(format!("{name}.xml"))
    }

    fn mark(&self, name: &str) -> PathBuf {
        self.root.join("autostart").join(format!("{name}.xml"))
    }

    /// All definitions. What a crash or a bad disk has left is mended, and what cannot be is set aside and logged.
    pub(crate) fn load(&self) -> io::Result<Vec<Network>> {
        let dir = self.root.join("networks");
        let files = self.disk.list(&dir)?;
        let names = files.iter().filter_map(|file| file.strip_suffix(".xml"));
        let networks: Vec<Network> = names.filter_map(|name| self.load_one(name)).collect();
        for file in &files {
            let name = file.strip_suffix(".xml.tmp").or_else(|| file.strip_suffix(".xml.bak.tmp"));
            let copy_of =
                file.strip_suffix(".xml.bak").filter(|name| !files.contains(&format!("{name}.xml")));
            if name.or(copy_of).is_some() {
                // Half written, or of a definition that was removed.
                self.tidy(&dir.join(file));
            }
        }
        self.check_marks(&files);
        Ok(networks)
    }

    fn load_one(&self, name: &str) -> Option<Network> {
        let path = self.definition(name);
        let read = self.disk.read(&path);
        let copy = self.disk.read(&with_suffix(&path, COPY)).ok();
        let verdict = definition::judge(read.as_deref().ok(), copy.as_deref(), name);
        let shown = path.display();
        match (&read, &verdict) {
            (Err(error), Verdict { network: None, .. }) => {
                tracing::error!("definition {shown} is skipped: {error}");
            }
            (Err(error), _) => {
                tracing::error!("definition {shown} cannot be read: {error}; its copy is used");
            }
            (Ok(_), Verdict { edited: true, .. }) => tracing::info!("definition {shown} was edited by hand"),
            _ => {}
        }
        if let (Ok(bytes), Some(why)) = (&read, &verdict.aside) {
            self.set_aside(&path, bytes, why, verdict.network.is_some());
        }
        let mended = [(path.clone(), &verdict.file), (with_suffix(&path, COPY), &verdict.copy)];
        for (path, bytes) in mended {
            if let Some(bytes) = bytes
                && let Err(error) = self.disk.replace(&path, bytes)
            {
                tracing::warn!("{} cannot be mended: {error}", path.display());
            }
        }
        verdict.network
    }

    fn set_aside(&self, path: &Path, bytes: &[u8], why: &str, restored: bool) {
        let shown = path.display();
        let kept = match self.disk.set_aside(path, bytes) {
            Ok(place) => format!("it is kept as {}", place.display()),
            Err(error) => format!("it cannot be kept: {error}"),
        };
        if restored {
            tracing::error!(
                "definition {shown} was damaged and is restored from its copy; {kept}. If it was edited on \
                 purpose: pontoon net-define FILE. {why}"
            );
        } else {
            tracing::error!("definition {shown} is skipped, {kept}: {why}");
        }
        // One that was kept need not be read, and complained about, at every start.
        if !restored && kept.starts_with("it is kept") {
            self.tidy(path);
        }
    }

    fn tidy(&self, path: &Path) {
        if let Err(error) = self.disk.remove(path) {
            tracing::warn!("{} cannot be removed: {error}", path.display());
        }
    }

    /// Removes marks of definitions that were removed. The mark of one that was set aside waits for its return.
    fn check_marks(&self, files: &[String]) {
        for mark in self.disk.list(&self.root.join("autostart")).unwrap_or_default() {
            if !files.iter().any(|file| *file == mark || file.starts_with(&format!("{mark}.bad-"))) {
                tracing::info!("autostart mark {mark} is of no network; it is removed");
                self.tidy(&self.root.join("autostart").join(mark));
            }
        }
    }

    /// Writes a definition; the one before stays whole if this fails.
    pub(crate) fn save(&self, network: &Network) -> Answer<()> {
        let path = self.definition(&network.name);
        let bytes = definition::signed(&definition::text(network));
        self.disk.replace(&path, &bytes).map_err(|error| cannot_write(&path, &error))?;
        // It is accepted with that, and its copy, which protects from a bad disk, can wait for one that is busy. A crash
        // before leaves one that is mended at the next start.
        let copy = with_suffix(&path, COPY);
        if let Err(error) = self.disk.replace_unsynced(&copy, &bytes) {
            tracing::warn!("{} cannot be written: {error}", copy.display());
        }
        Ok(())
    }

    pub(crate) fn remove(&self, name: &str) -> Answer<()> {
        let path = self.definition(name);
        let before = self.disk.read(&path);
        let removed = self.disk.remove(&path).and_then(|()| self.disk.sync_parent(&path));
        if let (Err(_), Ok(before)) = (&removed, before)
            && !self.disk.is_there(&path)
        {
            let _ = self.disk.replace(&path, &before);
        }
        removed.map_err(|error| cannot_write(&path, &error))?;
        // What is left of it now is removed at the next start at the latest.
        self.tidy(&with_suffix(&path, COPY));
        self.tidy(&self.mark(name));
        Ok(())
    }

    /// Removes what is known of a network's guests.
    pub(crate) fn remove_leases(&self, name: &str) {
        crate::leases::remove(self.disk(), &self.leases(name));
    }

    pub(crate) fn autostart(&self, name: &str) -> bool {
        self.disk.is_there(&self.mark(name))
    }

    pub(crate) fn set_autostart(&self, name: &str, on: bool) -> Answer<()> {
        let path = self.mark(name);
        let before = self.autostart(name);
        let set = |on| match on {
            true => self.disk.symlink(&format!("../networks/{name}.xml"), &path),
            false => self.disk.remove(&path),
        };
        let result = if on == before { Ok(()) } else { set(on) };
        let result = result.and_then(|()| self.disk.sync_parent(&path));
        if result.is_err() && self.autostart(name) != before {
            let _ = set(before);
        }
        result.map_err(|error| cannot_write(&path, &error))
    }
}

/// A file name made of this network name stays below its directory.
pub(crate) fn usable_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 200 && !name.starts_with('.') && !name.contains(['/', '\0', '\n'])
}

fn cannot_write(path: &Path, error: &io::Error) -> pontoon_proto::api::Failure {
    let detail = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "the disk is full; nothing was changed. Make room and repeat the command."
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "the file system is read-only; nothing was changed. Mount it for writing or give another --state-dir."
        }
        _ => "nothing was changed.",
    };
    fail_help(format!("cannot write '{}': {error}", path.display()), detail)
}

pub(crate) fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    // The mode of a directory somebody else made, /tmp say, is not ours to change.
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o755).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Removes a file that may be gone already.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Takes the lock of a state directory for as long as the file lives; `Err` has the words for the user.
pub(crate) fn lock(root: &Path) -> anyhow::Result<File> {
    let path = root.join("lock");
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut pid = String::new();
        file.read_to_string(&mut pid)?;
        anyhow::bail!(
            "another daemon (pid {}) already uses {}; stop it or give another --state-dir",
            pid.trim(),
            root.display()
        );
    }
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
