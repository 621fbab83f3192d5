//! Escaping of text for XML output.

/// Escape an attribute value of the format; line ends and tabs survive as references.
pub(crate) fn attribute(value: &str) -> String {
    escape(value, |c| match c {
        '\n' => Some("&#10;"),
        '\r' => Some("&#13;"),
        '\t' => Some("&#9;"),
        _ => markup(c).or_else(|| quote(c)),
    })
}

/// Escape character data of the format: quotes as well, as libvirt does.
pub(crate) fn text(value: &str) -> String {
    escape(value, |c| if c == '\r' { Some("&#13;") } else { markup(c).or_else(|| quote(c)) })
}

/// Escape an attribute value of a kept element, as libxml2 does between double quotes.
pub(crate) fn kept_attribute(value: &str) -> String {
    escape(value, |c| match c {
        '\n' => Some("&#10;"),
        '\r' => Some("&#13;"),
        '\t' => Some("&#9;"),
        '"' => Some("&quot;"),
        _ => markup(c),
    })
}

/// Escape character data of a kept element, as libxml2 does.
pub(crate) fn kept_text(value: &str) -> String {
    escape(value, |c| if c == '\r' { Some("&#13;") } else { markup(c) })
}

fn markup(c: char) -> Option<&'static str> {
    match c {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        _ => None,
    }
}

fn quote(c: char) -> Option<&'static str> {
    match c {
        '\'' => Some("&apos;"),
        '"' => Some("&quot;"),
        _ => None,
    }
}

fn escape(value: &str, reference: impl Fn(char) -> Option<&'static str>) -> String {
    value.chars().fold(String::with_capacity(value.len()), |mut out, c| {
        match reference(c) {
            Some(reference) => out.push_str(reference),
            None => out.push(c),
        }
        out
    })
}
