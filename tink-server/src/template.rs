// SPDX-License-Identifier: Apache-2.0
//! From the text of a Template to the tasks of a Workflow.
//!
//! Two steps: the Go template is rendered ([`gotemplate`]), then the YAML that it gave is read into tasks. Values of
//! environments keep their raw text, since actions compare text: `MODE: 0600` is `0600` and `COMPRESSED: true` is
//! `true`, whatever YAML would make of them. Unknown keys are ignored, as upstream's reader does.
//!
//! Called by the controller. Errors name the line, of the template or of the rendered text, and never quote the
//! rendered text: it may hold passwords.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use api::v1alpha1::{Action, Namespaces, Task, WorkflowState};
use gotemplate::Value;
use serde::Deserialize;
use serde_saphyr::Spanned;

/// Longest name of a template, task or action, in bytes.
const MAX_NAME: usize = 199;

/// Longest run of comment lines; people comment out whole actions, and the parser's own bound is 32.
const MAX_COMMENT_LINES: usize = 1_000_000;

/// What a rendered template says.
#[derive(Debug, Clone, PartialEq)]
pub struct Rendered {
    /// Seconds that the whole Workflow may take; 0 is no limit.
    pub global_timeout: i64,
    /// The tasks, with fresh identifiers, every action pending.
    pub tasks: Vec<Task>,
}

/// Why a Template gives no tasks. Only a changed Template or Hardware can help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The Go template does not parse or render.
    #[error(transparent)]
    Template(#[from] gotemplate::Error),
    /// The rendered text is not the YAML of a workflow.
    #[error("the rendered template is not a workflow: {0}")]
    Yaml(String),
    /// The workflow breaks rules; all of them.
    #[error("the rendered template is not a valid workflow: {}", .0.join("; "))]
    Invalid(Vec<String>),
}

/// Renders and reads a Template; `id` gives a fresh identifier at every call.
///
/// # Errors
/// See [`Error`].
pub fn render(text: &str, data: &Value, id: &mut dyn FnMut() -> String) -> Result<Rendered, Error> {
    let rendered = gotemplate::render(text, data)?;
    let budget = serde_saphyr::budget! { max_buffered_comment_events: MAX_COMMENT_LINES };
    let options = serde_saphyr::options! { budget: budget };
    let workflow: Document = serde_saphyr::from_str_with_options(&rendered, options)
        .map_err(|error| Error::Yaml(yaml_error(&error)))?;
    let mistakes = check(&workflow);
    if !mistakes.is_empty() {
        return Err(Error::Invalid(mistakes));
    }
    let tasks = workflow.tasks.into_iter().map(|task| task.value.into_task(id)).collect();
    Ok(Rendered { global_timeout: workflow.global_timeout.unwrap_or(0), tasks })
}

/// The message of a YAML error with its place, without the lines around it.
fn yaml_error(error: &serde_saphyr::Error) -> String {
    error.without_snippet().to_string()
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    name: String,
    #[serde(default)]
    global_timeout: Option<i64>,
    #[serde(default)]
    tasks: Vec<Spanned<TaskDocument>>,
}

/// Values of an environment as they are written.
type Environment = BTreeMap<String, Option<String>>;

#[derive(Deserialize)]
struct TaskDocument {
    #[serde(default)]
    name: String,
    #[serde(default)]
    worker: String,
    #[serde(default)]
    volumes: Option<Vec<String>>,
    #[serde(default)]
    environment: Option<Environment>,
    #[serde(default)]
    actions: Option<Vec<Spanned<ActionDocument>>>,
}

#[derive(Deserialize)]
struct ActionDocument {
    #[serde(default)]
    name: String,
    #[serde(default)]
    image: String,
    #[serde(default)]
    timeout: Option<i64>,
    #[serde(default)]
    command: Option<Vec<String>>,
    #[serde(default)]
    volumes: Option<Vec<String>>,
    #[serde(default)]
    environment: Option<Environment>,
    #[serde(default)]
    pid: Option<String>,
    #[serde(default)]
    namespaces: Option<NamespacesDocument>,
}

#[derive(Deserialize)]
struct NamespacesDocument {
    network: Option<String>,
    pid: Option<String>,
}

fn environment(from: Option<Environment>) -> BTreeMap<String, String> {
    from.unwrap_or_default().into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect()
}

impl TaskDocument {
    fn into_task(self, id: &mut dyn FnMut() -> String) -> Task {
        let task_id = id();
        let actions = self.actions.unwrap_or_default();
        Task {
            id: task_id,
            name: self.name,
            agent_id: self.worker,
            volumes: self.volumes.unwrap_or_default(),
            environment: environment(self.environment),
            actions: actions.into_iter().map(|action| action.value.into_action(id())).collect(),
        }
    }
}

impl ActionDocument {
    fn into_action(self, id: String) -> Action {
        Action {
            id,
            name: Some(self.name),
            image: Some(self.image),
            timeout: self.timeout,
            command: self.command.unwrap_or_default(),
            volumes: self.volumes.unwrap_or_default(),
            environment: environment(self.environment),
            pid: self.pid,
            namespaces: self.namespaces.map(|n| Namespaces { network: n.network, pid: n.pid }),
            state: WorkflowState::Pending,
            ..Action::default()
        }
    }
}

/// All broken rules, each with its line.
fn check(workflow: &Document) -> Vec<String> {
    let mut mistakes = Vec::new();
    if let Some(problem) = name_problem(&workflow.name) {
        mistakes.push(format!("name {problem}"));
    }
    if workflow.global_timeout.is_some_and(|seconds| seconds < 0) {
        mistakes.push("global_timeout must not be negative".to_owned());
    }
    if workflow.tasks.is_empty() {
        mistakes.push("tasks is empty: a workflow needs at least one".to_owned());
    }
    let mut names = BTreeSet::new();
    for task in &workflow.tasks {
        let line = task.referenced.line();
        let mut say = |problem: String| mistakes.push(format!("line {line}: {problem}"));
        let label = format!("task \"{}\"", task.value.name);
        if let Some(problem) = name_problem(&task.value.name) {
            say(format!("a task's name {problem}"));
        } else if !names.insert(task.value.name.as_str()) {
            say(format!("{label} is there twice"));
        }
        if task.value.worker.is_empty() {
            say(format!("{label} has no worker"));
        }
        check_actions(&task.value, &mut mistakes);
    }
    mistakes
}

fn check_actions(task: &TaskDocument, mistakes: &mut Vec<String>) {
    let mut names = BTreeSet::new();
    for action in task.actions.iter().flatten() {
        let line = action.referenced.line();
        let mut say = |problem: String| {
            let mut text = format!("line {line}: ");
            // Writing to a String cannot fail.
            write!(text, "{problem}").unwrap_or_default();
            mistakes.push(text);
        };
        let label = format!("action \"{}\"", action.value.name);
        if let Some(problem) = name_problem(&action.value.name) {
            say(format!("an action's name {problem}"));
        } else if !names.insert(action.value.name.as_str()) {
            say(format!("{label} is there twice in task \"{}\"", task.name));
        }
        if !is_image(&action.value.image) {
            say(format!("{label} has no valid image"));
        }
        if action.value.timeout.is_some_and(|seconds| seconds < 0) {
            say(format!("{label} has a negative timeout"));
        }
    }
}

fn name_problem(name: &str) -> Option<String> {
    match name.len() {
        0 => Some("is missing".to_owned()),
        length if length > MAX_NAME => Some(format!("has {length} bytes; at most {MAX_NAME} are allowed")),
        _ => None,
    }
}

/// Whether this is a normalised image reference: `[host[:port]/]path[:tag][@digest]`.
fn is_image(image: &str) -> bool {
    let (rest, digest) = image.split_once('@').map_or((image, None), |(rest, digest)| (rest, Some(digest)));
    if digest.is_some_and(|d| !is_digest(d)) {
        return false;
    }
    let (host, path) = match rest.split_once('/') {
        Some((first, path)) if first.contains(['.', ':']) || first == "localhost" => (Some(first), path),
        _ => (None, rest),
    };
    let (path, tag) = path.split_once(':').map_or((path, None), |(path, tag)| (path, Some(tag)));
    host.is_none_or(is_host)
        && tag.is_none_or(is_tag)
        && !path.is_empty()
        && path.split('/').all(is_path_component)
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(v6) => match v6.split_once(']') {
            Some((address, rest)) => {
                return address.parse::<std::net::Ipv6Addr>().is_ok()
                    && (rest.is_empty() || rest.strip_prefix(':').is_some_and(|p| p.parse::<u16>().is_ok()));
            }
            None => return false,
        },
        None => host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port))),
    };
    port.is_none_or(|p| p.parse::<u16>().is_ok())
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-')
}

fn is_tag(tag: &str) -> bool {
    (1..=128).contains(&tag.len())
        && !tag.starts_with(['.', '-'])
        && tag.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

fn is_digest(digest: &str) -> bool {
    digest.split_once(':').is_some_and(|(algorithm, hex)| {
        !algorithm.is_empty() && hex.len() >= 32 && hex.chars().all(|c| c.is_ascii_hexdigit())
    })
}

fn is_path_component(part: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    edge(part.chars().next())
        && edge(part.chars().last())
        && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c))
}

#[cfg(test)]
mod tests;
