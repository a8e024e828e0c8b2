// SPDX-License-Identifier: Apache-2.0

//! `tink cluster move`: flags, how its steps look, and that only one runs on this machine. What is done is [`crate::handover`]'s.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use api::anywhere::v1alpha1::{TinkerbellDatacenterConfig, TinkerbellDatacenterConfigSpec};
use clap::Args;
use jiff::SignedDuration;
use kube::{Api, Client, api::ListParams};
use rustix::fs::{FlockOperation, flock};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{ReportFormat, create::form, progress::Form};
use crate::{
    cli::Failure,
    connect::{Places, connect_once},
    handover::{
        self, Event, MoveError, Side, Way,
        decide::{Back, Step},
    },
    output,
    pods::PodsArgs,
    setup,
};

/// The file in the state directory that is locked by the mover of this machine.
pub(super) const LOCK: &str = "move.lock";

/// Where to.
#[derive(Debug, Args)]
pub(crate) struct MoveArgs {
    /// Kubeconfig of the API server that is to own the machines, with the rights of an administrator
    #[arg(long, value_name = "KUBECONFIG")]
    to: PathBuf,
    /// Give up the move there that was begun: the machines stay owned here
    #[arg(long)]
    abort: bool,
    /// Move also while a cluster is not ready
    #[arg(long, conflicts_with = "abort")]
    force: bool,
    /// Install no daemons there: somebody else starts them
    #[arg(long)]
    without_pods: bool,
    #[command(flatten)]
    pods: PodsArgs,
    /// For whom progress is told
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: ReportFormat,
}

/// Moves, or gives a move up.
pub(super) async fn hand_over(
    args: MoveArgs,
    places: &Places,
    state_dir: &Path,
) -> Result<ExitCode, Failure> {
    let to = Places { kubeconfig: Some(args.to.clone()), state_dir: None };
    let (source, source_url) = connect_once(places).await?;
    let (target, target_url) = connect_once(&to).await?;
    let (_lock, identity) = only_one(state_dir)?;
    let with_pods = !args.abort && !args.without_pods && setup::has_rbac(&target).await?;
    let pods = if with_pods { Some(args.pods.read(&sites(&source).await?)?) } else { None };
    let (source, there) = (Side::meet(source, source_url.clone()).await?, target.clone());
    let target = Side::meet(target, target_url.clone()).await?;
    let way = if args.abort { Way::Back } else { Way::Forth { force: args.force } };
    let (sender, mut events) = handover::channel();
    let stop = CancellationToken::new();
    let signals = tokio::spawn(daemon::shutdown_on_signal(stop.clone())?);
    let mut show = Show::new(form(args.output));
    output::print(&show.begin())?;
    let answered = sender.clone();
    let (on, wanted) = (target_url.clone(), pods.is_some());
    let moving = async move {
        handover::run((source, target), (way, pods), identity, sender, stop).await?;
        if wanted {
            handover::answer(&there, &on, &answered).await?;
        }
        Ok(())
    };
    let showing = async {
        while let Some(event) = events.recv().await {
            // Whoever reads it may have left; the move goes on.
            output::print(&show.text(&event)).unwrap_or_default();
        }
    };
    let (moved, ()): (Result<(), MoveError>, ()) = tokio::join!(moving, showing);
    signals.abort();
    moved.map_err(|error| told(&error))?;
    let (owner, other) = if args.abort { (source_url, target_url) } else { (target_url, source_url) };
    output::print(&match (args.output, args.abort) {
        (ReportFormat::Json, _) => format!("{}\n", json!({ "event": "ready", "owner": owner })),
        (ReportFormat::Text, true) => format!("{other} takes part in no move from {owner} any more\n"),
        (ReportFormat::Text, false) => format!(
            "{owner} owns the machines now; what {other} has of them is of before. On the machine that ran `tink up`, `tink cluster cleanup` removes it\n"
        ),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The sites of the clusters that are moved.
async fn sites(source: &Client) -> Result<Vec<TinkerbellDatacenterConfigSpec>, Failure> {
    let sites: Api<TinkerbellDatacenterConfig> = Api::all(source.clone());
    match sites.list(&ListParams::default()).await {
        Ok(found) => Ok(found.items.into_iter().map(|site| site.spec).collect()),
        // A server that has never heard of clusters.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// What went wrong, and what then goes on.
fn told(error: &MoveError) -> Failure {
    let mut lines = vec![daemon::chain(error)];
    if error.is_on_the_way() {
        lines.push(
            "the same command goes on where this ended; until the target owns the machines, --abort gives the move up".to_owned(),
        );
    }
    Failure::Failed(lines)
}

/// Keeps a second mover from this machine out, so that the first has a name in the Lease that it finds again after a crash: the kernel gives
/// the lock back whatever ends it. Without a state directory there is no lock, and a rerun waits for the Lease's 15 seconds.
fn only_one(state_dir: &Path) -> Result<(Option<fs::File>, Option<String>), Failure> {
    if !state_dir.is_dir() {
        return Ok((None, None));
    }
    let path = state_dir.join(LOCK);
    let failed = |error: std::io::Error| Failure::Failed(vec![format!("{}: {error}", path.display())]);
    let file = fs::File::options().create(true).append(true).open(&path).map_err(failed)?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Err(Failure::Failed(vec!["another `tink cluster move` runs on this machine".to_owned()]));
    }
    let place = path.canonicalize().map_err(failed)?;
    let host = rustix::system::uname();
    let identity = format!("{}:{}", host.nodename().to_string_lossy(), place.display());
    Ok((Some(file), Some(identity)))
}

/// How a move looks: a list of its steps that is drawn anew on a terminal, lines elsewhere, an object per line for programs.
struct Show {
    form: Form,
    started: Instant,
    done: BTreeSet<Step>,
    at: Option<Step>,
    detail: String,
    drawn: usize,
}

impl Show {
    fn new(form: Form) -> Self {
        Self {
            form,
            started: Instant::now(),
            done: BTreeSet::new(),
            at: None,
            detail: String::new(),
            drawn: 0,
        }
    }

    /// What is printed before the first event, which another mover may hold up.
    fn begin(&mut self) -> String {
        match self.form {
            Form::Json => String::new(),
            Form::Tree | Form::Lines => "asking for the Lease of the move\n".to_owned(),
        }
    }

    fn text(&mut self, event: &Event) -> String {
        if self.form == Form::Json {
            return serde_json::to_string(event).map(|line| line + "\n").unwrap_or_default();
        }
        let seconds = SignedDuration::try_from(self.started.elapsed()).unwrap_or_default();
        let time = output::duration(seconds);
        let line = match event {
            Event::Begins { step } => {
                self.at = Some(*step);
                self.detail.clear();
                String::new()
            }
            Event::Done { step } => {
                self.done.insert(*step);
                self.at = None;
                done(*step).to_owned()
            }
            Event::Waits { on, reason, seconds } => {
                self.detail = format!("waiting for {on}: {reason} ({seconds}s)");
                self.detail.clone()
            }
            Event::Copied { objects, of } => {
                self.detail = format!("copied {objects} of {of} objects");
                self.detail.clone()
            }
            Event::Verified { counts, digest } => {
                let all: Vec<String> = counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
                let digest = digest.get(..12).unwrap_or(digest);
                format!("both sides have the same: {}; SHA-256 {digest}", all.join(", "))
            }
            Event::Removed { on, daemons } => {
                format!("the pods of {} are taken away from {on}", daemons.join(", "))
            }
            Event::GaveUp { step: Back::Refrain } => "the target does not own the machines".to_owned(),
            Event::GaveUp { .. } => "the source owns the machines as before".to_owned(),
        };
        match self.form {
            Form::Tree => self.tree(event, &line, &time),
            Form::Lines | Form::Json if line.is_empty() => String::new(),
            Form::Lines | Form::Json => format!("{time:>6}  {line}\n"),
        }
    }

    /// All steps, with a mark before each that is done and what goes on behind the one that is not.
    fn tree(&mut self, event: &Event, line: &str, time: &str) -> String {
        let mut text = String::new();
        if self.drawn > 0 {
            // Writing to a String cannot fail.
            write!(text, "\u{1b}[{}A\u{1b}[J", self.drawn).unwrap_or_default();
        }
        if matches!(event, Event::Verified { .. } | Event::Removed { .. } | Event::GaveUp { .. }) {
            writeln!(text, "{time:>6}  {line}").unwrap_or_default();
        }
        self.drawn = 0;
        for (step, name) in STEPS {
            let (mark, detail) = match (self.done.contains(&step), self.at == Some(step)) {
                (true, _) => ("done", ""),
                (false, true) => (time, self.detail.as_str()),
                (false, false) => ("", ""),
            };
            writeln!(text, "  {mark:>6}  {name:<44}  {detail}").unwrap_or_default();
            self.drawn += 1;
        }
        text
    }
}

const STEPS: [(Step, &str); 7] = [
    (Step::Receive, "the target is prepared"),
    (Step::Clear, "the daemons of the target stop"),
    (Step::Leave, "the source is told"),
    (Step::Drain, "the daemons of the source stop"),
    (Step::Copy, "everything is copied and compared"),
    (Step::Own, "the target owns the machines"),
    (Step::LetGo, "the source lets go"),
];

fn done(step: Step) -> &'static str {
    match step {
        Step::Receive => "the target is prepared",
        Step::Clear => "the daemons of the target have stopped",
        Step::Leave => "the source was told",
        Step::Drain => "the daemons of the source have stopped",
        Step::Copy => "everything was copied and compared",
        Step::Own => "the target owns the machines",
        Step::LetGo | Step::Done => "the source has let go",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_tell_what_is_done_and_what_is_waited_for() {
        let mut lines = Show::new(Form::Lines);
        assert_eq!(lines.text(&Event::Begins { step: Step::Drain }), "");
        let waits =
            Event::Waits { on: "https://a".to_owned(), reason: "its daemons to stop".to_owned(), seconds: 2 };
        assert_eq!(lines.text(&waits), "    0s  waiting for https://a: its daemons to stop (2s)\n");
        assert_eq!(
            lines.text(&Event::Done { step: Step::Drain }),
            "    0s  the daemons of the source have stopped\n"
        );
    }

    #[test]
    fn a_terminal_gets_every_step_once_and_drawn_anew() {
        let mut tree = Show::new(Form::Tree);
        let first = tree.text(&Event::Begins { step: Step::Receive });
        assert!(!first.contains('\u{1b}') && first.lines().count() == STEPS.len());
        let second = tree.text(&Event::Done { step: Step::Receive });
        assert!(second.starts_with("\u{1b}[7A\u{1b}[J") && second.matches("done").count() == 1, "{second}");
    }

    #[test]
    fn two_movers_of_one_machine_exclude_each_other_and_a_rerun_has_the_same_name() {
        let dir = tempfile::tempdir().unwrap();
        let Ok((lock, name)) = only_one(dir.path()) else { panic!("the first is let in") };
        assert!(only_one(dir.path()).is_err());
        drop(lock);
        let Ok((_again, same)) = only_one(dir.path()) else { panic!("the next is let in") };
        assert!(name.is_some() && name == same);
        assert!(matches!(only_one(&dir.path().join("none")), Ok((None, None))));
    }
}
