// SPDX-License-Identifier: Apache-2.0

//! The resource types of the API, and the few words that all daemons must spell alike.
//!
//! Owns the wire form of `tinkerbell.org`, `bmc.tinkerbell.org` and the cluster kinds of `anywhere.eks.amazonaws.com`, one module
//! per group and version, exactly as existing manifests, clients and controllers have it. Every daemon and the CLI read objects through these types. No daemon's
//! decisions live here, no sockets and no clock.
//!
//! A type holds the fields of its version only. Whoever changes an object that others may have written with more fields
//! sends a patch, not the whole object, so that nothing it does not know is lost.

pub mod access;
pub mod annotations;
pub mod anywhere;
pub mod bmc;
pub mod events;
pub mod ownership;
pub mod schema;
pub mod token;
pub mod v1alpha1;

mod agent_id;
mod crds;
mod mac;

pub use agent_id::{AgentId, MAX_AGENT_ID, ParseAgentIdError};
pub use crds::{crd_files, crds, crds_digest};
pub use mac::{Mac, ParseMacError};
