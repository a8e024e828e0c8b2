// SPDX-License-Identifier: Apache-2.0

//! The cluster file that a person begins with.

use crate::{
    finding::{Finding, Place, Severity},
    syntax,
};

/// The version of Kubernetes in a generated file.
pub const DEFAULT_KUBERNETES: &str = "1.34";
/// The public key in a generated file; [`crate::check`] tells it as not filled in.
pub const PLACEHOLDER_KEY: &str = "ssh-ed25519 AAAA...";
/// Longest name of a cluster: names of its machines are made of it.
const MAX_NAME: usize = 35;

const TEMPLATE: &str = include_str!("cluster.yaml");

/// Why a name cannot be one of a cluster; nothing when it can.
pub(crate) fn name_problem(name: &str) -> Option<String> {
    let letter = name.starts_with(|c: char| c.is_ascii_lowercase());
    if name.len() > MAX_NAME {
        return Some(format!("{name:?} is longer than {MAX_NAME} characters"));
    }
    (!letter || !syntax::is_dns_label(name)).then(|| format!("{name:?} is no name of a cluster"))
}

/// What [`name_problem`] wants, for people.
pub(crate) const NAME_RULE: &str =
    "use at most 35 lower-case letters, digits and -, with a letter first and no - at the end";

/// The file for a cluster of this name, with comments that say what to fill in.
///
/// # Errors
///
/// When the name cannot be one.
pub fn generate(name: &str) -> Result<String, Box<Finding>> {
    if let Some(problem) = name_problem(name) {
        return Err(Box::new(Finding {
            severity: Severity::Error,
            code: "cluster-name",
            place: Place::new("", 0, "NAME"),
            what: problem,
            fix: NAME_RULE.to_owned(),
        }));
    }
    Ok(TEMPLATE
        .replace("NAME", name)
        .replace("KUBERNETES", DEFAULT_KUBERNETES)
        .replace("PUBLIC_KEY", PLACEHOLDER_KEY))
}
