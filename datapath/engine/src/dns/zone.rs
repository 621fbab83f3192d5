//! What a network answers by itself, what must never leave it, and who is asked for the rest: a definition made
//! ready to be searched.

use alloc::borrow::{Cow, ToOwned};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr};

use pontoon_wire::dns::{LABEL_MAX, NAME_MAX, kind};

use super::Names;
use super::config::{Config, Srv};
use super::reverse::Spelled;

/// Names that mean something only here (RFC 6761, 6762, 7686): asking the world leaks them.
const NEVER_ASKED: &[&str] = &["localhost", "local", "onion", "invalid"];
/// Aliases of aliases that are followed.
const CHAIN_MAX: usize = 8;

/// A record of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Data<'a> {
    Address(IpAddr),
    Alias(&'a str),
    Pointer(Cow<'a, str>),
    Text(&'a str),
    Service(&'a Srv),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer<'a> {
    /// With the owner, if that is not the name asked for.
    pub(super) records: Vec<(Option<&'a str>, Data<'a>)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome<'a> {
    Answer(Answer<'a>),
    Any,
    NxDomain,
    Refused,
    /// Ask these resolvers.
    Upstream(&'a [u16]),
}

impl Outcome<'_> {
    /// The name exists, but nothing of that type.
    fn no_data() -> Self {
        Self::Answer(Answer::default())
    }
}

/// What a name has.
#[derive(Clone, Debug, Default)]
struct Records {
    addresses: Vec<IpAddr>,
    texts: Vec<String>,
    /// Places in the configuration.
    services: Vec<usize>,
    alias: Option<String>,
}

/// What happens to names below a domain that are not known one by one.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    Addresses(Vec<IpAddr>),
    Local,
    Upstream(Vec<u16>),
    /// Never asked for, but no domain of this network.
    Nowhere,
}

#[derive(Clone, Debug)]
pub struct Zone {
    config: Config,
    /// In lower case, without the last dot.
    domain: Option<String>,
    names: BTreeMap<String, Records>,
    /// Nodes between the network's domain and its names.
    between: BTreeSet<String>,
    /// Targets of `*.` and the domain behind it.
    wildcards: BTreeMap<String, String>,
    pointers: BTreeMap<IpAddr, String>,
    rules: BTreeMap<String, Rule>,
    default: Option<Vec<u16>>,
}

impl Zone {
    #[must_use]
    pub fn new(config: Config) -> Self {
        let domain = config.domain.as_deref().map(normal).filter(|domain| encodable(domain));
        let mut zone = Self {
            config: Config::default(),
            domain,
            names: BTreeMap::new(),
            between: BTreeSet::new(),
            wildcards: BTreeMap::new(),
            pointers: BTreeMap::new(),
            rules: BTreeMap::new(),
            default: None,
        };
        zone.enter_hosts(&config);
        zone.enter_others(&config);
        zone.enter_rules(&config);
        zone.config = config;
        zone
    }

    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    fn enter_hosts(&mut self, config: &Config) {
        for (address, names) in &config.hosts {
            for name in names.iter().map(|name| normal(name)).filter(|name| encodable(name)) {
                let pointer = self.qualified(&name);
                self.pointers.entry(*address).or_insert(pointer);
                self.enter(&name, |records| {
                    if !records.addresses.contains(address) {
                        records.addresses.push(*address);
                    }
                });
            }
        }
    }

    fn enter_others(&mut self, config: &Config) {
        for (name, text) in &config.txt {
            self.enter(&normal(name), |records| records.texts.push(text.clone()));
        }
        for (place, srv) in config.srv.iter().enumerate() {
            let sound = srv.target.as_deref().is_none_or(|target| encodable(&normal(target)));
            if sound {
                self.enter(&normal(&srv.name), |records| records.services.push(place));
            }
        }
        for (alias, target) in &config.cnames {
            let (alias, target) = (normal(alias), normal(target));
            if !encodable(&target) || alias == target {
                continue;
            }
            match alias.strip_prefix("*.") {
                Some(domain) => drop(self.wildcards.insert(domain.to_owned(), target)),
                None => self.enter(&alias, |records| records.alias = Some(target.clone())),
            }
        }
    }

    fn enter_rules(&mut self, config: &Config) {
        for upstream in &config.upstreams {
            let resolvers = upstream.resolvers.clone();
            match upstream.domain.as_deref().map(normal).filter(|domain| !domain.is_empty()) {
                Some(domain) => drop(self.rules.insert(domain, Rule::Upstream(resolvers))),
                None => self.default.get_or_insert_default().extend(resolvers),
            }
        }
        for (domain, address) in &config.domains {
            let rule = self.rules.entry(normal(domain)).or_insert(Rule::Local);
            match (rule, address) {
                (Rule::Addresses(addresses), Some(address)) => addresses.push(*address),
                (rule, Some(address)) => *rule = Rule::Addresses(vec![*address]),
                (rule @ Rule::Upstream(_), None) => *rule = Rule::Local,
                _ => {}
            }
        }
        if let Some(domain) = self.domain.clone() {
            let rule = self.rules.entry(domain).or_insert(Rule::Local);
            if config.local_only && matches!(rule, Rule::Upstream(_)) {
                *rule = Rule::Local;
            }
        }
        for name in NEVER_ASKED {
            self.rules.entry((*name).to_owned()).or_insert(Rule::Nowhere);
        }
    }

    /// Enters a name, with the network's domain and without. Services have two labels of their own.
    fn enter(&mut self, name: &str, change: impl Fn(&mut Records)) {
        if !encodable(name) {
            return;
        }
        let bare = self.bare(name).map(ToOwned::to_owned);
        let own_labels = name.starts_with('_') && name.matches('.').count() <= 1;
        let whole = match &self.domain {
            Some(domain) if own_labels || !name.contains('.') => Some(format!("{name}.{domain}")),
            _ => None,
        };
        for name in [Some(name.to_owned()), bare, whole].into_iter().flatten() {
            self.enter_between(&name);
            change(self.names.entry(name).or_default());
        }
    }

    fn enter_between(&mut self, name: &str) {
        let Some(domain) = self.domain.as_deref() else { return };
        let mut rest = name;
        while let Some((_, tail)) = rest.split_once('.') {
            if under(tail, domain) {
                self.between.insert(tail.to_owned());
            }
            rest = tail;
        }
    }

    /// A name without the network's domain, if that leaves one label.
    fn bare<'n>(&self, name: &'n str) -> Option<&'n str> {
        let domain = self.domain.as_deref()?;
        let head = name.strip_suffix(domain)?.strip_suffix('.')?;
        (!head.is_empty() && !head.contains('.')).then_some(head)
    }

    fn qualified(&self, name: &str) -> String {
        match &self.domain {
            Some(domain) if !name.contains('.') => format!("{name}.{domain}"),
            _ => name.to_owned(),
        }
    }

    /// Whether what cannot be answered here is refused.
    fn refuses(&self) -> bool {
        self.config.isolated && self.default.as_ref().is_none_or(Vec::is_empty)
    }

    /// `name` is lower-case text without the last dot.
    pub(super) fn resolve<'a>(&'a self, names: &'a dyn Names, name: &str, asked: u16) -> Outcome<'a> {
        if let Some(spelled) = Spelled::parse(name) {
            return self.pointer(names, &spelled, name, asked);
        }
        let mut answer = Answer::default();
        let mut owner: Option<&'a str> = None;
        for _ in 0..CHAIN_MAX {
            let current = owner.unwrap_or(name);
            let alias = self.names.get(current).and_then(|records| records.alias.as_deref());
            let mut add = |data| answer.records.push((owner, data));
            let target = match alias.filter(|_| asked != kind::CNAME) {
                Some(target) => target,
                None if self.data(names, current, asked, &mut add) => return Outcome::Answer(answer),
                None => match self.wildcard(current) {
                    Some(target) => target,
                    None if self.spread(current, asked, &mut add) || owner.is_some() => {
                        return Outcome::Answer(answer);
                    }
                    None => return self.unknown(name, asked),
                },
            };
            answer.records.push((owner, Data::Alias(target)));
            if asked == kind::CNAME {
                break;
            }
            owner = Some(target);
        }
        Outcome::Answer(answer)
    }

    fn wildcard(&self, name: &str) -> Option<&str> {
        let mut rest = name;
        while let Some((_, tail)) = rest.split_once('.') {
            if let Some(target) = self.wildcards.get(tail).filter(|target| target.as_str() != name) {
                return Some(target);
            }
            rest = tail;
        }
        None
    }

    /// Gives `add` what a name has of a type; true when the name is known here.
    fn data<'a>(&'a self, names: &dyn Names, name: &str, asked: u16, add: &mut dyn FnMut(Data<'a>)) -> bool {
        let leased = self.leased(names, name).map(IpAddr::V4);
        let Some(records) = self.names.get(name) else {
            let known = leased.is_some();
            leased.into_iter().filter(|ip| of_kind(ip, asked)).for_each(|ip| add(Data::Address(ip)));
            return known;
        };
        match asked {
            kind::TXT => records.texts.iter().for_each(|text| add(Data::Text(text))),
            kind::SRV => {
                let services = records.services.iter().filter_map(|place| self.config.srv.get(*place));
                services.for_each(|srv| add(Data::Service(srv)));
            }
            kind::CNAME => records.alias.iter().for_each(|target| add(Data::Alias(target))),
            _ => {
                // a name that the definition gives addresses to has no others
                let leased = leased.filter(|_| records.addresses.is_empty());
                let addresses = records.addresses.iter().copied().chain(leased);
                addresses.filter(|ip| of_kind(ip, asked)).for_each(|ip| add(Data::Address(ip)));
            }
        }
        true
    }

    /// Addresses of all names below a domain.
    fn spread<'a>(&'a self, name: &str, asked: u16, add: &mut dyn FnMut(Data<'a>)) -> bool {
        let Some((_, Rule::Addresses(addresses))) = self.rule(name) else { return false };
        addresses.iter().filter(|ip| of_kind(ip, asked)).for_each(|ip| add(Data::Address(*ip)));
        true
    }

    /// Guests choose these names, so they only stand in the network's own name space: never for a name with
    /// a dot (another's domain), never for `localhost` and its like.
    fn leased(&self, names: &dyn Names, name: &str) -> Option<Ipv4Addr> {
        let bare = if name.contains('.') { self.bare(name)? } else { name };
        if bare.is_empty() || NEVER_ASKED.contains(&bare) {
            return None;
        }
        names.by_name(bare).filter(|address| *address != self.config.gateway)
    }

    /// The rule of the longest domain a name is in.
    fn rule(&self, name: &str) -> Option<(&str, &Rule)> {
        let mut rest = name;
        loop {
            if let Some((domain, rule)) = self.rules.get_key_value(rest) {
                return Some((domain, rule));
            }
            if rest.is_empty() {
                return None;
            }
            rest = rest.split_once('.').map_or("", |(_, tail)| tail);
        }
    }

    fn unknown(&self, name: &str, asked: u16) -> Outcome<'_> {
        match self.rule(name) {
            Some((_, Rule::Upstream(resolvers))) => return self.ask(resolvers),
            Some((domain, Rule::Local)) if !domain.is_empty() => {
                // the apex exists even while no guest has a name below it (RFC 8020)
                let exists = name == domain || self.between.contains(name);
                return if exists { Outcome::no_data() } else { Outcome::NxDomain };
            }
            Some((_, Rule::Nowhere)) => return self.nowhere(),
            Some((_, Rule::Local)) => return Outcome::NxDomain,
            Some((_, Rule::Addresses(_))) => return Outcome::no_data(),
            None => {}
        }
        let plain = !name.is_empty() && !name.contains('.');
        // No host is looked up by these; a guest that validates needs them of top-level domains.
        let keys = matches!(asked, kind::DS | kind::DNSKEY);
        if plain && !self.config.forward_plain_names && !keys {
            return self.nowhere();
        }
        match &self.default {
            Some(resolvers) => self.ask(resolvers),
            None => self.ask(&[]),
        }
    }

    fn ask<'a>(&self, resolvers: &'a [u16]) -> Outcome<'a> {
        // a guest with another network asks its other server only after REFUSED
        if resolvers.is_empty() && self.config.isolated {
            return Outcome::Refused;
        }
        Outcome::Upstream(resolvers)
    }

    fn nowhere(&self) -> Outcome<'_> {
        if self.refuses() { Outcome::Refused } else { Outcome::NxDomain }
    }

    fn pointer<'a>(&'a self, names: &'a dyn Names, spelled: &Spelled, name: &str, asked: u16) -> Outcome<'a> {
        let own = self.own(spelled);
        if let Some(pointer) = spelled.address().and_then(|address| self.named(names, address, own.is_some()))
        {
            let data = (asked == kind::PTR).then_some((None, Data::Pointer(pointer)));
            return Outcome::Answer(Answer { records: data.into_iter().collect() });
        }
        let denied = || if spelled.on_the_way() { Outcome::no_data() } else { Outcome::NxDomain };
        match (own, self.rule(name).filter(|(domain, _)| !domain.is_empty())) {
            (Some(true), _) => denied(),
            (_, Some((_, Rule::Upstream(resolvers)))) => self.ask(resolvers),
            (_, Some(_)) | (Some(false), None) => denied(),
            (None, None) if spelled.private() && !self.refuses() => denied(),
            (None, None) if spelled.private() => Outcome::Refused,
            (None, None) => self.ask(self.default.as_deref().unwrap_or_default()),
        }
    }

    /// Whether a name is one of the network's subnets, and there that of this server alone.
    fn own(&self, spelled: &Spelled) -> Option<bool> {
        let within = |address, prefix| prefix > 0 && spelled.within(address, prefix);
        let listed = self.config.reverse.iter().filter(|one| within(one.address, one.prefix));
        let first = within(self.config.gateway.into(), self.config.prefix).then_some(false);
        listed.map(|one| one.alone).chain(first).max()
    }

    fn named<'a>(&'a self, names: &'a dyn Names, address: IpAddr, own: bool) -> Option<Cow<'a, str>> {
        if let Some(name) = self.pointers.get(&address) {
            return Some(Cow::Borrowed(name));
        }
        let IpAddr::V4(address) = address else { return None };
        if !own || address == self.config.gateway {
            return None;
        }
        let name = names.by_ip(address).map(|name| self.qualified(name));
        name.filter(|name| encodable(name)).map(Cow::Owned)
    }

    /// Addresses for the targets of services (RFC 2782, additional data).
    pub(super) fn addresses(&self, names: &dyn Names, name: &str, add: &mut dyn FnMut(IpAddr)) {
        let name = normal(name);
        for asked in [kind::A, kind::AAAA] {
            self.data(names, &name, asked, &mut |data| {
                if let Data::Address(address) = data {
                    add(address);
                }
            });
        }
    }

    /// Who would be asked for a name that is not known here.
    #[must_use]
    pub fn route(&self, name: &str, asked: u16) -> &[u16] {
        let outcome = match Spelled::parse(name) {
            Some(spelled) => self.pointer(&(), &spelled, name, asked),
            None => self.unknown(name, asked),
        };
        match outcome {
            Outcome::Upstream(resolvers) => resolvers,
            _ => &[],
        }
    }
}

/// Nobody has a lease.
impl Names for () {
    fn by_name(&self, _: &str) -> Option<Ipv4Addr> {
        None
    }
    fn by_ip(&self, _: Ipv4Addr) -> Option<&str> {
        None
    }
}

fn of_kind(address: &IpAddr, asked: u16) -> bool {
    asked == if address.is_ipv4() { kind::A } else { kind::AAAA }
}

fn normal(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// `name` is `zone` or below it.
fn under(name: &str, zone: &str) -> bool {
    name.strip_suffix(zone).is_some_and(|head| head.is_empty() || head.ends_with('.'))
}

/// A name with an empty or long label has no wire form (RFC 1035 2.3.4).
fn encodable(name: &str) -> bool {
    name.len() < NAME_MAX - 1 && name.split('.').all(|label| (1..=LABEL_MAX).contains(&label.len()))
}
