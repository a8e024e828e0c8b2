// SPDX-License-Identifier: Apache-2.0
//! Which path is which value: EC2's metadata layout, version 2009-04-04, also under `latest`.
//!
//! Every path exists with and without a slash at its end. Directories list their children sorted, one per line, without a line
//! break at the end, directories with a slash. cloud-init walks these listings: a child with a slash is a directory to it,
//! `<number>=<name>` is a key below `<number>/openssh-key`, and one leaf that is missing loses it everything.

/// The version of the layout; cloud-init asks for newer ones first and needs a 404 for them.
const VERSION: &str = "2009-04-04";

/// What the root lists: the versions.
const ROOT: &str = "2009-04-04\nlatest";

/// What a path stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Node {
    /// The same answer to everybody.
    Listing(Listing),
    /// A value of the machine that asks.
    Leaf(Leaf),
}

/// A directory, by its path below the version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listing {
    /// The versions.
    Root,
    /// A directory of the version's tree.
    Directory(&'static str),
}

/// One value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaf {
    UserData,
    InstanceId,
    Hostname,
    Iqn,
    Plan,
    Facility,
    Tags,
    PublicIpv4,
    LocalIpv4,
    PublicIpv6,
    /// The list of keys, `<number>=<name>`.
    PublicKeys,
    /// What there is of one key.
    PublicKey(usize),
    /// One key.
    OpensshKey(usize),
    OsSlug,
    OsDistro,
    OsVersion,
    OsImageTag,
    LicenseState,
}

/// Every value below a version. A directory is what has children here; `public-keys` has as many as the machine has keys.
const LEAVES: &[(&str, Leaf)] = &[
    ("meta-data/facility", Leaf::Facility),
    ("meta-data/hostname", Leaf::Hostname),
    ("meta-data/instance-id", Leaf::InstanceId),
    ("meta-data/iqn", Leaf::Iqn),
    ("meta-data/local-hostname", Leaf::Hostname),
    ("meta-data/local-ipv4", Leaf::LocalIpv4),
    ("meta-data/operating-system/distro", Leaf::OsDistro),
    ("meta-data/operating-system/image_tag", Leaf::OsImageTag),
    ("meta-data/operating-system/license_activation/state", Leaf::LicenseState),
    ("meta-data/operating-system/slug", Leaf::OsSlug),
    ("meta-data/operating-system/version", Leaf::OsVersion),
    ("meta-data/plan", Leaf::Plan),
    ("meta-data/public-ipv4", Leaf::PublicIpv4),
    ("meta-data/public-ipv6", Leaf::PublicIpv6),
    (PUBLIC_KEYS, Leaf::PublicKeys),
    ("meta-data/tags", Leaf::Tags),
    ("user-data", Leaf::UserData),
];

const PUBLIC_KEYS: &str = "meta-data/public-keys";

/// What a path stands for, or nothing.
pub(crate) fn resolve(path: &str) -> Option<Node> {
    let path = path.strip_prefix('/')?;
    if path.is_empty() {
        return Some(Node::Listing(Listing::Root));
    }
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() || path.ends_with('/') {
        return None;
    }
    let (version, rest) = path.split_once('/').unwrap_or((path, ""));
    if version != VERSION && version != "latest" {
        return None;
    }
    if let Some((_, leaf)) = LEAVES.iter().find(|(leaf, _)| *leaf == rest) {
        return Some(Node::Leaf(*leaf));
    }
    if let Some(key) = rest.strip_prefix(PUBLIC_KEYS).and_then(|rest| rest.strip_prefix('/')) {
        return public_key(key).map(Node::Leaf);
    }
    directory(rest).map(|directory| Node::Listing(Listing::Directory(directory)))
}

/// `<number>` or `<number>/openssh-key`.
fn public_key(path: &str) -> Option<Leaf> {
    match path.split_once('/') {
        None => path.parse().ok().map(Leaf::PublicKey),
        Some((number, "openssh-key")) => number.parse().ok().map(Leaf::OpensshKey),
        Some(_) => None,
    }
}

/// The directory of that name, if a value lies below it.
fn directory(path: &str) -> Option<&'static str> {
    LEAVES.iter().find_map(|(leaf, _)| {
        if path.is_empty() {
            return Some("");
        }
        let below = leaf.strip_prefix(path)?;
        below.starts_with('/').then(|| leaf.strip_suffix(below)).flatten()
    })
}

impl Listing {
    /// The text of the listing.
    pub(crate) fn text(self) -> String {
        let Self::Directory(directory) = self else { return ROOT.to_owned() };
        let mut children: Vec<String> = LEAVES
            .iter()
            .filter_map(|(path, leaf)| {
                let below = match directory {
                    "" => *path,
                    directory => path.strip_prefix(directory)?.strip_prefix('/')?,
                };
                Some(match below.split_once('/') {
                    Some((child, _)) => format!("{child}/"),
                    None if *leaf == Leaf::PublicKeys => format!("{below}/"),
                    None => below.to_owned(),
                })
            })
            .collect();
        children.sort();
        children.dedup();
        children.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(path: &str) -> String {
        match resolve(path) {
            Some(Node::Listing(listing)) => listing.text(),
            other => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn directories_list_their_children_sorted() {
        let cases = [
            ("/", "2009-04-04\nlatest"),
            ("/2009-04-04", "meta-data/\nuser-data"),
            ("/latest/", "meta-data/\nuser-data"),
            (
                "/2009-04-04/meta-data/",
                "facility\nhostname\ninstance-id\niqn\nlocal-hostname\nlocal-ipv4\noperating-system/\nplan\npublic-ipv4\n\
                 public-ipv6\npublic-keys/\ntags",
            ),
            (
                "/2009-04-04/meta-data/operating-system",
                "distro\nimage_tag\nlicense_activation/\nslug\nversion",
            ),
            ("/2009-04-04/meta-data/operating-system/license_activation/", "state"),
        ];
        for (path, expected) in cases {
            assert_eq!(listing(path), expected, "{path}");
        }
    }

    #[test]
    fn every_value_is_there_with_and_without_a_slash_under_both_versions() {
        for (path, leaf) in LEAVES {
            for version in ["2009-04-04", "latest"] {
                for slash in ["", "/"] {
                    let path = format!("/{version}/{path}{slash}");
                    assert_eq!(resolve(&path), Some(Node::Leaf(*leaf)), "{path}");
                }
            }
        }
        assert_eq!(
            resolve("/latest/meta-data/public-keys/0/openssh-key"),
            Some(Node::Leaf(Leaf::OpensshKey(0)))
        );
        assert_eq!(resolve("/latest/meta-data/public-keys/12/"), Some(Node::Leaf(Leaf::PublicKey(12))));
    }

    #[test]
    fn everything_else_is_not_there() {
        let paths = [
            "/2021-03-23/meta-data/instance-id",
            "/latest/api/token",
            "/2009-04-04/dynamic/instance-identity",
            "/2009-04-04/meta-dat",
            "/2009-04-04/meta-data/hostname/x",
            "/2009-04-04/meta-data//hostname",
            "/2009-04-04//",
            "/2009-04-04/meta-data/public-keys/x",
            "/2009-04-04/meta-data/public-keys/0/rsa",
            "/2009-04-04/meta-data/public-keys/-1/openssh-key",
            "//",
            "/user-data",
        ];
        for path in paths {
            assert_eq!(resolve(path), None, "{path}");
        }
    }
}
