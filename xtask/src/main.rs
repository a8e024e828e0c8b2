// SPDX-License-Identifier: Apache-2.0
//! The one helper program behind `./x`: installs tools, builds artefacts, calls `tink` and the tests.
//!
//! It knows nothing of provisioning. What it builds goes into the user's cache under a hash of its inputs
//! ([`artefacts`]); the host gets only tools without a service, boot hook or kernel ([`host`]).

mod artefacts;
mod cargo;
mod check;
mod debian;
mod fuzz;
mod go;
mod host;
mod process;
mod suite;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Builds, tests and demonstrates this project.
#[derive(Debug, Parser)]
#[command(name = "./x", version, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Takes simulated machines from powered off to their installed operating system.
    Demo {
        /// Takes other ones through the life of a cluster: made, moved into itself, one machine larger, deleted.
        #[arg(long)]
        cluster: bool,
        /// Passed on to `tink demo`, for example `--report FILE`; to the demo of a cluster, for example `--dir FOLDER`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Runs all tests.
    Test {
        /// Adds the long rows.
        #[arg(long)]
        full: bool,
        /// Runs only tests whose name contains this.
        filter: Option<String>,
    },
    /// Runs formatter, linter and the checks for generated files; collects every failure.
    Check,
    /// Prints a benchmark's table.
    Bench {
        /// Which one; all of them without a name.
        name: Option<String>,
        /// Does a small part of a benchmark that takes long.
        #[arg(long)]
        quick: bool,
        /// Also writes the rows as JSON.
        #[arg(long)]
        report: Option<PathBuf>,
    },
    /// Runs the fuzz targets, each for a while.
    Fuzz {
        /// Which one; all of them without a name.
        target: Option<String>,
        /// For how long each.
        #[arg(long, default_value_t = 20)]
        seconds: u32,
    },
    /// Builds HookOS, the boot programs and the operating-system image, and prints where they are.
    Build {
        /// Builds the image of Kubernetes nodes, too, that the long test of a cluster takes.
        #[arg(long)]
        node: bool,
    },
    /// Writes the container image of the daemons, for nodes of a cluster that have no registry.
    Image {
        /// The docker-archive.
        file: PathBuf,
    },
    /// Writes the generated files (CRDs, RBAC) anew.
    Generate,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("x: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Demo { cluster: false, arguments } => suite::demo(&arguments),
        Command::Demo { cluster: true, arguments } => suite::demo_cluster(&arguments),
        Command::Test { full, filter } => suite::test(full, filter.as_deref()),
        Command::Check => check::check(),
        Command::Bench { name, quick, report } => suite::bench(name.as_deref(), quick, report.as_deref()),
        Command::Fuzz { target, seconds } => fuzz::fuzz(target.as_deref(), seconds),
        Command::Build { node } => {
            host::install(host::Need::Build)?;
            artefacts::Artefacts::build()?.print();
            if node { artefacts::Artefacts::build_node() } else { Ok(()) }
        }
        Command::Image { file } => {
            let file = std::path::absolute(file)?;
            host::install(host::Need::Build)?;
            artefacts::Artefacts::build()?.stack_image("release", &file)
        }
        Command::Generate => check::generate(),
    }
}
