//! `net-xml`: what a definition is, without a daemon.

use std::fs::File;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use crate::encoding::{self, Undecoded};
use clap::Args;
use pontoon_netxml::{DumpOptions, Error, Network, Section, UpdateCommand, parse, update, validate};

/// Largest file read.
const MAX_XML: u64 = 10 << 20;
const INACTIVE: DumpOptions = DumpOptions { inactive: true, connections: None };

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pontoon net-xml lab.xml                         check a file, print its canonical form
  pontoon net-dumpxml lab | pontoon net-xml -     the same from standard input
  pontoon net-xml lab.xml --update add ip-dhcp-host host.xml
                                                  what net-update would make of it")]
pub(crate) struct NetXmlArgs {
    /// The definition; - is standard input.
    #[arg(value_name = "FILE")]
    pub(crate) file: String,
    /// Refuse elements and attributes that are not part of the format.
    #[arg(long)]
    pub(crate) validate: bool,
    /// Print what net-update would make of the definition; UPDATE-FILE may be the element itself.
    #[arg(long, num_args = 3, value_names = ["COMMAND", "SECTION", "UPDATE-FILE"])]
    pub(crate) update: Vec<String>,
    /// Which <ip>, counted from 0, an update of DHCP is of.
    #[arg(long, value_name = "N", default_value_t = -1, allow_negative_numbers = true, requires = "update")]
    pub(crate) parent_index: i32,
}

pub(crate) fn run(args: &NetXmlArgs, quiet: bool) -> ExitCode {
    match network(args) {
        Err(message) => {
            eprintln!("error: {}", message.trim_end());
            ExitCode::FAILURE
        }
        Ok(network) => {
            let xml = network.to_xml(&INACTIVE);
            if !quiet {
                network.warnings().iter().for_each(|warning| eprintln!("warning: {warning}"));
            }
            if let Some(error) = parse(&xml).err().filter(|_| !args.update.is_empty()) {
                eprintln!("warning: net-update refuses this result: {}", error.message);
            }
            match io::stdout().write_all(xml.as_bytes()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            }
        }
    }
}

fn network(args: &NetXmlArgs) -> Result<Network, String> {
    let (name, xml) = read(&args.file)?;
    let render = |error: Error| error.render(&name);
    if args.validate {
        validate(&xml).map_err(render)?;
    }
    let network = parse(&xml).map_err(render)?;
    let [command, section, with] = args.update.as_slice() else { return Ok(network) };
    let command = UpdateCommand::from_word(command).ok_or_else(|| {
        let known = "add-first, add-last (or add), delete, modify";
        format!("unrecognized command name '{command}'\n   = help: commands are {known}")
    })?;
    let section = Section::from_word(section).ok_or_else(|| {
        let known = Section::ALL.map(Section::as_str).join(", ");
        format!("unrecognized section name '{section}'\n   = help: sections are {known}")
    })?;
    let (name, with) = if with.trim_start().starts_with('<') {
        ("UPDATE-FILE".to_owned(), with.clone())
    } else {
        read(with)?
    };
    update(&network, command, section, args.parent_index, &with).map_err(|error| error.render(&name))
}

/// How messages name the file, and what it holds.
fn read(file: &str) -> Result<(String, String), String> {
    let mut text = Vec::new();
    let read = if file == "-" {
        io::stdin().take(MAX_XML).read_to_end(&mut text)
    } else {
        File::open(file).and_then(|open| open.take(MAX_XML).read_to_end(&mut text))
    };
    read.map_err(|error| format!("Failed to open file '{file}': {}", reason(&error)))?;
    let name = if file == "-" { "standard input" } else { file };
    let text = encoding::decode(text, name).map_err(|Undecoded { line, words, help }| {
        format!("(network_definition):{line}: {words}\n  --> {name}:{line}\n   = help: {help}")
    })?;
    Ok((name.to_owned(), text))
}

/// The words of the system for an error, without its number.
fn reason(error: &io::Error) -> String {
    let words = error.to_string();
    words.split(" (os error").next().unwrap_or(&words).to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const NETWORK: &str = "<network><name>n</name><ip address='10.0.0.1' prefix='24'/></network>\n";

    fn outcome(files: &[(&str, &str)], words: &[&str]) -> Result<String, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("net-xml-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("folder");
        for (name, text) in files {
            std::fs::write(folder.join(name), text).expect("file");
        }
        let path = |word: &&str| match files.iter().any(|(name, _)| name == word) {
            true => folder.join(word).display().to_string(),
            false => (*word).to_owned(),
        };
        let mut words: Vec<String> = words.iter().map(path).collect();
        let validate =
            words.iter().position(|word| word == "--validate").map(|at| words.remove(at)).is_some();
        let args = NetXmlArgs { file: words.remove(0), validate, update: words, parent_index: -1 };
        let outcome = network(&args).map(|network| network.to_xml(&INACTIVE));
        std::fs::remove_dir_all(&folder).expect("clean");
        outcome.map_err(|error| error.replace(&format!("{}/", folder.display()), ""))
    }

    #[test]
    fn canonical_form() {
        let printed = outcome(&[("n.xml", NETWORK)], &["n.xml"]).expect("accepted");
        assert!(printed.contains("  <bridge stp='on' delay='0'/>\n"), "{printed}");
    }

    #[test]
    fn refusals_say_where() {
        let broken = NETWORK.replace("24", "64");
        let error = outcome(&[("n.xml", &broken)], &["n.xml"]).expect_err("refused");
        let first = "unsupported configuration: Invalid IPv4 prefix '64' in network 'n'\n  --> n.xml:1:47\n";
        assert!(error.starts_with(first), "{error}");
        let error = outcome(&[], &["/nonexistent/n.xml"]).expect_err("refused");
        assert_eq!(error, "Failed to open file '/nonexistent/n.xml': No such file or directory");
    }

    #[test]
    fn unknown_things_are_refused_with_validate() {
        let odd = NETWORK.replace("<ip", "<frob/><ip");
        assert!(outcome(&[("n.xml", &odd)], &["n.xml"]).is_ok());
        let error = outcome(&[("n.xml", &odd)], &["n.xml", "--validate"]).expect_err("refused");
        assert!(error.starts_with("XML document failed to validate against schema: "), "{error}");
    }

    #[test]
    fn updates() {
        let range = "<range start='10.0.0.2' end='10.0.0.9'/>";
        let files = [("n.xml", NETWORK), ("range.xml", range)];
        for with in ["range.xml", range] {
            let printed = outcome(&files, &["n.xml", "add", "ip-dhcp-range", with]).expect("accepted");
            assert!(printed.contains(range), "{printed}");
        }
        let error = outcome(&files, &["n.xml", "delete", "ip-dhcp-range", "range.xml"]).expect_err("refused");
        assert!(error.starts_with("Requested operation is not valid: couldn't locate"), "{error}");
        assert!(error.contains("\n  --> range.xml:1:1\n"), "{error}");
        let error = outcome(&files, &["n.xml", "put", "ip-dhcp-range", range]).expect_err("refused");
        assert!(error.starts_with("unrecognized command name 'put'\n"), "{error}");
        let error = outcome(&files, &["n.xml", "add", "dhcp", range]).expect_err("refused");
        assert!(error.starts_with("unrecognized section name 'dhcp'\n"), "{error}");
    }
}
