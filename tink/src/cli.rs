// SPDX-License-Identifier: Apache-2.0

//! The command line: what can be typed, and the exit code (64 for a wrong command line or configuration, 1 for a failure,
//! 0 else).

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{Args, CommandFactory, Parser, Subcommand, error::ErrorKind};
use jiff::Timestamp;
use kube::Client;

use crate::{
    apply::apply,
    connect::{self, Places},
    describe::describe,
    get::{self, Format, Selection},
    kinds, output,
    why::{self, Snapshot},
};

/// Provisions machines over the network: applies manifests, shows what every machine does, and says why one is stuck.
#[derive(Debug, Parser)]
#[command(name = "tink", version, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Global {
    /// Kubeconfig of the API server [default: $KUBECONFIG, else the one that `tink up` writes]
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// State directory of `tink up`
    #[arg(long, global = true, env = "TINK_STATE_DIR", value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Namespace {
    /// Namespace of the objects
    #[arg(short, long, default_value = api::annotations::DEFAULT_NAMESPACE, value_name = "NAME")]
    namespace: String,
    /// Objects of all namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,
}

impl Namespace {
    fn chosen(self) -> Option<String> {
        (!self.all_namespaces).then_some(self.namespace)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make objects be as manifests say
    Apply {
        /// Manifest, directory of manifests, or - for standard input
        #[arg(short, long = "filename", required = true, value_name = "FILE")]
        filename: Vec<PathBuf>,
        /// Namespace of objects that name none
        #[arg(short, long, default_value = api::annotations::DEFAULT_NAMESPACE, value_name = "NAME")]
        namespace: String,
    },
    /// Show objects: hardware, templates, workflows, machines, jobs, ...
    Get {
        /// Kind, in any spelling that kubectl takes
        kind: String,
        /// One object; without it all
        name: Option<String>,
        /// How to show them
        #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
        output: Format,
        #[command(flatten)]
        namespace: Namespace,
        /// Only objects with these labels
        #[arg(short = 'l', long, value_name = "SELECTOR")]
        selector: Option<String>,
        /// Go on showing every change
        #[arg(short, long)]
        watch: bool,
    },
    /// Show one object in full, with its Events
    Describe {
        /// Kind, in any spelling that kubectl takes
        kind: String,
        /// One object; without it all
        name: Option<String>,
        #[command(flatten)]
        namespace: Namespace,
    },
    /// Say in one sentence what a machine is doing, or why it is not
    Why {
        /// Hardware name, MAC, IP address, or name of a BMC Machine
        machine: String,
        /// Look in this namespace only
        #[arg(short, long, value_name = "NAME")]
        namespace: Option<String>,
    },
}

/// Why a command ended badly.
enum Failure {
    /// The command line was wrong: exit code 64.
    Usage(String),
    /// Something else, in one line each: exit code 1.
    Failed(Vec<String>),
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(vec![daemon::chain(&error)])
    }
}

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    run(std::env::args_os())
}

fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            // Nothing is left to tell when the terminal itself is gone.
            error.print().unwrap_or_default();
            return if asked { ExitCode::SUCCESS } else { ExitCode::from(daemon::EXIT_USAGE) };
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(Failure::from(error)),
    };
    match runtime.block_on(cli.run()) {
        Ok(code) => code,
        Err(failure) => report(failure),
    }
}

fn report(failure: Failure) -> ExitCode {
    match failure {
        Failure::Usage(problem) => {
            let error = Cli::command().error(ErrorKind::InvalidValue, problem);
            error.print().unwrap_or_default();
            ExitCode::from(daemon::EXIT_USAGE)
        }
        Failure::Failed(problems) => {
            for problem in problems {
                eprintln!("tink: {problem}");
            }
            ExitCode::from(daemon::EXIT_FAILURE)
        }
    }
}

impl Cli {
    async fn run(self) -> Result<ExitCode, Failure> {
        let client = self.global.client();
        match self.command {
            Command::Apply { filename, namespace } => {
                let problems = |findings: Vec<crate::manifest::Finding>| {
                    Failure::Failed(findings.iter().map(ToString::to_string).collect())
                };
                apply(&client.await?, &filename, &namespace).await.map_err(problems)?;
            }
            Command::Get { kind, name, output, namespace, selector, watch } => {
                let kind = kinds::find(&kind).map_err(Failure::Usage)?;
                let selection = Selection { kind, name, namespace: namespace.chosen(), labels: selector };
                if watch && matches!(output, Format::Yaml | Format::Json) {
                    return Err(Failure::Usage("--watch shows tables only".to_owned()));
                }
                let client = client.await?;
                if watch {
                    get::watch(&client, &selection, output, interrupted()).await?;
                } else {
                    get::get(&client, &selection, output).await?;
                }
            }
            Command::Describe { kind, name, namespace } => {
                let kind = kinds::find(&kind).map_err(Failure::Usage)?;
                let selection = Selection { kind, name, namespace: namespace.chosen(), labels: None };
                describe(&client.await?, &selection).await?;
            }
            Command::Why { machine, namespace } => {
                let snapshot = Snapshot::fetch(&client.await?, namespace.as_deref()).await?;
                let answer = why::explain(&snapshot, &machine, Timestamp::now());
                output::print(&answer.to_string())?;
                if !answer.known {
                    return Ok(ExitCode::from(daemon::EXIT_FAILURE));
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Global {
    fn client(&self) -> impl Future<Output = Result<Client, connect::ConnectError>> + use<> {
        let places = Places { kubeconfig: self.kubeconfig.clone(), state_dir: self.state_dir.clone() };
        async move { connect::connect(&places).await }
    }
}

/// Done at Ctrl-C; never when that cannot be heard, since then the signal ends the process anyway.
async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(args: &[&str]) -> ExitCode {
        run(args.iter().map(OsString::from))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_command_lines_end_with_64_before_anything_is_connected() {
        let usage = ExitCode::from(64);
        for args in [
            &["tink"][..],
            &["tink", "gt", "hardware"],
            &["tink", "get", "hardwear", "--kubeconfig", "/nonexistent"],
            &["tink", "get", "hw", "-o", "xml"],
            &["tink", "get", "hw", "-w", "-o", "json"],
            &["tink", "apply"],
        ] {
            assert_eq!(exit(args), usage, "{args:?}");
        }
        assert_eq!(exit(&["tink", "--version"]), ExitCode::SUCCESS);
        assert_eq!(exit(&["tink", "get", "hw", "--kubeconfig", "/nonexistent"]), ExitCode::from(1));
    }
}
