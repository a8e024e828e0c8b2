// SPDX-License-Identifier: Apache-2.0

//! Taking a cluster apart, from whatever state it is in: workers first, then the control plane from its last place to its first.
//!
//! Owns the order. Pods are asked to go and members are taken out of etcd as far as the cluster answers; one that does not
//! answer keeps no machine from being switched off and given back.

use std::collections::BTreeSet;

use super::{
    Action, Decision, Outcome, Place, Record, Stage, Wait, World,
    decide::{may_remove, switching_off},
};
use crate::{check::CONTROL_PLANE, node::Entry, plan, provider::Switched};

/// Seconds that pods have to go.
pub const DRAIN: i64 = 60;
/// Seconds that a machine may take to be switched off, with all tries.
pub const OFF: i64 = 300;
const REASON: &str = "the cluster is deleted";

/// What is done next. `drained` are machines whose pods are gone.
#[must_use]
pub fn decide(world: &World, drained: &BTreeSet<String>) -> Decision {
    let record = Record { places: world.record.places.clone(), ..world.record.clone() };
    let mut next =
        Next { world, drained, record, actions: Vec::new(), waits: Vec::new(), problems: Vec::new() };
    let control_plane = |slot: &&String| is_control_plane(&world.cluster, slot);
    let (mut members, workers): (Vec<_>, Vec<_>) = world.held.keys().partition(control_plane);
    for slot in &workers {
        next.remove(slot);
    }
    members.sort_by_key(|slot| std::cmp::Reverse(number(slot)));
    if workers.is_empty()
        && let Some(last) = members.first()
    {
        next.remove(last);
    }
    next.record.places.retain(|slot, _| world.held.contains_key(slot));
    let outcome = match () {
        () if world.held.is_empty() => Outcome::Ready,
        () if next.actions.is_empty()
            && !next.waits.iter().any(|wait| wait.live)
            && !next.problems.is_empty() =>
        {
            Outcome::Stuck(next.problems)
        }
        () => Outcome::Going,
    };
    Decision { record: next.record, actions: next.actions, waits: next.waits, outcome }
}

struct Next<'a> {
    world: &'a World,
    drained: &'a BTreeSet<String>,
    record: Record,
    actions: Vec<Action>,
    waits: Vec<Wait>,
    problems: Vec<String>,
}

impl Next<'_> {
    fn wait(&mut self, on: &str, reason: String) {
        self.waits.push(Wait { on: on.to_owned(), reason, live: true });
    }

    /// One place: pods, etcd, power, node, and back it goes.
    fn remove(&mut self, slot: &str) {
        let Some(machine) = self.world.held.get(slot).cloned() else { return };
        let since = self.leaving(slot, &machine);
        let seen = self.world.seen();
        let node = seen.is_some_and(|seen| seen.nodes.contains_key(&machine));
        let age = self.world.now - since;
        if node && age < DRAIN && !self.drained.contains(&machine) && self.has_others(&machine) {
            self.wait(&machine, "its pods go".to_owned());
            return self.actions.push(Action::Drain { machine });
        }
        let members = seen.and_then(|seen| seen.members.as_ref().ok());
        if let Some(members) = members.filter(|members| members.len() > 1)
            && members.iter().any(|member| member.machine == machine)
            && may_remove(members, &machine)
        {
            return self.actions.push(Action::RemoveMember { machine });
        }
        let slot = slot.to_owned();
        match self.world.switched.get(&slot).unwrap_or(&Switched::NotAsked) {
            Switched::NotAsked => self.actions.push(Action::PowerOff { slot, machine }),
            Switched::Failed(why) | Switched::Running(Some(why)) if age > OFF => self
                .problems
                .push(format!("{machine} cannot be switched off: {why}; mend its BMC, and run it again")),
            Switched::Running(met) => self.wait(&machine, switching_off(met.as_deref())),
            Switched::Failed(why) => {
                self.wait(&machine, format!("it cannot be switched off, which is tried again: {why}"));
                self.actions.push(Action::PowerOff { slot, machine });
            }
            Switched::ByHand(why) => {
                let reason = format!("{why} and may still run: switch it off by hand");
                self.waits.push(Wait { on: machine.clone(), reason, live: false });
                self.give_back(slot, machine, node);
            }
            Switched::Done => self.give_back(slot, machine, node),
        }
    }

    fn give_back(&mut self, slot: String, machine: String, node: bool) {
        if node && self.has_others(&machine) {
            self.actions.push(Action::RemoveNode { machine });
        } else {
            self.actions.push(Action::Release { slot, machine });
        }
    }

    /// Whether the cluster goes on without this machine for now.
    fn has_others(&self, machine: &str) -> bool {
        let nodes = self.world.seen().map(|seen| &seen.nodes);
        nodes.is_some_and(|nodes| nodes.iter().any(|(name, node)| name != machine && node.control_plane))
    }

    /// Notes that a place is taken apart; since when.
    fn leaving(&mut self, slot: &str, machine: &str) -> i64 {
        let now = self.world.now;
        let entry = if is_control_plane(&self.world.cluster, slot) {
            Entry::JoinControlPlane
        } else {
            Entry::JoinWorker
        };
        let place = self.record.places.entry(slot.to_owned()).or_insert_with(|| Place {
            machine: machine.to_owned(),
            role: String::new(),
            entry,
            stage: Stage::Joined,
            since: now,
            attempts: 0,
        });
        if place.stage != Stage::Leaving(REASON.to_owned()) {
            place.stage = Stage::Leaving(REASON.to_owned());
            place.since = now;
        }
        place.since
    }
}

fn number(slot: &str) -> usize {
    slot.rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn is_control_plane(cluster: &str, slot: &str) -> bool {
    slot == plan::slot_name(cluster, CONTROL_PLANE, number(slot))
}
