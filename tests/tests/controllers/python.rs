// SPDX-License-Identifier: Apache-2.0
//! The official Python client, and an operator of kopf, which has its own ideas of watches, finalizers and patches.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use api::v1alpha1::Hardware;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use rustix::process::Signal;
use serde_json::json;
use tests::alone::Alone;
use tests::process::Process;
use tests::stack::eventually;

use super::manager::{DEADLINE, namespace};

/// Every way in which the official client reads and writes gives what it should.
pub async fn probe(server: &Alone) -> Result<()> {
    let namespace = namespace(&server.client().await?, "python").await?;
    let mut command = Command::new(program("python")?);
    command.arg(script("probe.py")).arg(server.kubeconfig()).arg(namespace);
    let output = tokio::task::spawn_blocking(move || command.stdin(Stdio::null()).output()).await??;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// An operator goes on when the server is killed, and lets go of what it held.
pub async fn operator_goes_on(server: &mut Alone) -> Result<()> {
    let namespace = namespace(&server.client().await?, "kopf").await?;
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("kopf.log");
    let mut operator = Process::start("the operator", &program("kopf")?, log, |command| {
        command.args(["run", "--standalone", "--namespace", &namespace]).arg(script("rack_operator.py"));
        command.env("KUBECONFIG", server.kubeconfig());
    })?;
    let machines = |client: Client| Api::<Hardware>::namespaced(client, &namespace);
    let before = machines(server.client().await?);
    let hardware = json!({
        "apiVersion": "tinkerbell.org/v1alpha1",
        "kind": "Hardware",
        "metadata": {"name": "m1"},
        "spec": {"interfaces": [{"dhcp": {"mac": "02:00:00:00:00:01"}}]},
    });
    before.create(&PostParams::default(), &serde_json::from_value(hardware)?).await?;
    annotated(&before, &mut operator, "tests.invalid/created", "yes").await?;

    server.restart(Signal::KILL).await?;
    let after = machines(server.client().await?);
    let label = json!({"metadata": {"labels": {"wanted": "v2"}}});
    after.patch("m1", &PatchParams::default(), &Patch::Merge(&label)).await?;
    annotated(&after, &mut operator, "tests.invalid/updated", "v2").await?;
    let held = after.get("m1").await?;
    ensure!(!held.finalizers().is_empty(), "the operator holds what it wants to see deleted");
    after.delete("m1", &DeleteParams::default()).await?;
    eventually("the operator lets go", DEADLINE, async || {
        operator.check().map_err(|error| error.to_string())?;
        let found = after.get_opt("m1").await.map_err(|error| error.to_string())?;
        Ok(found.is_none().then_some(()))
    })
    .await
}

/// Waits for an annotation of the machine.
async fn annotated(machines: &Api<Hardware>, operator: &mut Process, key: &str, wanted: &str) -> Result<()> {
    eventually(&format!("m1 has {key}={wanted}"), DEADLINE, async || {
        operator.check().map_err(|error| error.to_string())?;
        let hardware = machines.get("m1").await.map_err(|error| error.to_string())?;
        let annotations = hardware.annotations();
        if annotations.get(key).is_some_and(|found| found == wanted) {
            return Ok(Some(()));
        }
        Err(format!("{annotations:?}"))
    })
    .await
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(name)
}

/// A program of the Python environment that `./x test` makes.
fn program(name: &str) -> Result<PathBuf> {
    let home = std::env::var_os("PYTHON_CLIENTS").context("PYTHON_CLIENTS is not set: run ./x test")?;
    let program = Path::new(&home).join("bin").join(name);
    ensure!(program.is_file(), "{} is missing: run ./x test", program.display());
    Ok(program)
}
