// SPDX-License-Identifier: Apache-2.0
//! One suite for the API, each scenario run against our server and against a real Kubernetes: what is asserted here is
//! Kubernetes' contract, which the real one proves.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use tests::runner::{Scenario, suite};
use tests::target::{Kind, Target};

/// Both servers.
struct Both {
    embedded: Target,
    kubernetes: Target,
}

impl Both {
    async fn start() -> Result<Self> {
        Ok(Self {
            embedded: Target::start(Kind::Embedded).await?,
            kubernetes: Target::start(Kind::Kubernetes).await?,
        })
    }
}

async fn health_and_version(target: &Target) -> Result<()> {
    for path in ["/healthz", "/readyz", "/livez"] {
        let answer = target.get(path).await?;
        ensure!(
            (answer.code, answer.text().as_str()) == (200, "ok"),
            "{path}: {} {}",
            answer.code,
            answer.text()
        );
    }
    let version = target.get("/version").await?;
    ensure!(version.str("/major") == "1" && version.str("/minor") == "34", "{}", version.text());
    Ok(())
}

fn main() -> ExitCode {
    let scenarios = [
        Scenario::new("embedded::health_and_version", |both: &Both| {
            Box::pin(health_and_version(&both.embedded))
        }),
        Scenario::new("kubernetes::health_and_version", |both: &Both| {
            Box::pin(health_and_version(&both.kubernetes))
        }),
    ];
    suite(Both::start, &scenarios)
}
