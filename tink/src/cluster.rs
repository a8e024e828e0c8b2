// SPDX-License-Identifier: Apache-2.0

//! `tink cluster`: the file of a cluster, whether it can be so, the cluster itself, and where it is provisioned from.
//!
//! Owns the flags and how findings and progress look; what is found and done is the orchestrator's.

use std::{
    io::IsTerminal as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand, ValueEnum};
use orchestrator::{
    check::{self, Subject},
    cluster,
    finding::{Finding, Findings, Severity},
    probe,
};
use serde_json::json;

use crate::{
    cli::Failure,
    connect::{Places, connect},
    hardware, output,
    rpc::RpcArgs,
};

mod cleanup;
mod create;
mod hand_over;
mod host;
mod progress;

use cleanup::CleanupArgs;
use create::{CreateArgs, DeleteArgs, GetArgs};
use hand_over::MoveArgs;

/// What can be done with a cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Print a cluster file to begin with
    Generate {
        /// Name of the cluster
        name: String,
        /// Where its machines come from
        #[arg(long, value_enum, default_value_t, value_name = "PROVIDER")]
        provider: Provider,
    },
    /// Tell everything that is wrong with a cluster and its machines; changes nothing
    #[command(after_help = "Ends with 1 when anything cannot work, with 0 when there are only warnings.")]
    Check(Box<CheckArgs>),
    /// Make a cluster out of machines: check, install all at once, join in order; goes on where an earlier run ended
    #[command(
        after_help = "Works against the API server of `tink up`, which must run on this machine. Whatever ends it, the same command \
                            goes on: no machine is installed twice. A machine that fails is tried again and then replaced by a spare."
    )]
    Create(Box<CreateArgs>),
    /// Show clusters, and what of them is and is not ready
    Get(GetArgs),
    /// Take a cluster apart, from whatever state it is in: machines are switched off and given back
    Delete(DeleteArgs),
    /// Let another API server own the machines, with everything that is known of them: a cluster its own provisioner, and back
    #[command(
        after_help = "Moves from the API server of --kubeconfig (by default that of `tink up`) to that of --to, for a move back the other way round. \
                            The daemons here stop, everything is copied and compared, and then those there may begin: never both at once. \
                            Whatever ends it, the same command goes on; until the other side owns the machines, --abort gives it up. \
                            Only where the other side is lost for good: without the ConfigMap tinkerbell-owner in tinkerbell-system a server owns what it has."
    )]
    Move(MoveArgs),
    /// Remove what is ours from this machine after the machines were moved away, and prove that nothing is left
    Cleanup(CleanupArgs),
}

/// Where machines come from.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum Provider {
    /// Bare metal
    #[default]
    Tinkerbell,
}

/// What to check.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The cluster file, or - for standard input
    #[arg(short, long = "filename", value_name = "FILE")]
    filename: PathBuf,
    /// The machines: hardware.csv
    #[arg(short = 'z', long = "hardware-csv", value_name = "FILE")]
    hardware_csv: Option<PathBuf>,
    /// Look at the files alone: ask no BMC, no server and no address
    #[arg(long)]
    offline: bool,
    /// For whom the findings are
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: ReportFormat,
    #[command(flatten)]
    rpc: RpcArgs,
}

/// For whom a report is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    /// People
    #[default]
    Text,
    /// Programs
    Json,
}

/// Runs one of the commands.
pub(crate) async fn run(command: ClusterCommand, places: &Places) -> Result<ExitCode, Failure> {
    let state_dir = &daemon::state_dir(places.state_dir.clone());
    match command {
        ClusterCommand::Generate { name, provider: Provider::Tinkerbell } => {
            let text = cluster::generate(&name).map_err(|finding| Failure::Usage(finding.to_string()))?;
            output::print(&text)?;
            Ok(ExitCode::SUCCESS)
        }
        ClusterCommand::Check(args) => check(&args, state_dir).await,
        ClusterCommand::Create(args) => create::create(&args, connect(places).await?, state_dir).await,
        ClusterCommand::Get(args) => create::get(&args, connect(places).await?).await,
        ClusterCommand::Delete(args) => create::delete(&args, connect(places).await?).await,
        ClusterCommand::Move(args) => hand_over::hand_over(args, places, state_dir).await,
        ClusterCommand::Cleanup(args) => cleanup::cleanup(&args, state_dir).await,
    }
}

async fn check(args: &CheckArgs, state_dir: &Path) -> Result<ExitCode, Failure> {
    let rpc = args.rpc.bmc().map_err(Failure::Usage)?;
    let mut findings = Findings::default();
    let inventory =
        args.hardware_csv.as_ref().map(|path| hardware::inventory(path, rpc.as_ref(), &mut findings));
    if let Some((name, text)) = hardware::text(&args.filename, &mut findings)
        && let Some(file) = cluster::read(&name, &text, &mut findings)
    {
        let subject = Subject { file: &file, inventory: inventory.as_ref() };
        check::offline(subject, &mut findings);
        if !args.offline {
            host::check(state_dir, &mut findings);
            probe::online(subject, &mut findings).await;
        }
    }
    let failed = findings.has_errors();
    let findings = findings.sorted();
    output::print(&match args.output {
        ReportFormat::Text => report(&findings, std::io::stdout().is_terminal()),
        ReportFormat::Json => format!("{:#}\n", json!({ "findings": findings, "ok": !failed })),
    })?;
    Ok(if failed { ExitCode::from(daemon::EXIT_FAILURE) } else { ExitCode::SUCCESS })
}

/// Two lines for each finding, what and how to put it right, and the sum.
fn report(findings: &[Finding], terminal: bool) -> String {
    let mut text = String::new();
    for finding in findings {
        let (before, after) = match (terminal, finding.severity) {
            (false, _) => ("", ""),
            (true, Severity::Error) => ("\u{1b}[31m", "\u{1b}[0m"),
            (true, Severity::Warning) => ("\u{1b}[33m", "\u{1b}[0m"),
        };
        let Finding { severity, place, what, fix, .. } = finding;
        text.push_str(&format!("{before}{severity}{after}: {place}: {what}\n    {fix}\n"));
    }
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let of = |count: usize, name: &str| format!("{count} {name}{}", if count == 1 { "" } else { "s" });
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    text.push_str(&format!("{}, {}\n", of(errors, "error"), of(warnings, "warning")));
    text
}

#[cfg(test)]
mod tests {
    use orchestrator::finding::Place;

    use super::*;

    #[test]
    fn a_report_says_what_and_how_to_put_it_right() {
        let mut findings = Findings::default();
        findings.error("a", Place::new("c.yaml", 3, "spec.x"), "is wrong", "write y");
        findings.warning("b", Place::new("h.csv", 2, "disk"), "is odd", "look at it");
        let findings = findings.sorted();
        assert_eq!(
            report(&findings, false),
            "error: c.yaml:3: spec.x: is wrong\n    write y\nwarning: h.csv:2: disk: is odd\n    look at it\n1 error, 1 warning\n"
        );
        assert!(report(&findings, true).contains("\u{1b}[31merror\u{1b}[0m: c.yaml:3"));
        assert_eq!(report(&[], false), "0 errors, 0 warnings\n");
    }
}
