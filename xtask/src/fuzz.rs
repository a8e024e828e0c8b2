// SPDX-License-Identifier: Apache-2.0
//! Coverage-guided fuzzing with the stable toolchain: builds the targets of `fuzz/` and runs them.
//!
//! For hours ([`fuzz`]) everything is built anew, optimised, and every library counts its edges. Among the tests ([`among_tests`])
//! a cold build of that would take longer than all the runs: there only our own libraries are built anew, as slow as the tests
//! have them, and the others are shared with these.

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
                     -Cllvm-args=-sanitizer-coverage-trace-compares";

/// How each target runs among the tests: what fails there is of the change that is tested, not of the dice.
const AMONG_TESTS: Runs = Runs { seconds: 20, seed: 1 };
/// How targets run.
#[derive(Debug, Clone, Copy)]
struct Runs {
    seconds: u32,
    /// Of the mutations; 0 is another one each time.
    seed: u32,
}

/// Longest time for one input, in seconds, on a machine that others use too.
const INPUT_SECONDS: u32 = 20;
/// Most memory that a target may take, in MiB.
const MEMORY: u32 = 1024;

/// `./x fuzz`
pub fn fuzz(target: Option<&str>, seconds: u32) -> Result<()> {
    let known = targets()?;
    let wanted: Vec<String> =
        known.iter().filter(|name| target.is_none_or(|target| target == *name)).cloned().collect();
    ensure!(!wanted.is_empty(), "there is no such target; there are {}", known.join(", "));
    host::install(Need::Fuzz)?;
    let mut build = cargo();
    build.args(["build", "--profile", "fuzz", "--target", TARGET, "--target-dir"]).arg(learnt());
    run(build.args(["-p", "fuzz", "--bins"]).args(FEATURE).env("RUSTFLAGS", FLAGS))?;
    let found = run_all(&learnt().join(TARGET).join("fuzz"), &wanted, Runs { seconds, seed: 0 })?;
    ensure!(found.is_empty(), "findings: {}", found.join("; "));
    Ok(())
}

/// Runs each target whose name, with `fuzz::` before it, contains the filter: how many did, and a line for each that found
/// something. `share` sets the variables that the tests were built with.
pub fn among_tests(
    filter: Option<&str>,
    share: impl FnOnce(&mut Command) -> Result<&mut Command>,
) -> Result<(usize, Vec<String>)> {
    let mut wanted = targets()?;
    wanted.retain(|name| filter.is_none_or(|filter| format!("fuzz::{name}").contains(filter)));
    if wanted.is_empty() {
        return Ok((0, Vec::new()));
    }
    host::install(Need::Fuzz)?;
    let mut build = cargo();
    // Of the whole workspace, so that libraries have the features that they have in the tests.
    build.args(["build", "--workspace"]).args(FEATURE).args(wanted.iter().flat_map(|name| ["--bin", name]));
    build.env("RUSTC_WORKSPACE_WRAPPER", root().join("fuzz/rustc")).env("FUZZ_FLAGS", FLAGS);
    run(share(&mut build)?)?;
    Ok((wanted.len(), run_all(&target_folder().join("debug"), &wanted, AMONG_TESTS)?))
}

/// Without it targets are not built.
const FEATURE: [&str; 2] = ["--features", "fuzz/libfuzzer"];

/// What fuzzing leaves: inputs that reached something new, findings, logs.
fn learnt() -> PathBuf {
    target_folder().join("fuzz")
}

/// Runs these targets, one for each processor at a time; a line for each that found something.
fn run_all(programs: &Path, wanted: &[String], runs: Runs) -> Result<Vec<String>> {
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    let mut found = Vec::new();
    for group in wanted.chunks(at_once) {
        let ends: Vec<Result<Option<String>>> = std::thread::scope(|scope| {
            let started: Vec<_> =
                group.iter().map(|name| scope.spawn(|| run_one(programs, name, runs))).collect();
            started
                .into_iter()
                .map(|run| run.join().unwrap_or_else(|_| bail!("its thread panicked")))
                .collect()
        });
        for end in ends {
            found.extend(end?);
        }
    }
    Ok(found)
}

/// Runs one target and tells how far it came; what it found, if it did.
fn run_one(programs: &Path, name: &str, runs: Runs) -> Result<Option<String>> {
    let corpus = made(learnt().join("corpus").join(name))?;
    let findings = made(learnt().join("findings").join(name))?;
    let log = learnt().join(format!("{name}.log"));
    let status = Command::new(programs.join(name))
        .args([&corpus, &root().join("fuzz/corpus").join(name)])
        .arg(format!("-artifact_prefix={}/", findings.display()))
        .arg(format!("-max_total_time={}", runs.seconds))
        .arg(format!("-seed={}", runs.seed))
        .arg(format!("-timeout={INPUT_SECONDS}"))
        .arg(format!("-rss_limit_mb={MEMORY}"))
        .stderr(fs::File::create(&log)?)
        .status()
        .with_context(|| format!("start target {name}"))?;
    let said = fs::read_to_string(&log)?;
    let end = if status.success() { "ok" } else { "FAILED" };
    println!(
        "test fuzz::{name}, {} s: {} ... {end}",
        runs.seconds,
        summary(&said).unwrap_or("nothing was run")
    );
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
