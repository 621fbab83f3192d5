//! XML subtrees that are kept without being interpreted.

use std::fmt::Write;

use crate::escape::{attribute, text as escape_text};

const XML_NAMESPACE: &str = "http://www.w3.org/XML/1998/namespace";

/// An element kept as written, with the namespace declarations it needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    /// With its prefix.
    pub name: String,
    pub attributes: Vec<(String, String)>,
    pub children: Vec<Content>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Element(Element),
    Text(String),
}

type Node<'a> = roxmltree::Node<'a, 'a>;

impl Element {
    pub(crate) fn from_node(node: Node<'_>) -> Self {
        Self::build(node, true)
    }

    fn build(node: Node<'_>, root: bool) -> Self {
        let mut attributes = declarations(node, root);
        attributes.extend(node.attributes().map(|attr| {
            let name = qualified(node, attr.namespace(), attr.name(), false);
            (name, attr.value().to_owned())
        }));
        let children = node.children().filter_map(|child| {
            if child.is_element() {
                Some(Content::Element(Self::build(child, false)))
            } else if child.is_text() {
                child.text().map(|text| Content::Text(text.to_owned()))
            } else {
                None
            }
        });
        let mut element = Self {
            name: qualified(node, node.tag_name().namespace(), node.tag_name().name(), true),
            attributes,
            children: children.collect(),
        };
        element.drop_layout();
        element
    }

    /// Blank text between elements is layout, not content.
    fn drop_layout(&mut self) {
        let is_blank = |child: &Content| matches!(child, Content::Text(text) if text.trim().is_empty());
        let has_element = self.children.iter().any(|child| matches!(child, Content::Element(_)));
        let has_text =
            self.children.iter().any(|child| matches!(child, Content::Text(_)) && !is_blank(child));
        if has_element && !has_text {
            self.children.retain(|child| !is_blank(child));
        }
    }

    /// The value of an attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn write(&self, out: &mut String, indent: usize, quote: char) {
        let _ = write!(out, "{:indent$}", "");
        self.write_inline(out, indent, quote);
        out.push('\n');
    }

    fn write_inline(&self, out: &mut String, indent: usize, quote: char) {
        let _ = write!(out, "<{}", self.name);
        for (name, value) in &self.attributes {
            let _ = write!(out, " {name}={quote}{}{quote}", attribute(value));
        }
        if self.children.is_empty() {
            out.push_str("/>");
            return;
        }
        out.push('>');
        let mixed = self.children.iter().any(|child| matches!(child, Content::Text(_)));
        for child in &self.children {
            match child {
                Content::Text(text) => out.push_str(&escape_text(text)),
                Content::Element(element) if mixed => element.write_inline(out, indent, quote),
                Content::Element(element) => {
                    let _ = write!(out, "\n{:width$}", "", width = indent + 2);
                    element.write_inline(out, indent + 2, quote);
                }
            }
        }
        if !mixed {
            let _ = write!(out, "\n{:indent$}", "");
        }
        let _ = write!(out, "</{}>", self.name);
    }
}

/// The namespace declarations an element must carry: for the root of the
/// subtree those in scope that the subtree uses, below it the new ones.
fn declarations(node: Node<'_>, root: bool) -> Vec<(String, String)> {
    let used = |uri: &str| {
        node.descendants().any(|inner| {
            inner.tag_name().namespace() == Some(uri)
                || inner.attributes().any(|attr| attr.namespace() == Some(uri))
        })
    };
    let inherited = |space: &roxmltree::Namespace<'_>| {
        node.parent().is_some_and(|parent| parent.namespaces().any(|outer| outer == space))
    };
    let wanted = node.namespaces().filter(|space| {
        space.uri() != XML_NAMESPACE && if root { used(space.uri()) } else { !inherited(space) }
    });
    let name = |space: &roxmltree::Namespace<'_>| {
        space.name().map_or_else(|| "xmlns".to_owned(), |prefix| format!("xmlns:{prefix}"))
    };
    wanted.map(|space| (name(space), space.uri().to_owned())).collect()
}

fn qualified(node: Node<'_>, namespace: Option<&str>, name: &str, is_element: bool) -> String {
    let prefix = match namespace {
        None => None,
        Some(XML_NAMESPACE) => Some("xml"),
        // An element in the default namespace needs no prefix.
        Some(uri) if is_element && node.default_namespace() == Some(uri) => None,
        Some(uri) => {
            node.namespaces().filter(|space| space.uri() == uri).find_map(roxmltree::Namespace::name)
        }
    };
    prefix.map_or_else(|| name.to_owned(), |prefix| format!("{prefix}:{name}"))
}
