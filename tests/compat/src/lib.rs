//! libvirt's own test data, when it is at hand.
//!
//! It is LGPL and no part of this repository: `PONTOON_LIBVIRT_DATA` names its folder, else a folder
//! `shared/libvirt-data` beside one that holds the repository is taken. Beside libvirt's folders it
//! holds `manifest.tsv` and `net-update-cases.tsv`, which say what to expect.

use std::path::{Path, PathBuf};

/// The folder, or why the tests that need it do nothing.
///
/// # Errors
/// When there is no such folder.
pub fn data() -> Result<PathBuf, String> {
    if let Some(given) = std::env::var_os("PONTOON_LIBVIRT_DATA") {
        let given = PathBuf::from(given);
        let found = given.join("manifest.tsv").is_file();
        return if found { Ok(given) } else { Err(format!("no manifest.tsv in {}", given.display())) };
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let beside = here.ancestors().map(|folder| folder.join("shared/libvirt-data"));
    beside
        .into_iter()
        .find(|folder| folder.join("manifest.tsv").is_file())
        .ok_or_else(|| "PONTOON_LIBVIRT_DATA is not set and there is no ../shared/libvirt-data".to_owned())
}

/// The rows of a table below its head.
///
/// # Errors
/// When it can not be read.
pub fn rows(table: &Path) -> std::io::Result<Vec<Vec<String>>> {
    let text = std::fs::read_to_string(table)?;
    let cells = |line: &str| line.split('\t').map(str::to_owned).collect();
    Ok(text.lines().skip(1).filter(|line| !line.is_empty()).map(cells).collect())
}

/// The first line in which two texts differ, for a message.
pub fn difference(found: &str, expected: &str) -> Option<String> {
    if found == expected {
        return None;
    }
    let lines = found.lines().zip(expected.lines()).enumerate().find(|(_, (one, other))| one != other);
    Some(match lines {
        Some((at, (one, other))) => format!("line {}: found {one:?}, expected {other:?}", at + 1),
        None => format!("found {} lines, expected {}", found.lines().count(), expected.lines().count()),
    })
}
