// SPDX-License-Identifier: Apache-2.0
//! Leaves out the steps that do not matter for a difference.

use std::collections::BTreeSet;

use anyhow::Result;

use super::difference::Difference;
use super::driver::Pair;
use super::step::{Action, Step};

/// Runs that the search may take for one difference.
const RUNS: usize = 40;

/// The steps before the one that shows a difference without which it does not show; none when it does not show again.
///
/// # Errors
/// When a server gives no answer.
pub async fn shrink(pair: &Pair, steps: &[Step], difference: &Difference) -> Result<Vec<Step>> {
    let last = difference.step.number;
    let before: Vec<Step> = steps.iter().filter(|step| step.number <= last).cloned().collect();
    let mut runs = 0;
    let mut shows = async |steps: &[Step]| -> Result<bool> {
        runs += 1;
        let outcome = pair.run(steps).await?;
        Ok(runs <= RUNS && outcome.differences.iter().any(|found| found.group() == difference.group()))
    };
    let mut kept = before.clone();
    let likely = related(&before, &difference.step);
    if shows(&likely).await? {
        kept = likely;
    } else if !shows(&kept).await? {
        return Ok(Vec::new());
    }
    let mut size = kept.len().div_ceil(2);
    while size > 0 {
        let mut at = kept.len().saturating_sub(1);
        while at > 0 {
            let start = at.saturating_sub(size);
            let fewer: Vec<Step> = kept
                .iter()
                .enumerate()
                .filter(|(index, _)| *index < start || *index >= at)
                .map(|(_, step)| step.clone())
                .collect();
            if shows(&fewer).await? {
                kept = fewer;
            }
            at = start;
        }
        size /= 2;
    }
    kept.pop();
    Ok(kept)
}

/// The steps about the same object, those whose answers they need, and the last.
fn related(steps: &[Step], last: &Step) -> Vec<Step> {
    let mut wanted: BTreeSet<usize> = steps
        .iter()
        .filter(|step| step.number == last.number || !last.about.is_empty() && step.about == last.about)
        .map(|step| step.number)
        .collect();
    for step in steps.iter().rev() {
        if wanted.contains(&step.number) {
            wanted.extend(step.needs().into_iter().map(|reference| reference.step));
        }
    }
    let is_wanted = |step: &&Step| wanted.contains(&step.number) && !matches!(step.action, Action::Watch(_));
    steps.iter().filter(|step| is_wanted(step) || step.number == last.number).cloned().collect()
}
