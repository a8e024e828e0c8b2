// SPDX-License-Identifier: Apache-2.0

use serde_json::{Value, json};

use super::fields::FieldSet;
use super::shape::Shape;
use super::{Applied, Manager, Owners, record_create};
use crate::registry::{Registry, Served, parse_crd};
use crate::status::ApiError;

fn served() -> Served {
    let yaml = include_str!("../../tests/common/widget.yaml");
    let crd: Value = serde_saphyr::from_str(yaml).unwrap();
    let registry = Registry::new();
    registry.replace_custom(vec![parse_crd(&crd).unwrap()]);
    registry.catalogue().find("example.org", "v1", "widgets").unwrap()
}

fn manager(name: &str) -> Manager {
    Manager { name: name.into(), subresource: String::new(), time: "2026-01-01T00:00:00Z".into() }
}

fn widget(spec: Value) -> Value {
    json!({"apiVersion": "example.org/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec})
}

fn apply(
    served: &Served,
    live: Option<&Value>,
    applied: &Value,
    manager: &Manager,
    force: bool,
) -> Result<Value, ApiError> {
    let applied = Applied { object: applied.clone(), given: applied.clone() };
    super::apply(served, live, &applied, manager, force)
}

/// An update of everything that asks for what comes to be.
fn record_update(served: &Served, old: &Value, new: &mut Value, manager: &Manager) {
    let requested = new.clone();
    super::record_update(served, old, &requested, new, manager);
}

fn fields_of<'a>(object: &'a Value, name: &str) -> &'a Value {
    let list = object["metadata"]["managedFields"].as_array().unwrap();
    &list.iter().find(|entry| entry["manager"] == name).unwrap()["fieldsV1"]
}

#[test]
fn only_times_of_managers_count_for_nothing() {
    let object = |time: &str, manager: &str, data: &str| {
        json!({
            "metadata": {"name": "a", "managedFields": [{"manager": manager, "time": time}]},
            "data": {"time": data},
        })
    };
    let one = object("2026-01-01T00:00:00Z", "m", "x");
    assert!(super::same_but_for_times(&one, &object("2026-01-01T00:00:01Z", "m", "x")));
    assert!(!super::same_but_for_times(&one, &object("2026-01-01T00:00:00Z", "n", "x")));
    assert!(!super::same_but_for_times(&one, &object("2026-01-01T00:00:00Z", "m", "y")));
    assert!(!super::same_but_for_times(&one, &json!({"metadata": {"name": "a"}, "data": {"time": "x"}})));
}

#[test]
fn applied_fields_are_owned_in_the_published_format() {
    let served = served();
    let applied =
        widget(json!({"colour": "red", "parts": [{"id": "a", "count": 2}], "owners": ["x"], "lines": ["l"],
        "tags": {"t": "1"}, "free": {"deep": {"er": 1}}}));
    let object = apply(&served, None, &applied, &manager("one"), false).unwrap();
    let expected = json!({"f:spec": {
        "f:colour": {}, "f:lines": {}, "f:owners": {"v:\"x\"": {}}, "f:tags": {"f:t": {}},
        "f:free": {"f:deep": {".": {}, "f:er": {}}},
        "f:parts": {"k:{\"id\":\"a\"}": {".": {}, "f:id": {}, "f:count": {}}},
    }});
    assert_eq!(fields_of(&object, "one"), &expected);
    assert_eq!(FieldSet::from_json(&expected).to_json(), expected);
}

#[test]
fn what_a_manager_stops_applying_goes_unless_others_own_it() {
    let served = served();
    let first = widget(
        json!({"colour": "red", "size": 3, "tags": {"a": "1", "b": "2"}, "parts": [{"id": "p"}, {"id": "q"}]}),
    );
    let object = apply(&served, None, &first, &manager("one"), false).unwrap();
    let shared = widget(json!({"size": 3, "parts": [{"id": "q", "note": "mine"}]}));
    let object = apply(&served, Some(&object), &shared, &manager("two"), false).unwrap();
    let less = widget(json!({"tags": {"a": "1"}, "parts": [{"id": "p"}]}));
    let object = apply(&served, Some(&object), &less, &manager("one"), false).unwrap();
    assert_eq!(
        object["spec"],
        json!({"size": 3, "tags": {"a": "1"}, "parts": [{"id": "p"}, {"id": "q", "note": "mine"}]})
    );
    let nothing = apply(&served, Some(&object), &widget(json!({})), &manager("two"), false).unwrap();
    assert_eq!(nothing["spec"], json!({"tags": {"a": "1"}, "parts": [{"id": "p"}]}));
}

#[test]
fn conflicts_name_manager_and_field_and_force_takes_over() {
    let served = served();
    let object = apply(
        &served,
        None,
        &widget(json!({"colour": "red", "parts": [{"id": "a", "count": 1}]})),
        &manager("one"),
        false,
    )
    .unwrap();
    let other = widget(json!({"colour": "blue", "parts": [{"id": "a", "count": 2}]}));
    let error = apply(&served, Some(&object), &other, &manager("two"), false).unwrap_err();
    assert_eq!((error.code().as_u16(), error.reason()), (409, "Conflict"));
    let body = error.body();
    let causes = body["details"]["causes"].as_array().unwrap();
    assert_eq!(causes.len(), 2);
    assert_eq!(
        causes[0],
        json!({"reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".spec.colour"})
    );
    assert_eq!(causes[1]["field"], ".spec.parts[id=\"a\"].count");
    let forced = apply(&served, Some(&object), &other, &manager("two"), true).unwrap();
    assert_eq!(forced["spec"]["colour"], "blue");
    assert_eq!(fields_of(&forced, "one").pointer("/f:spec/f:colour"), None);
    // The same value is no conflict: both own it.
    let agreed =
        apply(&served, Some(&object), &widget(json!({"colour": "red"})), &manager("three"), false).unwrap();
    assert!(fields_of(&agreed, "one")["f:spec"].get("f:colour").is_some());
    assert!(fields_of(&agreed, "three")["f:spec"].get("f:colour").is_some());
}

#[test]
fn updates_take_what_they_change() {
    let served = served();
    let object =
        apply(&served, None, &widget(json!({"colour": "red", "size": 3})), &manager("one"), false).unwrap();
    let mut updated = object.clone();
    updated["spec"]["colour"] = json!("blue");
    updated["spec"]["tags"] = json!({"k": "v"});
    record_update(&served, &object, &mut updated, &manager("editor"));
    assert_eq!(fields_of(&updated, "one"), &json!({"f:spec": {"f:size": {}}}));
    assert_eq!(
        fields_of(&updated, "editor"),
        &json!({"f:spec": {"f:colour": {}, "f:tags": {".": {}, "f:k": {}}}})
    );
    let error =
        apply(&served, Some(&updated), &widget(json!({"colour": "red", "size": 3})), &manager("one"), false);
    let body = error.unwrap_err().body();
    assert_eq!(
        body["message"],
        "Apply failed with 1 conflict: conflict with \"editor\" using example.org/v1: .spec.colour"
    );
}

#[test]
fn repeating_an_apply_changes_nothing() {
    let served = served();
    let applied = widget(json!({"parts": [{"id": "b"}, {"id": "a"}], "owners": ["x", "y"]}));
    let object = apply(&served, None, &applied, &manager("one"), false).unwrap();
    let later = Manager { time: "2027-01-01T00:00:00Z".into(), ..manager("one") };
    assert_eq!(apply(&served, Some(&object), &applied, &later, false).unwrap(), object);
}

#[test]
fn many_updaters_are_bounded() {
    let served = served();
    let mut object = widget(json!({}));
    for index in 0..30 {
        let mut next = object.clone();
        next["spec"]["free"][format!("f{index}")] = json!(index);
        let writer =
            Manager { time: format!("2026-01-01T00:00:{index:02}Z"), ..manager(&format!("m{index}")) };
        record_update(&served, &object, &mut next, &writer);
        object = next;
    }
    let managed = object["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(managed.len(), 10);
    assert!(fields_of(&object, "ancient-changes")["f:spec"]["f:free"].get("f:f0").is_some());
}

#[test]
fn all_nodes_contain_what_is_set() {
    let served = served();
    let shape = Shape::of(served.version());
    let value = json!({"spec": {"parts": [{"id": "a", "note": "n"}], "tags": {"x": "y"}, "lines": ["1"]}});
    let of = FieldSet::of(&value, shape);
    assert_eq!(of.intersection(&FieldSet::all(&value, shape)), of);
    assert!(FieldSet::changed(&value, &value, shape).is_empty());
}

#[test]
fn a_scale_moves_the_ownership_of_the_replicas_alone() {
    let served = served();
    let applied = widget(json!({"size": 3, "colour": "red"}));
    let live = apply(&served, None, &applied, &manager("one"), false).unwrap();
    let scaler = Manager { subresource: "scale".into(), ..manager("scaler") };
    let scaled = |live: &Value, size: i64| {
        let mut new = live.clone();
        new["spec"]["size"] = json!(size);
        let shown = |object: &Value| match object["spec"]["size"].as_i64() {
            None | Some(0) => json!({"spec": {}}),
            Some(size) => json!({"spec": {"replicas": size}}),
        };
        let owners = Owners::of(&served, live).updated((&shown(live), &shown(&new)), &scaler);
        owners.bring_back(&served, live, &mut new);
        new
    };
    assert_eq!(scaled(&live, 3), live);
    let more = scaled(&live, 5);
    assert_eq!(fields_of(&more, "one"), &json!({"f:spec": {"f:colour": {}}}));
    assert_eq!(fields_of(&more, "scaler"), &json!({"f:spec": {"f:size": {}}}));
    assert_eq!(scaled(&more, 0)["metadata"]["managedFields"].as_array().unwrap().len(), 1);
    // Where nobody owns them, nobody comes to.
    let unowned = scaled(&more, 0);
    assert_eq!(scaled(&unowned, 4)["metadata"]["managedFields"].as_array().unwrap().len(), 1);
    // An update's owner comes back in an entry beside its own.
    let mut made = widget(json!({"size": 3, "colour": "red"}));
    record_create(&served, &mut made, &manager("maker"));
    let list = scaled(&made, 3)["metadata"]["managedFields"].clone();
    assert_eq!(list[0]["fieldsV1"], json!({"f:spec": {"f:size": {}}}));
    assert_eq!(list[1]["fieldsV1"], json!({"f:spec": {".": {}, "f:colour": {}}}));
    assert_eq!((&list[0]["manager"], &list[1]["manager"]), (&json!("maker"), &json!("maker")));
}

#[test]
fn where_the_fields_cannot_be_told_apart_all_owners_are_forgotten() {
    let served = served();
    let live = apply(&served, None, &widget(json!({"colour": "red"})), &manager("one"), false).unwrap();
    let mut requested = live.clone();
    requested["spec"]["size"] = json!("not a number");
    let mut new = live.clone();
    let writer = Manager { subresource: "status".into(), ..manager("two") };
    super::record_update(&served, &live, &requested, &mut new, &writer);
    assert_eq!(new["metadata"].get("managedFields"), None);
}

#[test]
fn nothing_in_the_place_of_a_structure_sets_none_of_it() {
    let served = served();
    let live = apply(&served, None, &widget(json!({"tags": {"a": "b"}, "size": 3})), &manager("one"), false)
        .unwrap();
    let forced =
        apply(&served, Some(&live), &widget(json!({"tags": null, "size": 4})), &manager("two"), true)
            .unwrap();
    assert_eq!(forced["spec"], json!({"tags": {"a": "b"}, "size": 4}));
    assert_eq!(fields_of(&forced, "one"), &json!({"f:spec": {"f:tags": {"f:a": {}}}}));
}

#[test]
fn who_writes_a_status_owns_the_metadata_that_was_sent_along() {
    let served = served();
    let live = apply(&served, None, &widget(json!({"colour": "red"})), &manager("one"), false).unwrap();
    let mut requested = live.clone();
    requested["metadata"]["labels"] = json!({"a": "b"});
    requested["spec"]["colour"] = json!("blue");
    requested["status"] = json!({"state": "x"});
    let mut new = live.clone();
    new["status"] = json!({"state": "x"});
    let writer = Manager { subresource: "status".into(), ..manager("two") };
    super::record_update(&served, &live, &requested, &mut new, &writer);
    assert_eq!(fields_of(&new, "one"), &json!({"f:spec": {"f:colour": {}}}));
    let owned =
        json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}}, "f:status": {".": {}, "f:state": {}}});
    assert_eq!(fields_of(&new, "two"), &owned);
    assert_eq!(new["metadata"].get("labels"), None);
}
