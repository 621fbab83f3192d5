//! What changes a bridge, and what pontoon does by other verbs.

use pontoon_proto::api::{BridgeInfo, Failure, Reply, Request};
use pontoon_proto::bridge::BridgeChange;

use super::numbers::{hundredths, integer};
use super::{Call, Outcome, failed, is_device, strange};

/// A command that sets a time.
pub(super) struct Setting {
    change: fn(u64) -> BridgeChange,
    bad: &'static str,
    failed: &'static str,
}

pub(super) const AGEING: Setting = Setting {
    change: |time| BridgeChange::Ageing { time },
    bad: "bad ageing time value",
    failed: "set ageing time failed",
};
pub(super) const FORWARD_DELAY: Setting = Setting {
    change: |time| BridgeChange::ForwardDelay { time },
    bad: "bad forward delay value",
    failed: "set forward delay failed",
};
pub(super) const HELLO: Setting = Setting {
    change: |time| BridgeChange::Hello { time },
    bad: "bad hello timer value",
    failed: "set hello timer failed",
};
pub(super) const MAX_AGE: Setting = Setting {
    change: |time| BridgeChange::MaxAge { time },
    bad: "bad max age value",
    failed: "set max age failed",
};

pub(super) fn time(call: &Call<'_>, setting: &Setting) -> Outcome {
    let value = hundredths(call.word(1)).ok_or_else(|| vec![setting.bad.to_owned()])?;
    let value = u64::try_from(value).map_err(|_| vec![out_of_range(setting.failed)])?;
    change(call, (setting.change)(value), setting.failed)
}

pub(super) fn bridge_priority(call: &Call<'_>) -> Outcome {
    let value = integer(call.word(1)).ok_or_else(|| vec!["bad priority".to_owned()])?;
    // The kernel's field has 16 bits, and so has what is left of the number.
    let priority = (value & 0xffff) as u16;
    change(call, BridgeChange::Priority { priority }, "set bridge priority failed")
}

pub(super) fn stp(call: &Call<'_>) -> Outcome {
    let on = switch(call.word(1))?;
    change(call, BridgeChange::Stp { on }, "set stp status failed")
}

pub(super) fn path_cost(call: &Call<'_>) -> Outcome {
    let what = "set path cost failed";
    let value = integer(call.word(2)).ok_or_else(|| vec!["bad path cost value".to_owned()])?;
    let cost = u32::try_from(value).map_err(|_| vec![out_of_range(what)])?;
    change_port(call, BridgeChange::PathCost { port: call.word(1).to_owned(), cost }, what)
}

pub(super) fn port_priority(call: &Call<'_>) -> Outcome {
    let what = "set port priority failed";
    let value = integer(call.word(2)).ok_or_else(|| vec!["bad path priority value".to_owned()])?;
    let priority = u32::try_from(value).map_err(|_| vec![out_of_range(what)])?;
    change_port(call, BridgeChange::PortPriority { port: call.word(1).to_owned(), priority }, what)
}

pub(super) fn hairpin(call: &Call<'_>) -> Outcome {
    let on = switch(call.word(2))?;
    let (bridge, port) = (call.word(0), call.word(1));
    if !call.all_bridges()?.iter().any(|known| known.name == bridge) {
        return Err(vec![format!("bridge {bridge} does not exist!")]);
    }
    let failure = match send(call, BridgeChange::Hairpin { port: port.to_owned(), on })? {
        Ok(()) => return Ok(()),
        Err(failure) => failure,
    };
    let words = |why: &str| match no_port(why, port) {
        Some("No such device") => format!("interface {port} does not exist!"),
        other => format!("can't set {port} to hairpin on bridge {bridge}: {}", other.unwrap_or(why)),
    };
    Err(failed(words, failure))
}

pub(super) fn addbr(call: &Call<'_>) -> Outcome {
    let name = call.word(0);
    if is_device(name) || call.all_bridges()?.iter().any(|bridge| bridge.name == name) {
        return Err(vec![format!("device {name} already exists; can't create bridge with the same name")]);
    }
    Err(vec![
        "add bridge failed: Operation not supported".to_owned(),
        format!(
            "A bridge comes with its network: write <bridge name='{name}'/> into a definition, then \
             `pontoon net-define FILE` and `pontoon net-start NETWORK`."
        ),
    ])
}

pub(super) fn delbr(call: &Call<'_>) -> Outcome {
    let name = call.word(0);
    let all = call.all_bridges()?;
    let Some(bridge) = all.iter().find(|bridge| bridge.name == name) else {
        let why = if is_device(name) { "Operation not permitted" } else { "" };
        return Err(vec![match why {
            "" => format!("bridge {name} doesn't exist; can't delete it"),
            why => format!("can't delete bridge {name}: {why}"),
        }]);
    };
    Err(vec![
        format!("bridge {name} is still up; can't delete it"),
        format!("A bridge goes with its network: `pontoon net-destroy {}`.", bridge.network),
    ])
}

pub(super) fn addif(call: &Call<'_>) -> Outcome {
    let (bridge, port) = (call.word(0), call.word(1));
    let all = call.all_bridges()?;
    let member = all.iter().any(|other| has(other, port));
    if !member && !is_device(port) {
        return Err(vec![format!("interface {port} does not exist!")]);
    }
    if !all.iter().any(|known| known.name == bridge) {
        return Err(vec![super::no_bridge(bridge)]);
    }
    if member {
        return Err(vec![format!(
            "device {port} is already a member of a bridge; can't add it to bridge {bridge}."
        )]);
    }
    Err(vec![
        format!("can't add {port} to bridge {bridge}: Operation not supported"),
        format!(
            "Interfaces of guests are made by `pontoon attach-interface --domain GUEST --type bridge --source {bridge}`."
        ),
    ])
}

pub(super) fn delif(call: &Call<'_>) -> Outcome {
    let (bridge, port) = (call.word(0), call.word(1));
    let all = call.all_bridges()?;
    if !all.iter().any(|other| has(other, port)) && !is_device(port) {
        return Err(vec![format!("interface {port} does not exist!")]);
    }
    let Some(known) = all.iter().find(|known| known.name == bridge) else {
        return Err(vec![super::no_bridge(bridge)]);
    };
    if !has(known, port) {
        return Err(vec![format!("device {port} is not a port of {bridge}")]);
    }
    Err(vec![
        format!("can't delete {port} from {bridge}: Operation not supported"),
        "An interface goes with `pontoon detach-interface --domain GUEST --type network --mac MAC`."
            .to_owned(),
    ])
}

fn has(bridge: &BridgeInfo, port: &str) -> bool {
    bridge.interfaces.iter().any(|interface| interface == port)
}

fn switch(word: &str) -> Result<bool, Vec<String>> {
    match word {
        "on" | "yes" | "1" => Ok(true),
        "off" | "no" | "0" => Ok(false),
        _ => Err(vec!["expect on/off for argument".to_owned()]),
    }
}

fn out_of_range(what: &str) -> String {
    format!("{what}: Numerical result out of range")
}

fn send(call: &Call<'_>, change: BridgeChange) -> Result<Result<(), Failure>, Vec<String>> {
    match call.ask(&Request::BridgeSet { bridge: call.word(0).to_owned(), change }) {
        Ok(Reply::Done { .. }) => Ok(Ok(())),
        Ok(other) => Err(strange(&other)),
        Err(failure) => Ok(Err(failure)),
    }
}

fn change(call: &Call<'_>, change: BridgeChange, what: &str) -> Outcome {
    let other = is_device(call.word(0));
    send(call, change)?.map_err(|failure| {
        let words = |why: &str| match why {
            "No such device" if other => format!("{what}: Operation not supported"),
            why => format!("{what}: {why}"),
        };
        failed(words, failure)
    })
}

fn change_port(call: &Call<'_>, change: BridgeChange, what: &str) -> Outcome {
    let port = call.word(1);
    send(call, change)?
        .map_err(|failure| failed(|why| format!("{what}: {}", no_port(why, port).unwrap_or(why)), failure))
}

/// What sysfs says of an interface that is no port of a bridge.
fn no_port(why: &str, port: &str) -> Option<&'static str> {
    match why {
        "No such device" if is_device(port) => Some("No such file or directory"),
        "No such device" => Some("No such device"),
        _ => None,
    }
}
