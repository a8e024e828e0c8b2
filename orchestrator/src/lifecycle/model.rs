// SPDX-License-Identifier: Apache-2.0

//! The pure core against a model of everything around it: machines that are installed, fail, hang or die, an etcd that counts its
//! votes, and a run that may end before or after anything that it does.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::{
    check::CONTROL_PLANE,
    plan::{Candidate, slot_name},
    provider::Phase,
};

const CLUSTER: &str = "k";
const PATIENCE: i64 = 1200;

/// What becomes of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Works,
    /// Its first installation fails.
    FailsOnce,
    /// All its installations fail.
    Fails,
    /// It is installed and never comes up.
    Hangs,
    /// It dies as a learner of etcd, or before it is one.
    DiesJoining,
    /// It becomes a voting member and runs, but its node never comes up.
    Slow,
}

#[derive(Clone, Debug)]
struct Machine {
    fate: Fate,
    on: bool,
    /// Images that were written whole.
    images: u32,
    failures: u32,
    /// What it does at its first start, once it was installed.
    entry: Option<(String, Entry)>,
    /// Steps of the entry that are done.
    steps: u32,
}

#[derive(Clone, Debug)]
struct Model {
    control_planes: usize,
    workers: usize,
    machines: BTreeMap<String, Machine>,
    held: BTreeMap<String, String>,
    /// Workflow of each slot.
    workflows: BTreeMap<String, Phase>,
    entries: BTreeMap<String, Entry>,
    off: BTreeSet<String>,
    record: Record,
    now: i64,
    up: bool,
    nodes: BTreeMap<String, bool>,
    /// Members with whether they learn.
    members: BTreeMap<String, bool>,
    tokens: BTreeSet<String>,
    /// Slots whose machine has its user data.
    told: BTreeSet<String>,
    cni: bool,
    joined: Vec<String>,
}

impl Model {
    fn new(control_planes: usize, workers: usize, fates: &[(bool, Fate)]) -> Self {
        let mut machines = BTreeMap::new();
        for (number, (control_plane, fate)) in fates.iter().enumerate() {
            let name = format!("{}{number}", if *control_plane { "c" } else { "w" });
            let machine = Machine { fate: *fate, on: false, images: 0, failures: 0, entry: None, steps: 0 };
            machines.insert(name, machine);
        }
        Self {
            control_planes,
            workers,
            machines,
            held: BTreeMap::new(),
            workflows: BTreeMap::new(),
            entries: BTreeMap::new(),
            off: BTreeSet::new(),
            record: Record::default(),
            now: 1000,
            up: false,
            nodes: BTreeMap::new(),
            members: BTreeMap::new(),
            tokens: BTreeSet::new(),
            told: BTreeSet::new(),
            cni: false,
            joined: Vec::new(),
        }
    }

    fn world(&self) -> World {
        let role = |name: &str, kind, count, letter: &str| Role {
            name: name.to_owned(),
            kind,
            count,
            candidates: self
                .machines
                .keys()
                .filter(|machine| machine.starts_with(letter))
                .map(|machine| Candidate { machine: machine.clone(), score: 0 })
                .collect(),
        };
        let observed = self.held.keys().map(|slot| {
            let phase = self.workflows.get(slot).copied().unwrap_or(Phase::Idle);
            (slot.clone(), Observation { phase, ..Observation::default() })
        });
        let switched = self.held.keys().map(|slot| {
            let off = self.off.contains(slot);
            (slot.clone(), if off { Switched::Done } else { Switched::NotAsked })
        });
        let members = self.members.iter().map(|(machine, learner)| Member {
            machine: machine.clone(),
            learner: *learner,
            healthy: self.is_well(machine),
        });
        let seen = Seen {
            nodes: self
                .nodes
                .iter()
                .map(|(machine, control_plane)| {
                    let ready = if self.cni { Ok(()) } else { Err("no network".to_owned()) };
                    (machine.clone(), NodeSeen { control_plane: *control_plane, ready })
                })
                .collect(),
            members: Ok(members.collect()),
            tokens: self.tokens.clone(),
            addons: if self.cni { BTreeSet::from([Addon::Cni]) } else { BTreeSet::new() },
        };
        World {
            cluster: CLUSTER.to_owned(),
            now: self.now,
            patience: PATIENCE,
            roles: vec![
                role(CONTROL_PLANE, RoleKind::ControlPlane, self.control_planes, "c"),
                role("md-0", RoleKind::Worker, self.workers, "w"),
            ],
            held: self.held.clone(),
            told: self.told.clone(),
            observed: observed.collect(),
            switched: switched.collect(),
            record: self.record.clone(),
            addons: BTreeSet::from([Addon::Cni]),
            target: if self.answers() { Target::Answers(seen) } else { Target::Silent("down".to_owned()) },
        }
    }

    fn is_well(&self, machine: &str) -> bool {
        let machine = &self.machines[machine];
        machine.on && (machine.fate != Fate::DiesJoining || machine.steps < 2)
    }

    fn has_majority(&self) -> bool {
        let voting: Vec<_> = self.members.iter().filter(|(_, learner)| !**learner).collect();
        let well = voting.iter().filter(|(machine, _)| self.is_well(machine)).count();
        well > voting.len() / 2
    }

    fn answers(&self) -> bool {
        self.up && self.has_majority()
    }

    /// A pass that ends after so many actions; whether anything was left to do.
    fn pass(&mut self, crash_after: usize) -> Outcome {
        let decision = decide(&self.world());
        let before = self.record.clone();
        self.record = decision.record;
        for slot in before.places.keys().chain(self.record.places.keys()) {
            let was = before.places.get(slot).map(|place| &place.stage);
            if let Some(place) = self.record.places.get(slot)
                && place.stage == Stage::Joined
                && was != Some(&Stage::Joined)
                && !self.joined.contains(slot)
            {
                self.joined.push(slot.clone());
            }
        }
        for action in decision.actions.into_iter().take(crash_after) {
            self.act(action);
            self.check();
        }
        decision.outcome
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Claim { slot, machine } => {
                assert!(!self.held.values().any(|held| *held == machine), "{machine} is held");
                assert!(self.held.insert(slot, machine).is_none());
            }
            Action::Boot { slot, machine, entry, .. } => {
                assert_eq!(self.held.get(&slot), Some(&machine));
                let makes = |other: &Entry| *other == Entry::Init;
                assert!(entry != Entry::Init || self.members.is_empty(), "a second cluster is made");
                self.entries.insert(slot.clone(), entry);
                self.told.insert(slot.clone());
                self.workflows.entry(slot).or_insert(Phase::Booting);
                self.machines.get_mut(&machine).unwrap().on = true;
                let running = self.machines.values().filter(|one| one.on);
                let first = running.filter(|one| one.entry.as_ref().is_some_and(|(_, entry)| makes(entry)));
                assert!(first.count() <= 1);
            }
            Action::Reset { slot, machine } => {
                assert_eq!(self.held.get(&slot), Some(&machine));
                self.workflows.remove(&slot);
            }
            Action::Admit { slot, .. } => {
                assert!(self.answers());
                self.tokens.insert(slot);
            }
            Action::Revoke { slot } => drop(self.tokens.remove(&slot)),
            Action::Forget { slot, machine } => {
                assert!(self.nodes.contains_key(&machine), "{machine} has not started yet");
                self.told.remove(&slot);
            }
            Action::RemoveMember { machine } => {
                assert!(self.has_majority(), "etcd cannot decide");
                self.members.remove(&machine);
            }
            Action::Drain { .. } => {}
            Action::RemoveNode { machine } => drop(self.nodes.remove(&machine)),
            Action::PowerOff { slot, machine } => {
                assert_eq!(self.held.get(&slot), Some(&machine));
                self.machines.get_mut(&machine).unwrap().on = false;
                self.off.insert(slot);
            }
            Action::Release { slot, machine } => {
                assert_eq!(self.held.get(&slot), Some(&machine));
                assert!(!self.machines[&machine].on, "{machine} may still run");
                self.workflows.remove(&slot);
                self.off.remove(&slot);
                self.held.remove(&slot);
                self.told.remove(&slot);
                self.tokens.remove(&slot);
            }
            Action::Apply { .. } => self.cni = true,
        }
    }

    /// One machine does its next step.
    fn progress(&mut self, number: usize) {
        let name = self.machines.keys().nth(number % self.machines.len()).unwrap().clone();
        let slot = self.held.iter().find(|(_, machine)| **machine == name).map(|(slot, _)| slot.clone());
        let Some(slot) = slot else { return };
        let (answers, tokens) = (self.answers(), self.tokens.contains(&slot));
        let others = self.members.keys().filter(|member| **member != name).count();
        let machine = self.machines.get_mut(&name).unwrap();
        if !machine.on {
            return;
        }
        match self.workflows.get_mut(&slot) {
            Some(phase @ Phase::Booting) => *phase = Phase::Installing,
            Some(phase @ Phase::Installing) => {
                let fails =
                    machine.fate == Fate::Fails || (machine.fate == Fate::FailsOnce && machine.failures == 0);
                if fails {
                    machine.failures += 1;
                    *phase = Phase::Failed;
                } else {
                    machine.images += 1;
                    machine.entry = Some((slot.clone(), self.entries[&slot]));
                    machine.steps = 0;
                    *phase = Phase::Installed;
                }
            }
            _ => {
                let Some((_, entry)) = machine.entry.clone() else { return };
                if machine.fate == Fate::Hangs {
                    return;
                }
                self.start(&name, entry, answers, tokens, others);
            }
        }
        self.check();
    }

    /// A step of kubeadm.
    fn start(&mut self, name: &str, entry: Entry, answers: bool, admitted: bool, others: usize) {
        let machine = self.machines.get_mut(name).unwrap();
        let fate = machine.fate;
        match (entry, machine.steps) {
            (Entry::Init, 0) => {
                machine.steps = 1;
                if matches!(fate, Fate::DiesJoining | Fate::Slow) {
                    // It never gets so far that anybody sees it.
                    machine.fate = Fate::Hangs;
                    return;
                }
                self.members.insert(name.to_owned(), false);
                self.up = true;
            }
            (Entry::Init, 1) => {
                machine.steps = 2;
                self.nodes.insert(name.to_owned(), true);
            }
            (Entry::JoinWorker, 0) if answers && admitted => {
                machine.steps = 3;
                if !matches!(fate, Fate::DiesJoining | Fate::Slow) {
                    self.nodes.insert(name.to_owned(), false);
                }
            }
            (Entry::JoinControlPlane, 0) if answers && admitted => {
                machine.steps = 1;
                self.members.insert(name.to_owned(), true);
            }
            (Entry::JoinControlPlane, 1) if answers => {
                // etcd lets only a learner vote that is up to date, so one that dies here learns for ever; or it dies when it
                // votes, which two others survive.
                if fate == Fate::DiesJoining {
                    self.members.insert(name.to_owned(), others < 2);
                } else {
                    self.members.insert(name.to_owned(), false);
                }
                self.machines.get_mut(name).unwrap().steps = 2;
            }
            (Entry::JoinControlPlane, 2) if answers && !matches!(fate, Fate::DiesJoining | Fate::Slow) => {
                machine.steps = 3;
                self.nodes.insert(name.to_owned(), true);
            }
            _ => {}
        }
    }

    fn check(&self) {
        for (name, machine) in &self.machines {
            assert!(machine.images <= 1, "{name} was imaged {} times", machine.images);
        }
        assert!(self.members.is_empty() || self.has_majority(), "etcd lost its majority: {:?}", self.members);
        let learners = self.members.values().filter(|learner| **learner).count();
        assert!(learners <= 1, "two join at once: {:?}", self.members);
        let places = self.record.places.values();
        let joining =
            places.filter(|place| place.stage == Stage::Joining && place.entry != Entry::JoinWorker);
        assert!(joining.count() <= 1);
    }

    /// Everybody goes on until nothing changes any more.
    fn settle(&mut self) -> Outcome {
        let mut last = Outcome::Going;
        for _ in 0..400 {
            last = self.pass(usize::MAX);
            self.check();
            if last != Outcome::Going {
                return last;
            }
            (0..self.machines.len()).for_each(|number| self.progress(number));
            self.now += 60;
        }
        panic!("it goes on for ever: {last:?}, {:#?}", self.record);
    }
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => Just(Fate::Works),
        1 => Just(Fate::FailsOnce),
        1 => Just(Fate::Fails),
        1 => Just(Fate::Hangs),
        1 => Just(Fate::DiesJoining),
        1 => Just(Fate::Slow),
    ]
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Pass(usize),
    Progress(usize),
    Time(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0_usize..6).prop_map(Step::Pass),
        6 => (0_usize..16).prop_map(Step::Progress),
        1 => (1_i64..30).prop_map(Step::Time),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn whatever_fails_and_wherever_a_run_ends_the_cluster_comes_to_be_or_says_what_is_lacking(
        control_planes in prop_oneof![Just(1_usize), Just(3), Just(5)],
        workers in 0_usize..4,
        fates in prop::collection::vec((any::<bool>(), fate()), 1..14),
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let mut model = Model::new(control_planes, workers, &fates);
        for step in steps {
            match step {
                Step::Pass(actions) => drop(model.pass(actions)),
                Step::Progress(number) => model.progress(number),
                Step::Time(seconds) => model.now += seconds,
            }
            model.check();
        }
        let outcome = model.settle();
        let good = |letter: &str| {
            let fine = |fate: Fate| matches!(fate, Fate::Works | Fate::FailsOnce);
            model.machines.iter().filter(|(name, one)| name.starts_with(letter) && fine(one.fate)).count()
        };
        let enough = good("c") >= control_planes && good("w") >= workers;
        match outcome {
            Outcome::Ready => {
                prop_assert_eq!(model.nodes.len(), control_planes + workers);
                prop_assert_eq!(model.members.len(), control_planes);
                prop_assert!(model.members.values().all(|learner| !learner));
                prop_assert!(model.tokens.is_empty() && model.told.is_empty());
            }
            Outcome::Stuck(problems) => {
                prop_assert!(!enough, "{:?}", problems);
                prop_assert!(!problems.is_empty());
            }
            Outcome::Going => prop_assert!(false),
        }
        prop_assert_eq!(enough, model.nodes.len() == control_planes + workers);
    }
}

#[test]
fn three_machines_become_a_control_plane_in_the_order_of_their_places() {
    let fates: Vec<_> = (0..5).map(|number| (number < 3, Fate::Works)).collect();
    let mut model = Model::new(3, 2, &fates);
    assert_eq!(model.settle(), Outcome::Ready);
    let order: Vec<_> = model.joined.iter().filter(|slot| slot.contains(CONTROL_PLANE)).cloned().collect();
    assert_eq!(order, [1, 2, 3].map(|number| slot_name(CLUSTER, CONTROL_PLANE, number)));
    // All are installed at once: the last one did not wait for the first to join.
    assert!(model.machines.values().all(|machine| machine.images == 1));
}

#[test]
fn a_spare_takes_the_place_of_a_machine_that_fails() {
    let fates = [(true, Fate::Works), (false, Fate::Fails), (false, Fate::Hangs), (false, Fate::Works)];
    let mut model = Model::new(1, 1, &fates);
    assert_eq!(model.settle(), Outcome::Ready);
    assert_eq!(model.held[&slot_name(CLUSTER, "md-0", 1)], "w3");
    assert_eq!(model.machines["w1"].failures, ATTEMPTS);
    assert_eq!((model.machines["w1"].on, model.machines["w2"].on), (false, false));
}

#[test]
fn without_a_spare_it_says_who_failed_and_a_new_run_tries_again() {
    let fates = [(true, Fate::Works), (false, Fate::Fails)];
    let mut model = Model::new(1, 1, &fates);
    let Outcome::Stuck(problems) = model.settle() else { panic!() };
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].starts_with("md-0 lacks 1") && problems[0].contains("w1: "), "{problems:?}");
    assert!(model.record.stuck);
    // Nothing of what is good was undone.
    assert_eq!(model.nodes.len(), 1);

    model.machines.get_mut("w1").unwrap().fate = Fate::Works;
    model.record.forgive(model.now);
    assert_eq!(model.settle(), Outcome::Ready);
    assert_eq!(model.machines["c0"].images, 1);
}

#[test]
fn a_cluster_is_taken_apart_from_any_state_workers_first() {
    for rounds in 0..40 {
        let fates: Vec<_> = (0..6).map(|number| (number < 3, Fate::Works)).collect();
        let mut model = Model::new(3, 2, &fates);
        for _ in 0..rounds {
            drop(model.pass(usize::MAX));
            (0..model.machines.len()).for_each(|number| model.progress(number));
            model.now += 60;
        }
        let mut order = Vec::new();
        for _ in 0..200 {
            let decision = remove::decide(&model.world(), &BTreeSet::new());
            model.record = decision.record;
            if decision.outcome == Outcome::Ready {
                break;
            }
            for action in decision.actions {
                if let Action::Release { slot, .. } = &action {
                    order.push(slot.contains(CONTROL_PLANE));
                }
                model.act(action);
            }
            model.now += 30;
        }
        assert!(model.held.is_empty(), "after {rounds} rounds: {:?}", model.held);
        assert!(order.is_sorted(), "after {rounds} rounds: {order:?}");
        assert!(model.machines.values().all(|machine| !machine.on), "after {rounds} rounds");
    }
}
