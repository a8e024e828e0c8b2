// SPDX-License-Identifier: Apache-2.0

//! The kinds of `tinkerbell.org/v1alpha1`.

mod hardware;
mod inventory;
mod metadata;
mod rule_set;
mod template;
mod workflow;

pub use hardware::*;
pub use inventory::*;
pub use metadata::*;
pub use rule_set::*;
pub use template::*;
pub use workflow::*;

/// `apiVersion` of these kinds.
pub const API_VERSION: &str = "tinkerbell.org/v1alpha1";
