//! `show`, `showmacs` and `showstp`.

use crate::outcome::say;
use crate::verbs::print_json;
use pontoon_proto::api::{BridgeInfo, Reply, Request};

use super::{Call, Outcome, failed, is_device, no_bridge, strange, tables};

pub(super) fn bridges(call: &Call<'_>) -> Outcome {
    let all = call.all_bridges()?;
    let (mut chosen, mut complaints): (Vec<&BridgeInfo>, Vec<String>) = (Vec::new(), Vec::new());
    for name in call.words {
        match all.iter().find(|bridge| &bridge.name == name) {
            Some(bridge) => chosen.push(bridge),
            None => complaints.push(no_bridge(name)),
        }
    }
    if call.words.is_empty() {
        chosen.extend(&all);
    }
    if call.flags.json {
        print_json(&chosen);
    } else {
        say(&tables::bridges(&chosen, call.flags.format));
    }
    if complaints.is_empty() { Ok(()) } else { Err(complaints) }
}

pub(super) fn macs(call: &Call<'_>) -> Outcome {
    let bridge = call.word(0);
    match call.ask(&Request::BridgeMacs { bridge: bridge.to_owned() }) {
        Ok(Reply::Macs { macs }) if call.flags.json => print_json(&macs),
        Ok(Reply::Macs { macs }) => say(&tables::macs(&macs)),
        Ok(other) => return Err(strange(&other)),
        Err(failure) => {
            let why = if is_device(bridge) { "Operation not supported" } else { "No such device" };
            return Err(failed(|_| format!("read of forward table failed: {why}"), failure));
        }
    }
    Ok(())
}

pub(super) fn stp(call: &Call<'_>) -> Outcome {
    let bridge = call.word(0);
    match call.ask(&Request::BridgeStp { bridge: bridge.to_owned() }) {
        Ok(Reply::Stp { stp }) if call.flags.json => print_json(&stp),
        Ok(Reply::Stp { stp }) => say(&tables::stp(&stp, call.flags.format)),
        Ok(other) => return Err(strange(&other)),
        Err(failure) => return Err(failed(|_| no_bridge(bridge), failure)),
    }
    Ok(())
}
