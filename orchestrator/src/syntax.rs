// SPDX-License-Identifier: Apache-2.0

//! The forms of names, labels, addresses, URLs, keys and durations.
//!
//! Owns the rules of Kubernetes and of the formats that cluster files use, where they are not those of a library. Pure.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// What [`is_subdomain`] wants, for people.
pub const SUBDOMAIN_RULE: &str =
    "use lower-case letters, digits, - and ., with a letter or digit at both ends of each part";

/// Whether a name may be one of an object (RFC 1123 subdomain, as Kubernetes has it).
#[must_use]
pub fn is_subdomain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_dns_label)
}

/// Whether it is one part of such a name (RFC 1123 label).
#[must_use]
pub fn is_dns_label(label: &str) -> bool {
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&label.len())
        && label.chars().all(inside)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// Whether a text may be the key of a label (Kubernetes' "qualified name").
#[must_use]
pub fn is_label_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_label_name(name),
        None => is_label_name(key),
    }
}

/// Whether a text may be the value of a label; an empty one may.
#[must_use]
pub fn is_label_value(value: &str) -> bool {
    value.is_empty() || is_label_name(value)
}

fn is_label_name(name: &str) -> bool {
    let end = |c: char| c.is_ascii_alphanumeric();
    name.len() <= 63
        && name.starts_with(end)
        && name.ends_with(end)
        && name.chars().all(|c| end(c) || matches!(c, '-' | '_' | '.'))
}

/// Whether a machine can have this address.
#[must_use]
pub fn is_host_address(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    first != 0 && first < 224 && !address.is_loopback()
}

/// Whether it is the path of one block device: below `/dev/`, without `.` and `..`, and not two paths in one.
#[must_use]
pub fn is_disk_path(path: &str) -> bool {
    let Some(rest) = path.strip_prefix("/dev/") else { return false };
    let part = |part: &str| {
        let inside =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '+' | '=' | '@' | '#');
        !part.is_empty() && !matches!(part, "." | ".." | "dev") && part.chars().all(inside)
    };
    rest.len() <= 250 && rest.split('/').all(part)
}

/// A version of Kubernetes, as cluster files name it: `1.` and this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Minor(pub u32);

impl Minor {
    /// Reads `1.34`; a patch release or a `v` in front is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("1.")?;
        let plain =
            digits.chars().all(|c| c.is_ascii_digit()) && !digits.starts_with('0') && digits.len() <= 3;
        if plain { digits.parse().ok().map(Self) } else { None }
    }
}

impl fmt::Display for Minor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}", self.0)
    }
}

/// Whether it is a duration as Go writes it: numbers with units, such as `1h30m` or `20m0s`.
#[must_use]
pub fn is_go_duration(text: &str) -> bool {
    go_seconds(text).is_some()
}

/// A duration as Go writes it, in whole seconds.
#[must_use]
pub fn go_seconds(text: &str) -> Option<i64> {
    let (mut rest, mut sum) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let number = rest.strip_suffix(digits).unwrap_or_default();
        let units = [("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
        let (unit, seconds) = units.into_iter().find(|(unit, _)| {
            let after = digits.strip_prefix(unit);
            after.is_some_and(|after| after.is_empty() || after.starts_with(|c: char| c.is_ascii_digit()))
        })?;
        sum += number.parse::<f64>().ok()? * seconds;
        rest = digits.strip_prefix(unit).unwrap_or_default();
    }
    let whole = std::time::Duration::try_from_secs_f64(sum).ok()?.as_secs();
    i64::try_from(whole).ok().filter(|_| !text.is_empty())
}

/// A URL of the web.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Url<'a> {
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Host name or address, without brackets.
    pub host: &'a str,
    /// What follows the authority: empty, or from `/` on.
    pub path: &'a str,
}

impl<'a> Url<'a> {
    /// Reads an `http` or `https` URL. One with an account in it is none: it would stand in logs and kernel arguments.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        if !matches!(scheme, "http" | "https") || text.contains(char::is_whitespace) {
            return None;
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end)?;
        Some(Self { scheme, host: host_and_port(authority)?.0, path })
    }

    /// The last part of the path, without a query.
    #[must_use]
    pub fn file_name(&self) -> &'a str {
        let path = self.path.split(['?', '#']).next().unwrap_or_default();
        path.rsplit('/').next().unwrap_or_default()
    }
}

/// Why a text is no URL for [`Url::parse`]; an account in it is not told.
#[must_use]
pub fn url_problem(text: &str) -> String {
    let authority = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') { "has an account in it".to_owned() } else { format!("{text:?} is no URL") }
}

/// Host and port of `host`, `host:port`, `[v6]` and `[v6]:port`.
#[must_use]
pub fn host_and_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, rest) = match authority.strip_prefix('[') {
        Some(inside) => {
            let (host, rest) = inside.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, rest)
        }
        None => {
            let at = authority.find(':').unwrap_or(authority.len());
            let (host, rest) = authority.split_at_checked(at)?;
            if !is_host(host) {
                return None;
            }
            (host, rest)
        }
    };
    match rest.strip_prefix(':') {
        None if rest.is_empty() => Some((host, None)),
        None => None,
        Some(port) => port.parse().ok().filter(|port| *port > 0).map(|port| (host, Some(port))),
    }
}

/// Whether it is the name or the address of a host.
#[must_use]
pub fn is_host(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok() || is_subdomain(&text.to_ascii_lowercase())
}

/// Why a text is no public key of SSH as `authorized_keys` has it (RFC 4253 section 6.6): type, base64 of the same type, comment.
#[must_use]
pub fn ssh_key_problem(text: &str) -> Option<&'static str> {
    const TYPES: [&str; 8] = [
        "ssh-ed25519",
        "ssh-rsa",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
        "ssh-dss",
    ];
    if text.contains("PRIVATE KEY") {
        return Some("is a private key");
    }
    if text.trim().contains('\n') {
        return Some("has a line break in it");
    }
    let mut words = text.split_whitespace();
    let Some(type_) = words.next().filter(|word| TYPES.contains(word)) else {
        return Some("does not begin with the type of a key");
    };
    let blob = words.next().and_then(|blob| STANDARD.decode(blob).ok());
    // The blob begins with its type as a string with its length before it.
    let length = u32::try_from(type_.len()).ok()?.to_be_bytes();
    let begins = [&length[..], type_.as_bytes()].concat();
    match blob {
        None => Some("is cut off, or was changed when it was copied"),
        Some(blob) if !blob.starts_with(&begins) || blob.len() < begins.len() + 32 => {
            Some("is cut off, or was changed when it was copied")
        }
        Some(_) => None,
    }
}

/// Whether it holds certificates in PEM, and nothing that is none.
#[must_use]
pub fn is_certificates(text: &str) -> bool {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let mut rest = text.trim();
    while !rest.is_empty() {
        let Some((body, after)) = rest.strip_prefix(BEGIN).and_then(|inside| inside.split_once(END)) else {
            return false;
        };
        let body: String = body.split_whitespace().collect();
        // DER of a certificate is a SEQUENCE (X.690).
        if STANDARD.decode(body).ok().is_none_or(|der| der.first() != Some(&0x30)) {
            return false;
        }
        rest = after.trim();
    }
    !text.trim().is_empty()
}

/// Whether it is a digest as `sha256:` and 64 hexadecimal digits.
#[must_use]
pub fn is_digest(text: &str) -> bool {
    let digits = text.strip_prefix("sha256:").unwrap_or_default();
    digits.len() == 64 && digits.chars().all(|c| c.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_named_by_any_stable_path_and_never_by_two() {
        for path in [
            "/dev/sda",
            "/dev/nvme0n1",
            "/dev/disk/by-id/wwn-0x5000c500a1b2c3d4",
            "/dev/disk/by-path/pci-0000:00:1f.2-ata-1",
            "/dev/mapper/mpatha",
        ] {
            assert!(is_disk_path(path), "{path}");
        }
        for path in [
            "",
            "sda",
            "/dev/",
            "/dev//sda",
            "/dev/sda/dev/sdb",
            "/dev/../etc/passwd",
            "/dev/sda /dev/sdb",
            "/dev/sd\u{e4}",
        ] {
            assert!(!is_disk_path(path), "{path}");
        }
    }

    #[test]
    fn labels_and_names_are_those_of_kubernetes() {
        for key in ["type", "topology.kubernetes.io/zone", "A_b.c-9"] {
            assert!(is_label_key(key), "{key}");
        }
        for key in ["", "-a", "a/b/c", "a b", "/a", "a/", "\u{e4}"] {
            assert!(!is_label_key(key), "{key}");
        }
        assert!(
            is_label_value("") && is_label_value("a.b_C-1") && !is_label_value("a b") && !is_label_value("-")
        );
        assert!(is_subdomain("a-1.b") && !is_subdomain("A") && !is_subdomain("a..b") && !is_subdomain("-a"));
        assert!(is_host_address(Ipv4Addr::new(10, 0, 0, 1)) && !is_host_address(Ipv4Addr::new(224, 0, 0, 1)));
    }

    #[test]
    fn versions_durations_and_digests() {
        assert_eq!(go_seconds("1h2m3s"), Some(3723));
        assert_eq!(go_seconds("1.5s"), Some(1));
        assert_eq!(Minor::parse("1.34"), Some(Minor(34)));
        for text in ["1.3.4", "v1.34", "1.34.1", "1.034", "1.", "2.1", "1.34-eks", ""] {
            assert_eq!(Minor::parse(text), None, "{text}");
        }
        assert!(["20m0s", "1h", "1.5h30m", "100ms", "5us"].into_iter().all(is_go_duration));
        assert!(!["", "20", "m", "20 m", "1d", "1.2.3s", "-5m", "5mins"].into_iter().any(is_go_duration));
        assert!(is_digest(&format!("sha256:{}", "aF".repeat(32))) && !is_digest(&"a".repeat(64)));
    }

    #[test]
    fn urls_have_a_scheme_a_host_and_no_account() {
        let url = Url::parse("https://[fd00::1]:8443/a/ubuntu-1-34.gz?x=/y").unwrap();
        assert_eq!((url.scheme, url.host, url.file_name()), ("https", "fd00::1", "ubuntu-1-34.gz"));
        assert_eq!(Url::parse("http://10.0.0.1").unwrap().path, "");
        for text in [
            "ftp://h/x",
            "http:/h",
            "http://",
            "http:///x",
            "http://u:p@h/x",
            "http://h:0/",
            "http://h:99999",
            "http://a b/",
            "h/x",
            "http://[fd00::1/x",
            "http://-h/",
        ] {
            assert_eq!(Url::parse(text), None, "{text}");
        }
    }

    #[test]
    fn keys_and_certificates_are_whole_or_told() {
        let good = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEEwDkJ9RMuXy3QpVzmK3lYGQe5lIhWHkPPkPSJlOOyQ me@host";
        assert_eq!(ssh_key_problem(good), None);
        assert_eq!(
            ssh_key_problem("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA"),
            Some("is cut off, or was changed when it was copied")
        );
        assert_eq!(
            ssh_key_problem(&good.replace("ssh-ed25519", "ssh-rsa")),
            Some("is cut off, or was changed when it was copied")
        );
        assert!(ssh_key_problem("-----BEGIN OPENSSH PRIVATE KEY-----").is_some());
        assert!(ssh_key_problem(crate::cluster::PLACEHOLDER_KEY).is_some());
        let pem = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        assert!(is_certificates(pem) && is_certificates(&pem.repeat(2)));
        assert!(
            !is_certificates("") && !is_certificates("x") && !is_certificates(&pem.replace("MAA=", "QUFB"))
        );
    }
}
