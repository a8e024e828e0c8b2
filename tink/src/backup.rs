// SPDX-License-Identifier: Apache-2.0

//! `tink backup`: everything that somebody made, as one manifest of one moment.
//!
//! Owns which collections a backup has, and the file: YAML with one document for each object, which a person can read and `kubectl apply` would take.
//! All collections are read at one resource version, so no object refers to one that is missing, whatever is written meanwhile. Secrets are in it,
//! therefore mode 0600. Events and Leases are not: they tell of a server that was. `restore` reads what is written here.

use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use api::{annotations::SYSTEM_NAMESPACE, ownership};
use jiff::Timestamp;
use kube::{
    Api, Client,
    api::ListParams,
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::{Value, json};
use thiserror::Error;

use crate::output;

/// Objects asked for at once.
const PAGE: u32 = 500;

/// ConfigMaps that Kubernetes makes for itself, in every namespace or in its own.
const OF_THE_SERVER: [&str; 3] = [
    "kube-root-ca.crt",
    "extension-apiserver-authentication",
    "kube-apiserver-legacy-service-account-token-tracking",
];

/// How often it begins again when the server no longer has the version that it reads.
pub(crate) const ATTEMPTS: usize = 3;

/// Why there is no backup. None is retried; a file that was there is as it was.
#[derive(Debug, Error)]
pub enum BackupError {
    /// There is a file of this name.
    #[error("{} exists; --force replaces it", .0.display())]
    Exists(PathBuf),
    /// The file cannot be written.
    #[error("{} cannot be written: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The server does not give a collection.
    #[error("{what} cannot be read: {}", output::problem(source))]
    Read {
        /// The collection.
        what: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// What was written does not read back as what the server has.
    #[error("{0} cannot be written as YAML that reads back as the same")]
    Unfaithful(String),
}

impl BackupError {
    /// The server has removed the version that is read: it is read anew.
    pub(crate) fn is_gone(&self) -> bool {
        self.has_code(410)
    }

    /// The server knows no such collection.
    pub(crate) fn is_unknown(&self) -> bool {
        self.has_code(404)
    }

    fn has_code(&self, code: u16) -> bool {
        matches!(self, Self::Read { source, .. } if matches!(&**source, kube::Error::Api(status) if status.code == code))
    }
}

/// What is in a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The version of everything in it.
    pub version: String,
    /// How many objects.
    pub objects: usize,
}

/// A collection of objects.
#[derive(Clone, Debug)]
pub(crate) struct Collection {
    pub(crate) resource: ApiResource,
    pub(crate) namespaced: bool,
}

impl Collection {
    fn new((group, version): (&str, &str), kind: &str, plural: &str, namespaced: bool) -> Self {
        let gvk = GroupVersionKind::gvk(group, version, kind);
        Self { resource: ApiResource::from_gvk_with_plural(&gvk, plural), namespaced }
    }

    /// The collection of a definition, in the version that its objects are stored in where that is served.
    pub(crate) fn of_definition(crd: &Value) -> Option<Self> {
        let text = |pointer: &str| crd.pointer(pointer).and_then(Value::as_str);
        let versions: Vec<&Value> = crd.pointer("/spec/versions")?.as_array()?.iter().collect();
        let flag = |version: &Value, name: &str| version.get(name).and_then(Value::as_bool) == Some(true);
        let served = || versions.iter().filter(|version| flag(version, "served"));
        let version = served().find(|version| flag(version, "storage")).or_else(|| served().next())?;
        let version = version.get("name").and_then(Value::as_str)?;
        let namespaced = text("/spec/scope")? == "Namespaced";
        let group_version = (text("/spec/group")?, version);
        Some(Self::new(group_version, text("/spec/names/kind")?, text("/spec/names/plural")?, namespaced))
    }
}

/// Collections that every server has, in the order in which they are restored.
pub(crate) fn builtin() -> [Collection; 5] {
    [
        Collection::new(
            ("apiextensions.k8s.io", "v1"),
            "CustomResourceDefinition",
            "customresourcedefinitions",
            false,
        ),
        Collection::new(("", "v1"), "Namespace", "namespaces", false),
        Collection::new(("", "v1"), "ServiceAccount", "serviceaccounts", true),
        Collection::new(("", "v1"), "ConfigMap", "configmaps", true),
        Collection::new(("", "v1"), "Secret", "secrets", true),
    ]
}

/// Writes a backup.
///
/// # Errors
///
/// See [`BackupError`].
pub async fn backup(client: &Client, path: &Path, force: bool) -> Result<Summary, BackupError> {
    let failed = |source| BackupError::File { path: path.to_owned(), source };
    if !force && fs::symlink_metadata(path).is_ok() {
        return Err(BackupError::Exists(path.to_owned()));
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(name);
    let written = write(client, &new).await;
    let kept = written.and_then(|summary| {
        let moved = if force { fs::rename(&new, path) } else { fs::hard_link(&new, path) };
        match moved {
            Ok(()) => Ok(summary),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(BackupError::Exists(path.to_owned()))
            }
            Err(source) => Err(failed(source)),
        }
    });
    match fs::remove_file(&new) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(failed(source)),
        _ => {}
    }
    let summary = kept?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    Ok(summary)
}

async fn write(client: &Client, path: &Path) -> Result<Summary, BackupError> {
    let failed = |source| BackupError::File { path: path.to_owned(), source };
    let mut attempt = 1;
    loop {
        let file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path);
        let mut file = io::BufWriter::new(file.map_err(failed)?);
        match read(client, path, &mut file).await {
            Err(error) if error.is_gone() && attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(error),
            Ok(summary) => {
                let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
                file.sync_all().map_err(failed)?;
                return Ok(summary);
            }
        }
    }
}

async fn read(client: &Client, path: &Path, file: &mut impl io::Write) -> Result<Summary, BackupError> {
    let failed = |source| BackupError::File { path: path.to_owned(), source };
    let [definitions, rest @ ..] = builtin();
    let moment = Moment::now(client).await?;
    let version = &moment.version;
    writeln!(
        file,
        "# Backup by `tink backup` at {}, resource version {version}. It holds Secrets.\n\
         # `tink restore` puts it into an empty server with every UID, status and time as it was; `kubectl apply` makes new objects of it.",
        Timestamp::now()
    )
    .map_err(failed)?;
    let (mut objects, mut custom) = (0, Vec::new());
    let mut keep = |object: &Value| {
        objects += 1;
        file.write_all(document(object)?.as_bytes()).map_err(failed)
    };
    let of_definitions = |object: Value| {
        custom.extend(Collection::of_definition(&object));
        keep(&object)
    };
    moment.each(&definitions, of_definitions).await?;
    for collection in rest.iter().chain(&custom) {
        moment.each(collection, |object| keep(&object)).await?;
    }
    Ok(Summary { version: moment.version, objects })
}

/// One version of a server, at which its collections are read.
pub(crate) struct Moment {
    client: Client,
    pub(crate) version: String,
}

impl Moment {
    /// The version that the server has now.
    ///
    /// # Errors
    ///
    /// When the server does not answer.
    pub(crate) async fn now(client: &Client) -> Result<Self, BackupError> {
        let [_, namespaces, ..] = builtin();
        // A list that is not at its end is one that the server lets go on: so it keeps that version for all others.
        let first = page(client, &namespaces, &ListParams::default().limit(1)).await?;
        let version = first.metadata.resource_version.unwrap_or_default();
        Ok(Self { client: client.clone(), version })
    }

    /// Gives every object of a collection that is not the server's own.
    ///
    /// # Errors
    ///
    /// When the server does not give the collection, no longer has that version, or `take` fails.
    pub(crate) async fn each(
        &self,
        collection: &Collection,
        mut take: impl FnMut(Value) -> Result<(), BackupError>,
    ) -> Result<(), BackupError> {
        let mut params = ListParams::default().limit(PAGE);
        params = params.at(&self.version).matching(kube::api::VersionMatch::Exact);
        loop {
            let list = page(&self.client, collection, &params).await?;
            for object in list.items {
                let object = complete(collection, &object);
                if !is_of_the_server(&object) {
                    take(object)?;
                }
            }
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = ListParams::default().limit(PAGE).continue_token(&token),
                None => return Ok(()),
            }
        }
    }
}

async fn page(
    client: &Client,
    collection: &Collection,
    params: &ListParams,
) -> Result<kube::core::ObjectList<DynamicObject>, BackupError> {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &collection.resource);
    api.list(params).await.map_err(|source| BackupError::Read {
        what: collection.resource.plural.clone(),
        source: Box::new(source),
    })
}

/// An object as it goes into the file: with its kind, which items of lists leave out, and without the version, which is the
/// server's own.
fn complete(collection: &Collection, object: &DynamicObject) -> Value {
    let mut object = json!(object);
    if let Some(fields) = object.as_object_mut() {
        fields.insert("apiVersion".into(), collection.resource.api_version.as_str().into());
        fields.insert("kind".into(), collection.resource.kind.as_str().into());
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("resourceVersion");
    }
    object
}

/// What a new server makes with values of its own, which a backup must not bring back.
fn is_of_the_server(object: &Value) -> bool {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    match text("/kind") {
        // Which server owns the machines does not come back with what it once had.
        "ConfigMap" if text("/metadata/namespace") == SYSTEM_NAMESPACE => {
            text("/metadata/name") == ownership::NAME || OF_THE_SERVER.contains(&text("/metadata/name"))
        }
        "ConfigMap" => OF_THE_SERVER.contains(&text("/metadata/name")),
        "Secret" => text("/type") == "kubernetes.io/service-account-token",
        _ => false,
    }
}

/// One document, which reads back as the object.
fn document(object: &Value) -> Result<String, BackupError> {
    let unfaithful = || {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        BackupError::Unfaithful(format!("{} {}", text("/kind"), text("/metadata/name")))
    };
    let mut yaml = format!("---\n{}", output::yaml(object).map_err(|_| unfaithful())?);
    if !yaml.ends_with('\n') {
        yaml.push('\n');
    }
    let (mut documents, mut findings) = (Vec::new(), Vec::new());
    manifest::parse("", &yaml, &mut documents, &mut findings);
    match documents.as_slice() {
        [one] if findings.is_empty() && one.root.to_json() == *object => Ok(yaml),
        // What the YAML writer cannot say in YAML's own way is said in JSON, which is YAML too.
        _ => Ok(format!("---\n{object}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_reads_back_as_itself() {
        let odd = [
            "",
            "yes",
            "null",
            "~",
            "1.10",
            "0x1f",
            "1e3",
            "- a",
            "a: b",
            "---",
            "a\n---\nb",
            " lead",
            "trail ",
            "a\n",
            "a\n\n",
            "\ttab",
            "#no",
            "a #b",
            "'",
            "\"",
            "\\",
            "\u{7f}\u{85}\u{2028}\u{feff}",
            "2026-11-27T10:00:00Z",
            "52:54:00:12:34:56",
            "!x",
            "&x",
            "*x",
            "{",
            "[",
            "%",
            "@",
            "`",
            "|",
            ">",
            "? x",
            "=",
            "<<",
            "\r\n",
            "a\rb",
            "\u{1}",
            "😀",
        ];
        let object = json!({"kind": "K", "metadata": {"name": "n"}, "texts": odd.to_vec(), "keys": odd.map(|t| (t, 1)).into_iter().collect::<std::collections::BTreeMap<_, _>>(), "n": [1, -1, 1.5, 1e300, u64::MAX, true, null, {}, []]});
        let text = document(&object).unwrap();
        let (mut documents, mut findings) = (Vec::new(), Vec::new());
        manifest::parse("f", &text, &mut documents, &mut findings);
        assert!(findings.is_empty(), "{findings:?}");
        assert_eq!(documents[0].root.to_json(), object);
        for text in odd {
            let object = json!({"kind": "K", "spec": {"text": text}});
            let written = document(&object).unwrap();
            let (mut documents, mut findings) = (Vec::new(), Vec::new());
            manifest::parse("f", &written, &mut documents, &mut findings);
            assert_eq!(documents[0].root.to_json(), object, "{written}");
        }
    }

    #[test]
    fn a_definition_says_where_its_objects_are() {
        let crd = json!({"spec": {"group": "g.example", "scope": "Namespaced", "names": {"kind": "Widget", "plural": "widgets"}, "versions": [
            {"name": "v1", "served": true, "storage": false}, {"name": "v2", "served": true, "storage": true}]}});
        let found = Collection::of_definition(&crd).unwrap();
        assert_eq!((found.resource.version.as_str(), found.namespaced), ("v2", true));
    }
}
