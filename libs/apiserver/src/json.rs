// SPDX-License-Identifier: Apache-2.0

//! JSON and YAML into values, noting fields that are given twice: the last one counts, as in Kubernetes, and strict field validation refuses them. Pure;
//! called by `body`.

mod syntax;

use std::collections::HashMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

pub(crate) use syntax::problem;

/// A value, and the paths of the fields that were given twice in it.
pub(crate) type Noted = (Value, Vec<String>);

/// Parses JSON.
///
/// # Errors
/// What the parser says.
pub(crate) fn parse(bytes: &[u8]) -> Result<Noted, serde_json::Error> {
    let mut twice = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Node { twice: &mut twice }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok((value, twice))
}

/// Where in a JSON text each field is given last, as a number that grows from place to place; nothing for a text that is no JSON.
pub(crate) fn places(bytes: &[u8]) -> HashMap<String, usize> {
    let mut places = HashMap::new();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let all = Places { path: String::new(), places: &mut places, passed: &mut 0 };
    if all.deserialize(&mut deserializer).is_err() {
        places.clear();
    }
    places
}

/// The fields below one value.
struct Places<'a> {
    path: String,
    places: &'a mut HashMap<String, usize>,
    /// Fields so far.
    passed: &'a mut usize,
}

impl<'de> DeserializeSeed<'de> for Places<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Places<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("any JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        for index in 0.. {
            let path = format!("{}[{index}]", self.path);
            let below = Places { path, places: &mut *self.places, passed: &mut *self.passed };
            if access.next_element_seed(below)?.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        while let Some(key) = access.next_key::<String>()? {
            let path = if self.path.is_empty() { key } else { format!("{}.{key}", self.path) };
            *self.passed += 1;
            self.places.insert(path.clone(), *self.passed);
            access.next_value_seed(Places { path, places: &mut *self.places, passed: &mut *self.passed })?;
        }
        Ok(())
    }
}

/// What is wrong with base64, in Go's words.
pub(crate) fn not_base64(error: &base64::DecodeError) -> String {
    use base64::DecodeError::{InvalidByte, InvalidLastSymbol, InvalidLength, InvalidPadding};
    let at = match error {
        InvalidByte(at, _) | InvalidLastSymbol(at, _) => *at,
        // Go reads four letters at a time, and names the first of those that are too few.
        InvalidLength(length) => length / 4 * 4,
        InvalidPadding => return "illegal base64 data".to_owned(),
    };
    format!("illegal base64 data at input byte {at}")
}

/// One value while it is read.
struct Node<'a> {
    twice: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Node<'_> {
    /// Puts a step before the paths that were noted since there were `known`.
    fn prefix(&mut self, known: usize, step: &str) {
        for path in self.twice.iter_mut().skip(known) {
            *path = if path.starts_with('[') { format!("{step}{path}") } else { format!("{step}.{path}") };
        }
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("any JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut access: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let known = self.twice.len();
            let Some(item) = access.next_element_seed(Node { twice: self.twice })? else { break };
            self.prefix(known, &format!("[{}]", list.len()));
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let known = self.twice.len();
            let value = access.next_value_seed(Node { twice: self.twice })?;
            if self.twice.len() > known {
                self.prefix(known, &key);
            }
            if map.contains_key(&key) {
                self.twice.push(key.clone());
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_last_of_two_counts_and_both_are_noted() {
        let text = br#"{"a": 1, "b": {"c": 1, "c": [2, {"d": 3, "d": 4}]}, "a": 2.5, "e": null, "n": -1}"#;
        let (value, twice) = parse(text).unwrap();
        assert_eq!(value, json!({"a": 2.5, "b": {"c": [2, {"d": 4}]}, "e": null, "n": -1}));
        assert_eq!(twice, ["b.c[1].d", "b.c", "a"]);
        assert_eq!(parse(br#"["x"]"#).unwrap(), (json!(["x"]), Vec::new()));
    }

    #[test]
    fn fields_are_found_where_they_are_given_last() {
        let places = places(br#"{"b": {"x": 1}, "a": [{"y": null}], "b": {"x": 2.5}}"#);
        let mut found: Vec<(&str, usize)> = places.iter().map(|(path, at)| (path.as_str(), *at)).collect();
        found.sort_by_key(|(_, at)| *at);
        assert_eq!(found, [("a", 3), ("a[0].y", 4), ("b", 5), ("b.x", 6)]);
        assert!(super::places(b"a: 1").is_empty());
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in ["", "{", "{} {}", "[1,]", "nul", "\"\u{1}\""] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        let deep = format!("{}1{}", "[".repeat(1000), "]".repeat(1000));
        assert!(parse(deep.as_bytes()).is_err());
    }

    proptest::proptest! {
        #[test]
        fn anything_that_serde_reads_is_read_alike(text in "[\\[\\]{}\",:0-9a-c.\\-\\\\ ]{0,40}") {
            let theirs: Option<Value> = serde_json::from_str(&text).ok();
            let ours = parse(text.as_bytes()).ok().map(|(value, _)| value);
            proptest::prop_assert_eq!(ours, theirs);
        }
    }
}
