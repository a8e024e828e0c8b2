// SPDX-License-Identifier: Apache-2.0
//! DHCP: what is answered ([`decide`], [`bootfile`]), where the answer goes ([`address`]), and the socket ([`listener`]).
//!
//! Only the listener and `link` touch the system. The mode (reservation, later proxy) is a choice of decision, so that
//! the boot-file table and the sending stay the same for all of them.

pub(crate) mod address;
pub(crate) mod bootfile;
pub(crate) mod decide;
mod link;
pub(crate) mod listener;
