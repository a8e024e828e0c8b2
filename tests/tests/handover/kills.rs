// SPDX-License-Identifier: Apache-2.0
//! `tink cluster move` is killed with SIGKILL at each thing that it tells, and the servers beside it: the rerun goes on, and at no
//! time may daemons of both sides write.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::access::Component;
use api::annotations::SYSTEM_NAMESPACE;
use api::ownership::{self, Journal, State};
use k8s_openapi::api::core::v1::{ConfigMap, Event};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use rustix::process::Signal;
use serde_json::Value;
use tests::alone::Alone;
use tests::apart::{Program, own_flags};
use tests::stack::{client_of, eventually, tink};
use tests::target::Kind;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{ChildStdout, Command};

use crate::rack::{everything, populate, same, work};

pub const STEP: Duration = Duration::from_secs(150);
/// Moments that are over before a kill arrives, which then hits what comes next: that has a kill of its own.
const FLEETING: [&str; 4] = ["verified ", "done copy", "done own", "ready "];
/// Until a daemon has heard of it and ended.
const HEARD: Duration = Duration::from_secs(60);

/// Everything as it is told, one line an event. Without an address, nothing runs as pods on the target.
pub fn mover(from: &Alone, to: &Alone, more: &[&str]) -> Result<Command> {
    let mut command = Command::new(tink()?);
    let kubeconfig = from.kubeconfig();
    command
        .arg("--state-dir")
        .arg(kubeconfig.parent().context("a folder")?)
        .arg("--kubeconfig")
        .arg(&kubeconfig);
    command.args(["cluster", "move", "--output", "json", "--to"]).arg(to.kubeconfig()).args(more);
    if !more.contains(&"--address") {
        command.arg("--without-pods");
    }
    command.env_remove("KUBECONFIG").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.kill_on_drop(true);
    Ok(command)
}

/// Moves without disturbance; gives the events.
async fn move_over(from: &Alone, to: &Alone, more: &[&str]) -> Result<String> {
    let output =
        tokio::time::timeout(STEP, mover(from, to, more)?.output()).await.context("the move hangs")??;
    let (said, problem) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "the move ended with {}: {problem}\n{said}", output.status);
    Ok(said.into_owned())
}

/// Which moments there were: an event's kind and step.
fn moment(line: &str) -> Result<String> {
    let event: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
    Ok(format!(
        "{} {}",
        event["event"].as_str().unwrap_or_default(),
        event["step"].as_str().unwrap_or_default()
    ))
}

/// Moves, and is killed at every moment that it tells of for the first time; `beside` is done at each kill.
async fn move_with_kills(
    from: &mut Alone,
    to: &mut Alone,
    mut beside: impl AsyncFnMut(&str, &mut Alone, &mut Alone) -> Result<()>,
) -> Result<BTreeSet<String>> {
    let mut killed_at = BTreeSet::new();
    loop {
        let mut child = mover(from, to, &[])?.spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let told = async {
            while let Some(line) = lines.next_line().await? {
                let moment = moment(&line)?;
                if !FLEETING.contains(&moment.as_str()) && killed_at.insert(moment.clone()) {
                    return Ok::<_, anyhow::Error>(Some(moment));
                }
            }
            Ok(None)
        };
        let at = tokio::time::timeout(STEP, told).await.context("it tells nothing")??;
        let Some(moment) = at else {
            let output = child.wait_with_output().await?;
            let problem = String::from_utf8_lossy(&output.stderr).into_owned();
            ensure!(
                output.status.success(),
                "it ended with {}: {problem}; killed at {killed_at:?}",
                output.status
            );
            return Ok(killed_at);
        };
        child.kill().await?;
        beside(&moment, from, to).await?;
    }
}

pub async fn journal(client: &Client) -> Result<Journal> {
    let journals: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    Ok(Journal::read(journals.get_opt(ownership::NAME).await?.as_ref())?)
}

/// Whether a daemon's account may write on a server of ours.
async fn may_write(server: &Alone) -> Result<bool> {
    let folder = server.kubeconfig();
    let folder = folder.parent().context("a folder")?;
    let client = client_of(&folder.join(format!("{}.kubeconfig", Component::Boots.name()))).await?;
    let events: Api<Event> = Api::default_namespaced(client);
    let metadata = ObjectMeta { generate_name: Some("probe-".to_owned()), ..ObjectMeta::default() };
    let involved_object = k8s_openapi::api::core::v1::ObjectReference {
        namespace: Some("tinkerbell".to_owned()),
        ..Default::default()
    };
    match events
        .create(&PostParams::default(), &Event { metadata, involved_object, ..Event::default() })
        .await
    {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn never_both(from: &Alone, to: &Alone) -> Result<()> {
    let (source, target) = (journal(&from.client().await?).await?, journal(&to.client().await?).await?);
    let moving = target.of.is_some();
    ensure!(!(moving && source.acts() && target.acts()), "both own: {source:?}, {target:?}");
    for (side, journal) in [(from, &source), (to, &target)] {
        let gone = matches!(journal.state, State::Drained | State::Awaiting | State::Moved);
        if side.kind == Kind::Embedded && gone {
            ensure!(!may_write(side).await?, "a daemon may write where it says {journal:?}");
        }
    }
    Ok(())
}

/// One mover, under which both servers go away and come back: the target for a moment, and the source, which has the Lease of the
/// move, for longer than that lasts.
pub async fn away() -> Result<()> {
    let (mut one, _) = Alone::start(Kind::Embedded, false).await?;
    let (mut two, _) = Alone::start(Kind::Kubernetes, false).await?;
    populate(&one.client().await?).await?;
    let before = everything(&one.client().await?).await?;
    let mut child = mover(&one, &two, &[])?.spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();

    told(&mut lines, r#""begins","step":"receive""#).await?;
    two.end(Signal::KILL).await?;
    told(&mut lines, r#""reason":"an answer: "#).await?;
    two.begin().await?;
    told(&mut lines, r#""done","step":"receive""#).await?;
    one.end(Signal::KILL).await?;
    told(&mut lines, r#""reason":"the Lease of the move, which was not renewed in time""#).await?;
    one.begin().await?;
    told(&mut lines, r#""event":"ready""#).await?;
    let output = child.wait_with_output().await?;
    let problem = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the move ended with {}: {problem}", output.status);
    ensure!(journal(&two.client().await?).await?.acts(), "the target does not own the machines");
    same(&before, &everything(&two.client().await?).await?)
}

/// Reads until a line that contains this.
pub async fn told(lines: &mut Lines<BufReader<ChildStdout>>, text: &str) -> Result<()> {
    let read = async {
        let mut all = Vec::new();
        while let Some(line) = lines.next_line().await? {
            if line.contains(text) {
                return Ok(());
            }
            all.push(line);
        }
        anyhow::bail!("{text:?} was not told: {all:#?}")
    };
    tokio::time::timeout(STEP, read).await.with_context(|| format!("it does not tell {text:?}"))?
}

pub async fn ours() -> Result<()> {
    let (mut one, _) = Alone::start(Kind::Embedded, false).await?;
    let (mut two, _) = Alone::start(Kind::Embedded, false).await?;
    populate(&one.client().await?).await?;
    let before = everything(&one.client().await?).await?;
    let logs = tempfile::tempdir()?;
    let mut hegel = start_hegel("hegel", &one, 9402, logs.path())?;
    hegel.ready(HEARD).await?;
    ensure!(may_write(&one).await?, "accounts may write before anything moves");

    let killed_at = move_with_kills(&mut one, &mut two, async |moment, from, to| {
        never_both(from, to).await?;
        match moment {
            // Servers are killed, too, while they have something to do.
            "begins drain" | "done drain" => drop(from.restart(Signal::KILL).await?),
            "begins clear" | "begins copy" => drop(to.restart(Signal::KILL).await?),
            _ => {}
        }
        Ok(())
    })
    .await?;
    println!("  killed at {killed_at:?}");
    for step in ["receive", "clear", "leave", "drain", "copy", "own", "let-go"] {
        ensure!(killed_at.contains(&format!("begins {step}")), "never killed when it began to {step}");
    }
    let (here, there) = (one.client().await?, two.client().await?);
    ensure!(journal(&here).await?.state == State::Moved && journal(&there).await?.acts(), "it is not moved");
    same(&before, &everything(&there).await?)?;
    ensure!(!may_write(&one).await? && may_write(&two).await?, "the wrong side's accounts may write");
    let status = hegel.ended(HEARD).await?;
    ensure!(status.success(), "hegel was not asked to end well: {status}");
    refuses_to_act(&one, logs.path()).await?;

    let done = move_over(&one, &two, &[]).await?;
    ensure!(
        done.lines().count() == 1 && done.contains("\"ready\""),
        "a move that is over does something: {done}"
    );
    work(&there).await?;
    let before = everything(&there).await?;
    move_over(&two, &one, &[]).await?;
    same(&before, &everything(&one.client().await?).await?)?;
    ensure!(may_write(&one).await? && !may_write(&two).await?, "the wrong side's accounts may write");
    Ok(())
}

/// The daemon as a program of its own, or as a part of `tink`.
fn start_hegel(program: &str, server: &Alone, health: u16, logs: &Path) -> Result<Program> {
    let folder = server.kubeconfig();
    let mut flags = if program == "tink" { vec!["hegel".to_owned()] } else { Vec::new() };
    flags.extend(own_flags(folder.parent().context("a folder")?));
    flags.push(format!("--tootles-health-port={health}"));
    flags.push("--tootles-http-port=9403".to_owned());
    Program::start(program, "hegel", &flags, health, logs)
}

/// A daemon does not begin, and no cluster is made or taken apart, where the machines are not owned.
async fn refuses_to_act(server: &Alone, logs: &Path) -> Result<()> {
    let hegel = start_hegel("tink", server, 9404, logs)?;
    eventually("hegel to be alive and not ready", HEARD, async || {
        let waits = hegel.asked("healthz").is_ok() && hegel.asked("readyz").is_err();
        Ok((waits && hegel.tail().contains("may not work yet")).then_some(()))
    })
    .await?;
    ensure!(std::net::TcpStream::connect(("127.0.0.1", 9403)).is_err(), "it serves metadata");
    hegel.terminate(HEARD).await?;
    let delete = Command::new(tink()?)
        .args(["cluster", "delete", "rack", "--yes", "--kubeconfig"])
        .arg(server.kubeconfig())
        .output()
        .await?;
    let problem = String::from_utf8_lossy(&delete.stderr).into_owned();
    ensure!(!delete.status.success() && problem.contains("does not own the machines"), "{problem}");
    Ok(())
}

pub async fn kubernetes() -> Result<()> {
    let (mut one, _) = Alone::start(Kind::Embedded, false).await?;
    let (mut two, _) = Alone::start(Kind::Kubernetes, true).await?;
    populate(&one.client().await?).await?;
    let before = everything(&one.client().await?).await?;
    let killed_at =
        move_with_kills(&mut one, &mut two, async |_, from, to| never_both(from, to).await).await?;
    println!("  killed at {killed_at:?}");
    let there = two.client().await?;
    ensure!(journal(&there).await?.acts() && !may_write(&one).await?, "it is not moved");
    same(&before, &everything(&there).await?)?;
    work(&there).await?;
    let before = everything(&there).await?;
    move_over(&two, &one, &[]).await?;
    ensure!(!journal(&there).await?.acts() && may_write(&one).await?, "it is not moved back");
    same(&before, &everything(&one.client().await?).await?)
}

pub async fn given_up() -> Result<()> {
    let (one, _) = Alone::start(Kind::Embedded, false).await?;
    let (two, _) = Alone::start(Kind::Embedded, false).await?;
    let (three, _) = Alone::start(Kind::Embedded, false).await?;
    populate(&one.client().await?).await?;
    populate(&three.client().await?).await?;
    let refused = mover(&one, &three, &[])?.output().await?;
    let problem = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(!refused.status.success() && problem.contains("of its own"), "{problem}");
    ensure!(
        journal(&one.client().await?).await?.acts() && may_write(&three).await?,
        "a refused move has an effect"
    );

    let mut child = mover(&one, &two, &[])?.spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
    while let Some(line) =
        tokio::time::timeout(STEP, lines.next_line()).await.context("it tells nothing")??
    {
        if moment(&line)? == "done copy" {
            break;
        }
    }
    child.kill().await?;
    never_both(&one, &two).await?;
    let elsewhere = mover(&one, &three, &[])?.output().await?;
    let problem = String::from_utf8_lossy(&elsewhere.stderr).into_owned();
    ensure!(!elsewhere.status.success() && problem.contains("--abort"), "{problem}");
    move_over(&one, &two, &["--abort"]).await?;
    let (here, there) = (one.client().await?, two.client().await?);
    ensure!(
        journal(&here).await?.acts() && journal(&there).await?.state == State::Moved,
        "it is not given up"
    );
    eventually("accounts of the source to be let in", HEARD, async || {
        let may = may_write(&one).await.map_err(|error| error.to_string())?;
        Ok(may.then_some(()))
    })
    .await?;
    ensure!(!may_write(&two).await?, "accounts of the target may write");
    // And then it is moved all the same.
    move_over(&one, &two, &[]).await?;
    same(&everything(&here).await?, &everything(&there).await?)
}
