//! The few operations control's files are made of. Tests put a disk in their place that fails or forgets at each.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::slow;

/// Files set aside of one name; further ones replace the last.
const MAX_ASIDE: usize = 9;

pub(crate) trait Disk: Debug + Send + Sync {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Names in a directory, in order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Whether there is something of this name, be it a link to nothing.
    fn is_there(&self, path: &Path) -> bool;
    /// Writes a file, new or in place of another, and makes its content durable, but not its name.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// As [`Self::write`], but its content is durable only when the system comes round to it.
    fn write_unsynced(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn symlink(&self, target: &str, path: &Path) -> io::Result<()>;
    /// What is not there is removed already.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

#[derive(Debug)]
pub(crate) struct RealDisk;

impl Disk for RealDisk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            names.extend(entry?.file_name().into_string());
        }
        names.sort();
        Ok(names)
    }

    fn is_there(&self, path: &Path) -> bool {
        fs::symlink_metadata(path).is_ok()
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let file = write_file(path, bytes)?;
        slow::noted(|| format!("making {} durable", path.display()), || file.sync_all())
    }

    fn write_unsynced(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        write_file(path, bytes).map(drop)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn symlink(&self, target: &str, path: &Path) -> io::Result<()> {
        std::os::unix::fs::symlink(target, path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let dir_file = File::open(dir)?;
        slow::noted(|| format!("making names in {} durable", dir.display()), || dir_file.sync_all())
    }
}

fn write_file(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    Ok(file)
}

impl dyn Disk + '_ {
    /// Replaces a file whole or not at all: written beside, synced, renamed, directory synced. When the last step
    /// fails the file is as it was, as far as the disk lets it.
    pub(crate) fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let before = self.is_there(path).then(|| self.read(path).ok()).flatten();
        self.put(path, bytes)?;
        let synced = self.sync_parent(path);
        if synced.is_err() {
            let _ = match before {
                Some(before) => self.put(path, &before),
                None => self.remove(path),
            };
        }
        synced
    }

    /// Replaces a file without waiting for the disk: whole or not at all if this process dies, in any state if the
    /// machine does.
    pub(crate) fn replace_unsynced(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.beside(path, |beside| self.write_unsynced(beside, bytes))
    }

    fn put(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.beside(path, |beside| self.write(beside, bytes))
    }

    fn beside(&self, path: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
        let beside = with_suffix(path, ".tmp");
        let written = write(&beside).and_then(|()| self.rename(&beside, path));
        if written.is_err() {
            let _ = self.remove(&beside);
        }
        written
    }

    pub(crate) fn sync_parent(&self, path: &Path) -> io::Result<()> {
        path.parent().map_or(Ok(()), |parent| self.sync_dir(parent))
    }

    /// Keeps bytes that cannot be used as `PATH.bad-N`, and says where.
    pub(crate) fn set_aside(&self, path: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
        let names = (1..=MAX_ASIDE).map(|number| with_suffix(path, &format!(".bad-{number}")));
        let last = with_suffix(path, &format!(".bad-{MAX_ASIDE}"));
        let free = names.into_iter().find(|name| !self.is_there(name)).unwrap_or(last);
        self.write(&free, bytes)?;
        self.sync_parent(&free)?;
        Ok(free)
    }
}

pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
