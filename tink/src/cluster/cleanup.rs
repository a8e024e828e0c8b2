// SPDX-License-Identifier: Apache-2.0

//! `tink cluster cleanup`: nothing of ours stays on a machine whose provisioner was moved away, and that is shown.
//!
//! Owns what is looked at: processes with files of the state directory open, that directory, ports, addresses. It removes only what it knows to be ours:
//! somebody else's file in that directory stays and is told, and so does a program of ours that has nothing in it open. Whatever ends it, the same command goes on: the store, which says that the machines were
//! moved, goes last.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use api::{
    annotations::SYSTEM_NAMESPACE,
    anywhere::v1alpha1::{Cluster, TinkerbellDatacenterConfig},
    ownership::{self, Journal, State},
};
use clap::Args;
use daemon::Daemon;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client, api::ListParams};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use serde_json::json;

use super::{ReportFormat, hand_over::LOCK, host::PORTS};
use crate::{
    cli::Failure,
    connect::{Places, connect},
    output,
    up::{
        Protocol,
        ports::{self, Holder, Listener},
        serve::{self, STORE},
    },
};

/// The daemons; each says what it keeps in the state directory.
const DAEMONS: [Daemon; 5] = [
    boots::program::DAEMON,
    hegel::program::DAEMON,
    rufio::program::DAEMON,
    tink_server::program::DAEMON,
    orchestrator::program::DAEMON,
];
/// Programs of ours.
const PROGRAMS: [&str; 5] = ["tink", "boots", "hegel", "rufio", "tink-server"];
/// Ports of the API server and of health, beside those that machines use.
const LOCAL_PORTS: [u16; 7] = [6443, 9101, 9102, 9103, 9104, 9105, 9106];
/// How long a program may take to end: longer than it drains.
const END: Duration = Duration::from_secs(40);
const LOOK: Duration = Duration::from_millis(100);

/// What to remove.
#[derive(Debug, Args)]
pub(crate) struct CleanupArgs {
    /// Remove it although the machines are owned here, and everything that is known of them with it
    #[arg(long)]
    force: bool,
    /// For whom the report is
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: ReportFormat,
}

/// Something that was looked at.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Look {
    what: String,
    found: String,
    /// Whether nothing of ours is there.
    clean: bool,
}

/// Removes everything, and tells what is left.
pub(super) async fn cleanup(args: &CleanupArgs, state_dir: &Path) -> Result<ExitCode, Failure> {
    clean(args, state_dir, &listeners()).await
}

async fn clean(args: &CleanupArgs, state_dir: &Path, listeners: &[Listener]) -> Result<ExitCode, Failure> {
    let mut addresses = Vec::new();
    if state_dir.join(STORE).is_file() {
        let known = Known::read(state_dir).await;
        match known {
            Ok(known) => {
                if !args.force {
                    known.may_go().map_err(|problem| Failure::Failed(vec![problem]))?;
                }
                addresses = known.addresses;
            }
            Err(problem) if args.force => eprintln!("tink: {problem}"),
            Err(problem) => return Err(Failure::Failed(vec![problem])),
        }
    }
    let mut looks = vec![stop(state_dir).await?];
    looks.extend(remove(state_dir)?);
    looks.extend(listeners.iter().map(port));
    looks.extend(addresses.into_iter().map(address));
    let clean = looks.iter().all(|look| look.clean);
    output::print(&match args.output {
        ReportFormat::Json => format!("{:#}\n", json!({ "looks": looks, "clean": clean })),
        ReportFormat::Text => report(&looks, clean),
    })?;
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::from(daemon::EXIT_FAILURE) })
}

fn report(looks: &[Look], clean: bool) -> String {
    let mut text = String::new();
    for Look { what, found, clean } in looks {
        let mark = if *clean { "" } else { "  <-- left" };
        text.push_str(&format!("{what:<44} {found}{mark}\n"));
    }
    text.push_str(if clean { "nothing of ours is left here\n" } else { "something is left here\n" });
    text
}

/// What the store says.
struct Known {
    journal: Journal,
    /// Addresses that clusters and their provisioner have, wherever that is now.
    addresses: Vec<IpAddr>,
}

impl Known {
    /// From the server that runs with this state directory, else from its store.
    async fn read(state_dir: &Path) -> Result<Self, String> {
        if !is_served(state_dir) {
            let options = apiserver::Options::new(state_dir.join(STORE));
            let server = apiserver::Server::open(options).await.map_err(|error| error.to_string())?;
            let known = Self::of(&server.client(SYSTEM_NAMESPACE)).await;
            server.close().await;
            return known;
        }
        let places = Places { kubeconfig: Some(state_dir.join("kubeconfig")), state_dir: None };
        let client = connect(&places).await.map_err(|error| error.to_string())?;
        Self::of(&client).await
    }

    async fn of(client: &Client) -> Result<Self, String> {
        let problem = |error: kube::Error| {
            format!("it cannot be read whether the machines were moved: {}", output::problem(&error))
        };
        let journals: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
        let found = journals.get_opt(ownership::NAME).await.map_err(problem)?;
        let journal = Journal::read(found.as_ref()).map_err(|error| error.to_string())?;
        let all = ListParams::default();
        let (mut texts, clusters) = (Vec::new(), Api::<Cluster>::all(client.clone()).list(&all).await);
        for cluster in clusters.map_err(problem)?.items {
            texts.extend(
                cluster.spec.control_plane_configuration.and_then(|one| one.endpoint).map(|one| one.host),
            );
        }
        let sites = Api::<TinkerbellDatacenterConfig>::all(client.clone()).list(&all).await;
        texts.extend(sites.map_err(problem)?.items.into_iter().map(|site| site.spec.tinkerbell_ip));
        let addresses = texts.iter().filter_map(|text| text.parse().ok()).collect();
        Ok(Self { journal, addresses })
    }

    fn may_go(&self) -> Result<(), String> {
        if self.journal.state == State::Moved {
            return Ok(());
        }
        Err(format!(
            "the machines are not moved away from here (the journal says {:?}): `tink cluster move --to KUBECONFIG` first; --force removes \
             everything all the same, with all that is known of them",
            self.journal.state.word()
        ))
    }
}

/// Whether an API server has the store open.
fn is_served(state_dir: &Path) -> bool {
    let Ok(store) = state_dir.join(STORE).canonicalize() else { return false };
    !ports::processes_with(|target| target == store).is_empty()
}

/// Processes that have something in the state directory open, as far as we may look; never this one.
fn holders(state_dir: &Path) -> Vec<Holder> {
    let Ok(place) = state_dir.canonicalize() else { return Vec::new() };
    ports::processes_with(|target| target.starts_with(&place))
        .into_iter()
        .filter(|holder| holder.pid != std::process::id())
        .collect()
}

fn is_ours(holder: &Holder) -> bool {
    PROGRAMS.contains(&holder.name.as_str())
}

/// Ends our programs that run with the state directory.
async fn stop(state_dir: &Path) -> Result<Look, Failure> {
    let mut ended = Vec::new();
    for holder in holders(state_dir).into_iter().filter(is_ours) {
        let pid = i32::try_from(holder.pid).ok().and_then(Pid::from_raw);
        match pid.map(|pid| kill_process(pid, Signal::TERM)) {
            Some(Err(rustix::io::Errno::SRCH)) => {}
            Some(Err(error)) => return Err(io::Error::from(error).into()),
            Some(Ok(())) | None => ended.push(format!("{} (process {})", holder.name, holder.pid)),
        }
    }
    let until = Instant::now() + END;
    let left = loop {
        let left = holders(state_dir);
        if !left.iter().any(is_ours) || Instant::now() > until {
            break left;
        }
        tokio::time::sleep(LOOK).await;
    };
    let names = |all: &[Holder]| {
        let all: Vec<String> = all.iter().map(|one| format!("{} (process {})", one.name, one.pid)).collect();
        all.join(", ")
    };
    Ok(Look {
        what: format!("processes with files in {}", state_dir.display()),
        found: match (left.is_empty(), ended.is_empty()) {
            (false, _) => names(&left),
            (true, true) => "none".to_owned(),
            (true, false) => format!("none any more: {} ended", ended.join(", ")),
        },
        clean: left.is_empty(),
    })
}

/// Removes the state directory with all that is ours in it, the store last.
fn remove(state_dir: &Path) -> Result<Vec<Look>, Failure> {
    let what = format!("state directory {}", state_dir.display());
    let look = |found: String, clean| Ok(vec![Look { what: what.clone(), found, clean }]);
    if fs::symlink_metadata(state_dir).is_err() {
        return look("not there".to_owned(), true);
    }
    let of_daemons = DAEMONS.iter().flat_map(|daemon| daemon.state).chain([&LOCK]);
    for name in of_daemons.map(|name| (*name).to_owned()).chain(serve::state()) {
        let path = state_dir.join(&name);
        let removed = match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => fs::remove_dir_all(&path),
            Ok(_) => fs::remove_file(&path),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other.map_err(|error| Failure::Failed(vec![format!("{}: {error}", path.display())]))?,
        }
    }
    match fs::remove_dir(state_dir) {
        Ok(()) => look("removed".to_owned(), true),
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
            let strange: Vec<PathBuf> =
                fs::read_dir(state_dir)?.flatten().map(|entry| entry.path()).collect();
            let strange: Vec<String> = strange.iter().map(|path| path.display().to_string()).collect();
            look(format!("holds what is not ours: {}", strange.join(", ")), false)
        }
        Err(error) => Err(error.into()),
    }
}

fn listeners() -> Vec<Listener> {
    let machines = PORTS.map(|(what, protocol, port)| (what, protocol, Ipv4Addr::UNSPECIFIED, port));
    let local =
        LOCAL_PORTS.map(|port| ("the API server or health", Protocol::Tcp, Ipv4Addr::LOCALHOST, port));
    let all = machines.into_iter().chain(local);
    all.map(|(what, protocol, address, port)| Listener {
        what,
        protocol,
        address: SocketAddr::from((address, port)),
    })
    .collect()
}

/// One of the ports. A program of ours that holds it and has no file of ours open is a daemon that was started by itself: whoever did that ends it.
fn port(listener: &Listener) -> Look {
    let protocol = match listener.protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
    };
    let what = format!("{protocol} {} for {}", listener.address.port(), listener.what);
    let busy = ports::busy(std::slice::from_ref(listener));
    let (found, clean) = match busy.first().map(|busy| (busy.holders.first(), &busy.error)) {
        None => ("free".to_owned(), true),
        Some((None, error)) if error.kind() == io::ErrorKind::AddrInUse => {
            ("held by a process that only root can name".to_owned(), false)
        }
        Some((None, error)) => (format!("cannot be told: {error}"), true),
        Some((Some(holder), _)) => {
            let held = format!("held by {} (process {})", holder.name, holder.pid);
            match is_ours(holder) {
                true => (format!("{held}, which was started by itself: end it"), false),
                false => (format!("{held}, which is not ours"), true),
            }
        }
    };
    Look { what, found, clean }
}

/// An address that is to be where the machines are provisioned from now.
fn address(address: IpAddr) -> Look {
    let here = UdpSocket::bind((address, 0)).is_ok();
    Look {
        what: format!("address {address}"),
        found: if here { "is on an interface of this machine" } else { "not on this machine" }.to_owned(),
        clean: !here,
    }
}

#[cfg(test)]
mod tests {
    use api::access::Component;

    use super::*;

    #[test]
    fn every_daemon_is_asked_what_it_keeps() {
        assert_eq!(DAEMONS.map(|daemon| daemon.name), Component::ALL.map(Component::name));
    }

    #[tokio::test]
    async fn a_store_that_owns_stays_and_one_that_was_moved_goes_and_others_files_stay() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let no = CleanupArgs { force: false, output: ReportFormat::Json };
        let mut options = apiserver::Options::new(state.join(STORE));
        options.namespaces = vec![SYSTEM_NAMESPACE.to_owned()];
        let server = apiserver::Server::open(options).await.unwrap();
        server.install_crds(&api::crds()).await.unwrap();
        server.close().await;
        drop(server);
        let Err(Failure::Failed(refused)) = clean(&no, &state, &[]).await else {
            panic!("it owns the machines")
        };
        assert!(refused[0].contains("--force") && state.join(STORE).is_file(), "{refused:?}");

        let server = apiserver::Server::open(apiserver::Options::new(state.join(STORE))).await.unwrap();
        let journals: Api<ConfigMap> = Api::namespaced(server.client(SYSTEM_NAMESPACE), SYSTEM_NAMESPACE);
        let peer = ownership::Peer { id: "there".to_owned(), url: "https://there".to_owned() };
        let of = Some(ownership::Move { id: "m".to_owned(), peer });
        let journal = Journal { state: State::Moved, of };
        journals.create(&kube::api::PostParams::default(), &journal.object(None)).await.unwrap();
        server.close().await;
        drop(server);
        fs::write(state.join("boots.access"), "token").unwrap();
        fs::write(state.join("notes.txt"), "mine").unwrap();
        let Ok(code) = clean(&no, &state, &[]).await else { panic!("it was moved") };
        assert_eq!(code, ExitCode::FAILURE, "somebody's notes are left");
        let left: Vec<_> = fs::read_dir(&state).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left, ["notes.txt"]);
        fs::remove_file(state.join("notes.txt")).unwrap();
        let Ok(code) = clean(&no, &state, &[]).await else { panic!("there is nothing to keep") };
        assert_eq!((code, state.exists()), (ExitCode::SUCCESS, false));
        let Ok(code) = clean(&no, &state, &[]).await else { panic!("it is done") };
        assert_eq!(code, ExitCode::SUCCESS, "once more shows the same");
    }

    #[test]
    fn a_port_is_free_or_somebody_elses_or_left() {
        let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap();
        let listener = Listener { what: "the test", protocol: Protocol::Tcp, address };
        let look = port(&listener);
        assert!(look.clean && look.found.contains("which is not ours"), "{look:?}");
        drop(held);
        assert_eq!(port(&listener).found, "free");
        let ours = Holder { pid: 1, name: "boots".to_owned() };
        assert!(is_ours(&ours) && !is_ours(&Holder { name: "bootsie".to_owned(), ..ours }));
    }

    #[test]
    fn what_is_left_is_marked() {
        let looks = [
            Look { what: "a".to_owned(), found: "free".to_owned(), clean: true },
            Look { what: "b".to_owned(), found: "c".to_owned(), clean: false },
        ];
        let text = report(&looks, false);
        assert!(text.contains("<-- left") && text.ends_with("something is left here\n"), "{text}");
        assert!(!report(&looks[..1], true).contains("left here\n\n"));
        assert!(address(IpAddr::V4(Ipv4Addr::LOCALHOST)).found.contains("interface"));
        assert!(address("192.0.2.1".parse().unwrap()).clean);
    }
}
