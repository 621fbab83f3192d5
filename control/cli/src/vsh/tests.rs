//! virsh's grammar, case by case.

use super::parse::{Args, Line, Words, parse};
use super::shell::commands;
use super::table::{Command, Kind};

fn find(name: &str) -> Result<&'static Command, String> {
    commands().find(|command| command.name == name).ok_or_else(|| format!("unknown command: '{name}'"))
}

fn words(line: &str) -> Result<Args, String> {
    let cut = line.split(' ').map(|word| if word == "''" { String::new() } else { word.to_owned() });
    parse(&mut Words(cut), &find).map(|mut all| all.remove(0))
}

fn line(text: &str) -> Result<Vec<Args>, String> {
    parse(&mut Line::new(text), &find)
}

#[test]
fn options_come_in_any_order_and_form() {
    for form in [
        "net-dhcp-leases default 52:54:00:00:00:01",
        "net-dhcp-leases --network default --mac 52:54:00:00:00:01",
        "net-dhcp-leases --mac=52:54:00:00:00:01 --network=default",
        "net-dhcp-leases --mac 52:54:00:00:00:01 default",
        "net-dhcp-leases --network default 52:54:00:00:00:01",
        "net-dhcp-leases -- default 52:54:00:00:00:01",
    ] {
        let args = words(form).expect(form);
        assert_eq!(args.raw("network"), Some("default"), "{form}");
        assert_eq!(args.raw("mac"), Some("52:54:00:00:00:01"), "{form}");
    }
    let args = words("net-list --all --name").expect("flags");
    assert!(args.has("all") && args.has("name") && !args.has("uuid"));
    let args = words("net-desc default --title a new --config title").expect("words");
    assert_eq!(args.words("new-desc").as_deref(), Some("a new title"));
    assert!(args.has("config"));
}

#[test]
fn faults_have_virsh_s_words() {
    for (line, expected) in [
        ("net-info", "command 'net-info' requires <network> option"),
        ("net-update default", "command 'net-update' requires <command> option"),
        ("net-update default add dns-txt", "command 'net-update' requires <xml> option"),
        ("net-list x", "unexpected data 'x'"),
        ("net-list -q", "unexpected data '-q'"),
        ("net-info default more", "unexpected data 'more'"),
        ("net-info -- default --all", "unexpected data '--all'"),
        ("net-list --al", "command 'net-list' doesn't support option --al"),
        ("net-list --all --all", "option --all already seen"),
        ("net-info --network a --network b", "option --network already seen"),
        ("net-info a --network b", "option --network already seen"),
        ("net-list --all=yes", "invalid '=' after option --all"),
        ("net-dumpxml default --xpath", "expected syntax: --xpath <string>"),
        ("net-event --timeout", "expected syntax: --timeout <number>"),
        ("net-lsit", "unknown command: 'net-lsit'"),
        ("domif-getlink d i --config --persistent", "option --config already seen"),
        ("net-info --help --nope", "command 'net-info' doesn't support option --nope"),
    ] {
        assert_eq!(words(line).err().as_deref(), Some(expected), "{line}");
    }
}

#[test]
fn help_is_a_command_and_an_option_of_all() {
    let args = words("net-update --help").expect("nothing else is required then");
    assert_eq!((args.command.name, args.raw("command")), ("help", Some("net-update")));
    let args = words("help net-list --all more words").expect("help minds nothing");
    assert_eq!(args.raw("command"), Some("net-list"));
}

#[test]
fn empty_and_odd_values_are_named() {
    let error = |line: &str, name: &str| {
        let args = words(line).expect(line);
        args.text(name).expect_err("empty").lines().join("\n")
    };
    assert_eq!(
        error("net-info ''", "network"),
        "error: Failed to get option 'network': Option argument is empty"
    );
    let odd = |line: &str| words(line).expect(line).timeout().expect_err(line).lines().join("\n");
    for value in ["0", "abc", "-1", "2147484", "1x"] {
        assert_eq!(
            odd(&format!("net-event --event lifecycle --timeout {value}")),
            format!("error: Numeric value '{value}' for <timeout> option is malformed or out of range")
        );
    }
    let index = words("net-update n add ip-dhcp-host x --parent-index 1x").expect("line");
    assert!(index.integer("parent-index").is_err());
    let wait = |line: &str| words(line).expect(line).wait(30).expect("seconds");
    assert_eq!(wait("net-dhcp-leases n"), None);
    assert_eq!(wait("net-dhcp-leases n --wait"), Some(30));
    assert_eq!(wait("net-dhcp-leases n --wait=5"), Some(5));
    assert!(words("net-dhcp-leases n --wait=x").expect("line").wait(30).is_err());
}

#[test]
fn one_string_is_many_commands() {
    let all =
        line("net-list --all ; net-info 'my net';net-uuid \"a\\\"b\" # rest\nnet-name x\\ y").expect("line");
    let names: Vec<_> = all.iter().map(|args| args.command.name).collect();
    assert_eq!(names, ["net-list", "net-info", "net-uuid", "net-name"]);
    let given: Vec<_> = all.iter().skip(1).map(|args| args.raw("network").unwrap_or_default()).collect();
    assert_eq!(given, ["my net", "a\"b", "x y"]);
    assert!(line("  ; \n;").expect("nothing").is_empty());
    assert!(line("# only a comment").expect("nothing").is_empty());
    assert_eq!(line("net-info \"default").err().as_deref(), Some("missing \""));
    assert_eq!(line("net-info default\\").err().as_deref(), Some("dangling \\"));
    let faulty = line("net-list; net-nope");
    assert_eq!(faulty.err().as_deref(), Some("unknown command: 'net-nope'"), "then nothing is run");
    let joined = line("net-\\\nlist --all").expect("a line goes on behind a backslash");
    assert_eq!(joined.first().map(|args| args.command.name), Some("net-list"));
}

#[test]
fn tables_keep_virsh_s_rules() {
    for command in commands() {
        let mut optional = false;
        for (index, opt) in command.options.iter().enumerate() {
            assert!(!(opt.positional && opt.unwanted), "{} {}", command.name, opt.name);
            if opt.positional && opt.required {
                assert!(!optional, "{}: {} after an optional one", command.name, opt.name);
            }
            optional |= !opt.required;
            if let Kind::Alias(target) = opt.kind {
                let later = command.options.iter().skip(index).any(|other| other.name == target);
                assert!(later, "{}: {} stands for nothing", command.name, opt.name);
            }
            if opt.kind == Kind::Words {
                assert_eq!(index + 1, command.options.len(), "{}: words come last", command.name);
            }
            let twice = command.options.iter().filter(|other| other.name == opt.name).count();
            assert_eq!(twice, 1, "{} {}", command.name, opt.name);
        }
        assert_eq!(commands().filter(|other| other.name == command.name).count(), 1, "{}", command.name);
        assert!(!super::foreign::is_foreign(command.name), "{}", command.name);
    }
}

#[test]
fn help_is_laid_out_as_virsh_lays_it_out() {
    let text = super::help::command(find("net-uuid").expect("command"), false);
    let expected = "  NAME
    net-uuid - convert a network name to network UUID

  SYNOPSIS
    net-uuid <network> [--json]

  OPTIONS
    [--network] <string>  network name
    --json           print JSON
";
    assert_eq!(text, expected);
    let text = super::help::command(find("net-desc").expect("command"), true);
    assert!(text.contains(
        "net-desc <network> [--live] [--config] [--current] [--title] [--edit] [--json] [<new-desc>]..."
    ));
    assert!(text.contains("\n  EXAMPLES\n    pontoon net-desc default --title"));
    let group = super::help::group(&crate::verbs::GROUPS[0]);
    assert!(group.starts_with(
        " Networking (help keyword 'network'):\n    net-autostart                  autostart a network\n"
    ));
}
