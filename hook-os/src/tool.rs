// SPDX-License-Identifier: Apache-2.0
//! Programs of unpacked Debian packages.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// A program of the unpacked packages in `tree` (or of this machine), with the libraries that came with it.
pub(crate) fn command(tree: &Path, name: &str) -> Command {
    let found = ["usr/bin", "usr/sbin", "bin", "sbin"]
        .iter()
        .map(|folder| tree.join(folder).join(name))
        .find(|path| path.exists());
    let mut command = Command::new(found.unwrap_or_else(|| PathBuf::from(name)));
    let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"]
        .map(|folder| tree.join(folder).display().to_string());
    command.env("LD_LIBRARY_PATH", libraries.join(":"));
    command
}

/// Runs a program to its end.
///
/// # Errors
/// When it fails; with what it said.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let output =
        command.output().with_context(|| format!("start {}", command.get_program().to_string_lossy()))?;
    ensure!(
        output.status.success(),
        "{} failed ({}): {}",
        command.get_program().to_string_lossy(),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
