// SPDX-License-Identifier: Apache-2.0

//! `tink get`: objects as a table, as YAML or as JSON, once or as they change.

use std::{collections::BTreeSet, pin::pin};

use futures::TryStreamExt;
use jiff::Timestamp;
use kube::{
    Api, Client,
    api::ListParams,
    core::DynamicObject,
    runtime::watcher::{self, Event, watcher},
};
use serde_json::{Value, json};
use thiserror::Error;

use crate::{
    kinds::{Column, Kind},
    output,
    table::Table,
};

/// Which objects to show.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Their kind.
    pub kind: Kind,
    /// One of them; none = all.
    pub name: Option<String>,
    /// Their namespace; none = all namespaces.
    pub namespace: Option<String>,
    /// A label selector.
    pub labels: Option<String>,
}

/// How to show them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A table with the most important columns.
    #[default]
    Table,
    /// A table with all columns.
    Wide,
    /// YAML.
    Yaml,
    /// JSON.
    Json,
}

/// Why nothing could be shown.
#[derive(Debug, Error)]
pub enum GetError {
    /// There is no object of that name.
    #[error("there is no {kind} {name:?} in {place}{hint}")]
    NotFound {
        /// The kind.
        kind: String,
        /// The name.
        name: String,
        /// Where it was looked for.
        place: String,
        /// Names that are near.
        hint: String,
    },
    /// The API server refused or cannot be reached.
    #[error("{}", output::problem(.0))]
    Api(#[from] kube::Error),
    /// Watching failed.
    #[error("watching failed: {0}")]
    Watch(#[from] watcher::Error),
    /// An object cannot be written in that format.
    #[error("an object cannot be written: {0}")]
    Format(String),
    /// Standard output is gone.
    #[error("cannot write: {0}")]
    Output(#[from] std::io::Error),
}

impl Selection {
    /// The API of the selected objects.
    #[must_use]
    pub fn api(&self, client: &Client) -> Api<DynamicObject> {
        match &self.namespace {
            Some(namespace) if self.kind.namespaced => {
                Api::namespaced_with(client.clone(), namespace, &self.kind.resource)
            }
            _ => Api::all_with(client.clone(), &self.kind.resource),
        }
    }

    /// The objects now.
    ///
    /// # Errors
    ///
    /// When the API server refuses, or a name was asked for that is not there.
    pub async fn fetch(&self, client: &Client) -> Result<Vec<DynamicObject>, GetError> {
        let params = ListParams { label_selector: self.labels.clone(), ..ListParams::default() };
        let mut objects = self.api(client).list(&params).await?.items;
        for object in &mut objects {
            object.types.get_or_insert_with(|| kube::core::TypeMeta {
                api_version: self.kind.resource.api_version.clone(),
                kind: self.kind.resource.kind.clone(),
            });
        }
        let Some(name) = &self.name else { return Ok(objects) };
        let found: Vec<_> =
            objects.iter().filter(|o| o.metadata.name.as_ref() == Some(name)).cloned().collect();
        if found.is_empty() { Err(self.not_found(name, &objects)) } else { Ok(found) }
    }

    fn not_found(&self, name: &str, objects: &[DynamicObject]) -> GetError {
        let names: BTreeSet<_> = objects.iter().filter_map(|o| o.metadata.name.as_deref()).collect();
        let near = manifest::near(name, names.iter().copied());
        GetError::NotFound {
            kind: self.kind.full_name(),
            name: name.to_owned(),
            place: match &self.namespace {
                Some(namespace) if self.kind.namespaced => format!("namespace {namespace}"),
                _ => "any namespace".to_owned(),
            },
            hint: if near.is_empty() { String::new() } else { format!("; near it: {}", near.join(", ")) },
        }
    }
}

/// Shows the objects once.
///
/// # Errors
///
/// See [`GetError`].
pub async fn get(client: &Client, selection: &Selection, format: Format) -> Result<(), GetError> {
    let objects = selection.fetch(client).await?;
    if objects.is_empty() && matches!(format, Format::Table | Format::Wide) {
        eprintln!("no {} found", selection.kind.resource.plural);
        return Ok(());
    }
    Ok(output::print(&render(selection, &objects, format, Timestamp::now())?)?)
}

/// Shows the objects, then every change until `stop` is done.
///
/// # Errors
///
/// See [`GetError`].
pub async fn watch(
    client: &Client,
    selection: &Selection,
    format: Format,
    stop: impl Future<Output = ()>,
) -> Result<(), GetError> {
    let config = watcher::Config {
        label_selector: selection.labels.clone(),
        field_selector: selection.name.as_ref().map(|name| format!("metadata.name={name}")),
        ..watcher::Config::default()
    };
    let mut events = pin!(watcher(selection.api(client), config));
    let mut stop = pin!(stop);
    let mut first: Option<Vec<DynamicObject>> = Some(Vec::new());
    let listing = Listing::new(selection, format);
    let mut table = listing.table();
    loop {
        let event = tokio::select! {
            event = events.try_next() => event?,
            () = &mut stop => return Ok(()),
        };
        let Some(event) = event else { return Ok(()) };
        match (event, &mut first) {
            (Event::InitApply(object), Some(objects)) => objects.push(object),
            (Event::InitDone, _) => {
                for object in first.take().unwrap_or_default() {
                    table.push(listing.row(&object, Timestamp::now())?);
                }
                output::print(&table.render())?;
            }
            (Event::Apply(object) | Event::InitApply(object), None) => {
                output::print(&(table.line(&listing.row(&object, Timestamp::now())?) + "\n"))?;
            }
            (Event::Delete(object), _) => {
                let row = listing.row(&object, Timestamp::now())?;
                output::print(&format!("{}   (deleted)\n", table.line(&row)))?;
            }
            (Event::Init | Event::Apply(_), _) => {}
        }
    }
}

/// The objects as text.
///
/// # Errors
///
/// When an object cannot be written in that format.
pub fn render(
    selection: &Selection,
    objects: &[DynamicObject],
    format: Format,
    now: Timestamp,
) -> Result<String, GetError> {
    match format {
        Format::Table | Format::Wide => {
            let listing = Listing::new(selection, format);
            let mut table = listing.table();
            for object in objects {
                table.push(listing.row(object, now)?);
            }
            Ok(table.render())
        }
        Format::Yaml => {
            output::yaml(&whole(selection, objects)?).map_err(|e| GetError::Format(e.to_string()))
        }
        Format::Json => serde_json::to_string_pretty(&whole(selection, objects)?)
            .map(|text| text + "\n")
            .map_err(|e| GetError::Format(e.to_string())),
    }
}

/// One object when one was asked for by name and found once, else a list.
fn whole(selection: &Selection, objects: &[DynamicObject]) -> Result<Value, GetError> {
    let values: Vec<Value> = objects.iter().map(to_json).collect::<Result<_, _>>()?;
    Ok(match (&selection.name, <[Value; 1]>::try_from(values)) {
        (Some(_), Ok([one])) => one,
        (_, Ok(one)) => json!({ "apiVersion": "v1", "kind": "List", "items": one }),
        (_, Err(values)) => json!({ "apiVersion": "v1", "kind": "List", "items": values }),
    })
}

fn to_json(object: &DynamicObject) -> Result<Value, GetError> {
    serde_json::to_value(object).map_err(|error| GetError::Format(error.to_string()))
}

/// The columns of one listing.
struct Listing<'a> {
    columns: Vec<&'a Column>,
    namespaces: bool,
}

impl<'a> Listing<'a> {
    fn new(selection: &'a Selection, format: Format) -> Self {
        let wide = format == Format::Wide;
        Self {
            columns: selection.kind.columns.iter().filter(|column| wide || !column.wide).collect(),
            namespaces: selection.kind.namespaced && selection.namespace.is_none(),
        }
    }

    fn table(&self) -> Table {
        let mut headings: Vec<String> = Vec::new();
        if self.namespaces {
            headings.push("Namespace".to_owned());
        }
        headings.push("Name".to_owned());
        headings.extend(self.columns.iter().map(|column| column.name.clone()));
        headings.push("Age".to_owned());
        Table::new(headings)
    }

    fn row(&self, object: &DynamicObject, now: Timestamp) -> Result<Vec<String>, GetError> {
        let value = to_json(object)?;
        let mut row = Vec::new();
        if self.namespaces {
            row.push(object.metadata.namespace.clone().unwrap_or_default());
        }
        row.push(object.metadata.name.clone().unwrap_or_default());
        row.extend(self.columns.iter().map(|column| column.text(&value)));
        row.push(output::age(object, now));
        Ok(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds;

    fn workflow() -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "tinkerbell.org/v1alpha1", "kind": "Workflow",
            "metadata": { "name": "w1", "namespace": "tinkerbell", "creationTimestamp": "2026-01-02T03:04:05Z" },
            "spec": { "templateRef": "debian", "hardwareRef": "m1" },
            "status": { "state": "RUNNING", "currentState": { "actionName": "stream", "agentID": "a", "taskName": "os" } }
        }))
        .unwrap()
    }

    fn text(format: Format, name: Option<&str>, namespace: Option<&str>) -> String {
        let selection = Selection {
            kind: kinds::find("workflows").unwrap(),
            name: name.map(str::to_owned),
            namespace: namespace.map(str::to_owned),
            labels: None,
        };
        render(&selection, &[workflow()], format, "2026-01-02T03:05:05Z".parse().unwrap()).unwrap()
    }

    #[test]
    fn tables_have_the_published_columns_name_and_age() {
        assert_eq!(
            text(Format::Table, None, Some("tinkerbell")),
            "NAME   TEMPLATE   STATE     ACTION   AGENT   HARDWARE   AGE\n\
             w1     debian     RUNNING   stream   a       m1         60s\n"
        );
        assert_eq!(
            text(Format::Wide, None, None),
            "NAMESPACE    NAME   TEMPLATE   STATE     TASK   ACTION   AGENT   HARDWARE   TEMPLATE-RENDERING   AGE\n\
             tinkerbell   w1     debian     RUNNING   os     stream   a       m1         -                    60s\n"
        );
    }

    #[test]
    fn one_named_object_is_itself_and_the_rest_is_a_list() {
        let one: Value = serde_saphyr::from_str(&text(Format::Yaml, Some("w1"), None)).unwrap();
        assert_eq!(
            (one["kind"].as_str(), one["status"]["state"].as_str()),
            (Some("Workflow"), Some("RUNNING"))
        );
        let list: Value = serde_json::from_str(&text(Format::Json, None, None)).unwrap();
        assert_eq!(list["kind"], "List");
        assert_eq!(list["items"][0]["metadata"]["name"], "w1");
    }
}
