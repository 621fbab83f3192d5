//! The tags of a text, found without reading it as XML.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Open,
    Close,
    Empty,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Tag<'a> {
    /// Of its `<`.
    pub(crate) offset: usize,
    pub(crate) kind: Kind,
    pub(crate) name: &'a str,
}

/// Comments and the like hold no tags.
const OPAQUE: [(&str, &str); 3] = [("<!--", "-->"), ("<![CDATA[", "]]>"), ("<?", "?>")];

/// Ends at a tag or an opaque part that does not end.
pub(crate) fn tags(text: &str) -> impl Iterator<Item = Tag<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let rest = text.get(at..)?;
            let offset = at + rest.find('<')?;
            let rest = text.get(offset..)?;
            if let Some((open, close)) = OPAQUE.iter().find(|(open, _)| rest.starts_with(open)) {
                at = offset + open.len() + rest.get(open.len()..)?.find(close)? + close.len();
                continue;
            }
            let body = rest.get(1..)?.strip_prefix('/');
            let (kind, body) = body.map_or((Kind::Open, rest.get(1..)?), |body| (Kind::Close, body));
            let length = tag_length(body)?;
            let inner = body.get(..length)?;
            at = offset + (rest.len() - body.len()) + length + 1;
            let kind = if kind == Kind::Open && inner.ends_with('/') { Kind::Empty } else { kind };
            let name = inner.split(|c: char| c.is_whitespace() || c == '/').next().unwrap_or("");
            return Some(Tag { offset, kind, name });
        }
    })
}

/// The bytes before the `>`, which may also stand in a quote.
fn tag_length(tag: &str) -> Option<usize> {
    let mut quote = None;
    tag.bytes().position(|byte| {
        match quote {
            Some(open) if open == byte => quote = None,
            None if byte == b'\'' || byte == b'"' => quote = Some(byte),
            _ => {}
        }
        quote.is_none() && byte == b'>'
    })
}

/// The innermost element that is open before `until`.
pub(crate) fn innermost(text: &str, until: usize) -> Option<Tag<'_>> {
    let mut open = Vec::new();
    for tag in tags(text).take_while(|tag| tag.offset < until) {
        match tag.kind {
            Kind::Open => open.push(tag),
            Kind::Close => drop(open.pop()),
            Kind::Empty => {}
        }
    }
    open.pop()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_tags() {
        let text = "<a b='>'><!-- <x> --><b/><?p <y> ?><![CDATA[<z>]]></a ><c";
        let found: Vec<(Kind, &str)> = tags(text).map(|tag| (tag.kind, tag.name)).collect();
        assert_eq!(found, [(Kind::Open, "a"), (Kind::Empty, "b"), (Kind::Close, "a")]);
        assert_eq!(innermost("<a>\n<b>\n<c></c>", 99).map(|tag| tag.name), Some("b"));
        assert!(innermost("<a></a>", 99).is_none());
        assert_eq!(tags("<!-- <a>").count() + tags("< é").count() + tags("<a '>").count(), 0);
    }
}
