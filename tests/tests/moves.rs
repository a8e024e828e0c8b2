// SPDX-License-Identifier: Apache-2.0
//! The provisioner moves while a machine's image is under way: from one `tink up` to another, whose whole first side is killed with
//! SIGKILL in the middle. The machine is installed by the second, was started once and read its image once; then nothing of the
//! first is left.
//!
//! No test harness: the process moves into a network namespace before it starts a thread.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use api::annotations::SYSTEM_NAMESPACE;
use api::ownership::{self, Journal};
use api::v1alpha1::{Workflow, WorkflowState, WorkflowStatus};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use lab::chassis::BootTarget;
use lab::netns::Namespace;
use tests::runner;
use tests::simulated::{self, PROVISIONER};
use tests::stack::{Up, client, eventually, run_tink, tink};
use tests::web::{self, Web};
use tink::demo::{Artefacts, NAMESPACE, server};
use tokio::io::{AsyncBufReadExt as _, BufReader, copy_bidirectional};
use tokio::net::TcpListener;
use tokio::process::Command;

const NAME: &str = "a_machine_is_installed_once_while_its_provisioner_moves_and_is_killed";
const READY: Duration = Duration::from_secs(120);
const INSTALL: Duration = Duration::from_secs(300);
const STEP: Duration = Duration::from_secs(150);
/// What the image may take, in seconds.
const ACTION_SECONDS: u32 = 900;
const DISK: u64 = 1 << 20;
const IMAGE: usize = 600 << 10;
/// Where agents are served by the first and by the second.
const AGENTS: [u16; 2] = [42213, 42214];

fn main() -> ExitCode {
    runner::main(NAME, || runner::in_namespace("moves-", run))
}

async fn run(namespace: &Namespace, dir: &Path) -> Result<()> {
    simulated::plug(namespace)?;
    let started = Instant::now();
    let step = |what: &str| println!("  {:4} s  {what}", started.elapsed().as_secs());
    let (here, there) = (dir.join("here"), dir.join("there"));
    let [first_flags, second_flags] = flags(&here, &there)?;
    let mut first = Up::start(&first_flags, &dir.join("here.log"))?;
    let mut second = Up::start(&second_flags, &dir.join("there.log"))?;
    let address = Arc::new(AtomicU16::new(AGENTS[0]));
    serve((PROVISIONER, 42113).into(), Arc::clone(&address)).await?;
    let image = web::image(IMAGE);
    let web = Web::start(PROVISIONER, image.clone(), IMAGE).await?;
    first.ready(READY).await?;
    second.ready_on(9201..=9205, READY).await?;

    let machine = simulated::mount(dir, "one", 1, "secret-7", DISK).await?;
    apply(dir, &here, "template.yaml", &simulated::template("stream", ".image_url", ACTION_SECONDS))?;
    apply(dir, &here, "one.yaml", &server(&machine.server))?;
    apply(dir, &here, "workflow.yaml", &workflow(&web.slow_url()))?;
    eventually("the image to be under way", INSTALL, async || {
        let status = status(&here).await?;
        let read = status.progress.map_or(0, |progress| progress.bytes_read);
        if read > 0 { Ok(Some(())) } else { Err(format!("state {}, {read} bytes", status.state)) }
    })
    .await?;
    step("the image is under way");

    until(&here, &there, Some("\"done\",\"step\":\"drain\"")).await?;
    ensure!(!serves(AGENTS[0]), "the first still serves agents");
    first.kill()?;
    drop(first);
    let mut first = Up::start(&first_flags, &dir.join("here.log"))?;
    // Its daemons stay away, and so do their health ports.
    first.ready_on(9105..=9105, READY).await?;
    until(&here, &there, Some("\"begins\",\"step\":\"own\"")).await?;
    ensure!(!serves(AGENTS[0]), "the first serves agents again");
    // The kill may have come just too late.
    ensure!(!serves(AGENTS[1]) || owns(&there).await?, "the second serves agents before it owns");
    step("the first was killed, and the mover twice");
    until(&here, &there, None).await?;
    address.store(AGENTS[1], Ordering::SeqCst);
    second.ready_on(9201..=9205, READY).await?;
    ensure!(!serves(AGENTS[0]), "the first serves agents again");
    step("the second owns the machines");

    web.release();
    let done = eventually("the end of the installation", INSTALL, async || {
        let status = status(&there).await?;
        if status.state.is_final() { Ok(Some(status)) } else { Err(format!("state {}", status.state)) }
    })
    .await?;
    ensure!(done.state == WorkflowState::Success, "it ended {}: {done:?}", done.state);
    ensure!(
        fs::read(&machine.server.disk)?.get(..IMAGE) == Some(image.as_slice()),
        "the disk is not its image"
    );
    ensure!(web.slow_requests() == 1, "the image was read {} times", web.slow_requests());
    ensure!(machine.chassis.starts() == [BootTarget::Pxe], "it was started {:?}", machine.chassis.starts());
    ensure!(
        status(&here).await.map_err(anyhow::Error::msg)?.state == WorkflowState::Running,
        "the first goes on"
    );
    step("the machine is installed");

    back_and_there_again((&here, &mut first), (&there, &mut second)).await?;
    ensure!(
        web.slow_requests() == 1 && machine.chassis.starts() == [BootTarget::Pxe],
        "it was installed again"
    );
    step("moved back, and there again");

    let cleaned = run_tink(&here, &["cluster", "cleanup"])?;
    println!("{cleaned}");
    ensure!(cleaned.contains("nothing of ours is left here") && !here.exists(), "{cleaned}");
    let ended = first.ended(READY).await?;
    ensure!(ended.success(), "the first ended with {ended}");
    let still =
        Command::new(tink()?).arg("--state-dir").arg(&there).args(["cluster", "cleanup"]).output().await?;
    ensure!(!still.status.success() && there.exists(), "an owner was cleaned up");
    ensure!(second.terminate(READY).await?.success(), "the second did not end well");
    Ok(())
}

/// Moves while both sides go on: daemons begin again in the process in which they ended.
async fn back_and_there_again(
    (here, first): (&Path, &mut Up),
    (there, second): (&Path, &mut Up),
) -> Result<()> {
    until(there, here, None).await?;
    first.ready_on(9101..=9105, READY).await?;
    ensure!(serves(AGENTS[0]) && !serves(AGENTS[1]), "the first does not serve agents alone");
    until(here, there, None).await?;
    second.ready_on(9201..=9205, READY).await?;
    ensure!(serves(AGENTS[1]) && !serves(AGENTS[0]), "the second does not serve agents alone");
    let status = status(there).await.map_err(anyhow::Error::msg)?;
    ensure!(status.state == WorkflowState::Success, "it came back as it was before: {status:?}");
    Ok(())
}

/// Flags of both, which share a machine in this test: the second has ports of its own, and no DHCP.
fn flags(here: &Path, there: &Path) -> Result<[Vec<String>; 2]> {
    let artefacts = Artefacts::find()?;
    let agents = |port: u16| {
        ["--tink-server-bind-addr=127.0.0.1".to_owned(), format!("--tink-server-bind-port={port}")]
    };
    let mut first = artefacts.up_flags(here, PROVISIONER);
    first.extend(agents(AGENTS[0]));
    let mut second = artefacts.up_flags(there, PROVISIONER);
    second.retain(|flag| !flag.starts_with("--dhcp-bind"));
    second.extend(agents(AGENTS[1]));
    let own = [
        "--api-port=6543",
        "--http-port=7271",
        "--tootles-http-port=7272",
        "--dhcp-enabled=false",
        "--tftp-server-enabled=false",
        "--syslog-enabled=false",
        "--smee-health-port=9201",
        "--tootles-health-port=9202",
        "--rufio-health-port=9203",
        "--tink-server-health-port=9204",
        "--api-health-port=9205",
    ];
    second.extend(own.map(str::to_owned));
    Ok([first, second])
}

/// The provisioner's address, which leads to one of the two.
async fn serve(address: SocketAddr, port: Arc<AtomicU16>) -> Result<()> {
    let listener = TcpListener::bind(address).await?;
    tokio::spawn(async move {
        while let Ok((mut agent, _)) = listener.accept().await {
            let port = port.load(Ordering::SeqCst);
            tokio::spawn(async move {
                // Either side may leave at any time.
                if let Ok(mut server) = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
                    drop(copy_bidirectional(&mut agent, &mut server).await);
                }
            });
        }
    });
    Ok(())
}

/// Whether daemons may act there.
async fn owns(state: &Path) -> Result<bool> {
    let journals: Api<ConfigMap> = Api::namespaced(client(state).await?, SYSTEM_NAMESPACE);
    Ok(Journal::read(journals.get_opt(ownership::NAME).await?.as_ref())?.acts())
}

fn serves(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Runs the move until it tells this, and kills it then; to its end without.
async fn until(here: &Path, there: &Path, moment: Option<&str>) -> Result<()> {
    let mut child = Command::new(tink()?)
        .arg("--state-dir")
        .arg(here)
        .args(["cluster", "move", "--output", "json", "--to"])
        .arg(there.join("kubeconfig"))
        .env_remove("KUBECONFIG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
    let told = async {
        while let Some(line) = lines.next_line().await? {
            println!("         {line}");
            if moment.is_some_and(|moment| line.contains(moment)) {
                return Ok::<_, std::io::Error>(true);
            }
        }
        Ok(false)
    };
    if tokio::time::timeout(STEP, told).await.context("the move tells nothing")?? {
        child.kill().await?;
        return Ok(());
    }
    let output = child.wait_with_output().await?;
    let problem = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success() && moment.is_none(), "the move ended with {}: {problem}", output.status);
    Ok(())
}

fn apply(dir: &Path, state: &Path, name: &str, text: &str) -> Result<()> {
    let path = dir.join(name);
    fs::write(&path, text)?;
    run_tink(state, &["apply", "-f", &path.display().to_string()]).map(drop)
}

fn workflow(url: &str) -> String {
    format!(
        "apiVersion: tinkerbell.org/v1alpha1
kind: Workflow
metadata: {{name: install-one, namespace: {NAMESPACE}}}
spec:
  templateRef: stream
  hardwareRef: one
  bootOptions: {{toggleAllowNetboot: true, bootMode: netboot}}
  hardwareMap: {{image_url: {url:?}}}
"
    )
}

async fn status(state: &Path) -> Result<WorkflowStatus, String> {
    let client = client(state).await.map_err(|error| error.to_string())?;
    let workflows: Api<Workflow> = Api::namespaced(client, NAMESPACE);
    let workflow = workflows.get("install-one").await.map_err(|error| error.to_string())?;
    Ok(workflow.status.unwrap_or_default())
}
