// SPDX-License-Identifier: Apache-2.0
//! The agent as a whole against servers of the contract that misbehave on purpose.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod download;
mod files;
mod servers;
mod tls;
mod workflow;
