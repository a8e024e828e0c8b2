// SPDX-License-Identifier: Apache-2.0
//! Builds HookOS, the in-memory operating system that a machine boots to be provisioned.
//!
//! Owns the layout of the initramfs and the choice of kernel modules. Called by `xtask` (`./x build`), which hands over
//! unpacked Debian packages and static binaries; it downloads nothing itself.
//!
//! # Layout
//!
//! The initramfs is two cpio archives in one file (the kernel unpacks them one after the other):
//!
//! 1. zstd-compressed, a few MB: busybox, [`hook-init`](../hook_init/index.html), the agent, and the handful of modules
//!    that must be there before anything else can be read (`loop`, `squashfs`);
//! 2. uncompressed: `modules.squashfs`, every NIC, storage, VLAN and bonding module with its signature, in zstd blocks.
//!
//! Only the modules that a machine's hardware asks for are ever decompressed, which is what keeps the time from kernel
//! start to the agent's first call short although every driver is on board.
//!
//! The same two files lie on an ISO image ([`iso`]) for machines that boot from virtual media.
//!
//! It must never strip or re-sign a module: under Secure Boot the kernel refuses a module without its signature.

pub mod build;
pub mod cpio;
pub mod iso;
pub mod log;
pub mod modules;
mod tool;

pub use build::{Inputs, Output, build};
