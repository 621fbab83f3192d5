//! Every case of libvirt's test data: what is accepted, what is printed, what updates make of it.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use pontoon_compat_tests::{data, difference, rows};
use pontoon_netxml::{DumpOptions, Network, Section, UpdateCommand, parse, port, update, validate};

const INACTIVE: DumpOptions = DumpOptions { inactive: true, connections: None };

/// Runs `case` for every row of a table and reports all that fail.
fn every(table: &str, case: impl Fn(&Path, &[String]) -> Result<(), String>) {
    let folder = match data() {
        Ok(folder) => folder,
        Err(reason) => return println!("skipped: {reason}"),
    };
    let rows = rows(&folder.join(table)).unwrap();
    let failed: Vec<String> = rows
        .iter()
        .filter_map(|row| case(&folder, row).err().map(|why| format!("{}: {why}", row.join(" "))))
        .collect();
    println!("{table}: {} of {} cases hold", rows.len() - failed.len(), rows.len());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

fn print(network: &Network) -> String {
    network.to_xml(&INACTIVE)
}

fn read(path: PathBuf) -> String {
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn inputs() {
    every("manifest.tsv", |folder, row| {
        let [dir, file, mode, _, expect, output] = row else { return Err("not six cells".into()) };
        let text = read(folder.join(dir).join(file));
        let network = match (parse(&text), expect.as_str()) {
            (Err(_), "reject") => return Ok(()),
            (Ok(_), "reject") => return Err("accepted".into()),
            (Err(error), _) => return Err(error.render(file)),
            (Ok(network), _) => network,
        };
        if network.forward.mode.as_str() != mode.replace("isolated", "none") {
            return Err(format!("mode {}", network.forward.mode));
        }
        if !network.unknown.is_empty() {
            return Err(format!("ignored {:?}", network.unknown));
        }
        validate(&text).map_err(|error| error.render(file))?;
        let printed = print(&network);
        let again = parse(&printed).map_err(|error| error.render("printed"))?;
        if again != network || print(&again) != printed {
            return Err("printed and read again it is another".into());
        }
        if !output.ends_with(".xml") {
            return Ok(());
        }
        difference(&printed, &read(folder.join(output))).map_or(Ok(()), Err)
    });
}

#[test]
fn updates() {
    every("net-update-cases.tsv", |folder, row| {
        let [section, command, index, with, input, output, expect, _] = row else {
            return Err("not eight cells".into());
        };
        let file = |dir: &str, name: &str| read(folder.join(dir).join(format!("{name}.xml")));
        let network = parse(&file("networkxml2xmlin", input)).map_err(|error| error.render(input))?;
        let section = Section::from_word(section).ok_or("no such section")?;
        let command = UpdateCommand::from_word(command).ok_or("no such command")?;
        let index = index.parse().unwrap_or(-1);
        let xml = file("networkxml2xmlupdatein", with);
        match (update(&network, command, section, index, &xml), expect.as_str()) {
            (Err(_), "fail") => Ok(()),
            (Ok(_), "fail") => Err("accepted".into()),
            (Err(error), _) => Err(error.render(with)),
            (Ok(changed), _) => {
                difference(&print(&changed), &file("networkxml2xmlupdateout", output)).map_or(Ok(()), Err)
            }
        }
    });
}

/// What is refused is refused for the reason libvirt has.
#[test]
fn refusals() {
    let Ok(folder) = data() else { return println!("skipped: no test data") };
    let expected = [
        ("hostdev-duplicate", "can only be listed once in network"),
        ("passthrough-duplicate", "can only be listed once in network"),
        (
            "open-network-with-forward-dev",
            "forward dev not allowed for network 'open' with forward mode='open'",
        ),
        ("routed-network-no-dns-extra-elements", "XML error: Extra data in disabled network 'local'"),
    ];
    for (file, words) in expected {
        let path = folder.join(format!("networkxml2xmlin/{file}.xml"));
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let error = parse(&text).expect_err(file);
        assert!(error.message.contains(words), "{file}: {error}");
        assert!(error.line > 0 && error.help.is_some(), "{file}: {error:?}");
    }
}

/// libvirt prints the XML of a port as it was read.
#[test]
fn ports() {
    let folder = match data() {
        Ok(folder) => folder.join("virnetworkportxml2xmldata"),
        Err(reason) => return println!("skipped: {reason}"),
    };
    let Ok(files) = fs::read_dir(&folder) else {
        return println!("skipped: there is no {}", folder.display());
    };
    let mut count = 0;
    for entry in files {
        let path = entry.unwrap().path();
        let text = read(path.clone());
        let found = port::parse(&text).unwrap_or_else(|error| panic!("{}", error.render("port")));
        assert_eq!(difference(&found.to_xml(), &text), None, "{}", path.display());
        port::validate(&text).unwrap_or_else(|error| panic!("{}", error.render("port")));
        count += 1;
    }
    println!("{count} ports hold");
}
