// SPDX-License-Identifier: Apache-2.0

//! `tink hardware`: the machines of a `hardware.csv` as objects, printed or applied.
//!
//! Owns the flags and what is printed; what the file may hold and what its rows become is the orchestrator's.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand};
use kube::Client;
use orchestrator::{
    finding::{Findings, Place},
    inventory::{self, BmcMode, Inventory, MAX_BYTES, Objects, RpcBmc},
};
use serde::Serialize;

use crate::{cli::Failure, output, rpc::RpcArgs};

/// What can be done with an inventory.
#[derive(Debug, Subcommand)]
pub(crate) enum HardwareCommand {
    /// Print the objects of all machines as YAML; without Secrets, unless they are asked for
    Generate {
        #[command(flatten)]
        inventory: InventoryArgs,
        /// File to write to [default: standard output]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Print the Secrets too, with the passwords of the BMCs in them
        #[arg(long, conflicts_with = "secrets_file")]
        secrets: bool,
        /// File for the Secrets (mode 0600)
        #[arg(long, value_name = "FILE")]
        secrets_file: Option<PathBuf>,
    },
    /// Make the objects of all machines be as the file says; a machine that a cluster holds is never touched
    Apply {
        #[command(flatten)]
        inventory: InventoryArgs,
    },
}

/// Which inventory.
#[derive(Debug, Args)]
pub(crate) struct InventoryArgs {
    /// The machines: hardware.csv, or - for standard input
    #[arg(short = 'z', long = "hardware-csv", value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    rpc: Box<RpcArgs>,
}

/// Runs one of the commands.
pub(crate) async fn run(
    command: HardwareCommand,
    client: impl Future<Output = Result<Client, crate::connect::ConnectError>>,
) -> Result<ExitCode, Failure> {
    match command {
        HardwareCommand::Generate { inventory, output, secrets, secrets_file } => {
            let rpc = inventory.rpc.bmc().map_err(Failure::Usage)?;
            let machines = read(&inventory.file, rpc.as_ref())?;
            let objects: Vec<_> =
                machines.servers.iter().map(|(_, server)| server.objects(rpc.as_ref())).collect();
            write(&objects, output.as_deref(), secrets, secrets_file.as_deref())?;
        }
        HardwareCommand::Apply { inventory } => {
            let rpc = inventory.rpc.bmc().map_err(Failure::Usage)?;
            let machines = read(&inventory.file, rpc.as_ref())?;
            let mut findings = Findings::default();
            let applied = inventory::apply(&client.await?, &machines, rpc.as_ref(), &mut findings).await?;
            if findings.has_errors() {
                return Err(failed(findings));
            }
            let lines: String =
                applied.iter().map(|one| format!("{} {}\n", one.object, one.outcome)).collect();
            output::print(&lines)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads an inventory that must be without mistakes; warnings are told and passed over.
fn read(path: &Path, rpc: Option<&RpcBmc>) -> Result<Inventory, Failure> {
    let mut findings = Findings::default();
    let inventory = inventory(path, rpc, &mut findings);
    if findings.has_errors() {
        return Err(failed(findings));
    }
    for finding in findings.sorted() {
        eprintln!("{finding}");
    }
    Ok(inventory)
}

/// Reads an inventory; whatever is wrong with it, or with the file, is a finding.
pub(crate) fn inventory(path: &Path, rpc: Option<&RpcBmc>, findings: &mut Findings) -> Inventory {
    let mode = if rpc.is_some() { BmcMode::WebHook } else { BmcMode::Accounts };
    match text(path, findings) {
        Some((name, text)) => inventory::read(&name, &text, mode, findings),
        None => Inventory::default(),
    }
}

/// The text of a file with the name that messages have for it.
pub(crate) fn text(path: &Path, findings: &mut Findings) -> Option<(String, String)> {
    let stdin = path == Path::new("-");
    let name = if stdin { "standard input".to_owned() } else { path.display().to_string() };
    let read = if stdin { bounded(io::stdin().lock()) } else { fs::File::open(path).and_then(bounded) };
    match read {
        Ok(text) => Some((name, text)),
        Err(error) => {
            let fix = "name a text file that can be read";
            findings.error("unreadable", Place::new(&name, 0, ""), format!("cannot be read: {error}"), fix);
            None
        }
    }
}

fn bounded(source: impl io::Read) -> io::Result<String> {
    let mut text = String::new();
    let read = source.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if read as u64 > MAX_BYTES {
        return Err(io::Error::other(format!("larger than {MAX_BYTES} bytes")));
    }
    Ok(text)
}

fn failed(findings: Findings) -> Failure {
    Failure::Failed(findings.sorted().iter().map(ToString::to_string).collect())
}

fn write(
    objects: &[Objects],
    to: Option<&Path>,
    secrets: bool,
    secrets_file: Option<&Path>,
) -> Result<(), Failure> {
    let (mut public, mut private) = (String::new(), String::new());
    for one in objects {
        one.secrets.iter().try_for_each(|secret| document(&mut private, secret))?;
        one.machine.iter().try_for_each(|machine| document(&mut public, machine))?;
        document(&mut public, &one.hardware)?;
    }
    if let Some(path) = secrets_file {
        // Whoever can read an older file of that name must not read this one.
        let opened = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let mut file =
            opened.map_err(|error| Failure::Failed(vec![format!("{}: {error}", path.display())]))?;
        file.write_all(private.as_bytes())?;
    }
    let text = if secrets { format!("{private}{public}") } else { public };
    match to {
        None => output::print(&text)?,
        Some(path) => {
            let mode = if secrets { 0o600 } else { 0o644 };
            let opened = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path);
            let mut file =
                opened.map_err(|error| Failure::Failed(vec![format!("{}: {error}", path.display())]))?;
            if secrets {
                file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
            }
            file.write_all(text.as_bytes())?;
        }
    }
    if !secrets && secrets_file.is_none() && !private.is_empty() {
        eprintln!(
            "tink: the Secrets with the accounts of the BMCs are left out; --secrets-file FILE writes them"
        );
    }
    Ok(())
}

fn document<T: Serialize>(to: &mut String, object: &T) -> Result<(), Failure> {
    to.push_str("---\n");
    to.push_str(&serde_saphyr::to_string(object)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const CSV: &str = "hostname,bmc_ip,bmc_username,bmc_password,mac,ip_address,netmask,gateway,nameservers,labels,disk\n\
                       m1,10.9.0.1,root,pw7Zq4,52:54:00:00:00:01,10.0.0.1,24,10.0.0.254,1.1.1.1,type=cp,/dev/sda\n";

    #[test]
    fn passwords_are_written_only_where_they_are_asked_for_and_only_for_the_owner() {
        let inventory = inventory::read("h", CSV, BmcMode::Accounts, &mut Findings::default());
        let objects: Vec<_> = inventory.servers.iter().map(|(_, server)| server.objects(None)).collect();
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let password = ["pw7Zq4", "cHc3WnE0"];
        let has_password = |name: &str| {
            let text = fs::read_to_string(path(name)).unwrap();
            password.iter().any(|form| text.contains(form))
        };
        let mode = |name: &str| fs::metadata(path(name)).unwrap().permissions().mode() & 0o777;

        assert!(write(&objects, Some(&path("public")), false, Some(&path("private"))).is_ok());
        assert!(!has_password("public") && has_password("private"));
        assert_eq!(mode("private"), 0o600);
        let public = fs::read_to_string(path("public")).unwrap();
        assert_eq!(
            public.matches("\nkind: ").count() + usize::from(public.starts_with("kind: ")),
            2,
            "{public}"
        );

        // A file that is there may be open to others.
        assert!(write(&objects, Some(&path("public")), false, Some(&path("private"))).is_err());
        fs::set_permissions(path("public"), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(write(&objects, Some(&path("public")), true, None).is_ok());
        assert!(has_password("public"));
        assert_eq!(mode("public"), 0o600);
    }
}
