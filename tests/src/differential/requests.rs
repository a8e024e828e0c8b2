// SPDX-License-Identifier: Apache-2.0
//! The kinds of request, and how often each is made. Pure; called by the generator.

use serde_json::{Value, json};

use super::generator::{Aim, GENERATED, Generator, MERGE, escape, set, told, with_query};
use super::step::{Action, Fact, Request};
use super::{hostile, patches, reads, spoil};

/// Adds steps of one kind.
pub(super) type Plan = fn(&mut Generator);

/// What is done, and how often.
pub(super) const PLAN: &[(u32, Plan)] = &[
    (22, create),
    (8, reads::get),
    (9, reads::list),
    (3, reads::watch),
    (10, replace),
    (4, replace_status),
    (11, patches::merge),
    (8, patches::json),
    (5, patches::strategic),
    (13, patches::apply),
    (10, delete),
    (1, delete_collection),
    (3, release),
    (4, scale),
    (8, hostile::hostile),
];

/// Query parameters of a write.
pub(super) fn options(generator: &mut Generator) -> Vec<String> {
    let dice = &mut generator.dice;
    let mut query = Vec::new();
    if dice.chance(6) {
        query.push("dryRun=All".to_owned());
    }
    if dice.chance(25) {
        let wanted = dice.pick(&["Strict", "Strict", "Strict", "Warn", "Ignore", "Ignore", "Loose"]);
        query.push(format!("fieldValidation={wanted}"));
    }
    if dice.chance(35) {
        query.push(format!("fieldManager={}", dice.pick(&["alpha", "beta"])));
    }
    query
}

/// True for a request that changes nothing that the generator keeps account of.
pub(super) fn is_trial(query: &[String]) -> bool {
    query.iter().any(|option| option.starts_with("dryRun") || option.ends_with("Loose"))
}

/// The resource version to send: mostly the newest that is known.
pub(super) fn version(generator: &mut Generator, aim: &Aim) -> Option<String> {
    let writes = generator.life(aim).writes;
    match generator.dice.below(100) {
        0..55 => writes.last().map(|step| told(Fact::Version, *step)),
        55..70 => writes.first().map(|step| told(Fact::Version, *step)),
        70..73 => Some("1".to_owned()),
        73..75 => Some("new".to_owned()),
        75..77 => Some("999999999".to_owned()),
        _ => None,
    }
}

fn create(generator: &mut Generator) {
    let mut aim = generator.aim();
    for _ in 0..2 {
        if generator.life(&aim).alive && generator.dice.chance(85) {
            aim = generator.aim();
        }
    }
    let mut metadata = generator.metadata(&aim);
    if generator.dice.chance(8) {
        odd_metadata(generator, &mut metadata);
    }
    let owned = metadata.get("ownerReferences").is_some();
    let held = metadata.get("finalizers").is_some();
    let content = generator.content(aim.kind);
    let mut object = aim.object(content, metadata);
    let generated = generator.dice.chance(8);
    if generated && let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        metadata.remove("name");
        metadata.insert("generateName".to_owned(), GENERATED.into());
    }
    let query = options(generator);
    let path = with_query(&aim.collection(), &query);
    let about = if generated { aim.collection() } else { aim.path() };
    let step = generator.ask("create", &about, "POST", path, object);
    if generated {
        aim.name = told(Fact::Name, step);
    }
    if !is_trial(&query) && !generator.spoiled && !generator.life(&aim).alive {
        let life = generator.life_mut(&aim);
        (life.alive, life.created, life.writes, life.held) = (true, step, vec![step], held);
    }
    if owned {
        generator.settle();
    }
}

/// Something that a client should not send.
fn odd_metadata(generator: &mut Generator, metadata: &mut Value) {
    let (field, value) = match generator.dice.below(14) {
        0 => ("resourceVersion", json!("1")),
        1 => ("uid", json!("11111111-1111-4111-8111-111111111111")),
        2 => ("deletionTimestamp", json!("2024-01-01T00:00:00Z")),
        3 => ("creationTimestamp", json!("2024-01-01T00:00:00Z")),
        4 => ("generation", json!(7)),
        5 => ("selfLink", json!("/somewhere")),
        6 => ("labels", json!({"bad key!": "x"})),
        7 => ("labels", json!({"tier": "bad value!"})),
        8 => ("labels", json!({"tier": 5})),
        9 => ("finalizers", json!(["noslash"])),
        10 => ("annotations", json!({"a/b/c": "x"})),
        11 => ("ownerReferences", json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": ""}])),
        12 => ("managedFields", json!([{"manager": "m", "operation": "Sideways"}])),
        _ => ("unknown", json!(true)),
    };
    set(metadata, field, value);
}

fn replace(generator: &mut Generator) {
    let aim = generator.aim();
    let mut metadata = generator.metadata(&aim);
    if let Some(version) = version(generator, &aim) {
        set(&mut metadata, "resourceVersion", version.into());
    }
    let created = generator.life(&aim).created;
    if generator.life(&aim).alive && generator.dice.chance(15) {
        let uid = if generator.dice.chance(70) { told(Fact::Uid, created) } else { "other".to_owned() };
        set(&mut metadata, "uid", uid.into());
    }
    if generator.dice.chance(6) {
        odd_metadata(generator, &mut metadata);
    }
    let content = generator.content(aim.kind);
    let mut object = aim.object(content, metadata);
    if generator.dice.chance(15) {
        set(&mut object, "status", (aim.kind.status)(&mut generator.dice));
    }
    let query = options(generator);
    let step = generator.ask("replace", &aim.path(), "PUT", with_query(&aim.path(), &query), object);
    wrote(generator, &aim, step, &query);
}

fn replace_status(generator: &mut Generator) {
    let aim = generator.aim();
    let mut metadata = generator.metadata(&aim);
    if let Some(version) = version(generator, &aim) {
        set(&mut metadata, "resourceVersion", version.into());
    }
    let content = generator.content(aim.kind);
    let mut object = aim.object(content, metadata);
    let mut status = (aim.kind.status)(&mut generator.dice);
    if generator.dice.chance(20) {
        spoil::spoil(&mut generator.dice, &mut status);
    }
    set(&mut object, "status", status);
    let query = options(generator);
    let path = with_query(&format!("{}/status", aim.path()), &query);
    let step = generator.ask("replace status", &aim.path(), "PUT", path, object);
    if aim.kind.subresources.contains(&"status") {
        wrote(generator, &aim, step, &query);
    }
}

/// Takes account of a write to an object that may be there.
pub(super) fn wrote(generator: &mut Generator, aim: &Aim, step: usize, query: &[String]) {
    let life = generator.life(aim);
    if life.alive && !is_trial(query) && !generator.spoiled {
        generator.life_mut(aim).writes.push(step);
    }
    if generator.is_owner(aim) {
        generator.settle();
    }
}

/// Takes the finalizers away.
fn release(generator: &mut Generator) {
    let mut aim = generator.aim();
    for _ in 0..5 {
        if !generator.life(&aim).held {
            aim = generator.aim();
        }
    }
    let body = json!({"metadata": {"finalizers": null}}).to_string();
    let headers = vec![("content-type", MERGE.to_owned())];
    let request = Request { method: "PATCH", path: aim.path(), headers, body };
    generator.push("release", &aim.path(), Action::Ask(request));
    let life = generator.life_mut(&aim);
    life.held = false;
    if generator.is_owner(&aim) {
        generator.settle();
    }
}

fn delete(generator: &mut Generator) {
    let aim = generator.aim();
    let life = generator.life(&aim);
    let (mut query, mut body) = (Vec::new(), json!({}));
    let policy = generator.dice.chance(30);
    if policy {
        let policy =
            generator.dice.pick(&["Foreground", "Foreground", "Background", "Orphan", "Orphan", "Sideways"]);
        match generator.dice.chance(50) {
            true => query.push(format!("propagationPolicy={policy}")),
            false => set(&mut body, "propagationPolicy", policy.into()),
        }
    }
    if generator.dice.chance(5) {
        set(&mut body, "orphanDependents", generator.dice.chance(50).into());
    }
    if generator.dice.chance(8) {
        set(&mut body, "gracePeriodSeconds", 0.into());
    }
    if generator.dice.chance(7) {
        set(&mut body, "dryRun", json!(["All"]));
        query.push("dryRun=All".to_owned());
    }
    if life.alive && generator.dice.chance(20) {
        let uid = if generator.dice.chance(60) { told(Fact::Uid, life.created) } else { "other".to_owned() };
        let mut preconditions = json!({"uid": uid});
        if let Some(version) = version(generator, &aim) {
            set(&mut preconditions, "resourceVersion", version.into());
        }
        set(&mut body, "preconditions", preconditions);
    }
    if generator.dice.chance(30) {
        set(&mut body, "apiVersion", "v1".into());
        set(&mut body, "kind", "DeleteOptions".into());
    }
    let body = if body == json!({}) { Value::Null } else { body };
    generator.ask("delete", &aim.path(), "DELETE", with_query(&aim.path(), &query), body);
    if !is_trial(&query) {
        generator.life_mut(&aim).alive = life.alive && life.held;
    }
    if policy || generator.is_owner(&aim) {
        generator.settle();
    }
}

fn delete_collection(generator: &mut Generator) {
    let aim = generator.aim();
    let mut query = vec![format!("labelSelector={}", escape(&format!("n={}", generator.dice.below(3))))];
    if generator.dice.chance(15) {
        query.push("dryRun=All".to_owned());
    }
    if generator.dice.chance(10) {
        query.push("limit=1".to_owned());
    }
    generator.ask("deletecollection", "", "DELETE", with_query(&aim.collection(), &query), Value::Null);
    if generator.has_owners() {
        generator.settle();
    }
}

fn scale(generator: &mut Generator) {
    let kinds = super::kinds::KINDS;
    let Some(widget) = kinds.iter().find(|kind| kind.subresources.contains(&"scale")) else { return };
    let aim = generator.aim_of(widget);
    let path = format!("{}/scale", aim.path());
    let replicas = generator.dice.pick(&[&0, &1, &5, &-1]);
    let step = match generator.dice.below(3) {
        0 => generator.ask("get scale", &aim.path(), "GET", path, Value::Null),
        1 => {
            let mut metadata = json!({"name": aim.name, "namespace": aim.namespace});
            if let Some(version) = version(generator, &aim) {
                set(&mut metadata, "resourceVersion", version.into());
            }
            let scale = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": metadata, "spec": {"replicas": replicas}});
            generator.ask("replace scale", &aim.path(), "PUT", path, scale)
        }
        _ => {
            let body = json!({"spec": {"replicas": replicas}}).to_string();
            let headers = vec![("content-type", MERGE.to_owned())];
            let request = Request { method: "PATCH", path, headers, body };
            generator.push("patch scale", &aim.path(), Action::Ask(request))
        }
    };
    if generator.life(&aim).alive && *replicas >= 0 {
        generator.life_mut(&aim).writes.push(step);
    }
}
