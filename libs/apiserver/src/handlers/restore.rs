// SPDX-License-Identifier: Apache-2.0

//! `POST ...?restore=true`: an object comes back as it was, with its UID, times, generation, managed fields and status.
//!
//! For what puts a backup into an empty server: owner references stay right because UIDs stay. Only the administrator may (`front`). The object passes the
//! same admission as any other; then what admission makes anew is taken from the request. Repeating it changes nothing; an object that is there and
//! differs is a conflict, or with `force=true` replaced. Kubernetes knows no such parameter and makes a new object with a new UID: that is how a client
//! can tell.

use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;

use super::Call;
use super::write::{PutError, decode_body, put};
use crate::admission::{self, Part, Stamp};
use crate::body::Answer;
use crate::inner::Inner;
use crate::object;
use crate::request::FieldValidation;
use crate::status::ApiError;
use crate::store::Expect;

/// Attempts to replace an object that others change.
const ATTEMPTS: usize = 16;

pub(super) async fn restore(
    inner: &Inner,
    call: &Call<'_>,
    media_type: &str,
    bytes: &Bytes,
) -> Result<Answer, ApiError> {
    let given = decode_body(call, media_type, bytes, FieldValidation::Strict)?;
    let object = admitted(call, given)?;
    let resource = &call.served.resource;
    let subject = resource.subject(object::name(&object));
    let key = resource.key(call.namespace(), subject.name);
    for _ in 0..ATTEMPTS {
        let found = inner.store.snapshot()?.get(&key)?;
        let expect = match &found {
            None => Expect::Absent,
            Some(stored) => {
                let live = serde_json::from_slice(&stored.bytes).map_err(ApiError::internal)?;
                if same(&call.served.request_form(live), &object) {
                    return call.show(StatusCode::OK, stored.bytes.clone());
                }
                if !call.query.force {
                    return Err(ApiError::already_exists(&subject));
                }
                Expect::Version(stored.version)
            }
        };
        match put(inner, call, expect, object.clone(), false).await {
            Ok(outcome) => return call.show(StatusCode::CREATED, outcome.bytes),
            Err(PutError::Exists | PutError::Lost) => {}
            Err(PutError::Other(error)) => return Err(error),
        }
    }
    Err(ApiError::modified(&subject))
}

/// The object after admission, with what was given in the places of what admission makes.
fn admitted(call: &Call<'_>, mut given: Value) -> Result<Value, ApiError> {
    if object::uid(&given).is_empty() {
        return Err(ApiError::bad_request(
            "metadata.uid: Required value: an object is restored with its UID",
        ));
    }
    object::metadata_mut(&mut given).remove("resourceVersion");
    let mut made = given.clone();
    admission::wipe(&mut made);
    admission::fill_in(&call.served, &mut made);
    let mut made = admission::create(&call.served, made, call.namespace(), &Stamp::new())?;
    if let Some(status) = given.get("status") {
        let mut new = made.clone();
        object::object_mut(&mut new).insert("status".into(), status.clone());
        admission::fill_in(&call.served, &mut new);
        let part = if call.served.version().status { Part::Status } else { Part::Main };
        made = admission::update(&call.served, &made, new, part)?;
    }
    let namespace = object::metadata(&made).get("namespace").cloned();
    let metadata = object::metadata_mut(&mut given);
    if let Some(namespace) = namespace {
        metadata.insert("namespace".into(), namespace);
    }
    object::object_mut(&mut made).insert("metadata".into(), Value::Object(metadata.clone()));
    Ok(made)
}

/// Equal but for the resource version.
fn same(live: &Value, object: &Value) -> bool {
    let without = |value: &Value| {
        let mut value = value.clone();
        object::metadata_mut(&mut value).remove("resourceVersion");
        value
    };
    without(live) == without(object)
}
