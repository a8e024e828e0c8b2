// SPDX-License-Identifier: Apache-2.0
//! `./x demo --cluster`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Takes simulated servers from powered off to a cluster that owns its provisioner, and back to powered off.
#[derive(Debug, Parser)]
struct Arguments {
    /// Work in this folder and leave the files there
    #[arg(long)]
    dir: Option<PathBuf>,
}

fn main() -> ExitCode {
    match tests::demo::main(Arguments::parse().dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cluster-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}
