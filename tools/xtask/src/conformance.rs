//! Which requirement of which specification is met where, and where that is tested: a page made of a list and of comments
//! in the source (`tools/xtask/nat-requirements.txt` says how they look).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

const LIST: &str = "tools/xtask/nat-requirements.txt";
const PAGE: &str = "docs/nat-conformance.md";
/// Where comments are looked for.
const PLACES: &[&str] = &["datapath", "control", "tests"];
const MARK: &str = "//= ";
const TEST: &str = " type=test";

/// One line of the list.
struct Requirement {
    id: String,
    level: String,
    text: String,
    /// Empty: it is met.
    remark: String,
}

/// A heading, or a requirement below it.
enum Line {
    Heading(String),
    Requirement(Requirement),
}

/// A comment that names a requirement.
#[derive(Debug, PartialEq, Eq)]
struct Citation {
    file: String,
    /// The function or type it is at.
    name: String,
    is_test: bool,
}

type Citations = BTreeMap<String, Vec<Citation>>;

/// Writes the page, or with `check` holds it against what is there; what is wrong, one line each, and how many are open.
///
/// # Errors
/// A file cannot be read or written.
pub(crate) fn run(root: &Path, check: bool) -> io::Result<(Vec<String>, usize)> {
    let lines = list(&fs::read_to_string(root.join(LIST))?);
    let mut citations = Citations::new();
    for place in PLACES {
        scan(root, &root.join(place), &mut citations)?;
    }
    let mut wrong = verdicts(&lines, &citations);
    let page = page(&lines, &citations);
    if !check {
        fs::write(root.join(PAGE), page)?;
    } else if fs::read_to_string(root.join(PAGE)).unwrap_or_default() != page {
        wrong.push(format!("{PAGE} is stale; make it anew: cargo xtask nat-conformance"));
    }
    Ok((wrong, requirements(&lines).filter(|one| one.is_open()).count()))
}

impl Requirement {
    fn parse(line: &str) -> Self {
        let mut fields = line.split(" | ").map(|field| field.trim().to_owned());
        let mut next = || fields.next().unwrap_or_default();
        Self { id: next(), level: next(), text: next(), remark: next() }
    }

    fn is_open(&self) -> bool {
        self.remark.starts_with("open") || self.remark.starts_with("partly")
    }

    fn is_declined(&self) -> bool {
        self.remark.starts_with("declined")
    }
}

fn list(text: &str) -> Vec<Line> {
    let kept = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    kept.map(|line| match line.strip_prefix("== ") {
        Some(heading) => Line::Heading(heading.to_owned()),
        None => Line::Requirement(Requirement::parse(line)),
    })
    .collect()
}

fn requirements(lines: &[Line]) -> impl Iterator<Item = &Requirement> {
    lines.iter().filter_map(|line| match line {
        Line::Requirement(one) => Some(one),
        Line::Heading(_) => None,
    })
}

fn scan(root: &Path, directory: &Path, into: &mut Citations) -> io::Result<()> {
    let mut entries = fs::read_dir(directory)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::path);
    for path in entries.iter().map(fs::DirEntry::path) {
        if path.is_dir() && !path.ends_with("target") {
            scan(root, &path, into)?;
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            let file = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            cite(&file, &fs::read_to_string(&path)?, into);
        }
    }
    Ok(())
}

fn cite(file: &str, text: &str, into: &mut Citations) {
    let lines: Vec<&str> = text.lines().collect();
    for (number, line) in lines.iter().enumerate() {
        let Some(words) = line.trim_start().strip_prefix(MARK) else { continue };
        let (ids, is_test) = match words.strip_suffix(TEST) {
            Some(ids) => (ids, true),
            None => (words, false),
        };
        let name = item(&lines, number);
        for id in ids.split(", ") {
            let citation = Citation { file: file.to_owned(), name: name.clone(), is_test };
            let known = into.entry(id.trim().to_owned()).or_default();
            if !known.contains(&citation) {
                known.push(citation);
            }
        }
    }
}

/// What the comment in line `at` is about: the item that follows, or the function it is in.
fn item(lines: &[&str], at: usize) -> String {
    let behind = lines.iter().skip(at + 1).map(|line| line.trim_start());
    let next = behind.clone().find(|line| !line.starts_with("//") && !line.starts_with("#["));
    let before = || lines.iter().take(at).rev().find_map(|line| declared(line));
    next.and_then(declared).or_else(before).unwrap_or_default()
}

/// The name a line declares.
fn declared(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let at = words.iter().position(|word| matches!(*word, "fn" | "struct" | "enum" | "const" | "mod"))?;
    let is_declaration = words.iter().take(at).all(|word| word.starts_with("pub") || *word == "async");
    let name: String = words.get(at + 1)?.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (is_declaration && !name.is_empty()).then_some(name)
}

fn verdicts(lines: &[Line], citations: &Citations) -> Vec<String> {
    let mut wrong = Vec::new();
    for one in requirements(lines) {
        let cited = citations.get(&one.id).map_or(&[][..], Vec::as_slice);
        if one.is_open() || one.is_declined() {
            if one.is_declined() && one.level == "MUST" {
                wrong.push(format!("{LIST}: {} is a MUST, which cannot be declined", one.id));
            }
            continue;
        }
        for (is_test, what) in [(false, "code"), (true, "test")] {
            if !cited.iter().any(|citation| citation.is_test == is_test) {
                let kind = if is_test { TEST } else { "" };
                wrong.push(format!("{}: no {what} is marked {MARK}{}{kind}", one.id, one.id));
            }
        }
    }
    for (id, cited) in citations {
        if !requirements(lines).any(|one| one.id == *id) {
            let file = cited.first().map_or("", |citation| citation.file.as_str());
            wrong.push(format!("{file}: {id} is not in {LIST}"));
        }
    }
    wrong
}

const HEAD: &str = "\
# What the NAT is asked for, and where it does that

Made by `cargo xtask nat-conformance` of `tools/xtask/nat-requirements.txt` and of comments in the source. Levels are those
of the specifications; \"ours\" is what pontoon asks of itself beyond them.
";

fn page(lines: &[Line], citations: &Citations) -> String {
    let mut out = String::from(HEAD);
    let all = requirements(lines);
    let (open, declined) =
        all.fold((0, 0), |(a, b), one| (a + usize::from(one.is_open()), b + usize::from(one.is_declined())));
    let count = requirements(lines).count();
    out.push_str(&format!("\n{count} requirements: {open} open, {declined} declined, the others met.\n"));
    for line in lines {
        match line {
            Line::Heading(text) => {
                out.push_str(&format!("\n## {text}\n\n| | level | requirement | status | code | test |\n"));
                out.push_str("|---|---|---|---|---|---|\n");
            }
            Line::Requirement(one) => out.push_str(&row(one, citations)),
        }
    }
    out
}

fn row(one: &Requirement, citations: &Citations) -> String {
    let cited = citations.get(&one.id).map_or(&[][..], Vec::as_slice);
    let links = |is_test: bool| {
        let of_kind = cited.iter().filter(|citation| citation.is_test == is_test);
        of_kind.map(Citation::link).collect::<Vec<_>>().join(", ")
    };
    let number = one.id.split_once('#').map_or(one.id.as_str(), |(_, number)| number);
    let status = if one.remark.is_empty() { "met" } else { one.remark.as_str() };
    let (code, test) = (links(false), links(true));
    format!("| {number} | {} | {} | {status} | {code} | {test} |\n", one.level, one.text)
}

impl Citation {
    fn link(&self) -> String {
        format!("[{}](../{})", self.name, self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "\
//= RFC1#REQ-1, RFC1#REQ-2
/// Says something.
#[inline]
pub(super) fn one() {
    let two = 2;
    //= RFC1#REQ-3
    three(two);
}

//= RFC1#REQ-1 type=test
#[test]
fn four() {}
";

    fn citations() -> Citations {
        let mut found = Citations::new();
        cite("a.rs", SOURCE, &mut found);
        found
    }

    #[test]
    fn comments_are_about_what_follows_or_what_they_are_in() {
        let found = citations();
        let at = |name: &str, is_test| Citation { file: "a.rs".into(), name: name.into(), is_test };
        assert_eq!(found["RFC1#REQ-1"], [at("one", false), at("four", true)]);
        assert_eq!(found["RFC1#REQ-3"], [at("one", false)]);
    }

    #[test]
    fn what_is_neither_marked_nor_open_nor_declined_is_wrong() {
        let lines = list(
            "# x\n== h\nRFC1#REQ-1 | MUST | a\nRFC1#REQ-2 | MUST | b\nRFC1#REQ-4 | MAY | c | declined: d",
        );
        let wrong = verdicts(&lines, &citations());
        let expected = [
            "RFC1#REQ-2: no test is marked //= RFC1#REQ-2 type=test".to_owned(),
            format!("a.rs: RFC1#REQ-3 is not in {LIST}"),
        ];
        assert_eq!(wrong, expected);
        let lines = list("RFC1#REQ-1 | MUST | a | declined: b");
        assert!(verdicts(&lines, &Citations::new())[0].contains("cannot be declined"));
        let page = page(&lines, &citations());
        assert!(
            page.contains("| REQ-1 | MUST | a | declined: b | [one](../a.rs) | [four](../a.rs) |"),
            "{page}"
        );
    }
}
