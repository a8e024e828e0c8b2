// SPDX-License-Identifier: Apache-2.0

//! `tink cluster create`, `get` and `delete`: from files to a cluster and its kubeconfig, how it stands, and back.
//!
//! Owns the flags, the question before disks are written, and the files that are left. What is done is the orchestrator's. Both
//! can be run again after they ended in any way, and go on.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, IsTerminal as _, Write as _},
    net::{IpAddr, UdpSocket},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use api::{
    annotations::LABEL_OWNER_NAME,
    anywhere::v1alpha1::{Cluster, NAMESPACE},
    v1alpha1::Hardware,
};
use clap::Args;
use jiff::Timestamp;
use kube::{Api, Client, ResourceExt as _, api::ListParams};
use orchestrator::{
    check::{self, Subject},
    cluster::{self, ClusterFile},
    finding::Findings,
    inventory::{self, Inventory, Server},
    keeper,
    lifecycle::{
        Addon, MAX_MANIFEST, Wait,
        run::{Event, Run, Waiting},
        store::{Store, StoreError},
    },
    probe,
    provider::{Provider as _, bare_metal::Rack},
    syntax,
};
use serde_json::json;
use thiserror::Error;

use super::{
    ReportFormat, host,
    progress::{Form, Progress},
};
use crate::{cli::Failure, handover, hardware, output, rpc::RpcArgs};

/// Between two looks at a cluster that somebody else sees to.
const FOLLOW: Duration = Duration::from_secs(1);

/// What to make.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The cluster file, or - for standard input
    #[arg(short, long = "filename", value_name = "FILE")]
    filename: PathBuf,
    /// The machines: hardware.csv; without it, those that the API server has
    #[arg(short = 'z', long = "hardware-csv", value_name = "FILE")]
    hardware_csv: Option<PathBuf>,
    /// Manifest of the network plugin, such as Cilium's own rendered one
    #[arg(long, value_name = "FILE|URL")]
    cni_manifest: Option<String>,
    /// Manifest of the default storage class
    #[arg(long, value_name = "FILE|URL")]
    storage_manifest: Option<String>,
    /// Docker-archive of the daemons (`tink image`) that nodes of the control plane fetch, where no registry has it
    #[arg(long, value_name = "URL")]
    stack_image: Option<String>,
    /// Address of this machine that the others reach [default: the one on the way to tinkerbellIP]
    #[arg(long, value_name = "IP")]
    tinkerbell_bootstrap_ip: Option<IpAddr>,
    /// Folder for the kubeconfig and the cluster file [default: the name of the cluster]
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Check the files alone before: ask no BMC, no server and no address
    #[arg(long)]
    offline: bool,
    /// Write the disks without a question
    #[arg(short, long)]
    yes: bool,
    /// For whom progress is told
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: ReportFormat,
    #[command(flatten)]
    rpc: RpcArgs,
}

/// What to take apart.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Name of the cluster
    name: String,
    /// Do it without a question
    #[arg(short, long)]
    yes: bool,
    /// For whom progress is told
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: ReportFormat,
}

/// What to show.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// Name of the cluster; without it all
    name: Option<String>,
    /// For whom it is
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: ReportFormat,
}

/// Makes the cluster.
pub(super) async fn create(args: &CreateArgs, client: Client, state_dir: &Path) -> Result<ExitCode, Failure> {
    let rpc = args.rpc.bmc().map_err(Failure::Usage)?;
    let mut findings = Findings::default();
    let machines = args.hardware_csv.as_ref();
    let machines = machines.map(|path| hardware::inventory(path, rpc.as_ref(), &mut findings));
    let Some((name, text)) = hardware::text(&args.filename, &mut findings) else {
        return Err(told(findings));
    };
    let Some(file) = cluster::read(&name, &text, &mut findings) else { return Err(told(findings)) };
    let subject = Subject { file: &file, inventory: machines.as_ref() };
    check::offline(subject, &mut findings);
    handover::must_own(&client).await?;
    let store = Store::new(client.clone(), file.cluster.name());
    let known = match store.cluster_object().await {
        Ok(_) => true,
        Err(StoreError::Missing(_)) => false,
        Err(error) => return Err(error.into()),
    };
    // What is begun has its addresses in use and its machines running.
    if !known && !args.offline && !findings.has_errors() {
        host::check(state_dir, &mut findings);
        probe::online(subject, &mut findings).await;
    }
    if findings.has_errors() {
        return Err(told(findings));
    }
    for finding in std::mem::take(&mut findings).sorted() {
        eprintln!("{finding}");
    }
    if let Some(url) = &args.stack_image
        && !(url.starts_with("http://") || url.starts_with("https://"))
    {
        return Err(Failure::Usage(format!("--stack-image {url:?} is no URL that nodes can fetch")));
    }
    let addons = addons(args, &file, known).await?;
    let bootstrap = bootstrap(args, &file)?;
    for url in leaving_with(&file, bootstrap) {
        eprintln!(
            "warning: {url} is on this machine, which the cluster's own provisioner will not ask: after a move no machine can be installed from there"
        );
    }
    let rack = Rack::new(client.clone());
    let held = rack.held(file.cluster.name()).await?.len();
    let roles = check::roles(&file, &Inventory::default());
    // A rerun for machines that are all held already writes no disk.
    if held < roles.iter().map(|wanted| wanted.role.count).sum() {
        let disks = Disks::of(&file, machines.as_ref(), &free(&client).await?);
        if args.yes { disks.are_all_listed()? } else { ask(&disks.question(file.cluster.name()))? }
    }
    if let Some(machines) = &machines {
        inventory::apply(&client, machines, rpc.as_ref(), &mut findings).await?;
        if findings.has_errors() {
            return Err(told(findings));
        }
    }
    let image = args.stack_image.as_deref();
    store.save(&file, (&bootstrap.to_string(), image), &addons).await?;
    let directory = args.directory.clone().unwrap_or_else(|| PathBuf::from(file.cluster.name()));
    save(&directory, &format!("{}-eks-a-cluster.yaml", file.cluster.name()), &text, 0o644)?;
    let mut tell = teller(args.output);
    match keeper::holder(&client).await? {
        Some(keeper) => {
            store.forgive(Timestamp::now()).await?;
            follow(&store, &keeper, &mut tell).await?;
        }
        None => Run::new(store.clone(), Arc::new(rack), &mut tell).create().await?,
    }
    let kubeconfig = store.kubeconfig(Timestamp::now()).await?;
    let path = save(
        &directory,
        &format!("{}-eks-a-cluster.kubeconfig", file.cluster.name()),
        kubeconfig.expose(),
        0o600,
    )?;
    output::print(&match args.output {
        ReportFormat::Text => {
            format!("{} is ready: its kubeconfig is {}\n", file.cluster.name(), path.display())
        }
        ReportFormat::Json => format!("{}\n", json!({ "event": "ready", "kubeconfig": path })),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Takes a cluster apart.
pub(super) async fn delete(args: &DeleteArgs, client: Client) -> Result<ExitCode, Failure> {
    handover::must_own(&client).await?;
    let store = Store::new(client.clone(), &args.name);
    let cluster = store.cluster_object().await?;
    let rack = Rack::new(client.clone());
    store.is_elsewhere(&rack).await?;
    if cluster.metadata.deletion_timestamp.is_none() {
        if !args.yes {
            ask(&format!("All machines of {} are switched off and given back.\n", args.name))?;
        }
        store.mark_deleted().await?;
    }
    let mut tell = teller(args.output);
    match keeper::holder(&client).await? {
        Some(keeper) => match follow(&store, &keeper, &mut tell).await {
            Err(Follow::Store(StoreError::Missing(_))) => {}
            other => other?,
        },
        None => Run::new(store, Arc::new(rack), &mut tell).remove().await?,
    }
    output::print(&match args.output {
        ReportFormat::Text => format!("{} is gone\n", args.name),
        ReportFormat::Json => format!("{}\n", json!({ "event": "deleted", "cluster": args.name })),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Why a cluster did not come to what was asked for while somebody else saw to it.
#[derive(Debug, Error)]
enum Follow {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Failed(String),
}

/// Tells how far a cluster is that a keeper makes, or takes apart, until it is ready or gone.
async fn follow(
    store: &Store,
    keeper: &str,
    tell: &mut (dyn FnMut(Event) + Send + Sync),
) -> Result<(), Follow> {
    let (begin, mut told) = (Instant::now(), None);
    loop {
        let cluster = store.cluster_object().await?;
        let status = cluster.status.unwrap_or_default();
        let leaves = cluster.metadata.deletion_timestamp.is_some();
        if status.observed_generation == cluster.metadata.generation && !leaves {
            if status.conditions.iter().any(|one| one.type_ == "Ready" && one.status == "True") {
                return Ok(());
            }
            if let Some(problem) = status.failure_message {
                return Err(Follow::Failed(problem));
            }
        }
        let open = status.conditions.iter().find(|one| one.status != "True" && one.message.is_some());
        let reason = open.and_then(|one| one.message.clone()).filter(|_| !leaves);
        let reason = reason.unwrap_or_else(|| format!("{keeper}, which keeps clusters here"));
        if told.as_ref() != Some(&reason) {
            let wait = Wait { on: store.cluster().to_owned(), reason: reason.clone(), live: true };
            tell(Event::Waits { waits: vec![Waiting { wait, seconds: begin.elapsed().as_secs() }] });
            told = Some(reason);
        }
        tokio::time::sleep(FOLLOW).await;
    }
}

/// Shows clusters with what is and is not so.
pub(super) async fn get(args: &GetArgs, client: Client) -> Result<ExitCode, Failure> {
    let clusters: Api<Cluster> = Api::namespaced(client, NAMESPACE);
    let found = match &args.name {
        Some(name) => vec![clusters.get(name).await?],
        None => clusters.list(&ListParams::default()).await?.items,
    };
    let text = match args.output {
        ReportFormat::Json => {
            let of = |one: &Cluster| json!({ "name": one.name_any(), "status": one.status });
            format!("{:#}\n", json!(found.iter().map(of).collect::<Vec<_>>()))
        }
        ReportFormat::Text => found.iter().map(describe).collect(),
    };
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn describe(cluster: &Cluster) -> String {
    let status = cluster.status.clone().unwrap_or_default();
    let ends = if cluster.metadata.deletion_timestamp.is_some() { " (it is being deleted)" } else { "" };
    let mut text = format!("{}{ends}\n", cluster.name_any());
    for condition in &status.conditions {
        let message = condition.message.as_deref().unwrap_or_default();
        text.push_str(&format!("  {:<24} {:<7} {message}\n", condition.type_, condition.status));
    }
    for line in status.failure_message.iter().flat_map(|message| message.lines()) {
        text.push_str(&format!("  {line}\n"));
    }
    text
}

fn told(findings: Findings) -> Failure {
    Failure::Failed(findings.sorted().iter().map(ToString::to_string).collect())
}

pub(super) fn form(format: ReportFormat) -> Form {
    match format {
        ReportFormat::Json => Form::Json,
        ReportFormat::Text if io::stdout().is_terminal() => Form::Tree,
        ReportFormat::Text => Form::Lines,
    }
}

fn teller(format: ReportFormat) -> impl FnMut(Event) + Send + Sync {
    let mut progress = Progress::new(form(format));
    move |event| {
        let text = progress.text(&event);
        // Whoever reads it may have left; the cluster is made all the same.
        output::print(&text).unwrap_or_default();
    }
}

/// The manifests that are to be put into the cluster; a cluster that was begun has them already.
async fn addons(
    args: &CreateArgs,
    file: &ClusterFile,
    known: bool,
) -> Result<BTreeMap<Addon, String>, Failure> {
    let mut addons = BTreeMap::new();
    for (addon, source) in [(Addon::Cni, &args.cni_manifest), (Addon::Storage, &args.storage_manifest)] {
        let Some(source) = source else { continue };
        let text = manifest(source).await?;
        orchestrator::lifecycle::objects(addon, &text)?;
        addons.insert(addon, text);
    }
    if !addons.contains_key(&Addon::Cni) && !known {
        let name = file.cluster.name();
        let problem =
            format!("{name} needs a network plugin: name its manifest with --cni-manifest FILE|URL");
        return Err(Failure::Usage(problem));
    }
    Ok(addons)
}

async fn manifest(source: &str) -> Result<String, Failure> {
    let wrong = |problem: String| Failure::Failed(vec![format!("{source}: {problem}")]);
    if !source.starts_with("http://") && !source.starts_with("https://") {
        let length = fs::metadata(source).map_err(|error| wrong(error.to_string()))?.len();
        if length > MAX_MANIFEST as u64 {
            return Err(wrong(format!("it is longer than {MAX_MANIFEST} bytes")));
        }
        return fs::read_to_string(source).map_err(|error| wrong(error.to_string()));
    }
    daemon::install_crypto();
    let mut answer = reqwest::get(source).await?.error_for_status()?;
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_MANIFEST {
            return Err(wrong(format!("it is longer than {MAX_MANIFEST} bytes")));
        }
    }
    String::from_utf8(bytes).map_err(|_| wrong("it is no text".to_owned()))
}

/// The address of this machine for the others. Nothing is sent: the way to an address says whose it leaves from.
fn bootstrap(args: &CreateArgs, file: &ClusterFile) -> Result<IpAddr, Failure> {
    if let Some(given) = args.tinkerbell_bootstrap_ip {
        return Ok(given);
    }
    let there = file.datacenter.as_ref().map(|one| one.value.spec.tinkerbell_ip.clone()).unwrap_or_default();
    let way = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect((there.as_str(), 7172))?;
        socket.local_addr()
    });
    let problem = |error| {
        Failure::Usage(format!("no way to tinkerbellIP {there:?} ({error}): give --tinkerbell-bootstrap-ip"))
    };
    Ok(way.map_err(problem)?.ip())
}

/// URLs of images on this machine, which is left after a move.
fn leaving_with(file: &ClusterFile, bootstrap: IpAddr) -> BTreeSet<&str> {
    let site = file.datacenter.as_ref().and_then(|one| one.value.spec.os_image_url.as_deref());
    let own = file.machine_configs.iter().filter_map(|one| one.value.spec.os_image_url.as_deref());
    let here = |url: &&str| {
        let host = syntax::Url::parse(url).map(|url| url.host.to_owned());
        host.and_then(|host| host.parse::<IpAddr>().ok()) == Some(bootstrap)
    };
    site.into_iter().chain(own).filter(here).collect()
}

/// Machines of the API server that nobody holds and that are not protected, as a table of machines.
async fn free(client: &Client) -> Result<Inventory, Failure> {
    let hardware: Api<Hardware> = Api::namespaced(client.clone(), NAMESPACE);
    let all = hardware.list(&ListParams::default()).await?.items;
    let is_free = |one: &&Hardware| !one.is_protected() && !one.labels().contains_key(LABEL_OWNER_NAME);
    let servers = all.iter().filter(is_free).filter_map(|one| Server::from_objects(one, None, None).ok());
    let servers: Vec<_> = servers.map(|server| (0, server)).collect();
    Ok(Inventory { file: "the API server".to_owned(), rows: servers.len(), servers })
}

/// What may be written over: a machine and its disk, one line each.
#[derive(Debug, Default, PartialEq, Eq)]
struct Disks {
    listed: Vec<String>,
    /// Of machines that the table does not have, and that fit: the API server knows them from before.
    others: Vec<String>,
}

impl Disks {
    /// Without a table of machines everything that the API server has is meant.
    fn of(file: &ClusterFile, machines: Option<&Inventory>, known: &Inventory) -> Self {
        let fitting = |machines: &Inventory| {
            let wanted = check::roles(file, machines);
            let candidates = wanted.iter().flat_map(|one| &one.role.candidates);
            let fits: BTreeSet<_> = candidates.map(|candidate| candidate.machine.clone()).collect();
            let servers = machines.servers.iter().filter(|(_, server)| fits.contains(&server.hostname));
            let line = |server: &Server| {
                (server.hostname.clone(), format!("  {:<24} {}", server.hostname, server.disk))
            };
            servers.map(|(_, server)| line(server)).collect::<BTreeMap<_, _>>()
        };
        let known = fitting(known);
        let Some(machines) = machines else {
            return Self { listed: known.into_values().collect(), others: Vec::new() };
        };
        let is_listed = |name: &str| machines.servers.iter().any(|(_, server)| server.hostname == name);
        let others = known.into_iter().filter(|(name, _)| !is_listed(name)).map(|(_, line)| line).collect();
        Self { listed: fitting(machines).into_values().collect(), others }
    }

    fn question(&self, cluster: &str) -> String {
        let listed = self.listed.iter().map(|line| format!("{line}\n"));
        let others = self
            .others
            .iter()
            .map(|line| format!("{line}  (not in the table of machines: known from before)\n"));
        let all: String = listed.chain(others).collect();
        format!("The disks of these machines may be written over, as many as {cluster} needs:\n{all}")
    }

    /// Who says yes beforehand means the machines that he named.
    fn are_all_listed(&self) -> Result<(), Failure> {
        if self.others.is_empty() {
            return Ok(());
        }
        let mut lines = vec![
            "--yes is for machines of the table, and these fit too, which the API server knows from before:"
                .to_owned(),
        ];
        lines.extend(self.others.iter().cloned());
        lines.push(
            "add them to the table, annotate their Hardware with tinkerbell.org/protected, delete it, or leave --hardware-csv out to take what the API server has"
                .to_owned(),
        );
        Err(Failure::Failed(lines))
    }
}

/// Asks a person; without one, it must have been said on the command line.
fn ask(what: &str) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::Usage(format!("{what}say --yes when that is meant")));
    }
    eprint!("{what}Go on? [y/N] ");
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "yes") {
        return Ok(());
    }
    Err(Failure::Failed(vec!["nothing was done".to_owned()]))
}

/// Writes a file into the cluster's folder, whole or not at all, with these rights from the beginning.
fn save(directory: &Path, name: &str, text: &str, mode: u32) -> Result<PathBuf, Failure> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = directory.join(name);
    let temporary = directory.join(format!(".{name}.new"));
    let write = || {
        fs::create_dir_all(directory)?;
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &path)
    };
    let written: io::Result<()> = write();
    written.map_err(|error| Failure::Failed(vec![format!("{}: {error}", path.display())]))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn machines_of_no_table_are_named_in_the_question_and_not_meant_by_a_yes_before() {
        let disks = |others: &[&str]| Disks {
            listed: vec!["  m1  /dev/sda".to_owned()],
            others: others.iter().map(|&line| line.to_owned()).collect(),
        };
        assert!(disks(&[]).are_all_listed().is_ok());
        let Err(Failure::Failed(lines)) = disks(&["  m9  /dev/sdb"]).are_all_listed() else {
            panic!("it is taken for meant")
        };
        assert!(lines.iter().any(|line| line.contains("m9  /dev/sdb")), "{lines:?}");
        let question = disks(&["  m9  /dev/sdb"]).question("rack");
        assert!(question.contains("\n  m1  /dev/sda\n"), "{question}");
        assert!(question.contains("m9  /dev/sdb  (not in the table of machines"), "{question}");
    }

    #[test]
    fn a_kubeconfig_is_its_owners_alone_even_where_an_older_one_was_not() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("rack");
        fs::create_dir(&place).unwrap();
        fs::write(place.join("k"), "old").unwrap();
        fs::set_permissions(place.join("k"), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(save(&place, "k", "new", 0o600).is_ok());
        assert_eq!(fs::read_to_string(place.join("k")).unwrap(), "new");
        assert_eq!(fs::metadata(place.join("k")).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
