// SPDX-License-Identifier: Apache-2.0
//! boots, as a program against `tink api`, is killed with SIGKILL again and again while a storm of machines boots: every machine
//! gets its lease, its boot program and its script in the end, no address is given to two of them, and every lease that was
//! acknowledged is there after the last kill.
//!
//! No test harness: the process moves into a network namespace before it starts a thread.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::netns::Namespace;
use lab::rack::PROVISIONER_INTERFACE;
use tests::apart::{Program, Server, own_flags};
use tests::booting::{Expected, Ledger, Relay};
use tests::runner;
use tests::simulated::{self, PROVISIONER};
use tests::stack::run_tink;
use tink::demo::{Artefacts, NAMESPACE};
use tokio::task::JoinSet;

const NAME: &str = "every_machine_of_a_storm_boots_although_boots_is_killed";
/// Until programs are ready, on a machine whose cores are shared.
const READY: Duration = Duration::from_secs(120);
const STORM: Duration = Duration::from_secs(240);
/// Where the machines are: their network begins at the relay.
const RELAY: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 1);
const POOL: &str = "10.7.1.1-10.7.2.254/22 router=10.7.0.1 lease=1h";
/// Half of them have a reservation, the others get an address from the pool.
const MACHINES: u8 = 240;
/// How many machines have booted when boots is killed.
const KILLS: [u8; 4] = [0, 40, 110, 200];

fn main() -> ExitCode {
    runner::main(NAME, || runner::in_namespace("storm-", run))
}

fn mac(number: u8) -> [u8; 6] {
    [0x52, 0x54, 0, 0, 7, number]
}

fn reserved(number: u8) -> Option<Ipv4Addr> {
    number.is_multiple_of(2).then(|| Ipv4Addr::new(10, 7, 3, number))
}

async fn run(namespace: &Namespace, dir: &Path) -> Result<()> {
    simulated::plug(namespace)?;
    // The addresses of its network are no addresses of this host: what is asked there with ICMP stays unanswered.
    simulated::ip(&["address", "add", &format!("{RELAY}/32"), "dev", "lo"])?;
    simulated::ip(&["route", "add", "10.7.0.0/22", "dev", PROVISIONER_INTERFACE])?;
    let state = dir.join("state");
    let api = Server::embedded(&state, dir, READY).await?;
    let mut tink_server = Program::start("tink-server", "tink-server", &own_flags(&state), 9104, dir)?;
    tink_server.ready(READY).await?;
    let manifest = dir.join("machines.yaml");
    fs::write(&manifest, machines()?)?;
    run_tink(&state, &["apply", "-f", &manifest.display().to_string()])?;

    let artefacts = Artefacts::find()?;
    let mut flags = artefacts.up_flags(&state, PROVISIONER);
    flags.retain(|flag| !flag.starts_with("--dhcp-bind"));
    flags.extend([
        format!("--dhcp-bind-addr={PROVISIONER}"),
        format!("--dhcp-pools={POOL}"),
        "--dhcp-pool-probe=50ms".to_owned(),
        "--syslog-enabled=false".to_owned(),
    ]);
    let start = async |number: usize| -> Result<Program> {
        let mut boots = Program::start("boots", &format!("boots-{number}"), &flags, 9101, dir)?;
        boots.ready(READY).await?;
        Ok(boots)
    };
    let programs = flags.iter().find_map(|flag| flag.strip_prefix("--boot-program-dir="));
    let program = Path::new(programs.context("boots has boot programs")?).join("ipxe.efi");
    let size = usize::try_from(fs::metadata(&program).with_context(|| program.display().to_string())?.len())?;
    let expected = Expected { program: ("ipxe.efi".to_owned(), size), http: 7171 };

    let (relay, ledger) = (Relay::start(RELAY, PROVISIONER).await?, Arc::new(Ledger::default()));
    let mut boots = start(0).await?;
    let (begun, mut storm) = (Instant::now(), JoinSet::new());
    for number in 0..MACHINES {
        let (relay, ledger, expected) = (Arc::clone(&relay), Arc::clone(&ledger), expected.clone());
        storm.spawn(async move { relay.boot(mac(number), &ledger, &expected, begun + STORM).await });
    }
    for (number, booted) in (1..).zip(KILLS) {
        let wanted = || ledger.leased() > 10 && ledger.booted().len() >= usize::from(booted);
        while !wanted() {
            ensure!(
                begun.elapsed() < STORM,
                "{booted} machines boot; {} did: {}",
                ledger.booted().len(),
                boots.tail()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let (leased, done) = (ledger.leased(), ledger.booted().len());
        ensure!(done < usize::from(MACHINES), "the storm is over before boots is killed");
        boots.kill()?;
        println!(
            "{:6.1} s: killed when {leased} had a lease and {done} had booted",
            begun.elapsed().as_secs_f64()
        );
        boots = start(number).await?;
    }
    while let Some(ended) = storm.join_next().await {
        ended??;
    }
    println!("{:6.1} s: {} machines have booted", begun.elapsed().as_secs_f64(), ledger.booted().len());

    boots.kill()?;
    let boots = start(KILLS.len() + 1).await?;
    let booted = ledger.booted();
    ensure!(booted.len() == usize::from(MACHINES), "{} machines booted", booted.len());
    for number in 0..MACHINES {
        let address = *booted.get(&mac(number)).context("a machine that booted")?;
        ensure!(reserved(number).is_none_or(|own| own == address), "machine {number} is at {address}");
        relay.renew(mac(number), address, &ledger).await?;
    }
    for program in [boots, tink_server] {
        let name = program.name().to_owned();
        let ended = program.terminate(READY).await?;
        ensure!(ended.success(), "{name} ended with {ended}");
    }
    api.stop(READY).await
}

/// The Hardware of all machines.
fn machines() -> Result<String> {
    let mut all = String::new();
    for number in 0..MACHINES {
        let ip = match reserved(number) {
            Some(address) => {
                format!(", ip: {{address: {address}, netmask: 255.255.252.0, gateway: {RELAY}}}")
            }
            None => String::new(),
        };
        let mac = mac(number).map(|byte| format!("{byte:02x}")).join(":");
        write!(
            all,
            "---\napiVersion: tinkerbell.org/v1alpha1\nkind: Hardware\nmetadata: {{name: m{number}, namespace: {NAMESPACE}}}\n\
             spec: {{interfaces: [{{dhcp: {{mac: \"{mac}\"{ip}}}, netboot: {{allowPXE: true}}}}]}}\n"
        )?;
    }
    Ok(all)
}
