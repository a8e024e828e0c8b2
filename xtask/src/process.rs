// SPDX-License-Identifier: Apache-2.0
//! Starting other programs: one way to run, one way to capture, errors that name the command.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Our `PATH` with `/usr/sbin` and `/sbin`: Debian leaves them out for users, and partition tools live there.
pub fn search_path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

/// A command that finds system tools.
pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", search_path());
    command
}

/// Runs with our output.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("start {}", describe(command)))?;
    ensure!(status.success(), "{} ended with {status}", describe(command));
    Ok(())
}

/// Runs and gives what was printed; its errors become ours.
pub fn capture(command: &mut Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("start {}", describe(command)))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} ended with {}: {}", describe(command), output.status, errors.trim());
    Ok(String::from_utf8(output.stdout)?)
}

/// Makes a Python virtual environment with these packages from PyPI. It knows its own path, so it is made where it stays.
pub fn virtual_environment(home: &Path, packages: &[&str]) -> Result<()> {
    run(command("python3").args(["-m", "venv", "--clear"]).arg(home))?;
    run(command(&home.join("bin/pip").display().to_string())
        .args(["-q", "install", "--disable-pip-version-check"])
        .args(packages))
}

fn describe(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}
