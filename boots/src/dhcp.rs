// SPDX-License-Identifier: Apache-2.0
//! DHCP: what is answered ([`engine`], [`decide`], [`proxy`], [`bootfile`], [`pool`]), where the answer goes ([`address`]), and the
//! sockets ([`listener`], [`sender`]).
//!
//! Only `listener`, `sender`, `link`, `leases`, `probe` and the table in `local` touch the system. The mode (reservation, proxy,
//! auto-proxy) is a choice of decision, so that the boot-file table and the sending are the same for all of them.

pub(crate) mod address;
pub(crate) mod bootfile;
#[cfg(test)]
mod conformance;
pub(crate) mod decide;
mod engine;
pub mod exchanges;
mod leases;
pub(crate) mod limit;
pub(crate) mod link;
pub(crate) mod listener;
pub(crate) mod local;
pub(crate) mod pool;
mod probe;
mod proxy;
mod sender;
