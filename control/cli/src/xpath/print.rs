//! Nodes as libxml2 prints them: double quotes, two blanks of indentation where no text would change.

use std::fmt::Write;

use roxmltree::Node;

use super::eval::{Item, is_layout};

// Writing to a String cannot fail, so results of `write!` are dropped here.

pub(super) fn each(items: &[Item<'_, '_>]) -> String {
    items.iter().fold(String::new(), |mut text, item| {
        match item {
            Item::Attribute(.., attribute) => attribute_text(&mut text, attribute.name(), attribute.value()),
            Item::Node(node) => node_text(&mut text, *node, Some(0)),
        }
        text.push('\n');
        text
    })
}

/// All of it inside `<nodes>`: attributes become attributes of it, the last of a name wins; where text is among the
/// nodes nothing is indented.
pub(super) fn wrapped(items: &[Item<'_, '_>]) -> String {
    let mut attributes: Vec<(&str, &str)> = Vec::new();
    let mut nodes = Vec::new();
    for item in items {
        match item {
            Item::Attribute(.., attribute) => {
                attributes.retain(|(name, _)| *name != attribute.name());
                attributes.push((attribute.name(), attribute.value()));
            }
            Item::Node(node) => nodes.push(*node),
        }
    }
    let mut text = "<nodes".to_owned();
    attributes.iter().for_each(|(name, value)| attribute_text(&mut text, name, value));
    if nodes.is_empty() {
        return text + "/>\n";
    }
    text.push('>');
    let indented = !nodes.iter().any(Node::is_text);
    for node in nodes {
        text.push_str(if indented { "\n  " } else { "" });
        node_text(&mut text, node, indented.then_some(1));
    }
    text + if indented { "\n</nodes>\n" } else { "</nodes>\n" }
}

fn attribute_text(text: &mut String, name: &str, value: &str) {
    let value = escaped(value).replace('"', "&quot;").replace('\n', "&#10;").replace('\t', "&#9;");
    let _ = write!(text, " {name}=\"{value}\"");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\r', "&#13;")
}

/// `level` is the indentation; `None` where layout must not be touched.
fn node_text(text: &mut String, node: Node<'_, '_>, level: Option<usize>) {
    if node.is_root() {
        text.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        for child in node.children() {
            node_text(text, child, level);
            text.push('\n');
        }
    } else if node.is_comment() {
        let _ = write!(text, "<!--{}-->", node.text().unwrap_or_default());
    } else if node.is_text() {
        text.push_str(&escaped(node.text().unwrap_or_default()));
    } else {
        element_text(text, node, level);
    }
}

fn element_text(text: &mut String, node: Node<'_, '_>, level: Option<usize>) {
    let name = qualified(node);
    let _ = write!(text, "<{name}");
    let above: Vec<_> = node.parent().into_iter().flat_map(|parent| parent.namespaces()).collect();
    for namespace in node.namespaces().filter(|namespace| !above.contains(namespace)) {
        let attribute = namespace.name().map_or_else(|| "xmlns".to_owned(), |name| format!("xmlns:{name}"));
        attribute_text(text, &attribute, namespace.uri());
    }
    for attribute in node.attributes() {
        let prefix = attribute.namespace().and_then(|uri| node.lookup_prefix(uri));
        let name = prefix
            .map_or_else(|| attribute.name().to_owned(), |prefix| format!("{prefix}:{}", attribute.name()));
        attribute_text(text, &name, attribute.value());
    }
    let children: Vec<_> = node.children().filter(|child| !is_layout(child)).collect();
    if children.is_empty() {
        text.push_str("/>");
        return;
    }
    text.push('>');
    let level = level.filter(|_| !children.iter().any(Node::is_text));
    for child in children {
        if let Some(level) = level {
            let _ = write!(text, "\n{}", "  ".repeat(level + 1));
        }
        node_text(text, child, level.map(|level| level + 1));
    }
    if let Some(level) = level {
        let _ = write!(text, "\n{}", "  ".repeat(level));
    }
    let _ = write!(text, "</{name}>");
}

/// The name with its prefix.
pub(super) fn qualified(node: Node<'_, '_>) -> String {
    let name = node.tag_name().name();
    match node
        .tag_name()
        .namespace()
        .and_then(|uri| node.lookup_prefix(uri))
        .filter(|prefix| !prefix.is_empty())
    {
        Some(prefix) => format!("{prefix}:{name}"),
        None => name.to_owned(),
    }
}
