// SPDX-License-Identifier: Apache-2.0
//! The kinds that are there without a definition, and the rules of each.

use anyhow::Result;
use serde_json::{Value, json};

use crate::world::{Check, MERGE, World, config_map};

pub const ALL: &[Check] = &[
    ("secrets", |w| Box::pin(secrets(w))),
    ("secrets_of_a_type", |w| Box::pin(secrets_of_a_type(w))),
    ("config_maps", |w| Box::pin(config_maps(w))),
    ("immutable_data", |w| Box::pin(immutable_data(w))),
    ("namespaces", |w| Box::pin(namespaces(w))),
    ("events_in_both_groups", |w| Box::pin(events_in_both_groups(w))),
    ("events_that_are_wrong", |w| Box::pin(events_that_are_wrong(w))),
    ("leases", |w| Box::pin(leases(w))),
    ("service_accounts", |w| Box::pin(service_accounts(w))),
    ("fields_of_the_wrong_type", |w| Box::pin(fields_of_the_wrong_type(w))),
];

async fn secrets(w: &World<'_>) -> Result<()> {
    let path = w.core("secrets");
    let body = json!({"metadata": {"name": "a"}, "data": {"old": "b2xk", "both": "b2xk"}, "stringData": {"new": "new", "both": "new"}});
    w.post(&path, &body)
        .await?
        .is(201)
        .at("/kind", "Secret")
        .at("/type", "Opaque")
        .at("/data", json!({"old": "b2xk", "both": "bmV3", "new": "bmV3"}))
        .at("/stringData", Value::Null);
    w.patch(MERGE, format!("{path}/a"), &json!({"stringData": {"more": "x"}}))
        .await?
        .is(200)
        .at("/data/more", "eA==")
        .at("/data/old", "b2xk");
    w.patch(MERGE, format!("{path}/a"), &json!({"type": "example.org/t"}))
        .await?
        .refused(
            422,
            "Invalid",
            "Secret \"a\" is invalid: type: Invalid value: \"example.org/t\": field is immutable",
        )
        .causes(&[("FieldValueInvalid", "type", "Invalid value: \"example.org/t\": field is immutable")]);
    let bad = json!({"metadata": {"name": "b"}, "data": {"k": "%%%"}});
    w.post(&path, &bad).await?.refused(
        400,
        "BadRequest",
        "Secret in version \"v1\" cannot be handled as a Secret: illegal base64 data at input byte 0",
    );
    let bad = json!({"metadata": {"name": "b"}, "data": {"not a key": "eA=="}});
    w.post(&path, &bad).await?.refused(
        422,
        "Invalid",
        "Secret \"b\" is invalid: data[not a key]: Invalid value: \"not a key\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
    );
    let empty = w.post(&path, &json!({"metadata": {"name": "empty"}, "data": {"k": ""}})).await?.is(201);
    w.same("an empty value", &empty.json["data"], &json!({"k": ""}));
    let large = json!({"metadata": {"name": "large"}, "stringData": {"k": "x".repeat(1024 * 1024 + 1)}});
    w.post(&path, &large).await?.refused(
        422,
        "Invalid",
        "Secret \"large\" is invalid: data: Too long: may not be more than 1048576 bytes",
    );
    Ok(())
}

async fn secrets_of_a_type(w: &World<'_>) -> Result<()> {
    let path = w.core("secrets");
    let rows = [
        (
            json!({"type": "kubernetes.io/tls", "stringData": {"tls.crt": "x"}}),
            "data[tls.key]: Required value",
        ),
        (
            json!({"type": "kubernetes.io/basic-auth"}),
            "[data[username]: Required value, data[password]: Required value]",
        ),
        (json!({"type": "kubernetes.io/ssh-auth"}), "data[ssh-privatekey]: Required value"),
        (json!({"type": "kubernetes.io/dockerconfigjson"}), "data[.dockerconfigjson]: Required value"),
        (
            json!({"type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": "x"}}),
            "data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": invalid character 'x' looking for beginning of value",
        ),
        (
            json!({"type": "kubernetes.io/service-account-token"}),
            "metadata.annotations[kubernetes.io/service-account.name]: Required value",
        ),
    ];
    for (mut body, message) in rows {
        body["metadata"] = json!({"name": "a"});
        w.post(&path, &body).await?.refused(422, "Invalid", format!("Secret \"a\" is invalid: {message}"));
    }
    let good = json!({"metadata": {"name": "a"}, "type": "kubernetes.io/basic-auth", "stringData": {"username": "u", "password": "p"}});
    w.post(&path, &good).await?.is(201);
    Ok(())
}

async fn config_maps(w: &World<'_>) -> Result<()> {
    let mut body = config_map("a", json!({"text": "t"}));
    body["binaryData"] = json!({"raw": "AAE="});
    w.post(w.maps(), &body)
        .await?
        .is(201)
        .at("/data", json!({"text": "t"}))
        .at("/binaryData", json!({"raw": "AAE="}));
    let mut twice = config_map("b", json!({"k": "t"}));
    twice["binaryData"] = json!({"k": "AAE="});
    w.post(w.maps(), &twice).await?.refused(
        422,
        "Invalid",
        "ConfigMap \"b\" is invalid: data[k]: Invalid value: \"k\": duplicate of key present in binaryData",
    );
    w.post(w.maps(), &config_map("b", json!({"..": "x"}))).await?.refused(
        422,
        "Invalid",
        "ConfigMap \"b\" is invalid: data[..]: Invalid value: \"..\": must not be '..'",
    );
    let large = config_map("large", json!({"k": "x".repeat(1024 * 1024 + 1)}));
    w.post(w.maps(), &large).await?.refused(
        422,
        "Invalid",
        "ConfigMap \"large\" is invalid: []: Too long: may not be more than 1048576 bytes",
    );
    w.post(w.maps(), &config_map("largest", json!({"k": "x".repeat(1024 * 1024 - 1)}))).await?.is(201);
    Ok(())
}

async fn immutable_data(w: &World<'_>) -> Result<()> {
    let mut map = config_map("a", json!({"k": "v"}));
    map["immutable"] = true.into();
    w.create(w.maps(), &map).await?;
    let path = format!("{}/a", w.maps());
    let said = |kind: &str, field: &str| {
        format!("{kind} \"a\" is invalid: {field}: Forbidden: field is immutable when `immutable` is set")
    };
    w.patch(MERGE, &path, &json!({"data": {"k": "w"}})).await?.refused(
        422,
        "Invalid",
        said("ConfigMap", "data"),
    );
    w.patch(MERGE, &path, &json!({"binaryData": {"b": "AA=="}})).await?.refused(
        422,
        "Invalid",
        said("ConfigMap", "binaryData"),
    );
    w.patch(MERGE, &path, &json!({"immutable": false})).await?.refused(
        422,
        "Invalid",
        said("ConfigMap", "immutable"),
    );
    w.patch(MERGE, &path, &json!({"metadata": {"labels": {"l": "v"}}})).await?.is(200);
    let secret = json!({"metadata": {"name": "a"}, "stringData": {"k": "v"}, "immutable": true});
    w.create(w.core("secrets"), &secret).await?;
    let path = format!("{}/a", w.core("secrets"));
    w.patch(MERGE, &path, &json!({"stringData": {"k": "w"}})).await?.refused(
        422,
        "Invalid",
        said("Secret", "data"),
    );
    w.patch(MERGE, &path, &json!({"immutable": null})).await?.refused(
        422,
        "Invalid",
        said("Secret", "immutable"),
    );
    w.delete(&path).await?.is(200);
    Ok(())
}

async fn namespaces(w: &World<'_>) -> Result<()> {
    let path = format!("/api/v1/namespaces/{}", w.namespace);
    w.get(&path)
        .await?
        .is(200)
        .at("/status", json!({"phase": "Active"}))
        .at("/spec", json!({"finalizers": ["kubernetes"]}))
        .at("/metadata/labels", json!({"kubernetes.io/metadata.name": w.namespace}));
    for name in ["default", "kube-system"] {
        w.get(format!("/api/v1/namespaces/{name}")).await?.is(200).at("/status/phase", "Active");
    }
    w.delete("/api/v1/namespaces/default").await?.refused(
        403,
        "Forbidden",
        "namespaces \"default\" is forbidden: this namespace may not be deleted",
    );
    w.delete("/api/v1/namespaces/kube-system").await?.refused(
        403,
        "Forbidden",
        "namespaces \"kube-system\" is forbidden: this namespace may not be deleted",
    );
    let message =
        "Namespace \"a.b\" is invalid: metadata.name: Invalid value: \"a.b\": must not contain dots";
    w.post("/api/v1/namespaces", &json!({"metadata": {"name": "a.b"}}))
        .await?
        .refused(422, "Invalid", message);
    w.patch(MERGE, &path, &json!({"metadata": {"labels": {"kubernetes.io/metadata.name": "other"}}}))
        .await?
        .is(200)
        .at("/metadata/labels/kubernetes.io~1metadata.name", w.namespace.as_str());
    w.patch(MERGE, &path, &json!({"spec": {"finalizers": []}, "status": {"phase": "Terminating"}}))
        .await?
        .is(200)
        .at("/status/phase", "Active")
        .at("/spec/finalizers", json!(["kubernetes"]));
    Ok(())
}

async fn events_in_both_groups(w: &World<'_>) -> Result<()> {
    let involved = json!({"kind": "Widget", "name": "w", "namespace": w.namespace, "apiVersion": "example.org/v1", "uid": "u"});
    let event = json!({"metadata": {"name": "old"}, "involvedObject": involved, "reason": "Tested", "message": "hello", "type": "Normal",
        "source": {"component": "suite", "host": "here"}, "firstTimestamp": "2024-01-01T00:00:00Z", "lastTimestamp": "2024-01-01T00:00:01Z", "count": 2});
    let (core, new) = (w.core("events"), w.of("events.k8s.io/v1", "events"));
    w.post(&core, &event)
        .await?
        .is(201)
        .at("/eventTime", Value::Null)
        .at("/reportingComponent", "")
        .at("/count", 2);
    w.get(format!("{new}/old"))
        .await?
        .is(200)
        .at("/apiVersion", "events.k8s.io/v1")
        .at("/note", "hello")
        .at("/regarding", involved.clone())
        .at("/deprecatedCount", 2)
        .at("/deprecatedSource", json!({"component": "suite", "host": "here"}))
        .at("/deprecatedFirstTimestamp", "2024-01-01T00:00:00Z")
        .at("/message", Value::Null)
        .at("/involvedObject", Value::Null);
    let event = json!({"metadata": {"name": "new"}, "regarding": involved, "reason": "Seen", "note": "hi", "type": "Warning", "action": "Look",
        "reportingController": "example.org/suite", "reportingInstance": "one", "eventTime": "2024-01-01T00:00:00.123456Z"});
    w.post(&new, &event).await?.is(201).at("/eventTime", "2024-01-01T00:00:00.123456Z");
    w.get(format!("{core}/new"))
        .await?
        .is(200)
        .at("/apiVersion", "v1")
        .at("/message", "hi")
        .at("/involvedObject", involved)
        .at("/reportingComponent", "example.org/suite")
        .at("/reportingInstance", "one")
        .at("/source", json!({}))
        .at("/firstTimestamp", Value::Null);
    w.get(&core).await?.is(200).lists(&["new", "old"]);
    w.get(&new).await?.is(200).lists(&["new", "old"]);
    for (path, selector, wanted) in [
        (&core, "involvedObject.name=w,reason=Tested", &["old"][..]),
        (&core, "involvedObject.kind=Widget,type=Warning", &["new"]),
        (&core, "involvedObject.uid=u", &["new", "old"]),
        (&core, "involvedObject.name!=w", &[]),
        (&core, "source=suite", &["old"]),
        (&core, "reportingComponent=example.org/suite", &["new"]),
        (&new, "regarding.name=w,reason=Seen", &["new"]),
        (&new, "regarding.kind=Widget,type!=Warning", &["old"]),
    ] {
        let escaped =
            selector.replace('!', "%21").replace('=', "%3D").replace(',', "%2C").replace('/', "%2F");
        w.get(format!("{path}?fieldSelector={escaped}")).await?.is(200).lists(wanted);
    }
    // A series goes on in the old form.
    w.patch(MERGE, format!("{core}/old"), &json!({"count": 3, "lastTimestamp": "2024-01-01T00:00:05Z"}))
        .await?
        .is(200)
        .at("/count", 3);
    w.get(format!("{new}/old")).await?.is(200).at("/deprecatedCount", 3);
    w.delete(format!("{new}/old")).await?.is(200);
    w.get(format!("{core}/old")).await?.is(404);
    Ok(())
}

async fn events_that_are_wrong(w: &World<'_>) -> Result<()> {
    let (core, new) = (w.core("events"), w.of("events.k8s.io/v1", "events"));
    let other = json!({"metadata": {"name": "a"}, "involvedObject": {"kind": "Widget", "namespace": "default", "name": "w"}});
    w.post(&core, &other).await?.refused(422, "Invalid", "Event \"a\" is invalid: involvedObject.namespace: Invalid value: \"default\": does not match event.namespace");
    let bare = json!({"metadata": {"name": "a"}, "regarding": {"kind": "Widget", "namespace": w.namespace, "name": "w"}});
    w.post(&new, &bare).await?.refused(
        422,
        "Invalid",
        "Event \"a\" is invalid: [eventTime: Required value, type: Invalid value: \"\": has invalid value: ]",
    );
    let mut timed = bare.clone();
    timed["eventTime"] = "2024-01-01T00:00:00.000000Z".into();
    w.post(&new, &timed).await?.refused(
        422,
        "Invalid",
        "Event \"a\" is invalid: [reportingController: Required value, reportingController: Invalid value: \"\": name part must be non-empty, reportingController: Invalid value: \"\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]'), reportingInstance: Required value, action: Required value, reason: Required value, type: Invalid value: \"\": has invalid value: ]",
    );
    Ok(())
}

async fn leases(w: &World<'_>) -> Result<()> {
    let path = w.of("coordination.k8s.io/v1", "leases");
    let lease = |spec: Value| json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a"}, "spec": spec});
    w.post(&path, &lease(json!({"leaseDurationSeconds": 0}))).await?.refused(422, "Invalid", "Lease.coordination.k8s.io \"a\" is invalid: spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0");
    w.post(&path, &lease(json!({"leaseTransitions": -1}))).await?.refused(422, "Invalid", "Lease.coordination.k8s.io \"a\" is invalid: spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0");
    let spec = json!({"holderIdentity": "one", "leaseDurationSeconds": 15, "acquireTime": "2024-01-01T00:00:00.000000Z", "renewTime": "2024-01-01T00:00:01.500000Z", "leaseTransitions": 0});
    let made = w.post(&path, &lease(spec.clone())).await?.is(201).at("/spec", spec);
    let mut mine = made.object();
    mine["spec"]["holderIdentity"] = "two".into();
    w.put(format!("{path}/a"), &mine).await?.is(200).at("/spec/holderIdentity", "two");
    mine["spec"]["holderIdentity"] = "three".into();
    w.put(format!("{path}/a"), &mine).await?.refused_like(
        409,
        "Conflict",
        &["leases.coordination.k8s.io \"a\": the object has been modified"],
    );
    let time = w.post(&path, &lease(json!({"renewTime": "yesterday"}))).await?;
    time.refused_like(
        400,
        "BadRequest",
        &["Lease in version \"v1\" cannot be handled as a Lease: parsing time \"yesterday\" as"],
    );
    Ok(())
}

async fn service_accounts(w: &World<'_>) -> Result<()> {
    let path = w.core("serviceaccounts");
    w.create(&path, &json!({"metadata": {"name": "robot"}, "automountServiceAccountToken": false})).await?;
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    w.post(format!("{path}/none/token"), &request).await?.refused(
        404,
        "NotFound",
        "serviceaccounts \"none\" not found",
    );
    // Who has no account of their own here gets the namespace's.
    w.until("the default account is there", &format!("{path}/default"), |answer| answer.code == 200).await?;
    w.get(&path).await?.is(200).lists(&["default", "robot"]);
    Ok(())
}

async fn fields_of_the_wrong_type(w: &World<'_>) -> Result<()> {
    let go = |kind: &str, found: &str, field: &str, wanted: &str| {
        format!(
            "{kind} in version \"v1\" cannot be handled as a {kind}: json: cannot unmarshal {found} into Go struct field {field} of type {wanted}"
        )
    };
    let map = |data: Value| json!({"metadata": {"name": "a"}, "data": data});
    let rows = [
        (w.maps(), map(json!({"k": 1})), go("ConfigMap", "number", "ConfigMap.data", "string")),
        (w.maps(), map(json!([1])), go("ConfigMap", "array", "ConfigMap.data", "map[string]string")),
        (
            w.maps(),
            json!({"metadata": {"name": 1}}),
            go("ConfigMap", "number", "ObjectMeta.metadata.name", "string"),
        ),
        (
            w.maps(),
            json!({"metadata": "text"}),
            go("ConfigMap", "string", "ConfigMap.metadata", "v1.ObjectMeta"),
        ),
        (
            w.maps(),
            json!({"metadata": {"name": "a", "labels": {"k": true}}}),
            go("ConfigMap", "bool", "ObjectMeta.metadata.labels", "string"),
        ),
        (
            w.maps(),
            json!({"metadata": {"name": "a"}, "immutable": "yes"}),
            go("ConfigMap", "string", "ConfigMap.immutable", "bool"),
        ),
        (
            w.core("secrets"),
            json!({"metadata": {"name": "a"}, "type": 1}),
            go("Secret", "number", "Secret.type", "v1.SecretType"),
        ),
    ];
    for (path, body, message) in rows {
        w.post(path, &body).await?.refused(400, "BadRequest", message);
    }
    Ok(())
}
