// SPDX-License-Identifier: Apache-2.0

//! The command line that a person uses: apply manifests, look at machines, ask why one is stuck, run the whole stack.
//!
//! Owns how things look on a terminal. It talks to the API server like any other client, keeps no state of its own, and
//! decides nothing about machines: what [`why`] says is read from what the daemons wrote.

pub mod apply;
pub mod backup;
pub mod cli;
pub mod connect;
pub mod demo;
pub mod describe;
pub mod get;
pub mod handover;
pub mod image;
pub mod kinds;
pub mod logs;
pub mod pcap;
pub mod pods;
pub mod restore;
pub mod setup;
pub mod traces;
pub mod up;
pub mod why;

mod cluster;
mod hardware;
mod output;
mod rpc;
mod table;

use std::path::PathBuf;

/// A path in an environment variable that is set and not empty.
fn path_variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Where `./x build` leaves what it made last: `current` in the user's cache.
fn built_artefacts() -> Option<PathBuf> {
    let cache = path_variable("TINK_CACHE_DIR")
        .or_else(|| path_variable("XDG_CACHE_HOME").map(|base| base.join("tink")))
        .or_else(|| path_variable("HOME").map(|home| home.join(".cache/tink")))?;
    Some(cache.join("current"))
}
