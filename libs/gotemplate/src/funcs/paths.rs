// SPDX-License-Identifier: Apache-2.0
//! File paths and URLs.

use gotmpl::Value;

use super::args::{map_at, str_at, text};
use super::{Outcome, Row};
use crate::data;

pub(super) const ROWS: &[Row] = &[
    ("base", 1, 1, |a| Ok(data::string(base(str_at(a, 0)?)))),
    ("clean", 1, 1, |a| Ok(data::string(clean(str_at(a, 0)?)))),
    ("dir", 1, 1, |a| Ok(data::string(dir(str_at(a, 0)?)))),
    ("ext", 1, 1, |a| Ok(data::string(ext(str_at(a, 0)?)))),
    ("isAbs", 1, 1, |a| Ok(Value::Bool(str_at(a, 0)?.starts_with('/')))),
    ("osBase", 1, 1, |a| Ok(data::string(base(str_at(a, 0)?)))),
    ("osClean", 1, 1, |a| Ok(data::string(clean(str_at(a, 0)?)))),
    ("osDir", 1, 1, |a| Ok(data::string(dir(str_at(a, 0)?)))),
    ("osExt", 1, 1, |a| Ok(data::string(ext(str_at(a, 0)?)))),
    ("osIsAbs", 1, 1, |a| Ok(Value::Bool(str_at(a, 0)?.starts_with('/')))),
    ("urlJoin", 1, 1, url_join),
    ("urlParse", 1, 1, url_parse),
];

fn base(path: &str) -> String {
    match (path, path.trim_end_matches('/')) {
        ("", _) => ".".to_owned(),
        (_, "") => "/".to_owned(),
        (_, trimmed) => trimmed.rsplit('/').next().unwrap_or_default().to_owned(),
    }
}

fn dir(path: &str) -> String {
    clean(path.rfind('/').map_or("", |at| path.get(..=at).unwrap_or_default()))
}

fn ext(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.rfind('.').and_then(|at| name.get(at..)).unwrap_or_default().to_owned()
}

/// `path.Clean`.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            other => parts.push(other),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// The parts of a URL under sprig's names.
fn url_parse(args: &[Value]) -> Outcome {
    let url = str_at(args, 0)?;
    let (rest, fragment) = url.split_once('#').unwrap_or((url, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (scheme, rest) = match rest.split_once(':') {
        Some((scheme, rest)) if scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) => {
            (scheme, rest)
        }
        _ => ("", rest),
    };
    let (authority, path, opaque) = match rest.strip_prefix("//") {
        Some(rest) => {
            let at = rest.find('/').unwrap_or(rest.len());
            let (authority, path) = rest.split_at(at);
            (authority, path, "")
        }
        None if !scheme.is_empty() && !rest.starts_with('/') => ("", "", rest),
        None => ("", rest, ""),
    };
    let (userinfo, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let hostname = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let parts = [
        ("scheme", scheme),
        ("host", host),
        ("hostname", hostname),
        ("path", path),
        ("query", query),
        ("opaque", opaque),
        ("fragment", fragment),
        ("userinfo", userinfo),
    ];
    Ok(data::map(parts.map(|(key, value)| (key.into(), data::string(value)))))
}

fn url_join(args: &[Value]) -> Outcome {
    let parts = map_at(args, 0)?;
    let part = |name: &str| parts.get(name).map(text).unwrap_or_default();
    let mut url = String::new();
    if !part("scheme").is_empty() {
        url = format!("{}:", part("scheme"));
    }
    if !part("opaque").is_empty() {
        url.push_str(&part("opaque"));
    } else {
        if !part("host").is_empty() || !part("userinfo").is_empty() {
            url.push_str("//");
            if !part("userinfo").is_empty() {
                url.push_str(&format!("{}@", part("userinfo")));
            }
            url.push_str(&part("host"));
        }
        let path = part("path");
        if !path.is_empty() && !path.starts_with('/') && !part("host").is_empty() {
            url.push('/');
        }
        url.push_str(&path);
    }
    for (mark, name) in [('?', "query"), ('#', "fragment")] {
        if !part(name).is_empty() {
            url.push(mark);
            url.push_str(&part(name));
        }
    }
    Ok(data::string(url))
}
