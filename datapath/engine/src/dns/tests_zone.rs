//! What the elements of a definition make of names.
#![allow(clippy::unwrap_used)]

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr};

use pontoon_wire::dns::{Header, Record, edns, kind, rcode};

use super::tests::{GATEWAY, WEB, client, forwarder, leases, query};
use super::zone::Data;
use super::*;

fn base() -> Config {
    Config {
        enabled: true,
        domain: Some("lab.test".to_string()),
        gateway: GATEWAY,
        prefix: 24,
        upstreams: vec![Upstream { domain: None, resolvers: vec![0] }],
        ..Config::default()
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Records as text, or what else comes of it.
fn ask(config: &Config, name: &str, asked: u16) -> String {
    let (zone, names) = (Zone::new(config.clone()), leases());
    match zone.resolve(&names, name, asked) {
        Outcome::Answer(answer) => {
            let record = |(owner, data): &(Option<&str>, Data<'_>)| {
                let owner = owner.map_or(String::new(), |owner| format!("{owner} "));
                owner
                    + &match data {
                        Data::Address(address) => address.to_string(),
                        Data::Alias(target) => format!("-> {target}"),
                        Data::Pointer(name) => Cow::clone(name).into_owned(),
                        Data::Text(text) => format!("'{text}'"),
                        Data::Service(srv) => {
                            let target = srv.target.as_deref().unwrap_or(".");
                            format!("{} {} {} {target}", srv.priority, srv.weight, srv.port)
                        }
                    }
            };
            answer.records.iter().map(record).collect::<Vec<_>>().join(", ")
        }
        Outcome::Any => "any".to_string(),
        Outcome::NxDomain => "nxdomain".to_string(),
        Outcome::Refused => "refused".to_string(),
        Outcome::Upstream(resolvers) => format!("ask {resolvers:?}"),
    }
}

#[test]
fn hosts_have_all_their_addresses_of_both_families() {
    let hosts =
        |address: &str, names: &[&str]| (ip(address), names.iter().map(ToString::to_string).collect());
    let config = Config {
        hosts: vec![
            hosts("192.168.122.1", &["host", "Gateway"]),
            hosts("fd00::5", &["host", "six.example.org"]),
            hosts("192.168.122.7", &["host"]),
            hosts("203.0.113.9", &["web.lab.test"]),
        ],
        ..base()
    };
    for name in ["host", "host.lab.test"] {
        assert_eq!(ask(&config, name, kind::A), "192.168.122.1, 192.168.122.7");
        assert_eq!(ask(&config, name, kind::AAAA), "fd00::5");
        assert_eq!(ask(&config, name, kind::TXT), "", "known, but not this");
    }
    assert_eq!(ask(&config, "gateway", kind::A), "192.168.122.1");
    assert_eq!(ask(&config, "six.example.org", kind::AAAA), "fd00::5");
    assert_eq!(ask(&config, "six.example.org", kind::A), "");
    assert_eq!(ask(&config, "six.example.org.lab.test", kind::AAAA), "nxdomain", "it has a domain");
    assert_eq!(ask(&config, "web", kind::A), "203.0.113.9", "before the lease");
    assert_eq!(ask(&config, "1.122.168.192.in-addr.arpa", kind::PTR), "host.lab.test");
    assert_eq!(ask(&config, "9.113.0.203.in-addr.arpa", kind::PTR), "web.lab.test");
    let six = format!("5{}.0.0.d.f.ip6.arpa", ".0".repeat(27));
    assert_eq!(ask(&config, &six, kind::PTR), "host.lab.test");
    assert_eq!(ask(&config, &six, kind::A), "");
}

#[test]
fn services_have_the_networks_domain_unless_they_name_one() {
    let srv = |name: &str, target: Option<&str>, numbers: [u16; 3]| Srv {
        name: name.to_string(),
        target: target.map(ToString::to_string),
        priority: numbers[0],
        weight: numbers[1],
        port: numbers[2],
    };
    let config = Config {
        srv: vec![
            srv("_name._tcp", None, [0, 0, 1]),
            srv("_ldap._tcp.corp.example", Some("dc.corp.example"), [10, 20, 389]),
            srv("_LDAP._tcp.corp.example", Some("web"), [5, 0, 389]),
        ],
        txt: vec![("note".into(), "a, b".into()), ("note".into(), String::new())],
        ..base()
    };
    for name in ["_name._tcp", "_name._tcp.lab.test"] {
        assert_eq!(ask(&config, name, kind::SRV), "0 0 1 .");
    }
    let both = "10 20 389 dc.corp.example, 5 0 389 web";
    assert_eq!(ask(&config, "_ldap._tcp.corp.example", kind::SRV), both);
    assert_eq!(ask(&config, "_ldap._tcp.corp.example.lab.test", kind::SRV), "nxdomain");
    assert_eq!(ask(&config, "_tcp.lab.test", kind::SRV), "", "a node between");
    assert_eq!(ask(&config, "note.lab.test", kind::TXT), "'a, b', ''");
    let bare = Config { domain: None, ..config };
    assert_eq!(ask(&bare, "_name._tcp", kind::SRV), "0 0 1 .");
}

#[test]
fn aliases_are_followed_as_far_as_they_are_known() {
    let alias = |alias: &str, target: &str| (alias.to_string(), target.to_string());
    let config = Config {
        cnames: vec![
            alias("www", "web"),
            alias("two.example.com", "www.lab.test"),
            alias("*.cloud.example.com", "master.example.com"),
            alias("*.lab.test", "web"),
            alias("a", "b"),
            alias("b", "a"),
            alias("self", "self"),
        ],
        hosts: vec![(ip("10.0.0.5"), vec!["real.cloud.example.com".to_string()])],
        ..base()
    };
    assert_eq!(ask(&config, "www", kind::A), format!("-> web, web {WEB}"));
    assert_eq!(ask(&config, "www.lab.test", kind::CNAME), "-> web");
    assert_eq!(
        ask(&config, "two.example.com", kind::A),
        format!("-> www.lab.test, www.lab.test -> web, web {WEB}")
    );
    assert_eq!(ask(&config, "x.y.cloud.example.com", kind::A), "-> master.example.com");
    assert_eq!(ask(&config, "cloud.example.com", kind::A), "ask [0]", "a star is one label at least");
    assert_eq!(ask(&config, "real.cloud.example.com", kind::A), "10.0.0.5");
    assert_eq!(ask(&config, "web.lab.test", kind::A), WEB.to_string(), "a lease before a star");
    assert_eq!(ask(&config, "other.lab.test", kind::A), format!("-> web, web {WEB}"));
    assert_eq!(ask(&config, "a", kind::A).matches("->").count(), 8, "a circle ends");
    assert_eq!(ask(&config, "self", kind::A), "nxdomain");
}

#[test]
fn domains_have_one_address_or_do_not_exist() {
    let domain = |domain: &str, address: Option<&str>| (domain.to_string(), address.map(ip));
    let mut config = Config {
        domains: vec![
            domain("apps.example", Some("10.0.0.1")),
            domain("apps.example", Some("fd00::1")),
            domain("ads.example", None),
            domain("good.ads.example", Some("10.0.0.2")),
        ],
        upstreams: vec![
            Upstream { domain: None, resolvers: vec![0] },
            Upstream { domain: Some("deep.apps.example".into()), resolvers: vec![7] },
            Upstream { domain: Some("ads.example".into()), resolvers: vec![8] },
        ],
        cnames: vec![("alias".into(), "x.apps.example".into())],
        ..base()
    };
    for name in ["apps.example", "a.b.apps.example"] {
        assert_eq!(ask(&config, name, kind::A), "10.0.0.1");
        assert_eq!(ask(&config, name, kind::AAAA), "fd00::1");
        assert_eq!(ask(&config, name, kind::TXT), "");
    }
    assert_eq!(ask(&config, "alias", kind::A), "-> x.apps.example, x.apps.example 10.0.0.1");
    assert_eq!(ask(&config, "x.deep.apps.example", kind::A), "ask [7]", "the longest domain counts");
    assert_eq!(ask(&config, "x.ads.example", kind::A), "nxdomain");
    assert_eq!(ask(&config, "x.good.ads.example", kind::A), "10.0.0.2");
    assert_eq!(ask(&config, "other.example", kind::A), "ask [0]");
    config.domains.push(domain("", Some("10.9.9.9")));
    assert_eq!(ask(&config, "other.example", kind::A), "10.9.9.9");
    assert_eq!(ask(&config, "x.ads.example", kind::A), "nxdomain");
}

#[test]
fn the_networks_domain_leaves_only_for_whom_it_is_told_to() {
    let upstream = |domain: &str| Upstream { domain: Some(domain.to_string()), resolvers: vec![5] };
    let mut config = base();
    assert_eq!(ask(&config, "gone.lab.test", kind::A), "nxdomain", "nobody is named for it");
    config.upstreams.push(upstream("test"));
    assert_eq!(ask(&config, "gone.lab.test", kind::A), "nxdomain", "nor for it above");
    config.upstreams.push(upstream("lab.test"));
    config.upstreams.push(upstream("sub.lab.test"));
    assert_eq!(ask(&config, "gone.lab.test", kind::A), "ask [5]");
    assert_eq!(ask(&config, "web.lab.test", kind::A), WEB.to_string());
    config.local_only = true;
    assert_eq!(ask(&config, "gone.lab.test", kind::A), "nxdomain");
    assert_eq!(ask(&config, "x.sub.lab.test", kind::A), "ask [5]", "a longer domain");
}

#[test]
fn plain_names_leave_only_when_they_may() {
    let mut config = base();
    for asked in [kind::A, kind::AAAA, kind::TXT, kind::PTR, 2, 6, 15] {
        assert_eq!(ask(&config, "printer", asked), "nxdomain");
    }
    assert_eq!(ask(&config, "com", kind::DS), "ask [0]", "of top-level domains, for guests that validate");
    config.upstreams.push(Upstream { domain: Some("intranet".into()), resolvers: vec![3] });
    assert_eq!(ask(&config, "intranet", kind::A), "ask [3]", "as told");
    config.forward_plain_names = true;
    assert_eq!(ask(&config, "printer", kind::A), "ask [0]");
    assert_eq!(ask(&config, "localhost", kind::A), "nxdomain");
}

#[test]
fn reverse_names_of_the_network_stay_here() {
    let subnet = |address: &str, prefix, alone| Reverse { address: ip(address), prefix, alone };
    let zone = |name: &str| Upstream { domain: Some(name.to_string()), resolvers: vec![4] };
    let mut config = Config {
        reverse: vec![
            subnet("8.8.4.1", 24, false),
            subnet("9.9.9.1", 26, true),
            subnet("2600:1:2::1", 64, true),
        ],
        ..base()
    };
    let six = |last: &str| format!("{last}{}.2.0.0.0.1.0.0.0.0.0.6.2.ip6.arpa", ".0".repeat(19));
    let nobody = [
        "5.4.8.8.in-addr.arpa",
        "5.9.9.9.in-addr.arpa",
        "5.122.168.192.in-addr.arpa",
        "1.2.3.10.in-addr.arpa",
    ];
    for name in nobody {
        assert_eq!(ask(&config, name, kind::PTR), "nxdomain", "{name}");
    }
    assert_eq!(ask(&config, &six("7"), kind::PTR), "nxdomain");
    assert_eq!(ask(&config, "2.0.0.0.1.0.0.0.0.0.6.2.ip6.arpa", kind::PTR), "ask [0]", "above the subnet");
    assert_eq!(ask(&config, "70.9.9.9.in-addr.arpa", kind::PTR), "ask [0]", "beside it");
    config.upstreams.extend(["4.8.8.in-addr.arpa", "9.9.9.in-addr.arpa", "10.in-addr.arpa"].map(zone));
    assert_eq!(ask(&config, "5.4.8.8.in-addr.arpa", kind::PTR), "ask [4]");
    assert_eq!(ask(&config, "5.9.9.9.in-addr.arpa", kind::PTR), "nxdomain", "this server's alone");
    assert_eq!(ask(&config, "1.2.3.10.in-addr.arpa", kind::PTR), "ask [4]");
    assert_eq!(ask(&config, "50.122.168.192.in-addr.arpa", kind::PTR), "web.lab.test");
}

#[test]
fn isolated_networks_ask_whom_they_name_and_refuse_the_rest() {
    let mut config = Config { isolated: true, upstreams: vec![], ..base() };
    for name in ["example.com", "printer", "a.local", "1.0.0.10.in-addr.arpa", "8.8.8.8.in-addr.arpa"] {
        assert_eq!(ask(&config, name, kind::PTR), "refused", "{name}");
    }
    assert_eq!(ask(&config, "gone.lab.test", kind::A), "nxdomain");
    assert_eq!(ask(&config, "7.122.168.192.in-addr.arpa", kind::PTR), "nxdomain");
    config.upstreams.push(Upstream { domain: Some("corp.example".into()), resolvers: vec![2] });
    config.upstreams.push(Upstream { domain: Some("none.example".into()), resolvers: vec![] });
    assert_eq!(ask(&config, "a.corp.example", kind::A), "ask [2]");
    assert_eq!(ask(&config, "a.none.example", kind::A), "refused");
    assert_eq!(ask(&config, "example.com", kind::A), "refused");
    config.upstreams.push(Upstream { domain: None, resolvers: vec![1] });
    assert_eq!(ask(&config, "example.com", kind::A), "ask [1]");
    assert_eq!(ask(&config, "printer", kind::A), "nxdomain");
}

#[test]
fn names_that_cannot_be_written_are_left_out() {
    let long = "x".repeat(64);
    let config = Config {
        domain: Some(format!("{long}.test")),
        hosts: vec![(ip("10.0.0.1"), vec![long.clone(), String::new(), "a..b".into(), "good".into()])],
        cnames: vec![("alias".into(), long.clone())],
        srv: vec![Srv { name: "_a._tcp".into(), target: Some(long), port: 1, priority: 0, weight: 0 }],
        ..base()
    };
    assert_eq!(ask(&config, "good", kind::A), "10.0.0.1");
    assert_eq!(ask(&config, "1.0.0.10.in-addr.arpa", kind::PTR), "good");
    assert_eq!(ask(&config, "alias", kind::A), "nxdomain");
    assert_eq!(ask(&config, "_a._tcp", kind::SRV), "ask [0]");
}

#[test]
fn a_service_comes_with_the_addresses_of_its_targets() {
    let config = Config {
        srv: vec![
            Srv { name: "_a._tcp".into(), target: Some("web".into()), port: 80, priority: 1, weight: 2 },
            Srv {
                name: "_a._tcp".into(),
                target: Some("elsewhere.example".into()),
                port: 81,
                priority: 3,
                weight: 4,
            },
        ],
        ttl: 7,
        ..base()
    };
    let (mut reply, zone) = ([0; 600], Zone::new(config));
    let asked = query(1, "_a._tcp.lab.test", kind::SRV);
    let verdict = forwarder().query(0, &zone, &leases(), client(1), &asked, &mut reply);
    let Verdict::Answer(length) = verdict else { panic!("{verdict:?}") };
    let (message, mut at) = (&reply[..length], asked.len());
    let header = Header::parse(message).unwrap();
    assert_eq!((header.rcode(), header.answers, header.additionals), (rcode::NOERROR, 2, 1));
    let mut records = Vec::new();
    while at < length {
        let record = Record::parse(message, at).unwrap();
        assert_eq!(record.ttl, 7);
        records.push((record.kind, record.data.to_vec()));
        at = record.end;
    }
    assert_eq!(records[0], (kind::SRV, b"\0\x01\0\x02\0\x50\x03web\0".to_vec()));
    assert_eq!(records[2], (kind::A, WEB.octets().to_vec()));
}

#[test]
fn a_long_local_answer_is_cut_and_whole_over_tcp() {
    let config = Config { txt: vec![("long".into(), "x".repeat(3000))], ..base() };
    let (mut reply, zone) = ([0; 4096], Zone::new(config));
    let asked = query(1, "long", kind::TXT);
    for (transport, whole) in [(Transport::Udp, false), (Transport::Tcp(1), true)] {
        let from = Client { transport, ..client(1) };
        let verdict = forwarder().query(0, &zone, &leases(), from, &asked, &mut reply);
        let Verdict::Answer(length) = verdict else { panic!("{verdict:?}") };
        let header = Header::parse(&reply[..length]).unwrap();
        assert_eq!((header.answers == 1, header.flags & flag::TC == 0, length > 3000), (whole, whole, whole));
        assert!(edns(&reply[..length], &header, asked.len()).unwrap().is_none());
    }
}

#[test]
fn the_gateway_is_no_guests_name() {
    struct Liar;
    impl Names for Liar {
        fn by_name(&self, _: &str) -> Option<Ipv4Addr> {
            Some(GATEWAY)
        }
        fn by_ip(&self, _: Ipv4Addr) -> Option<&str> {
            Some("liar")
        }
    }
    let zone = Zone::new(base());
    assert_eq!(zone.resolve(&Liar, "any.lab.test", kind::A), Outcome::NxDomain);
    assert_eq!(zone.resolve(&Liar, "1.122.168.192.in-addr.arpa", kind::PTR), Outcome::NxDomain);
}
