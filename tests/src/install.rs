// SPDX-License-Identifier: Apache-2.0
//! One machine from powered off to a login on its installed system, with every daemon a program of its own and under its own
//! rights. The two end-to-end tests of separate programs differ in the API server and the machine only.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use api::v1alpha1::{Hardware, Workflow, WorkflowState};
use k8s_openapi::api::core::v1::{Event, Secret};
use kube::api::ListParams;
use kube::{Api, Client};
use lab::netns::Namespace;
use lab::rack::{Rack, RackSpec};
use tink::demo::{Artefacts, Install, NAMESPACE, TEMPLATE, describe, server, workflow};

use crate::apart::{Program, Server, daemons};
use crate::stack::{client, client_of, eventually, login, run_tink};
use crate::target::Kind;

/// Until a program is ready; kube-apiserver has taken its time by then.
const READY: Duration = Duration::from_secs(120);
/// From power-on to the agent's last word, on a machine whose cores are shared.
const INSTALL: Duration = Duration::from_secs(900);
/// From reboot to a login, on the same.
const BOOT: Duration = Duration::from_secs(600);

/// The scenario; `machine` is the number of a server of the demo's rack, from 0.
///
/// # Errors
/// With the step that went wrong.
pub async fn one_machine(namespace: &Namespace, dir: &Path, kind: Kind, machine: usize) -> Result<()> {
    let (started, state) = (Instant::now(), dir.join("state"));
    let step = |what: &str| println!("  {:4} s  {what}", started.elapsed().as_secs());
    let artefacts = Artefacts::find()?;
    let (image, digest) = artefacts.image()?;
    let key = dir.join("key");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status()?;
    ensure!(made.success(), "ssh-keygen failed");

    let mut spec = RackSpec::demo()?;
    spec.servers = spec.servers.into_iter().skip(machine).take(1).collect();
    let mut one = describe(spec.servers.first().context("a server of the rack")?, &spec)?;
    one.ssh_key = fs::read_to_string(dir.join("key.pub"))?.trim().to_owned();
    let boots = artefacts.up_flags(&state, spec.provisioner);
    let rack = Rack::start(namespace, spec, dir).await?;

    let api = match kind {
        Kind::Embedded => Server::embedded(&state, dir, READY).await?,
        Kind::Kubernetes => Server::kubernetes(&state).await?,
    };
    step("the API server is ready");
    let programs = daemons(&state, &boots, dir, READY).await?;
    step("every daemon is ready");
    each_has_its_own_rights(&state).await?;
    let client = client(&state).await?;

    let install = Install {
        name: "install".to_owned(),
        image_url: format!("http://{}:7171/images/{image}", one.provisioner),
        image_digest: digest,
        metadata_url: format!("http://{}:7172", one.provisioner),
    };
    let manifests = [TEMPLATE.to_owned(), server(&one), workflow(&one, &install)];
    for (number, text) in manifests.iter().enumerate() {
        let path = dir.join(format!("{number}.yaml"));
        fs::write(&path, text)?;
        run_tink(&state, &["apply", "-f", &path.display().to_string()])?;
    }
    let ended = eventually("the end of the Workflow", INSTALL, async || ended(&client).await).await;
    let ended = ended.with_context(|| tails(&programs))?;
    ensure!(ended == WorkflowState::Success, "the Workflow ended {ended}: {}", tails(&programs));
    step("installed");

    login(&key, one.address, "hostname", BOOT, |name| name == one.name).await?;
    let hardware: Hardware = Api::namespaced(client.clone(), NAMESPACE).get(&one.name).await?;
    let allowed = hardware.spec.interfaces.iter().any(api::v1alpha1::Interface::allows_netboot);
    ensure!(!allowed, "network boot of {} is still on", one.name);
    step("logged in");

    every_daemon_told(&client).await?;
    for program in &programs {
        let metrics = program.asked("metrics")?;
        ensure!(metrics.contains("# HELP"), "{} has no metrics: {metrics}", program.name());
        program.asked("healthz")?;
    }
    rack.stop().await;
    for program in programs {
        let name = program.name().to_owned();
        let ended = program.terminate(READY).await?;
        ensure!(ended.success(), "{name} ended with {ended}");
    }
    api.stop(READY).await?;
    step("everything has ended well");
    Ok(())
}

async fn ended(client: &Client) -> Result<Option<WorkflowState>, String> {
    let workflows: Api<Workflow> = Api::namespaced(client.clone(), NAMESPACE);
    let workflow = workflows.get("install").await.map_err(|error| error.to_string())?;
    let state = workflow.status.unwrap_or_default().state;
    if state.is_final() { Ok(Some(state)) } else { Err(format!("state {state}")) }
}

fn tails(programs: &[Program]) -> String {
    let tail = |program: &Program| format!("{}:\n{}", program.name(), program.tail());
    programs.iter().map(tail).collect::<Vec<_>>().join("\n")
}

/// What a daemon may not do is refused, in the same words by both servers.
async fn each_has_its_own_rights(state: &Path) -> Result<()> {
    let kubeconfig = |name: &str| -> PathBuf { state.join(format!("{name}.kubeconfig")) };
    for name in ["boots", "hegel", "rufio", "tink-server"] {
        let client = client_of(&kubeconfig(name)).await?;
        let secrets: Api<Secret> = Api::namespaced(client, api::annotations::SYSTEM_NAMESPACE);
        let Err(kube::Error::Api(refused)) = secrets.list(&ListParams::default()).await else {
            bail!("{name} may list the Secrets of the daemons");
        };
        let words = format!(
            "secrets is forbidden: User \"system:serviceaccount:tinkerbell-system:{name}\" cannot list resource \"secrets\" \
             in API group \"\" in the namespace \"tinkerbell-system\""
        );
        ensure!((refused.code, refused.message.as_str()) == (403, words.as_str()), "{name}: {refused:?}");
        let may_read_the_key = match secrets.get(api::token::SECRET_NAME).await {
            Ok(_) => true,
            Err(kube::Error::Api(refused)) if refused.code == 403 => false,
            Err(error) => return Err(error.into()),
        };
        ensure!(may_read_the_key == ["boots", "tink-server"].contains(&name), "{name} and the key of tokens");
    }
    Ok(())
}

/// Every daemon wrote Events, so its rights are enough for that too.
async fn every_daemon_told(client: &Client) -> Result<()> {
    let events: Api<Event> = Api::namespaced(client.clone(), NAMESPACE);
    eventually("an Event of every daemon", READY, async || {
        let all = events.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let told =
            |name: &&str| all.items.iter().any(|event| event.reporting_component.as_deref() == Some(*name));
        let silent: Vec<&str> =
            ["boots", "hegel", "rufio", "tink-server"].into_iter().filter(|name| !told(name)).collect();
        if silent.is_empty() { Ok(Some(())) } else { Err(format!("nothing from {}", silent.join(", "))) }
    })
    .await
}
