// SPDX-License-Identifier: Apache-2.0
//! DHCPv6: who asks ([`client`]), what is answered ([`decide`], [`give`]), and the socket ([`listener`]).
//!
//! Only `listener` and `links` touch the system. Nothing is kept: an address is reserved, or follows from the MAC, so that a
//! restart forgets nothing. Routers, not this daemon, say what a link's prefix is and who gives addresses there.

pub(crate) mod client;
#[cfg(test)]
mod conformance;
pub(crate) mod decide;
mod give;
mod links;
pub(crate) mod listener;
