// SPDX-License-Identifier: Apache-2.0

//! The four kinds of `anywhere.eks.amazonaws.com/v1alpha1` that describe a bare-metal cluster.
//!
//! Field names are those of EKS Anywhere, so that its files are taken unchanged. What a file of that product cannot say
//! (an image's digest, a disk by its properties, an architecture) are optional fields besides, each marked "Ours". Fields
//! that this project does not act on are kept too, so that an object is never read with less than was written.

mod cluster;
mod datacenter;
mod machine_config;
mod network;
mod template_config;

pub use cluster::*;
pub use datacenter::*;
pub use machine_config::*;
pub use network::*;
pub use template_config::*;

/// API group of these kinds.
pub const GROUP: &str = "anywhere.eks.amazonaws.com";
/// `apiVersion` of these kinds.
pub const API_VERSION: &str = "anywhere.eks.amazonaws.com/v1alpha1";
/// The namespace that the objects of a cluster are in: these kinds, and the Hardware, Machines and Secrets of its servers.
pub const NAMESPACE: &str = "eksa-system";
