// SPDX-License-Identifier: Apache-2.0

//! Clusters out of machines: what the files of a cluster say, whether it can be so, and which machine becomes what.
//!
//! | module | what |
//! |---|---|
//! | [`finding`] | what is wrong, where, and what would put it right |
//! | [`inventory`] | `hardware.csv`, and the objects that its rows become |
//! | [`cluster`] | the cluster file with the place of every field, and the one to begin with |
//! | [`check`] | everything that the files alone tell |
//! | [`plan`] | which machine becomes what |
//! | [`probe`] | what only a look at BMCs, servers and the network tells |
//! | [`provider`] | where machines come from |
//! | [`pki`], [`token`] | certificates and keys of a cluster, and what lets a machine join |
//! | [`node`] | what a machine is told so that it becomes a node |
//! | [`lifecycle`] | making a cluster and taking it apart, step by step |
//! | [`keeper`], [`program`] | the daemon that does so for every Cluster of an API |
//! | [`templates`] | what an installation consists of |
//! | [`syntax`] | forms of names, addresses, URLs, keys |
//!
//! `tink` calls it, reads the files and prints. Everything is pure but [`probe`], which asks and changes nothing,
//! [`inventory::apply()`], which sends the objects of an inventory, the providers' drivers, the rim of [`lifecycle`], and [`keeper`].

pub mod check;
pub mod cluster;
pub mod finding;
pub mod inventory;
pub mod keeper;
pub mod lifecycle;
pub mod node;
mod object;
pub mod pki;
pub mod plan;
pub mod probe;
pub mod program;
pub mod provider;
pub mod syntax;
pub mod templates;
pub mod token;
