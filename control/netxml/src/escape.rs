//! Escaping of text for XML output.

/// Escape an attribute value; line ends and tabs survive as references.
pub(crate) fn attribute(value: &str) -> String {
    value.chars().fold(String::with_capacity(value.len()), |mut out, c| {
        match c {
            '\n' => out.push_str("&#10;"),
            '\r' => out.push_str("&#13;"),
            '\t' => out.push_str("&#9;"),
            '\'' => out.push_str("&apos;"),
            '"' => out.push_str("&quot;"),
            _ => push_common(&mut out, c),
        }
        out
    })
}

/// Escape character data.
pub(crate) fn text(value: &str) -> String {
    value.chars().fold(String::with_capacity(value.len()), |mut out, c| {
        match c {
            '\r' => out.push_str("&#13;"),
            _ => push_common(&mut out, c),
        }
        out
    })
}

fn push_common(out: &mut String, c: char) {
    match c {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        _ => out.push(c),
    }
}
