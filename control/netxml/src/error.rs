//! Errors with the position they point at.

use std::fmt::Write;

use crate::scan::innermost;

/// Why a document was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The message, with the prefix of its class.
    pub message: String,
    /// 1-based; 0 when unknown.
    pub line: u32,
    /// 1-based, in characters; 0 when unknown.
    pub column: u32,
    /// The text of the line.
    pub source_line: String,
    /// How to mend it.
    pub help: Option<String>,
}

/// The class of a message decides its prefix.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Class {
    Xml,
    Internal,
    Unsupported,
    Invalid,
    Impossible,
    Schema,
    Plain,
}

impl Class {
    fn prefix(self) -> &'static str {
        match self {
            Self::Xml => "XML error: ",
            Self::Internal => "internal error: ",
            Self::Unsupported => "unsupported configuration: ",
            Self::Invalid => "Requested operation is not valid: ",
            Self::Impossible => "Operation not supported: ",
            Self::Schema => "XML document failed to validate against schema: ",
            Self::Plain => "",
        }
    }
}

impl Error {
    pub(crate) fn new(text: &str, offset: usize, class: Class, message: &str) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.matches('\n').count() + 1;
        let column = before.get(line_start..).unwrap_or("").chars().count() + 1;
        let source = text.get(line_start..).unwrap_or("").lines().next().unwrap_or("");
        Self {
            message: format!("{}{message}", class.prefix()),
            line: u32::try_from(line).unwrap_or(0),
            column: u32::try_from(column).unwrap_or(0),
            source_line: source.to_owned(),
            help: None,
        }
    }

    /// A text that is no XML; `source` is how the message names it.
    pub(crate) fn malformed(text: &str, source: &str, error: &roxmltree::Error) -> Self {
        let pos = error.pos();
        let line = text.lines().nth(pos.row.saturating_sub(1) as usize).unwrap_or("");
        let (what, help) = malformed_words(text, error);
        Self {
            message: format!("{source}:{}: {what}", pos.row),
            line: pos.row,
            column: pos.col,
            source_line: line.to_owned(),
            help,
        }
    }

    /// An error of no place.
    pub(crate) fn placeless(class: Class, message: &str) -> Self {
        Self {
            message: format!("{}{message}", class.prefix()),
            line: 0,
            column: 0,
            source_line: String::new(),
            help: None,
        }
    }

    pub(crate) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The message, then the place in `file`, the line with a mark under the
    /// offending column, and the help. The first line is the message alone.
    pub fn render(&self, file: &str) -> String {
        let mut out = self.message.trim_end().to_owned();
        if self.line == 0 {
            let _ = write!(out, "\n  --> {file}");
        } else {
            let _ = write!(out, "\n  --> {file}:{}:{}", self.line, self.column);
            let (line, mark) = self.excerpt();
            let _ = write!(out, "\n   | {line}\n   | {mark}^");
        }
        if let Some(help) = &self.help {
            let _ = write!(out, "\n   = help: {help}");
        }
        out
    }

    /// The source line fit for a terminal, and the blanks before the mark.
    fn excerpt(&self) -> (String, String) {
        const WIDTH: usize = 160;
        let column = (self.column as usize).saturating_sub(1);
        let skip = if column > WIDTH { column - WIDTH / 2 } else { 0 };
        let visible = |c: char| if c.is_control() { ' ' } else { c };
        let line: String = self.source_line.chars().skip(skip).take(WIDTH).map(visible).collect();
        (line.trim_end().to_owned(), " ".repeat(column - skip))
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.get(..offset).unwrap_or(text).matches('\n').count() + 1
}

fn offset(text: &str, pos: roxmltree::TextPos) -> usize {
    let lines = text.split_inclusive('\n').take(pos.row.saturating_sub(1) as usize);
    let before: usize = lines.map(str::len).sum();
    let line = text.get(before..).unwrap_or("");
    let column = line.char_indices().nth(pos.col.saturating_sub(1) as usize);
    before + column.map_or(line.len(), |(at, _)| at)
}

fn premature_end(text: &str) -> String {
    match innermost(text, text.len()) {
        Some(open) => {
            format!("Premature end of data in tag {} line {}", open.name, line_of(text, open.offset))
        }
        None => "Couldn't find end of Start Tag".to_owned(),
    }
}

/// What is wrong in libxml2's words, where it has some.
fn malformed_words(text: &str, error: &roxmltree::Error) -> (String, Option<String>) {
    use roxmltree::Error as Xml;
    let what = match error {
        Xml::UnexpectedCloseTag(expected, actual, pos) => {
            let open = innermost(text, offset(text, *pos));
            let line = open.map_or_else(String::new, |open| format!(" line {}", line_of(text, open.offset)));
            format!("Opening and ending tag mismatch: {expected}{line} and {actual}")
        }
        Xml::UnclosedRootNode => premature_end(text),
        Xml::NoRootNode if text.trim().is_empty() => "Document is empty".to_owned(),
        Xml::NoRootNode if text.contains('<') => premature_end(text),
        Xml::NoRootNode => "Start tag expected, '<' not found".to_owned(),
        Xml::DuplicatedAttribute(name, _) => format!("Attribute {name} redefined"),
        Xml::UnknownEntityReference(name, _) => format!("Entity '{name}' not defined"),
        Xml::MalformedEntityReference(_) => "xmlParseEntityRef: no name".to_owned(),
        Xml::UnknownNamespace(prefix, _) => {
            let help = match prefix.as_str() {
                "dnsmasq" => format!("write xmlns:dnsmasq='{}' in <network>", crate::DNSMASQ_NAMESPACE),
                "pontoon" => format!("write xmlns:pontoon='{}' in <network>", crate::PONTOON_NAMESPACE),
                _ => format!("write xmlns:{prefix}='..' in the element or around it"),
            };
            return (format!("Namespace prefix {prefix} is not defined"), Some(help));
        }
        other => {
            let words = other.to_string();
            words.strip_suffix(&format!(" at {}", other.pos())).unwrap_or(&words).to_owned()
        }
    };
    (what, None)
}
