//! Getting and setting the metadata element of one namespace, as `net-metadata` does.

use crate::Network;
use crate::element::{Blanks, Content, Element};
use crate::error::{Class, Error};
use crate::parse::cx::Result;
use crate::parse::open;

impl Network {
    /// The XML of the metadata of a namespace, without its prefix and without a line end.
    pub fn metadata_xml(&self, uri: &str) -> Option<String> {
        let element = self.metadata.as_ref()?.child_of(uri)?.without_namespace(uri);
        let mut out = String::new();
        element.write(&mut out, 0);
        Some(out.trim_end_matches('\n').to_owned())
    }

    /// Replace the metadata of a namespace, or remove it. Elements without a prefix get `key`.
    ///
    /// # Errors
    /// When `xml` is malformed or `key` is no prefix.
    pub fn set_metadata(&mut self, uri: &str, key: &str, xml: Option<&str>) -> Result<()> {
        let new = match xml {
            None => None,
            Some(xml) => {
                let document = open(xml, "(metadata_xml)")?;
                if !is_prefix(key) {
                    let words = "failed to validate prefix for a new XML namespace";
                    let error = Error::placeless(Class::Internal, words);
                    return Err(error.with_help("a key is letters, digits, - _ and ., not a digit first"));
                }
                let element = Element::from_node(document.root_element(), Blanks::Keep);
                Some(element.with_namespace(uri, key))
            }
        };
        if new.is_none() && self.metadata.is_none() {
            return Ok(());
        }
        let empty = || Element { name: "metadata".to_owned(), ..Element::default() };
        let metadata = self.metadata.get_or_insert_with(empty);
        metadata.remove_child_of(uri);
        metadata.children.extend(new.map(Content::Element));
        Ok(())
    }
}

fn is_prefix(key: &str) -> bool {
    let start = |c: char| c.is_alphabetic() || c == '_';
    let inner = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    key.starts_with(start) && key.chars().all(inner)
}
