// SPDX-License-Identifier: Apache-2.0

//! What comes next in a move, from what both journals say. Pure.
//!
//! Nothing that an earlier run did is remembered anywhere else: so a run that was killed is gone on with by looking.

use api::ownership::{Journal, Move, State};
use serde::Serialize;
use thiserror::Error;

/// A step of a move. Each is done by one write to one journal, but for copying, which may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// The target is prepared and says that it receives.
    Receive,
    /// The target's daemons stop, which have nothing to act on yet, and it says so.
    Clear,
    /// The source says that the machines leave.
    Leave,
    /// The source's daemons stop, and it says so.
    Drain,
    /// Everything is copied and compared.
    Copy,
    /// The target says that it owns the machines.
    Own,
    /// The source says that they were moved.
    LetGo,
    /// Nothing is left to do.
    Done,
}

/// Why there is no next step. Not retried: a person has to decide.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refused {
    /// Both kubeconfigs lead to one server.
    #[error("both kubeconfigs lead to the same API server")]
    Same,
    /// The machines are not here.
    #[error("the machines were moved from here to {0} before: that is where they can be moved from")]
    Elsewhere(String),
    /// It was said that the move is given up, and that is not done yet.
    #[error("the move to {0} was being given up: finish that with --abort, and then move again")]
    GivenUp(String),
    /// The source takes part in another move.
    #[error("a move {0} is under way: finish it with the same command, or give it up there with --abort")]
    Other(String),
    /// The target owns machines.
    #[error(
        "the target owns machines itself, from a move with {0}: two inventories do not become one; move those away first"
    )]
    TargetOwns(String),
    /// The target takes part in another move, or gave its machines to somebody else.
    #[error(
        "the target takes part in a move with {0}: finish it or give it up there; one that gave its machines there takes no others than those, \
         from there"
    )]
    TargetBusy(String),
    /// A move that is over, or so far that only the end is left, is not given up.
    #[error("there is no move between these two that could be given up: the machines are owned by {0}")]
    NothingToAbort(&'static str),
}

/// The two servers of a move, as they call themselves.
#[derive(Clone, Copy, Debug)]
pub struct Ids<'a> {
    /// That of the source.
    pub source: &'a str,
    /// That of the target.
    pub target: &'a str,
}

fn url(journal: &Journal) -> String {
    journal.of.as_ref().map(|of| of.peer.url.clone()).unwrap_or_default()
}

/// The move that a journal tells of, when its other side has this id.
fn with<'a>(journal: &'a Journal, peer: &str) -> Option<&'a Move> {
    journal.of.as_ref().filter(|of| of.peer.id == peer)
}

/// Whether both sides write of one and the same move.
fn same(source: &Journal, target: &Journal, ids: Ids<'_>) -> bool {
    let (source, target) = (with(source, ids.target), with(target, ids.source));
    matches!((source, target), (Some(source), Some(target)) if source.id == target.id)
}

/// The step that comes next. `copied` says that this run has copied and compared everything since the source was drained.
///
/// # Errors
///
/// See [`Refused`].
pub fn next(source: &Journal, target: &Journal, ids: Ids<'_>, copied: bool) -> Result<Step, Refused> {
    if ids.source == ids.target {
        return Err(Refused::Same);
    }
    let same = same(source, target, ids);
    match (source.state, target.state) {
        (State::Moved, State::Owner) if same => Ok(Step::Done),
        (State::Moved, _) => Err(Refused::Elsewhere(url(source))),
        (State::Receiving | State::Awaiting, _) => Err(Refused::Other(format!("from {}", url(source)))),
        (State::Owner, State::Owner) if target.of.is_none() => Ok(Step::Receive),
        (State::Owner, State::Owner) => Err(Refused::TargetOwns(url(target))),
        (State::Owner, State::Moved) if with(target, ids.source).is_some() => Ok(Step::Receive),
        (State::Owner, State::Receiving) if with(target, ids.source).is_some() => Ok(Step::Clear),
        (State::Owner, State::Awaiting) if with(target, ids.source).is_some() => Ok(Step::Leave),
        (State::Owner, _) => Err(Refused::TargetBusy(url(target))),
        (State::Leaving | State::Drained, _) if with(source, ids.target).is_none() => {
            Err(Refused::Other(format!("to {}", url(source))))
        }
        (State::Leaving, State::Awaiting) if same => Ok(Step::Drain),
        (State::Drained, State::Awaiting) if same && copied => Ok(Step::Own),
        (State::Drained, State::Awaiting) if same => Ok(Step::Copy),
        (State::Drained, State::Owner) if same => Ok(Step::LetGo),
        (State::Leaving | State::Drained, State::Moved) if same => Err(Refused::GivenUp(url(source))),
        (State::Leaving | State::Drained, _) => Err(Refused::TargetBusy(url(target))),
    }
}

/// A step of giving a move up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Back {
    /// The target says that the machines are not its own.
    Refrain,
    /// The source says that it owns them, as before.
    Keep,
    /// Nothing is left to do.
    Done,
}

/// The step that comes next in giving a move up: the target first, so that what was copied to it is never acted on.
///
/// # Errors
///
/// When there is nothing to give up.
pub fn back(source: &Journal, target: &Journal, ids: Ids<'_>) -> Result<Back, Refused> {
    if ids.source == ids.target {
        return Err(Refused::Same);
    }
    let ours = with(target, ids.source).is_some();
    let same = same(source, target, ids);
    match (source.state, target.state) {
        // No move comes to that; whoever wrote it has to say who owns the machines.
        (State::Moved, State::Receiving | State::Awaiting | State::Moved) if same => {
            Err(Refused::Other(format!("with {}", url(source))))
        }
        // Also where the source went on to move elsewhere: a target that waits acts on nothing, and would wait for ever.
        (_, State::Receiving | State::Awaiting) if ours => Ok(Back::Refrain),
        (State::Leaving | State::Drained, State::Moved) if same => Ok(Back::Keep),
        (_, State::Moved) if ours => Ok(Back::Done),
        (_, State::Owner) if same => Err(Refused::NothingToAbort("the target")),
        (State::Owner, _) => Err(Refused::NothingToAbort("the source")),
        _ => Err(Refused::Other(format!("with {}", url(source)))),
    }
}

#[cfg(test)]
mod tests;
