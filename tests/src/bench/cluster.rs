// SPDX-License-Identifier: Apache-2.0
//! Clusters: the plan and the claims of a thousand machines, the check of fifty, and a whole cluster of simulated servers with a real
//! etcd and kube-apiserver, with what our side takes for it. There is no peer to run here; what EKS Anywhere asks of its admin
//! machine stands beside our memory.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use orchestrator::plan::{self, Candidate, Role, RoleKind};
use orchestrator::provider::bare_metal::Rack;
use orchestrator::provider::{Provider as _, Slot};
use tink::demo::Artefacts;

use super::{RUNS, Row, in_namespace, median};
use crate::cluster::{self, Plan, comes_up, table};
use crate::kubeadm::Order;
use crate::process::memory;
use crate::simulated::{self, PROVISIONER, Simulated};
use crate::stack::{Up, client, run_tink, tink};
use crate::web::{self, Web};

const READY: Duration = Duration::from_secs(120);
const MANY: usize = 1000;
const CHECKED: u8 = 50;
/// Claims at the same time, as many as the orchestrator makes.
const AT_ONCE: usize = 32;
const PASSWORD: &str = "secret-7";
const DISK: u64 = 2 << 20;
const IMAGE: usize = 1200 << 10;
/// Machines of the cluster that is made.
const MACHINES: [&str; 5] = ["cp1", "cp2", "cp3", "wk1", "wk2"];
/// Memory that EKS Anywhere asks of the admin machine, in MB.
const THEIR_MEMORY: f64 = 16_000.0;
/// How often memory and CPU time of a program are read.
const LOOK: Duration = Duration::from_millis(20);

/// Measures; `quick` leaves the cluster out.
///
/// # Errors
/// When a program is missing or does not start, or without the rights to make network namespaces.
pub fn run(quick: bool) -> Result<Vec<Row>> {
    let mut rows = vec![row("plan of 1,000 machines", planned()?, "ms")];
    rows.extend(in_namespace(move || {
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(measure(quick))
    })?);
    Ok(rows)
}

fn row(bench: &str, value: f64, unit: &'static str) -> Row {
    Row { bench: bench.to_owned(), subject: "tink".to_owned(), value, unit }
}

/// Milliseconds for the plan of three machines of a control plane and all others as workers, each fitting everywhere in its role.
fn planned() -> Result<f64> {
    let machine = |number: usize| Candidate { machine: format!("m{number}"), score: 0 };
    let role = |name: &str, kind, count: usize, machines: std::ops::Range<usize>| Role {
        name: name.to_owned(),
        kind,
        count,
        candidates: machines.map(machine).collect(),
    };
    let roles = [
        role("control-plane", RoleKind::ControlPlane, 3, 0..10),
        role("md-0", RoleKind::Worker, MANY - 3, 0..MANY),
    ];
    let mut took = Vec::new();
    for _ in 0..RUNS {
        let begun = Instant::now();
        let plan = plan::plan("rack", &roles, &BTreeMap::new());
        took.push(begun.elapsed().as_secs_f64() * 1e3);
        ensure!(plan.claims.len() == MANY, "{} machines were found", plan.claims.len());
    }
    Ok(median(took))
}

async fn measure(quick: bool) -> Result<Vec<Row>> {
    // `ip` works where the thread is, which is alone in its namespace.
    simulated::connect()?;
    let dir = tempfile::tempdir()?;
    let disks = tempfile::Builder::new().prefix("bench-").tempdir_in("/dev/shm")?;
    let mut rows = claimed(&dir.path().join("claims")).await?;
    rows.push(checked(&dir.path().join("check"), disks.path()).await?);
    if !quick {
        rows.extend(made(&dir.path().join("cluster"), disks.path()).await?);
    }
    Ok(rows)
}

async fn up(dir: &Path) -> Result<Up> {
    fs::create_dir_all(dir)?;
    let flags = Artefacts::find()?.up_flags(&dir.join("state"), PROVISIONER);
    let mut up = Up::start(&flags, &dir.join("up.log"))?;
    up.ready(READY).await?;
    Ok(up)
}

/// The objects of all machines, and their claims.
async fn claimed(dir: &Path) -> Result<Vec<Row>> {
    let up = up(dir).await?;
    let mut csv = "hostname,mac,ip_address,netmask,gateway,nameservers,labels,disk\n".to_owned();
    for number in 0..MANY {
        let (high, low) = (number / 250, number % 250);
        writeln!(
            csv,
            "m{number},52:54:01:00:{high:02x}:{low:02x},10.9.{high}.{},16,10.9.0.254,10.9.0.254,type=wk,/dev/sda",
            low + 1
        )?;
    }
    fs::write(dir.join("hardware.csv"), csv)?;
    let begun = Instant::now();
    let state = dir.join("state");
    run_tink(&state, &["hardware", "apply", "-z", &dir.join("hardware.csv").display().to_string()])?;
    let applied = begun.elapsed();
    let rack = Rack::new(client(&state).await?);
    let begun = Instant::now();
    let claims = (0..MANY).map(|number| {
        let slot = Slot {
            cluster: "rack".to_owned(),
            name: plan::slot_name("rack", "md-0", number + 1),
            namespace: api::anywhere::v1alpha1::NAMESPACE.to_owned(),
        };
        let rack = &rack;
        async move { rack.claim(&format!("m{number}"), &slot).await }
    });
    stream::iter(claims).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    let took = begun.elapsed();
    let held = rack.held("rack").await?.len();
    ensure!(held == MANY, "{held} machines are held");
    up.terminate(READY).await?;
    Ok(vec![
        row("objects of 1,000 machines applied", applied.as_secs_f64(), "s"),
        row("claims of 1,000 machines", took.as_secs_f64(), "s"),
    ])
}

/// The check of machines of which every BMC is asked.
async fn checked(dir: &Path, disks: &Path) -> Result<Row> {
    fs::create_dir_all(dir)?;
    let mut machines = Vec::new();
    for number in 1..=CHECKED {
        let name = format!("{}{number}", if number <= 3 { "cp" } else { "wk" });
        machines.push(simulated::mount(disks, &name, number, PASSWORD, DISK).await?);
    }
    let plan = Plan::new(3, usize::from(CHECKED) - 3, format!("http://{PROVISIONER}/none"));
    fs::write(dir.join("hardware.csv"), table(&machines)?)?;
    cluster::write(dir, &plan)?;
    let begun = Instant::now();
    let output = tokio::process::Command::new(tink()?)
        .args(["cluster", "check", "-f", "cluster.yaml", "-z", "hardware.csv"])
        .current_dir(dir)
        .env_remove("KUBECONFIG")
        .output()
        .await?;
    let took = begun.elapsed();
    let said =
        [output.stdout, output.stderr].map(|part| String::from_utf8_lossy(&part).into_owned()).concat();
    ensure!(!said.contains("bmc_"), "a BMC does not answer: {said}");
    Ok(row("check of 50 machines with their BMCs", took.as_secs_f64(), "s"))
}

/// A whole cluster, and what it took.
async fn made(dir: &Path, disks: &Path) -> Result<Vec<Row>> {
    let up = up(dir).await?;
    let image = web::image(IMAGE);
    let web = Web::start(PROVISIONER, image.clone(), IMAGE).await?;
    web.release();
    let order: Order = Arc::new(Mutex::new(Vec::new()));
    let mut machines: Vec<Simulated> = Vec::new();
    for (number, name) in (CHECKED + 1..).zip(MACHINES) {
        let machine = simulated::mount(disks, name, number, PASSWORD, DISK).await?;
        comes_up(&machine, dir, &image, &order)?;
        machines.push(machine);
    }
    let workers = MACHINES.iter().filter(|name| name.starts_with("wk")).count();
    let plan = Plan::new(MACHINES.len() - workers, workers, web.slow_url());
    fs::write(dir.join("hardware.csv"), table(&machines)?)?;
    cluster::write(dir, &plan)?;
    let begun = Instant::now();
    let mut maker = cluster::create(dir, &dir.join("state"))?;
    let mut maker = maker.arg("--offline").stdout(fs::File::create(dir.join("create.log"))?).spawn()?;
    let process = maker.id().context("it has ended")?;
    let (mut peak, mut spent) = (0, Duration::ZERO);
    let ended = loop {
        // Between its end and this look it is a zombie, of which there is nothing to read.
        if let (Ok((_, highest)), Ok(time)) = (memory(process), cpu_time(process)) {
            (peak, spent) = (peak.max(highest), spent.max(time));
        }
        if let Some(ended) = maker.try_wait()? {
            break ended;
        }
        tokio::time::sleep(LOOK).await;
    };
    let took = begun.elapsed();
    ensure!(ended.success(), "it ended with {ended}: {}", fs::read_to_string(dir.join("create.log"))?);
    let (stack, stack_spent) = (memory(up.process())?.1, cpu_time(up.process())?);
    up.terminate(READY).await?;
    let bench = |what: &str| format!("cluster of 3 + 2 simulated machines: {what}");
    let memory = Row {
        bench: bench("memory of the admin machine"),
        subject: "EKS Anywhere (asks for)".to_owned(),
        value: THEIR_MEMORY,
        unit: "MB",
    };
    Ok(vec![
        row(&bench("powered off to ready"), took.as_secs_f64(), "s"),
        row(&bench("CPU of tink up"), stack_spent.as_secs_f64(), "s"),
        row(&bench("CPU of create"), spent.as_secs_f64(), "s"),
        row(&bench("memory of the admin machine"), megabytes(stack + peak), "MB"),
        memory,
    ])
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Time that a process has spent on processors (proc(5), `utime` and `stime`).
fn cpu_time(process: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name of the program may have spaces; it is in parentheses.
    let (_, fields) = stat.rsplit_once(')').context("no name in it")?;
    let mut ticks = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    let mut next = || ticks.next().context("too short")?.context("no number");
    let ticks = next()? + next()?;
    // USER_HZ, which is 100 on every architecture that Linux has had for years.
    Ok(Duration::from_millis(ticks * 10))
}
