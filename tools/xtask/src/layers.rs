//! Which crate may use which, and which part of the engine no other part.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A crate, the crates of this workspace it may use, and what else holds for it.
struct Layer {
    package: &'static str,
    may_use: &'static [&'static str],
    must_not_use: &'static [&'static str],
    pure: bool,
}

const LAYERS: &[Layer] = &[
    layer("pontoon-wire", &[], true),
    Layer {
        must_not_use: &[
            "serde",
            "serde_json",
            "rustix",
            "libc",
            "crossbeam",
            "crossbeam-channel",
            "crossbeam-utils",
        ],
        ..layer("pontoon-engine", &["pontoon-wire"], true)
    },
    layer("pontoon-vhost", &["pontoon-wire"], false),
    layer("pontoon-ports", &["pontoon-engine", "pontoon-vhost", "pontoon-wire"], false),
    layer("pontoon-user", &["pontoon-ports", "pontoon-wire"], false),
    layer(
        "pontoon-datapath",
        &["pontoon-ports", "pontoon-vhost", "pontoon-engine", "pontoon-wire", "pontoon-proto"],
        false,
    ),
    layer("pontoon-proto", &[], false),
    layer("pontoon-netxml", &[], false),
    layer("pontoon-control", &["pontoon-proto", "pontoon-netxml"], false),
    layer("pontoon-lab-bench", &[], false),
    layer(
        "pontoon",
        &[
            "pontoon-control",
            "pontoon-datapath",
            "pontoon-user",
            "pontoon-proto",
            "pontoon-netxml",
            "pontoon-lab-bench",
        ],
        false,
    ),
];

/// Parts of the engine that never import each other.
const SIBLINGS: &[&str] = &["coalesce", "switch", "gateway", "nat", "dhcp", "dns", "uplink"];

const fn layer(package: &'static str, may_use: &'static [&'static str], pure: bool) -> Layer {
    Layer { package, may_use, must_not_use: &[], pure }
}

/// Every broken arrow, one line each.
///
/// # Errors
/// A member or its manifest cannot be read.
pub(crate) fn check(root: &Path) -> io::Result<Vec<String>> {
    let workspace = fs::read_to_string(root.join("Cargo.toml"))?;
    let mut broken = Vec::new();
    for member in members(&workspace) {
        let directory = root.join(&member);
        let manifest = fs::read_to_string(directory.join("Cargo.toml"))
            .map_err(|error| io::Error::new(error.kind(), format!("{member}/Cargo.toml: {error}")))?;
        let Some(package) = package_name(&manifest) else { continue };
        broken.extend(check_dependencies(&package, &dependencies(&manifest)));
        if LAYERS.iter().any(|layer| layer.package == package && layer.pure) {
            broken.extend(check_pure(&package, &fs::read_to_string(directory.join("src/lib.rs"))?));
        }
        if package == "pontoon-engine" {
            broken.extend(check_engine(&directory.join("src"))?);
        }
    }
    Ok(broken)
}

/// The member list of the workspace's manifest.
fn members(workspace: &str) -> Vec<String> {
    let list = workspace.split_once("members = [").and_then(|(_, rest)| rest.split_once(']'));
    let list = list.map_or("", |(list, _)| list);
    list.split(',')
        .map(|name| name.trim().trim_matches('"').to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

fn package_name(manifest: &str) -> Option<String> {
    let package = manifest.split_once("[package]")?.1;
    let line = package.lines().find(|line| line.trim_start().starts_with("name"))?;
    Some(line.split_once('=')?.1.trim().trim_matches('"').to_owned())
}

/// Names under `[dependencies]`, also of targets, but not of tests and build scripts.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            inside = section == "dependencies" || section.ends_with(".dependencies");
            let table = section
                .strip_prefix("dependencies.")
                .or_else(|| section.split_once(".dependencies.").map(|(_, name)| name));
            names.extend(table.map(str::to_owned));
        } else if inside && !line.is_empty() && !line.starts_with('#') {
            let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
            let renamed = line.split_once("package = \"").and_then(|(_, rest)| rest.split('"').next());
            names.push(renamed.unwrap_or(name).trim_matches('"').to_owned());
        }
    }
    names
}

fn check_dependencies(package: &str, dependencies: &[String]) -> Vec<String> {
    let Some(layer) = LAYERS.iter().find(|layer| layer.package == package) else { return Vec::new() };
    let ours = |name: &str| name == "pontoon" || name.starts_with("pontoon-");
    let wrong = dependencies
        .iter()
        .map(String::as_str)
        .filter(|name| (ours(name) && !layer.may_use.contains(name)) || layer.must_not_use.contains(name));
    wrong.map(|name| format!("{package} must not depend on {name}")).collect()
}

fn check_pure(package: &str, source: &str) -> Vec<String> {
    let has = |attribute: &str| source.lines().any(|line| line.trim() == attribute);
    let missing = ["#![no_std]", "#![forbid(unsafe_code)]"].into_iter().filter(|attribute| !has(attribute));
    missing.map(|attribute| format!("{package} must have {attribute} in src/lib.rs")).collect()
}

fn check_engine(source: &Path) -> io::Result<Vec<String>> {
    let mut broken = Vec::new();
    for sibling in SIBLINGS {
        let mut files = Vec::new();
        rust_files(&source.join(sibling), &mut files)?;
        files.push(source.join(format!("{sibling}.rs")));
        for file in files.iter().filter(|file| file.is_file()) {
            let text = fs::read_to_string(file)?;
            let name = file.strip_prefix(source).unwrap_or(file).display().to_string();
            broken.extend(check_siblings(sibling, &name, &text));
        }
    }
    Ok(broken)
}

fn rust_files(directory: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if !directory.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            rust_files(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(())
}

/// Paths into another sibling, also inside `use crate::{a, b}`; comments do not count.
fn check_siblings(sibling: &str, file: &str, source: &str) -> Vec<String> {
    let code: String =
        source.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join(" ");
    let words: Vec<&str> = code.split("crate::").skip(1).collect();
    let reaches = |other: &str| {
        words.iter().any(|after| match after.strip_prefix('{') {
            Some(group) => group
                .split(';')
                .next()
                .unwrap_or_default()
                .split([',', '}'])
                .any(|part| first_word(part) == other),
            None => first_word(after) == other,
        })
    };
    let others = SIBLINGS.iter().filter(|other| **other != sibling && reaches(other));
    others.map(|other| format!("pontoon-engine: {file} must not import crate::{other}")).collect()
}

fn first_word(text: &str) -> &str {
    text.trim().split(|letter: char| !letter.is_alphanumeric() && letter != '_').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_workspace_holds() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("root");
        assert_eq!(check(root).expect("readable"), Vec::<String>::new());
    }

    #[test]
    fn only_dependencies_are_read() {
        let manifest = "[package]\nname = \"pontoon-engine\"\n[dependencies]\n# no\npontoon-wire.workspace = true\n\
                        libc = \"1\"\n[dependencies.serde]\nversion = \"1\"\n[dev-dependencies]\nrustix = \"1\"\n";
        assert_eq!(package_name(manifest).as_deref(), Some("pontoon-engine"));
        assert_eq!(dependencies(manifest), ["pontoon-wire", "libc", "serde"]);
        assert_eq!(
            check_dependencies("pontoon-engine", &dependencies(manifest)),
            ["pontoon-engine must not depend on libc", "pontoon-engine must not depend on serde"]
        );
    }

    #[test]
    fn a_backward_arrow_is_named() {
        let used = ["pontoon-engine".to_owned()];
        assert_eq!(
            check_dependencies("pontoon-wire", &used),
            ["pontoon-wire must not depend on pontoon-engine"]
        );
    }

    #[test]
    fn a_crate_that_lost_its_attributes_is_named() {
        let broken = check_pure("pontoon-wire", "//! #![forbid(unsafe_code)]\n#![no_std]\n");
        assert_eq!(broken, ["pontoon-wire must have #![forbid(unsafe_code)] in src/lib.rs"]);
    }

    #[test]
    fn a_sibling_s_import_is_named() {
        let source = "use crate::{time::Now,\n dhcp::Server};\n// crate::dns\nfn f() { crate::nat::g(); }\n";
        assert_eq!(
            check_siblings("nat", "nat/mod.rs", source),
            ["pontoon-engine: nat/mod.rs must not import crate::dhcp"]
        );
    }
}
