// SPDX-License-Identifier: Apache-2.0
//! `kubectl get --watch` seen through changes.

use anyhow::Result;

use crate::session::Session;

/// A collection, while an object comes, changes, leaves the selection and goes.
pub async fn watching(s: &mut Session<'_>) -> Result<()> {
    s.ok("create -f %gadgets-three.yaml").await?;
    for flags in [
        "",
        "--output-watch-events",
        "--watch-only -o name",
        "--watch-only --output-watch-events -o wide",
        "-l app=web --output-watch-events",
        "--field-selector=spec.colour=red --output-watch-events -o wide",
        "-o custom-columns=N:.metadata.name,C:.spec.count",
        "-o 'jsonpath={.metadata.name}={.spec.count}{\"\\n\"}' --watch-only",
    ] {
        changes(s, flags).await?;
    }
    Ok(())
}

async fn changes(s: &mut Session<'_>, flags: &str) -> Result<()> {
    let mut running = s.begin(&format!("get gadgets --watch {flags}")).await?;
    let made = r#"{"apiVersion":"tests.invalid/v1","kind":"Gadget","metadata":{"name":"delta","labels":{"app":"web"}},"spec":{"colour":"red","count":1}}"#;
    s.piped("create -f -", made).await?;
    s.ok("patch gadget delta --type=merge -p '{\"spec\":{\"count\":2}}'").await?;
    s.ok("patch gadget delta --type=merge -p '{\"spec\":{\"colour\":\"blue\"}}'").await?;
    s.ok("label gadget delta app=db --overwrite").await?;
    s.ok("label gadget delta app=web --overwrite").await?;
    s.ok("patch gadget delta --type=merge -p '{\"spec\":{\"colour\":\"red\"}}'").await?;
    s.ok("delete gadget delta").await?;
    s.piped("create -f -", &made.replace("delta", "final")).await?;
    running.until("final").await?;
    running.stop(s).await?;
    s.ok("delete gadget final").await?;
    Ok(())
}

/// One object, and several outputs of it.
pub async fn watching_one(s: &mut Session<'_>) -> Result<()> {
    s.ok("create -f %gadgets-three.yaml").await?;
    for flags in
        ["", "-o yaml", "-o json --output-watch-events", "-o wide --output-watch-events", "--show-labels"]
    {
        let mut running = s.begin(&format!("get gadget alpha --watch {flags}")).await?;
        s.ok("patch gadget beta --type=merge -p '{\"spec\":{\"count\":5}}'").await?;
        s.ok("label gadget alpha seen=first").await?;
        s.ok("label gadget alpha seen=second --overwrite").await?;
        s.ok("annotate gadget alpha tests.invalid/last=yes").await?;
        s.ok("patch gadget alpha --type=merge -p '{\"spec\":{\"size\":\"medium\"}}'").await?;
        running.until("medium").await?;
        running.stop(s).await?;
        s.ok("label gadget alpha seen-").await?;
        s.ok("annotate gadget alpha tests.invalid/last-").await?;
        s.ok("patch gadget alpha --type=merge -p '{\"spec\":{\"size\":\"large\"}}'").await?;
    }
    Ok(())
}
