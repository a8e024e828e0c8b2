// SPDX-License-Identifier: Apache-2.0
//! What is there, what it looks like and who may do what: explain, api-resources, api-versions, auth, version, config, and
//! the definitions themselves.

use anyhow::Result;

use crate::session::Session;

/// The folder of our definitions.
const CRDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/crds");

/// Installs the definitions as an operator does. Runs first; the others rely on it.
pub async fn installing(s: &mut Session<'_>) -> Result<()> {
    s.ok(&format!("apply --server-side -f {CRDS}")).await?;
    s.ok("create -f %gadgets.yaml").await?;
    s.ok("wait crd --all --for=condition=Established --timeout=60s").await?;
    s.ok(&format!("apply --server-side -f {CRDS}")).await?;
    s.ok(&format!("diff --server-side -f {CRDS}")).await?;
    // Kubernetes tells of new kinds a moment after they are served. What it tells is seen by `explaining`.
    for group in ["tests.invalid/v1", "tinkerbell.org/v1alpha1", "bmc.tinkerbell.org/v1alpha1"] {
        let document = format!("get --raw=/openapi/v3/apis/{group}");
        s.apart("documents are as long as there are kinds").until(&document, "openapi").await?;
    }
    s.until("api-resources --api-group=tests.invalid -o name", "gadgets.tests.invalid").await?;
    let document = "get --raw=/openapi/v2";
    s.apart("documents are as long as there are kinds").until(document, "invalid.tests.v1.Gadget").await?;
    Ok(())
}

/// Fields of kinds.
pub async fn explaining(s: &mut Session<'_>) -> Result<()> {
    for line in [
        "explain gadgets.spec",
        "explain gadget.spec.parts",
        "explain gadget.spec.parts.name",
        "explain gadget.spec.size",
        "explain gadget.spec.owner --recursive",
        "explain gadget.spec.port",
        "explain gadget.spec.extra",
        "explain gadget.status.conditions",
        "explain gadgets --recursive",
        "explain gadgets --api-version=tests.invalid/v1 --recursive",
        "explain gadgets.spec --output=plaintext-openapiv2",
        "explain gadgets --recursive --output=plaintext-openapiv2",
        "explain gadget.metadata.labels",
        "explain gadget.metadata.ownerReferences",
        "explain hardware.spec.interfaces.dhcp",
        "explain hardware.spec --recursive",
        "explain workflow.status.tasks.actions",
        "explain jobs.bmc.tinkerbell.org.spec.tasks",
        "explain machine.spec.connection",
        "explain configmap",
        "explain configmaps.data",
        "explain secret --recursive",
        "explain secret",
        "explain namespaces.spec",
        "explain serviceaccount.secrets",
        "explain lease.spec",
        "explain events",
        "explain events --api-version=events.k8s.io/v1",
        "explain crd.spec.names",
        "explain crd --recursive",
        "explain configmap --output=plaintext-openapiv2",
        "explain lease --output=plaintext-openapiv2 --recursive",
    ] {
        s.ok(line).await?;
    }
    // Our words for what every object has are our own.
    s.apart("its words for common fields are its own")
        .says("explain gadgets", "A gadget of the tests.")
        .await?;
    for line in [
        "explain gadget.spec.nothing",
        "explain nothing",
        "explain gadget.spec.size.more",
        "explain gadgets --api-version=tests.invalid/v9",
        "explain",
        "explain gadget.spec --output=purple",
    ] {
        s.fails(line).await?;
    }
    Ok(())
}

/// Kinds and versions.
pub async fn resources(s: &mut Session<'_>) -> Result<()> {
    for line in [
        "api-resources",
        "api-resources -o wide",
        "api-resources -o name",
        "api-resources --namespaced=true",
        "api-resources --namespaced=false",
        "api-resources --verbs=list,watch,deletecollection",
        "api-resources --categories=tinkerbell",
        "api-resources --sort-by=kind",
        "api-resources --no-headers --api-group=''",
        "api-versions",
    ] {
        s.within("it has more kinds").ok(line).await?;
    }
    for line in [
        "api-resources --api-group=tinkerbell.org",
        "api-resources --api-group=bmc.tinkerbell.org -o wide",
        "api-resources --api-group=tests.invalid -o wide",
        "api-resources --api-group=events.k8s.io -o wide",
        "api-resources --api-group=coordination.k8s.io -o wide",
        "api-resources --api-group=apiextensions.k8s.io -o wide",
        "api-resources --api-group=authentication.k8s.io -o wide",
        "api-resources --api-group=authorization.k8s.io -o wide",
        "api-resources --categories=tests -o wide",
        "api-resources --api-group=nothing.invalid",
        "api-resources --cached --api-group=tests.invalid",
        "get --raw=/apis/coordination.k8s.io",
        "get --raw=/apis/coordination.k8s.io/v1",
        "get --raw=/apis/apiextensions.k8s.io/v1",
        "get --raw=/apis/tests.invalid/v1",
    ] {
        s.ok(line).await?;
    }
    s.apart("releases differ").says("version", "v1.34").await?;
    s.apart("releases differ").says("version -o json", "\"serverVersion\"").await?;
    s.apart("releases differ").says("version -o yaml", "minor: \"34\"").await?;
    s.fails("api-resources --sort-by=size").await?;
    Ok(())
}

/// Who one is, and what one may do.
pub async fn permissions(s: &mut Session<'_>) -> Result<()> {
    for line in [
        "auth can-i create gadgets",
        "auth can-i get hardware/alpha",
        "auth can-i update gadgets --subresource=status",
        "auth can-i '*' '*'",
        "auth can-i list secrets -A",
        "auth can-i get /healthz",
        "auth can-i --list",
        "auth can-i --list --namespace=kube-system",
        "auth can-i create nothings",
        "auth can-i frobnicate gadgets",
        "auth can-i create gadgets --quiet",
    ] {
        s.ok(line).await?;
    }
    let nobody = "--as=system:serviceaccount:default:nobody";
    for line in ["auth can-i create gadgets", "auth can-i get secrets/a", "get gadgets", "create configmap a"]
    {
        s.fails(&format!("{line} {nobody}")).await?;
    }
    s.ok(&format!("auth can-i get /version {nobody}")).await?;
    s.fails("auth can-i").await?;
    if s.kubectl.minor >= 28 {
        s.apart("administrators have names of their own").says("auth whoami", "system:masters").await?;
        s.apart("administrators have names of their own")
            .says("auth whoami -o yaml", "system:authenticated")
            .await?;
    }
    s.apart("kubeconfigs have names of their own").says("config view", "token: REDACTED").await?;
    s.apart("kubeconfigs have names of their own").says("config view --minify --raw", "token: ").await?;
    s.apart("kubeconfigs have names of their own").ok("config current-context").await?;
    s.apart("kubeconfigs have names of their own").ok("config get-contexts").await?;
    s.ok("config view --minify -o jsonpath={.contexts[0].context.namespace}").await?;
    s.ok("config view -o jsonpath={.clusters[0].cluster.server}").await?;
    s.fails("get gadgets --token=wrong").await?;
    s.fails("auth can-i create gadgets --token=wrong").await?;
    Ok(())
}

const WIDGETS: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: widgets.LABEL.invalid }
spec:
  group: LABEL.invalid
  scope: Cluster
  names: { kind: Widget, plural: widgets, singular: widget, shortNames: [wd] }
  versions:
    - name: v1
      served: true
      storage: true
      schema: { openAPIV3Schema: { type: object, properties: { spec: { type: object, properties: { a: { type: string } } } } } }
";

/// A definition from its creation to its end.
pub async fn definitions(s: &mut Session<'_>) -> Result<()> {
    let widgets = WIDGETS.replace("LABEL", s.kubectl.label);
    s.file("widgets.yaml", &widgets)?;
    let crd = format!("crd/widgets.{}.invalid", s.kubectl.label);
    s.ok("apply -f @widgets.yaml").await?;
    s.ok(&format!("wait {crd} --for=condition=Established --timeout=60s")).await?;
    // A definition is served, and served no more, a moment after it says so.
    s.until("get widgets", "No resources found").await?;
    let widget = format!(
        "{{apiVersion: {}.invalid/v1, kind: Widget, metadata: {{name: one}}, spec: {{a: b}}}}",
        s.kubectl.label
    );
    s.piped("create -f -", &widget).await?;
    s.ok("get widgets,wd").await?;
    s.ok("get wd one -o yaml").await?;
    s.ok(&format!("get {crd} -o yaml --show-managed-fields")).await?;
    s.ok("apply -f @widgets.yaml").await?;
    s.file(
        "widgets.yaml",
        &widgets.replace("a: { type: string }", "a: { type: string, maxLength: 3 }, b: { type: string }"),
    )?;
    s.ok("apply -f @widgets.yaml").await?;
    s.ok("get wd one -o yaml").await?;
    let broken = |what: &str, with: &str| {
        let broken = widgets.replace(what, with).replace("widgets.", "broken.");
        broken.replace("plural: widgets", "plural: broken")
    };
    // Odd, and allowed.
    s.piped("create -f -", &broken("kind: Widget", "kind: widget")).await?;
    s.ok(&format!("delete crd/broken.{}.invalid", s.kubectl.label)).await?;
    for (what, with) in [
        ("scope: Cluster", "scope: Galaxy"),
        ("storage: true", "storage: false"),
        ("plural: widgets", "plural: Widgets"),
        ("type: object, properties: { spec", "type: objekt, properties: { spec"),
        ("name: v1", "name: 1v"),
    ] {
        s.piped_fails("create -f -", &broken(what, with)).await?;
    }
    s.ok(&format!("delete {crd}")).await?;
    s.until("get widgets", "(NotFound)").await?;
    s.piped_fails("create -f -", &widget).await?;
    Ok(())
}
