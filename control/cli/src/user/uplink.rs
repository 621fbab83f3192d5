//! The process behind an uplink of `kind='user'`: a network's NAT at one end of a socket, ordinary sockets at the other.

use std::net::Ipv4Addr;

use anyhow::Context;
use clap::Args;
use pontoon_proto::privilege::{self, Kept};
use pontoon_user::{Config, User};

#[derive(Debug, Args)]
pub(crate) struct UplinkArgs {
    /// The inherited socket.
    #[arg(long)]
    fd: i32,
    /// What NAT's frames are sent to.
    #[arg(long)]
    gateway: Ipv4Addr,
    #[arg(long)]
    mtu: u16,
}

/// Works until nobody holds the other end.
pub(crate) fn run(args: &UplinkArgs) -> anyhow::Result<()> {
    let socket = pontoon_control::take_inherited(args.fd)?;
    let limits = super::limits();
    privilege::limit(&Kept::NOTHING)?;
    rustix::thread::set_no_new_privs(true).context("no_new_privs")?;
    let UplinkArgs { gateway, mtu, .. } = *args;
    let config = Config { gateway, resolvers: Vec::new(), mtu, limits, loopback: false };
    let mut user = User::on_socket(config, socket).context("cannot serve the uplink")?;
    let mut told = false;
    user.run(|user| {
        if user.ping_refused() && !told {
            told = true;
            eprintln!("pontoon: {}", super::ping_advice());
        }
    })?;
    Ok(())
}
