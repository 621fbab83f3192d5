//! `<pontoon:log>`.

use super::cx::{Cx, Node, Result};
use crate::PONTOON_NAMESPACE;
use crate::error::Class;

pub(super) const TAG: &str = "log";

/// Whether mappings are logged, if the definition says.
pub(super) fn mappings(cx: &Cx<'_>, root: Node<'_>) -> Result<Option<bool>> {
    let ours = |node: &Node<'_>| {
        node.tag_name().namespace() == Some(PONTOON_NAMESPACE) && node.tag_name().name() == TAG
    };
    let mut all = root.children().filter(Node::is_element).filter(ours);
    let Some(node) = all.next() else { return Ok(None) };
    if let Some(second) = all.next() {
        let message = format!("multiple <pontoon:log> elements in network '{}'", cx.name);
        return Err(cx.error(second, Class::Xml, &message));
    }
    if let Some(other) = node.attributes().find(|a| a.namespace().is_some() || a.name() != "mappings") {
        let message = format!("unknown attribute '{}' in element 'log'", other.name());
        return Err(cx.xml(node, other.name(), &message).with_help("known attributes: mappings"));
    }
    match cx.required(node, "mappings")? {
        "yes" => Ok(Some(true)),
        "no" => Ok(Some(false)),
        other => {
            let message = format!("Invalid value for attribute 'mappings' in element 'log': '{other}'.");
            Err(cx.xml(node, "mappings", &message).with_help("write mappings='yes' or mappings='no'"))
        }
    }
}
