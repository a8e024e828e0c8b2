// SPDX-License-Identifier: Apache-2.0

//! The kinds of `tinkerbell.org/v1alpha1`.
//!
//! A missing `metadata` or `spec` reads as an empty one: the published schema allows it, and one such object must not make
//! a list unreadable. The derive takes `serde(default)` for the whole object only in the shape of a `cfg_attr`.

mod hardware;
mod inventory;
mod metadata;
mod rule_set;
mod template;
mod turn;
mod workflow;

pub use hardware::*;
pub use inventory::*;
pub use metadata::*;
pub use rule_set::*;
pub use template::*;
pub use turn::Turn;
pub use workflow::*;

/// `apiVersion` of these kinds.
pub const API_VERSION: &str = "tinkerbell.org/v1alpha1";
