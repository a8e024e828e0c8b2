// SPDX-License-Identifier: Apache-2.0
//! `kubectl edit` with a script for an editor, and `kubectl diff`.

use anyhow::Result;

use crate::session::Session;

/// Saved, left alone, wrong and put right.
pub async fn editing(s: &mut Session<'_>) -> Result<()> {
    s.ok("create -f %gadgets-three.yaml").await?;
    s.ok("create configmap settings --from-literal=a=1").await?;
    s.editor("sed -i 's/count: 30/count: 31/; s/a: one/a: two/' \"$1\"")?;
    s.says("edit gadget alpha", "edited").await?;
    s.ok("get gadget alpha -o yaml --show-managed-fields").await?;
    s.editor("true")?;
    s.says("edit gadget alpha", "no changes made").await?;
    s.editor("sed -i 's/a: \"1\"/a: \"2\"/' \"$1\"")?;
    s.ok("edit configmap settings").await?;
    s.ok("edit configmap/settings -o json").await?;
    s.editor("sed -i 's/\"a\": \"2\"/\"a\": \"3\"/' \"$1\"")?;
    s.ok("edit configmap/settings -o json").await?;
    s.ok("get configmap settings -o yaml").await?;
    // The second time it is opened, the complaint stands in it as a comment, and the editor puts it right.
    s.editor("cp \"$1\" opened-$(ls opened-* 2>/dev/null | wc -l).yaml; if grep -q 'huge' \"$1\"; then sed -i 's/huge/medium/' \"$1\"; else sed -i 's/size: large/size: huge/' \"$1\"; fi")?;
    s.ok("edit gadget alpha").await?;
    let opened = std::fs::read_to_string(s.path("opened-1.yaml"))?;
    let complaint: Vec<&str> = opened.lines().filter(|line| line.starts_with("# *")).collect();
    s.must(complaint.iter().any(|line| line.contains("spec.size: Unsupported value: \"huge\"")), || {
        format!("opens {opened}")
    });
    s.ok("get gadget alpha -o jsonpath={.spec.size}").await?;
    // One that stays wrong is kept for the user.
    s.editor("sed -i 's/size: medium/size: huge/' \"$1\"")?;
    s.fails("edit gadget alpha").await?;
    s.editor("sed -i 's/name: alpha/name: omega/' \"$1\"")?;
    s.fails("edit gadget alpha").await?;
    s.editor("sed -i 's/^spec:$/spec: [/' \"$1\"")?;
    s.fails("edit gadget alpha").await?;
    s.editor("sed -i 's/colour: red/colour: blue/' \"$1\"")?;
    s.ok("edit gadget beta gamma").await?;
    s.editor("sed -i 's/colour: blue/colour: green/' \"$1\"")?;
    s.ok("edit gadgets --output-patch").await?;
    s.editor("sed -i 's/^  count:/  phase: Down\\n  count:/' \"$1\"; sed -i 's/^  phase/  unknown/' \"$1\"")?;
    s.fails("edit gadget beta").await?;
    s.editor("echo 'status: { phase: Edited }' >> \"$1\"")?;
    s.ok("edit gadget beta --subresource=status").await?;
    s.ok("get gadgets -o yaml --show-managed-fields").await?;
    s.fails("edit gadget nobody").await?;
    s.editor("false")?;
    s.fails("edit gadget alpha").await?;
    Ok(())
}

/// What would change.
pub async fn diffing(s: &mut Session<'_>) -> Result<()> {
    s.run("diff -f %gadgets-three.yaml", None, 1).await?;
    s.ok("apply -f %gadgets-three.yaml").await?;
    s.run("diff -f %gadgets-three.yaml", None, 0).await?;
    let changed = include_str!("data/gadgets-three.yaml")
        .replace("count: 4", "count: 5")
        .replace("weight: 200", "weight: 201");
    s.file("changed.yaml", &changed)?;
    for flags in
        ["", "--server-side", "--server-side --force-conflicts", "-l app=db", "--show-managed-fields"]
    {
        let code = i32::from(flags != "-l app=db");
        s.run(&format!("diff {flags} -f @changed.yaml"), None, code).await?;
    }
    s.ok("apply --server-side --force-conflicts -f @changed.yaml").await?;
    s.run("diff --server-side -f @changed.yaml", None, 0).await?;
    s.run("diff --server-side --field-manager=other -f %gadgets-three.yaml", None, 2).await?;
    s.file("prune.yaml", changed.split("---").next().unwrap_or_default())?;
    s.run("diff --prune -l app=web --prune-allowlist=tests.invalid/v1/Gadget -f @prune.yaml", None, 1)
        .await?;
    s.file("bad.yaml", &changed.replace("size: small", "size: huge"))?;
    s.run("diff -f @bad.yaml", None, 2).await?;
    s.file("unknown.yaml", &changed.replace("size: small", "sise: huge"))?;
    s.run("diff -f @unknown.yaml", None, 1).await?;
    s.run("diff -f @missing.yaml", None, 2).await?;
    let secret = "{apiVersion: v1, kind: Secret, metadata: {name: login}, stringData: {user: admin}}";
    s.piped("apply -f -", secret).await?;
    s.run("diff -f -", Some(&secret.replace("admin", "root")), 1).await?;
    Ok(())
}
