//! `<interface>` of `<forward>`.

use super::{Update, UpdateCommand};
use crate::Network;
use crate::parse::cx::{Result, owned};

pub(super) fn interface(update: &Update<'_>, network: &mut Network) -> Result<()> {
    update.expect("interface")?;
    if update.command == UpdateCommand::Modify {
        let error = update.impossible("forward interface entries cannot be modified, only added or deleted");
        return Err(error.with_help("delete the old entry and add the new one"));
    }
    let dev = owned(update.node, "dev").ok_or_else(|| {
        let error = update.cx.xml(update.node, "dev", "missing dev attribute in <interface> element");
        error.with_help("write <interface dev='NAME'/>")
    })?;
    let of = &update.cx.name;
    let forward = &mut network.forward;
    match (update.command, forward.interfaces.iter().position(|other| *other == dev)) {
        (UpdateCommand::Delete, Some(at)) => drop(forward.interfaces.remove(at)),
        (UpdateCommand::Delete, None) => {
            let message = format!(
                "couldn't find an interface entry in network '{of}' matching <interface dev='{dev}'>"
            );
            let known = forward.interfaces.join(", ");
            let known = if known.is_empty() {
                "it has none".to_owned()
            } else {
                format!("its interfaces are {known}")
            };
            return Err(update.invalid(&message).with_help(known));
        }
        (_, Some(_)) => {
            let message = format!(
                "there is an existing interface entry in network '{of}' that matches \"<interface dev='{dev}'>\""
            );
            return Err(update.invalid(&message).with_help("it is there already"));
        }
        (_, None) => update.add(&mut forward.interfaces, dev),
    }
    forward.dev = forward.interfaces.first().cloned();
    Ok(())
}
