// SPDX-License-Identifier: Apache-2.0

//! Stored objects in little space: JSON without its resource version, compressed against what objects of the resource look like.
//!
//! Objects of one resource have nearly the same field names, managed fields and many of the same values, so a sample of them as the dictionary of the
//! compression (RFC 8878 section 5, raw content) makes a Hardware of 2.7 KB one of some 140 bytes, at about a microsecond for each reading. That keeps
//! the file small enough to be verified whole at every start.
//!
//! ```text
//! dictionary (4) || place of the version in the JSON (4) || length of the JSON (4) || CRC-32 of place and JSON (4) || frame
//! ```
//!
//! The digits of the version are left out because only the writer knows them, and compression is done before it, by the one who writes. A dictionary is
//! written in the transaction of the first record that needs it and is never removed; its number is in every record.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use serde_json::{Map, Value};
use zstd::zstd_safe::{CCtx, CDict, DCtx, DDict, compress_bound};

/// The fastest level: with a dictionary, higher ones gain next to nothing here.
const LEVEL: i32 = 1;
/// Bytes of a dictionary. What is longer is cut at its beginning: the newest sample is at the end.
const MAX_DICTIONARY: usize = 16 << 10;
/// Dictionaries of one resource; with the last one it goes on, however badly it fits.
const MAX_GENERATIONS: u32 = 8;
/// Strings in a dictionary: longer ones are texts, keys and certificates, which no other object has.
const MAX_SAMPLE_STRING: usize = 64;
/// Objects that are too small to judge a dictionary by.
const MIN_JUDGED: usize = 512;
/// A dictionary that does not make an object this many times smaller gets a successor with that object in it.
const WANTED_RATIO: usize = 4;
/// Largest object that a record may claim to hold: far beyond the bound of the requests.
const MAX_OBJECT: usize = 64 << 20;
/// Contexts kept for the next use; further ones are made and dropped.
const CONTEXTS: usize = 4;
/// Resources whose values may not be copied out of their objects: Secrets.
const CONFIDENTIAL: &str = "/secrets";
/// Place of the version in an object that has none.
const NO_PLACE: u32 = u32::MAX;
const HEADER: usize = 16;

/// An object as JSON without the digits of its resource version.
#[derive(Debug)]
pub(super) struct Text {
    json: Vec<u8>,
    place: Option<usize>,
}

impl Text {
    /// Serialises an object, whose `metadata.resourceVersion` is lost.
    ///
    /// # Errors
    /// When it cannot be serialised.
    pub fn of(object: &mut Value) -> Result<Self, serde_json::Error> {
        let mut text = Self { json: Vec::new(), place: None };
        // The field has to be there for its place to be in the order of the others.
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("resourceVersion".into(), Value::Null);
        }
        let Value::Object(fields) = object else {
            text.value(object)?;
            return Ok(text);
        };
        text.fields(fields, |text, name, value| match value {
            Value::Object(metadata) if name == "metadata" => text.metadata(metadata),
            _ => text.value(value),
        })?;
        Ok(text)
    }

    fn value(&mut self, value: &Value) -> Result<(), serde_json::Error> {
        serde_json::to_writer(&mut self.json, value)
    }

    fn fields(
        &mut self,
        fields: &Map<String, Value>,
        mut write: impl FnMut(&mut Self, &str, &Value) -> Result<(), serde_json::Error>,
    ) -> Result<(), serde_json::Error> {
        let mut separator = b'{';
        for (name, value) in fields {
            self.json.push(separator);
            separator = b',';
            serde_json::to_writer(&mut self.json, name)?;
            self.json.push(b':');
            write(self, name, value)?;
        }
        if separator == b'{' {
            self.json.push(b'{');
        }
        self.json.push(b'}');
        Ok(())
    }

    fn metadata(&mut self, metadata: &Map<String, Value>) -> Result<(), serde_json::Error> {
        self.fields(metadata, |text, name, value| {
            if name != "resourceVersion" {
                return text.value(value);
            }
            text.json.push(b'"');
            text.place = Some(text.json.len());
            text.json.push(b'"');
            Ok(())
        })
    }

    /// Bytes of the JSON.
    pub fn len(&self) -> usize {
        self.json.len()
    }

    /// The whole JSON, of the object at a version.
    pub fn at(&self, version: u64) -> Bytes {
        spliced(&self.json, self.place, version)
    }
}

fn spliced(json: &[u8], place: Option<usize>, version: u64) -> Bytes {
    let Some((before, after)) = place.and_then(|place| json.split_at_checked(place)) else {
        return Bytes::copy_from_slice(json);
    };
    let digits = version.to_string();
    let mut whole = Vec::with_capacity(json.len() + digits.len());
    whole.extend_from_slice(before);
    whole.extend_from_slice(digits.as_bytes());
    whole.extend_from_slice(after);
    whole.into()
}

/// What objects of a resource look like.
pub(super) struct Dictionary {
    pub number: u32,
    pub resource: String,
    pub content: Vec<u8>,
    /// It is in the file.
    stored: AtomicBool,
    generation: u32,
    encoder: CDict<'static>,
    decoder: DDict<'static>,
}

impl Dictionary {
    fn new(number: u32, resource: &str, content: Vec<u8>, generation: u32, stored: bool) -> Self {
        Self {
            number,
            resource: resource.into(),
            stored: AtomicBool::new(stored),
            generation,
            encoder: CDict::create(&content, LEVEL),
            decoder: DDict::create(&content),
            content,
        }
    }

    pub fn is_stored(&self) -> bool {
        self.stored.load(Ordering::Acquire)
    }

    pub fn set_stored(&self) {
        self.stored.store(true, Ordering::Release);
    }
}

impl std::fmt::Debug for Dictionary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dictionary").field("number", &self.number).finish_non_exhaustive()
    }
}

/// A compressed object, and the dictionary that has to be in the file before it.
#[derive(Debug)]
pub(super) struct Packed {
    pub bytes: Vec<u8>,
    pub dictionary: Arc<Dictionary>,
}

#[derive(Default)]
struct Known {
    all: HashMap<u32, Arc<Dictionary>>,
    /// The newest of each resource.
    current: HashMap<String, Arc<Dictionary>>,
}

/// Packs and unpacks; shared by all who write and read.
pub(super) struct Packer {
    known: RwLock<Known>,
    next: AtomicU32,
    encoders: Mutex<Vec<CCtx<'static>>>,
    decoders: Mutex<Vec<DCtx<'static>>>,
}

/// A record that does not decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Damaged;

/// An object that cannot be compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the object cannot be compressed")]
pub(crate) struct Refused;

impl Packer {
    /// With the dictionaries of the file, by number.
    pub fn new(stored: impl IntoIterator<Item = (u32, String, Vec<u8>)>) -> Self {
        let (mut known, mut last) = (Known::default(), 0);
        for (number, resource, content) in stored {
            last = last.max(number);
            let generation = known.current.get(&resource).map_or(1, |before| before.generation + 1);
            let dictionary = Arc::new(Dictionary::new(number, &resource, content, generation, true));
            known.all.insert(number, Arc::clone(&dictionary));
            known.current.insert(resource, dictionary);
        }
        Self {
            known: RwLock::new(known),
            next: AtomicU32::new(last.saturating_add(1)),
            encoders: Mutex::default(),
            decoders: Mutex::default(),
        }
    }

    /// Compresses an object of a resource.
    ///
    /// # Errors
    /// [`Refused`] when the compression fails, as it does without memory.
    pub fn pack(&self, resource: &str, object: &Value, text: &Text) -> Result<Packed, Refused> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).current.get(resource).cloned();
        let dictionary = known.unwrap_or_else(|| self.renew(resource, object, None));
        let bytes = self.compress(&dictionary, text)?;
        let poor = text.json.len() >= MIN_JUDGED && bytes.len() * WANTED_RATIO > text.json.len();
        if poor && dictionary.generation < MAX_GENERATIONS {
            let newer = self.renew(resource, object, Some(&dictionary));
            return Ok(Packed { bytes: self.compress(&newer, text)?, dictionary: newer });
        }
        Ok(Packed { bytes, dictionary })
    }

    /// Makes the successor of a dictionary, unless somebody else just did.
    fn renew(&self, resource: &str, object: &Value, old: Option<&Arc<Dictionary>>) -> Arc<Dictionary> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(current) = known.current.get(resource)
            && old.is_none_or(|old| old.number != current.number)
        {
            return Arc::clone(current);
        }
        let mut content = old.map(|old| old.content.clone()).unwrap_or_default();
        let sample = sample(object, resource == CONFIDENTIAL);
        content.extend_from_slice(sample.to_string().as_bytes());
        content.drain(..content.len().saturating_sub(MAX_DICTIONARY));
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let generation = old.map_or(1, |old| old.generation + 1);
        let dictionary = Arc::new(Dictionary::new(number, resource, content, generation, false));
        known.all.insert(number, Arc::clone(&dictionary));
        known.current.insert(resource.into(), Arc::clone(&dictionary));
        dictionary
    }

    fn compress(&self, dictionary: &Dictionary, text: &Text) -> Result<Vec<u8>, Refused> {
        let number = |value: usize| u32::try_from(value).map_err(|_| Refused);
        let (place, length) = (text.place.map_or(Ok(NO_PLACE), number)?, number(text.json.len())?);
        let mut frame = Vec::with_capacity(compress_bound(text.json.len()));
        let mut context = take(&self.encoders).unwrap_or_else(CCtx::create);
        let done = context.compress_using_cdict(&mut frame, &text.json, &dictionary.encoder);
        give(&self.encoders, context);
        done.map_err(|_| Refused)?;
        let mut out = Vec::with_capacity(HEADER + frame.len());
        for word in [dictionary.number, place, length, checksum(place, &text.json)] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        out.extend_from_slice(&frame);
        Ok(out)
    }

    /// The JSON of a packed object at a version.
    ///
    /// # Errors
    /// [`Damaged`] when it does not decode, or decodes to something else than was stored.
    pub fn unpack(&self, packed: &[u8], version: u64) -> Result<Bytes, Damaged> {
        let (header, frame) = packed.split_at_checked(HEADER).ok_or(Damaged)?;
        let mut words = header.chunks_exact(4).map(|word| word.try_into().map_or(0, u32::from_be_bytes));
        let mut word = || words.next().ok_or(Damaged);
        let (number, place, length, sum) = (word()?, word()?, word()?, word()?);
        let length = usize::try_from(length).ok().filter(|length| *length <= MAX_OBJECT).ok_or(Damaged)?;
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).all.get(&number).cloned();
        let dictionary = known.ok_or(Damaged)?;
        let mut json = Vec::with_capacity(length);
        let mut context = take(&self.decoders).unwrap_or_else(DCtx::create);
        let decoded = context.decompress_using_ddict(&mut json, frame, &dictionary.decoder);
        give(&self.decoders, context);
        if decoded.is_err() || json.len() != length || checksum(place, &json) != sum {
            return Err(Damaged);
        }
        let place = usize::try_from(place).ok().filter(|_| place != NO_PLACE);
        Ok(spliced(&json, place, version))
    }
}

fn checksum(place: u32, json: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&place.to_be_bytes());
    hasher.update(json);
    hasher.finalize()
}

fn take<T>(pool: &Mutex<Vec<T>>) -> Option<T> {
    pool.lock().unwrap_or_else(PoisonError::into_inner).pop()
}

fn give<T>(pool: &Mutex<Vec<T>>, context: T) {
    let mut pool = pool.lock().unwrap_or_else(PoisonError::into_inner);
    if pool.len() < CONTEXTS {
        pool.push(context);
    }
}

/// Fields whose values are the names of kinds, programs and versions in any object.
const PUBLIC: [&str; 5] = ["apiVersion", "kind", "manager", "operation", "fieldsType"];

/// An object without its long strings, and for a confidential one without any values.
fn sample(object: &Value, confidential: bool) -> Value {
    match object {
        Value::Object(fields) => {
            let kept = fields.iter().map(|(name, value)| {
                let public = value.is_string() && PUBLIC.contains(&name.as_str());
                (name.clone(), if public { value.clone() } else { sample(value, confidential) })
            });
            Value::Object(kept.collect())
        }
        Value::Array(items) => items.iter().map(|item| sample(item, confidential)).collect(),
        Value::String(text) if confidential || text.len() > MAX_SAMPLE_STRING => Value::String(String::new()),
        Value::Number(_) if confidential => Value::Null,
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn object(name: &str) -> Value {
        let spec: Map<String, Value> = (0..40).map(|n| (format!("field{n}"), "some value".into())).collect();
        json!({"kind": "Widget", "metadata": {"name": name, "resourceVersion": "old", "uid": "u"}, "spec": spec})
    }

    fn text(object: &Value) -> Text {
        Text::of(&mut object.clone()).unwrap()
    }

    fn pack(packer: &Packer, resource: &str, object: &Value) -> Packed {
        packer.pack(resource, object, &text(object)).unwrap()
    }

    #[test]
    fn objects_of_a_resource_share_what_they_look_like() {
        let packer = Packer::new([]);
        pack(&packer, "g/widgets", &object("a"));
        let second = pack(&packer, "g/widgets", &object("b"));
        assert!(second.bytes.len() < 100, "{} bytes", second.bytes.len());
        let mut expected = object("b");
        expected["metadata"]["resourceVersion"] = "7".into();
        let found: Value = serde_json::from_slice(&packer.unpack(&second.bytes, 7).unwrap()).unwrap();
        assert_eq!(found, expected);
    }

    #[test]
    fn another_shape_gets_into_the_dictionary_and_old_records_still_decode() {
        let packer = Packer::new([]);
        let small = json!({"metadata": {"name": "small"}});
        let first = pack(&packer, "g/widgets", &small);
        let mut grown = object("grown");
        for n in 0..40 {
            grown["status"][format!("condition{n}")] = format!("{n:x}{:x}", n * 7919).into();
        }
        let poor = pack(&packer, "g/widgets", &grown);
        assert_ne!(first.dictionary.number, poor.dictionary.number);
        assert!(poor.bytes.len() * WANTED_RATIO < text(&grown).len());
        let stored =
            [&first.dictionary, &poor.dictionary].map(|d| (d.number, d.resource.clone(), d.content.clone()));
        let reopened = Packer::new(stored);
        for (packed, name) in [(&first, "small"), (&poor, "grown")] {
            let value: Value = serde_json::from_slice(&reopened.unpack(&packed.bytes, 1).unwrap()).unwrap();
            assert_eq!(value["metadata"]["name"], name);
        }
        let next = pack(&reopened, "g/widgets", &grown);
        assert_eq!(next.dictionary.number, poor.dictionary.number, "the newest is used again");
    }

    #[test]
    fn what_does_not_compress_makes_no_dictionaries_without_end() {
        let packer = Packer::new([]);
        for n in 0..100_u64 {
            let noise: String =
                (0..2000_u64).map(|i| format!("{:x}", (i + n * 31) * 2_654_435_761)).collect();
            pack(&packer, "g/widgets", &json!({"metadata": {"name": "n"}, "spec": {"noise": noise}}));
        }
        assert!(packer.known.read().unwrap().all.len() <= usize::try_from(MAX_GENERATIONS).unwrap());
    }

    #[test]
    fn no_dictionary_holds_a_secret_or_a_text() {
        let packer = Packer::new([]);
        let secret = json!({"kind": "Secret", "metadata": {"name": "s"}, "data": {"password": "aHVudGVyMg=="}, "n": 4711});
        let packed = pack(&packer, "/secrets", &secret);
        let content = String::from_utf8(packed.dictionary.content.clone()).unwrap();
        assert!(content.contains("password") && content.contains("Secret"), "{content}");
        assert!(!content.contains("aHVud") && !content.contains("4711"), "{content}");
        let object = json!({"metadata": {}, "spec": {"userData": "x".repeat(65), "arch": "x86_64"}});
        let content =
            String::from_utf8(pack(&packer, "g/hardware", &object).dictionary.content.clone()).unwrap();
        assert!(content.contains("x86_64") && !content.contains("xxxx"), "{content}");
    }

    #[test]
    fn a_changed_record_is_found_out() {
        let packer = Packer::new([]);
        let packed = pack(&packer, "g/widgets", &object("a")).bytes;
        let mut refused = 0;
        for at in 0..packed.len() {
            let mut bad = packed.clone();
            bad[at] ^= 0x10;
            // The frame's header has bits that mean nothing.
            match packer.unpack(&bad, 3) {
                Err(Damaged) => refused += 1,
                Ok(found) => assert_eq!(found, packer.unpack(&packed, 3).unwrap(), "byte {at}"),
            }
            assert_eq!(packer.unpack(&packed[..at], 3), Err(Damaged));
        }
        assert!(refused + 3 >= packed.len(), "{refused} of {}", packed.len());
    }

    proptest! {
        #[test]
        fn every_object_comes_back(labels in proptest::collection::btree_map(".{0,8}", ".{0,80}", 0..6), version: u64, plain: bool) {
            let labels = json!(labels);
            let object = if plain { json!({"labels": labels}) } else {
                json!({"a": labels, "metadata": {"annotations": labels, "zone": {"resourceVersion": "x"}}})
            };
            let packer = Packer::new([]);
            let text = text(&object);
            let packed = packer.pack("g/widgets", &object, &text).unwrap();
            let whole = packer.unpack(&packed.bytes, version).unwrap();
            prop_assert_eq!(&whole, &text.at(version));
            let mut expected = object;
            if !plain {
                expected["metadata"]["resourceVersion"] = version.to_string().into();
            }
            prop_assert_eq!(serde_json::from_slice::<Value>(&whole).unwrap(), expected);
        }
    }
}
