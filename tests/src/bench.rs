// SPDX-License-Identifier: Apache-2.0
//! Benchmarks: each prints our figure beside that of the peer it names, measured in the same run on the same machine.
//!
//! Runs of both sides alternate, so that a slow spell of a shared machine hits both; the median is shown.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde::Serialize;

pub mod api;
pub mod boots;
pub mod cluster;
pub mod image;
pub mod tftp;

/// Runs per side.
pub const RUNS: usize = 3;

/// One figure.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Which benchmark, with its parameters.
    pub bench: String,
    /// Who was measured.
    pub subject: String,
    /// The figure.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
}

/// What a benchmark gives.
#[derive(Debug, Clone)]
pub struct Report {
    /// Its figures.
    pub rows: Vec<Row>,
    /// The same for people.
    pub text: String,
}

impl From<Vec<Row>> for Report {
    fn from(rows: Vec<Row>) -> Self {
        let text = table(&rows);
        Self { rows, text }
    }
}

/// The rows as a table.
fn table(rows: &[Row]) -> String {
    let width = |column: fn(&Row) -> &str| rows.iter().map(|row| column(row).len()).max().unwrap_or(0);
    let (bench, subject) = (width(|row| &row.bench), width(|row| &row.subject));
    let lines = rows.iter().map(|row| {
        format!("{:bench$}  {:subject$}  {:>10.1} {}\n", row.bench, row.subject, row.value, row.unit)
    });
    lines.collect()
}

/// Measures on a thread in a network namespace of its own, whose loopback interface is up.
fn in_namespace<T: Send + 'static>(measure: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
            .context("make a network namespace, as root")?;
        succeed(Command::new("ip").args(["link", "set", "lo", "up"]))?;
        measure()
    });
    thread.join().map_err(|_| anyhow!("the benchmark panicked"))?
}

/// Runs a program to its end; its output.
fn succeed(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("start {name}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{name}: {said}{}", String::from_utf8_lossy(&output.stderr));
    Ok(said)
}

/// The median of some measurements.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Megabytes (10^6 bytes) per second.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub fn megabytes_per_second(bytes: u64, took: Duration) -> f64 {
    bytes as f64 / 1e6 / took.as_secs_f64()
}
