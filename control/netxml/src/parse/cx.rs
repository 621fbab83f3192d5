//! What every part of the parser needs: errors with a place, attributes, addresses.

use std::net::IpAddr;

use crate::error::{Class, Error};
use crate::value;

pub(crate) type Node<'a> = roxmltree::Node<'a, 'a>;
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// The document text and the name of the network being read.
pub(crate) struct Cx<'a> {
    pub(crate) text: &'a str,
    pub(crate) name: String,
}

/// The child elements of `node` that carry `name` and no namespace.
pub(crate) fn children<'a>(node: Node<'a>, name: &'static str) -> impl Iterator<Item = Node<'a>> {
    node.children().filter(move |child| is_plain(*child, name))
}

pub(crate) fn child<'a>(node: Node<'a>, name: &'static str) -> Option<Node<'a>> {
    children(node, name).next()
}

fn is_plain(node: Node<'_>, name: &str) -> bool {
    node.is_element() && node.tag_name().namespace().is_none() && node.tag_name().name() == name
}

/// An attribute, which may be empty.
pub(crate) fn attr<'a>(node: Node<'a>, name: &str) -> Option<&'a str> {
    node.attributes().find(|a| a.namespace().is_none() && a.name() == name).map(|a| a.value())
}

pub(crate) fn owned(node: Node<'_>, name: &str) -> Option<String> {
    attr(node, name).map(str::to_owned)
}

/// An attribute that is as good as absent when it is empty.
pub(crate) fn filled<'a>(node: Node<'a>, name: &str) -> Option<&'a str> {
    attr(node, name).filter(|value| !value.is_empty())
}

/// All the text below a node.
pub(crate) fn text_of(node: Node<'_>) -> String {
    node.descendants().filter(Node::is_text).filter_map(|child| child.text()).collect()
}

/// The text of a child, unless there is none.
pub(crate) fn child_text(node: Node<'_>, name: &'static str) -> Option<String> {
    child(node, name).map(text_of).filter(|text| !text.is_empty())
}

/// Where an attribute stands, or its element when it is absent.
fn place(node: Node<'_>, name: &str) -> usize {
    node.attributes()
        .find(|a| a.namespace().is_none() && a.name() == name)
        .map_or(node.range().start, |a| a.range().start)
}

impl Cx<'_> {
    pub(crate) fn error(&self, node: Node<'_>, class: Class, message: &str) -> Error {
        Error::new(self.text, node.range().start, class, message)
    }

    pub(crate) fn error_at(&self, node: Node<'_>, name: &str, class: Class, message: &str) -> Error {
        Error::new(self.text, place(node, name), class, message)
    }

    /// An "XML error" at an attribute.
    pub(crate) fn xml(&self, node: Node<'_>, name: &str, message: &str) -> Error {
        self.error_at(node, name, Class::Xml, message)
    }

    /// An "unsupported configuration" at an attribute.
    pub(crate) fn unsupported(&self, node: Node<'_>, name: &str, message: &str) -> Error {
        self.error_at(node, name, Class::Unsupported, message)
    }

    /// A required attribute.
    pub(crate) fn required<'a>(&self, node: Node<'a>, name: &str) -> Result<&'a str> {
        attr(node, name).ok_or_else(|| {
            let element = node.tag_name().name();
            self.xml(node, name, &format!("Missing required attribute '{name}' in element '{element}'"))
                .with_help(format!("write {name}='..' in <{element}>"))
        })
    }

    pub(crate) fn bad_value(&self, node: Node<'_>, name: &str, more: &str) -> Error {
        let (element, value) = (node.tag_name().name(), attr(node, name).unwrap_or(""));
        let message =
            format!("Invalid value for attribute '{name}' in element '{element}': '{value}'.{more}");
        self.xml(node, name, &message)
    }

    /// An attribute that holds `yes` or `no`.
    pub(crate) fn yes_no(&self, node: Node<'_>, name: &str) -> Result<Option<bool>> {
        match attr(node, name) {
            None => Ok(None),
            Some("yes") => Ok(Some(true)),
            Some("no") => Ok(Some(false)),
            Some(_) => {
                let help = format!("write {name}='yes' or {name}='no'");
                Err(self.bad_value(node, name, "").with_help(help))
            }
        }
    }

    /// An attribute that holds one of `words`.
    pub(crate) fn word(&self, node: Node<'_>, name: &str, words: &[&str]) -> Result<Option<String>> {
        match attr(node, name) {
            Some(word) if !words.contains(&word) => {
                let help = format!("write {}", words.join(", "));
                Err(self.bad_value(node, name, "").with_help(help))
            }
            word => Ok(word.map(str::to_owned)),
        }
    }

    /// An attribute that holds a whole number no larger than its type allows.
    pub(crate) fn number<T: TryFrom<u64>>(&self, node: Node<'_>, name: &str, base: u32) -> Result<Option<T>> {
        let Some(text) = attr(node, name) else { return Ok(None) };
        match value::unsigned(text, base).and_then(|number| T::try_from(number).ok()) {
            Some(number) => Ok(Some(number)),
            None => Err(self
                .bad_value(node, name, " Expected non-negative integer value")
                .with_help("write a whole number, not below 0 and not too large")),
        }
    }

    /// The complaint about a number that is 0 and must not be.
    pub(crate) fn zero(&self, node: Node<'_>, name: &str) -> Error {
        let element = node.tag_name().name();
        let message =
            format!("Invalid value for attribute '{name}' in element '{element}': Zero is not permitted");
        self.xml(node, name, &message).with_help(format!("leave {name} out, or write a larger number"))
    }

    /// An address with no words of its own for what is wrong.
    pub(crate) fn socket_address(&self, node: Node<'_>, name: &str, text: &str) -> Result<IpAddr> {
        value::address(text).ok_or_else(|| {
            let message = format!("Cannot parse socket address '{text}': Name or service not known");
            self.error_at(node, name, Class::Plain, &message).with_help("write an IPv4 or IPv6 address")
        })
    }

    /// A unicast MAC address; `bad` and `multicast` say what to report.
    pub(crate) fn unicast_mac(
        &self,
        node: Node<'_>,
        name: &str,
        text: &str,
        bad: &str,
        multicast: &str,
    ) -> Result<[u8; 6]> {
        let mac = value::mac(text).ok_or_else(|| {
            self.xml(node, name, bad).with_help("write six hexadecimal pairs, such as 52:54:00:12:34:56")
        })?;
        if mac[0] & 1 == 1 {
            let help = "the first pair of a unicast address is even, such as 52";
            return Err(self.xml(node, name, multicast).with_help(help));
        }
        Ok(mac)
    }
}
