//! `<portForward>`.

use super::{Update, UpdateCommand};
use crate::parse::cx::Result;
use crate::{Network, PortForward, forward};

pub(super) fn port_forward(update: &Update<'_>, network: &mut Network) -> Result<()> {
    update.expect("portForward")?;
    if update.command == UpdateCommand::Modify {
        let error = update.impossible("port forwards cannot be modified, only added or deleted");
        return Err(error.with_help("delete the old one and add the new one"));
    }
    let wanted = crate::parse::port_forward::one(update.cx, update.node)?;
    let (of, forwards) = (&update.cx.name, &mut network.port_forwards);
    if update.command.adds() {
        let taken = forwards.iter().find_map(|other| Some((forward::common(other, &wanted)?, other)));
        if let Some((port, other)) = taken {
            let (proto, guest) = (wanted.proto.as_str(), &other.guest);
            let message = format!("{proto} port {port} of network '{of}' is forwarded to '{guest}' already");
            return Err(update
                .invalid(&message)
                .with_help("delete that forward first, or choose another port"));
        }
        update.add(forwards, wanted);
        return Ok(());
    }
    let same = |other: &PortForward| {
        other.proto == wanted.proto
            && other.address == wanted.address
            && other
                .pieces()
                .iter()
                .map(|piece| (piece.first, piece.last))
                .eq(wanted.pieces().iter().map(|piece| (piece.first, piece.last)))
    };
    match forwards.iter().position(same) {
        Some(at) => drop(forwards.remove(at)),
        None => {
            let message = format!("couldn't find a port forward in network '{of}' with these ports");
            return Err(update.invalid(&message).with_help("pontoon port-forward list shows what there is"));
        }
    }
    Ok(())
}
