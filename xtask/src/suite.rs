// SPDX-License-Identifier: Apache-2.0
//! The demo, the tests and the benchmarks: sees to what they need, then calls them.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::artefacts::{self, Artefacts};
use crate::cargo::{cargo, target_folder};
use crate::fuzz;
use crate::host::{self, Need, Snapshot};
use crate::process::{run, search_path};

/// `./x demo`
pub fn demo(arguments: &[String]) -> Result<()> {
    prepare()?;
    run(cargo().args(["build", "--release", "-p", "tink"]))?;
    run(with_places(&mut Command::new(target_folder().join("release/tink")))?.arg("demo").args(arguments))
}

/// `./x demo --cluster`
pub fn demo_cluster(arguments: &[String]) -> Result<()> {
    prepare()?;
    Artefacts::build_kubernetes()?;
    println!("building tink and the demo ...");
    run(cargo().args(["build", "--release", "--bins", "-p", "tests", "-p", "tink"]))?;
    let programs = target_folder().join("release");
    let mut demo = Command::new(programs.join("cluster-demo"));
    run(with_places(&mut demo)?.env("TINK_BIN_DIR", &programs).args(arguments))
}

/// `./x test`
pub fn test(full: bool, filter: Option<&str>) -> Result<()> {
    let before = Snapshot::take()?;
    let artefacts = prepare()?;
    Artefacts::build_peers()?;
    if filter.is_none_or(|filter| CLUSTER_TEST.contains(filter)) {
        Artefacts::build_node()?;
        fs::create_dir_all(target_folder().join(STACK))?;
        artefacts.stack_image(STACK, &stack_image())?;
    }
    // End-to-end tests start daemons as separate programs. Built together with the tests, they share the libraries that
    // are built for these: alone they would get others, with fewer features, at twice the time and space. In the environment
    // of the tests, since libraries that call a C compiler are built anew in another one.
    run(with_places(&mut cargo())?.args(["build", "--workspace", "--bins", "--tests"]))?;
    let mut command = cargo();
    with_places(&mut command)?.args(["test", "--workspace", "--no-fail-fast"]);
    command.env("TINK_BIN_DIR", target_folder().join("debug"));
    // Tests that need peers or artefacts are ignored under a bare `cargo test`; here everything is in place.
    command.args(filter).args(["--", "--include-ignored"]);
    if !full {
        command.args(["--skip", "full_"]);
    }
    let mut tally = run_counted(&mut command)?;
    let (ran, found) = fuzz::among_tests(filter, with_places)?;
    tally.passed += u64::try_from(ran - found.len())?;
    tally.failed += u64::try_from(found.len())?;
    let changes = before.changes_since()?;
    if changes.is_empty() {
        tally.passed += 1;
        println!("test host: units, /boot and /etc are as they were ... ok");
    } else {
        tally.failed += 1;
        println!("test host: units, /boot and /etc are as they were ... FAILED\n  {}", changes.join("\n  "));
    }
    for end in &tally.failures {
        println!("\nthe end of what a failed program printed:\n{end}");
    }
    println!("\n{} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.skipped);
    ensure!(found.is_empty(), "fuzz targets found something: {}", found.join("; "));
    ensure!(tally.succeeded && changes.is_empty(), "tests failed");
    Ok(())
}

/// `./x bench`
pub fn bench(name: Option<&str>, quick: bool, report: Option<&Path>) -> Result<()> {
    prepare()?;
    host::install(Need::Bench)?;
    Artefacts::build_peers()?;
    // Together, so that they share the libraries that are built for them.
    let parts = ["tests", "tink", "boots", "hegel", "rufio", "tink-server"];
    run(cargo().args(["build", "--release", "--bins"]).args(parts.iter().flat_map(|part| ["-p", part])))?;
    let programs = target_folder().join("release");
    let mut command = Command::new(programs.join("bench"));
    with_places(&mut command)?.env("TINK_BIN_DIR", &programs).args(name);
    if quick {
        command.arg("--quick");
    }
    if let Some(report) = report {
        command.arg("--report").arg(std::path::absolute(report)?);
    }
    run(&mut command)
}

/// Free space that a first build takes in cargo's target folder, and the artefacts with what tests write beside them in
/// the cache and the temporary folder, in GiB. Measured with `du` after a cold `./x test`, and rounded up.
const TARGET_SPACE: u64 = 10;
const CACHE_SPACE: u64 = 4;

/// The test that takes the image of Kubernetes nodes and the container image of the daemons, which nothing else does.
const CLUSTER_TEST: &str = "a_real_cluster_comes_to_own_its_provisioner_and_makes_a_node";
/// The profile that the container image is built with for it, and the folder that it is in.
const STACK: &str = "stack";

fn stack_image() -> PathBuf {
    target_folder().join(STACK).join("tink.tar")
}

fn prepare() -> Result<Artefacts> {
    if !target_folder().join("debug/tink").exists() {
        host::require_space(&target_folder(), TARGET_SPACE)?;
    }
    host::require_space(&artefacts::cache_folder()?, CACHE_SPACE)?;
    host::require_space(&std::env::temp_dir(), CACHE_SPACE)?;
    host::install(Need::Machines)?;
    Artefacts::build()
}

/// Tells programs where artefacts and peers are.
fn with_places(command: &mut Command) -> Result<&mut Command> {
    let current = artefacts::cache_folder()?.join("current");
    let peers = current.join("peers");
    Ok(command
        // Unpacked peers come first, so that a test finds the same program on every machine.
        .env("PATH", format!("{}:{}", peers.join("run").display(), search_path()))
        .env("TINK_ARTEFACTS", &current)
        .env("TEST_PEERS", peers.join("run"))
        .env("OPENIPMI_DIR", &peers)
        .env("SUSHY_VENV", current.join("sushy/venv"))
        .env("PYTHON_CLIENTS", current.join("python-clients/venv"))
        .env("KUBERNETES_BIN", current.join("kubernetes"))
        .env("STACK_IMAGE", stack_image()))
}

#[derive(Debug, Default)]
struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
    succeeded: bool,
    /// The last lines of each test program that failed: a log is long, and its reader looks at its end.
    failures: Vec<String>,
}

/// How much of a failed program's output is shown again.
const LAST_LINES: usize = 100;

/// Shows what the test runner prints and adds its closing lines up.
fn run_counted(command: &mut Command) -> Result<Tally> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("start cargo test")?;
    let output = child.stdout.take().context("cargo test's output")?;
    let mut tally = Tally::default();
    let mut last = VecDeque::new();
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("{line}");
        tally.add(&line, &mut last);
    }
    tally.succeeded = child.wait()?.success();
    if tally.passed == 0 && tally.failed == 0 {
        bail!("no test ran");
    }
    Ok(tally)
}

impl Tally {
    /// Takes a line in; `last` are the lines of the same test program before it.
    fn add(&mut self, line: &str, last: &mut VecDeque<String>) {
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(line.to_owned());
        let Some(counts) = line.strip_prefix("test result: ") else { return };
        self.passed += count(counts, " passed");
        self.skipped += count(counts, " ignored");
        let failed = count(counts, " failed");
        self.failed += failed;
        let lines: Vec<_> = last.drain(..).collect();
        if failed > 0 {
            self.failures.push(lines.join("\n"));
        }
    }
}

/// The number that stands before `label` in "ok. 5 passed; 0 failed; ...".
fn count(line: &str, label: &str) -> u64 {
    let before = line.split(';').find_map(|part| part.strip_suffix(label));
    before.and_then(|text| text.rsplit(' ').next()).and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_counted() {
        let line = "FAILED. 12 passed; 3 failed; 4 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!((count(line, " passed"), count(line, " failed"), count(line, " ignored")), (12, 3, 4));
    }

    #[test]
    fn the_last_lines_of_a_failed_program_are_kept() {
        let (mut tally, mut last) = (Tally::default(), VecDeque::new());
        let mut lines =
            vec!["of a good program".to_owned(), "test result: ok. 1 passed; 0 failed".to_owned()];
        lines.extend((0..200).map(|number| format!("line {number}")));
        lines.push("test result: FAILED. 2 passed; 1 failed".to_owned());
        for line in &lines {
            tally.add(line, &mut last);
        }
        assert_eq!(tally.failures.len(), 1);
        let end = tally.failures.concat();
        assert!(end.starts_with("line 101\n") && end.ends_with(" 1 failed"), "{end}");
        assert_eq!((tally.passed, tally.failed), (3, 1));
    }
}
