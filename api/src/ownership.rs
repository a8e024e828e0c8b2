// SPDX-License-Identifier: Apache-2.0

//! Which API server owns the machines: one ConfigMap on each, the journal of moves between them.
//!
//! Owns its form. `tink cluster move` writes it, with compare-and-swap; whoever acts on machines reads it first, and acts only where it says `owner`. A server
//! without it has never taken part in a move and owns what it has. What is written there but cannot be read allows nobody anything.
//!
//! ```text
//! source:  owner ──move begins──> leaving ──its daemons stopped──> drained ──the target owns──> moved
//! target:  (none), moved ──move begins──> receiving ──its daemons stopped──> awaiting ──everything is there and was compared──> owner
//! ```
//!
//! `awaiting` is written on the target before `leaving` on the source, so that nobody acts on what is half copied; `owner` on the target before `moved` on
//! the source, which has been without daemons since `drained`: at no time do two own, and the gap is as long as the copying.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::ObjectMeta;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::annotations::SYSTEM_NAMESPACE;

/// Name of the ConfigMap, in the namespace of the daemons.
pub const NAME: &str = "tinkerbell-owner";
/// The Lease of whoever moves, on the server that is moved from.
pub const LEASE: &str = "tinkerbell-move";

const STATE: &str = "state";
const MOVE: &str = "move";
const PEER: &str = "peer";
const PEER_URL: &str = "peer-url";

/// How a server stands to the machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its daemons act.
    #[default]
    Owner,
    /// They are to stop: the machines move away.
    Leaving,
    /// They have stopped, and nothing changes any more.
    Drained,
    /// The machines will come here; daemons that act on nothing so far are to stop.
    Receiving,
    /// They have stopped, and the machines may come.
    Awaiting,
    /// The machines are owned by the peer.
    Moved,
}

/// The other server of a move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Peer {
    /// The UID of its namespace `kube-system`, which tells servers apart whatever they are called.
    pub id: String,
    /// Its address, for people.
    pub url: String,
}

/// One server's side of the last move.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Journal {
    /// How it stands.
    pub state: State,
    /// Which move that was or is; none before the first.
    pub of: Option<Move>,
}

/// A move as both sides write it down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Move {
    /// Its own name, the same on both sides.
    pub id: String,
    /// The other side.
    pub peer: Peer,
}

/// A journal cannot be read. Not retried: somebody changed it by hand, or a newer version wrote it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "the ConfigMap {NAME} in {SYSTEM_NAMESPACE} says neither who owns the machines nor where they go: {problem}"
)]
pub struct JournalError {
    problem: String,
}

impl State {
    const ALL: [Self; 6] =
        [Self::Owner, Self::Leaving, Self::Drained, Self::Receiving, Self::Awaiting, Self::Moved];

    /// The word in the ConfigMap.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Leaving => "leaving",
            Self::Drained => "drained",
            Self::Receiving => "receiving",
            Self::Awaiting => "awaiting",
            Self::Moved => "moved",
        }
    }

    /// What follows when the daemons have stopped that were told to.
    #[must_use]
    pub const fn stopped(self) -> Option<Self> {
        match self {
            Self::Leaving => Some(Self::Drained),
            Self::Receiving => Some(Self::Awaiting),
            Self::Owner | Self::Drained | Self::Awaiting | Self::Moved => None,
        }
    }
}

impl Journal {
    /// Whether daemons of this side may act.
    #[must_use]
    pub fn acts(&self) -> bool {
        self.state == State::Owner
    }

    /// The same move in another state.
    #[must_use]
    pub fn in_state(&self, state: State) -> Self {
        Self { state, of: self.of.clone() }
    }

    /// From what a server has under [`NAME`].
    ///
    /// # Errors
    ///
    /// See [`JournalError`].
    pub fn read(found: Option<&ConfigMap>) -> Result<Self, JournalError> {
        let Some(found) = found else { return Ok(Self::default()) };
        let text = |key: &str| found.data.as_ref().and_then(|data| data.get(key)).map_or("", String::as_str);
        let problem = |problem: String| JournalError { problem };
        let state = State::ALL.into_iter().find(|state| state.word() == text(STATE));
        let state = state.ok_or_else(|| problem(format!("its state is {:?}", text(STATE))))?;
        let of = (!text(MOVE).is_empty()).then(|| Move {
            id: text(MOVE).to_owned(),
            peer: Peer { id: text(PEER).to_owned(), url: text(PEER_URL).to_owned() },
        });
        if of.as_ref().map_or(state != State::Owner, |of| of.peer.id.is_empty()) {
            return Err(problem(format!("its state is {:?}, without a peer", state.word())));
        }
        Ok(Self { state, of })
    }

    /// The ConfigMap, in place of the one that had this version.
    #[must_use]
    pub fn object(&self, version: Option<String>) -> ConfigMap {
        let mut data = BTreeMap::from([(STATE.to_owned(), self.state.word().to_owned())]);
        if let Some(of) = &self.of {
            data.insert(MOVE.to_owned(), of.id.clone());
            data.insert(PEER.to_owned(), of.peer.id.clone());
            data.insert(PEER_URL.to_owned(), of.peer.url.clone());
        }
        let metadata = ObjectMeta {
            name: Some(NAME.to_owned()),
            namespace: Some(SYSTEM_NAMESPACE.to_owned()),
            resource_version: version,
            ..ObjectMeta::default()
        };
        ConfigMap { metadata, data: Some(data), ..ConfigMap::default() }
    }
}

/// Whether daemons of a server may act that has this under [`NAME`]; with the reason where they may not.
///
/// # Errors
///
/// Why not, in words that follow "it may not act: ".
pub fn may_act(found: Option<&ConfigMap>) -> Result<(), String> {
    let journal = Journal::read(found).map_err(|error| error.to_string())?;
    let url = journal.of.as_ref().map_or("", |of| of.peer.url.as_str());
    match journal.state {
        State::Owner => Ok(()),
        State::Leaving | State::Drained => Err(format!("the machines move to {url}")),
        State::Receiving | State::Awaiting => {
            Err(format!("the machines come from {url} and are not all here"))
        }
        State::Moved => Err(format!("the machines were moved to {url}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(state: State) -> Journal {
        let peer = Peer { id: "uid".to_owned(), url: "https://there".to_owned() };
        Journal { state, of: Some(Move { id: "m".to_owned(), peer }) }
    }

    #[test]
    fn it_reads_back_as_written_and_only_an_owner_acts() {
        assert_eq!(Journal::read(None), Ok(Journal::default()));
        assert!(Journal::default().acts() && may_act(None).is_ok());
        for state in State::ALL {
            let journal = moved(state);
            let object = journal.object(Some("7".to_owned()));
            assert_eq!(Journal::read(Some(&object)), Ok(journal.clone()));
            assert_eq!(journal.acts(), state == State::Owner);
            assert_eq!(may_act(Some(&object)).is_ok(), journal.acts());
            assert_eq!(object.metadata.resource_version.as_deref(), Some("7"));
        }
        assert!(may_act(Some(&moved(State::Moved).object(None))).unwrap_err().contains("https://there"));
    }

    #[test]
    fn what_cannot_be_read_allows_nothing() {
        let mut object = moved(State::Owner).object(None);
        object.data.as_mut().unwrap().insert(STATE.to_owned(), "Owner".to_owned());
        assert!(Journal::read(Some(&object)).is_err() && may_act(Some(&object)).is_err());
        assert!(may_act(Some(&ConfigMap::default())).is_err());
        let mut object = moved(State::Moved).object(None);
        object.data.as_mut().unwrap().remove(PEER);
        assert!(Journal::read(Some(&object)).is_err());
    }
}
