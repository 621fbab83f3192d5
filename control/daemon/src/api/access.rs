//! Who may ask for what.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use pontoon_proto::api::{Failure, Request};
use pontoon_proto::request::Class;

use crate::failure::fail_help;
use crate::sys;

/// Who else than the managers may use the verbs that change nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadAccess {
    #[default]
    Group,
    Any,
}

/// Who is at the other end of a connection, as the kernel noted it when it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) uid: u32,
    pub(crate) groups: Vec<u32>,
}

impl Caller {
    pub(crate) fn of(stream: impl AsFd) -> io::Result<Self> {
        let credentials = rustix::net::sockopt::socket_peercred(&stream)?;
        let mut groups = sys::peer_groups(&stream)?;
        groups.push(credentials.gid.as_raw());
        Ok(Self { uid: credentials.uid.as_raw(), groups })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rights {
    Nothing,
    Read,
    All,
}

#[derive(Clone, Debug)]
pub(crate) struct Access {
    /// Users who manage networks: root and the daemon's own.
    pub(crate) users: Vec<u32>,
    /// The group whose members manage networks, and its name.
    pub(crate) group: Option<(String, u32)>,
    pub(crate) read: ReadAccess,
}

impl Access {
    /// `group` is a name or a number; one that does not exist has no members.
    pub(crate) fn new(group: &str, read: ReadAccess) -> Self {
        let listing = std::fs::read_to_string("/etc/group").unwrap_or_default();
        let id = group.parse().ok().or_else(|| group_id(&listing, group));
        let users = vec![0, rustix::process::geteuid().as_raw()];
        Self { users, group: id.map(|id| (group.to_owned(), id)), read }
    }

    pub(crate) fn of(&self, caller: &Caller) -> Rights {
        let member = self.group.as_ref().is_some_and(|(_, id)| caller.groups.contains(id));
        match self.read {
            _ if self.users.contains(&caller.uid) || member => Rights::All,
            ReadAccess::Any => Rights::Read,
            ReadAccess::Group => Rights::Nothing,
        }
    }

    /// Has sockets that are made in a directory belong to the group that manages networks.
    pub(crate) fn apply_dir(&self, dir: &Path) -> io::Result<()> {
        use std::os::unix::fs::{PermissionsExt, chown};
        if let Some((name, id)) = &self.group
            && let Err(error) = chown(dir, None, Some(*id))
        {
            tracing::warn!("{} cannot be given to group {name}: {error}", dir.display());
        }
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o2755))
    }

    /// Gives the socket the mode and the group that let in whoever has a right.
    pub(crate) fn apply(&self, socket: &Path) -> io::Result<()> {
        use std::os::unix::fs::{PermissionsExt, chown};
        if let Some((name, id)) = &self.group
            && let Err(error) = chown(socket, None, Some(*id))
        {
            tracing::warn!("{} cannot be given to group {name}: {error}", socket.display());
        }
        let mode = if self.read == ReadAccess::Any { 0o666 } else { 0o660 };
        std::fs::set_permissions(socket, std::fs::Permissions::from_mode(mode))
    }

    /// Why a caller with these rights may not ask for this; `None` when it may.
    pub(crate) fn refusal(&self, caller: &Caller, rights: Rights, request: &Request) -> Option<Failure> {
        let needed = if request.class() == Class::Change { Rights::All } else { Rights::Read };
        if rights >= needed {
            return None;
        }
        let may = if rights == Rights::Read {
            "may read but not change networks"
        } else {
            "may not manage networks"
        };
        let help = match &self.group {
            Some((name, _)) => format!("run the command as root or as a member of the group '{name}'"),
            None => "run the command as root or as the user the daemon runs as; members of a group named 'pontoon' may \
                     too once it exists and the daemon was restarted"
                .to_owned(),
        };
        Some(fail_help(format!("authentication failed: user {} {may}", caller.uid), help))
    }
}

/// The number of a group in the text of `/etc/group`.
fn group_id(listing: &str, group: &str) -> Option<u32> {
    let mut lines = listing.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| (fields.next() == Some(group)).then(|| fields.nth(1)?.parse().ok()).flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(uid: u32, groups: &[u32]) -> Caller {
        Caller { uid, groups: groups.to_vec() }
    }

    #[test]
    fn root_the_daemons_user_and_the_group_may_do_all_and_others_what_is_opened() {
        let mut access =
            Access { users: vec![0, 77], group: Some(("pontoon".into(), 990)), read: ReadAccess::Group };
        for (who, expected) in [
            (caller(0, &[0]), Rights::All),
            (caller(77, &[77]), Rights::All),
            (caller(1000, &[1000, 4, 990]), Rights::All),
            (caller(1000, &[1000, 77]), Rights::Nothing),
        ] {
            assert_eq!(access.of(&who), expected, "{who:?}");
        }
        access.read = ReadAccess::Any;
        assert_eq!(access.of(&caller(1000, &[1000])), Rights::Read);
        access.group = None;
        assert_eq!(access.of(&caller(1000, &[990])), Rights::Read);
    }

    #[test]
    fn a_refusal_says_who_and_how_to_be_let_in() {
        let access = Access { users: vec![0], group: Some(("pontoon".into(), 990)), read: ReadAccess::Any };
        let who = caller(1000, &[1000]);
        assert_eq!(access.refusal(&who, Rights::Read, &Request::NetList), None);
        let start = Request::NetStart { network: "a".into() };
        let failure = access.refusal(&who, Rights::Read, &start).expect("refused");
        assert_eq!(failure.message, "authentication failed: user 1000 may read but not change networks");
        assert!(failure.detail.is_some_and(|detail| detail.contains("'pontoon'")));
        let failure = access.refusal(&who, Rights::Nothing, &Request::NetList).expect("refused");
        assert_eq!(failure.message, "authentication failed: user 1000 may not manage networks");
    }

    #[test]
    fn groups_are_found_by_name() {
        let listing = "root:x:0:\npontoon:x:990:alice,bob\nbroken\npontoon2:x:991:\n";
        assert_eq!(group_id(listing, "pontoon"), Some(990));
        assert_eq!(group_id(listing, "broken"), None);
        assert_eq!(group_id(listing, "pont"), None);
    }
}
