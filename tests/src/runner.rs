// SPDX-License-Identifier: Apache-2.0
//! What stands in for the test harness where a test moves its whole process into a network namespace, which must happen
//! before the first thread.
//!
//! A test binary with `harness = false` calls [`main`]; it is understood by whoever reads libtest's output.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use lab::netns::Namespace;

/// Runs one scenario as libtest would run an ignored test of that name.
pub fn main(name: &str, scenario: impl FnOnce() -> Result<()>) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        println!("{name}: test");
        return ExitCode::SUCCESS;
    }
    // What libtest would make of the same arguments: a filter, and tests that need more than cargo.
    let is_filter = |argument: &&String| !argument.starts_with('-') && *argument != "full_";
    let filtered = arguments.iter().filter(is_filter).any(|filter| !name.contains(filter.as_str()));
    let included =
        arguments.iter().any(|argument| argument == "--include-ignored" || argument == "--ignored");
    if filtered || !included {
        let (ignored, out) = if filtered { (0, 1) } else { (1, 0) };
        println!("test result: ok. 0 passed; 0 failed; {ignored} ignored; 0 measured; {out} filtered out");
        return ExitCode::SUCCESS;
    }
    let started = Instant::now();
    let outcome = scenario();
    let took = started.elapsed().as_secs();
    if let Err(error) = outcome {
        println!("test {name} ... FAILED\n{error:?}");
        println!(
            "test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in {took} s"
        );
        return ExitCode::FAILURE;
    }
    println!("test {name} ... ok");
    println!(
        "test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in {took} s"
    );
    ExitCode::SUCCESS
}

/// Moves the process into a network namespace of its own, where `run` gets a directory that stays only when it fails.
///
/// # Errors
/// When there is no namespace, and what `run` says.
pub fn in_namespace(prefix: &str, run: impl AsyncFnOnce(&Namespace, &Path) -> Result<()>) -> Result<()> {
    let namespace = lab::netns::enter_or_reexec()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let dir = tempfile::Builder::new().prefix(prefix).tempdir()?;
    let result = runtime.block_on(run(&namespace, dir.path()));
    if result.is_err() {
        println!("logs and disks are in {}", dir.keep().display());
    }
    result
}
