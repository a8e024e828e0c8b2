// SPDX-License-Identifier: Apache-2.0
//! Controllers as others write them run unchanged against our server and against a real Kubernetes, and go on when the
//! server is killed under them: kube-rs here, controller-runtime and client-go in `tests/kubernetes/manager`, the Python
//! client and kopf in `tests/python`.

#![allow(
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected fails; clippy knows only test functions, not their helpers"
)]

use std::process::ExitCode;

use anyhow::Result;
use tests::alone::Alone;
use tests::runner::{Scenario, suite};
use tests::target::Kind;
use tokio::sync::Mutex;

mod manager;
mod python;
mod reconciler;

/// Both servers. A scenario has one of them for itself while it runs.
struct Both {
    embedded: Mutex<Alone>,
    kubernetes: Mutex<Alone>,
}

impl Both {
    async fn start() -> Result<Self> {
        Ok(Self {
            embedded: Mutex::new(Alone::start(Kind::Embedded, true).await?.0),
            kubernetes: Mutex::new(Alone::start(Kind::Kubernetes, true).await?.0),
        })
    }

    fn of(&self, kind: Kind) -> &Mutex<Alone> {
        match kind {
            Kind::Embedded => &self.embedded,
            Kind::Kubernetes => &self.kubernetes,
        }
    }
}

fn main() -> ExitCode {
    let mut scenarios = Vec::new();
    for kind in [Kind::Embedded, Kind::Kubernetes] {
        let name = |what: &str| format!("{}::{what}", kind.name());
        scenarios.push(Scenario::new(name("client_go_sees_the_same"), move |both: &Both| {
            Box::pin(async move { manager::probe(&*both.of(kind).lock().await).await })
        }));
        scenarios.push(Scenario::new(name("a_controller_runtime_manager_goes_on"), move |both: &Both| {
            Box::pin(async move { manager::goes_on(&mut *both.of(kind).lock().await).await })
        }));
        scenarios.push(Scenario::new(name("the_python_client_sees_the_same"), move |both: &Both| {
            Box::pin(async move { python::probe(&*both.of(kind).lock().await).await })
        }));
        scenarios.push(Scenario::new(name("an_operator_of_kopf_goes_on"), move |both: &Both| {
            Box::pin(async move { python::operator_goes_on(&mut *both.of(kind).lock().await).await })
        }));
        scenarios.push(Scenario::new(name("a_kube_rs_controller_goes_on"), move |both: &Both| {
            Box::pin(async move { reconciler::goes_on(&mut *both.of(kind).lock().await).await })
        }));
    }
    suite(Both::start, &scenarios)
}
