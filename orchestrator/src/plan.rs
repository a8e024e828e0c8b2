// SPDX-License-Identifier: Apache-2.0

//! Which machine becomes what: roles with counts on one side, machines that fit on the other.
//!
//! Owns the assignment and the order in which the control plane grows. Pure, and of no provider: a machine is a name here, and who
//! fits was said by the provider. What is held already stays as it is; no machine is ever given twice; as many places are
//! filled as can be; the same input gives the same plan.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What machines become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RoleKind {
    /// Runs the control plane, with its member of etcd.
    ControlPlane,
    /// Runs pods.
    Worker,
}

/// A machine that fits a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The machine, as its provider names it.
    pub machine: String,
    /// How well it fits: more is better.
    pub score: i64,
}

/// A role, and who fits it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Its name, which no other role of the cluster has: `control-plane`, or the name of the worker group.
    pub name: String,
    /// What its machines become.
    pub kind: RoleKind,
    /// How many there are to be.
    pub count: usize,
    /// Who fits.
    pub candidates: Vec<Candidate>,
}

/// When a machine's node comes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Turn {
    /// First of all: it makes the cluster.
    Init,
    /// Joins the control plane as the member of this number, from 2, when all before are members of etcd.
    Join(usize),
    /// As soon as the endpoint answers, beside the others of its kind.
    Worker,
}

/// One machine with what it becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The place in the cluster, stable over runs: `<cluster>-<role>-<number>`, from 1.
    pub slot: String,
    /// The role.
    pub role: String,
    /// The machine.
    pub machine: String,
    /// When its node comes up.
    pub turn: Turn,
}

/// A role that does not get as many machines as it wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// The role.
    pub role: String,
    /// Places that stay empty.
    pub missing: usize,
    /// Machines that fit it and that no other cluster holds.
    pub fitting: usize,
    /// Other roles that some of these machines fit too, and that take from them.
    pub shared_with: Vec<String>,
}

/// Who becomes what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The claims, control plane first, in the order of their places.
    pub claims: Vec<Claim>,
    /// Machines that fit a role and are left over, by role; a machine may stand under several.
    pub spares: BTreeMap<String, Vec<String>>,
    /// What is lacking.
    pub shortages: Vec<Shortage>,
}

/// Makes a plan. `held` are the places that machines hold already, from earlier runs: slot and machine.
#[must_use]
pub fn plan(cluster: &str, roles: &[Role], held: &BTreeMap<String, String>) -> Plan {
    let mut ordered: Vec<&Role> = roles.iter().collect();
    ordered.sort_by_key(|role| role.kind);
    let mut matching = Matching::new(cluster, &ordered, held);
    for slot in 0..matching.slots.len() {
        matching.fill(slot);
    }
    matching.plan(&ordered)
}

/// Name of a place in a cluster; `number` is from 1.
#[must_use]
pub fn slot_name(cluster: &str, role: &str, number: usize) -> String {
    format!("{cluster}-{role}-{number}")
}

/// A place that is to be filled.
struct Slot {
    name: String,
    /// Index of its role.
    role: usize,
    number: usize,
    machine: Option<String>,
    /// Held from an earlier run: never moved.
    fixed: bool,
}

/// A bipartite matching of places and machines, grown place by place along augmenting paths.
struct Matching {
    slots: Vec<Slot>,
    /// Machines that fit each role, best first.
    fitting: Vec<Vec<String>>,
    /// Which slot has a machine.
    taken: BTreeMap<String, usize>,
}

impl Matching {
    fn new(cluster: &str, roles: &[&Role], held: &BTreeMap<String, String>) -> Self {
        let mut matching = Self { slots: Vec::new(), fitting: Vec::new(), taken: BTreeMap::new() };
        for (index, role) in roles.iter().enumerate() {
            let mut candidates = role.candidates.clone();
            candidates.sort_by(|a, b| b.score.cmp(&a.score).then_with(|| a.machine.cmp(&b.machine)));
            let mut seen = BTreeSet::new();
            candidates.retain(|candidate| seen.insert(candidate.machine.clone()));
            matching.fitting.push(candidates.into_iter().map(|candidate| candidate.machine).collect());
            for number in 1..=role.count {
                let name = slot_name(cluster, &role.name, number);
                let machine =
                    held.get(&name).filter(|machine| !matching.taken.contains_key(*machine)).cloned();
                if let Some(machine) = &machine {
                    matching.taken.insert(machine.clone(), matching.slots.len());
                }
                let fixed = machine.is_some();
                matching.slots.push(Slot { name, role: index, number, machine, fixed });
            }
        }
        // A place that is no longer wanted keeps its machine until it was emptied.
        let kept: BTreeSet<_> =
            held.values().filter(|machine| !matching.taken.contains_key(*machine)).collect();
        for fitting in &mut matching.fitting {
            fitting.retain(|machine| !kept.contains(machine));
        }
        matching
    }

    /// Gives the slot a machine, moving others of this run if that is what it takes. Breadth first over roles: all places of a
    /// role see the same machines, so that each role is looked at once.
    fn fill(&mut self, slot: usize) {
        let Some(start) = self.slots.get(slot).filter(|slot| slot.machine.is_none()).map(|slot| slot.role)
        else {
            return;
        };
        let free = |machine: &&String| !self.taken.contains_key(*machine);
        if let Some(machine) = self.fitting.get(start).into_iter().flatten().find(free).cloned() {
            return self.shift(machine.clone(), &BTreeMap::from([(machine, slot)]));
        }
        // For each machine that was reached: the slot that would take it.
        let mut reached: BTreeMap<String, usize> = BTreeMap::new();
        let (mut seen_roles, mut queue) = (BTreeSet::from([start]), VecDeque::from([(start, slot)]));
        while let Some((role, taker)) = queue.pop_front() {
            for machine in self.fitting.get(role).into_iter().flatten() {
                if reached.contains_key(machine) {
                    continue;
                }
                reached.insert(machine.clone(), taker);
                let Some(holder) = self.taken.get(machine).copied() else {
                    self.shift(machine.clone(), &reached);
                    return;
                };
                if let Some(holder_slot) = self.slots.get(holder).filter(|slot| !slot.fixed)
                    && seen_roles.insert(holder_slot.role)
                {
                    queue.push_back((holder_slot.role, holder));
                }
            }
        }
    }

    /// Walks back from a free machine: each slot on the way takes the machine that was found for it.
    fn shift(&mut self, mut machine: String, reached: &BTreeMap<String, usize>) {
        while let Some(taker) = reached.get(&machine).copied() {
            let Some(slot) = self.slots.get_mut(taker) else { return };
            let before = slot.machine.replace(machine.clone());
            self.taken.insert(machine, taker);
            match before {
                Some(given_up) => machine = given_up,
                None => return,
            }
        }
    }

    fn plan(self, roles: &[&Role]) -> Plan {
        let mut plan = Plan::default();
        for (index, role) in roles.iter().enumerate() {
            let fitting = self.fitting.get(index).map(Vec::as_slice).unwrap_or_default();
            let slots = self.slots.iter().filter(|slot| slot.role == index);
            let missing = slots.clone().filter(|slot| slot.machine.is_none()).count();
            plan.claims.extend(slots.filter_map(|slot| {
                let turn = match (role.kind, slot.number) {
                    (RoleKind::Worker, _) => Turn::Worker,
                    (RoleKind::ControlPlane, 1) => Turn::Init,
                    (RoleKind::ControlPlane, number) => Turn::Join(number),
                };
                let machine = slot.machine.clone()?;
                Some(Claim { slot: slot.name.clone(), role: role.name.clone(), machine, turn })
            }));
            let left = fitting.iter().filter(|machine| !self.taken.contains_key(*machine));
            plan.spares.insert(role.name.clone(), left.cloned().collect());
            if missing > 0 {
                let others = roles.iter().enumerate().filter(|(other, _)| *other != index);
                let shared = others.filter(|(other, _)| {
                    self.fitting
                        .get(*other)
                        .is_some_and(|theirs| theirs.iter().any(|machine| fitting.contains(machine)))
                });
                plan.shortages.push(Shortage {
                    role: role.name.clone(),
                    missing,
                    fitting: fitting.len(),
                    shared_with: shared.map(|(_, role)| role.name.clone()).collect(),
                });
            }
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn role(name: &str, kind: RoleKind, count: usize, machines: &[&str]) -> Role {
        let candidates = machines.iter().map(|name| Candidate { machine: (*name).to_owned(), score: 0 });
        Role { name: name.to_owned(), kind, count, candidates: candidates.collect() }
    }

    fn claims(plan: &Plan) -> Vec<(&str, &str, Turn)> {
        plan.claims.iter().map(|claim| (claim.slot.as_str(), claim.machine.as_str(), claim.turn)).collect()
    }

    #[test]
    fn the_control_plane_comes_first_in_its_order_and_the_rest_are_spares() {
        let roles = [
            role("md-0", RoleKind::Worker, 1, &["w2", "w1", "w3"]),
            role("control-plane", RoleKind::ControlPlane, 3, &["c3", "c1", "c2", "c4"]),
        ];
        let plan = plan("k", &roles, &BTreeMap::new());
        assert_eq!(
            claims(&plan),
            [
                ("k-control-plane-1", "c1", Turn::Init),
                ("k-control-plane-2", "c2", Turn::Join(2)),
                ("k-control-plane-3", "c3", Turn::Join(3)),
                ("k-md-0-1", "w1", Turn::Worker),
            ]
        );
        assert_eq!(plan.spares["control-plane"], ["c4"]);
        assert_eq!(plan.spares["md-0"], ["w2", "w3"]);
        assert_eq!(plan.shortages, []);
    }

    #[test]
    fn a_machine_that_fits_two_roles_goes_where_nothing_else_fits() {
        let roles = [
            role("control-plane", RoleKind::ControlPlane, 1, &["a", "b"]),
            role("md-0", RoleKind::Worker, 1, &["a"]),
        ];
        let plan = plan("k", &roles, &BTreeMap::new());
        assert_eq!(plan.shortages, []);
        assert_eq!(plan.claims[0].machine, "b");
        assert_eq!(plan.claims[1].machine, "a");
    }

    #[test]
    fn what_is_held_stays_and_the_better_fit_comes_first() {
        let mut workers = role("md-0", RoleKind::Worker, 3, &["a", "b", "c", "d"]);
        workers.candidates[3].score = 10;
        let held = BTreeMap::from([
            ("k-md-0-2".to_owned(), "b".to_owned()),
            ("k-md-0-9".to_owned(), "c".to_owned()),
        ]);
        let plan = plan("k", &[workers], &held);
        let machines: Vec<_> = plan.claims.iter().map(|claim| claim.machine.as_str()).collect();
        assert_eq!(machines, ["d", "b", "a"]);
    }

    #[test]
    fn a_shortage_says_how_many_are_lacking_and_who_shares() {
        let roles = [
            role("control-plane", RoleKind::ControlPlane, 3, &["a", "b", "c", "d"]),
            role("md-0", RoleKind::Worker, 2, &["a", "b", "c", "d"]),
        ];
        let plan = plan("k", &roles, &BTreeMap::new());
        assert_eq!(plan.claims.len(), 4);
        let expected = Shortage {
            role: "md-0".to_owned(),
            missing: 1,
            fitting: 4,
            shared_with: vec!["control-plane".to_owned()],
        };
        assert_eq!(plan.shortages, [expected]);
    }

    fn roles() -> impl Strategy<Value = Vec<Role>> {
        let one = (0_usize..4, prop::collection::btree_map(0_u8..7, 0_i64..3, 0..6));
        prop::collection::vec(one, 1..4).prop_map(|all| {
            let role = |(number, (count, fits)): (usize, (usize, BTreeMap<u8, i64>))| Role {
                name: format!("r{number}"),
                kind: if number == 0 { RoleKind::ControlPlane } else { RoleKind::Worker },
                count,
                candidates: fits
                    .into_iter()
                    .map(|(m, score)| Candidate { machine: format!("m{m}"), score })
                    .collect(),
            };
            all.into_iter().enumerate().map(role).collect()
        })
    }

    /// Most places that can be filled, by trying everything.
    fn most(slots: &[&Role], used: &mut BTreeSet<String>) -> usize {
        let Some((first, rest)) = slots.split_first() else { return 0 };
        let mut best = most(rest, used);
        for candidate in &first.candidates {
            if used.insert(candidate.machine.clone()) {
                best = best.max(1 + most(rest, used));
                used.remove(&candidate.machine);
            }
        }
        best
    }

    proptest! {
        #[test]
        fn no_machine_twice_all_that_fit_and_as_many_as_can_be(roles in roles()) {
            let plan = plan("k", &roles, &BTreeMap::new());
            let machines: BTreeSet<_> = plan.claims.iter().map(|claim| &claim.machine).collect();
            prop_assert_eq!(machines.len(), plan.claims.len());
            for claim in &plan.claims {
                let role = roles.iter().find(|role| role.name == claim.role).unwrap();
                prop_assert!(role.candidates.iter().any(|candidate| candidate.machine == claim.machine));
            }
            for role in &roles {
                let have = plan.claims.iter().filter(|claim| claim.role == role.name).count();
                let lack: usize = plan.shortages.iter().filter(|s| s.role == role.name).map(|s| s.missing).sum();
                prop_assert_eq!(have + lack, role.count);
                prop_assert!(plan.spares[&role.name].iter().all(|machine| !machines.contains(machine)));
            }
            let slots: Vec<_> = roles.iter().flat_map(|role| std::iter::repeat_n(role, role.count)).collect();
            prop_assert_eq!(plan.claims.len(), most(&slots, &mut BTreeSet::new()));
        }

        #[test]
        fn a_plan_that_is_carried_out_is_the_plan_of_the_next_run(roles in roles()) {
            let first = plan("k", &roles, &BTreeMap::new());
            let held = first.claims.iter().map(|claim| (claim.slot.clone(), claim.machine.clone())).collect();
            prop_assert_eq!(plan("k", &roles, &held), first);
        }
    }
}
