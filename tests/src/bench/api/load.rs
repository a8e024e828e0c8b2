// SPDX-License-Identifier: Apache-2.0
//! Requests about Hardware, from clients that each have a connection of their own and look at answers only as far as they
//! must.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use http::{Method, Request};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use serde_json::json;
use tokio::task::JoinSet;

use crate::alone::Alone;

/// The collection.
pub const PATH: &str = "/apis/tinkerbell.org/v1alpha1/namespaces/default/hardware";

/// Clients of one server.
pub struct Load {
    clients: Vec<Client>,
    objects: usize,
}

/// Time of a round, and of each request in it.
type Round = (Duration, Vec<Duration>);

impl Load {
    /// Makes clients.
    pub async fn new(server: &Alone, clients: usize) -> Result<Self> {
        let mut all = Vec::new();
        for _ in 0..clients {
            all.push(server.client().await?);
        }
        Ok(Self { clients: all, objects: 0 })
    }

    /// Objects that were created.
    pub fn objects(&self) -> usize {
        self.objects
    }

    /// Creates further objects.
    pub async fn create(&mut self, clients: usize, count: usize) -> Result<Round> {
        let first = self.objects;
        self.objects += count;
        self.each(clients, count, move |index| {
            let body = hardware(&object_name(first + index));
            Request::post(PATH).header("content-type", "application/json").body(body.into())
        })
        .await
    }

    /// Reads objects, any of them.
    pub async fn get(&self, clients: usize, count: usize) -> Result<Round> {
        let objects = self.objects;
        self.each(clients, count, move |_| {
            let name = object_name(rand::random_range(0..objects));
            Request::get(format!("{PATH}/{name}")).body(Body::empty())
        })
        .await
    }

    /// Patches objects, any of them.
    pub async fn patch(&self, clients: usize, count: usize) -> Result<Round> {
        let objects = self.objects;
        self.each(clients, count, move |index| patch(objects, &format!("{index}"))).await
    }

    /// Lists everything: at once, or in pages. Time and size of the answers.
    pub async fn list(&self, limit: Option<usize>) -> Result<(Duration, u64)> {
        let client = self.clients.first().context("a client")?;
        let started = Instant::now();
        let (mut bytes, mut token) = (0_u64, String::new());
        loop {
            let query = limit.map(|limit| format!("?limit={limit}&continue={token}")).unwrap_or_default();
            let answer = client.send(Request::get(format!("{PATH}{query}")).body(Body::empty())?).await?;
            ensure!(answer.status().is_success(), "list: {}", answer.status());
            let mut body = answer.into_body();
            let (mut head, mut tail) = (Vec::new(), Vec::new());
            while let Some(frame) = body.frame().await {
                if let Ok(data) = frame?.into_data() {
                    bytes += u64::try_from(data.len())?;
                    if head.len() < EDGE {
                        head.extend_from_slice(&data);
                    }
                    tail.extend_from_slice(&data);
                    tail.drain(..tail.len().saturating_sub(EDGE));
                }
            }
            match continue_token(&head, &tail) {
                Some(next) => token = next,
                None => return Ok((started.elapsed(), bytes)),
            }
        }
    }

    /// One request to change some object into one that names `mark`, from one of the first clients.
    pub async fn write(&self, index: usize, mark: &str) -> Result<()> {
        let client = self.clients.get(index % self.clients.len()).context("a client")?;
        send(client, patch(self.objects, mark)?).await
    }

    /// Sends `count` requests from `clients` clients, each its next when it has the answer to its last.
    async fn each(
        &self,
        clients: usize,
        count: usize,
        request: impl Fn(usize) -> http::Result<Request<Body>> + Clone + Send + 'static,
    ) -> Result<Round> {
        let next = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        let started = Instant::now();
        for client in self.clients.iter().take(clients) {
            let (client, next, request) = (client.clone(), Arc::clone(&next), request.clone());
            tasks.spawn(async move {
                let mut latencies = Vec::new();
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        return anyhow::Ok(latencies);
                    }
                    let request = request(index)?;
                    let sent = Instant::now();
                    send(&client, request).await?;
                    latencies.push(sent.elapsed());
                }
            });
        }
        let mut all = Vec::with_capacity(count);
        while let Some(latencies) = tasks.join_next().await {
            all.extend(latencies??);
        }
        Ok((started.elapsed(), all))
    }
}

async fn send(client: &Client, request: Request<Body>) -> Result<()> {
    let answer = client.send(request).await?;
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    if !status.is_success() {
        bail!("{status}: {}", String::from_utf8_lossy(&body));
    }
    Ok(())
}

fn patch(objects: usize, mark: &str) -> http::Result<Request<Body>> {
    let body = format!("{{\"metadata\":{{\"annotations\":{{\"{MARK}\":\"{mark}\"}}}}}}");
    Request::builder()
        .method(Method::PATCH)
        .uri(format!("{PATH}/{}", object_name(rand::random_range(0..objects))))
        .header("content-type", "application/merge-patch+json")
        .body(body.into_bytes().into())
}

/// The annotation that patches set.
pub const MARK: &str = "tests.invalid/mark";

/// Bytes at each end of a list that are looked at.
const EDGE: usize = 4096;

/// The token of a list's metadata, which is before the items in our answers and after them in those of kube-apiserver.
fn continue_token(head: &[u8], tail: &[u8]) -> Option<String> {
    let (head, tail) = (String::from_utf8_lossy(head), String::from_utf8_lossy(tail));
    let before = head.split_once("\"items\":").map(|(metadata, _)| metadata);
    let after = tail.rsplit_once("}],").map(|(_, metadata)| metadata);
    [before, after].into_iter().flatten().find_map(|metadata| {
        let (_, rest) = metadata.split_once("\"continue\":\"")?;
        let (token, _) = rest.split_once('"')?;
        (!token.is_empty()).then(|| token.to_owned())
    })
}

fn object_name(index: usize) -> String {
    format!("machine-{index:06}")
}

/// A Hardware as an administrator of many machines writes it.
pub fn hardware(name: &str) -> Vec<u8> {
    let interface = |card: u8| {
        json!({
            "dhcp": {
                "arch": "x86_64", "hostname": name, "iface_name": format!("eno{card}"), "mac": format!("52:54:00:12:34:{card:02x}"),
                "lease_time": 86400, "name_servers": ["10.0.0.2", "10.0.0.3"], "time_servers": ["10.0.0.4"], "uefi": true,
                "ip": {"address": format!("10.1.{card}.17"), "gateway": format!("10.1.{card}.1"), "netmask": "255.255.255.0"},
            },
            "netboot": {"allowPXE": card == 0, "allowWorkflow": card == 0},
        })
    };
    let partition = |number: u8| json!({"number": number, "start": 4096, "size": 1 << 20, "label": format!("PART{number}")});
    json!({
        "apiVersion": "tinkerbell.org/v1alpha1",
        "kind": "Hardware",
        "metadata": {"name": name, "namespace": "default", "labels": {"rack": "r12", "type": "worker", "room": "b"}},
        "spec": {
            "agentID": "52:54:00:12:34:00",
            "bmcRef": {"apiGroup": "bmc.tinkerbell.org", "kind": "Machine", "name": name},
            "disks": [{"device": "/dev/nvme0n1"}, {"device": "/dev/nvme1n1"}],
            "interfaces": (0..3).map(interface).collect::<Vec<_>>(),
            "metadata": {
                "facility": {"facility_code": "onprem", "plan_slug": "c2.medium.x86"},
                "instance": {"hostname": name, "id": "52:54:00:12:34:00", "operating_system": {"distro": "debian", "version": "13"},
                    "storage": {"disks": [{"device": "/dev/nvme0n1", "partitions": (1..4).map(partition).collect::<Vec<_>>()}]}},
                "manufacturer": {"id": "acme", "slug": "acme"},
                "state": "provisioned",
            },
            "userData": "#cloud-config\npackage_update: true\nusers:\n- name: admin\n  sudo: ALL=(ALL) NOPASSWD:ALL\n",
        },
    })
    .to_string()
    .into_bytes()
}

/// Per second.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub fn rate(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

/// The value below which `part` of all are.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a position in a list"
)]
pub fn quantile(values: &[Duration], part: f64) -> Duration {
    let mut sorted = values.to_vec();
    sorted.sort();
    let position = (sorted.len() as f64 * part) as usize;
    sorted.get(position.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_positions_in_order() {
        let values: Vec<Duration> = (0..100).rev().map(Duration::from_millis).collect();
        assert_eq!(quantile(&values, 0.5), Duration::from_millis(50));
        assert_eq!(quantile(&values, 0.99), Duration::from_millis(99));
        assert_eq!(quantile(&[], 0.99), Duration::ZERO);
    }

    #[test]
    fn the_token_is_that_of_the_list() {
        let list = br#"{"kind":"L","metadata":{"continue":"abc","remainingItemCount":3},"items":[]}"#;
        assert_eq!(continue_token(list, list).as_deref(), Some("abc"));
        let sorted = br#"{"items":[{"a":1}],"kind":"L","metadata":{"continue":"abc","resourceVersion":"7"}}"#;
        assert_eq!(continue_token(sorted, sorted).as_deref(), Some("abc"));
        let last = br#"{"metadata":{},"items":[{"continue":"no"}]}"#;
        assert_eq!(continue_token(last, last), None);
    }
}
