// SPDX-License-Identifier: Apache-2.0

//! Request bodies in Kubernetes' protobuf form, which typed Go clients (`kubectl create`, controller-runtime) send for the built-in kinds. Answers are JSON.
//!
//! The envelope is `k8s\0` and `runtime.Unknown`; what is inside is decoded into JSON by the field tables below, whose numbers are those of the published
//! `generated.proto` files of k8s.io/api and k8s.io/apimachinery. Unknown fields are skipped. Pure; called by `body`.

use base64::Engine as _;
use serde_json::{Map, Value, json};

/// Media type of these bodies.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

const MAGIC: &[u8] = b"k8s\0";
/// Deepest nesting of messages; the kinds below need five.
const MAX_DEPTH: usize = 16;

/// How a field is read.
#[derive(Clone, Copy)]
enum Kind {
    /// Left out when empty: the encoders write empty strings for what was not set.
    Text,
    /// Kept when empty: a pointer, written only when set.
    SetText,
    Texts,
    Bytes,
    Number,
    /// Left out when 0, which the encoders write for what was not set.
    Count,
    Flag,
    Time,
    MicroTime,
    Message(&'static [Field]),
    Messages(&'static [Field]),
    TextMap,
    BytesMap,
    /// `FieldsV1`: JSON in a bytes field.
    RawJson,
}

/// Number, JSON name, form.
type Field = (u64, &'static str, Kind);

use Kind::{
    Bytes, BytesMap, Count, Flag, Message, Messages, MicroTime, Number, RawJson, SetText, Text, TextMap,
    Texts, Time,
};

const ENVELOPE: &[Field] = &[(1, "typeMeta", Message(TYPE_META)), (2, "raw", Bytes)];
const TYPE_META: &[Field] = &[(1, "apiVersion", Text), (2, "kind", Text)];

const OBJECT_META: &[Field] = &[
    (1, "name", Text),
    (2, "generateName", Text),
    (3, "namespace", Text),
    (5, "uid", Text),
    (6, "resourceVersion", Text),
    (7, "generation", Count),
    (8, "creationTimestamp", Time),
    (9, "deletionTimestamp", Time),
    (10, "deletionGracePeriodSeconds", Number),
    (11, "labels", TextMap),
    (12, "annotations", TextMap),
    (13, "ownerReferences", Messages(OWNER_REFERENCE)),
    (14, "finalizers", Texts),
    (17, "managedFields", Messages(MANAGED_FIELDS)),
];
const OWNER_REFERENCE: &[Field] = &[
    (1, "kind", Text),
    (3, "name", Text),
    (4, "uid", Text),
    (5, "apiVersion", Text),
    (6, "controller", Flag),
    (7, "blockOwnerDeletion", Flag),
];
const MANAGED_FIELDS: &[Field] = &[
    (1, "manager", Text),
    (2, "operation", Text),
    (3, "apiVersion", Text),
    (4, "time", Time),
    (6, "fieldsType", Text),
    (7, "fieldsV1", RawJson),
    (8, "subresource", Text),
];
const OBJECT_REFERENCE: &[Field] = &[
    (1, "kind", Text),
    (2, "namespace", Text),
    (3, "name", Text),
    (4, "uid", Text),
    (5, "apiVersion", Text),
    (6, "resourceVersion", Text),
    (7, "fieldPath", Text),
];
const EVENT_SOURCE: &[Field] = &[(1, "component", Text), (2, "host", Text)];
const EVENT_SERIES: &[Field] = &[(1, "count", Number), (2, "lastObservedTime", MicroTime)];
const CONDITION: &[Field] = &[
    (1, "type", Text),
    (2, "status", Text),
    (4, "lastTransitionTime", Time),
    (5, "reason", Text),
    (6, "message", Text),
];

const NAMESPACE: &[Field] = &[
    (1, "metadata", Message(OBJECT_META)),
    (2, "spec", Message(&[(1, "finalizers", Texts)])),
    (3, "status", Message(&[(1, "phase", Text), (2, "conditions", Messages(CONDITION))])),
];
const SECRET: &[Field] = &[
    (1, "metadata", Message(OBJECT_META)),
    (2, "data", BytesMap),
    (3, "type", Text),
    (4, "stringData", TextMap),
    (5, "immutable", Flag),
];
const CONFIG_MAP: &[Field] = &[
    (1, "metadata", Message(OBJECT_META)),
    (2, "data", TextMap),
    (3, "binaryData", BytesMap),
    (4, "immutable", Flag),
];
const SERVICE_ACCOUNT: &[Field] = &[
    (1, "metadata", Message(OBJECT_META)),
    (2, "secrets", Messages(OBJECT_REFERENCE)),
    (3, "imagePullSecrets", Messages(&[(1, "name", Text)])),
    (4, "automountServiceAccountToken", Flag),
];
const LEASE: &[Field] = &[
    (1, "metadata", Message(OBJECT_META)),
    (
        2,
        "spec",
        Message(&[
            (1, "holderIdentity", SetText),
            (2, "leaseDurationSeconds", Number),
            (3, "acquireTime", MicroTime),
            (4, "renewTime", MicroTime),
            (5, "leaseTransitions", Number),
            (6, "strategy", SetText),
            (7, "preferredHolder", SetText),
        ]),
    ),
];
const CORE_EVENT: &[Field] = &[
    (1, "metadata", Message(OBJECT_META)),
    (2, "involvedObject", Message(OBJECT_REFERENCE)),
    (3, "reason", Text),
    (4, "message", Text),
    (5, "source", Message(EVENT_SOURCE)),
    (6, "firstTimestamp", Time),
    (7, "lastTimestamp", Time),
    (8, "count", Count),
    (9, "type", Text),
    (10, "eventTime", MicroTime),
    (11, "series", Message(EVENT_SERIES)),
    (12, "action", Text),
    (13, "related", Message(OBJECT_REFERENCE)),
    (14, "reportingComponent", Text),
    (15, "reportingInstance", Text),
];
const EVENT: &[Field] = &[
    (1, "metadata", Message(OBJECT_META)),
    (2, "eventTime", MicroTime),
    (3, "series", Message(EVENT_SERIES)),
    (4, "reportingController", Text),
    (5, "reportingInstance", Text),
    (6, "action", Text),
    (7, "reason", Text),
    (8, "regarding", Message(OBJECT_REFERENCE)),
    (9, "related", Message(OBJECT_REFERENCE)),
    (10, "note", Text),
    (11, "type", Text),
    (12, "deprecatedSource", Message(EVENT_SOURCE)),
    (13, "deprecatedFirstTimestamp", Time),
    (14, "deprecatedLastTimestamp", Time),
    (15, "deprecatedCount", Count),
];
const DELETE_OPTIONS: &[Field] = &[
    (1, "gracePeriodSeconds", Number),
    (2, "preconditions", Message(&[(1, "uid", SetText), (2, "resourceVersion", SetText)])),
    (3, "orphanDependents", Flag),
    (4, "propagationPolicy", SetText),
    (5, "dryRun", Texts),
];

/// A review that asks about who asks.
const QUESTION: &[Field] = &[(1, "metadata", Message(OBJECT_META))];
const TOKEN_REVIEW: &[Field] = &[
    (1, "metadata", Message(OBJECT_META)),
    (2, "spec", Message(&[(1, "token", Text), (2, "audiences", Texts)])),
];
const TOKEN_REQUEST: &[Field] = &[
    (1, "metadata", Message(OBJECT_META)),
    (
        2,
        "spec",
        Message(&[
            (1, "audiences", Texts),
            (
                3,
                "boundObjectRef",
                Message(&[(1, "kind", Text), (2, "apiVersion", Text), (3, "name", Text), (4, "uid", Text)]),
            ),
            (4, "expirationSeconds", Number),
        ]),
    ),
];
const RULES_REVIEW: &[Field] =
    &[(1, "metadata", Message(OBJECT_META)), (2, "spec", Message(&[(1, "namespace", Text)]))];
/// The three kinds that ask for a decision; only who is asked about differs.
const ACCESS_REVIEW: &[Field] = &[
    (1, "metadata", Message(OBJECT_META)),
    (
        2,
        "spec",
        Message(&[
            (1, "resourceAttributes", Message(RESOURCE_ATTRIBUTES)),
            (2, "nonResourceAttributes", Message(&[(1, "path", Text), (2, "verb", Text)])),
            (3, "user", Text),
            (4, "groups", Texts),
            (6, "uid", Text),
        ]),
    ),
];
const RESOURCE_ATTRIBUTES: &[Field] = &[
    (1, "namespace", Text),
    (2, "verb", Text),
    (3, "group", Text),
    (4, "version", Text),
    (5, "resource", Text),
    (6, "subresource", Text),
    (7, "name", Text),
];

/// The fields of a kind, where it can be sent in this form.
fn fields_of(api_version: &str, kind: &str) -> Option<&'static [Field]> {
    match (api_version, kind) {
        ("v1", "Namespace") => Some(NAMESPACE),
        ("v1", "Secret") => Some(SECRET),
        ("v1", "ConfigMap") => Some(CONFIG_MAP),
        ("v1", "ServiceAccount") => Some(SERVICE_ACCOUNT),
        ("v1", "Event") => Some(CORE_EVENT),
        ("events.k8s.io/v1", "Event") => Some(EVENT),
        ("coordination.k8s.io/v1", "Lease") => Some(LEASE),
        ("authentication.k8s.io/v1", "SelfSubjectReview") => Some(QUESTION),
        ("authentication.k8s.io/v1", "TokenReview") => Some(TOKEN_REVIEW),
        ("authentication.k8s.io/v1", "TokenRequest") => Some(TOKEN_REQUEST),
        ("authorization.k8s.io/v1", "SelfSubjectRulesReview") => Some(RULES_REVIEW),
        ("authorization.k8s.io/v1", _) if kind.ends_with("SubjectAccessReview") => Some(ACCESS_REVIEW),
        // Sent under the group of whatever is deleted.
        (_, "DeleteOptions") => Some(DELETE_OPTIONS),
        _ => None,
    }
}

/// Why a body was not decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    /// The kind has no published protobuf form here: the client has to send JSON.
    Kind,
    Malformed(&'static str),
}

/// The object as JSON.
pub(crate) fn decode(body: &[u8]) -> Result<Value, Problem> {
    let inner = body.strip_prefix(MAGIC).ok_or(Problem::Malformed("the body does not begin with k8s\\0"))?;
    let envelope = message(inner, ENVELOPE, 0)?;
    let text = |name: &str| {
        let meta = envelope.get("typeMeta").and_then(|meta| meta.get(name));
        meta.and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let fields = fields_of(&api_version, &kind).ok_or(Problem::Kind)?;
    let raw = envelope.get("raw").and_then(Value::as_str).unwrap_or_default();
    let raw = base64::engine::general_purpose::STANDARD.decode(raw).map_err(|_| Problem::Malformed("raw"))?;
    let mut object = message(&raw, fields, 0)?;
    object.insert("apiVersion".into(), api_version.into());
    object.insert("kind".into(), kind.into());
    Ok(Value::Object(object))
}

/// A value on the wire.
enum Wire<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// 32 or 64 bits: no field here has this form.
    Fixed,
}

const CUT: Problem = Problem::Malformed("the body is cut short");

fn varint(rest: &mut &[u8]) -> Result<u64, Problem> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, tail) = rest.split_first().ok_or(CUT)?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Problem::Malformed("a number has too many bytes"))
}

fn take<'a>(rest: &mut &'a [u8], length: u64) -> Result<&'a [u8], Problem> {
    let length = usize::try_from(length).map_err(|_| CUT)?;
    let (head, tail) = rest.split_at_checked(length).ok_or(CUT)?;
    *rest = tail;
    Ok(head)
}

fn next<'a>(rest: &mut &'a [u8]) -> Result<(u64, Wire<'a>), Problem> {
    let tag = varint(rest)?;
    let wire = match tag & 7 {
        0 => Wire::Varint(varint(rest)?),
        1 => take(rest, 8).map(|_| Wire::Fixed)?,
        2 => {
            let length = varint(rest)?;
            Wire::Bytes(take(rest, length)?)
        }
        5 => take(rest, 4).map(|_| Wire::Fixed)?,
        _ => return Err(Problem::Malformed("a field has an unknown form")),
    };
    Ok((tag >> 3, wire))
}

fn message(mut rest: &[u8], fields: &[Field], depth: usize) -> Result<Map<String, Value>, Problem> {
    if depth > MAX_DEPTH {
        return Err(Problem::Malformed("nested too deeply"));
    }
    let mut object = Map::new();
    while !rest.is_empty() {
        let (number, wire) = next(&mut rest)?;
        if let Some((_, name, kind)) = fields.iter().find(|(n, _, _)| *n == number) {
            field(&mut object, name, *kind, &wire, depth)?;
        }
    }
    Ok(object)
}

fn field(
    object: &mut Map<String, Value>,
    name: &str,
    kind: Kind,
    wire: &Wire<'_>,
    depth: usize,
) -> Result<(), Problem> {
    let (bytes, number) = match (kind, wire) {
        (Number | Count | Flag, Wire::Varint(number)) => (&[][..], *number),
        (Number | Count | Flag, _) | (_, Wire::Varint(_) | Wire::Fixed) => {
            return Err(Problem::Malformed("a field has the wrong form"));
        }
        (_, Wire::Bytes(bytes)) => (*bytes, 0),
    };
    let value = match kind {
        Text if bytes.is_empty() => return Ok(()),
        Text | SetText | Texts => text(bytes)?,
        Bytes => base64_value(bytes),
        Count if number == 0 => return Ok(()),
        Number | Count => number.cast_signed().into(),
        Flag => (number != 0).into(),
        Time => match time(bytes, depth, false)? {
            Some(time) => time,
            None => return Ok(()),
        },
        MicroTime => match time(bytes, depth, true)? {
            Some(time) => time,
            None => return Ok(()),
        },
        Message(fields) | Messages(fields) => Value::Object(message(bytes, fields, depth + 1)?),
        TextMap | BytesMap => {
            let value_kind = if matches!(kind, TextMap) { SetText } else { Bytes };
            let entry = message(bytes, &[(1, "key", SetText), (2, "value", value_kind)], depth + 1)?;
            let key = entry.get("key").and_then(Value::as_str).unwrap_or_default().to_owned();
            let value = entry.get("value").cloned().unwrap_or_else(|| "".into());
            let map = object.entry(name).or_insert_with(|| Value::Object(Map::new()));
            crate::object::object_mut(map).insert(key, value);
            return Ok(());
        }
        RawJson => {
            let raw = message(bytes, &[(1, "raw", SetText)], depth + 1)?;
            let raw = raw.get("raw").and_then(Value::as_str).unwrap_or("null");
            serde_json::from_str(raw).map_err(|_| Problem::Malformed("fieldsV1 is not JSON"))?
        }
    };
    if matches!(kind, Texts | Messages(_)) {
        let list = object.entry(name).or_insert_with(|| json!([]));
        if let Some(list) = list.as_array_mut() {
            list.push(value);
        }
    } else {
        object.insert(name.into(), value);
    }
    Ok(())
}

fn text(bytes: &[u8]) -> Result<Value, Problem> {
    let text = std::str::from_utf8(bytes).map_err(|_| Problem::Malformed("a text is not UTF-8"))?;
    Ok(text.into())
}

fn base64_value(bytes: &[u8]) -> Value {
    base64::engine::general_purpose::STANDARD.encode(bytes).into()
}

/// A time as JSON has it; `None` for Go's zero time.
fn time(bytes: &[u8], depth: usize, micro: bool) -> Result<Option<Value>, Problem> {
    /// Seconds of Go's zero time, 1 January of year 1.
    const ZERO: i64 = -62_135_596_800;
    let parts = message(bytes, &[(1, "seconds", Number), (2, "nanos", Number)], depth + 1)?;
    let part = |name: &str| parts.get(name).and_then(Value::as_i64).unwrap_or(0);
    let (seconds, nanos) = (part("seconds"), part("nanos"));
    if (seconds == 0 && nanos == 0) || seconds == ZERO {
        return Ok(None);
    }
    let nanos = if micro { i32::try_from(nanos / 1000 * 1000).unwrap_or(0) } else { 0 };
    let time =
        jiff::Timestamp::new(seconds, nanos).map_err(|_| Problem::Malformed("a time is out of range"))?;
    let text = if micro { format!("{time:.6}") } else { time.to_string() };
    Ok(Some(text.into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tagged(number: u8, bytes: &[u8]) -> Vec<u8> {
        let length = u8::try_from(bytes.len()).unwrap();
        [&[number << 3 | 2, length][..], bytes].concat()
    }

    fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let meta = [tagged(1, api_version.as_bytes()), tagged(2, kind.as_bytes())].concat();
        [b"k8s\0".to_vec(), tagged(1, &meta), tagged(2, raw), tagged(3, b""), tagged(4, b"")].concat()
    }

    #[test]
    fn a_secret_as_a_go_client_sends_it() {
        let label = [tagged(1, b"k"), tagged(2, b"v")].concat();
        // creationTimestamp of the zero time, empty strings for what is not set.
        let metadata = [
            tagged(1, b"s"),
            tagged(2, b""),
            tagged(3, b"default"),
            tagged(8, b""),
            tagged(11, &label),
            tagged(14, b"a/b"),
        ];
        let data = [tagged(1, b"password"), tagged(2, b"hunter2")].concat();
        let raw = [tagged(1, &metadata.concat()), tagged(2, &data), tagged(3, b""), vec![5 << 3, 1]].concat();
        let object = decode(&envelope("v1", "Secret", &raw)).unwrap();
        assert_eq!(
            object,
            json!({"apiVersion": "v1", "kind": "Secret", "immutable": true, "data": {"password": "aHVudGVyMg=="},
                "metadata": {"name": "s", "namespace": "default", "labels": {"k": "v"}, "finalizers": ["a/b"]}})
        );
    }

    #[test]
    fn times_keep_their_precision() {
        let time = [vec![1 << 3, 0x80, 0x94, 0xeb, 0xdc, 0x03], vec![2 << 3, 0x80, 0x8a, 0x13]].concat();
        let raw = tagged(2, &[tagged(1, b""), tagged(4, &time)].concat());
        let object = decode(&envelope("coordination.k8s.io/v1", "Lease", &raw)).unwrap();
        assert_eq!(object["spec"], json!({"holderIdentity": "", "renewTime": "2001-09-09T01:46:40.000312Z"}));
    }

    #[test]
    fn other_kinds_and_broken_bodies_are_told_apart() {
        assert_eq!(decode(&envelope("tinkerbell.org/v1alpha1", "Hardware", b"")), Err(Problem::Kind));
        assert!(matches!(decode(b"{}"), Err(Problem::Malformed(_))));
        let good = envelope("v1", "ConfigMap", &tagged(1, &tagged(1, b"name")));
        for cut in 4..good.len() - 4 {
            // Some cuts fall between fields; none may panic.
            drop(decode(&good[..cut]));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(decode(&[b"k8s\0".to_vec(), bytes.clone()].concat()));
            drop(decode(&envelope("v1", "Event", &bytes[..bytes.len().min(100)])));
        }
    }
}
