// SPDX-License-Identifier: Apache-2.0

//! The daemons as pods of a Kubernetes cluster: what is applied, and how far it has come.
//!
//! Owns the manifests: one DaemonSet for each daemon of [`api::access`], under the account of its name, in the network of the host, on the nodes of the
//! control plane. Which of several replicas acts is settled by Leases; whoever holds that of boots has the address that machines know. `tink setup` and
//! `tink cluster move` apply them; the rights and the definitions are [`crate::setup`]'s.
//!
//! A daemon's settings are its section of the same file that `tink up` takes, kept in a ConfigMap; what follows from being a pod is given as flags, which win.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::{Duration, Instant},
};

use api::{
    access::Component, annotations::SYSTEM_NAMESPACE, anywhere::v1alpha1::TinkerbellDatacenterConfigSpec,
};
use clap::Args;
use daemon::config::{Inputs, Setting, Settings};
use k8s_openapi::{
    api::{
        apps::v1::DaemonSet,
        core::v1::{ConfigMap, ContainerStatus, Pod},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams},
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::{cli::Failure, image, output, up::UpConfig};

/// What the image is called unless somebody says otherwise.
pub const IMAGE: &str = concat!("tinkerbell/tink:", env!("CARGO_PKG_VERSION"));
/// The ConfigMap with the settings.
const SETTINGS: &str = "tinkerbell-settings";
const FILE: &str = "up.yaml";
const FOLDER: &str = "/etc/tinkerbell";
/// On the node: what must survive a restart, and images that boots serves.
const STATE: &str = "/var/lib/tinkerbell";
/// Label that all pods have.
const PART_OF: (&str, &str) = ("app.kubernetes.io/part-of", "tinkerbell");
const NAME: &str = "app.kubernetes.io/name";
/// A user that is nobody, for daemons that need nothing of the host but its network.
const NOBODY: i64 = 65532;
/// For a DaemonSet's pods to be started: images may have to be pulled.
const START: Duration = Duration::from_secs(600);
/// For daemons that may act to be ready.
const READY: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_secs(1);

/// Why the daemons do not run as pods. The same call may be made again.
#[derive(Debug, Error)]
pub enum PodsError {
    /// A server refused, or did not answer.
    #[error("{what}: {}", output::problem(source))]
    Api {
        /// What was asked for.
        what: String,
        /// Its answer.
        source: Box<kube::Error>,
    },
    /// Nobody has applied them.
    #[error("{0} does not run as pods there: `tink setup --pods --address IP` sees to that")]
    Missing(&'static str),
    /// They did not come up in time.
    #[error("waited {} s for {on}: {reason}", limit.as_secs())]
    Late {
        /// Whose pods.
        on: String,
        /// What keeps them.
        reason: String,
        /// How long.
        limit: Duration,
    },
}

/// How the daemons run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pods {
    /// The image, which nodes have or can pull.
    pub image: String,
    /// The address that machines know them by.
    pub address: Ipv4Addr,
    /// Interface of that address and of DHCP; without it, the one in whose network the address lies, and all.
    pub interface: Option<String>,
    /// The file of settings, as `tink up` takes it.
    pub settings: String,
}

impl Pods {
    /// What is applied, in this order.
    #[must_use]
    pub fn objects(&self) -> Vec<Value> {
        let settings = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata(SETTINGS, "settings"),
            "data": { FILE: self.settings },
        });
        std::iter::once(settings).chain(Component::ALL.map(|one| self.daemon_set(one))).collect()
    }

    fn daemon_set(&self, daemon: Component) -> Value {
        let name = daemon.name();
        let mut spec = json!({
            "serviceAccountName": name,
            "hostNetwork": true,
            "dnsPolicy": "ClusterFirstWithHostNet",
            "nodeSelector": { "node-role.kubernetes.io/control-plane": "" },
            "tolerations": [{ "operator": "Exists" }],
            "priorityClassName": "system-cluster-critical",
            "containers": [self.container(daemon)],
            "volumes": [{ "name": "settings", "configMap": { "name": SETTINGS } }],
        });
        if daemon == Component::Boots {
            let state =
                json!({ "name": "state", "hostPath": { "path": STATE, "type": "DirectoryOrCreate" } });
            if let Some(volumes) = spec.get_mut("volumes").and_then(Value::as_array_mut) {
                volumes.push(state);
            }
        }
        // Settings are read once: a change of theirs has to start the daemons again.
        let digest = image::hex(&Sha256::digest(&self.settings));
        json!({
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": metadata(name, name),
            "spec": {
                "selector": { "matchLabels": { NAME: name } },
                "template": {
                    "metadata": {
                        "labels": { NAME: name, PART_OF.0: PART_OF.1 },
                        "annotations": { "tinkerbell.org/settings": digest },
                    },
                    "spec": spec,
                },
            },
        })
    }

    fn container(&self, daemon: Component) -> Value {
        let name = daemon.name();
        let mut mounts = vec![json!({ "name": "settings", "mountPath": FOLDER, "readOnly": true })];
        let mut rights = json!({
            "readOnlyRootFilesystem": true,
            "allowPrivilegeEscalation": false,
            "runAsUser": NOBODY,
            "runAsGroup": NOBODY,
            "capabilities": { "drop": ["ALL"] },
        });
        if daemon == Component::Boots {
            mounts.push(json!({ "name": "state", "mountPath": STATE }));
            // Ports below 1024, packets to machines without an address, and the address that it has while it leads.
            rights = json!({
                "readOnlyRootFilesystem": true,
                "allowPrivilegeEscalation": false,
                "capabilities": { "drop": ["ALL"], "add": ["NET_ADMIN", "NET_BIND_SERVICE", "NET_RAW"] },
            });
        }
        let health = self.health(daemon);
        let probe = |path: &str, period: u32, failures: u32| {
            health.map(|address| {
                json!({
                    "httpGet": { "path": path, "port": address.port(), "host": address.ip() },
                    "periodSeconds": period,
                    "timeoutSeconds": 5,
                    "failureThreshold": failures,
                })
            })
        };
        json!({
            "name": name,
            "image": self.image,
            "imagePullPolicy": "IfNotPresent",
            "args": self.arguments(daemon),
            "env": [{ "name": "NODE_NAME", "valueFrom": { "fieldRef": { "fieldPath": "spec.nodeName" } } }],
            "readinessProbe": probe("/readyz", 5, 3),
            "livenessProbe": probe("/healthz", 20, 6),
            "resources": { "requests": { "cpu": "20m", "memory": "64Mi" } },
            "securityContext": rights,
            "volumeMounts": mounts,
        })
    }

    /// Where a daemon says whether it is ready, if its settings do not switch that off.
    fn health(&self, daemon: Component) -> Option<SocketAddr> {
        let file = Some((FILE.to_owned(), self.settings.clone()));
        let mut settings = Settings::load(daemon.name(), table(daemon), Inputs { file, ..Inputs::default() });
        let port: u16 = settings.get_or("health-port", 0);
        let address = settings.get_or("health-bind-addr", IpAddr::V4(Ipv4Addr::LOCALHOST));
        (port != 0).then_some(SocketAddr::new(address, port))
    }

    fn arguments(&self, daemon: Component) -> Vec<String> {
        let mut all = vec![
            daemon.name().to_owned(),
            format!("--config={FOLDER}/{FILE}"),
            "--log-format=json".to_owned(),
        ];
        if daemon == Component::Boots {
            let address = self.address;
            all.extend([
                format!("--state-dir={STATE}"),
                format!("--hook-dir=/{}", image::HOOK),
                format!("--boot-program-dir=/{}", image::BOOT_PROGRAMS),
                format!("--images-dir={STATE}/images"),
                format!("--public-ipv4={address}"),
                format!("--dhcp-ip-for-packet={address}"),
                "--boots-enable-leader-election=true".to_owned(),
                "--boots-leader-election-id=$(NODE_NAME)".to_owned(),
                format!("--boots-virtual-ip={address}"),
            ]);
            if let Some(interface) = &self.interface {
                all.push(format!("--boots-virtual-ip-interface={interface}"));
                all.push(format!("--dhcp-bind-interface={interface}"));
            }
        }
        all
    }
}

/// How the daemons are to run, as the command line says it.
#[derive(Debug, Args)]
pub(crate) struct PodsArgs {
    /// Image of the daemons, which the nodes of the control plane have or can pull
    #[arg(long, default_value = IMAGE, value_name = "REPOSITORY:TAG")]
    image: String,
    /// Address that machines will know the daemons by; a node of the control plane has it at a time
    #[arg(long, value_name = "IPv4")]
    address: Option<Ipv4Addr>,
    /// Interface of that address, and the only one on which DHCP is answered [default: the one in whose network it lies; all]
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// Settings of the daemons: a configuration file of `tink up`; paths and interfaces in it are those of the nodes
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
}

impl PodsArgs {
    /// What was said, and from the sites of clusters what was not.
    pub(crate) fn read(self, sites: &[TinkerbellDatacenterConfigSpec]) -> Result<Pods, Failure> {
        let addresses: BTreeSet<&str> =
            sites.iter().map(|site| site.tinkerbell_ip.as_str()).filter(|ip| !ip.is_empty()).collect();
        let mut known = addresses.iter();
        let address = match (self.address, known.next(), known.next()) {
            (Some(address), ..) => address,
            (None, Some(text), None) => text.parse().map_err(|_| {
                Failure::Usage(format!("tinkerbellIP {text:?} is no IPv4 address: give --address"))
            })?,
            (None, Some(one), Some(other)) => {
                let problem =
                    format!("clusters have tinkerbellIP {one} and {other}: say with --address which");
                return Err(Failure::Usage(problem));
            }
            (None, None, _) => {
                let problem = "there is no cluster with a tinkerbellIP: give --address";
                return Err(Failure::Usage(problem.to_owned()));
            }
        };
        let site = sites.iter().find(|site| site.tinkerbell_ip == address.to_string());
        let interface = self.interface.or_else(|| site.and_then(|site| site.load_balancer_interface.clone()));
        let settings = match &self.settings {
            None => String::new(),
            Some(path) => {
                let failed = |error| Failure::Failed(vec![format!("{}: {error}", path.display())]);
                fs::read_to_string(path).map_err(failed)?
            }
        };
        let inputs = Inputs {
            file: self.settings.as_ref().map(|path| (path.display().to_string(), settings.clone())),
            args: vec![format!("--public-ipv4={address}")],
            ..Inputs::default()
        };
        UpConfig::read(inputs).map_err(|mistakes| Failure::Usage(mistakes.to_string()))?;
        Ok(Pods { image: self.image, address, interface, settings })
    }
}

/// Takes away what [`Pods::objects`] are on a server whose machines are owned elsewhere: pods that only wait. What has a name of ours and not our label
/// is of others, and stays. Gives the names of what was there.
///
/// # Errors
///
/// When the server does not answer, or refuses.
pub async fn remove(client: &Client) -> Result<Vec<String>, PodsError> {
    let failed = |source| PodsError::Api { what: "the pods".to_owned(), source: Box::new(source) };
    let ours = ListParams::default().labels(&format!("{}={}", PART_OF.0, PART_OF.1));
    let (sets, mut removed) = (daemon_sets(client), Vec::new());
    let known = Component::ALL.map(Component::name);
    for set in sets.list(&ours).await.map_err(failed)?.items {
        let name = set.name_any();
        if known.contains(&name.as_str())
            && gone(sets.delete(&name, &DeleteParams::background()).await).map_err(failed)?
        {
            removed.push(name);
        }
    }
    let settings: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    for one in settings.list(&ours).await.map_err(failed)?.items {
        if one.name_any() == SETTINGS {
            gone(settings.delete(SETTINGS, &DeleteParams::background()).await).map_err(failed)?;
        }
    }
    Ok(removed)
}

/// Whether it was there to be deleted.
fn gone<T>(deleted: Result<T, kube::Error>) -> Result<bool, kube::Error> {
    match deleted {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(error) => Err(error),
    }
}

/// How far pods have to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Their programs have begun; they may wait for leave to act.
    Started,
    /// They say themselves that they are ready.
    Ready,
}

/// Waits for the pods of all daemons; `tell` hears what is waited for, whenever that changes, with the seconds so far.
///
/// # Errors
///
/// When the server does not answer, or they are late.
pub async fn wait(client: &Client, until: Until, mut tell: impl FnMut(&str, u64)) -> Result<(), PodsError> {
    let (since, mut told) = (Instant::now(), String::new());
    let limit = match until {
        Until::Started => START,
        Until::Ready => READY,
    };
    loop {
        let (on, reason) = match missing(client, until).await {
            Ok(None) => return Ok(()),
            Ok(Some(missing)) => missing,
            // Pods that start may be all that a small API server can bear.
            Err(PodsError::Api { what, source }) if output::may_pass(&source) => {
                (what, output::problem(&source))
            }
            Err(error) => return Err(error),
        };
        if since.elapsed() > limit {
            return Err(PodsError::Late { on, reason, limit });
        }
        let now = format!("{on}: {reason}");
        if told != now {
            tell(&now, since.elapsed().as_secs());
            told = now;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Whose pods are not that far yet, and what keeps them.
async fn missing(client: &Client, until: Until) -> Result<Option<(String, String)>, PodsError> {
    let failed = |source| PodsError::Api { what: "the pods".to_owned(), source: Box::new(source) };
    let ours = ListParams::default().labels(&format!("{}={}", PART_OF.0, PART_OF.1));
    let pods: Api<Pod> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let pods = pods.list(&ours).await.map_err(failed)?.items;
    let sets = daemon_sets(client).list(&ours).await.map_err(failed)?.items;
    let mut by_name: BTreeMap<String, &DaemonSet> = sets.iter().map(|set| (set.name_any(), set)).collect();
    for daemon in Component::ALL {
        let name = daemon.name();
        let set = by_name.remove(name).ok_or(PodsError::Missing(name))?;
        if let Some(reason) = behind(set, pods.iter(), until) {
            return Ok(Some((name.to_owned(), reason)));
        }
    }
    Ok(None)
}

/// What keeps the pods of a DaemonSet; nothing when all are there.
fn behind<'a>(set: &DaemonSet, pods: impl Iterator<Item = &'a Pod>, until: Until) -> Option<String> {
    let status = set.status.clone().unwrap_or_default();
    if status.observed_generation != set.metadata.generation {
        return Some("its controller has not seen it yet".to_owned());
    }
    let wanted = status.desired_number_scheduled;
    if wanted == 0 {
        return Some("no node of the control plane takes it".to_owned());
    }
    let mine: Vec<&Pod> =
        pods.filter(|pod| pod.labels().get(NAME).map(String::as_str) == Some(&set.name_any())).collect();
    let updated = status.updated_number_scheduled.unwrap_or(0);
    let there = match until {
        Until::Started => {
            i32::try_from(mine.iter().filter(|pod| is_started(pod)).count()).unwrap_or(i32::MAX)
        }
        Until::Ready => status.number_ready,
    };
    if updated >= wanted && there >= wanted {
        return None;
    }
    let why = mine.iter().find_map(|pod| held_up(pod)).unwrap_or_default();
    Some(format!("{there} of {wanted} pods{why}"))
}

fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten())
}

fn is_started(pod: &Pod) -> bool {
    let running = |one: &ContainerStatus| one.state.as_ref().is_some_and(|state| state.running.is_some());
    pod.metadata.deletion_timestamp.is_none()
        && containers(pod).next().is_some()
        && containers(pod).all(running)
}

/// Why a container does not run, as the kubelet says it, or how its program ended last.
fn held_up(pod: &Pod) -> Option<String> {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("no node");
    containers(pod).find_map(|one| {
        let waiting = one.state.as_ref()?.waiting.as_ref();
        let ended = one.last_state.as_ref().and_then(|state| state.terminated.as_ref());
        match (waiting, ended) {
            (Some(waiting), _) => {
                let reason = waiting.reason.as_deref().unwrap_or("it waits");
                let message = waiting.message.as_deref().unwrap_or_default();
                Some(format!("; on {node}: {reason} {message}").trim_end().to_owned())
            }
            (None, Some(ended)) if !one.ready => {
                Some(format!("; on {node} it ended with {}", ended.exit_code))
            }
            (None, _) => None,
        }
    })
}

fn daemon_sets(client: &Client) -> Api<DaemonSet> {
    Api::namespaced(client.clone(), SYSTEM_NAMESPACE)
}

fn metadata(name: &str, part: &str) -> ObjectMeta {
    let labels = [(NAME, part), PART_OF].map(|(key, value)| (key.to_owned(), value.to_owned()));
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(SYSTEM_NAMESPACE.to_owned()),
        labels: Some(BTreeMap::from(labels)),
        ..ObjectMeta::default()
    }
}

const fn table(daemon: Component) -> &'static [Setting] {
    match daemon {
        Component::Boots => boots::SETTINGS,
        Component::Hegel => hegel::SETTINGS,
        Component::Rufio => rufio::SETTINGS,
        Component::TinkServer => tink_server::SETTINGS,
        Component::Orchestrator => orchestrator::keeper::SETTINGS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods() -> Pods {
        Pods {
            image: IMAGE.to_owned(),
            address: Ipv4Addr::new(192, 0, 2, 7),
            interface: Some("eth1".to_owned()),
            settings: "boots:\n  dhcp-mode: proxy\n".to_owned(),
        }
    }

    /// What a daemon says of the flags of its container and of the file that it mounts.
    fn mistakes(pods: &Pods, daemon: Component) -> String {
        let args = pods.arguments(daemon);
        let (name, args) = args.split_first().unwrap();
        assert_eq!(name, daemon.name());
        let args = args.iter().filter(|arg| !arg.starts_with("--config=")).cloned().collect();
        let file = Some((FILE.to_owned(), pods.settings.clone()));
        let settings =
            Settings::load(daemon.name(), table(daemon), Inputs { file, args, ..Inputs::default() });
        settings.finish().map_or_else(|errors| errors.to_string(), |()| String::new())
    }

    #[test]
    fn every_daemon_takes_its_flags_and_is_asked_where_it_answers() {
        for daemon in Component::ALL {
            assert_eq!(mistakes(&pods(), daemon), "", "{}", daemon.name());
        }
        let health = |settings: &str, daemon| Pods { settings: settings.to_owned(), ..pods() }.health(daemon);
        assert_eq!(health("", Component::Rufio), Some("127.0.0.1:9103".parse().unwrap()));
        let moved =
            "global:\n  health-bind-addr: 0.0.0.0\nrufio:\n  health-port: 7\nboots:\n  health-port: 8\n";
        assert_eq!(health(moved, Component::Rufio), Some("0.0.0.0:7".parse().unwrap()));
        assert_eq!(health("rufio:\n  health-port: 0\n", Component::Rufio), None);
        let container = Pods { settings: "rufio:\n  health-port: 0\n".to_owned(), ..pods() };
        assert!(container.container(Component::Rufio).get("readinessProbe").unwrap().is_null());
    }

    #[test]
    fn there_is_a_daemon_set_for_each_account_with_no_more_rights_than_it_needs() {
        let objects = pods().objects();
        let sets: Vec<DaemonSet> =
            objects.iter().skip(1).map(|one| serde_json::from_value(one.clone()).unwrap()).collect();
        assert_eq!(sets.len(), Component::ALL.len());
        for set in sets {
            let pod = set.spec.unwrap().template;
            let spec = pod.spec.unwrap();
            assert_eq!(spec.service_account_name, set.metadata.name);
            let rights = spec.containers[0].security_context.clone().unwrap();
            let capabilities = rights.capabilities.unwrap();
            assert_eq!(capabilities.drop.unwrap(), ["ALL"]);
            let is_boots = set.metadata.name.as_deref() == Some("boots");
            assert_eq!(capabilities.add.is_some(), is_boots);
            assert_eq!(rights.run_as_user.is_none(), is_boots);
            assert!(spec.volumes.unwrap().iter().all(|volume| is_boots || volume.host_path.is_none()));
        }
    }

    #[test]
    fn the_address_is_the_one_of_the_clusters_unless_they_differ() {
        let site = |ip: &str| TinkerbellDatacenterConfigSpec {
            tinkerbell_ip: ip.to_owned(),
            load_balancer_interface: Some(format!("of-{ip}")),
            ..TinkerbellDatacenterConfigSpec::default()
        };
        let read = |address: Option<Ipv4Addr>, sites: &[TinkerbellDatacenterConfigSpec]| {
            PodsArgs { image: IMAGE.to_owned(), address, interface: None, settings: None }.read(sites).ok()
        };
        let (one, other) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
        let found = read(None, &[site("192.0.2.1"), site("192.0.2.1")]).unwrap();
        assert_eq!((found.address, found.interface.as_deref()), (one, Some("of-192.0.2.1")));
        assert!(read(None, &[site("192.0.2.1"), site("192.0.2.2")]).is_none());
        assert!(read(None, &[]).is_none() && read(None, &[site("2001:db8::1")]).is_none());
        let said = read(Some(other), &[site("192.0.2.1")]).unwrap();
        assert_eq!((said.address, said.interface), (other, None));
    }

    #[test]
    fn a_change_of_settings_starts_the_daemons_again() {
        let other = Pods { settings: String::new(), ..pods() };
        let annotations =
            |pods: &Pods| pods.objects()[1].pointer("/spec/template/metadata/annotations").cloned().unwrap();
        assert_ne!(annotations(&pods()), annotations(&other));
        assert_eq!(annotations(&pods()), annotations(&pods()));
    }

    fn set(observed: i64, wanted: i32, updated: i32, ready: i32) -> DaemonSet {
        serde_json::from_value(json!({
            "metadata": { "name": "boots", "generation": 2 },
            "status": {
                "observedGeneration": observed, "desiredNumberScheduled": wanted, "updatedNumberScheduled": updated,
                "numberReady": ready, "currentNumberScheduled": wanted, "numberMisscheduled": 0,
            },
        }))
        .unwrap()
    }

    fn pod(state: Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": "boots-1", "labels": { NAME: "boots" } },
            "spec": { "nodeName": "m1", "containers": [] },
            "status": { "containerStatuses": [{
                "name": "boots", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state,
            }] },
        }))
        .unwrap()
    }

    #[test]
    fn what_keeps_pods_is_told_in_the_kubelets_words() {
        let running = [pod(json!({ "running": {} }))];
        let waiting = [pod(json!({ "waiting": { "reason": "ErrImagePull", "message": "no such host" } }))];
        let behind = |set: &DaemonSet, pods: &[Pod], until| super::behind(set, pods.iter(), until);
        assert_eq!(behind(&set(2, 1, 1, 0), &running, Until::Started), None);
        assert_eq!(behind(&set(2, 1, 1, 0), &running, Until::Ready).as_deref(), Some("0 of 1 pods"));
        assert_eq!(behind(&set(2, 1, 1, 1), &running, Until::Ready), None);
        assert_eq!(
            behind(&set(2, 1, 1, 0), &waiting, Until::Started).as_deref(),
            Some("0 of 1 pods; on m1: ErrImagePull no such host")
        );
        assert_eq!(
            behind(&set(1, 1, 1, 1), &running, Until::Ready).as_deref(),
            Some("its controller has not seen it yet")
        );
        assert_eq!(
            behind(&set(2, 0, 0, 0), &[], Until::Ready).as_deref(),
            Some("no node of the control plane takes it")
        );
        // An old pod that still runs is not the one that was asked for.
        assert_eq!(behind(&set(2, 1, 0, 1), &running, Until::Ready).as_deref(), Some("1 of 1 pods"));
    }
}
