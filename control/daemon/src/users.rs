//! Users by name, as far as `/etc/passwd` knows them.

use anyhow::{Context, bail};

const NOBODY: (u32, u32) = (65534, 65534);

/// User and group of a name, a number, or `UID:GID`; for nobody's also where no file has it.
///
/// # Errors
/// For names there are not, and for root.
pub(crate) fn find(user: &str) -> anyhow::Result<(u32, u32)> {
    let found = by_number(user).or_else(|| {
        let listing = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        by_name(&listing, user).or_else(|| (user == "nobody").then_some(NOBODY))
    });
    let found = found.with_context(|| format!("there is no user '{user}' for the datapath"))?;
    if found.0 == 0 || found.1 == 0 {
        bail!("the datapath cannot run as root: --datapath-user names '{user}'");
    }
    Ok(found)
}

fn by_number(user: &str) -> Option<(u32, u32)> {
    let (uid, gid) = user.split_once(':').unwrap_or((user, user));
    Some((uid.parse().ok()?, gid.parse().ok()?))
}

fn by_name(listing: &str, name: &str) -> Option<(u32, u32)> {
    let mut lines = listing.lines().map(|line| line.split(':'));
    let mut fields = lines.find_map(|mut fields| (fields.next() == Some(name)).then_some(fields))?;
    Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_number_and_root_is_none() {
        let listing = "root:x:0:0:root:/root:/bin/sh\nbroken\npontoon:x:990:991::/:/bin/false\n";
        assert_eq!(by_name(listing, "pontoon"), Some((990, 991)));
        assert_eq!((by_name(listing, "broken"), by_name(listing, "pont")), (None, None));
        assert_eq!((by_number("7"), by_number("7:8"), by_number("7:x")), (Some((7, 7)), Some((7, 8)), None));
        assert!(
            find("nobody").is_ok() && find("0").is_err() && find("5:0").is_err() && find("no such").is_err()
        );
    }
}
