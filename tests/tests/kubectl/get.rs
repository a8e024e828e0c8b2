// SPDX-License-Identifier: Apache-2.0
//! `kubectl get`: every form of output, every way to choose.

use anyhow::Result;
use serde_json::json;

use crate::session::Session;

/// Three gadgets, of which one is ready, and a ConfigMap and a Secret.
async fn stock(s: &mut Session<'_>) -> Result<()> {
    s.ok("create -f %gadgets-three.yaml").await?;
    let ready = r#"{"status":{"phase":"Up","conditions":[{"type":"Ready","status":"True"}]}}"#;
    s.ok(&format!("patch gadget beta --subresource=status --type=merge -p '{ready}'")).await?;
    s.ok("create configmap settings --from-literal=a=1 --from-literal=b=2").await?;
    s.ok("create secret generic login --from-literal=user=admin --from-literal=password=x").await?;
    Ok(())
}

/// Tables and whole objects.
pub async fn printing(s: &mut Session<'_>) -> Result<()> {
    s.says("get gadgets", "No resources found in").await?;
    stock(s).await?;
    s.says("get gadgets", "alpha").await?;
    for line in [
        "get gadget alpha",
        "get gd -o wide",
        "get gadgets.tests.invalid",
        "get gadgets.v1.tests.invalid",
        "get gadgets --no-headers",
        "get gadgets --show-labels",
        "get gadgets --show-kind",
        "get gadgets -L app,tier",
        "get gadgets -o wide -L tier --show-labels",
        "get gadgets --sort-by=.spec.count",
        "get gadgets --sort-by=.spec.size -o name",
        "get gadgets --sort-by={.metadata.labels.app}",
        "get gadgets beta gamma",
        "get gadget/alpha configmap/settings",
        "get gadgets,configmaps,secrets",
        "get gadgets,secrets -o name",
        "get tests",
        "get tests -o name",
        "get gadget beta -o name",
        "get gadget beta -o yaml",
        "get gadget beta -o json",
        "get gadget beta -o yaml --show-managed-fields",
        "get gadgets -o yaml",
        "get gadgets -o json",
        "get gadgets,configmaps -o json",
        "get gadget beta --subresource=status",
        "get gadget beta --subresource=status -o yaml",
        "get gadget beta --subresource=scale -o yaml",
        "get gadget beta --subresource=scale",
        "get configmaps",
        "get configmap settings -o yaml",
        "get configmap settings -o yaml --show-managed-fields",
        "get configmaps -o wide",
        "get secrets",
        "get secret login -o yaml",
        "get secret login -o json --show-managed-fields",
        "get secrets -o wide",
        "get serviceaccounts",
        "get leases",
        "get events",
        "get -f %gadgets-three.yaml",
        "get -f %gadgets-three.yaml -o name",
        "get gadgets --server-print=false",
    ] {
        s.ok(line).await?;
    }
    s.ok(&format!("get namespace {}", s.namespace.clone())).await?;
    s.ok(&format!("get ns {} -o yaml", s.namespace.clone())).await?;
    s.ok(&format!("get ns {} -o wide --show-labels", s.namespace.clone())).await?;
    s.ok("get crd gadgets.tests.invalid").await?;
    s.ok("get crd gadgets.tests.invalid -o yaml").await?;
    s.ok("get crd gadgets.tests.invalid hardware.tinkerbell.org -o wide --show-labels").await?;
    Ok(())
}

/// JSONPath, Go templates and columns.
pub async fn templates(s: &mut Session<'_>) -> Result<()> {
    stock(s).await?;
    s.file("path.txt", "{range .items[*]}{.metadata.name}={.spec.count}{\"\\n\"}{end}")?;
    s.file("columns.txt", "NAME COUNT\n.metadata.name .spec.count\n")?;
    s.file("template.txt", "{{range .items}}{{.metadata.name}} {{len .spec}}{{\"\\n\"}}{{end}}")?;
    for line in [
        "get gadgets -o jsonpath={.items[*].metadata.name}",
        "get gadgets -o 'jsonpath={.items[?(@.spec.count>10)].metadata.name}'",
        "get gadget alpha -o 'jsonpath={.spec.parts[?(@.name==\"lid\")].weight}'",
        "get gadget alpha -o jsonpath={.spec}",
        "get gadget alpha -o jsonpath-as-json={.spec.parts}",
        "get gadgets -o jsonpath-file=@path.txt",
        "get gadget alpha -o jsonpath={.spec.nothing}",
        "get gadgets -o custom-columns=NAME:.metadata.name,PARTS:.spec.parts[*].name,NONE:.x.y",
        "get gadgets -o custom-columns-file=@columns.txt",
        "get gadgets --no-headers -o custom-columns=:.metadata.name",
        "get gadgets -o go-template={{range.items}}{{.metadata.name}},{{end}}",
        "get gadgets -o go-template-file=@template.txt",
        "get secret login -o go-template={{.data.user|base64decode}}",
        "get gadgets --sort-by=.metadata.name -o custom-columns=N:metadata.name,L:metadata.labels",
    ] {
        s.ok(line).await?;
    }
    for line in [
        "get gadgets -o jsonpath={.items[",
        "get gadget alpha -o jsonpath={.spec.nothing} --allow-missing-template-keys=false",
        "get gadgets -o custom-columns=NAME",
        "get gadgets -o purple",
    ] {
        s.fails(line).await?;
    }
    Ok(())
}

/// Labels, fields, namespaces and names.
pub async fn selecting(s: &mut Session<'_>) -> Result<()> {
    stock(s).await?;
    for selector in [
        "app=web",
        "app==web,tier!=back",
        "'app in (web,db),tier notin (back)'",
        "app",
        "'!tier'",
        "'tier,app=web'",
        "'app notin (web)'",
        "app=nothing",
        "'app in (web'",
        "app=web=db",
        "-app",
        "'app=a b'",
    ] {
        let code = i32::from(matches!(selector, "'app in (web'" | "app=web=db" | "-app" | "'app=a b'"));
        s.run(&format!("get gadgets -l {selector} -o name"), None, code).await?;
    }
    for (selector, code) in [
        ("metadata.name=beta", 0),
        ("metadata.name!=beta", 0),
        ("spec.colour=red", 0),
        ("spec.colour=red,spec.size=small", 0),
        ("spec.colour!=red", 0),
        ("metadata.namespace=elsewhere", 0),
        ("spec.count=4", 1),
        ("spec.colour>red", 1),
        ("spec.colour", 1),
        ("status.phase=Up", 1),
    ] {
        s.run(&format!("get gadgets --field-selector={selector} -o name"), None, code).await?;
    }
    for line in [
        "get secrets --field-selector=type=Opaque",
        "get secrets --field-selector=type!=Opaque",
        "get gadgets -l app=web --field-selector=spec.colour=red",
        "get gadget nobody --ignore-not-found",
        "get gadgets,configmaps -l app=web",
        "get gadgets --all-namespaces --field-selector=metadata.name=nobody-at-all",
    ] {
        s.ok(line).await?;
    }
    let namespace = s.namespace.clone();
    s.ok(&format!("get gadgets -A --field-selector=metadata.namespace={namespace}")).await?;
    s.ok(&format!("get gadgets,secrets -A --field-selector=metadata.namespace={namespace} -o name")).await?;
    s.ok(&format!("get gadgets -A --field-selector=metadata.namespace={namespace} -o wide --show-labels"))
        .await?;
    s.ok(&format!("get gadgets -n {namespace} -o name")).await?;
    s.ok("get gadgets -n nowhere-at-all").await?;
    s.ok(&format!("get namespaces --field-selector=metadata.name={namespace},status.phase=Active")).await?;
    s.ok(&format!("get namespaces -l kubernetes.io/metadata.name={namespace} -o name")).await?;
    for line in [
        "get gadgets alpha -l app=web",
        "get gadgets alpha --field-selector=metadata.name=alpha",
        "get gadgets alpha -A",
        "get gadgets alpha nobody",
        "get",
        "get gadget,configmap alpha",
    ] {
        s.fails(line).await?;
    }
    Ok(())
}

/// A collection that comes in pieces.
pub async fn chunks(s: &mut Session<'_>) -> Result<()> {
    let items: Vec<_> = (0..230)
        .map(|number| {
            let spec = json!({"count": number, "size": if number % 2 == 0 { "small" } else { "large" }});
            let metadata =
                json!({"name": format!("g{number:03}"), "labels": {"odd": (number % 2).to_string()}});
            json!({"apiVersion": "tests.invalid/v1", "kind": "Gadget", "metadata": metadata, "spec": spec})
        })
        .collect();
    s.file("many.json", &json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string())?;
    s.ok("create -f @many.json").await?;
    for size in ["500", "0", "100", "50", "1000", "7"] {
        s.ok(&format!("get gadgets --chunk-size={size} -o name")).await?;
    }
    for line in [
        "get gadgets --chunk-size=50",
        "get gadgets --chunk-size=50 -l odd=1 -o name",
        "get gadgets --chunk-size=40 --field-selector=spec.size=small -o name",
        "get gadgets --chunk-size=100 --sort-by=.spec.count -o name",
        "get gadgets --chunk-size=90 -o jsonpath={.items[*].spec.count}",
    ] {
        s.ok(line).await?;
    }
    s.ok("delete gadgets --all --wait=false").await?;
    s.ok("get gadgets").await?;
    Ok(())
}

/// Paths as they are.
pub async fn raw(s: &mut Session<'_>) -> Result<()> {
    stock(s).await?;
    let namespace = s.namespace.clone();
    let gadgets = format!("/apis/tests.invalid/v1/namespaces/{namespace}/gadgets");
    for path in [
        "/healthz",
        "/readyz",
        "/livez",
        "/apis/tests.invalid/v1",
        "/apis/tests.invalid",
        "/apis/events.k8s.io/v1",
    ] {
        s.ok(&format!("get --raw={path}")).await?;
    }
    s.ok(&format!("get --raw={gadgets}/alpha")).await?;
    s.ok(&format!("get --raw={gadgets}/alpha/status")).await?;
    s.ok(&format!("get --raw={gadgets}/alpha/scale")).await?;
    s.ok(&format!("get --raw='{gadgets}?labelSelector=app%3Dweb'")).await?;
    s.ok(&format!("get --raw=/api/v1/namespaces/{namespace}/configmaps/settings")).await?;
    s.fails(&format!("get --raw={gadgets}/nobody")).await?;
    s.fails(&format!("get --raw={gadgets}/alpha/nothing")).await?;
    s.fails("get --raw=/nothing/here").await?;
    s.fails("get --raw=/apis/nothing.invalid/v1").await?;
    s.fails("get --raw=/apis/tests.invalid/v1/nothing").await?;
    let body =
        json!({"apiVersion": "tests.invalid/v1", "kind": "Gadget", "metadata": {"name": "raw"}, "spec": {}});
    s.file("raw.json", &body.to_string())?;
    s.ok(&format!("create --raw={gadgets} -f @raw.json")).await?;
    // It does not say which version it replaces.
    s.fails(&format!("replace --raw={gadgets}/raw -f @raw.json")).await?;
    s.fails(&format!("replace --raw={gadgets}/nobody -f @raw.json")).await?;
    s.ok(&format!("delete --raw={gadgets}/raw")).await?;
    s.fails(&format!("delete --raw={gadgets}/raw")).await?;
    Ok(())
}
