// SPDX-License-Identifier: Apache-2.0
//! The `kubectl` programs that there are.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// The release that our server follows, and the newest `kubectl`.
const CURRENT: u32 = 34;

/// A `kubectl`.
#[derive(Debug, Clone)]
pub struct Kubectl {
    pub program: PathBuf,
    /// For names of scenarios and namespaces.
    pub label: &'static str,
    /// Minor number of its release.
    pub minor: u32,
}

impl Kubectl {
    /// The one that is built from the modules of the real Kubernetes.
    pub fn current(program: PathBuf) -> Self {
        Self { program, label: "current", minor: CURRENT }
    }

    /// Of the release that our server follows.
    pub fn is_current(&self) -> bool {
        self.minor == CURRENT
    }

    /// The oldest on the search path, or beside what the search path has: distributions and cloud SDKs keep one of each
    /// release under names like `kubectl.1.30`.
    pub fn older() -> Option<Self> {
        let path = std::env::var_os("PATH")?;
        let found = std::env::split_paths(&path).map(|folder| folder.join("kubectl"));
        let homes = found.filter_map(|program| program.canonicalize().ok());
        let programs = homes.flat_map(|program| {
            let mut all = siblings(&program);
            all.push(program);
            all
        });
        let versions = programs.filter_map(|program| Some((minor(&program)?, program)));
        let (minor, program) = versions.filter(|(minor, _)| *minor < CURRENT).min()?;
        Some(Self { program, label: "older", minor })
    }
}

fn siblings(program: &Path) -> Vec<PathBuf> {
    let entries = program.parent().and_then(|folder| std::fs::read_dir(folder).ok());
    let paths = entries.into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let is_one = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("kubectl.1."))
    };
    paths.filter(is_one).collect()
}

/// What it says of itself; `None` when it is no `kubectl` that runs here.
fn minor(program: &Path) -> Option<u32> {
    let mut command = Command::new(program);
    command.args(["version", "--client", "--output=json"]).stdin(Stdio::null()).stderr(Stdio::null());
    let said: Value = serde_json::from_slice(&command.output().ok()?.stdout).ok()?;
    said.pointer("/clientVersion/minor")?.as_str()?.trim_end_matches('+').parse().ok()
}
