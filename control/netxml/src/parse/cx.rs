//! What every part of the parser needs: errors with a place, attributes,
//! addresses.

use std::net::{IpAddr, Ipv4Addr};

use crate::Written;
use crate::error::{Class, Error};

pub(super) type Node<'a> = roxmltree::Node<'a, 'a>;
pub(super) type Result<T> = std::result::Result<T, Error>;

/// The document text and the name of the network being read.
pub(super) struct Cx<'a> {
    pub(super) text: &'a str,
    pub(super) name: String,
}

/// The child elements of `node` that carry `name` and no namespace.
pub(super) fn children<'a>(node: Node<'a>, name: &'static str) -> impl Iterator<Item = Node<'a>> {
    node.children().filter(move |child| is_plain(*child, name))
}

pub(super) fn child<'a>(node: Node<'a>, name: &'static str) -> Option<Node<'a>> {
    children(node, name).next()
}

pub(super) fn is_plain(node: Node<'_>, name: &str) -> bool {
    node.is_element() && node.tag_name().namespace().is_none() && node.tag_name().name() == name
}

pub(super) fn attr<'a>(node: Node<'a>, name: &str) -> Option<&'a str> {
    node.attributes().find(|a| a.namespace().is_none() && a.name() == name).map(|a| a.value())
}

pub(super) fn owned(node: Node<'_>, name: &str) -> Option<String> {
    attr(node, name).map(str::to_owned)
}

/// All the text directly below a node.
pub(super) fn text_of(node: Node<'_>) -> String {
    node.children().filter(Node::is_text).filter_map(|child| child.text()).collect()
}

/// Where an attribute stands, or its element when it is absent.
fn place(node: Node<'_>, name: &str) -> usize {
    node.attributes()
        .find(|a| a.namespace().is_none() && a.name() == name)
        .map_or(node.range().start, |a| a.range().start)
}

impl Cx<'_> {
    pub(super) fn error(&self, node: Node<'_>, class: Class, message: &str) -> Error {
        Error::new(self.text, node.range().start, class, message)
    }

    pub(super) fn error_at(&self, node: Node<'_>, name: &str, class: Class, message: &str) -> Error {
        Error::new(self.text, place(node, name), class, message)
    }

    /// An "XML error" at an attribute.
    pub(super) fn xml(&self, node: Node<'_>, name: &str, message: &str) -> Error {
        self.error_at(node, name, Class::Xml, message)
    }

    /// A required attribute.
    pub(super) fn required<'a>(&self, node: Node<'a>, name: &str) -> Result<&'a str> {
        attr(node, name).ok_or_else(|| {
            let element = node.tag_name().name();
            self.xml(node, name, &format!("Missing required attribute '{name}' in element '{element}'"))
        })
    }

    fn bad_value(&self, node: Node<'_>, name: &str, more: &str) -> Error {
        let (element, value) = (node.tag_name().name(), attr(node, name).unwrap_or(""));
        let message =
            format!("Invalid value for attribute '{name}' in element '{element}': '{value}'.{more}");
        self.xml(node, name, &message)
    }

    /// An attribute that holds one of two words; the first means true.
    fn word(&self, node: Node<'_>, name: &str, yes: &str, no: &str) -> Result<Option<bool>> {
        match attr(node, name) {
            None => Ok(None),
            Some(value) if value == yes => Ok(Some(true)),
            Some(value) if value == no => Ok(Some(false)),
            Some(_) => Err(self
                .bad_value(node, name, "")
                .with_help(format!("write {name}='{yes}' or {name}='{no}'"))),
        }
    }

    pub(super) fn yes_no(&self, node: Node<'_>, name: &str) -> Result<Option<bool>> {
        self.word(node, name, "yes", "no")
    }

    pub(super) fn on_off(&self, node: Node<'_>, name: &str) -> Result<Option<bool>> {
        self.word(node, name, "on", "off")
    }

    /// An attribute that holds a whole number no larger than its type allows.
    pub(super) fn number<T: TryFrom<u64>>(&self, node: Node<'_>, name: &str) -> Result<Option<T>> {
        let Some(value) = attr(node, name) else { return Ok(None) };
        let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        let number = if digits { value.parse::<u64>().ok() } else { None };
        match number.and_then(|number| T::try_from(number).ok()) {
            Some(number) => Ok(Some(number)),
            None => Err(self.bad_value(node, name, " Expected non-negative integer value")),
        }
    }

    /// A range boundary or similar address.
    pub(super) fn socket_address(&self, node: Node<'_>, name: &str, value: &str) -> Result<IpAddr> {
        value.parse().map_err(|_| {
            let message = format!("Cannot parse socket address '{value}': Name or service not known");
            self.error_at(node, name, Class::Plain, &message)
        })
    }

    /// A unicast MAC address; `bad` and `multicast` say what to report.
    pub(super) fn unicast_mac(
        &self,
        node: Node<'_>,
        name: &str,
        value: &str,
        bad: &str,
        multicast: &str,
    ) -> Result<[u8; 6]> {
        let mac = parse_mac(value).ok_or_else(|| {
            self.xml(node, name, bad).with_help("write six hexadecimal pairs, such as 52:54:00:12:34:56")
        })?;
        if mac[0] & 1 == 1 {
            let help = "the first pair of a unicast address is even, such as 52";
            return Err(self.xml(node, name, multicast).with_help(help));
        }
        Ok(mac)
    }
}

/// Six pairs of one or two hexadecimal digits, separated by colons.
pub(super) fn parse_mac(value: &str) -> Option<[u8; 6]> {
    let mut mac = [0u8; 6];
    let mut parts = value.split(':');
    for byte in &mut mac {
        let part = parts.next()?;
        let digits = (1..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_hexdigit());
        *byte = if digits { u8::from_str_radix(part, 16).ok()? } else { return None };
    }
    parts.next().is_none().then_some(mac)
}

/// The length of a contiguous netmask.
pub(super) fn netmask_bits(mask: Ipv4Addr) -> Option<u8> {
    let bits = mask.to_bits();
    let ones = bits.leading_ones();
    (ones + bits.trailing_zeros() >= 32 && ones > 0).then_some(u8::try_from(ones).unwrap_or(32))
}

/// The prefix length an address has when none is written.
pub(super) fn natural_prefix(address: IpAddr) -> u8 {
    match address {
        IpAddr::V6(_) => 64,
        IpAddr::V4(address) => match address.octets()[0] {
            0..128 => 8,
            128..192 => 16,
            _ => 24,
        },
    }
}

/// The words that differ between the elements that hold a prefix.
pub(super) struct Subnet<'a> {
    pub(super) node: Node<'a>,
    pub(super) address: IpAddr,
    pub(super) natural: u8,
}

impl Cx<'_> {
    /// Check `family` and read `netmask` or `prefix` of an address element.
    pub(super) fn subnet(&self, at: &Subnet<'_>) -> Result<(u8, Written)> {
        let (node, address) = (at.node, at.address);
        self.family(node, address)?;
        let prefix: Option<u32> = self.number(node, "prefix")?;
        let Some(netmask) = attr(node, "netmask") else {
            return match prefix {
                None => Ok((at.natural, Written::Absent)),
                Some(prefix) => Ok((self.prefix_length(node, address, prefix)?, Written::Prefix)),
            };
        };
        let name = &self.name;
        if address.is_ipv6() {
            let message = format!("netmask not allowed for IPv6 address '{address}' in network '{name}'");
            return Err(self.xml(node, "netmask", &message).with_help("write prefix='64' instead"));
        }
        if prefix.is_some() {
            let message = format!("Network '{name}' IP address cannot have both a prefix and a netmask");
            return Err(self.xml(node, "prefix", &message).with_help("remove one of the two"));
        }
        let bits = netmask.parse().ok().and_then(netmask_bits).ok_or_else(|| {
            let message = format!(
                "Invalid netmask '{netmask}' for address '{address}' in network '{name}' (both must be IPv4)"
            );
            self.error_at(node, "netmask", Class::Unsupported, &message)
                .with_help("a netmask is such as 255.255.255.0; prefix='24' means the same")
        })?;
        Ok((bits, Written::Netmask))
    }

    fn prefix_length(&self, node: Node<'_>, address: IpAddr, prefix: u32) -> Result<u8> {
        let (family, most) = if address.is_ipv4() { ("IPv4", 32) } else { ("IPv6", 128) };
        let zero_is_fine = node.tag_name().name() == "route";
        match u8::try_from(prefix) {
            Ok(length) if length <= most && (length > 0 || zero_is_fine) => Ok(length),
            _ => {
                let message = format!("Invalid {family} prefix '{prefix}' in network '{}'", self.name);
                Err(self.xml(node, "prefix", &message).with_help(format!("write a number from 1 to {most}")))
            }
        }
    }

    fn family(&self, node: Node<'_>, address: IpAddr) -> Result<()> {
        let name = &self.name;
        let message = match (attr(node, "family"), address) {
            (None | Some("ipv4"), IpAddr::V4(_)) | (Some("ipv6"), IpAddr::V6(_)) => return Ok(()),
            (None, _) => format!("no family specified for non-IPv4 address '{address}' in network '{name}'"),
            (Some("ipv4"), _) => {
                format!("family 'ipv4' specified for non-IPv4 address '{address}' in network '{name}'")
            }
            (Some("ipv6"), _) => {
                format!("family 'ipv6' specified for non-IPv6 address '{address}' in network '{name}'")
            }
            (Some(other), _) => format!("Unrecognized family '{other}' in network '{name}'"),
        };
        let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
        Err(self.xml(node, "family", &message).with_help(format!("write family='{family}'")))
    }
}
