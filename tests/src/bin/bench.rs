// SPDX-License-Identifier: Apache-2.0
//! `./x bench [NAME]`: prints the tables.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Parser;
use tests::bench::{Report, api, boots, cluster, image, tftp};

/// Measures us beside our peers.
#[derive(Debug, Parser)]
struct Arguments {
    /// api, boots, cluster, image or tftp; all without it.
    name: Option<String>,
    /// A small part of a benchmark that takes long, to see whether a change helps.
    #[arg(long)]
    quick: bool,
    /// Also writes the rows to this file as JSON.
    #[arg(long)]
    report: Option<PathBuf>,
    /// Does nothing but DHCP exchanges; what the benchmark of boots runs under callgrind.
    #[arg(long, hide = true, requires = "machines")]
    exchanges: Option<usize>,
    /// Among so many machines.
    #[arg(long, hide = true)]
    machines: Option<usize>,
}

type Bench = fn(bool) -> Result<Report>;

const BENCHES: [(&str, Bench); 5] = [
    ("api", api::run),
    ("boots", |quick| boots::run(quick).map(Report::from)),
    ("cluster", |quick| cluster::run(quick).map(Report::from)),
    ("image", |_| image::run().map(Report::from)),
    ("tftp", |quick| tftp::run(quick).map(Report::from)),
];

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let (Some(exchanges), Some(machines)) = (arguments.exchanges, arguments.machines) {
        return boots::instructions::run(machines, exchanges);
    }
    let wanted = |name: &str| arguments.name.as_deref().is_none_or(|wanted| wanted == name);
    let names: Vec<&str> = BENCHES.iter().map(|(name, _)| *name).collect();
    ensure!(names.iter().any(|name| wanted(name)), "no such benchmark; there are: {}", names.join(", "));
    let mut all = Vec::new();
    for (name, bench) in BENCHES.iter().filter(|(name, _)| wanted(name)) {
        println!("{name}:");
        let report = bench(arguments.quick)?;
        println!("{}", report.text);
        all.extend(report.rows);
    }
    if let Some(path) = arguments.report {
        std::fs::write(path, serde_json::to_vec_pretty(&all)?)?;
    }
    Ok(())
}
