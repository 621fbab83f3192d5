//! The archive a kernel unpacks as its first file system ("newc" of cpio).

use std::collections::BTreeSet;

const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_777;
const DEVICE: u32 = 0o020_600;

#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    seen: BTreeSet<String>,
    inode: u32,
}

impl Archive {
    pub(crate) fn directory(&mut self, path: &str) {
        self.add(path, DIRECTORY, b"", (0, 0));
    }

    pub(crate) fn file(&mut self, path: &str, mode: u32, data: &[u8]) {
        self.add(path, FILE | mode, data, (0, 0));
    }

    pub(crate) fn link(&mut self, path: &str, target: &str) {
        self.add(path, LINK, target.as_bytes(), (0, 0));
    }

    pub(crate) fn device(&mut self, path: &str, number: (u32, u32)) {
        self.add(path, DEVICE, b"", number);
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, b"", (0, 0));
        self.bytes
    }

    fn add(&mut self, path: &str, mode: u32, data: &[u8], device: (u32, u32)) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.directory(parent);
        }
        if self.seen.insert(path.to_owned()) {
            self.entry(path, mode, data, device);
        }
    }

    fn entry(&mut self, path: &str, mode: u32, data: &[u8], (major, minor): (u32, u32)) {
        self.inode += 1;
        let (length, name) = (data.len() as u32, path.len() as u32 + 1);
        let fields = [self.inode, mode, 0, 0, 1, 0, length, 0, 0, major, minor, name, 0];
        let fields: String = fields.iter().map(|field| format!("{field:08x}")).collect();
        self.bytes.extend_from_slice(format!("070701{fields}{path}\0").as_bytes());
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}
