// SPDX-License-Identifier: Apache-2.0
//! Random requests to our API server and to a real Kubernetes, which must answer alike: see [`tests::differential`].
//!
//! `DIFFERENTIAL_SEED=7` repeats the sequence of one seed, and shows for each kind of difference the steps that it needs.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use tests::differential::difference::Report;
use tests::differential::driver::Pair;
use tests::differential::generator::sequence;
use tests::differential::shrink::shrink;
use tests::runner::{Scenario, suite};

/// Steps of one sequence; what it leaves is removed before the next.
const LENGTH: usize = 250;
/// Sequences of the short row and of the long one.
const FIXED: u64 = 13;
const RANDOM: usize = 90;
/// Repeats one sequence.
const SEED: &str = "DIFFERENTIAL_SEED";

fn main() -> ExitCode {
    let scenarios = [
        Scenario::new("fixed_sequences_are_answered_alike", |pair: &Pair| Box::pin(fixed(pair))),
        Scenario::new("full_random_sequences_are_answered_alike", |pair: &Pair| Box::pin(random(pair))),
    ];
    suite(Pair::start, &scenarios)
}

async fn fixed(pair: &Pair) -> Result<()> {
    match std::env::var(SEED) {
        Ok(seed) => run(pair, &[seed.parse().with_context(|| format!("{SEED}={seed}"))?], Shows::Steps).await,
        Err(_) => run(pair, &(1..=FIXED).collect::<Vec<_>>(), Shows::First).await,
    }
}

async fn random(pair: &Pair) -> Result<()> {
    let seeds: Vec<u64> = (0..RANDOM).map(|_| u64::from(rand::random::<u32>())).collect();
    run(pair, &seeds, Shows::First).await
}

/// What a run shows of the differences that it finds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shows {
    /// The first of each kind.
    First,
    /// And the steps that it needs.
    Steps,
}

async fn run(pair: &Pair, seeds: &[u64], shows: Shows) -> Result<()> {
    let (mut report, mut asked, mut skipped) = (Report::default(), 0, 0);
    for seed in seeds {
        let outcome = pair.run(&sequence(*seed, LENGTH)).await.with_context(|| format!("seed {seed}"))?;
        asked += outcome.asked;
        skipped += outcome.skipped;
        println!("seed {seed}: {} requests, {} differences", outcome.asked, outcome.differences.len());
        // At once: a long run is not waited for to see what it found.
        for new in report.add(*seed, outcome.differences) {
            println!("new: {}\n{new}", new.group());
        }
    }
    println!("{asked} requests in {} sequences; {skipped} more could not be made", seeds.len());
    if shows == Shows::Steps {
        for (_, group) in report.groups_mut() {
            group.steps = shrink(pair, &sequence(group.seed, LENGTH), &group.first).await?;
        }
    }
    ensure!(report.count() == 0, "{report}\nrepeat one with {SEED}=<its seed>");
    ensure!(asked > skipped * 4, "most steps of the sequences must be possible");
    Ok(())
}
