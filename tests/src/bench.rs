// SPDX-License-Identifier: Apache-2.0
//! Benchmarks: each prints our figure beside that of the peer it names, measured in the same run on the same machine.
//!
//! Runs of both sides alternate, so that a slow spell of a shared machine hits both; the median is shown.

use std::time::Duration;

use serde::Serialize;

pub mod api;
pub mod boots;
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
