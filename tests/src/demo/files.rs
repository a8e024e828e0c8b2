// SPDX-License-Identifier: Apache-2.0
//! What the owner of the rack writes into the generated cluster file.

use anyhow::{Result, ensure};
use orchestrator::cluster::PLACEHOLDER_KEY;

use super::{CONTROL_PLANE, OWN, WORKERS};
use crate::cluster::{ENDPOINT, KEY, template};

/// The file with everything filled in, and the lines of it that are new.
///
/// # Errors
/// When the generated file has no place for something.
pub(super) fn fill(generated: &str, image: &str) -> Result<(String, String)> {
    let (no_key, key) = (format!("- {PLACEHOLDER_KEY}"), format!("- {KEY}"));
    // What stands there, how often, and what takes its place.
    let edits = [
        (
            "count: 1                    # 1, 3",
            1,
            format!("count: {}                    # 1, 3", CONTROL_PLANE.len()),
        ),
        ("host: \"\"", 1, format!("host: {ENDPOINT}")),
        ("- name: md-0\n      count: 1\n", 1, format!("- name: md-0\n      count: {}\n", WORKERS.len())),
        ("tinkerbellIP: \"\"", 1, format!("tinkerbellIP: {OWN}")),
        ("osImageURL: \"\"", 1, format!("osImageURL: {image}")),
        ("type: worker\n", 1, "type: wk\n".to_owned()),
        ("templateRef: {}", 2, "templateRef: {kind: TinkerbellTemplateConfig, name: rack}".to_owned()),
        (no_key.as_str(), 2, key),
    ];
    let mut text = generated.to_owned();
    for (place, times, value) in edits {
        let found = text.matches(place).count();
        ensure!(found == times, "the generated file has {place:?} {found} times, and {times} were expected");
        text = text.replace(place, &value);
    }
    let is_new = |line: &&str| !generated.lines().any(|known| known == *line);
    let mut changes: Vec<String> = text.lines().filter(is_new).map(|line| format!("  {line}\n")).collect();
    let template = template(image, None);
    changes.extend(template.lines().map(|line| format!("  {line}\n")));
    Ok((text + &template, changes.concat()))
}
