//! Files that outlive the daemon: definitions, autostart marks, leases, and the note of what is active.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use pontoon_netxml::{DumpOptions, Network};
use rustix::fs::FlockOperation;

use crate::failure::{Answer, fail_help};

/// The state directory.
#[derive(Clone)]
pub(crate) struct Store {
    root: PathBuf,
}

impl Store {
    /// Opens the directory, making what is missing.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        for dir in [root.to_owned(), root.join("networks"), root.join("autostart"), root.join("leases")] {
            make_dir(&dir, 0o700)?;
        }
        Ok(Self { root: root.to_owned() })
    }

    pub(crate) fn leases(&self, name: &str) -> PathBuf {
        self.root.join("leases").join(format!("{name}.leases"))
    }

    fn definition(&self, name: &str) -> PathBuf {
        self.root.join("networks").join(format!("{name}.xml"))
    }

    fn mark(&self, name: &str) -> PathBuf {
        self.root.join("autostart").join(format!("{name}.xml"))
    }

    /// All definitions that can be read. One that cannot is logged and left where it is.
    pub(crate) fn load(&self) -> io::Result<Vec<Network>> {
        let mut networks = Vec::new();
        for entry in fs::read_dir(self.root.join("networks"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "xml") {
                match load_one(&path) {
                    Ok(network) => networks.push(network),
                    Err(why) => tracing::error!("definition {} is skipped: {why}", path.display()),
                }
            }
        }
        Ok(networks)
    }

    /// Writes a definition; the one before stays whole if this fails.
    pub(crate) fn save(&self, network: &Network) -> Answer<()> {
        let path = self.definition(&network.name);
        let text = network.to_xml(&DumpOptions { inactive: true, connections: None });
        replace(&path, text.as_bytes()).map_err(|error| cannot_write(&path, &error))
    }

    pub(crate) fn remove(&self, name: &str) -> Answer<()> {
        for path in [self.mark(name), self.definition(name)] {
            remove(&path).map_err(|error| cannot_write(&path, &error))?;
        }
        Ok(())
    }

    pub(crate) fn autostart(&self, name: &str) -> bool {
        fs::symlink_metadata(self.mark(name)).is_ok()
    }

    pub(crate) fn set_autostart(&self, name: &str, on: bool) -> Answer<()> {
        let path = self.mark(name);
        let result = match (on, self.autostart(name)) {
            (true, false) => std::os::unix::fs::symlink(format!("../networks/{name}.xml"), &path),
            (false, true) => remove(&path),
            _ => Ok(()),
        };
        result.and_then(|()| sync_dir(&path)).map_err(|error| cannot_write(&path, &error))
    }
}

fn load_one(path: &Path) -> Result<Network, String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let network = pontoon_netxml::parse(&text).map_err(|error| error.render(&path.display().to_string()))?;
    if path.file_stem().is_none_or(|stem| stem != network.name.as_str()) {
        return Err(format!("it defines network '{}', which the file's name does not say", network.name));
    }
    if network.uuid.is_none() {
        return Err("it has no <uuid>".to_owned());
    }
    Ok(network)
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

/// Replaces a file whole or not at all: written beside, synced, renamed, directory synced.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".tmp");
    let beside = PathBuf::from(beside);
    let written = write_synced(&beside, bytes).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written.and_then(|()| sync_dir(path))
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_dir(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
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
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("pontoon-store-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    fn network(name: &str) -> Network {
        let text = format!(
            "<network><name>{name}</name><uuid>{}</uuid><bridge name='virbr7'/></network>",
            uuid::Uuid::new_v4()
        );
        pontoon_netxml::parse(&text).expect("network")
    }

    #[test]
    fn a_definition_comes_back_as_it_was_saved() {
        let root = scratch("roundtrip");
        let store = Store::open(&root).expect("open");
        let one = network("one");
        store.save(&one).expect("save");
        store.set_autostart("one", true).expect("mark");
        let again = Store::open(&root).expect("open again");
        let loaded = again.load().expect("load");
        assert_eq!(loaded.len(), 1);
        assert_eq!((&loaded[0].name, loaded[0].uuid), (&one.name, one.uuid));
        assert!(again.autostart("one"));
        again.remove("one").expect("remove");
        assert!(!again.autostart("one") && again.load().expect("load").is_empty());
        assert_eq!(fs::metadata(&root).expect("dir").permissions().mode() & 0o777, 0o700);
        fs::remove_dir_all(&root).expect("clean");
    }

    #[test]
    fn a_damaged_definition_is_skipped_and_kept() {
        let root = scratch("damaged");
        let store = Store::open(&root).expect("open");
        store.save(&network("good")).expect("save");
        for (name, bytes) in [("cut", &b"<network><name>cu"[..]), ("binary", &[0xff, 0, 1]), ("empty", b"")] {
            fs::write(root.join(format!("networks/{name}.xml")), bytes).expect("write");
        }
        let loaded = store.load().expect("load");
        assert_eq!(loaded.iter().map(|network| network.name.as_str()).collect::<Vec<_>>(), ["good"]);
        assert!(root.join("networks/cut.xml").exists());
        fs::remove_dir_all(&root).expect("clean");
    }

    #[test]
    fn a_full_disk_loses_nothing() {
        let error = replace(Path::new("/dev/full/x"), b"x").expect_err("not a directory");
        assert_ne!(error.kind(), io::ErrorKind::NotFound);
        let failure = cannot_write(Path::new("/x"), &io::Error::from_raw_os_error(libc::ENOSPC));
        assert!(failure.detail.is_some_and(|detail| detail.contains("disk is full")));
    }

    #[test]
    fn a_second_lock_names_the_first_process() {
        let root = scratch("lock");
        make_dir(&root, 0o700).expect("dir");
        let first = lock(&root).expect("first");
        let error = lock(&root).expect_err("second").to_string();
        assert!(error.contains(&format!("(pid {})", std::process::id())), "{error}");
        drop(first);
        lock(&root).expect("third");
        fs::remove_dir_all(&root).expect("clean");
    }

    #[test]
    fn names_that_leave_the_directory_are_refused() {
        for name in ["", "..", ".x", "a/b", "/etc"] {
            assert!(!usable_name(name), "{name}");
        }
        assert!(usable_name("default") && usable_name("my net-1"));
    }
}
