// SPDX-License-Identifier: Apache-2.0
//! A person at a terminal with one server: runs command lines and notes what they print.
//!
//! A command that ends otherwise than it should is noted, and the session goes on, so that one run tells everything.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::stack::eventually;
use tests::target::Target;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};

use crate::normal::normal;
use crate::program::Kubectl;

/// Time that one command may take on a busy machine; none waits for longer by itself.
const COMMAND: Duration = Duration::from_secs(90);
/// Manifests that commands name as `%name`.
const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kubectl/data");

/// What a command printed, as it came.
#[derive(Debug, Clone, Default)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// One command with its normalised texts.
#[derive(Debug)]
pub struct Step {
    line: String,
    said: Said,
    /// What is wrong with it, whatever the other server says.
    problems: Vec<String>,
    held: Held,
}

/// How its texts are held against the other server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    /// They are the same.
    Same,
    /// Every line of ours is one of theirs.
    Within,
    /// They are not.
    Apart,
}

/// The session.
pub struct Session<'a> {
    pub server: &'a Target,
    pub kubectl: &'a Kubectl,
    /// The namespace that its commands are about.
    pub namespace: String,
    folder: tempfile::TempDir,
    cache: PathBuf,
    steps: Vec<Step>,
    editor: Option<String>,
    held: Held,
}

impl<'a> Session<'a> {
    /// Opens one with an empty namespace named after the scenario.
    pub async fn start(
        server: &'a Target,
        kubectl: &'a Kubectl,
        name: &str,
        caches: &Path,
    ) -> Result<Session<'a>> {
        let namespace = format!("{}-{}", name.replace('_', "-"), kubectl.label);
        let mut session = Self {
            server,
            kubectl,
            folder: tempfile::Builder::new().prefix("kubectl-").tempdir()?,
            // Of its own: what one scenario has learned of a server, another that runs beside it may change.
            cache: caches.join(format!("{}-{}-{name}", server.kind.name(), kubectl.label)),
            steps: Vec::new(),
            editor: None,
            held: Held::Same,
            namespace,
        };
        session.write_kubeconfig()?;
        session.ok(&format!("create namespace {}", session.namespace.clone())).await?;
        Ok(session)
    }

    /// The target's kubeconfig with our namespace in it.
    fn write_kubeconfig(&self) -> Result<()> {
        let mut config = kube::config::Kubeconfig::read_from(&self.server.kubeconfig)?;
        for context in config.contexts.iter_mut().filter_map(|named| named.context.as_mut()) {
            context.namespace = Some(self.namespace.clone());
        }
        Ok(fs::write(self.path("kubeconfig"), serde_json::to_string(&config)?)?)
    }

    /// A file of the session's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file that commands name as `@name`.
    pub fn file(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        Ok(fs::write(path, text)?)
    }

    /// A shell script that `kubectl edit` runs as the editor of the next commands; the file to edit is `$1`.
    pub fn editor(&mut self, script: &str) -> Result<()> {
        self.file("editor.sh", script)?;
        self.editor = Some(format!("sh {}", self.path("editor.sh").display()));
        Ok(())
    }

    /// The next command's texts are not held against the other server's, for this reason; its code is.
    pub fn apart(&mut self, _why: &'static str) -> &mut Self {
        self.held = Held::Apart;
        self
    }

    /// The next command may print more lines at Kubernetes, for this reason.
    pub fn within(&mut self, _why: &'static str) -> &mut Self {
        self.held = Held::Within;
        self
    }

    /// Runs a command line that must succeed; gives its output.
    pub async fn ok(&mut self, line: &str) -> Result<String> {
        Ok(self.run(line, None, 0).await?.out)
    }

    /// Runs a command line that must fail; gives what it complains of.
    pub async fn fails(&mut self, line: &str) -> Result<String> {
        Ok(self.run(line, None, 1).await?.err)
    }

    /// Runs a command line that gets `input` on its standard input and must succeed.
    pub async fn piped(&mut self, line: &str, input: &str) -> Result<String> {
        Ok(self.run(line, Some(input), 0).await?.out)
    }

    /// The same for one that must fail.
    pub async fn piped_fails(&mut self, line: &str, input: &str) -> Result<String> {
        Ok(self.run(line, Some(input), 1).await?.err)
    }

    /// Runs a command line that must succeed and print this somewhere.
    pub async fn says(&mut self, line: &str, text: &str) -> Result<()> {
        let said = self.run(line, None, 0).await?;
        self.must(said.out.contains(text) || said.err.contains(text), || format!("does not say {text:?}"));
        Ok(())
    }

    /// Runs a command line that must fail and complain of this.
    pub async fn complains(&mut self, line: &str, text: &str) -> Result<()> {
        let err = self.fails(line).await?;
        self.must(err.contains(text), || format!("does not complain of {text:?}"));
        Ok(())
    }

    /// Runs a command line that must end with `code`.
    pub async fn run(&mut self, line: &str, input: Option<&str>, code: i32) -> Result<Said> {
        let mut child = self.spawn(line)?;
        let mut pipe = child.stdin.take().context("its standard input is a pipe")?;
        if let Some(input) = input {
            pipe.write_all(input.as_bytes()).await?;
        }
        drop(pipe);
        let output = tokio::time::timeout(COMMAND, child.wait_with_output()).await;
        let output =
            output.with_context(|| format!("kubectl {line}: not within {} s", COMMAND.as_secs()))??;
        let said = Said::of(&output);
        match input {
            Some(input) => self.note(&format!("{line} <<< {}", input.trim().replace('\n', " ")), &said),
            None => self.note(line, &said),
        }
        self.must(said.code == code, || format!("ends with {} instead of {code}", said.code));
        Ok(said)
    }

    fn note(&mut self, line: &str, said: &Said) {
        let folder = self.folder.path().display().to_string();
        let host = self.server.url.trim_start_matches("https://");
        let own = [(folder.as_str(), "FOLDER"), (self.server.url.as_str(), "SERVER"), (host, "HOST")];
        let headless = line.contains("--no-headers");
        let (out, err) = (normal(&said.out, &own, headless), normal(&said.err, &own, false));
        let said = Said { code: said.code, out, err };
        let line = normal(line, &own, false);
        let held = std::mem::replace(&mut self.held, Held::Same);
        self.steps.push(Step { line, said, problems: Vec::new(), held });
    }

    /// Notes a problem with the last command unless `holds`.
    pub fn must(&mut self, holds: bool, problem: impl FnOnce() -> String) {
        if let (false, Some(step)) = (holds, self.steps.last_mut()) {
            step.problems.push(problem());
        }
    }

    /// Starts a watch and waits until the server has answered it: whatever changes now is seen.
    pub async fn begin(&mut self, line: &str) -> Result<Running> {
        let (output, errors) = (self.path("running.out"), self.path("running.err"));
        // It tells of its requests, since nothing else says when the watch stands.
        let mut command = self.command(&format!("{line} -v=6"))?;
        command.stdin(Stdio::null()).stdout(fs::File::create(&output)?).stderr(fs::File::create(&errors)?);
        let running = Running { line: line.to_owned(), child: command.spawn()?, output, errors };
        running.says(&running.errors, "watch=true").await?;
        Ok(running)
    }

    fn spawn(&self, line: &str) -> Result<Child> {
        let mut command = self.command(line)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().with_context(|| format!("start {}", self.kubectl.program.display()))
    }

    fn command(&self, line: &str) -> Result<Command> {
        let mut command = Command::new(&self.kubectl.program);
        command
            .args(words(line)?.into_iter().map(|word| self.resolve(&word)))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
            .env("TMPDIR", self.folder.path())
            .env("KUBECONFIG", self.path("kubeconfig"))
            .env("KUBECACHEDIR", &self.cache)
            .env("KUBECTL_APPLYSET", "true")
            .current_dir(self.folder.path())
            .kill_on_drop(true);
        if let Some(editor) = &self.editor {
            command.env("KUBE_EDITOR", editor);
        }
        Ok(command)
    }

    /// `@name` at the start of a word, or behind a `=`, is a file of the session, `%name` one of the test's data.
    fn resolve(&self, word: &str) -> String {
        let folder = self.folder.path().display().to_string();
        for (sign, folder) in [('@', folder.as_str()), ('%', DATA)] {
            if let Some(name) = word.strip_prefix(sign) {
                return format!("{folder}/{name}");
            }
            if let Some((flag, name)) = word.split_once(&format!("={sign}")) {
                return format!("{flag}={folder}/{name}");
            }
        }
        word.to_owned()
    }

    /// Repeats a command line until it prints or complains of this; only the last try is noted.
    pub async fn until(&mut self, line: &str, text: &str) -> Result<()> {
        let this = &*self;
        let said = eventually(&format!("kubectl {line} says {text:?}"), COMMAND, async || {
            let output = this.command(line).map_err(|error| error.to_string())?.output().await;
            let said = Said::of(&output.map_err(|error| error.to_string())?);
            let met = said.out.contains(text) || said.err.contains(text);
            if met { Ok(Some(said)) } else { Err(format!("{}{}", said.out, said.err)) }
        })
        .await?;
        self.note(line, &said);
        Ok(())
    }

    /// One value of an object that is there, as the server has it.
    pub async fn value(&self, path: &str, pointer: &str) -> Result<Value> {
        let answer = self.server.get(path).await?;
        ensure!(answer.code == 200, "{path}: {}", answer.text());
        answer
            .json
            .pointer(pointer)
            .cloned()
            .with_context(|| format!("{path} has no {pointer}: {}", answer.text()))
    }

    pub fn into_steps(self) -> Vec<Step> {
        self.steps
    }
}

impl Said {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().unwrap_or(-1);
        Self { code, out: text(&output.stdout), err: text(&output.stderr) }
    }
}

/// A watch.
pub struct Running {
    line: String,
    child: Child,
    output: PathBuf,
    errors: PathBuf,
}

impl Running {
    /// Waits until it has printed this.
    pub async fn until(&mut self, text: &str) -> Result<()> {
        self.says(&self.output, text).await
    }

    async fn says(&self, file: &Path, text: &str) -> Result<()> {
        eventually(&format!("kubectl {} says {text:?}", self.line), COMMAND, async || {
            let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
            let said = read(file);
            if said.contains(text) { Ok(Some(())) } else { Err(format!("{said}{}", read(&self.errors))) }
        })
        .await
    }

    /// Waits until it ends by itself and notes what it said.
    pub async fn end(mut self, session: &mut Session<'_>, code: i32) -> Result<()> {
        let status = tokio::time::timeout(COMMAND, self.child.wait()).await;
        let status = status.with_context(|| format!("kubectl {} goes on", self.line))??;
        let found = status.code().unwrap_or(-1);
        self.noted(session, found)?;
        session.must(found == code, || format!("ends with {found} instead of {code}"));
        Ok(())
    }

    /// Ends it as a person does and notes what it said.
    pub async fn stop(mut self, session: &mut Session<'_>) -> Result<()> {
        self.child.kill().await?;
        self.noted(session, 0)
    }

    fn noted(&self, session: &mut Session<'_>, code: i32) -> Result<()> {
        let (out, err) = (fs::read_to_string(&self.output)?, fs::read_to_string(&self.errors)?);
        // Not what it told of its requests.
        let err = err.lines().filter(|line| !line.starts_with('I')).collect::<Vec<_>>().join("\n");
        session.note(&self.line, &Said { code, out, err });
        Ok(())
    }
}

/// The words of a command line: split at spaces, with single quotes around words that have some.
fn words(line: &str) -> Result<Vec<String>> {
    let (mut words, mut word, mut quoted, mut some) = (Vec::new(), String::new(), false, false);
    for character in line.chars() {
        match character {
            '\'' => (quoted, some) = (!quoted, true),
            ' ' if !quoted => {
                if some || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                some = false;
            }
            other => word.push(other),
        }
    }
    ensure!(!quoted, "a quote is open in {line}");
    if some || !word.is_empty() {
        words.push(word);
    }
    Ok(words)
}

/// Something that is not as it should be.
#[derive(Debug)]
pub struct Difference(pub String);

/// What is wrong with the steps of a session, and where its two sides differ.
pub fn differences(ours: &[Step], theirs: &[Step]) -> Vec<Difference> {
    ours.iter().zip(theirs).flat_map(|(ours, theirs)| of_step(ours, theirs)).collect()
}

fn of_step(ours: &Step, theirs: &Step) -> Vec<Difference> {
    let line = &ours.line;
    let mut wrong = Vec::new();
    let mut note = |what: String| wrong.push(Difference(what));
    for (who, step) in [("embedded", ours), ("kubernetes", theirs)] {
        for problem in &step.problems {
            note(format!("$ kubectl {line}\n  {who} {problem}:\n{}{}", step.said.out, step.said.err));
        }
    }
    if ours.line != theirs.line {
        note(format!("kubectl {line} is held against kubectl {}", theirs.line));
    }
    let codes = (ours.said.code.to_string(), theirs.said.code.to_string());
    let parts = [
        ("code", codes.0.as_str(), codes.1.as_str()),
        ("output", ours.said.out.as_str(), theirs.said.out.as_str()),
        ("errors", ours.said.err.as_str(), theirs.said.err.as_str()),
    ];
    for (part, mine, other) in parts {
        let unlike = match ours.held {
            Held::Apart if part != "code" => String::new(),
            Held::Within => beyond(mine, other),
            _ => unlike(mine, other),
        };
        if !unlike.is_empty() {
            note(format!("$ kubectl {line}\n  {part} differs:\n{unlike}"));
        }
    }
    wrong
}

/// The lines of ours that they do not have.
fn beyond(ours: &str, theirs: &str) -> String {
    let extra = ours.lines().filter(|line| !theirs.lines().any(|other| other == *line));
    extra.map(|line| format!("  - {line}\n")).collect()
}

/// The lines that only one has, in order: `-` ours, `+` theirs.
fn unlike(ours: &str, theirs: &str) -> String {
    let (ours, theirs): (Vec<&str>, Vec<&str>) = (ours.lines().collect(), theirs.lines().collect());
    let same = ours.iter().zip(&theirs).take_while(|(a, b)| a == b).count();
    let (ours, theirs) = (ours.get(same..).unwrap_or_default(), theirs.get(same..).unwrap_or_default());
    let tail = ours.iter().rev().zip(theirs.iter().rev()).take_while(|(a, b)| a == b).count();
    let shown = |lines: &[&str], sign: char| {
        let some = lines.get(..lines.len() - tail).unwrap_or_default();
        some.iter().map(|line| format!("  {sign} {line}\n")).collect::<String>()
    };
    format!("{}{}", shown(ours, '-'), shown(theirs, '+'))
}
