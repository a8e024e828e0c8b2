// SPDX-License-Identifier: Apache-2.0
//! Coverage-guided fuzzing with the stable toolchain: builds the targets of the `fuzz` workspace and runs them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::cargo::{TARGET, cargo, root, target_folder};
use crate::host::{self, Need};
use crate::process::run;

/// What makes the compiler count edges and comparisons for libFuzzer.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
                     -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";

/// Longest time for one input, in seconds, on a machine that others use too.
const INPUT_SECONDS: u32 = 20;
/// Most memory that a target may take, in MiB.
const MEMORY: u32 = 1024;

/// `./x fuzz`
pub fn fuzz(target: Option<&str>, seconds: u32) -> Result<()> {
    let known = targets()?;
    let wanted: Vec<&String> =
        known.iter().filter(|name| target.is_none_or(|target| target == *name)).collect();
    ensure!(!wanted.is_empty(), "there is no such target; there are {}", known.join(", "));
    let found = run_all(&wanted, seconds)?;
    ensure!(found.is_empty(), "findings: {}", found.join("; "));
    Ok(())
}

/// Builds all targets and runs these, one for each processor at a time; a line for each that found something.
fn run_all(wanted: &[&String], seconds: u32) -> Result<Vec<String>> {
    host::install(Need::Fuzz)?;
    let folder = target_folder().join("fuzz");
    let manifest = ["--manifest-path", "fuzz/Cargo.toml", "--target", TARGET, "--target-dir"];
    run(cargo().args(["build", "--release"]).args(manifest).arg(&folder).env("RUSTFLAGS", FLAGS))?;
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    let mut found = Vec::new();
    for group in wanted.chunks(at_once) {
        let ends: Vec<Result<Option<String>>> = std::thread::scope(|scope| {
            let runs: Vec<_> =
                group.iter().map(|name| scope.spawn(|| run_one(&folder, name, seconds))).collect();
            runs.into_iter().map(|run| run.join().unwrap_or_else(|_| bail!("its thread panicked"))).collect()
        });
        for end in ends {
            found.extend(end?);
        }
    }
    Ok(found)
}

/// Runs one target and tells how far it came; what it found, if it did.
fn run_one(folder: &Path, name: &str, seconds: u32) -> Result<Option<String>> {
    let learnt = made(folder.join("corpus").join(name))?;
    let findings = made(folder.join("findings").join(name))?;
    let log = folder.join(format!("{name}.log"));
    let status = Command::new(folder.join(TARGET).join("release").join(name))
        .args([&learnt, &root().join("fuzz/corpus").join(name)])
        .arg(format!("-artifact_prefix={}/", findings.display()))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={INPUT_SECONDS}"))
        .arg(format!("-rss_limit_mb={MEMORY}"))
        .stderr(fs::File::create(&log)?)
        .status()
        .with_context(|| format!("start target {name}"))?;
    let said = fs::read_to_string(&log)?;
    println!("fuzz {name}, {seconds} s: {}", summary(&said).unwrap_or("nothing was run"));
    if status.success() {
        return Ok(None);
    }
    println!("{}", tail(&said));
    Ok(Some(format!("{name} (log {}, input in {})", log.display(), findings.display())))
}

/// Every target has its seeds in a folder of its name.
fn targets() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root().join("fuzz/corpus"))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn made(folder: PathBuf) -> Result<PathBuf> {
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// libFuzzer's last line with the coverage: runs, covered edges, size of the corpus.
fn summary(log: &str) -> Option<&str> {
    log.lines().rev().find(|line| line.contains(" cov: "))
}

/// What a target printed last.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines.get(lines.len().saturating_sub(30)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_coverage_is_told() {
        let log = "#2\tINITED cov: 3 ft: 4 corp: 1/1b\n#9\tDONE   cov: 20 ft: 30 corp: 2/2b\nDone 9 runs in 1 second(s)\n";
        assert_eq!(summary(log), Some("#9\tDONE   cov: 20 ft: 30 corp: 2/2b"));
        assert_eq!(summary("nothing"), None);
    }

    #[test]
    fn targets_are_those_with_seeds() -> Result<()> {
        let manifest = fs::read_to_string(root().join("fuzz/Cargo.toml"))?;
        for name in targets()? {
            assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        }
        Ok(())
    }
}
