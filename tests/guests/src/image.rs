//! Kernel and initramfs, made from Debian's packages once and kept.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::FlockOperation;

use crate::cpio::Archive;

const KERNEL: &str = "linux-image-cloud-amd64";
const BUSYBOX: &str = "busybox-static";
/// In the order they are loaded, each behind what it needs.
const MODULES: &[&str] = &["virtio_pci", "virtio_net", "af_packet"];
const INIT: &str = include_str!("guest/init.sh");
const LEASE: &str = include_str!("guest/lease.sh");

/// What a guest boots.
#[derive(Clone, Debug)]
pub struct Image {
    pub kernel: PathBuf,
    pub initramfs: PathBuf,
}

impl Image {
    /// The one in the cache, made first if it is not there; else why that cannot be done.
    ///
    /// # Errors
    /// What this machine lacks.
    pub fn get() -> Result<Self, String> {
        Command::new("qemu-system-x86_64")
            .arg("--version")
            .output()
            .map_err(|error| format!("qemu-system-x86_64: {error}"))?;
        let dir = cache()?;
        let made = || -> io::Result<Self> {
            fs::create_dir_all(&dir)?;
            let lock = File::create(dir.join("lock"))?;
            rustix::fs::flock(lock.as_fd(), FlockOperation::LockExclusive)?;
            let image = Self { kernel: dir.join("vmlinuz"), initramfs: dir.join("initramfs") };
            let stamp = dir.join("stamp");
            // Another text is another image.
            let wanted = format!("{KERNEL} {BUSYBOX} {MODULES:?}\n{INIT}\n{LEASE}");
            if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
                return Ok(image);
            }
            image.make(&dir)?;
            fs::write(stamp, wanted)?;
            Ok(image)
        };
        made().map_err(|error| format!("no kernel for guests: {error}"))
    }

    fn make(&self, dir: &Path) -> io::Result<()> {
        let root = dir.join("root");
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root)?;
        let kernel = depends(KERNEL)?;
        let packages = [kernel.as_str(), BUSYBOX];
        run(Command::new("apt-get")
            .args(["-qq", "-o", "APT::Sandbox::User=root", "download"])
            .args(packages)
            .current_dir(&root))?;
        for entry in fs::read_dir(&root)?.flatten().filter(|entry| has_end(&entry.path(), "deb")) {
            run(Command::new("dpkg-deb").arg("-x").arg(entry.path()).arg(&root))?;
        }
        let image = find(&root.join("boot"), &|name| name.starts_with("vmlinuz-"));
        fs::copy(image.ok_or_else(|| missing("a kernel"))?, &self.kernel)?;
        fs::write(&self.initramfs, archive(&root)?)?;
        fs::remove_dir_all(&root)
    }
}

fn cache() -> Result<PathBuf, String> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let usual =
        || Some(set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?.join("pontoon-guests"));
    set("PONTOON_GUEST_CACHE")
        .or_else(usual)
        .ok_or_else(|| "neither HOME nor PONTOON_GUEST_CACHE is set".into())
}

/// The package a package without files of its own stands for.
fn depends(package: &str) -> io::Result<String> {
    let said = run(Command::new("apt-cache").args(["depends", "--important", package]))?;
    let line = said.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
    line.map(|rest| format!("linux-image-{rest}")).ok_or_else(|| missing("a kernel package in apt's lists"))
}

fn archive(root: &Path) -> io::Result<Vec<u8>> {
    let mut archive = Archive::default();
    for dir in ["proc", "sys", "dev", "tmp", "run", "root", "etc", "sbin"] {
        archive.directory(dir);
    }
    archive.device("dev/console", (5, 1));
    archive.device("dev/null", (1, 3));
    let busybox = ["bin/busybox", "usr/bin/busybox"].map(|place| root.join(place));
    let busybox = busybox.iter().find(|place| place.exists()).ok_or_else(|| missing("busybox"))?;
    archive.file("bin/busybox", 0o755, &fs::read(busybox)?);
    for applet in run(Command::new(busybox).arg("--list"))?.lines() {
        archive.link(&format!("bin/{applet}"), "busybox");
    }
    archive.file("init", 0o755, INIT.as_bytes());
    archive.file("bin/guest-lease", 0o755, LEASE.as_bytes());
    let (mut order, modules) = (Vec::new(), root.join("lib/modules"));
    for name in MODULES {
        add_module(&mut archive, &mut order, &modules, name)?;
    }
    archive.file("lib/guest/modules", 0o644, order.join("\n").as_bytes());
    Ok(archive.finish())
}

/// A module behind those it depends on. One that is not there is built in.
fn add_module(archive: &mut Archive, order: &mut Vec<String>, modules: &Path, name: &str) -> io::Result<()> {
    let path = format!("/lib/guest/{name}.ko");
    let same = |file: &str| file.split('.').next().is_some_and(|stem| stem.replace('-', "_") == name);
    let Some(found) = find(modules, &same).filter(|_| !order.contains(&path)) else { return Ok(()) };
    let mut data = fs::read(&found)?;
    if has_end(&found, "xz") {
        data = Command::new("xz").arg("-dc").arg(&found).output()?.stdout;
    }
    for needed in dependencies(&data) {
        add_module(archive, order, modules, &needed)?;
    }
    archive.file(path.trim_start_matches('/'), 0o644, &data);
    order.push(path);
    Ok(())
}

/// The value of `depends=` in a module's information.
fn dependencies(module: &[u8]) -> Vec<String> {
    const FIELD: &[u8] = b"\0depends=";
    let at = module.windows(FIELD.len()).position(|window| window == FIELD);
    let rest = at.and_then(|at| module.get(at + FIELD.len()..)).unwrap_or_default();
    let value = rest.split(|byte| *byte == 0).next().unwrap_or_default();
    let names = String::from_utf8_lossy(value).replace('-', "_");
    names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn find(dir: &Path, wanted: &dyn Fn(&str) -> bool) -> Option<PathBuf> {
    let mut entries: Vec<PathBuf> = fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    entries.into_iter().find_map(|path| {
        let link = fs::symlink_metadata(&path).ok()?.file_type().is_symlink();
        let name = path.file_name()?.to_str()?.to_owned();
        match path.is_dir() && !link {
            true => find(&path, wanted),
            false => wanted(&name).then_some(path),
        }
    })
}

fn has_end(path: &Path, end: &str) -> bool {
    path.extension().is_some_and(|extension| extension == end)
}

fn missing(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{what} was not found"))
}

/// What a command says; it has to work.
fn run(command: &mut Command) -> io::Result<String> {
    let output = command.output()?;
    let mut said = String::new();
    output.stdout.as_slice().read_to_string(&mut said)?;
    match output.status.success() {
        true => Ok(said),
        false => Err(io::Error::other(format!(
            "{:?}: {}",
            command.get_program(),
            String::from_utf8_lossy(&output.stderr).trim()
        ))),
    }
}
