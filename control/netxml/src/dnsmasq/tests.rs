use super::*;

fn bytes(line: &str) -> Option<(u8, Vec<u8>)> {
    match DnsmasqOption::parse(line)? {
        DnsmasqOption::DhcpOption { code, data: DhcpData::Bytes(data) } => Some((code, data)),
        DnsmasqOption::DhcpOption { code, data: DhcpData::Addresses(list) } => {
            Some((code, list.iter().flat_map(Ipv4Addr::octets).collect()))
        }
        _ => None,
    }
}

#[test]
fn dhcp_options_are_written_as_dnsmasq_writes_them() {
    let cases: [(&str, u8, &[u8]); 22] = [
        ("dhcp-option=3", 3, b""),
        ("dhcp-option=option:router", 3, b""),
        ("dhcp-option=option:router,", 3, b""),
        ("dhcp-option=3,10.0.0.1,10.0.0.2", 3, &[10, 0, 0, 1, 10, 0, 0, 2]),
        ("dhcp-option=option:ntp-server,0.0.0.0", 42, &[0; 4]),
        ("dhcp-option=26,1400", 26, &[5, 0x78]),
        ("dhcp-option=option:mtu,1400", 26, &[5, 0x78]),
        ("dhcp-option=option:time-offset,-3600", 2, &[0xff, 0xff, 0xf1, 0xf0]),
        ("dhcp-option=15,example.com", 15, b"example.com"),
        ("dhcp-option=15,12345", 15, b"12345"),
        ("dhcp-option=19,1", 19, &[1]),
        ("dhcp-option=224,7", 224, &[7]),
        ("dhcp-option=224,300", 224, &[1, 44]),
        ("dhcp-option=224,70000", 224, &[0, 1, 0x11, 0x70]),
        ("dhcp-option=224,7i", 224, &[0, 0, 0, 7]),
        ("dhcp-option=224,01:ff:0a", 224, &[1, 255, 10]),
        ("dhcp-option=224,some text, more", 224, b"some text, more"),
        ("dhcp-option=224,\"7\"", 224, b"7"),
        ("dhcp-option=224,10.0.0.1,10.0.0.2", 224, &[10, 0, 0, 1, 10, 0, 0, 2]),
        ("dhcp-option=119,eng.example.com,b.c", 119, b"\x03eng\x07example\x03com\0\x01b\x01c\0"),
        ("dhcp-option=121,10.8.0.0/16,10.0.0.1", 121, &[16, 10, 8, 10, 0, 0, 1]),
        ("dhcp-option=120,10.0.0.1", 120, &[1, 10, 0, 0, 1]),
    ];
    for (line, code, data) in cases {
        assert_eq!(bytes(line), Some((code, data.to_vec())), "{line}");
    }
    assert_eq!(bytes("dhcp-option=120,sip.example"), Some((120, b"\0\x03sip\x07example\0".to_vec())));
}

#[test]
fn what_is_not_understood_is_none() {
    let long = format!("dhcp-option=224,{}", "x".repeat(256));
    for line in [
        "foo=bar",
        "bogus-priv",
        "dhcp-option",
        "dhcp-option=",
        "dhcp-option=option:frob,1",
        "dhcp-option=tag:red,3,10.0.0.1",
        "dhcp-option=vendor:PXEClient,1,0.0.0.0",
        "dhcp-option=option6:dns-server,[::]",
        "dhcp-option=3,example.com",
        "dhcp-option=26,many",
        "dhcp-option=51,60",
        "dhcp-option=53,1",
        "dhcp-option=256,1",
        "dhcp-option-force=26,1400",
        &long,
        "cname=alias",
        "cname=a..b,c",
        "host-record=name",
        "host-record=10.0.0.1",
        "address=10.0.0.1",
        "address=/a/b",
        "server=#",
        "server=",
        "server=/a/10.0.0.1@eth0",
        "server=10.0.0.1#0",
        "server=10.0.0.1#x",
        "server=//10.0.0.1",
        "cache-size=-1",
        "cache-size=many",
    ] {
        assert_eq!(DnsmasqOption::parse(line), None, "{line}");
    }
}

#[test]
fn names_and_servers() {
    let strings = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let ip = |text: &str| text.parse::<IpAddr>().expect("ip");
    let cases = [
        (
            "cname=*.cloudapps.example.com,master.example.com",
            DnsmasqOption::Cname {
                aliases: strings(&["*.cloudapps.example.com"]),
                target: "master.example.com".to_owned(),
            },
        ),
        (
            "cname=a, B.c ,target,300",
            DnsmasqOption::Cname { aliases: strings(&["a", "b.c"]), target: "target".to_owned() },
        ),
        (
            "address=/a.test/b.test/10.0.0.1",
            DnsmasqOption::Address {
                domains: strings(&["a.test", "b.test"]),
                addresses: vec![ip("10.0.0.1")],
            },
        ),
        ("address=/#/::1", DnsmasqOption::Address { domains: strings(&[""]), addresses: vec![ip("::1")] }),
        ("address=/a/", DnsmasqOption::Address { domains: strings(&["a"]), addresses: vec![] }),
        (
            "address=/a/#",
            DnsmasqOption::Address { domains: strings(&["a"]), addresses: vec![ip("0.0.0.0"), ip("::")] },
        ),
        (
            "host-record=web,web.test,10.0.0.1,fd00::1,60",
            DnsmasqOption::HostRecord {
                names: strings(&["web", "web.test"]),
                addresses: vec![ip("10.0.0.1"), ip("fd00::1")],
            },
        ),
        (
            "server=9.9.9.9",
            DnsmasqOption::Server {
                domains: vec![],
                server: Server::Address { addr: ip("9.9.9.9"), port: None },
            },
        ),
        (
            "server=/corp/*.lab./10.0.0.1#5353",
            DnsmasqOption::Server {
                domains: strings(&["corp", "lab"]),
                server: Server::Address { addr: ip("10.0.0.1"), port: Some(5353) },
            },
        ),
        ("server=/corp/#", DnsmasqOption::Server { domains: strings(&["corp"]), server: Server::Default }),
        ("server=/corp/", DnsmasqOption::Server { domains: strings(&["corp"]), server: Server::Nobody }),
        ("local=/corp/", DnsmasqOption::Server { domains: strings(&["corp"]), server: Server::Nobody }),
        ("cache-size = 1000", DnsmasqOption::CacheSize(1000)),
    ];
    for (line, expected) in cases {
        assert_eq!(DnsmasqOption::parse(line), Some(expected), "{line}");
    }
}
