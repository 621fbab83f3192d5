//! The networks of the tests.

/// How every NAT network of the tests leaves.
pub const UPLINK: &str = "<pontoon:uplink xmlns:pontoon='urn:pontoon:network:1' kind='direct' dev='up0' \
     address='203.0.113.2/24' gateway='203.0.113.1'/>";

/// A NAT network with the gateway 192.168.`third`.1.
#[must_use]
pub fn nat(name: &str, bridge: &str, third: u8, first: u8) -> String {
    format!(
        "<network>
  <name>{name}</name>
  <forward mode='nat'>
    <nat>
      <port start='1024' end='65535'/>
    </nat>
  </forward>
  {UPLINK}
{}</network>
",
        segment(bridge, third, first)
    )
}

/// The same as it stands on the scenario page: it leaves from the host's own address.
#[must_use]
pub fn shared(name: &str, bridge: &str, third: u8, first: u8) -> String {
    nat(name, bridge, third, first).replace(&format!("  {UPLINK}\n"), "")
}

/// A network without a way outside.
#[must_use]
pub fn isolated(name: &str, bridge: &str, third: u8, first: u8) -> String {
    format!("<network>\n  <name>{name}</name>\n{}</network>\n", segment(bridge, third, first))
}

fn segment(bridge: &str, third: u8, first: u8) -> String {
    format!(
        "  <bridge name='{bridge}' stp='on' delay='0'/>
  <ip address='192.168.{third}.1' netmask='255.255.255.0'>
    <dhcp>
      <range start='192.168.{third}.{first}' end='192.168.{third}.254'/>
    </dhcp>
  </ip>
"
    )
}

#[must_use]
pub fn default() -> String {
    nat("default", "virbr0", 122, 2)
}

#[must_use]
pub fn natntw() -> String {
    nat("natntw", "virbr1", 100, 10)
}

#[must_use]
pub fn hostntw() -> String {
    isolated("hostntw", "virbr2", 110, 10)
}
