//! Which elements and attributes there are: for `--validate`, and to name what is ignored.

mod kind;
mod network;
mod port;

use crate::PONTOON_NAMESPACE;
use crate::error::{Class, Error};
use crate::parse::cx::{Cx, Node, Result, attr};
use kind::Kind;

pub(crate) use network::NETWORK;
pub(crate) use port::PORT;

/// The most ignored things that are named.
const MAX_NAMED: usize = 32;

/// An element of the format.
pub(crate) struct Spec {
    name: &'static str,
    namespace: Option<&'static str>,
    attributes: &'static [Attribute],
    content: Content,
}

struct Attribute {
    name: &'static str,
    kind: Kind,
    required: bool,
}

enum Content {
    Children(&'static [Child]),
    Text(Kind),
    /// Not looked into.
    Any,
}

struct Child {
    spec: &'static Spec,
    required: bool,
    many: bool,
}

const fn element(name: &'static str, attributes: &'static [Attribute], children: &'static [Child]) -> Spec {
    Spec { name, namespace: None, attributes, content: Content::Children(children) }
}

const fn text(name: &'static str, kind: Kind) -> Spec {
    Spec { name, namespace: None, attributes: &[], content: Content::Text(kind) }
}

const fn must(name: &'static str, kind: Kind) -> Attribute {
    Attribute { name, kind, required: true }
}

const fn may(name: &'static str, kind: Kind) -> Attribute {
    Attribute { name, kind, required: false }
}

const fn one(spec: &'static Spec) -> Child {
    Child { spec, required: true, many: false }
}

const fn maybe(spec: &'static Spec) -> Child {
    Child { spec, required: false, many: false }
}

const fn any_of(spec: &'static Spec) -> Child {
    Child { spec, required: false, many: true }
}

const fn some_of(spec: &'static Spec) -> Child {
    Child { spec, required: true, many: true }
}

impl Spec {
    fn is(&self, node: Node<'_>) -> bool {
        node.is_element()
            && node.tag_name().name() == self.name
            && node.tag_name().namespace() == self.namespace
    }

    fn child(&self, node: Node<'_>) -> Option<&'static Child> {
        match self.content {
            Content::Children(children) => children.iter().find(|child| child.spec.is(node)),
            Content::Text(_) | Content::Any => None,
        }
    }

    fn attribute(&self, name: &str) -> Option<&'static Attribute> {
        self.attributes.iter().find(|known| known.name == name)
    }
}

/// The first thing in which a document is not what the schema says.
pub(crate) fn check(cx: &Cx<'_>, node: Node<'_>, spec: &Spec) -> Result<()> {
    check_attributes(cx, node, spec)?;
    match &spec.content {
        Content::Any => Ok(()),
        Content::Text(kind) => check_text(cx, node, spec, kind),
        Content::Children(children) => check_children(cx, node, spec, children),
    }
}

fn fail(cx: &Cx<'_>, node: Node<'_>, name: &str, message: &str) -> Error {
    let schema = node.document().root_element().tag_name().name();
    cx.error_at(node, name, Class::Schema, &format!("Unable to validate doc against {schema}.rng: {message}"))
}

fn check_attributes(cx: &Cx<'_>, node: Node<'_>, spec: &Spec) -> Result<()> {
    let element = spec.name;
    for attribute in node.attributes() {
        let name = attribute.name();
        let Some(known) = spec.attribute(name).filter(|_| attribute.namespace().is_none()) else {
            let names: Vec<&str> = spec.attributes.iter().map(|known| known.name).collect();
            let error = fail(cx, node, name, &format!("Invalid attribute {name} for element {element}"));
            return Err(error.with_help(known_words("attributes", &names)));
        };
        if !known.kind.holds(attribute.value()) {
            let message = format!(
                "Error validating value '{}' of attribute {name} of element {element}",
                attribute.value()
            );
            return Err(fail(cx, node, name, &message).with_help(known.kind.help()));
        }
    }
    match spec.attributes.iter().find(|known| known.required && attr(node, known.name).is_none()) {
        None => Ok(()),
        Some(missing) => {
            let message = format!("Element {element} lacks attribute {}", missing.name);
            Err(fail(cx, node, "", &message).with_help(missing.kind.help()))
        }
    }
}

fn check_text(cx: &Cx<'_>, node: Node<'_>, spec: &Spec, kind: &Kind) -> Result<()> {
    if let Some(extra) = node.children().find(Node::is_element) {
        let message = format!("Element {} has extra content: {}", spec.name, extra.tag_name().name());
        return Err(fail(cx, extra, "", &message));
    }
    let text = crate::parse::cx::text_of(node);
    if kind.holds(&text) {
        return Ok(());
    }
    let message = format!("Error validating value '{}' of element {}", text.trim(), spec.name);
    Err(fail(cx, node, "", &message).with_help(kind.help()))
}

fn check_children(cx: &Cx<'_>, node: Node<'_>, spec: &Spec, children: &'static [Child]) -> Result<()> {
    let mut seen: Vec<&str> = Vec::new();
    for inner in node.children() {
        if inner.is_text() && inner.text().is_some_and(|text| !text.trim().is_empty()) {
            return Err(fail(
                cx,
                inner,
                "",
                &format!("Did not expect text in element {} content", spec.name),
            ));
        }
        if !inner.is_element() || is_ours(inner) {
            continue;
        }
        let name = inner.tag_name().name();
        let known = spec.child(inner);
        let Some(known) = known.filter(|known| known.many || !seen.contains(&name)) else {
            let names: Vec<&str> = children.iter().map(|child| child.spec.name).collect();
            let help = match known {
                Some(_) => format!("only one <{name}> is allowed here"),
                None => known_words("elements", &names),
            };
            return Err(fail(cx, inner, "", &format!("Extra element {name} in interleave")).with_help(help));
        };
        if !seen.contains(&name) {
            seen.push(known.spec.name);
        }
        check(cx, inner, known.spec)?;
    }
    match children.iter().find(|child| child.required && !seen.contains(&child.spec.name)) {
        None => Ok(()),
        Some(missing) => {
            let message = format!("Expecting an element {}, got nothing", missing.spec.name);
            Err(fail(cx, node, "", &message)
                .with_help(format!("add <{}> to <{}>", missing.spec.name, spec.name)))
        }
    }
}

fn known_words(what: &str, names: &[&str]) -> String {
    if names.is_empty() {
        format!("there are no {what} here")
    } else {
        format!("{what} here: {}", names.join(", "))
    }
}

/// Our own elements are checked where they are read.
fn is_ours(node: Node<'_>) -> bool {
    node.tag_name().namespace() == Some(PONTOON_NAMESPACE)
}

/// What stands in a document but is not part of the format, each thing with its place.
pub(crate) fn ignored(cx: &Cx<'_>, root: Node<'_>, spec: &'static Spec) -> Vec<String> {
    let mut names = Vec::new();
    let mut waiting = vec![(root, spec)];
    while let Some((node, spec)) = waiting.pop() {
        if matches!(spec.content, Content::Any) {
            continue;
        }
        let place = |node: Node<'_>, name: &str| cx.error_at(node, name, Class::Plain, "").line;
        for attribute in node.attributes() {
            let name = attribute.name();
            if attribute.namespace().is_none() && spec.attribute(name).is_none() {
                names.push(format!("attribute '{name}' of <{}> (line {})", spec.name, place(node, name)));
            }
        }
        for inner in node.children().filter(|inner| inner.is_element() && !is_ours(*inner)) {
            match spec.child(inner) {
                Some(known) => waiting.push((inner, known.spec)),
                None => names.push(format!("<{}> (line {})", inner.tag_name().name(), place(inner, ""))),
            }
            if names.len() >= MAX_NAMED {
                return names;
            }
        }
    }
    names
}
