//! Files that are not UTF-8. libvirt reads no other encoding either, whatever a file says of itself.

/// Where a file is not UTF-8, in libxml2's words, and how to mend it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Undecoded {
    pub(crate) line: usize,
    pub(crate) words: &'static str,
    pub(crate) help: String,
}

/// The text of a file; `name` is for the advice.
pub(crate) fn decode(bytes: Vec<u8>, name: &str) -> Result<String, Undecoded> {
    let wide = bytes.starts_with(b"\xff\xfe")
        || bytes.starts_with(b"\xfe\xff")
        || bytes.iter().take(4).any(|byte| *byte == 0);
    if wide {
        let words = "Start tag expected, '<' not found";
        return Err(Undecoded { line: 1, words, help: advice("UTF-16", name) });
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
        let words = "Input is not proper UTF-8, indicate encoding !";
        Undecoded { line, words, help: advice(declared(error.as_bytes()).unwrap_or("ISO-8859-1"), name) }
    })
}

fn advice(encoding: &str, name: &str) -> String {
    format!("save the file as UTF-8: iconv -f {encoding} -t UTF-8 {name} | sed '1s/ encoding=[^ ?]*//'")
}

/// The encoding that the XML declaration names, other than UTF-8.
fn declared(bytes: &[u8]) -> Option<&str> {
    let first = bytes.get(..bytes.len().min(200))?;
    let end = first.windows(2).position(|two| two == b"?>")?;
    let line = std::str::from_utf8(first.get(..end)?).ok()?;
    let value = line.split_once("encoding=")?.1;
    let named = value.trim_start_matches(['"', '\'']).split(['"', '\'']).next()?;
    let sound = named.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    (sound && !named.is_empty() && !named.eq_ignore_ascii_case("utf-8")).then_some(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_encodings_are_named_with_a_way_out() {
        let latin = b"<?xml version='1.0' encoding='ISO-8859-15'?>\n<title>caf\xe9</title>".to_vec();
        let found = decode(latin, "n.xml").expect_err("latin");
        assert_eq!((found.line, found.words), (2, "Input is not proper UTF-8, indicate encoding !"));
        assert!(found.help.contains("iconv -f ISO-8859-15 -t UTF-8 n.xml"), "{}", found.help);
        let lying = b"<?xml version='1.0' encoding='UTF-8; rm'?><t>\xe9</t>".to_vec();
        assert!(decode(lying, "n.xml").expect_err("latin").help.contains("iconv -f ISO-8859-1 "));
        for wide in [b"\xff\xfe<\0".to_vec(), b"\0<\0n".to_vec(), b"<\0n\0".to_vec()] {
            assert!(decode(wide, "n.xml").expect_err("wide").help.contains("UTF-16"));
        }
        let text = "<title>caf\u{e9}</title>";
        assert_eq!(decode(text.as_bytes().to_vec(), "n.xml").as_deref(), Ok(text));
    }
}
