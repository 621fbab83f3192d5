//! A disk in memory that can fail at any step, and that forgets at a crash what was not made durable.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use crate::disk::Disk;

/// What happens at the step with the number `at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The machine stops.
    Crash,
    /// This step fails, later ones do not.
    Full,
    /// This step and all later ones fail.
    Broken,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    File(Vec<u8>),
    Link(String),
}

/// A change of a directory that is not durable yet.
#[derive(Clone, Debug)]
enum Pending {
    Entry(PathBuf, usize),
    Gone(PathBuf),
    Moved(PathBuf, PathBuf, usize),
}

impl Pending {
    fn is_in(&self, dir: &Path) -> bool {
        let (Self::Entry(path, _) | Self::Gone(path) | Self::Moved(_, path, _)) = self;
        path.parent() == Some(dir)
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Entry(path, node) => drop(names.insert(path.clone(), *node)),
            Self::Gone(path) => drop(names.remove(path)),
            Self::Moved(from, to, node) => {
                names.remove(from);
                names.insert(to.clone(), *node);
            }
        }
    }
}

#[derive(Debug, Default)]
struct Inner {
    /// Content as processes see it, and as it would be read after a crash: each of several may be.
    nodes: Vec<(Node, Vec<Node>)>,
    names: BTreeMap<PathBuf, usize>,
    durable: BTreeMap<PathBuf, usize>,
    pending: Vec<Pending>,
    steps: usize,
    /// Times a caller waited for the disk.
    syncs: usize,
    fault: Option<(usize, Fault)>,
}

#[derive(Debug, Default)]
pub(crate) struct FakeDisk(Mutex<Inner>);

impl Inner {
    /// One step that can go wrong.
    fn step(&mut self) -> io::Result<()> {
        self.steps += 1;
        match self.fault {
            Some((at, Fault::Full)) if self.steps == at => Err(io::ErrorKind::StorageFull.into()),
            Some((at, Fault::Broken | Fault::Crash)) if self.steps >= at => {
                Err(io::Error::from_raw_os_error(libc::EIO))
            }
            _ => Ok(()),
        }
    }

    fn enter(&mut self, path: &Path, node: Node) -> usize {
        let number = self.nodes.len();
        self.nodes.push((node.clone(), vec![node]));
        self.names.insert(path.to_owned(), number);
        self.pending.push(Pending::Entry(path.to_owned(), number));
        number
    }
}

impl FakeDisk {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("the disk")
    }

    /// Counts steps from now on and fails as told.
    pub(crate) fn fail(&self, fault: Option<(usize, Fault)>) {
        let mut inner = self.lock();
        (inner.steps, inner.fault) = (0, fault);
    }

    /// Steps since [`Self::fail`].
    pub(crate) fn steps(&self) -> usize {
        self.lock().steps
    }

    pub(crate) fn syncs(&self) -> usize {
        self.lock().syncs
    }

    /// Makes all that is there durable.
    pub(crate) fn settle(&self) {
        let mut inner = self.lock();
        inner.durable = inner.names.clone();
        inner.pending.clear();
        for (now, later) in &mut inner.nodes {
            *later = vec![now.clone()];
        }
    }

    /// Changes a file behind everybody's back.
    pub(crate) fn spoil(&self, path: &Path, bytes: Vec<u8>) {
        let mut inner = self.lock();
        let number = inner.names[path];
        inner.nodes[number] = (Node::File(bytes.clone()), vec![Node::File(bytes)]);
    }

    /// Every disk there may be after a crash now: directory changes reach it in order, up to some point, and a
    /// file's content is whole, partly there, or not at all while it was not synced.
    pub(crate) fn after_crash(&self) -> Vec<Self> {
        let inner = self.lock();
        let mut disks = Vec::new();
        for reached in 0..=inner.pending.len() {
            let mut names = inner.durable.clone();
            inner.pending[..reached].iter().for_each(|change| change.apply(&mut names));
            let most = names.values().map(|node| inner.nodes[*node].1.len()).max().unwrap_or(1);
            for variant in 0..most {
                let mut next = Inner::default();
                for (path, number) in &names {
                    let variants = &inner.nodes[*number].1;
                    next.enter(path, variants[variant.min(variants.len() - 1)].clone());
                }
                next.durable = next.names.clone();
                next.pending.clear();
                disks.push(Self(Mutex::new(next)));
            }
        }
        disks
    }
}

impl Disk for FakeDisk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let inner = self.lock();
        match inner.names.get(path).map(|number| &inner.nodes[*number].0) {
            Some(Node::File(bytes)) => Ok(bytes.clone()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let inner = self.lock();
        let here = inner.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(here.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn is_there(&self, path: &Path) -> bool {
        self.lock().names.contains_key(path)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.write_unsynced(path, bytes)?;
        let mut inner = self.lock();
        inner.step()?;
        inner.syncs += 1;
        if let Some(number) = inner.names.get(path).copied() {
            inner.nodes[number].1 = vec![Node::File(bytes.to_vec())];
        }
        Ok(())
    }

    fn write_unsynced(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.lock();
        inner.step()?;
        let number = match inner.names.get(path).copied() {
            Some(number) => number,
            None => inner.enter(path, Node::File(Vec::new())),
        };
        // Each sync may have got so far when the machine stops.
        let parts = [0, bytes.len() / 2, bytes.len()].map(|length| Node::File(bytes[..length].to_vec()));
        let [empty, half, whole] = parts;
        inner.nodes[number] = (empty.clone(), vec![empty.clone()]);
        if let Err(error) = inner.step() {
            inner.nodes[number] = (half.clone(), vec![empty, half]);
            return Err(error);
        }
        inner.nodes[number] = (whole.clone(), vec![empty, half, whole]);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        inner.step()?;
        let number = inner.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        inner.names.insert(to.to_owned(), number);
        inner.pending.push(Pending::Moved(from.to_owned(), to.to_owned(), number));
        Ok(())
    }

    fn symlink(&self, target: &str, path: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        inner.step()?;
        if inner.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        inner.enter(path, Node::Link(target.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        inner.step()?;
        if inner.names.remove(path).is_some() {
            inner.pending.push(Pending::Gone(path.to_owned()));
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        inner.step()?;
        inner.syncs += 1;
        let (done, rest) =
            std::mem::take(&mut inner.pending).into_iter().partition(|change| change.is_in(dir));
        inner.pending = rest;
        let done: Vec<Pending> = done;
        for change in &done {
            change.apply(&mut inner.durable);
        }
        Ok(())
    }
}
