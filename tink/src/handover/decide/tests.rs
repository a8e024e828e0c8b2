// SPDX-License-Identifier: Apache-2.0

//! Every order of events of a move between two servers: steps of movers that are killed anywhere and begun again, two at
//! once, moves back, moves that are given up, and daemons that start and stop when their side lets them.

use std::collections::{HashSet, VecDeque};

use api::ownership::Peer;

use super::*;

/// Two servers, A and B.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    journals: [(State, Option<u8>); 2],
    /// Whether daemons of a side act.
    acting: [bool; 2],
    /// Whether a side has nothing to act on: a fresh server, before anything was copied to it.
    empty: [bool; 2],
    /// Which side has the state of the machines as it is now.
    current: [bool; 2],
    /// A mover of each direction that has copied everything, and the move that it did that in.
    copied: [Option<u8>; 2],
    /// Moves that were begun.
    moves: u8,
}

const NAMES: [&str; 2] = ["a", "b"];
/// Moves after which the model begins no other.
const MOVES: u8 = 3;

impl World {
    fn new() -> Self {
        // B is a fresh server: its daemons run, and have nothing to act on.
        Self {
            journals: [(State::Owner, None), (State::Owner, None)],
            acting: [true, true],
            empty: [false, true],
            current: [true, false],
            copied: [None, None],
            moves: 0,
        }
    }

    fn journal(&self, side: usize) -> Journal {
        let (state, of) = self.journals[side];
        let of = of.map(|id| Move {
            id: id.to_string(),
            peer: Peer { id: NAMES[1 - side].to_owned(), url: String::new() },
        });
        Journal { state, of }
    }

    fn ids(from: usize) -> Ids<'static> {
        Ids { source: NAMES[from], target: NAMES[1 - from] }
    }

    /// Whether daemons of a side act on machines.
    fn acts(&self, side: usize) -> bool {
        self.acting[side] && !self.empty[side]
    }

    /// The mover from this side does its next step.
    fn step(&self, from: usize) -> Option<Self> {
        let (source, target) = (self.journal(from), self.journal(1 - from));
        let is_copied = self.copied[from].is_some() && self.copied[from] == self.journals[from].1;
        let step = next(&source, &target, Self::ids(from), is_copied).ok()?;
        let mut then = self.clone();
        match step {
            // A target that was never part of a move must be empty.
            Step::Receive if target.of.is_none() && !self.empty[1 - from] => return None,
            Step::Receive if self.moves < MOVES => {
                then.moves += 1;
                then.journals[1 - from] = (State::Receiving, Some(then.moves));
            }
            Step::Leave => then.journals[from] = (State::Leaving, self.journals[1 - from].1),
            Step::Copy => {
                then.current[1 - from] = self.current[from];
                then.empty[1 - from] = false;
                then.copied[from] = self.journals[from].1;
            }
            Step::Own => then.journals[1 - from].0 = State::Owner,
            Step::LetGo => then.journals[from].0 = State::Moved,
            Step::Receive | Step::Clear | Step::Drain | Step::Done => return None,
        }
        Some(then)
    }

    /// A move from this side is given up, by whoever does not tell the mover.
    fn give_up(&self, from: usize) -> Option<Self> {
        let (source, target) = (self.journal(from), self.journal(1 - from));
        let mut then = self.clone();
        match back(&source, &target, Self::ids(from)).ok()? {
            Back::Refrain => then.journals[1 - from].0 = State::Moved,
            Back::Keep => then.journals[from].0 = State::Owner,
            Back::Done => return None,
        }
        Some(then)
    }

    /// Daemons of a side start or stop as they may, or it is said that they have stopped.
    fn daemons(&self, side: usize) -> Option<Self> {
        let mut then = self.clone();
        match (self.acting[side], self.journals[side].0) {
            (true, State::Owner) => return None,
            (acting, state) if acting || state == State::Owner => then.acting[side] = !acting,
            (_, state) => then.journals[side].0 = state.stopped()?,
        }
        Some(then)
    }

    fn successors(&self) -> Vec<Self> {
        let mut all = Vec::new();
        for side in [0, 1] {
            all.extend(self.step(side));
            all.extend(self.give_up(side));
            all.extend(self.daemons(side));
            // The mover is killed, and forgets.
            let mut forgetful = self.clone();
            forgetful.copied[side] = None;
            all.push(forgetful);
            // Machines change while daemons act.
            if self.acts(side) {
                all.push(Self { current: with_false(self.current, 1 - side), ..self.clone() });
            }
        }
        all
    }
}

fn with_false(mut both: [bool; 2], at: usize) -> [bool; 2] {
    both[at] = false;
    both
}

/// Everything that can be reached.
fn reachable() -> HashSet<World> {
    let mut seen = HashSet::from([World::new()]);
    let mut queue = VecDeque::from([World::new()]);
    while let Some(world) = queue.pop_front() {
        for then in world.successors() {
            if seen.insert(then.clone()) {
                queue.push_back(then);
            }
        }
    }
    seen
}

#[test]
fn two_sides_never_act_at_once_and_who_acts_has_the_state_of_the_machines() {
    let all = reachable();
    assert!(all.len() > 100, "{} worlds", all.len());
    for world in &all {
        assert!(!(world.acts(0) && world.acts(1)), "both act: {world:?}");
        for side in [0, 1] {
            assert!(!world.acts(side) || world.current[side], "acts on what is old: {world:?}");
        }
        let owners = [0, 1].map(|side| world.journals[side].0 == State::Owner && !world.empty[side]);
        assert!(owners != [true, true], "both own: {world:?}");
    }
    assert!(all.iter().any(|world| world.acts(1)), "it comes to its end");
    assert!(
        all.iter().any(|world| world.moves == 2 && world.journals[1].0 == State::Moved && world.acts(0)),
        "and back"
    );
}

#[test]
fn from_wherever_a_move_was_broken_off_it_can_be_finished_and_until_the_target_owns_given_up() {
    for world in reachable().into_iter().filter(|world| world.moves > 0) {
        let from = match (world.journals[0].0, world.journals[1].0) {
            (State::Leaving | State::Drained, _) | (State::Owner, State::Receiving | State::Awaiting) => 0,
            (_, State::Leaving | State::Drained) | (State::Receiving | State::Awaiting, State::Owner) => 1,
            _ => continue,
        };
        let finish = |mut world: World, step: fn(&World, usize) -> Option<World>| {
            // As many steps as there are, with the daemons in between.
            for _ in 0..24 {
                let daemons = world.daemons(0).or_else(|| world.daemons(1));
                match daemons.or_else(|| step(&world, from)) {
                    Some(then) => world = then,
                    None => break,
                }
            }
            world
        };
        // Once the target has refrained, only giving up is left.
        if world.journals[1 - from].0 != State::Moved {
            let done = finish(world.clone(), World::step);
            let end = next(&done.journal(from), &done.journal(1 - from), World::ids(from), false);
            assert_eq!(end, Ok(Step::Done), "from {world:?} to {done:?}");
        }
        if world.journals[1 - from].0 != State::Owner {
            let done = finish(world.clone(), World::give_up);
            assert_eq!(done.journals[from].0, State::Owner, "from {world:?} to {done:?}");
            assert!(done.journals[1 - from].0 == State::Moved, "from {world:?} to {done:?}");
        }
    }
}

#[test]
fn what_cannot_be_moved_is_refused_with_the_reason() {
    let peer = |id: &str| Peer { id: id.to_owned(), url: format!("https://{id}") };
    let journal =
        |state, peer_id: &str| Journal { state, of: Some(Move { id: "1".to_owned(), peer: peer(peer_id) }) };
    let ids = Ids { source: "a", target: "b" };
    let fresh = Journal::default();
    assert_eq!(next(&fresh, &fresh, Ids { source: "a", target: "a" }, false), Err(Refused::Same));
    let cases = [
        (journal(State::Moved, "c"), fresh.clone(), "https://c"),
        (journal(State::Receiving, "c"), fresh.clone(), "https://c"),
        (journal(State::Leaving, "c"), fresh.clone(), "https://c"),
        (fresh.clone(), journal(State::Owner, "c"), "owns machines itself"),
        (fresh.clone(), journal(State::Receiving, "c"), "takes part in a move with https://c"),
        (fresh.clone(), journal(State::Moved, "c"), "takes part in a move with https://c"),
        (fresh.clone(), journal(State::Leaving, "a"), "takes part in a move"),
        (journal(State::Drained, "b"), journal(State::Moved, "a"), "--abort"),
    ];
    for (source, target, words) in cases {
        let refused = next(&source, &target, ids, false).unwrap_err().to_string();
        assert!(refused.contains(words), "{refused}");
    }
    assert_eq!(back(&fresh, &fresh, ids), Err(Refused::NothingToAbort("the source")));
    assert!(
        back(&journal(State::Moved, "b"), &journal(State::Awaiting, "a"), ids).is_err(),
        "nobody would own them"
    );
    let over = (journal(State::Moved, "b"), journal(State::Owner, "a"));
    assert_eq!(back(&over.0, &over.1, ids), Err(Refused::NothingToAbort("the target")));
}

#[test]
fn a_target_that_waits_for_a_source_which_went_elsewhere_is_set_free() {
    let journal = |state, peer: &str, id: &str| {
        let peer = Peer { id: peer.to_owned(), url: format!("https://{peer}") };
        Journal { state, of: Some(Move { id: id.to_owned(), peer }) }
    };
    let ids = Ids { source: "a", target: "b" };
    for state in [State::Leaving, State::Drained, State::Moved, State::Receiving, State::Awaiting] {
        let elsewhere = journal(state, "c", "2");
        assert_eq!(
            back(&elsewhere, &journal(State::Awaiting, "a", "1"), ids),
            Ok(Back::Refrain),
            "{state:?}"
        );
        assert_eq!(back(&elsewhere, &journal(State::Moved, "a", "1"), ids), Ok(Back::Done), "{state:?}");
    }
}
