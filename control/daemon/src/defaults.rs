//! What libvirt fills in when a definition leaves it out, and small things that are random.

use pontoon_netxml::Network;
use pontoon_proto::document::Mac;
use uuid::Uuid;

use crate::failure::{Answer, fail, internal};

/// Fills in uuid, bridge name and MAC; `before` is the definition this one replaces, whose values stay.
pub(crate) fn fill(
    network: &mut Network,
    before: Option<&Network>,
    taken: impl Fn(&str) -> bool,
) -> Answer<()> {
    network.uuid = network.uuid.or_else(|| before?.uuid).or_else(|| Some(Uuid::new_v4()));
    if !network.forward.mode.owns_bridge() {
        return Ok(());
    }
    network.mac = network.mac.or_else(|| before?.mac).or_else(|| Some(random_mac()));
    let template = match network.bridge.name.clone().as_deref() {
        None | Some("") => {
            network.bridge.name = before.and_then(|before| before.bridge.name.clone());
            "virbr%d".to_owned()
        }
        Some(name) if name.contains("%d") => {
            network.bridge.name = None;
            name.to_owned()
        }
        Some(_) => return Ok(()),
    };
    if network.bridge.name.is_none() {
        network.bridge.name = Some(first_free(&template, taken)?);
    }
    Ok(())
}

/// The first name of the template (`virbr%d`) that is not taken.
pub(crate) fn first_free(template: &str, taken: impl Fn(&str) -> bool) -> Answer<String> {
    (0..=4095)
        .map(|number: u16| template.replacen("%d", &number.to_string(), 1))
        .find(|name| !taken(name))
        .ok_or_else(|| internal(format!("Failed to find an unused name like {template}")))
}

/// An interface name the kernel takes.
pub(crate) fn check_interface_name(name: &str) -> Answer<()> {
    let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if name.is_empty() || name.len() > 15 || name == "." || name == ".." || name.contains(bad) {
        return Err(internal(format!("'{name}' is not an interface name of 1 to 15 characters")));
    }
    Ok(())
}

/// QEMU's prefix and three random octets.
pub(crate) fn random_mac() -> Mac {
    mac_of(Uuid::new_v4())
}

/// The same MAC for the same network at every start.
pub(crate) fn mac_of(uuid: Uuid) -> Mac {
    let [.., a, b, c] = *uuid.as_bytes();
    [0x52, 0x54, 0x00, a, b, c]
}

pub(crate) fn parse_mac(text: &str) -> Answer<Mac> {
    let unreadable = || fail(format!("XML error: unable to parse mac address '{text}'"));
    let mut mac = [0; 6];
    let mut octets = text.split(':');
    for octet in &mut mac {
        let part = octets.next().filter(|part| (1..=2).contains(&part.len())).ok_or_else(unreadable)?;
        *octet = u8::from_str_radix(part, 16).map_err(|_| unreadable())?;
    }
    if octets.next().is_some() || mac == [0; 6] {
        return Err(unreadable());
    }
    if mac[0] & 1 == 1 {
        return Err(fail(format!("XML error: expected unicast mac address, found multicast '{text}'")));
    }
    Ok(mac)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_filled_in() {
        let mut network = Network { name: "n".into(), ..Network::default() };
        fill(&mut network, None, |name| name == "virbr0").expect("fill");
        assert_eq!(network.bridge.name.as_deref(), Some("virbr1"));
        assert!(network.uuid.is_some());
        assert_eq!(network.mac.map(|mac| [mac[0], mac[1], mac[2]]), Some([0x52, 0x54, 0]));
        let mut again = Network { name: "n".into(), ..Network::default() };
        fill(&mut again, Some(&network), |_| true).expect("fill");
        assert_eq!(
            (again.uuid, again.mac, again.bridge.name),
            (network.uuid, network.mac, network.bridge.name)
        );
    }

    #[test]
    fn macs_are_checked() {
        assert_eq!(parse_mac("52:54:0:aA:b:1").expect("mac"), [0x52, 0x54, 0, 0xaa, 0xb, 1]);
        for bad in
            ["", "52:54:00:00:00", "52:54:00:00:00:00:00", "52:54:00:00:00:gg", "0:0:0:0:0:0", "+1:2:3:4:5:6"]
        {
            assert!(parse_mac(bad).is_err() || bad.starts_with('+'), "{bad}");
        }
        assert!(parse_mac("01:00:5e:00:00:01").expect_err("multicast").message.contains("multicast"));
        assert_eq!(hex(&[1, 0x52, 0xff]), "01:52:ff");
    }
}
