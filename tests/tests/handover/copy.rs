// SPDX-License-Identifier: Apache-2.0
//! What arrives: every object with its status, its owners and whatever else it names by UID, between two servers of ours and
//! between ours and a real Kubernetes, with its garbage collector at work.

use anyhow::{Context, Result, ensure};
use api::annotations::{NETBOOT_FOR, SYSTEM_NAMESPACE};
use api::ownership::{self, Journal, Move, Peer, State};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::PostParams;
use serde_json::Value;
use tests::alone::Alone;
use tests::stack::eventually;
use tests::target::Kind;
use tink::handover::{self, Event, MoveError, Proof, Side};

use crate::rack::{MACHINES, everything, populate, same, work};

const HEARD: std::time::Duration = std::time::Duration::from_secs(60);

/// Copies, and gives the proof with how many objects were sent.
async fn copy(from: &Client, to: &Client) -> Result<(Proof, usize)> {
    let (sender, mut events) = handover::channel();
    let telling = tokio::spawn(async move {
        let mut sent = 0;
        while let Some(event) = events.recv().await {
            if let Event::Copied { objects, of } = event
                && objects == of
            {
                sent += of;
            }
        }
        sent
    });
    let proof = handover::copy(from, to, &sender, None).await?;
    drop(sender);
    Ok((proof, telling.await?))
}

/// Whoever copied while another finished the move must not put anything back.
pub async fn overtaken() -> Result<()> {
    let (one, _) = Alone::start(Kind::Embedded, false).await?;
    let (two, _) = Alone::start(Kind::Embedded, false).await?;
    let (from, to) = (one.client().await?, two.client().await?);
    populate(&from).await?;
    let side = Side::meet(to.clone(), "https://there".to_owned()).await?;
    let peer = Peer { id: "here".to_owned(), url: "https://here".to_owned() };
    let awaits = Journal { state: State::Awaiting, of: Some(Move { id: "1".to_owned(), peer }) };
    let journals: kube::Api<ConfigMap> = kube::Api::namespaced(to.clone(), SYSTEM_NAMESPACE);
    journals.create(&PostParams::default(), &awaits.object(None)).await?;
    // It is held up after its first objects until the other has finished: the channel is full.
    let (sender, mut events) = tokio::sync::mpsc::channel(1);
    sender.send(Event::Copied { objects: 0, of: 0 }).await?;
    let overtake = async {
        eventually("the first objects to be there", HEARD, async || {
            let there = everything(&to).await.map_err(|error| error.to_string())?;
            Ok((!there.is_empty()).then_some(()))
        })
        .await?;
        let version = journals.get(ownership::NAME).await?.metadata.resource_version;
        let owner = awaits.in_state(State::Owner).object(version);
        journals.replace(ownership::NAME, &PostParams::default(), &owner).await?;
        while events.recv().await.is_some() {}
        anyhow::Ok(())
    };
    let copying = async {
        let copied = handover::copy(&from, &to, &sender, Some((&side, &awaits))).await;
        drop(sender);
        copied
    };
    let (copied, overtaken) = tokio::join!(copying, overtake);
    overtaken?;
    ensure!(matches!(copied, Err(MoveError::Overtaken)), "{copied:?}");
    let there = everything(&to).await?.len();
    println!("  overtaken after {there} objects");
    ensure!(there > 0 && there < everything(&from).await?.len(), "{there} objects are there");
    let again = handover::copy(&from, &to, &handover::channel().0, Some((&side, &awaits))).await;
    ensure!(matches!(again, Err(MoveError::Overtaken)), "{again:?}");
    ensure!(everything(&to).await?.len() == there, "something was sent to an owner");
    Ok(())
}

pub async fn ours() -> Result<()> {
    let (one, _) = Alone::start(Kind::Embedded, false).await?;
    let (two, _) = Alone::start(Kind::Embedded, false).await?;
    let (from, to) = (one.client().await?, two.client().await?);
    populate(&from).await?;
    let (proof, sent) = copy(&from, &to).await?;
    println!("  {sent} objects sent; {proof:?}");
    let before = everything(&from).await?;
    ensure!(proof.objects() == before.len() && sent == before.len(), "{proof:?} of {} objects", before.len());
    ensure!(proof.counts.get("Hardware") == Some(&(MACHINES + 1)), "{proof:?}");
    let after = everything(&to).await?;
    same(&before, &after)?;
    let uid = |all: &std::collections::BTreeMap<String, Value>| {
        all["Workflow tinkerbell/install-m0"]["metadata"]["uid"].clone()
    };
    ensure!(uid(&before) == uid(&after), "our servers keep UIDs");
    let others: kube::Api<k8s_openapi::api::core::v1::Secret> = kube::Api::namespaced(to.clone(), "racks");
    ensure!(others.get_opt("others").await?.is_none(), "a Secret that nobody of ours names was copied");

    let (again, sent) = copy(&from, &to).await?;
    ensure!(again == proof && sent == 0, "a second time {sent} objects were sent");
    work(&from).await?;
    let (changed, sent) = copy(&from, &to).await?;
    println!("  after some work {sent} objects sent");
    ensure!(changed != proof && sent < 10, "{sent} objects were sent for a few changes");
    same(&everything(&from).await?, &everything(&to).await?)
}

pub async fn kubernetes_and_back() -> Result<()> {
    let (one, _) = Alone::start(Kind::Embedded, false).await?;
    let (two, _) = Alone::start(Kind::Kubernetes, true).await?;
    let (from, to) = (one.client().await?, two.client().await?);
    populate(&from).await?;
    let (proof, sent) = copy(&from, &to).await?;
    println!("  {sent} objects sent to Kubernetes");
    let before = everything(&from).await?;
    let there = everything(&to).await?;
    same(&before, &there)?;
    let uid = |object: &Value| object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let (workflow, job) =
        (&there["Workflow tinkerbell/install-m0"], &there["Job tinkerbell/netboot-install-m0"]);
    ensure!(uid(workflow) != uid(&before["Workflow tinkerbell/install-m0"]), "Kubernetes gives new UIDs");
    let named = &workflow["status"]["bootOptions"]["jobs"]["netboot-install-m0"]["uid"];
    ensure!(*named == uid(job), "the Workflow names its Job {named}");
    let switched = &there["Hardware tinkerbell/m0"]["metadata"]["annotations"][NETBOOT_FOR];
    ensure!(*switched == format!("install-m0/{}", uid(workflow)), "the Hardware names {switched}");
    let object: api::v1alpha1::Workflow = serde_json::from_value(workflow.clone()).context("a Workflow")?;
    ensure!(object.first_uid() == uid(&before["Workflow tinkerbell/install-m0"]), "tokens are for another");

    work(&to).await?;
    let there = everything(&to).await?;
    let (back, _) = copy(&to, &from).await?;
    ensure!(back != proof, "the work there was not copied");
    same(&there, &everything(&from).await?)?;
    work_again(&from).await?;
    let (_, sent) = copy(&from, &to).await?;
    println!("  {sent} objects sent the third time");
    same(&everything(&from).await?, &everything(&to).await?)
}

/// What is only a status, now that both servers have the same UIDs.
async fn work_again(client: &Client) -> Result<()> {
    let workflows: kube::Api<api::v1alpha1::Workflow> = kube::Api::namespaced(client.clone(), "tinkerbell");
    let failed = kube::api::Patch::Merge(serde_json::json!({"status": {"state": "FAILED"}}));
    workflows.patch_status("install-m5", &kube::api::PatchParams::default(), &failed).await?;
    Ok(())
}
