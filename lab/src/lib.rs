// SPDX-License-Identifier: Apache-2.0
//! A simulated rack: QEMU machines behind virtual BMCs on a user-space switch, inside a network namespace of its own.
//!
//! Demo, tests and `tink lab` call it. It knows nothing of provisioning: to the daemons its machines are servers on a wire, its
//! BMCs are BMCs. It must never touch the host's own network, and leaves no process, namespace or interface behind.

pub mod bmc;
pub mod chassis;
mod disc;
pub mod machine;
pub mod neighbour;
pub mod netns;
mod process;
mod qmp;
pub mod rack;
pub mod router;
pub mod switch;
mod tap;

pub use rack::{Rack, RackError, RackSpec};
