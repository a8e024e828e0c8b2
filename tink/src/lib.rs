// SPDX-License-Identifier: Apache-2.0

//! The command line that a person uses: apply manifests, look at machines, ask why one is stuck, run the whole stack.
//!
//! Owns how things look on a terminal. It talks to the API server like any other client, keeps no state of its own, and
//! decides nothing about machines: what [`why`] says is read from what the daemons wrote.

pub mod apply;
pub mod cli;
pub mod connect;
pub mod demo;
pub mod describe;
pub mod get;
pub mod kinds;
pub mod manifest;
pub mod up;
pub mod why;

mod near;
mod output;
mod table;
