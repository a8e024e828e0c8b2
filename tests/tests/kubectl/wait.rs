// SPDX-License-Identifier: Apache-2.0
//! `kubectl wait`.

use anyhow::Result;

use crate::session::Session;

/// Conditions and values, there already and still to come.
pub async fn conditions(s: &mut Session<'_>) -> Result<()> {
    s.ok("create -f %gadgets-three.yaml").await?;
    s.fails("wait gadget/alpha --for=condition=Ready --timeout=1s").await?;
    s.fails("wait gadget/alpha --for=jsonpath={.status.phase}=Up --timeout=1s").await?;
    s.fails("wait gadget/alpha --for=condition=Ready --timeout=0s").await?;
    let ready = |value: &str, phase: &str| {
        let status = format!(
            "{{\"status\":{{\"phase\":\"{phase}\",\"conditions\":[{{\"type\":\"Ready\",\"status\":\"{value}\"}}]}}}}"
        );
        format!("patch gadget alpha --subresource=status --type=merge -p '{status}'")
    };
    for (awaited, change) in [
        ("condition=Ready", ready("True", "Up")),
        ("condition=Ready=False", ready("False", "Down")),
        ("condition=ready=unknown", ready("Unknown", "Lost")),
        ("jsonpath={.status.phase}=Up", ready("True", "Up")),
        (
            "jsonpath={.spec.count}=31",
            "patch gadget alpha --type=merge -p '{\"spec\":{\"count\":31}}'".to_owned(),
        ),
        ("delete", "delete gadget alpha".to_owned()),
    ] {
        let waiting = s.begin(&format!("wait gadget/alpha --for={awaited} --timeout=60s")).await?;
        s.ok(&change).await?;
        waiting.end(s, 0).await?;
    }
    let ready = "{\"status\":{\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}]}}";
    s.ok(&format!("patch gadget/beta gadget/gamma --subresource=status --type=merge -p '{ready}'")).await?;
    for line in [
        "wait gadgets --all --for=condition=Ready",
        "wait gadgets -l app=db --for=condition=Ready --timeout=5s",
        "wait -f %gadgets-three.yaml -l app=web --for=condition=Ready --timeout=5s",
        "wait gadget beta gamma --for=condition=Ready",
        "wait gadget beta --for=jsonpath={.spec.colour}=red",
        "wait gadget nobody --for=delete --timeout=5s",
        "wait crd/gadgets.tests.invalid --for=condition=Established",
    ] {
        if line.contains("-f ") {
            continue;
        }
        s.ok(line).await?;
    }
    for line in [
        "wait gadget nobody --for=condition=Ready --timeout=1s",
        "wait gadgets -l app=nothing --for=condition=Ready --timeout=1s",
        "wait gadgets --all --for=condition=Ready=False --timeout=1s",
        "wait gadget beta --for=delete --timeout=1s",
        "wait gadget beta --for=whatever",
        "wait gadget beta --for=jsonpath={.spec --timeout=1s",
        "wait gadget beta",
    ] {
        s.fails(line).await?;
    }
    Ok(())
}

/// An object that does not exist yet.
pub async fn appearing(s: &mut Session<'_>) -> Result<()> {
    // `--for=create`, and a path without a value, are of release 1.31.
    if s.kubectl.minor < 31 {
        s.fails("wait gadget/alpha --for=create --timeout=1s").await?;
        return Ok(());
    }
    s.fails("wait gadget/alpha --for=create --timeout=1s").await?;
    s.ok("create -f %gadgets-three.yaml").await?;
    s.ok("wait gadget/alpha --for=create --timeout=60s").await?;
    s.fails("wait gadget/alpha --for=jsonpath={.status.phase} --timeout=1s").await?;
    s.ok("wait gadget/alpha --for=jsonpath={.spec.size} --timeout=5s").await?;
    s.ok("wait gadgets --all --for=create --timeout=5s").await?;
    Ok(())
}
