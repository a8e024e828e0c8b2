// SPDX-License-Identifier: Apache-2.0

//! An async Redfish client for what provisioning needs: power, the boot override and virtual media.
//!
//! Owns the protocol only: session handling, links, ETags, tasks and the quirks of known peers. It decides nothing
//! about machines; `rufio` does, and the lab uses it to check its own BMCs. It follows links from the service root
//! (DSP0266 section 6, "service root request") and builds no path of its own, because vendors name resources as they like.
//!
//! It must never print a password or a session token, and never follow a link or a redirect to another host.
//!
//! ```text
//! Client::connect ── root ── session (or Basic) ── pick system ──► operations ──► Client::close (session deleted)
//! ```

mod auth;
mod boot;
mod client;
mod endpoint;
mod error;
mod json;
mod media;
mod power;
mod quirks;
mod session;
mod task;
mod tls;
mod transport;

pub use boot::{BootEnabled, BootMode, BootOverride, BootTarget};
pub use client::{Client, Credentials, Options, SystemInfo};
pub use endpoint::{Endpoint, InvalidEndpoint};
pub use error::Error;
pub use media::{MediaKind, MediaSlot};
pub use power::{PowerState, ResetType};
pub use quirks::{Quirk, QuirkRow};
pub use tls::Trust;
