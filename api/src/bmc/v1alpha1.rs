// SPDX-License-Identifier: Apache-2.0

//! The kinds of `bmc.tinkerbell.org/v1alpha1`.

mod action;
mod connection;
mod job;
mod machine;

pub use action::*;
pub use connection::*;
pub use job::*;
pub use machine::*;

/// `apiVersion` of these kinds.
pub const API_VERSION: &str = "bmc.tinkerbell.org/v1alpha1";
