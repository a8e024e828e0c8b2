// SPDX-License-Identifier: Apache-2.0
//! label, annotate, patch, replace and scale.

use anyhow::Result;

use crate::session::Session;

/// Labels and annotations.
pub async fn labels(s: &mut Session<'_>) -> Result<()> {
    s.ok("create -f %gadgets-three.yaml").await?;
    for line in [
        "label gadget alpha new=one",
        "label gadget alpha new=two --overwrite",
        "label gadget alpha new=two --overwrite",
        "label gadget alpha new-",
        "label gadget alpha new-",
        "label gadgets --all fleet=yes",
        "label gadgets -l app=web picked=yes",
        "label gadget alpha beta two=2 three=3",
        "label -f %gadgets-three.yaml from=file",
        "label gadget alpha four=4 -o yaml",
        "label gadget alpha five=5 --field-manager=me",
        "label gadget alpha six=6 --dry-run=server",
        "annotate gadget alpha why=because",
        "annotate gadget alpha why=else --overwrite",
        "annotate gadget alpha why-",
        "annotate gadgets --all tests.invalid/note='two words'",
        "annotate gadget gamma --list",
        "annotate gadget alpha pinned=yes -o jsonpath={.metadata.annotations}",
        "get gadgets --show-labels",
        "get gadgets -o yaml --show-managed-fields",
        "label serviceaccount default app=web",
        "get serviceaccount default --show-labels",
    ] {
        if line.contains("serviceaccount") {
            s.until("get serviceaccounts -o name", "serviceaccount/default").await?;
        }
        s.ok(line).await?;
    }
    s.ok(&format!("label namespace {} app=web", s.namespace.clone())).await?;
    s.ok(&format!("get namespace {} -o yaml --show-managed-fields", s.namespace.clone())).await?;
    s.apart("the order is random").says("label gadget alpha --list", "tier=front").await?;
    for line in [
        "label gadget alpha app=db",
        "annotate gadget beta tests.invalid/why=else",
        "label gadget alpha 'bad key=x'",
        "label gadget alpha key='bad value!'",
        "label gadget alpha a/b/c=x",
        "annotate gadget alpha 'bad key=x'",
        "label gadget nobody a=b",
        "label gadget alpha a=b --resource-version=1",
        "annotate gadget alpha a=b --resource-version=1",
        "label gadget alpha",
        "label gadgets a=b",
    ] {
        s.fails(line).await?;
    }
    Ok(())
}

/// The two forms of patch that custom resources take.
pub async fn patches(s: &mut Session<'_>) -> Result<()> {
    s.ok("create -f %gadgets-three.yaml").await?;
    s.file("patch.yaml", "spec: { count: 8, notes: { b: two } }\n")?;
    for line in [
        "patch gadget alpha --type=merge -p '{\"spec\":{\"count\":5,\"notes\":null}}'",
        "patch gadget alpha --type=merge -p '{\"spec\":{\"count\":5}}'",
        "patch gadget alpha --type=merge --patch-file=@patch.yaml",
        "patch gadget alpha --type=merge -p 'spec: {count: 9}'",
        "patch gadget alpha --type=json -p '[{\"op\":\"replace\",\"path\":\"/spec/count\",\"value\":6}]'",
        "patch gadget alpha --type=json -p '[{\"op\":\"test\",\"path\":\"/spec/count\",\"value\":6},{\"op\":\"add\",\"path\":\"/spec/tags/-\",\"value\":\"q\"},{\"op\":\"remove\",\"path\":\"/spec/parts/0\"}]'",
        "patch gadget alpha --type=json -p '[{\"op\":\"copy\",\"from\":\"/spec/size\",\"path\":\"/spec/colour\"},{\"op\":\"move\",\"from\":\"/spec/notes\",\"path\":\"/metadata/annotations\"}]'",
        "patch -f %gadgets-three.yaml --type=merge -p '{\"metadata\":{\"labels\":{\"from\":\"file\"}}}'",
        "patch gadget alpha --type=merge -p '{\"spec\":{\"count\":7}}' -o yaml",
        "patch gadget alpha --type=merge -p '{\"spec\":{\"count\":7}}' -o name",
        "patch gadget/alpha gadget/beta --type=merge -p '{\"spec\":{\"limit\":70}}'",
        "patch gadget alpha --local --type=merge -f %gadgets-three.yaml -p '{\"spec\":{\"count\":1}}' -o yaml",
        "get gadgets -o yaml --show-managed-fields",
    ] {
        if line.contains("--local") {
            continue;
        }
        s.ok(line).await?;
    }
    for line in [
        "patch gadget alpha -p '{\"spec\":{\"count\":5}}'",
        "patch gadget alpha --type=strategic -p '{\"spec\":{\"count\":5}}'",
        "patch gadget alpha --type=merge -p '{\"spec\":{\"size\":\"huge\"}}'",
        "patch gadget alpha --type=merge -p '{\"spec\":{\"colour\":\"NOT\"}}'",
        "patch gadget alpha --type=merge -p '{\"spec\":{\"count\":71}}'",
        "patch gadget alpha --type=merge -p '{\"metadata\":{\"resourceVersion\":\"1\"}}'",
        "patch gadget alpha --type=merge -p '{\"metadata\":{\"name\":\"omega\"}}'",
        "patch gadget alpha --type=merge -p '{\"kind\":\"Other\"}'",
        "patch gadget alpha --type=merge -p '{\"spec\":null}'",
        "patch gadget alpha --type=merge -p '[1]'",
        "patch gadget alpha --type=merge -p '{'",
        "patch gadget alpha --type=json -p '{\"spec\":{}}'",
        "patch gadget alpha --type=json -p '[{\"op\":\"test\",\"path\":\"/spec/count\",\"value\":99}]'",
        "patch gadget alpha --type=json -p '[{\"op\":\"remove\",\"path\":\"/spec/nothing\"}]'",
        "patch gadget alpha --type=json -p '[{\"op\":\"jump\",\"path\":\"/spec/nothing\"}]'",
        "patch gadget alpha --type=purple -p '{}'",
        "patch gadget nobody --type=merge -p '{}'",
        "patch gadget alpha",
    ] {
        s.fails(line).await?;
    }
    Ok(())
}

/// Strategic merge, with the merge keys of the kinds that Kubernetes is made of.
pub async fn strategic_patches(s: &mut Session<'_>) -> Result<()> {
    s.ok("create -f %secret-and-map.yaml").await?;
    s.until("get serviceaccounts -o name", "serviceaccount/default").await?;
    for line in [
        "patch configmap settings -p '{\"data\":{\"c\":\"2\",\"a\":null}}'",
        "patch configmap settings -p '{\"data\":{\"$patch\":\"replace\",\"only\":\"this\"}}'",
        "patch configmap settings -p '{\"metadata\":{\"finalizers\":[\"tests.invalid/a\",\"tests.invalid/b\"]}}'",
        "patch configmap settings -p '{\"metadata\":{\"$deleteFromPrimitiveList/finalizers\":[\"tests.invalid/a\"],\"finalizers\":[\"tests.invalid/c\"]}}'",
        "patch configmap settings -p '{\"metadata\":{\"ownerReferences\":[{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"name\":\"x\",\"uid\":\"1\"},{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"name\":\"y\",\"uid\":\"2\"}]}}'",
        "patch configmap settings -p '{\"metadata\":{\"ownerReferences\":[{\"uid\":\"1\",\"$patch\":\"delete\"},{\"uid\":\"2\",\"name\":\"z\"}]}}'",
        "get configmap settings -o yaml --show-managed-fields",
        "patch configmap settings --type=merge -p '{\"metadata\":{\"finalizers\":null,\"ownerReferences\":null}}'",
        "delete -f %secret-and-map.yaml --ignore-not-found",
        "create -f %secret-and-map.yaml",
        "patch secret login -p '{\"stringData\":{\"user\":\"root\"},\"data\":{\"password\":null}}'",
        "patch secret login -p '{\"metadata\":{\"$retainKeys\":[\"name\",\"labels\"],\"labels\":{\"b\":\"c\"}}}'",
        "patch secret login --type=json -p '[{\"op\":\"add\",\"path\":\"/data/more\",\"value\":\"eQ==\"}]'",
        "get secret login -o yaml",
        "patch serviceaccount default -p '{\"secrets\":[{\"name\":\"one\"},{\"name\":\"two\"}],\"imagePullSecrets\":[{\"name\":\"pull\"}]}'",
        "patch serviceaccount default -p '{\"secrets\":[{\"name\":\"one\",\"$patch\":\"delete\"},{\"name\":\"three\"}],\"imagePullSecrets\":[{\"name\":\"more\"}]}'",
        "get serviceaccount default -o yaml",
        "get serviceaccount default",
    ] {
        s.ok(line).await?;
    }
    for line in [
        "patch configmap settings -p '{\"data\":{\"b\":\"both text and bytes\"}}'",
        "patch configmap settings -p '{\"data\":{\"a\":1}}'",
        "patch configmap settings -p '{\"data\":[]}'",
        "patch configmap settings -p '{\"metadata\":{\"labels\":{\"bad key\":\"x\"}}}'",
        "patch secret login -p '{\"type\":\"other\"}'",
        "patch secret login -p '{\"data\":{\"a\":\"not base64!\"}}'",
        "patch configmap settings --type=merge -p '{\"immutable\":\"yes\"}'",
    ] {
        s.fails(line).await?;
    }
    s.ok("patch configmap settings -p '{\"immutable\":true}'").await?;
    s.fails("patch configmap settings -p '{\"data\":{\"late\":\"x\"}}'").await?;
    Ok(())
}

/// The status is somebody else's.
pub async fn subresources(s: &mut Session<'_>) -> Result<()> {
    s.ok("create -f %gadgets-three.yaml").await?;
    let status = "{\"status\":{\"phase\":\"Up\",\"replicas\":2,\"selector\":\"app=web\",\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}]},\"spec\":{\"count\":1}}";
    for line in [
        &format!("patch gadget alpha --subresource=status --type=merge -p '{status}'"),
        &format!("patch gadget beta --type=merge -p '{status}'"),
        "get gadgets -o yaml --show-managed-fields",
        "get gadget alpha --subresource=scale -o yaml",
        "get gadget alpha --subresource=scale",
        "patch gadget alpha --subresource=scale --type=merge -p '{\"spec\":{\"replicas\":4}}'",
        "patch gadget alpha --subresource=status --type=json -p '[{\"op\":\"remove\",\"path\":\"/status/phase\"}]'",
        "get gadget alpha -o yaml --show-managed-fields",
    ] {
        s.ok(line).await?;
    }
    let whole =
        "{apiVersion: tests.invalid/v1, kind: Gadget, metadata: {name: alpha}, status: {phase: Replaced}}";
    s.piped("replace --subresource=status -f -", whole).await?;
    s.fails("patch gadget alpha --subresource=nothing --type=merge -p '{}'").await?;
    s.fails("patch configmap nobody --subresource=status --type=merge -p '{}'").await?;
    s.fails("patch gadget alpha --subresource=status --type=merge -p '{\"status\":{\"phase\":7}}'").await?;
    s.fails("patch gadget alpha --subresource=scale --type=merge -p '{\"spec\":{\"replicas\":-4}}'").await?;
    Ok(())
}

/// The whole object anew.
pub async fn replacing(s: &mut Session<'_>) -> Result<()> {
    s.fails("replace -f %gadgets-three.yaml").await?;
    s.ok("create -f %gadgets-three.yaml").await?;
    s.ok("replace -f %gadgets-three.yaml").await?;
    let alpha = "{apiVersion: tests.invalid/v1, kind: Gadget, metadata: {name: alpha}, spec: {size: medium}}";
    s.piped("replace -f -", alpha).await?;
    s.ok("get gadget alpha -o yaml --show-managed-fields").await?;
    s.piped("replace -f - -o yaml", &alpha.replace("medium", "small")).await?;
    s.piped_fails("replace -f -", &alpha.replace("name: alpha", "name: alpha, resourceVersion: '1'")).await?;
    s.piped_fails("replace -f -", &alpha.replace("medium", "huge")).await?;
    s.piped_fails("replace -f -", &alpha.replace("alpha", "nobody")).await?;
    s.piped_fails("replace -f -", &alpha.replace("spec: {", "spec: {sise: 1, ")).await?;
    s.piped("replace --force -f -", alpha).await?;
    s.piped("replace --force -f -", &alpha.replace("alpha", "nobody")).await?;
    s.piped("replace --save-config -f -", alpha).await?;
    s.ok("get gadgets -o yaml").await?;
    s.ok("create -f %secret-and-map.yaml").await?;
    s.ok("replace -f %secret-and-map.yaml").await?;
    s.ok("replace --force --grace-period=0 -f %secret-and-map.yaml").await?;
    s.ok("get configmap settings -o yaml --show-managed-fields").await?;
    Ok(())
}

/// The scale of a custom resource.
pub async fn scaling(s: &mut Session<'_>) -> Result<()> {
    s.ok("create -f %gadgets-three.yaml").await?;
    for line in [
        "scale gadget alpha --replicas=3",
        "scale gadget/alpha --replicas=5 --current-replicas=3",
        "scale gadgets --all --replicas=2",
        "scale -f %gadgets-three.yaml --replicas=4",
        "scale gadgets -l app=web --replicas=6",
        "get gadgets -o jsonpath={.items[*].spec.replicas}",
        "get gadget alpha -o yaml --show-managed-fields",
    ] {
        s.ok(line).await?;
    }
    for line in [
        "scale gadget alpha --replicas=3 --current-replicas=7",
        "scale gadget alpha --replicas=-3",
        "scale gadget nobody --replicas=3",
        "scale configmap settings --replicas=3",
        "scale hardware nobody --replicas=3",
    ] {
        s.fails(line).await?;
    }
    let pinned = "scale gadget alpha --replicas=3 --resource-version=1";
    s.apart("it names the version that there is").fails(pinned).await?;
    Ok(())
}
