//! What this network answers by itself, and what must never leave it.

use alloc::format;
use alloc::string::String;
use core::net::Ipv4Addr;

use pontoon_wire::dns::{LABEL_MAX, NAME_MAX, kind};

use super::{Config, Names};

/// Names that mean something only here (RFC 6761, 6762, 7686): asking the world leaks them.
const NEVER_ASKED: &[&str] = &["localhost", "local", "onion", "invalid"];

/// Reverse zones without a meaning outside (RFC 6303 4, RFC 7793 for 100.64/10): network and prefix.
const PRIVATE: &[(Ipv4Addr, u8)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(255, 255, 255, 255), 32),
];

/// The same for IPv6: unique local, link-local, documentation.
const PRIVATE6: &[&str] = &[
    "c.f.ip6.arpa",
    "d.f.ip6.arpa",
    "8.e.f.ip6.arpa",
    "9.e.f.ip6.arpa",
    "a.e.f.ip6.arpa",
    "b.e.f.ip6.arpa",
    "8.b.d.0.1.0.0.2.ip6.arpa",
    "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa",
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome<'a> {
    Address(Ipv4Addr),
    Pointer(String),
    Text(&'a str),
    Any,
    NoData,
    NxDomain,
    Refused,
    Upstream,
}

/// `name` is lower-case text without the last dot.
pub(super) fn resolve<'a>(config: &'a Config, names: &dyn Names, name: &str, asked: u16) -> Outcome<'a> {
    if let Some(reverse) = Reverse::parse(name) {
        return pointer(config, names, &reverse, asked);
    }
    if let Some(found) = known(config, names, name, asked) {
        return found;
    }
    let own = config.domain.as_deref().filter(|domain| !domain.is_empty());
    if let Some(domain) = own.filter(|domain| under(name, domain)) {
        // the apex exists even while no guest has a name below it (RFC 8020)
        return if name.len() == trimmed(domain).len() { Outcome::NoData } else { Outcome::NxDomain };
    }
    if config.isolated {
        // a guest with another network asks its other server only after REFUSED, not after NXDOMAIN
        return Outcome::Refused;
    }
    let plain = !name.is_empty() && !name.contains('.');
    if plain && !config.forward_plain_names {
        return Outcome::NxDomain;
    }
    if NEVER_ASKED.iter().chain(PRIVATE6).any(|zone| under(name, zone)) {
        return Outcome::NxDomain;
    }
    Outcome::Upstream
}

fn trimmed(domain: &str) -> &str {
    domain.strip_suffix('.').unwrap_or(domain)
}

/// `name` is `zone` or below it.
fn under(name: &str, zone: &str) -> bool {
    let zone = trimmed(zone);
    let Some(split) = name.len().checked_sub(zone.len()) else {
        return false;
    };
    let (head, tail) = (name.as_bytes().get(..split), name.as_bytes().get(split..));
    tail.is_some_and(|tail| tail.eq_ignore_ascii_case(zone.as_bytes()))
        && head.is_some_and(|head| head.is_empty() || head.ends_with(b"."))
}

/// Takes the network's domain off; a host is known with and without it.
fn stem<'n>(config: &Config, name: &'n str) -> &'n str {
    let name = trimmed(name);
    let Some(domain) = config.domain.as_deref().map(trimmed).filter(|domain| !domain.is_empty()) else {
        return name;
    };
    if !under(name, domain) {
        return name;
    }
    name.len().checked_sub(domain.len() + 1).and_then(|end| name.get(..end)).unwrap_or(name)
}

fn known<'a>(config: &'a Config, names: &dyn Names, name: &str, asked: u16) -> Option<Outcome<'a>> {
    let stem_asked = stem(config, name);
    let same = |listed: &str| stem(config, listed).eq_ignore_ascii_case(stem_asked);
    let text = config.txt.iter().find(|(listed, _)| same(listed));
    let fixed = config.hosts.iter().find(|(_, listed)| listed.iter().any(|one| same(one)));
    let address = fixed.map(|(address, _)| *address).or_else(|| leased(config, names, stem_asked));
    match (asked, address, text) {
        (kind::A, Some(address), _) => Some(Outcome::Address(address)),
        (kind::TXT, _, Some((_, text))) => Some(Outcome::Text(text)),
        (_, None, None) => None,
        _ => Some(Outcome::NoData),
    }
}

/// Guests choose these names, so they only stand in the network's own name space: never for a name with
/// a dot (another's domain), never for `localhost` and its like.
fn leased(config: &Config, names: &dyn Names, stem: &str) -> Option<Ipv4Addr> {
    if stem.is_empty() || stem.contains('.') || NEVER_ASKED.contains(&stem) {
        return None;
    }
    names.by_name(stem).filter(|address| *address != config.gateway)
}

/// The leading octets a name below in-addr.arpa spells.
struct Reverse {
    octets: [u8; 4],
    known: usize,
    /// more labels than an address has, or a label that is not an octet
    odd: bool,
}

impl Reverse {
    fn parse(name: &str) -> Option<Self> {
        let rest = name.strip_suffix(".in-addr.arpa")?;
        let mut reverse = Self { octets: [0; 4], known: 0, odd: false };
        for label in rest.rsplit('.') {
            match (label.parse(), reverse.octets.get_mut(reverse.known)) {
                (Ok(octet), Some(place)) if !reverse.odd => {
                    *place = octet;
                    reverse.known += 1;
                }
                _ => reverse.odd = true,
            }
        }
        Some(reverse)
    }

    fn within(&self, network: Ipv4Addr, prefix: u8) -> bool {
        let bits = u32::from(prefix.min(32));
        let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
        let address = u32::from_be_bytes(self.octets);
        self.known * 8 >= bits as usize && (address ^ u32::from(network)) & mask == 0
    }
}

fn pointer<'a>(config: &Config, names: &dyn Names, reverse: &Reverse, asked: u16) -> Outcome<'a> {
    let own = config.prefix > 0 && reverse.within(config.gateway, config.prefix);
    let whole = reverse.known == 4 && !reverse.odd;
    let address = Ipv4Addr::from(reverse.octets);
    let name = if whole { named(config, names, address, own) } else { None };
    let name = name.filter(|name| encodable(name));
    match name {
        Some(name) if asked == kind::PTR => return Outcome::Pointer(name),
        Some(_) => return Outcome::NoData,
        None => {}
    }
    let private = PRIVATE.iter().any(|&(network, prefix)| reverse.within(network, prefix));
    if !own && config.isolated {
        return Outcome::Refused;
    }
    match (own || private, whole || reverse.odd) {
        (true, true) => Outcome::NxDomain,
        // a node on the way down to addresses: NXDOMAIN would deny all of them (RFC 8020)
        (true, false) => Outcome::NoData,
        (false, _) => Outcome::Upstream,
    }
}

fn named(config: &Config, names: &dyn Names, address: Ipv4Addr, own: bool) -> Option<String> {
    let fixed = config.hosts.iter().find(|(listed, _)| *listed == address);
    if let Some(name) = fixed.and_then(|(_, listed)| listed.first()) {
        return Some(qualified(config, name));
    }
    if !own || address == config.gateway {
        return None;
    }
    names.by_ip(address).map(|name| qualified(config, name))
}

fn qualified(config: &Config, name: &str) -> String {
    match config.domain.as_deref().map(trimmed).filter(|domain| !domain.is_empty()) {
        Some(domain) if !name.contains('.') => format!("{name}.{domain}"),
        _ => String::from(trimmed(name)),
    }
}

/// A name with an empty or long label has no wire form (RFC 1035 2.3.4).
fn encodable(name: &str) -> bool {
    name.len() < NAME_MAX - 1 && name.split('.').all(|label| (1..=LABEL_MAX).contains(&label.len()))
}
