// SPDX-License-Identifier: Apache-2.0

//! What is done next with a cluster that is to be: the pure core.

use std::collections::BTreeSet;

use super::{Action, Decision, Member, Outcome, Place, Record, Seen, Stage, Target, Wait, World};
use crate::{
    node::Entry,
    plan::{self, Claim, Plan, Role, RoleKind, Shortage, Turn},
    provider::{Phase, Switched},
};

/// How often a machine is installed before a spare takes its place.
pub const ATTEMPTS: u32 = 2;

/// What comes of looking at the world.
#[must_use]
pub fn decide(world: &World) -> Decision {
    let mut next = Next {
        world,
        record: world.record.clone(),
        actions: Vec::new(),
        waits: Vec::new(),
        problems: Vec::new(),
    };
    next.forget_released();
    let plan = plan::plan(&world.cluster, &next.roles(), &world.held);
    next.lost_places();
    for claim in &plan.claims {
        next.place(claim);
    }
    next.initialized();
    next.turns(&plan.claims);
    next.addons();
    next.finish(&plan)
}

struct Next<'a> {
    world: &'a World,
    record: Record,
    actions: Vec<Action>,
    waits: Vec<Wait>,
    problems: Vec<String>,
}

impl Next<'_> {
    fn wait(&mut self, on: &str, reason: impl Into<String>) {
        self.waits.push(Wait { on: on.to_owned(), reason: reason.into(), live: true });
    }

    fn to(&mut self, slot: &str, stage: Stage) {
        let now = self.world.now;
        if let Some(place) = self.record.places.get_mut(slot) {
            (place.stage, place.since) = (stage, now);
        }
    }

    /// Places whose machine was given back are free.
    fn forget_released(&mut self) {
        let held = &self.world.held;
        self.record.places.retain(|slot, place| {
            !matches!(place.stage, Stage::Released(_)) || held.get(slot) == Some(&place.machine)
        });
    }

    /// The roles with those who fit and did not fail.
    fn roles(&self) -> Vec<Role> {
        let mut roles = self.world.roles.clone();
        for role in &mut roles {
            role.candidates.retain(|candidate| !self.record.failed.contains_key(&candidate.machine));
        }
        roles
    }

    /// A machine that was taken away from its place by somebody else is left alone, and so is the place.
    fn lost_places(&mut self) {
        for (slot, place) in &self.record.places {
            if self.world.held.get(slot) != Some(&place.machine) {
                self.problems.push(format!(
                    "{}: somebody took it away from {slot}; put its labels back, or delete the cluster",
                    place.machine
                ));
            }
        }
    }

    fn place(&mut self, claim: &Claim) {
        let Claim { slot, machine, role, turn } = claim;
        let held = self.world.held.get(slot) == Some(machine);
        match self.record.places.get(slot) {
            None if held => {
                let entry = match turn {
                    Turn::Worker => Entry::JoinWorker,
                    Turn::Init if !self.record.initialized => Entry::Init,
                    Turn::Init | Turn::Join(_) => Entry::JoinControlPlane,
                };
                let place = Place {
                    machine: machine.clone(),
                    role: role.clone(),
                    entry,
                    stage: Stage::Installing,
                    since: self.world.now,
                    attempts: 1,
                };
                self.record.places.insert(slot.clone(), place.clone());
                self.boot(slot, &place);
            }
            None => self.actions.push(Action::Claim { slot: slot.clone(), machine: machine.clone() }),
            Some(place) if held && place.machine == *machine => {
                let place = place.clone();
                self.advance(slot, &place);
            }
            // Told above.
            Some(_) => {}
        }
    }

    fn boot(&mut self, slot: &str, place: &Place) {
        self.actions.push(Action::Boot {
            slot: slot.to_owned(),
            machine: place.machine.clone(),
            entry: place.entry,
            role: place.role.clone(),
        });
    }

    fn advance(&mut self, slot: &str, place: &Place) {
        match &place.stage {
            Stage::Installing => self.installing(slot, place),
            Stage::Repeating => {
                let idle = self.world.observed.get(slot).is_some_and(|seen| seen.phase == Phase::Idle);
                if idle {
                    self.to(slot, Stage::Installing);
                    self.boot(slot, place);
                } else {
                    self.actions
                        .push(Action::Reset { slot: slot.to_owned(), machine: place.machine.clone() });
                }
            }
            Stage::Starting => {}
            Stage::Joining => self.joining(slot, place),
            Stage::Joined => self.joined(slot, place),
            Stage::Leaving(reason) => self.leaving(slot, place, reason),
            Stage::Released(_) => {
                self.actions.push(Action::Release { slot: slot.to_owned(), machine: place.machine.clone() });
            }
        }
    }

    fn installing(&mut self, slot: &str, place: &Place) {
        let Some(seen) = self.world.observed.get(slot) else { return };
        let step = seen.step.as_deref();
        match seen.phase {
            Phase::Idle => self.boot(slot, place),
            // Its agent has never been heard of: firmware that starts something else would keep the place for ever.
            Phase::Booting if self.world.now - place.since > self.world.patience => {
                let (patience, attempts) = (self.world.patience, place.attempts);
                let reason = match &seen.cause {
                    Some(cause) => {
                        format!("it could not be started within {patience} s, {attempts} times: {cause}")
                    }
                    None => format!(
                        "it did not boot from the network within {patience} s, {attempts} times (boot order, cable, VLAN; `tink why {}` says how far it came)",
                        place.machine
                    ),
                };
                self.failed(slot, place, reason);
            }
            Phase::Booting => {
                let what = seen.cause.as_deref().or(step);
                self.wait(&place.machine, what.unwrap_or("it boots from the network"));
            }
            Phase::Installing => {
                let part = seen.bytes.map(|(done, all)| match all {
                    Some(all) => format!(", {done} of {all} bytes"),
                    None => format!(", {done} bytes"),
                });
                let step = step.unwrap_or("installation");
                self.wait(&place.machine, format!("{step}{}", part.unwrap_or_default()));
            }
            Phase::Installed if place.entry == Entry::Init => self.to(slot, Stage::Joining),
            Phase::Installed => self.to(slot, Stage::Starting),
            Phase::Failed => {
                let what = step.unwrap_or("its workflow");
                let cause = seen.cause.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default();
                let reason = format!("{what} failed {} times{cause}", place.attempts);
                self.failed(slot, place, reason);
            }
        }
    }

    /// An installation came to nothing: it is done once more, or a spare takes the place.
    fn failed(&mut self, slot: &str, place: &Place, reason: String) {
        if place.attempts >= ATTEMPTS {
            return self.leave(slot, place, reason);
        }
        if let Some(place) = self.record.places.get_mut(slot) {
            place.attempts += 1;
        }
        self.to(slot, Stage::Repeating);
    }

    fn leave(&mut self, slot: &str, place: &Place, reason: String) {
        self.record.failed.insert(place.machine.clone(), reason.clone());
        self.to(slot, Stage::Leaving(reason));
    }

    fn joining(&mut self, slot: &str, place: &Place) {
        let overdue = self.world.now - place.since > self.world.patience;
        let Some(seen) = self.world.seen() else {
            return match &self.world.target {
                // Whether others come up cannot be seen, and so is not judged.
                _ if place.entry == Entry::Init && overdue => {
                    let reason = format!("kubeadm made no cluster within {} s", self.world.patience);
                    self.leave(slot, place, reason);
                }
                Target::Silent(why) => self.wait(&place.machine, format!("the API server is silent: {why}")),
                Target::Answers(_) => {}
            };
        };
        if self.has_joined(seen, place) {
            self.to(slot, Stage::Joined);
        } else if overdue {
            let reason = format!("its node did not join within {} s", self.world.patience);
            self.leave(slot, place, reason);
        } else {
            if place.entry != Entry::Init && !seen.tokens.contains(slot) {
                self.actions.push(Action::Admit { slot: slot.to_owned(), machine: place.machine.clone() });
            }
            self.wait(&place.machine, "its node joins");
        }
    }

    /// A worker has joined with its node, a member of the control plane when it votes in etcd, too.
    fn has_joined(&self, seen: &Seen, place: &Place) -> bool {
        let Some(node) = seen.nodes.get(&place.machine) else { return false };
        let votes = |member: &Member| member.machine == place.machine && !member.learner && member.healthy;
        match place.entry {
            Entry::JoinWorker => true,
            Entry::Init | Entry::JoinControlPlane => {
                node.control_plane && seen.members.as_ref().is_ok_and(|all| all.iter().any(votes))
            }
        }
    }

    fn joined(&mut self, slot: &str, place: &Place) {
        if self.world.told.contains(slot) {
            self.actions.push(Action::Forget { slot: slot.to_owned(), machine: place.machine.clone() });
        }
        let Some(seen) = self.world.seen() else {
            if let Target::Silent(why) = &self.world.target {
                self.wait("API server", why.clone());
            }
            return;
        };
        if seen.tokens.contains(slot) {
            self.actions.push(Action::Revoke { slot: slot.to_owned() });
        }
        let overdue = self.world.now - place.since > self.world.patience;
        let why = match seen.nodes.get(&place.machine) {
            Some(node) => match &node.ready {
                Ok(()) => return,
                Err(why) => why.clone(),
            },
            None => "its node is gone".to_owned(),
        };
        if overdue {
            let machine = &place.machine;
            self.problems.push(format!(
                "{machine}: the node is not ready: {why}; look at the network plugin and the kubelet, and run it again"
            ));
        } else {
            self.wait(&place.machine, format!("its node is not ready: {why}"));
        }
    }

    /// Out of etcd while it still votes, then off, then out of etcd if it came back, then out of the cluster.
    fn leaving(&mut self, slot: &str, place: &Place, reason: &str) {
        let machine = place.machine.clone();
        let control_plane = place.entry != Entry::JoinWorker;
        let seen = self.world.seen();
        if control_plane && self.record.initialized {
            let Some(members) = seen.and_then(|seen| seen.members.as_ref().ok()) else {
                return self.wait(&machine, "etcd must answer before it is taken out");
            };
            if members.iter().any(|member| member.machine == machine) {
                if may_remove(members, &machine) {
                    self.actions.push(Action::RemoveMember { machine });
                } else {
                    self.problems.push(format!(
                        "{machine}: etcd has no majority without it; bring the other machines of the control plane up again"
                    ));
                }
                return;
            }
        }
        if seen.is_some_and(|seen| seen.tokens.contains(slot)) {
            self.actions.push(Action::Revoke { slot: slot.to_owned() });
        }
        match self.world.switched.get(slot).unwrap_or(&Switched::NotAsked) {
            Switched::NotAsked => self.actions.push(Action::PowerOff { slot: slot.to_owned(), machine }),
            Switched::Failed(why) | Switched::Running(Some(why))
                if self.world.now - place.since > self.world.patience =>
            {
                let problem = format!(
                    "{machine}: {reason}, and it cannot be switched off: {why}; switch it off, and run it again"
                );
                self.problems.push(problem);
            }
            Switched::Running(met) => self.wait(&machine, switching_off(met.as_deref())),
            Switched::Failed(why) => {
                self.wait(&machine, format!("it cannot be switched off, which is tried again: {why}"));
                self.actions.push(Action::PowerOff { slot: slot.to_owned(), machine });
            }
            Switched::ByHand(why) => self
                .problems
                .push(format!("{machine}: {reason}, and {why}; switch it off, mend it, and run it again")),
            Switched::Done => match seen.filter(|seen| seen.nodes.contains_key(&machine)) {
                Some(_) => self.actions.push(Action::RemoveNode { machine }),
                None => {
                    self.to(slot, Stage::Released(reason.to_owned()));
                    self.actions.push(Action::Release { slot: slot.to_owned(), machine });
                }
            },
        }
    }

    /// The first node of the control plane is the cluster.
    fn initialized(&mut self) {
        let Some(seen) = self.world.seen() else { return };
        let first = self.record.places.values().filter(|place| place.entry == Entry::Init);
        let made = |place: &Place| seen.nodes.get(&place.machine).is_some_and(|node| node.control_plane);
        if first.into_iter().any(made) {
            self.record.initialized = true;
        }
    }

    /// Who waits for a turn gets it: workers all at once, the control plane one after the other.
    fn turns(&mut self, claims: &[Claim]) {
        let open = self.record.initialized && self.world.seen().is_some();
        let mut control_plane_open = open && self.control_plane_is_whole();
        for Claim { slot, turn, .. } in claims {
            let Some(place) = self.record.places.get(slot).cloned() else { continue };
            let waits = place.stage == Stage::Starting;
            let may = match turn {
                Turn::Worker => open,
                Turn::Init | Turn::Join(_) => control_plane_open,
            };
            if waits && may {
                self.to(slot, Stage::Joining);
                self.actions.push(Action::Admit { slot: slot.clone(), machine: place.machine.clone() });
            } else if waits {
                let reason = if open { "its turn to join" } else { "the cluster to join" };
                self.waits.push(Wait { on: place.machine.clone(), reason: reason.to_owned(), live: false });
            }
            // Who comes later in the control plane waits for who is still installed.
            let settled = matches!(place.stage, Stage::Joined | Stage::Leaving(_) | Stage::Released(_));
            if *turn != Turn::Worker && !settled {
                control_plane_open = false;
            }
        }
    }

    /// Whether etcd consists of just those who have joined, all of them well.
    fn control_plane_is_whole(&mut self) -> bool {
        let Some(Ok(members)) = self.world.seen().map(|seen| seen.members.clone()) else {
            if let Some(Err(why)) = self.world.seen().map(|seen| seen.members.clone()) {
                self.wait("etcd", why);
            }
            return false;
        };
        let control_plane = |place: &&Place| place.entry != Entry::JoinWorker;
        let places = || self.record.places.values().filter(control_plane);
        let joined: BTreeSet<_> = places()
            .filter(|place| place.stage == Stage::Joined)
            .map(|place| place.machine.as_str())
            .collect();
        let names: BTreeSet<_> = members.iter().map(|member| member.machine.as_str()).collect();
        let joining = places().any(|place| place.stage == Stage::Joining);
        let sick =
            members.iter().find(|member| member.learner || !member.healthy).map(|one| one.machine.clone());
        let whole = !joining && names == joined;
        if let (true, Some(sick)) = (whole, &sick) {
            self.wait("etcd", format!("the member on {sick} is not well"));
        }
        whole && sick.is_none()
    }

    fn addons(&mut self) {
        if let Some(seen) = self.world.seen().filter(|_| self.record.initialized) {
            let missing = self.world.addons.difference(&seen.addons);
            self.actions.extend(missing.map(|addon| Action::Apply { addon: *addon }));
        }
    }

    fn finish(mut self, plan: &Plan) -> Decision {
        for Shortage { role, missing, .. } in &plan.shortages {
            let kind = self.world.kind(role);
            let failed: Vec<_> =
                self.record.failed.iter().map(|(machine, why)| format!("{machine}: {why}")).collect();
            let what = if kind == RoleKind::ControlPlane { "the control plane" } else { role };
            let because = if failed.is_empty() { String::new() } else { format!(" ({})", failed.join("; ")) };
            self.problems.push(format!(
                "{what} lacks {missing} of its machines and no spare fits{because}; mend or add machines, and run it again"
            ));
        }
        let all_joined = self.record.places.values().all(|place| place.stage == Stage::Joined)
            && plan.claims.iter().all(|claim| self.record.places.contains_key(&claim.slot));
        let still = self.actions.is_empty() && !self.waits.iter().any(|wait| wait.live);
        self.record.stuck = false;
        let settled = still && self.record == Record { stuck: false, ..self.world.record.clone() };
        let outcome = match () {
            () if settled && !self.problems.is_empty() => {
                self.record.stuck = true;
                Outcome::Stuck(self.problems)
            }
            () if settled && all_joined && self.record.initialized => Outcome::Ready,
            () => Outcome::Going,
        };
        Decision { record: self.record, actions: self.actions, waits: self.waits, outcome }
    }
}

/// What is waited for while a machine is switched off.
pub(super) fn switching_off(met: Option<&str>) -> String {
    met.map_or_else(|| "it is switched off".to_owned(), |met| format!("it is switched off: {met}"))
}

/// Whether etcd keeps its majority when a member is taken out, and has one that can decide it.
pub(super) fn may_remove(members: &[Member], machine: &str) -> bool {
    let votes = |member: &&Member| !member.learner;
    let majority = |all: usize| all / 2 + 1;
    let all = members.iter().filter(votes);
    let rest = all.clone().filter(|member| member.machine != machine);
    let well = |of: &mut dyn Iterator<Item = &Member>| of.filter(|member| member.healthy).count();
    well(&mut all.clone()) >= majority(all.count()) && well(&mut rest.clone()) >= majority(rest.count())
}
