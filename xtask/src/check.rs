// SPDX-License-Identifier: Apache-2.0
//! `./x check`: all local gates; every one runs, every failure is told.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::cargo::{cargo, root};
use crate::process::{capture, command, run};

const LICENCE_LINE: &str = "// SPDX-License-Identifier: Apache-2.0";

/// Runs all gates.
fn gates() -> Vec<(&'static str, Result<()>)> {
    vec![
        ("format", run(cargo().args(["fmt", "--all", "--check"]))),
        (
            "lints",
            run(cargo().args(["clippy", "-q", "--workspace", "--all-targets", "--", "-D", "warnings"])),
        ),
        (
            "docs",
            run(cargo().args(["doc", "-q", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings")),
        ),
        ("generated files", generated()),
        ("licence lines", licence_lines()),
    ]
}

/// Runs all gates and fails if one did.
pub fn check() -> Result<()> {
    let mut failed = Vec::new();
    for (name, result) in gates() {
        match result {
            Ok(()) => println!("check {name} ... ok"),
            Err(error) => {
                println!("check {name} ... FAILED: {error:#}");
                failed.push(name);
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
}

/// Writes the generated files.
pub fn generate() -> Result<()> {
    for (path, text) in generated_files()? {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, text)?;
        println!("{}", path.display());
    }
    Ok(())
}

fn generated_files() -> Result<Vec<(PathBuf, String)>> {
    let (crds, rbac) = (root().join("deploy/crds"), root().join("deploy/rbac"));
    let crds = api::crd_files()?.into_iter().map(|(name, text)| (crds.join(name), text));
    let rbac = api::access::rbac_files()?.into_iter().map(|(name, text)| (rbac.join(name), text));
    Ok(crds.chain(rbac).collect())
}

fn generated() -> Result<()> {
    let stale: Vec<String> = generated_files()?
        .into_iter()
        .filter(|(path, text)| fs::read_to_string(path).ok().as_ref() != Some(text))
        .map(|(path, _)| path.display().to_string())
        .collect();
    if stale.is_empty() { Ok(()) } else { bail!("stale, run ./x generate: {}", stale.join(", ")) }
}

fn licence_lines() -> Result<()> {
    let listing = capture(command("git").args(["ls-files", "*.rs"]).current_dir(root()))?;
    let missing: Vec<&str> = listing.lines().filter(|file| !has_licence_line(&root().join(file))).collect();
    if missing.is_empty() {
        Ok(())
    } else {
        bail!("first line is not `{LICENCE_LINE}`: {}", missing.join(", "))
    }
}

fn has_licence_line(file: &Path) -> bool {
    // A file that git lists and that is gone is about to be removed.
    fs::read_to_string(file).map_or(true, |text| text.starts_with(LICENCE_LINE))
}
