//! What libvirt has dnsmasq do for a network, read from the configuration it writes, and what the engine does.
//!
//! Every line of a `.conf` is a promise; a line that is not understood fails the test.
#![allow(clippy::unwrap_used)]

mod conf;
mod guest;
mod resolver;

use std::fs;
use std::path::Path;

use pontoon_compat_tests::data;

use conf::Promises;
use guest::Guests;
use resolver::Resolver;

/// Whom the host asks.
const HOST: &str = "192.0.2.53:53";

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn case(name: &str, xml: &str, conf: &str, hosts: &str) {
    let definition = pontoon_netxml::parse(xml).unwrap_or_else(|error| panic!("{name}: {error:?}"));
    let promises =
        Promises::read(conf, hosts).unwrap_or_else(|line| panic!("{name}: '{line}' is not understood"));
    let (document, places) = pontoon_control::preview(&definition, &[HOST.parse().unwrap()]);
    let snapshot = pontoon_datapath::preview(document).unwrap_or_else(|error| panic!("{name}: {error}"));
    let network = snapshot.network(1).unwrap();

    println!("{name}");
    Guests::check(network, &promises);
    Resolver::new(network, places).check(&definition, &promises);
    let warnings = definition.warnings().join("\n");
    for idle in &promises.idle {
        assert!(warnings.contains(idle.as_str()), "{name}: no warning names {idle}: {warnings}");
    }
}

#[test]
fn the_engine_keeps_what_dnsmasqs_configuration_promises() {
    let folder = match data() {
        Ok(folder) => folder.join("networkxml2confdata"),
        Err(reason) => return println!("skipped: {reason}"),
    };
    let listed = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let inputs: Vec<_> = listed.filter(|path| path.extension().is_some_and(|end| end == "xml")).collect();
    assert!(!inputs.is_empty(), "nothing in {}", folder.display());
    for xml in &inputs {
        let hosts = fs::read_to_string(xml.with_extension("hostsfile")).unwrap_or_default();
        case(&xml.to_string_lossy(), &read(xml), &read(&xml.with_extension("conf")), &hosts);
    }
    println!("{} networks", inputs.len());
}

/// What libvirt's data has no case for: name, definition, configuration, hosts.
const OWN: &[(&str, &str, &str, &str)] = &[
    (
        "several ranges and times",
        "<forward/><ip address='10.7.0.1' prefix='22'><dhcp>\
         <range start='10.7.0.10' end='10.7.0.29'><lease expiry='2' unit='hours'/></range>\
         <range start='10.7.2.1' end='10.7.2.30'><lease expiry='30'/></range>\
         <host mac='52:54:00:00:00:05' ip='10.7.3.5'><lease expiry='0'/></host>\
         <host mac='52:54:00:00:00:06' name='plain' ip='10.7.3.6'/>\
         <host name='By-Name' ip='10.7.3.7'><lease expiry='200' unit='seconds'/></host>\
         </dhcp></ip>",
        "dhcp-range=10.7.0.10,10.7.0.29,255.255.252.0,2h\n\
         dhcp-range=10.7.2.1,10.7.2.30,255.255.252.0,30m\n\
         dhcp-no-override\ndhcp-authoritative\ndhcp-lease-max=50\n",
        "52:54:00:00:00:05,10.7.3.5,infinite\n52:54:00:00:00:06,10.7.3.6,plain\nBy-Name,10.7.3.7,200s\n",
    ),
    (
        "the gateway in the middle of a range",
        "<ip address='10.7.0.5' prefix='24'><dhcp><range start='10.7.0.1' end='10.7.0.9'/></dhcp></ip>",
        "dhcp-option=3\nno-resolv\ndhcp-range=10.7.0.1,10.7.0.9,255.255.255.0\ndhcp-lease-max=9\n",
        "",
    ),
    (
        "an MTU and a boot server elsewhere",
        "<forward/><mtu size='1400'/><ip address='10.7.0.1' prefix='24'><dhcp>\
         <range start='10.7.0.2' end='10.7.0.9'/><bootp file='grub/x.efi' server='10.9.9.9'/></dhcp></ip>",
        "dhcp-range=10.7.0.2,10.7.0.9,255.255.255.0\ndhcp-no-override\n\
         dhcp-boot=grub/x.efi,,10.9.9.9\ndhcp-option=option:mtu,1400\n",
        "",
    ),
    (
        "no names",
        "<forward/><domain name='d.test'/><dns enable='no'/><ip address='10.7.0.1' prefix='24'><dhcp>\
         <range start='10.7.0.2' end='10.7.0.9'/></dhcp></ip>",
        "port=0\ndomain=d.test\nexpand-hosts\ndhcp-range=10.7.0.2,10.7.0.9,255.255.255.0\n",
        "",
    ),
    (
        "forwarders of domains alone",
        "<forward/><dns><forwarder domain='corp.example' addr='10.9.9.1' port='5353'/>\
         <forwarder domain='open.corp.example'/><forwarder domain='six.example' addr='fd00::53'/></dns>\
         <ip address='10.7.0.1' prefix='24'/>",
        "server=/corp.example/10.9.9.1#5353\nserver=/open.corp.example/#\nserver=/six.example/fd00::53\n",
        "",
    ),
    (
        "an isolated network that names a server",
        "<dns><forwarder domain='corp.example' addr='10.9.9.1'/></dns><ip address='10.7.0.1' prefix='24'/>",
        "dhcp-option=3\nno-resolv\nserver=/corp.example/10.9.9.1\n",
        "",
    ),
    (
        "services, aliases and hosts of both families",
        "<forward/><domain name='lab.test' localOnly='yes'/><dns forwardPlainNames='no'>\
         <txt name='v.example' value='a=b; c'/>\
         <srv service='ldap' protocol='tcp' domain='corp.test' target='dc.corp.test' port='389' \
         priority='5' weight='7'/><srv service='x' protocol='udp' target='.'/>\
         <host ip='10.7.0.77'><hostname>a</hostname><hostname>b.example</hostname></host>\
         <host ip='fd00::77'><hostname>a</hostname></host></dns>\
         <ip address='10.7.0.1' prefix='16' localPtr='yes'/>\
         <dnsmasq:options><dnsmasq:option value='cname=w,*.w.test,a.lab.test'/>\
         <dnsmasq:option value='log-queries'/></dnsmasq:options>",
        "local=/lab.test/\ndomain=lab.test\nexpand-hosts\nlocal=/7.10.in-addr.arpa/\ndomain-needed\n\
         local=//\ntxt-record=v.example,a=b; c\nsrv-host=_ldap._tcp.corp.test,dc.corp.test,389,5,7\n\
         srv-host=_x._udp\ncname=w,*.w.test,a.lab.test\nlog-queries\n",
        "",
    ),
];

#[test]
fn the_engine_keeps_the_promises_of_our_own_cases() {
    for (name, parts, conf, hosts) in OWN {
        let namespace = pontoon_netxml::DNSMASQ_NAMESPACE;
        let xml = format!("<network xmlns:dnsmasq='{namespace}'><name>n</name>{parts}</network>");
        case(name, &xml, conf, hosts);
    }
}
