//! A configuration of dnsmasq, as far as libvirt writes one.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// A range; without an end, hosts alone are served.
#[derive(Clone, Debug)]
pub(crate) struct Range {
    pub(crate) first: Ipv4Addr,
    pub(crate) last: Option<Ipv4Addr>,
    pub(crate) seconds: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) mac: Option<[u8; 6]>,
    pub(crate) name: Option<String>,
    pub(crate) ip: Ipv4Addr,
    /// `None`: the range's.
    pub(crate) seconds: Option<u32>,
}

#[derive(Clone, Debug)]
pub(crate) struct Srv {
    pub(crate) name: String,
    pub(crate) target: String,
    /// Priority, weight, port.
    pub(crate) numbers: [u16; 3],
}

/// `server=`: the domain, and who is asked: `None` is whoever is asked for other names.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) domain: Option<String>,
    pub(crate) server: Option<SocketAddr>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Promises {
    pub(crate) ranges: Vec<Range>,
    pub(crate) hosts: Vec<Host>,
    /// There is a range of IPv6.
    counts_v6: bool,
    /// `None` while IPv6 leases are counted in.
    pub(crate) lease_max: Option<usize>,
    pub(crate) no_router: bool,
    pub(crate) mtu: Option<u16>,
    pub(crate) boot: Option<(String, Option<Ipv4Addr>)>,
    pub(crate) authoritative: bool,
    pub(crate) no_override: bool,
    pub(crate) no_dns: bool,
    pub(crate) no_resolv: bool,
    pub(crate) domain: Option<String>,
    pub(crate) expand_hosts: bool,
    /// Domains nobody else is asked for; the empty one is that of plain names.
    pub(crate) local: Vec<String>,
    pub(crate) domain_needed: bool,
    pub(crate) servers: Vec<Server>,
    pub(crate) srv: Vec<Srv>,
    pub(crate) txt: Vec<(String, String)>,
    pub(crate) cnames: Vec<(String, String)>,
    /// What a warning has to name.
    pub(crate) idle: Vec<String>,
}

const INFINITE: u32 = u32::MAX;
const HOUR: u32 = 3600;

impl Promises {
    /// The line that is not understood, if one is not.
    pub(crate) fn read(conf: &str, hosts: &str) -> Result<Self, String> {
        let mut promises = Self::default();
        for line in conf.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            promises.line(line).ok_or_else(|| line.to_owned())?;
        }
        for line in hosts.lines().filter(|line| !line.is_empty()) {
            // Those of IPv6 have brackets, and stay without effect.
            if !line.contains('[') {
                promises.hosts.push(host(line).ok_or_else(|| line.to_owned())?);
            }
        }
        Ok(promises)
    }

    fn line(&mut self, line: &str) -> Option<()> {
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        match key {
            // How dnsmasq is run.
            "strict-order" | "except-interface" | "bind-dynamic" | "bind-interfaces" | "interface"
            | "pid-file" | "addn-hosts" | "dhcp-hostsfile" | "listen-address" => {}
            // IPv6 is not served yet.
            "enable-ra" | "ra-param" => {}
            "port" if value == "0" => self.no_dns = true,
            "no-resolv" => self.no_resolv = true,
            "domain" => self.domain = Some(value.to_owned()),
            "expand-hosts" => self.expand_hosts = true,
            "domain-needed" => self.domain_needed = true,
            "local" => self.local.push(value.trim_matches('/').to_owned()),
            "server" => self.servers.push(server(value)?),
            "srv-host" => self.srv.push(srv(value)?),
            "txt-record" => {
                let (name, text) = value.split_once(',')?;
                self.txt.push((name.to_owned(), text.to_owned()));
            }
            "cname" => {
                let (alias, target) = value.rsplit_once(',')?;
                let aliases = alias.split(',').map(|alias| (alias.to_owned(), target.to_owned()));
                self.cnames.extend(aliases);
            }
            "enable-tftp" => self.idle.push("<tftp>".to_owned()),
            "tftp-root" => {}
            _ if key.starts_with("dhcp-") => return self.dhcp(key, value),
            _ => self.idle.push(line.to_owned()),
        }
        Some(())
    }

    fn dhcp(&mut self, key: &str, value: &str) -> Option<()> {
        match key {
            "dhcp-range" => match value.contains(':') {
                true => self.counts_v6 = true,
                false => self.ranges.push(range(value)?),
            },
            "dhcp-option" => match value.split_once(',') {
                None if value == "3" => self.no_router = true,
                Some(("option:mtu", mtu)) => self.mtu = Some(mtu.parse().ok()?),
                _ => return None,
            },
            "dhcp-boot" => {
                let mut parts = value.split(',');
                let (file, _name, server) = (parts.next()?, parts.next(), parts.next());
                self.boot = Some((file.to_owned(), server.and_then(|server| server.parse().ok())));
            }
            "dhcp-authoritative" => self.authoritative = true,
            "dhcp-no-override" => self.no_override = true,
            "dhcp-lease-max" => {
                self.lease_max = Some(value.parse().ok()?).filter(|_| !self.counts_v6);
            }
            _ => return None,
        }
        Some(())
    }
}

fn seconds(text: &str) -> Option<u32> {
    if text == "infinite" {
        return Some(INFINITE);
    }
    let (digits, factor) = match text.split_at(text.len().checked_sub(1)?) {
        (digits, "s") => (digits, 1),
        (digits, "m") => (digits, 60),
        (digits, "h") => (digits, 3600),
        _ => (text, 1),
    };
    digits.parse::<u32>().ok()?.checked_mul(factor)
}

/// `FIRST,LAST,NETMASK[,TIME]` or `GATEWAY,static`
fn range(value: &str) -> Option<Range> {
    let parts: Vec<&str> = value.split(',').collect();
    let first = parts.first()?.parse().ok()?;
    if parts.get(1) == Some(&"static") {
        return Some(Range { first, last: None, seconds: HOUR });
    }
    let last = Some(parts.get(1)?.parse().ok()?);
    let seconds = parts.get(3).map_or(Some(HOUR), |time| seconds(time))?;
    Some(Range { first, last, seconds })
}

fn mac(text: &str) -> Option<[u8; 6]> {
    let octets: Option<Vec<u8>> = text.split(':').map(|part| u8::from_str_radix(part, 16).ok()).collect();
    octets?.try_into().ok()
}

/// `MAC,IP[,NAME][,TIME]` or `NAME,IP[,TIME]`
fn host(line: &str) -> Option<Host> {
    let mut host = Host { mac: None, name: None, ip: Ipv4Addr::UNSPECIFIED, seconds: None };
    for (place, part) in line.split(',').enumerate() {
        match (mac(part), part.parse(), seconds(part)) {
            (Some(mac), _, _) => host.mac = Some(mac),
            (_, Ok(ip), _) => host.ip = ip,
            (_, _, Some(seconds)) if place > 1 => host.seconds = Some(seconds),
            _ => host.name = Some(part.to_owned()),
        }
    }
    (!host.ip.is_unspecified()).then_some(host)
}

/// `[/DOMAIN/]ADDRESS[#PORT]` or `/DOMAIN/#`
fn server(value: &str) -> Option<Server> {
    let (domain, rest) = match value.strip_prefix('/') {
        Some(value) => value.split_once('/').map(|(domain, rest)| (Some(domain.to_owned()), rest))?,
        None => (None, value),
    };
    if rest == "#" {
        return Some(Server { domain, server: None });
    }
    let (address, port) = rest.split_once('#').unwrap_or((rest, "53"));
    let server = SocketAddr::new(address.parse::<IpAddr>().ok()?, port.parse().ok()?);
    Some(Server { domain, server: Some(server) })
}

/// `NAME[,TARGET[,PORT[,PRIORITY[,WEIGHT]]]]`
fn srv(value: &str) -> Option<Srv> {
    let mut parts = value.split(',');
    let (name, target) = (parts.next()?.to_owned(), parts.next().unwrap_or("").to_owned());
    let mut number = |default: u16| parts.next().map_or(Some(default), |text| text.parse().ok());
    let (port, priority, weight) = (number(1)?, number(0)?, number(0)?);
    Some(Srv { name, target, numbers: [priority, weight, port] })
}
