// SPDX-License-Identifier: Apache-2.0
//! What is refused, in the words that people search the web for.

use anyhow::Result;

use crate::session::Session;

/// Names, kinds and files that are wrong.
pub async fn refusals(s: &mut Session<'_>) -> Result<()> {
    s.ok("create -f %gadgets-three.yaml").await?;
    for (line, text) in [
        ("get gadget nobody", "Error from server (NotFound): gadgets.tests.invalid \"nobody\" not found"),
        ("get configmap nobody", "Error from server (NotFound): configmaps \"nobody\" not found"),
        ("create -f %gadgets-three.yaml", "Error from server (AlreadyExists)"),
        ("get nothings", "the server doesn't have a resource type \"nothings\""),
        ("get gadgets.other.invalid", "the server doesn't have a resource type"),
        ("create configmap settings -n nowhere-at-all", "namespaces \"nowhere-at-all\" not found"),
    ] {
        s.complains(line, text).await?;
    }
    for (name, text) in [
        ("kind", "{apiVersion: tests.invalid/v1, kind: Gizmo, metadata: {name: a}}"),
        ("version", "{apiVersion: tests.invalid/v7, kind: Gadget, metadata: {name: a}}"),
        ("group", "{apiVersion: nothing.invalid/v1, kind: Gadget, metadata: {name: a}}"),
        ("no-kind", "{apiVersion: tests.invalid/v1, metadata: {name: a}}"),
        ("no-version", "{kind: Gadget, metadata: {name: a}}"),
        ("no-name", "{apiVersion: tests.invalid/v1, kind: Gadget, metadata: {}, spec: {}}"),
        ("yaml", "{apiVersion: tests.invalid/v1, kind: ["),
        ("empty", ""),
        (
            "namespace",
            "{apiVersion: tests.invalid/v1, kind: Gadget, metadata: {name: a, namespace: elsewhere}, spec: {}}",
        ),
        ("bad-name", "{apiVersion: tests.invalid/v1, kind: Gadget, metadata: {name: A_b}, spec: {}}"),
        (
            "long-name",
            &format!(
                "{{apiVersion: tests.invalid/v1, kind: Gadget, metadata: {{name: {}}}, spec: {{}}}}",
                "a".repeat(260)
            ),
        ),
        (
            "bad-label",
            "{apiVersion: tests.invalid/v1, kind: Gadget, metadata: {name: a, labels: {a b: c}}, spec: {}}",
        ),
        (
            "bad-value",
            "{apiVersion: tests.invalid/v1, kind: Gadget, metadata: {name: a, labels: {a: '-'}}, spec: {}}",
        ),
        (
            "number-label",
            "{apiVersion: tests.invalid/v1, kind: Gadget, metadata: {name: a, labels: {a: 1}}, spec: {}}",
        ),
        (
            "bad-annotation",
            "{apiVersion: tests.invalid/v1, kind: Gadget, metadata: {name: a, annotations: {a b: c}}, spec: {}}",
        ),
        (
            "bad-owner",
            "{apiVersion: tests.invalid/v1, kind: Gadget, metadata: {name: a, ownerReferences: [{kind: X}]}, spec: {}}",
        ),
    ] {
        s.file(&format!("{name}.yaml"), text)?;
        s.fails(&format!("create -f @{name}.yaml")).await?;
        s.fails(&format!("apply --server-side -f @{name}.yaml")).await.map(drop)?;
    }
    s.apart("the address is its own").fails("get gadgets --server=https://127.0.0.1:1").await?;
    s.fails("get gadgets --context=nothing").await?;
    s.fails("get gadgets --kubeconfig=@missing").await?;
    Ok(())
}

/// Objects that their schema refuses.
pub async fn invalid_objects(s: &mut Session<'_>) -> Result<()> {
    let gadget = |spec: &str| {
        format!("{{apiVersion: tests.invalid/v1, kind: Gadget, metadata: {{name: a}}, spec: {spec}}}")
    };
    for spec in [
        "{size: huge}",
        "{count: -1}",
        "{count: 1.5}",
        "{count: many}",
        "{count: 5, limit: 4}",
        "{colour: Blue}",
        "{colour: aaaaaaaaaaaaaaaaaaaa}",
        "{colour: 5}",
        "{parts: [{weight: 1}]}",
        "{parts: [{name: a}, {name: a}]}",
        "{parts: [{name: a}, {name: b}, {name: c}, {name: d}, {name: e}]}",
        "{parts: {name: a}}",
        "{tags: [a, a]}",
        "{tags: [1]}",
        "{notes: {a: 1}}",
        "{owner: {room: e1}}",
        "{owner: nobody}",
        "{port: 1.5}",
        "{extra: []}",
        "[]",
        "text",
    ] {
        s.piped_fails("create -f -", &gadget(spec)).await.map(drop)?;
    }
    s.piped_fails("create -f -", "{apiVersion: tests.invalid/v1, kind: Gadget, metadata: {name: a}}").await?;
    for map in [
        "{data: {a: 1}}",
        "{data: []}",
        "{data: {a/b: x}}",
        "{data: {a: x}, binaryData: {a: AAE=}}",
        "{binaryData: {a: '!'}}",
        "{immutable: 1}",
    ] {
        let text = map.replacen('{', "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, ", 1);
        s.piped_fails("create -f -", &text).await?;
    }
    for secret in [
        "{type: kubernetes.io/tls, data: {}}",
        "{data: {a: '!'}}",
        "{type: kubernetes.io/basic-auth, data: {}}",
        "{type: kubernetes.io/dockerconfigjson, data: {.dockerconfigjson: eA==}}",
    ] {
        let text = secret.replacen('{', "{apiVersion: v1, kind: Secret, metadata: {name: a}, ", 1);
        s.piped_fails("create -f -", &text).await?;
    }
    for lease in ["{leaseDurationSeconds: 0}", "{leaseTransitions: -1}", "{holderIdentity: 5}"] {
        let text = format!(
            "{{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {{name: a}}, spec: {lease}}}"
        );
        s.piped_fails("create -f -", &text).await?;
    }
    Ok(())
}
