// SPDX-License-Identifier: Apache-2.0
//! `./x bench [NAME]`: prints the tables.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Parser;
use tests::bench::{Row, image, table, tftp};

/// Measures us beside our peers.
#[derive(Debug, Parser)]
struct Arguments {
    /// image or tftp; both without it.
    name: Option<String>,
    /// Also writes the rows to this file as JSON.
    #[arg(long)]
    report: Option<PathBuf>,
}

type Bench = fn() -> Result<Vec<Row>>;

const BENCHES: [(&str, Bench); 2] = [("image", image::run), ("tftp", tftp::run)];

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let wanted = |name: &str| arguments.name.as_deref().is_none_or(|wanted| wanted == name);
    let names: Vec<&str> = BENCHES.iter().map(|(name, _)| *name).collect();
    ensure!(names.iter().any(|name| wanted(name)), "no such benchmark; there are: {}", names.join(", "));
    let mut all = Vec::new();
    for (name, bench) in BENCHES.iter().filter(|(name, _)| wanted(name)) {
        println!("{name}:");
        let rows = bench()?;
        println!("{}", table(&rows));
        all.extend(rows);
    }
    if let Some(path) = arguments.report {
        std::fs::write(path, serde_json::to_vec_pretty(&all)?)?;
    }
    Ok(())
}
