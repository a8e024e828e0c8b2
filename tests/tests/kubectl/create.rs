// SPDX-License-Identifier: Apache-2.0
//! `kubectl create`.

use anyhow::Result;

use crate::session::Session;

/// What can be created without a manifest.
pub async fn subcommands(s: &mut Session<'_>) -> Result<()> {
    s.file("settings/one", "first\n")?;
    s.file("settings/two", "second\nline\n")?;
    s.file("env", "A=1\n# no\nB=two words\n")?;
    s.file("binary", "\u{0}\u{1}")?;
    let certified = rcgen::generate_simple_self_signed(["tests.invalid".to_owned()])?;
    s.file("tls.crt", &certified.cert.pem())?;
    s.file("tls.key", &certified.signing_key.serialize_pem())?;
    for line in [
        "create configmap literals --from-literal=a=1 --from-literal=b=x=y",
        "create configmap files --from-file=@settings",
        "create configmap named --from-file=key=@env",
        "create configmap env --from-env-file=@env",
        "create cm binary --from-file=@binary",
        "create cm hashed --from-literal=a=1 --append-hash",
        "create secret generic plain --from-literal=user=admin --type=tests.invalid/login",
        "create secret generic files --from-file=@settings",
        "create secret docker-registry registry --docker-server=r.invalid --docker-username=u --docker-password=p",
        "create secret tls tls --cert=@tls.crt --key=@tls.key",
        "create serviceaccount robot",
        "create sa robot2 -o yaml",
        "create configmap shown --from-literal=a=1 -o json",
        "create configmap shown2 --from-literal=a=1 -o name",
        "create configmap quiet --from-literal=a=1 --save-config",
        "get configmaps,secrets,serviceaccounts --field-selector=metadata.name!=default",
        "get configmap files binary env quiet -o yaml",
        "get secret registry -o yaml",
        "get serviceaccount robot -o yaml",
        "describe serviceaccount robot",
    ] {
        s.ok(line).await?;
    }
    let other = format!("{}-more", s.namespace);
    s.ok(&format!("create namespace {other}")).await?;
    s.ok(&format!("create ns {other}2 -o yaml")).await?;
    s.ok(&format!("delete namespace {other} {other}2 --wait=false")).await?;
    for line in [
        "create configmap literals --from-literal=a=1",
        "create secret generic plain",
        "create serviceaccount robot",
        "create serviceaccount Robot",
        "create configmap a/b",
        "create configmap Bad_Name --from-literal=a=1",
        "create configmap key --from-literal='a b=1'",
        "create namespace Bad",
        "create namespace kube-system",
        "create namespace a.b",
        "create secret tls broken --cert=@env --key=@env",
        "create configmap nofile --from-file=@missing",
    ] {
        s.fails(line).await?;
    }
    s.apart("a token is a secret of its server").ok("create token robot").await?;
    s.apart("a token is a secret of its server")
        .ok("create token robot --duration=1h --audience=tests")
        .await?;
    s.fails("create token nobody").await?;
    Ok(())
}

const GADGET: &str = r#"
apiVersion: tests.invalid/v1
kind: Gadget
metadata: { name: strict }
spec: { size: small, sise: large, parts: [{ name: a, wait: 3 }], extra: { any: thing } }
"#;

/// Unknown and repeated fields.
pub async fn validation(s: &mut Session<'_>) -> Result<()> {
    s.file("unknown.yaml", GADGET)?;
    s.file("doubled.yaml", &GADGET.replace("size: small, sise: large", "size: small, size: large"))?;
    s.file(
        "settings.yaml",
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: settings, lable: x}, dada: {}}",
    )?;
    for name in ["unknown", "doubled", "settings"] {
        for mode in ["strict", "true", "warn", "ignore", "false"] {
            let code = i32::from(matches!(mode, "strict" | "true"));
            s.run(&format!("create --validate={mode} -f @{name}.yaml"), None, code).await?;
            if code == 0 {
                s.ok("get gadgets,configmaps -o yaml").await?;
                s.ok("delete gadgets,configmaps --all").await?;
            }
        }
        s.fails(&format!("create -f @{name}.yaml")).await?;
        s.fails(&format!("apply -f @{name}.yaml")).await?;
        // Kubernetes tells of several fields in no fixed order.
        let complaint =
            s.apart("the order is random").fails(&format!("apply --server-side -f @{name}.yaml")).await?;
        let text = "failed to create typed patch object";
        s.must(complaint.contains(text), || format!("does not complain of {text}"));
    }
    let one = GADGET.replace("sise: large, ", "");
    for flags in ["", "--validate=warn", "--validate=ignore"] {
        s.piped_fails(&format!("apply --server-side {flags} -f -"), &one).await?;
    }
    for line in ["create --validate=strict -f @unknown.yaml", "create --dry-run=server -f @unknown.yaml"] {
        s.complains(
            line,
            "strict decoding error: unknown field \"spec.parts[0].wait\", unknown field \"spec.sise\"",
        )
        .await?;
    }
    s.ok("create --dry-run=client -f @unknown.yaml --validate=ignore -o yaml").await?;
    Ok(())
}

/// What is only tried.
pub async fn dry_run(s: &mut Session<'_>) -> Result<()> {
    for mode in ["client", "server"] {
        for line in [
            "create configmap settings --from-literal=a=1",
            "create configmap settings --from-literal=a=1 -o yaml",
            "create secret generic login --from-literal=a=1 -o json",
            "create serviceaccount robot -o yaml",
            "create namespace only-tried -o yaml",
            "create -f %gadgets-three.yaml",
            "create -f %gadgets-three.yaml -o yaml",
            "create -f %gadgets-three.yaml -o name",
            "apply -f %gadgets-three.yaml",
            "apply -f %gadgets-three.yaml -o yaml",
        ] {
            s.ok(&format!("{line} --dry-run={mode}")).await?;
        }
        s.ok("get gadgets,configmaps,secrets").await?;
    }
    s.ok("create -f %gadgets-three.yaml").await?;
    for mode in ["client", "server"] {
        for line in [
            "apply -f %gadgets-three.yaml",
            "label gadget alpha new=label",
            "annotate gadget alpha new=note -o yaml",
            "patch gadget alpha --type=merge -p '{\"spec\":{\"count\":77}}' -o jsonpath={.spec}",
            "delete gadget alpha",
            "delete gadgets --all",
            "scale gadget alpha --replicas=3",
            "replace -f %gadgets-three.yaml",
        ] {
            s.ok(&format!("{line} --dry-run={mode}")).await?;
        }
    }
    s.ok("apply --server-side --dry-run=server -f %gadgets-three.yaml --force-conflicts").await?;
    s.ok("get gadgets -o yaml --show-managed-fields").await?;
    s.fails("create -f %gadgets-three.yaml --dry-run=server").await?;
    s.fails("create -f %gadgets-three.yaml --dry-run=perhaps").await?;
    let bad = "{apiVersion: tests.invalid/v1, kind: Gadget, metadata: {name: bad}, spec: {size: huge}}";
    s.piped("create --dry-run=client -f -", bad).await?;
    s.piped_fails("create --dry-run=server -f -", bad).await?;
    let generated = "{apiVersion: tests.invalid/v1, kind: Gadget, metadata: {generateName: made-}, spec: {}}";
    let named = s.apart("its name is random").piped("create -f - -o name", generated).await?;
    s.must(named.starts_with("gadget.tests.invalid/made-"), || format!("made {named}"));
    Ok(())
}
