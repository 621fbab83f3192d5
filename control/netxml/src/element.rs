//! XML subtrees that are kept without being interpreted.

use std::fmt::Write;

use crate::escape::{kept_attribute, kept_text};

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
    /// Without its marks.
    Comment(String),
    /// Without its marks.
    Instruction(String),
}

type Node<'a> = roxmltree::Node<'a, 'a>;

/// Whether white space that only lays out elements is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blanks {
    Drop,
    Keep,
}

impl Element {
    /// A `<metadata>` element: of its children, one element of each namespace stays.
    pub(crate) fn metadata(node: Node<'_>) -> Self {
        let mut seen = Vec::new();
        let mut first = |child: &Node<'_>| {
            let space = child.tag_name().namespace();
            let fresh = child.is_element() && space.is_some() && !seen.contains(&space.map(str::to_owned));
            seen.push(space.map(str::to_owned));
            fresh
        };
        let children = node.children().filter(&mut first);
        let children = children.map(|child| Content::Element(Self::build(child, false, Blanks::Drop)));
        Self { children: children.collect(), ..Self::shell(node, true) }
    }

    pub(crate) fn from_node(node: Node<'_>, blanks: Blanks) -> Self {
        Self::build(node, true, blanks)
    }

    /// Name and attributes.
    fn shell(node: Node<'_>, root: bool) -> Self {
        let mut attributes = declarations(node, root);
        attributes.extend(node.attributes().map(|attr| {
            let name = qualified(node, attr.namespace(), attr.name(), false);
            (name, attr.value().to_owned())
        }));
        let name = qualified(node, node.tag_name().namespace(), node.tag_name().name(), true);
        Self { name, attributes, children: Vec::new() }
    }

    fn build(node: Node<'_>, root: bool, blanks: Blanks) -> Self {
        let mut element = Self::shell(node, root);
        for child in node.children() {
            if child.is_element() {
                element.children.push(Content::Element(Self::build(child, false, blanks)));
            } else if let Some(text) = child.text().filter(|_| child.is_text()) {
                let alone = child.prev_sibling().is_none() && child.next_sibling().is_none();
                if blanks == Blanks::Keep || alone || !element.lays_out(text) {
                    element.children.push(Content::Text(text.to_owned()));
                }
            } else if let Some(text) = child.text().filter(|_| child.is_comment()) {
                element.children.push(Content::Comment(text.to_owned()));
            } else if let Some(pi) = child.pi() {
                let value = pi.value.map_or_else(String::new, |value| format!(" {value}"));
                element.children.push(Content::Instruction(format!("{}{value}", pi.target)));
            }
        }
        element
    }

    /// Whether blank text that follows the children so far is layout, by libxml2's rule.
    fn lays_out(&self, text: &str) -> bool {
        let blank = text.chars().all(|c| matches!(c, ' ' | '\t' | '\n' | '\r'));
        blank && !matches!(self.children.first(), Some(Content::Text(_)))
    }

    /// The value of an attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The child of a namespace, which it or this element declares.
    pub(crate) fn child_of(&self, uri: &str) -> Option<&Self> {
        self.children.iter().find_map(|child| match child {
            Content::Element(element) if element.namespace(self) == Some(uri) => Some(element),
            _ => None,
        })
    }

    pub(crate) fn remove_child_of(&mut self, uri: &str) {
        let shell = Self { attributes: self.attributes.clone(), ..Self::default() };
        self.children.retain(|child| match child {
            Content::Element(element) => element.namespace(&shell) != Some(uri),
            _ => true,
        });
    }

    fn namespace<'a>(&'a self, parent: &'a Self) -> Option<&'a str> {
        let declaration = match self.name.split_once(':') {
            Some((prefix, _)) => format!("xmlns:{prefix}"),
            None => "xmlns".to_owned(),
        };
        self.attribute(&declaration).or_else(|| parent.attribute(&declaration))
    }

    /// This element without the prefix that stands for `uri` and its declaration.
    pub(crate) fn without_namespace(&self, uri: &str) -> Self {
        let mut copy = self.clone();
        let own = copy.attributes.iter().position(|(name, value)| name.starts_with("xmlns") && value == uri);
        if let Some(at) = own {
            let (name, _) = copy.attributes.remove(at);
            if let Some(prefix) = name.strip_prefix("xmlns:") {
                copy.map_names(&|name| {
                    name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix(':')).map(str::to_owned)
                });
            }
        }
        copy
    }

    /// This element with a declared prefix on every element that has none.
    pub(crate) fn with_namespace(mut self, uri: &str, prefix: &str) -> Self {
        self.attributes.insert(0, (format!("xmlns:{prefix}"), uri.to_owned()));
        self.map_names(&|name| (!name.contains(':')).then(|| format!("{prefix}:{name}")));
        self
    }

    fn map_names(&mut self, change: &dyn Fn(&str) -> Option<String>) {
        if let Some(name) = change(&self.name) {
            self.name = name;
        }
        for child in &mut self.children {
            if let Content::Element(element) = child {
                element.map_names(change);
            }
        }
    }

    pub(crate) fn write(&self, out: &mut String, indent: usize) {
        let _ = write!(out, "{:indent$}", "");
        self.write_at(out, Some(indent));
        out.push('\n');
    }

    /// Children stand on lines of their own, except where text is among them; `None` is inside such
    /// text.
    fn write_at(&self, out: &mut String, indent: Option<usize>) {
        let _ = write!(out, "<{}", self.name);
        for (name, value) in &self.attributes {
            let _ = write!(out, " {name}=\"{}\"", kept_attribute(value));
        }
        if self.children.is_empty() {
            out.push_str("/>");
            return;
        }
        out.push('>');
        let mixed = self.children.iter().any(|child| matches!(child, Content::Text(_)));
        let inner = indent.filter(|_| !mixed);
        for child in &self.children {
            if let Some(indent) = inner {
                let _ = write!(out, "\n{:width$}", "", width = indent + 2);
            }
            match child {
                Content::Text(text) => out.push_str(&kept_text(text)),
                Content::Element(element) => element.write_at(out, inner.map(|indent| indent + 2)),
                Content::Comment(text) => drop(write!(out, "<!--{text}-->")),
                Content::Instruction(text) => drop(write!(out, "<?{text}?>")),
            }
        }
        if let Some(indent) = inner {
            let _ = write!(out, "\n{:indent$}", "");
        }
        let _ = write!(out, "</{}>", self.name);
    }
}

/// The namespace declarations an element must carry: its own, and for the root of the subtree those
/// further out that the subtree uses.
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
    let wanted = node
        .namespaces()
        .filter(|space| space.uri() != XML_NAMESPACE && (!inherited(space) || (root && used(space.uri()))));
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
