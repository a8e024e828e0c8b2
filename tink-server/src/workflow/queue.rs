// SPDX-License-Identifier: Apache-2.0
//! Which other Workflow has the machine that a Workflow is about to switch off and boot.
//!
//! Two Workflows of one Hardware must not be prepared or worked on at the same time: the second would cut the power
//! under the first one's install. Pure; asked by the controller, with its cache, before a boot is prepared.

use api::v1alpha1::{Workflow, WorkflowState};
use kube::ResourceExt;

use super::hardware_name;

/// Of `others`, the Workflow that has the machine of `mine`, if one has. Nothing once `mine` has begun with it: then the
/// machine is its own, and the others wait.
pub fn rival<W: AsRef<Workflow>>(mine: &Workflow, others: impl IntoIterator<Item = W>) -> Option<W> {
    let machine = hardware_name(mine)?;
    if mine.has_begun() {
        return None;
    }
    others.into_iter().find(|other| {
        let other = other.as_ref();
        other.uid() != mine.uid()
            && other.namespace() == mine.namespace()
            && hardware_name(other) == Some(machine)
            && other.metadata.deletion_timestamp.is_none()
            && has_machine(other, mine)
    })
}

/// Whether `other` has the machine rather than `mine`.
fn has_machine(other: &Workflow, mine: &Workflow) -> bool {
    match other.state() {
        // What it has prepared is being undone, also when it was disabled meanwhile.
        WorkflowState::Post => true,
        _ if other.is_disabled() => false,
        WorkflowState::Running => true,
        // Its agent is about to come up. One that boots nothing itself waits for whoever boots the machine.
        WorkflowState::Pending => prepares(other),
        WorkflowState::Preparing => other.has_begun() || is_earlier(other, mine),
        // It is about to be rendered; as the cache has it, it may be further already.
        WorkflowState::Unset => prepares(other) && !other.is_stuck() && is_earlier(other, mine),
        _ => false,
    }
}

fn prepares(workflow: &Workflow) -> bool {
    let boot = workflow.spec.boot_options.as_ref();
    boot.is_some_and(|boot| boot.toggle_allow_netboot == Some(true) || boot.boot_mode.is_some())
}

/// Whether it was made before the other; equal times are told apart by name.
fn is_earlier(this: &Workflow, other: &Workflow) -> bool {
    let made = |workflow: &Workflow| (workflow.creation_timestamp().map(|time| time.0), workflow.name_any());
    made(this) < made(other)
}
