// SPDX-License-Identifier: Apache-2.0
//! The daemons of the new cluster, as programs beside its API server: no kubelet runs them as pods here. What a pod would have is
//! the same: the account and its token, the address that boots has while it leads, and that each ends when the machines are
//! owned elsewhere.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use api::access::Component;
use lab::rack::PROVISIONER_INTERFACE;
use serde_json::{Value, json};
use tink::demo::Artefacts;

use crate::apart::{Program, own_flags, service_account_token};
use crate::stack::client_of;

/// The running daemons.
#[derive(Debug)]
pub(super) struct Successor(Vec<Program>);

impl Successor {
    /// Starts one of each with a token that the cluster made for it, and waits until all are ready; boots takes `address`.
    pub(super) async fn start(
        kubeconfig: &Path,
        dir: &Path,
        address: Ipv4Addr,
        deadline: Duration,
    ) -> Result<Self> {
        let (client, state) = (client_of(kubeconfig).await?, dir.join("successor"));
        fs::create_dir_all(&state)?;
        let mut config: Value = serde_saphyr::from_str(&fs::read_to_string(kubeconfig)?)?;
        let mut programs = Vec::new();
        for daemon in Component::ALL {
            let name = daemon.name();
            let token =
                service_account_token(&client, name).await.with_context(|| format!("a token of {name}"))?;
            let user = config.pointer_mut("/users/0/user").context("the kubeconfig has no user")?;
            *user = json!({ "token": token });
            fs::write(state.join(format!("{name}.kubeconfig")), config.to_string())?;
            let mut flags = vec![name.to_owned()];
            flags.extend(match daemon {
                Component::Boots => boots(&state, address)?,
                _ => own_flags(&state),
            });
            programs.push(Program::start("tink", name, &flags, health(daemon), dir)?);
        }
        for program in &mut programs {
            program.ready(deadline).await?;
        }
        Ok(Self(programs))
    }

    /// Each has heard that the machines are owned elsewhere, and has ended.
    pub(super) async fn has_left(self, deadline: Duration) -> Result<()> {
        for mut program in self.0 {
            let ended = program.ended(deadline).await?;
            ensure!(ended.success(), "{} ended with {ended}", program.name());
        }
        Ok(())
    }
}

fn boots(state: &Path, address: Ipv4Addr) -> Result<Vec<String>> {
    let mut flags = Artefacts::find()?.up_flags(state, address);
    flags.push("--boots-enable-leader-election=true".to_owned());
    flags.push(format!("--boots-virtual-ip={address}"));
    flags.push(format!("--boots-virtual-ip-interface={PROVISIONER_INTERFACE}"));
    Ok(flags)
}

/// The port on which it says whether it is ready.
const fn health(daemon: Component) -> u16 {
    match daemon {
        Component::Boots => 9101,
        Component::Hegel => 9102,
        Component::Rufio => 9103,
        Component::TinkServer => 9104,
        Component::Orchestrator => 9106,
    }
}
