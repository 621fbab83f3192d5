//! Which frames are to be traced: conditions as in pcap's filters, all of which have to hold.

use pontoon_proto::watch::Term;

use crate::defaults::parse_mac;
use crate::failure::{Answer, fail, fail_help};
use pontoon_proto::session::protocol_number;

/// Conditions of one trace.
const TERMS: usize = 16;
const KNOWN: &str = "conditions are 'host ADDRESS', 'net ADDRESS/PREFIX', 'port NUMBER', 'mac ADDRESS', 'tcp', 'udp', 'icmp', \
                     'ip', 'ip6', 'arp' and 'proto NUMBER', with 'and' between them";

/// Reads an expression; an empty one means every frame.
pub(crate) fn read(expression: &str) -> Answer<Vec<Term>> {
    let mut words = expression.split_whitespace().peekable();
    let mut terms = Vec::new();
    while words.peek().is_some() {
        if !terms.is_empty() {
            match words.next() {
                Some("and" | "&&") => {}
                Some(other) => return Err(wrong(format!("'and' is missing before '{other}'"))),
                None => break,
            }
        }
        terms.push(term(&mut words)?);
        if terms.len() > TERMS {
            return Err(wrong(format!("more than {TERMS} conditions")));
        }
    }
    Ok(terms)
}

fn term<'a>(words: &mut impl Iterator<Item = &'a str>) -> Answer<Term> {
    let Some(word) = words.next() else {
        return Err(wrong("a condition is missing behind 'and'".to_owned()));
    };
    let mut value = || words.next().ok_or_else(|| wrong(format!("'{word}' needs a value")));
    Ok(match word {
        "tcp" => Term::Protocol(6),
        "udp" => Term::Protocol(17),
        "icmp" => Term::Protocol(1),
        "ip" => Term::Ethertype(0x0800),
        "ip6" => Term::Ethertype(0x86dd),
        "arp" => Term::Ethertype(0x0806),
        "host" => {
            let text = value()?;
            let address: std::net::Ipv4Addr =
                text.parse().map_err(|_| wrong(format!("'{text}' is no IPv4 address")))?;
            Term::Net(address.into())
        }
        "net" => {
            let text = value()?;
            let net: ipnet::Ipv4Net =
                text.parse().map_err(|_| wrong(format!("'{text}' is no IPv4 subnet")))?;
            Term::Net(net.trunc())
        }
        "port" => {
            let text = value()?;
            Term::Port(text.parse().map_err(|_| wrong(format!("'{text}' is no port")))?)
        }
        "proto" => {
            let text = value()?;
            Term::Protocol(protocol_number(text).ok_or_else(|| wrong(format!("'{text}' is no protocol")))?)
        }
        "mac" => {
            let text = value()?;
            Term::Mac(parse_mac(text).map_err(|_| wrong(format!("'{text}' is no MAC address")))?)
        }
        other => {
            return Err(fail_help(
                format!("invalid argument: cannot match frames: '{other}' is no condition"),
                KNOWN,
            ));
        }
    })
}

fn wrong(why: String) -> pontoon_proto::api::Failure {
    fail(format!("invalid argument: cannot match frames: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_in_order() {
        assert_eq!(read("  ").expect("all"), []);
        let terms = read("host 192.168.1.7 and tcp && port 80 and mac 52:54:00:00:00:01").expect("terms");
        let host = Term::Net("192.168.1.7/32".parse().expect("net"));
        let mac = Term::Mac([0x52, 0x54, 0, 0, 0, 1]);
        assert_eq!(terms, [host, Term::Protocol(6), Term::Port(80), mac]);
        let net = read("net 10.1.2.3/8 and arp").expect("terms");
        assert_eq!(net, [Term::Net("10.0.0.0/8".parse().expect("net")), Term::Ethertype(0x0806)]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, said) in [
            ("hots 10.0.0.1", "'hots' is no condition"),
            ("host", "'host' needs a value"),
            ("host x", "'x' is no IPv4 address"),
            ("net 10.0.0.0/33", "'10.0.0.0/33' is no IPv4 subnet"),
            ("port http", "'http' is no port"),
            ("proto x", "'x' is no protocol"),
            ("mac 1:2", "'1:2' is no MAC address"),
            ("tcp port 80", "'and' is missing before 'port'"),
            ("tcp and", "a condition is missing behind 'and'"),
        ] {
            let failure = read(text).expect_err(text);
            assert_eq!(failure.message, format!("invalid argument: cannot match frames: {said}"));
        }
        assert!(read(&vec!["tcp"; 17].join(" and ")).is_err());
    }
}
