//! What definitions say about DHCP and DNS, as the clients people have see it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use pontoon_netns_tests::{Proc, Setup, World, until, xml};

const MAC1: &str = "52:54:00:d7:8d:61";
const MAC2: &str = "52:54:00:c6:3c:03";

/// What a udhcpc that ends after its first lease is told, by the names of its script's variables.
fn told(world: &World, guest: &str, words: &[&str]) -> BTreeMap<String, String> {
    let script = world.file("show.sh", "#!/bin/sh\nif [ \"$1\" = bound ]; then env; fi\n");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("script");
    let fixed = ["busybox", "udhcpc", "-f", "-n", "-q", "-i", "eth0", "-s", &script, "-t", "5", "-T", "1"];
    let said = world.exec(guest, &[&fixed[..], words].concat()).expect_ok("udhcpc");
    let pairs = said.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn network(parts: &str) -> String {
    format!(
        "<network xmlns:dnsmasq='http://libvirt.org/schemas/network/dnsmasq/1.0'><name>natntw</name>\
         <forward mode='nat'/>{}<bridge name='virbr1'/>{parts}</network>",
        xml::UPLINK
    )
}

#[test]
fn leases_boot_files_and_options_are_those_of_the_definition() {
    let Some(world) = World::new(&Setup::default()) else { return };
    let definition = network(&format!(
        "<mtu size='1400'/><domain name='lab.test'/>\
         <ip address='192.168.100.1' prefix='24'><dhcp>\
         <range start='192.168.100.10' end='192.168.100.19'><lease expiry='20'/></range>\
         <host mac='{MAC1}' name='bymac' ip='192.168.100.50'><lease expiry='300' unit='seconds'/></host>\
         <host id='01:02:aa' name='byid' ip='192.168.100.51'/>\
         <host name='byname' ip='192.168.100.52'><lease expiry='0'/></host>\
         <bootp file='pxe/boot.img' server='192.168.100.9'/></dhcp></ip>\
         <dnsmasq:options><dnsmasq:option value='dhcp-option=option:ntp-server,0.0.0.0,192.168.100.8'/>\
         </dnsmasq:options>"
    ));
    world.start_network("natntw", &definition);
    world.attach("g1", "natntw", "eth0", MAC1);
    world.attach("g2", "natntw", "eth0", MAC2);

    let more = ["-O", "bootfile", "-O", "tftp", "-O", "ntpsrv", "-O", "mtu", "-O", "search"];
    let first = told(&world, "g1", &[&["-x", "hostname:other"][..], &more].concat());
    for (name, value) in [
        ("ip", "192.168.100.50"),
        ("lease", "300"),
        ("hostname", "bymac"),
        ("domain", "lab.test"),
        ("search", "lab.test"),
        ("mtu", "1400"),
        ("router", "192.168.100.1"),
        ("siaddr", "192.168.100.9"),
        ("boot_file", "pxe/boot.img"),
        ("bootfile", "pxe/boot.img"),
        ("tftp", "192.168.100.9"),
        ("ntpsrv", "192.168.100.1 192.168.100.8"),
    ] {
        assert_eq!(first.get(name).map(String::as_str), Some(value), "{name} in {first:?}");
    }
    for (words, ip, lease, hostname) in [
        (&["-C", "-x", "0x3d:0102aa"][..], "192.168.100.51", "1200", Some("byid")),
        (&["-C", "-x", "hostname:byname"], "192.168.100.52", "4294967295", Some("byname")),
    ] {
        let told = told(&world, "g2", words);
        let found = (&*told["ip"], &*told["lease"], told.get("hostname").map(String::as_str));
        assert_eq!(found, (ip, lease, hostname), "{words:?}");
    }
    let plain = told(&world, "g2", &["-C", "-o", "-O", "router", "-x", "hostname:guest"]);
    assert_eq!((&*plain["lease"], plain.get("ntpsrv")), ("1200", None), "nobody asked");
    let pool: Vec<String> = (10..20).map(|last| format!("192.168.100.{last}")).collect();
    assert!(pool.contains(&plain["ip"]), "{plain:?}");
    let leases = world.works(&["-q", "net-dhcp-leases", "natntw"]);
    for address in ["192.168.100.50/24", "192.168.100.51/24"] {
        assert!(leases.contains(address), "{leases}");
    }
}

/// A resolver beside the host's, which knows one domain and says what it is asked.
fn corporate(world: &World) -> Proc {
    let words = [
        "dnsmasq",
        "--no-daemon",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-hosts",
        "--no-resolv",
        "--pid-file=",
        "--bind-interfaces",
        "--port=5353",
        "--listen-address=203.0.113.80",
        "--except-interface=lo",
        "--local-ttl=600",
        "--address=/corp.example/203.0.113.7",
        "--log-queries",
        "--log-facility=-",
    ];
    let mut server = world.spawn("net", "corporate", &words);
    server.wait_said("started", 5);
    server
}

#[test]
fn names_are_answered_forwarded_and_kept_as_the_definition_says() {
    let Some(mut world) = World::new(&Setup { tools: &["dig"], ..Setup::default() }) else { return };
    let server = corporate(&world);
    let long = "x".repeat(2000);
    let definition = network(&format!(
        "<domain name='lab.test'/><dns>\
         <forwarder domain='corp.example' addr='203.0.113.80' port='5353'/>\
         <forwarder domain='www.corp.example'/>\
         <txt name='note' value='hello, world'/><txt name='long' value='{long}'/>\
         <srv service='ldap' protocol='tcp' target='db.lab.test' port='389' priority='5' weight='7'/>\
         <srv service='gone' protocol='udp'/>\
         <host ip='192.168.100.77'><hostname>db</hostname></host>\
         <host ip='fd00::77'><hostname>db</hostname></host></dns>\
         <ip address='192.168.100.1' prefix='24'><dhcp>\
         <range start='192.168.100.10' end='192.168.100.99'/></dhcp></ip>\
         <dnsmasq:options><dnsmasq:option value='cname=alias,*.cloud.test,db.lab.test'/>\
         <dnsmasq:option value='address=/pinned.test/10.1.2.3'/></dnsmasq:options>"
    ));
    world.start_network("natntw", &definition);
    let _ = world.guest("g1", "natntw", "eth0", MAC1);
    let two = world.guest("g2", "natntw", "eth0", MAC2);
    let dig = ["dig", "+tries=2", "+time=3", "@192.168.100.1"];
    let ask = |words: &str| {
        let words: Vec<&str> = words.split(' ').collect();
        world.exec("g1", &[&dig[..], &words].concat()).expect_ok("dig").trim().to_owned()
    };
    for (words, answer) in [
        ("+short SRV _ldap._tcp.lab.test", "5 7 389 db.lab.test."),
        ("+short SRV _gone._udp.lab.test", "0 0 1 ."),
        ("+short TXT note.lab.test", "\"hello, world\""),
        ("+short A db.lab.test", "192.168.100.77"),
        ("+short AAAA DB.lab.test", "fd00::77"),
        ("+short -x 192.168.100.77", "db.lab.test."),
        ("+short -x fd00::77", "db.lab.test."),
        ("+short A alias.lab.test", "db.lab.test.\n192.168.100.77"),
        ("+short CNAME any.thing.cloud.test", "db.lab.test."),
        ("+short A any.pinned.test", "10.1.2.3"),
        ("+short A google.com", "203.0.113.80"),
        ("+short A files.corp.example", "203.0.113.7"),
        ("+short +tcp A files.corp.example", "203.0.113.7"),
    ] {
        assert_eq!(ask(words), answer, "{words}");
    }
    assert_eq!(ask("+short A g2.lab.test"), two);
    let text = ask("+short TXT long");
    assert_eq!(text.matches('x').count(), 2000, "over TCP: {text}");
    for (words, status) in [
        ("A nobody.lab.test", "NXDOMAIN"),
        ("A nobody", "NXDOMAIN"),
        ("-x 192.168.100.200", "NXDOMAIN"),
        ("-x 10.9.8.7", "NXDOMAIN"),
    ] {
        assert!(ask(words).contains(&format!("status: {status}")), "{words}");
    }
    let _ = ask("A www.corp.example");
    let shown = ask("+noall +answer A files.corp.example");
    let ttl: u32 = shown.split_whitespace().nth(1).and_then(|ttl| ttl.parse().ok()).expect("a time to live");
    assert!((500..=600).contains(&ttl), "{shown}");
    // Queries leave in mixed case.
    let said = server.said().to_ascii_lowercase();
    assert_eq!(said.matches("query[a] files.corp.example").count(), 1, "kept: {said}");
    for elsewhere in ["www.corp.example", "google.com", "lab.test", "nobody"] {
        assert!(!said.contains(&format!("] {elsewhere}")), "{elsewhere}: {said}");
    }
}

#[test]
fn names_resolve_after_the_host_is_renumbered_and_its_resolvers_change() {
    let Some(mut world) = World::new(&Setup { tools: &["dig"], ..Setup::default() }) else { return };
    world.start_network("natntw", &xml::natntw());
    let _ = world.guest("g1", "natntw", "eth0", MAC1);
    let resolves = |name: &str| {
        let words = ["dig", "+tries=1", "+time=1", "+short", "@192.168.100.1", name];
        world.exec("g1", &words).out.trim() == "203.0.113.80"
    };
    assert!(resolves("google.com"));
    world.ip("host", "addr del 203.0.113.3/24 dev up0");
    world.ip("host", "addr add 203.0.113.33/24 dev up0");
    let mut count = 0;
    until("names resolve from the new address", 15, || {
        count += 1;
        resolves(&format!("n{count}.google.com")).then_some(())
    });
    fs::write(world.path("resolv.conf"), "nameserver 192.168.100.1\nnameserver 203.0.113.80\n")
        .expect("resolv.conf");
    until("the other server is asked, and the gateway does not ask itself", 15, || {
        let words = ["dig", "+tries=1", "+time=4", "@192.168.100.1", "other.google.com"];
        world.exec("g1", &words).out.contains("SERVFAIL").then_some(())
    });
}
