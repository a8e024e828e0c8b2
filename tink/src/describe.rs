// SPDX-License-Identifier: Apache-2.0

//! `tink describe`: one object in full, with what happened to it.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use kube::{Api, Client, api::ListParams, core::DynamicObject};
use serde_json::{Value, json};

use crate::{
    get::{GetError, Selection},
    output,
    table::Table,
};

/// Shows the selected objects, one after the other.
///
/// # Errors
///
/// See [`GetError`].
pub async fn describe(client: &Client, selection: &Selection) -> Result<(), GetError> {
    let now = Timestamp::now();
    let mut texts = Vec::new();
    for object in selection.fetch(client).await? {
        let events = events(client, &object).await?;
        texts.push(render(&object, &events, now)?);
    }
    Ok(output::print(&texts.join("\n\n"))?)
}

async fn events(client: &Client, object: &DynamicObject) -> Result<Vec<Event>, kube::Error> {
    let Some(namespace) = &object.metadata.namespace else { return Ok(Vec::new()) };
    let all = Api::<Event>::namespaced(client.clone(), namespace).list(&ListParams::default()).await?;
    let kind = object.types.as_ref().map(|types| &types.kind);
    let of_it = |event: &Event| {
        let involved = &event.involved_object;
        involved.name == object.metadata.name && (involved.kind.is_none() || involved.kind.as_ref() == kind)
    };
    let mut events: Vec<_> = all.items.into_iter().filter(of_it).collect();
    events.sort_by_key(last_seen);
    Ok(events)
}

/// When an Event last happened.
pub(crate) fn last_seen(event: &Event) -> Option<Timestamp> {
    let precise = event.event_time.as_ref().map(|time| time.0);
    event
        .last_timestamp
        .as_ref()
        .map(|time| time.0)
        .or(precise)
        .or(event.first_timestamp.as_ref().map(|t| t.0))
}

fn render(object: &DynamicObject, events: &[Event], now: Timestamp) -> Result<String, GetError> {
    let value = serde_json::to_value(object).map_err(|error| GetError::Format(error.to_string()))?;
    let metadata = &object.metadata;
    let mut text = String::new();
    let mut head = |name: &str, value: &str| {
        if !value.is_empty() {
            text += &format!("{:<14}{value}\n", format!("{name}:"));
        }
    };
    head("Name", metadata.name.as_deref().unwrap_or_default());
    head("Namespace", metadata.namespace.as_deref().unwrap_or_default());
    head("Kind", &format!("{} ({})", text_of(&value, "/kind"), text_of(&value, "/apiVersion")));
    head(
        "Created",
        &metadata
            .creation_timestamp
            .as_ref()
            .map(|t| format!("{} ({} ago)", t.0, output::age(object, now)))
            .unwrap_or_default(),
    );
    head("Labels", &pairs(value.pointer("/metadata/labels")));
    head("Annotations", &pairs(value.pointer("/metadata/annotations")));
    head("Owners", &owners(object));
    head("Finalizers", &metadata.finalizers.as_deref().unwrap_or_default().join(", "));

    let parts = value.as_object().into_iter().flatten();
    for (name, part) in parts.filter(|(name, _)| !matches!(name.as_str(), "apiVersion" | "kind" | "metadata"))
    {
        let secret = text_of(&value, "/kind") == "Secret" && name == "data";
        let part = if secret { sizes(part) } else { part.clone() };
        text += &format!("\n{}:\n{}", capital(name), indented(&part)?);
    }
    text += "\nEvents:";
    if events.is_empty() {
        text += "  none\n";
    } else {
        text += &format!("\n{}", event_table(events, now));
    }
    Ok(text)
}

fn event_table(events: &[Event], now: Timestamp) -> String {
    let headings = ["Last seen", "Count", "Type", "Reason", "From", "Message"].map(str::to_owned);
    let mut table = Table::new(headings.to_vec());
    for event in events {
        let seen = last_seen(event).map(|at| output::duration(now.duration_since(at))).unwrap_or_default();
        let from = event.source.as_ref().and_then(|source| source.component.clone());
        table.push(vec![
            seen,
            event.count.unwrap_or(1).to_string(),
            event.type_.clone().unwrap_or_default(),
            event.reason.clone().unwrap_or_default(),
            from.or_else(|| event.reporting_component.clone()).unwrap_or_default(),
            event.message.clone().unwrap_or_default(),
        ]);
    }
    table.render().lines().map(|line| format!("  {line}\n")).collect()
}

fn text_of<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Keys with their values, without the copy of the object that `apply` keeps.
fn pairs(map: Option<&Value>) -> String {
    let entries = map.and_then(Value::as_object).into_iter().flatten();
    let texts: Vec<_> = entries
        .filter(|(key, _)| *key != api::annotations::LAST_APPLIED)
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    texts.join(", ")
}

fn owners(object: &DynamicObject) -> String {
    let owners = object.metadata.owner_references.iter().flatten();
    owners.map(|owner| format!("{}/{}", owner.kind, owner.name)).collect::<Vec<_>>().join(", ")
}

/// The data of a Secret, with its sizes in place of its content.
fn sizes(data: &Value) -> Value {
    let entries = data.as_object().into_iter().flatten();
    entries
        .map(|(key, value)| {
            let bytes =
                serde_json::from_value::<k8s_openapi::ByteString>(value.clone()).map_or(0, |b| b.0.len());
            (key.clone(), json!(format!("{bytes} bytes")))
        })
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn indented(value: &Value) -> Result<String, GetError> {
    let yaml = output::yaml(value).map_err(|error| GetError::Format(error.to_string()))?;
    Ok(yaml
        .lines()
        .map(|line| if line.is_empty() { "\n".to_owned() } else { format!("  {line}\n") })
        .collect())
}

fn capital(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map(|first| first.to_ascii_uppercase().to_string() + chars.as_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_sizes_only() {
        let secret: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": "bmc", "namespace": "tinkerbell", "labels": { "a": "b" } },
            "data": { "password": "aHVudGVyMg==" }
        }))
        .unwrap();
        let text = render(&secret, &[], Timestamp::UNIX_EPOCH).unwrap();
        assert!(text.contains("password: 7 bytes") && text.contains("Labels:       a=b"), "{text}");
        assert!(!text.contains("aHVudGVyMg"), "{text}");
        assert!(text.ends_with("Events:  none\n"));
    }

    #[test]
    fn events_are_listed_below_spec_and_status() {
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "tinkerbell.org/v1alpha1", "kind": "Hardware",
            "metadata": { "name": "m1", "creationTimestamp": "1970-01-01T00:00:00Z", "annotations": { api::annotations::LAST_APPLIED: "{}" } },
            "spec": { "agentID": "a" }, "status": { "state": "Ready" }
        }))
        .unwrap();
        let event: Event = serde_json::from_value(json!({
            "metadata": {}, "involvedObject": {}, "count": 3, "reason": "DhcpOffered", "type": "Normal",
            "message": "172.31.0.11", "source": { "component": "boots" }, "lastTimestamp": "1970-01-01T00:00:10Z"
        }))
        .unwrap();
        let text = render(&object, &[event], "1970-01-01T00:01:00Z".parse().unwrap()).unwrap();
        assert!(text.contains("(60s ago)\n\nSpec:\n  agentID: a\n\nStatus:\n  state: Ready\n"), "{text}");
        assert!(
            text.contains("  50s         3       Normal   DhcpOffered   boots   172.31.0.11\n"),
            "{text}"
        );
    }
}
