// SPDX-License-Identifier: Apache-2.0
//! Calls cargo, with static linking for what runs in HookOS and for the container image of the daemons.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::process::{command, run};

/// The target is named so that the flags reach neither build scripts nor procedural macros.
pub const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The workspace's folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// cargo, in the workspace.
pub fn cargo() -> Command {
    let mut cargo = command(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    cargo.current_dir(root());
    cargo
}

/// Builds static binaries with a profile and gives the folder they are in.
pub fn static_binaries(profile: &str, packages: &[&str]) -> Result<PathBuf> {
    let mut build = cargo();
    build.args(["build", "--profile", profile, "--target", TARGET, "--bins"]);
    for package in packages {
        build.args(["-p", package]);
    }
    // getrandom's default on static glibc looks for a symbol, does not find it and falls back to a device file.
    build.env("RUSTFLAGS", "-C target-feature=+crt-static --cfg getrandom_backend=\"linux_getrandom\"");
    run(&mut build)?;
    Ok(target_folder().join(TARGET).join(profile))
}

/// Where cargo puts what it builds.
pub fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}
