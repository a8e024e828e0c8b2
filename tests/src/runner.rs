// SPDX-License-Identifier: Apache-2.0
//! What stands in for the test harness where that will not do: where a test moves its whole process into a network
//! namespace, which must happen before the first thread, and where many tests share servers that take seconds to start.
//!
//! A test binary with `harness = false` calls [`main`], [`suite`], [`suite_at_once`], [`together`] or [`apart`]; it is understood by
//! whoever reads libtest's output.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::pin::Pin;
use std::process::{Child, Command, ExitCode, Output, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use anyhow::{Result, anyhow};
use futures::{FutureExt as _, StreamExt as _};
use lab::netns::Namespace;

/// What a scenario does.
pub type Run<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// One test of a suite.
pub struct Scenario<T> {
    /// Its name. One that starts with `full_` is a long row.
    pub name: String,
    /// What it does with what the suite shares; a panic fails it, too.
    pub run: Box<dyn for<'a> Fn(&'a T) -> Run<'a>>,
}

impl<T> Scenario<T> {
    /// A scenario from an async function: `Scenario::new("name", |shared| Box::pin(function(shared)))`.
    pub fn new(name: impl Into<String>, run: impl for<'a> Fn(&'a T) -> Run<'a> + 'static) -> Self {
        Self { name: name.into(), run: Box::new(run) }
    }
}

/// What libtest would make of the same arguments.
struct Arguments {
    list: bool,
    /// Tests that need more than cargo are wanted.
    included: bool,
    filters: Vec<String>,
    skips: Vec<String>,
}

impl Arguments {
    fn read() -> Self {
        let mut read = Self { list: false, included: false, filters: Vec::new(), skips: Vec::new() };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--list" => read.list = true,
                "--include-ignored" | "--ignored" => read.included = true,
                "--skip" => read.skips.extend(arguments.next()),
                // Flags that take a value in a word of its own.
                "--format" | "--test-threads" | "--color" | "--logfile" => drop(arguments.next()),
                flag if flag.starts_with('-') => {}
                filter => read.filters.push(filter.to_owned()),
            }
        }
        read
    }

    fn picks(&self, name: &str) -> bool {
        (self.filters.is_empty() || self.filters.iter().any(|filter| name.contains(filter)))
            && !self.skips.iter().any(|skip| name.contains(skip))
    }
}

/// libtest's closing line.
#[derive(Default)]
struct Outcome {
    passed: usize,
    failed: Vec<String>,
    ignored: usize,
    filtered: usize,
}

impl Outcome {
    fn note(&mut self, name: &str, result: Result<()>) {
        match result {
            Ok(()) => {
                println!("test {name} ... ok");
                self.passed += 1;
            }
            Err(error) => {
                println!("test {name} ... FAILED\n{error:?}");
                self.failed.push(name.to_owned());
            }
        }
    }

    fn close(&self, started: Instant) -> ExitCode {
        if !self.failed.is_empty() {
            println!("\nfailures:\n    {}\n", self.failed.join("\n    "));
        }
        let (word, code) = match self.failed.as_slice() {
            [] => ("ok", ExitCode::SUCCESS),
            _ => ("FAILED", ExitCode::FAILURE),
        };
        println!(
            "test result: {word}. {} passed; {} failed; {} ignored; 0 measured; {} filtered out; finished in {} s",
            self.passed,
            self.failed.len(),
            self.ignored,
            self.filtered,
            started.elapsed().as_secs()
        );
        code
    }
}

/// Runs one scenario as libtest would run an ignored test of that name.
pub fn main(name: &str, scenario: impl FnOnce() -> Result<()>) -> ExitCode {
    let arguments = Arguments::read();
    if arguments.list {
        println!("{name}: test");
        return ExitCode::SUCCESS;
    }
    let started = Instant::now();
    let mut outcome = Outcome::default();
    if !arguments.picks(name) {
        outcome.filtered = 1;
    } else if !arguments.included {
        outcome.ignored = 1;
    } else {
        outcome.note(name, scenario());
    }
    outcome.close(started)
}

/// Stands for one scenario that cannot run here, and says why; it counts as ignored.
pub fn skipped(name: &str, why: &anyhow::Error) -> ExitCode {
    let arguments = Arguments::read();
    if arguments.list {
        println!("{name}: test");
        return ExitCode::SUCCESS;
    }
    let mut outcome = Outcome::default();
    if arguments.picks(name) {
        println!("test {name} ... ignored, {why:#}");
        outcome.ignored = 1;
    } else {
        outcome.filtered = 1;
    }
    outcome.close(Instant::now())
}

/// Runs scenarios one after the other, as libtest would run ignored tests. `setup` makes what they share, once, on the
/// main thread, and only if one of them is to run; it is dropped after the last.
pub fn suite<T>(setup: impl AsyncFnOnce() -> Result<T>, scenarios: &[Scenario<T>]) -> ExitCode {
    suite_at_once(1, setup, scenarios)
}

/// The same with up to `at_once` scenarios at the same time, all on the main thread: for those that mostly wait, and leave
/// each other's things alone. What is told of them comes in the order in which they end.
pub fn suite_at_once<T>(
    at_once: usize,
    setup: impl AsyncFnOnce() -> Result<T>,
    scenarios: &[Scenario<T>],
) -> ExitCode {
    let arguments = Arguments::read();
    if arguments.list {
        scenarios.iter().for_each(|scenario| println!("{}: test", scenario.name));
        return ExitCode::SUCCESS;
    }
    let picked: Vec<_> = scenarios.iter().filter(|scenario| arguments.picks(&scenario.name)).collect();
    let started = Instant::now();
    let mut outcome = Outcome { filtered: scenarios.len() - picked.len(), ..Outcome::default() };
    if !arguments.included {
        outcome.ignored = picked.len();
    } else if !picked.is_empty() {
        let ran = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let ran = ran.map_err(anyhow::Error::from).and_then(|runtime| {
            let shared = runtime.block_on(setup())?;
            let running = picked.into_iter().map(|scenario| one(scenario, &shared));
            let ended = futures::stream::iter(running).buffer_unordered(at_once);
            runtime.block_on(ended.for_each(|(name, result)| {
                outcome.note(name, result);
                std::future::ready(())
            }));
            // Dropped where its tasks can still run.
            let _context = runtime.enter();
            drop(shared);
            Ok(())
        });
        if let Err(error) = ran {
            outcome.note("setup", Err(error));
        }
    }
    outcome.close(started)
}

/// A scenario that gets a process of its own, with its name.
pub type Apart = (&'static str, fn() -> Result<()>);

/// Names a scenario to the process that is to run it alone.
const SCENARIO: &str = "TESTS_RUNNER_SCENARIO";

/// Runs scenarios at the same time, each in a process of its own, since each moves its process into a namespace. What one
/// prints is shown when it is over.
pub fn together(scenarios: &[Apart]) -> ExitCode {
    apart(scenarios.len(), scenarios)
}

/// The same with up to `at_once` scenarios at the same time; the next one begins when one has ended.
pub fn apart(at_once: usize, scenarios: &[Apart]) -> ExitCode {
    if let Ok(wanted) = std::env::var(SCENARIO)
        && let Some((name, scenario)) = scenarios.iter().find(|(name, _)| *name == wanted)
    {
        return main(name, scenario);
    }
    let arguments = Arguments::read();
    if arguments.list {
        scenarios.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let (started, mut outcome) = (Instant::now(), Outcome::default());
    let picked: Vec<&str> =
        scenarios.iter().map(|(name, _)| *name).filter(|name| arguments.picks(name)).collect();
    outcome.filtered = scenarios.len() - picked.len();
    if !arguments.included {
        outcome.ignored = picked.len();
        return outcome.close(started);
    }
    let (mut waiting, mut running) = (picked.into_iter(), 0);
    let (tell, ended) = mpsc::channel();
    loop {
        while running < at_once
            && let Some(name) = waiting.next()
        {
            let (process, tell) = (alone(name), tell.clone());
            // Started here, since it ends with the thread that starts it; waited for elsewhere.
            std::thread::spawn(move || {
                let output = process.and_then(|process| Ok(process.wait_with_output()?));
                tell.send((name, output)).unwrap_or_default();
            });
            running += 1;
        }
        if running == 0 {
            return outcome.close(started);
        }
        let Ok((name, output)) = ended.recv() else { return outcome.close(started) };
        outcome.note(name, output.and_then(|output| told(&output)));
        running -= 1;
    }
}

/// This program once more, for one scenario; it ends with us.
fn alone(name: &str) -> Result<Child> {
    let process = Command::new("setpriv")
        .args(["--pdeathsig", "KILL"])
        .arg(std::env::current_exe()?)
        .args(["--include-ignored", name])
        .env(SCENARIO, name)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    Ok(process)
}

/// Shows what a scenario printed, but for what is told of it again: an error when it failed.
fn told(output: &Output) -> Result<()> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let steps = text.lines().take_while(|line| !line.starts_with("test "));
    steps.for_each(|line| println!("{line}"));
    if output.status.success() {
        return Ok(());
    }
    let rest: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("test ")).collect();
    Err(anyhow!("{}: {}", output.status, rest.join("\n").replace("test result:", "its result:")))
}

async fn one<'a, T>(scenario: &'a Scenario<T>, shared: &'a T) -> (&'a str, Result<()>) {
    // The call is inside, too: what makes the future may panic as well.
    let ran = AssertUnwindSafe(async { (scenario.run)(shared).await }).catch_unwind().await;
    let result = ran.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panicked");
        Err(anyhow!("{text}"))
    });
    (&scenario.name, result)
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
