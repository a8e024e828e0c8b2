// SPDX-License-Identifier: Apache-2.0

//! What the status of a Cluster says, with the conditions of EKS Anywhere. Pure.

use api::anywhere::v1alpha1::{ClusterStatus, Condition};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Addon, Decision, Outcome, Place, Stage, World};
use crate::node::Entry;

/// The status that follows from a look; times of conditions that did not change stay.
pub(super) fn status(
    world: &World,
    decision: &Decision,
    before: &ClusterStatus,
    generation: Option<i64>,
    now: Timestamp,
) -> ClusterStatus {
    let seen = world.seen();
    let ready = |place: &Place| {
        place.stage == Stage::Joined
            && seen.is_some_and(|seen| seen.nodes.get(&place.machine).is_some_and(|node| node.ready.is_ok()))
    };
    let all = |control_plane: bool| {
        let kinds = world
            .roles
            .iter()
            .filter(|role| (role.kind == crate::plan::RoleKind::ControlPlane) == control_plane);
        let wanted: usize = kinds.map(|role| role.count).sum();
        let places = decision.record.places.values();
        let there = places
            .filter(|place| (place.entry != Entry::JoinWorker) == control_plane)
            .filter(|place| ready(place))
            .count();
        (there >= wanted, format!("{there} of {wanted} nodes are ready"))
    };
    let made = decision.record.initialized;
    let cni = seen.is_some_and(|seen| seen.addons.contains(&Addon::Cni));
    let whole = decision.outcome == Outcome::Ready;
    let (control_plane, workers) = (all(true), all(false));
    let text = |good: bool, bad: &str| if good { String::new() } else { bad.to_owned() };
    let wanted = [
        ("ControlPlaneInitialized", made, text(made, "no machine has made the cluster yet")),
        ("ControlPlaneReady", control_plane.0, control_plane.1),
        ("DefaultCNIConfigured", cni, text(cni, "the network plugin is not in the cluster yet")),
        ("WorkersReady", workers.0, workers.1),
        ("Ready", whole, text(whole, "it comes to be")),
    ];
    let conditions = wanted.into_iter().map(|(type_, holds, message)| {
        let status = if holds { "True" } else { "False" };
        let old = before.conditions.iter().find(|old| old.type_ == type_ && old.status == status);
        let time = old.and_then(|old| old.last_transition_time.clone()).unwrap_or(Time(now));
        Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: (!holds).then(|| "InProgress".to_owned()),
            severity: (!holds).then(|| "Info".to_owned()),
            message: Some(message).filter(|message| !message.is_empty()),
            last_transition_time: Some(time),
        }
    });
    let problems = match &decision.outcome {
        Outcome::Stuck(problems) => Some(problems.join("\n")),
        Outcome::Going | Outcome::Ready => None,
    };
    ClusterStatus {
        conditions: conditions.collect(),
        failure_reason: problems.as_ref().map(|_| "MachinesFailed".to_owned()),
        failure_message: problems,
        observed_generation: generation,
    }
}
