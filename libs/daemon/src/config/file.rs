// SPDX-License-Identifier: Apache-2.0
//! The configuration file: one YAML document, top level = daemon, below it key = value, with the line of every key.
//!
//! Scalars are kept as they are written, so that `1.10` stays `1.10` whatever YAML thinks it is.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::mistake::{Mistake, Source};

/// Largest file that is parsed; a configuration is a few kilobytes.
const MAX_FILE_BYTES: usize = 1024 * 1024;

/// Longest run of comment lines; the parser's own bound of 32 refuses our sample, which is made of them.
const MAX_COMMENT_LINES: usize = 1_000_000;

/// A parsed configuration file.
#[derive(Debug)]
pub(super) struct File {
    name: String,
    sections: BTreeMap<String, Section>,
}

#[derive(Debug)]
struct Section {
    line: u64,
    entries: BTreeMap<String, Entry>,
}

/// A value and the line its key is on.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) line: u64,
    pub(super) node: Node,
}

/// A value's shape.
#[derive(Debug, PartialEq)]
pub(super) enum Node {
    /// `key:` with nothing behind it.
    Null,
    /// Text as written.
    Scalar(String),
    /// A list of scalars.
    List(Vec<String>),
    /// A map, or a list of something else than scalars.
    Other,
}

impl File {
    /// Parses the text; a file that is not one map of maps is one mistake, since nothing else can be said of it.
    pub(super) fn parse(name: String, text: &str) -> Result<Self, Box<Mistake>> {
        if text.len() > MAX_FILE_BYTES {
            let problem = format!("is larger than {MAX_FILE_BYTES} bytes");
            return Err(Box::new(Mistake::new(Source::File { name, line: 0 }, "file", problem)));
        }
        let budget = serde_saphyr::budget! { max_buffered_comment_events: MAX_COMMENT_LINES };
        let options = serde_saphyr::options! { budget: budget };
        let document = match serde_saphyr::from_str_with_options(text, options) {
            Ok(Yaml::Map(map)) => map,
            Ok(Yaml::Null) => Map::new(),
            Ok(_) => {
                let problem = "must be sections with settings below them";
                return Err(Box::new(Mistake::new(Source::File { name, line: 0 }, "YAML", problem)));
            }
            Err(error) => {
                let line = error.location().map_or(0, |location| location.line());
                let problem = error.without_snippet().to_string();
                return Err(Box::new(Mistake::new(Source::File { name, line }, "YAML", problem)));
            }
        };
        let mut file = Self { name, sections: BTreeMap::new() };
        for (section, (line, value)) in document {
            let entries = match value.value {
                Yaml::Map(map) => map,
                Yaml::Null => Map::new(),
                _ => {
                    let problem = "must be a section with settings below it";
                    return Err(Box::new(Mistake::new(file.at(line), section, problem)));
                }
            };
            let entries = entries
                .into_iter()
                .map(|(key, (line, value))| (key, Entry { line, node: Node::from_yaml(&value, text) }))
                .collect();
            file.sections.insert(section, Section { line, entries });
        }
        Ok(file)
    }

    /// Sections with the line each begins on.
    pub(super) fn sections(&self) -> impl Iterator<Item = (&str, u64)> {
        self.sections.iter().map(|(name, section)| (name.as_str(), section.line))
    }

    /// All keys of a section.
    pub(super) fn entries(&self, section: &str) -> impl Iterator<Item = (&str, &Entry)> {
        self.sections
            .get(section)
            .into_iter()
            .flat_map(|section| &section.entries)
            .map(|(key, entry)| (key.as_str(), entry))
    }

    /// One key of a section.
    pub(super) fn get(&self, section: &str, key: &str) -> Option<&Entry> {
        self.sections.get(section)?.entries.get(key)
    }

    /// The source that a line of this file is.
    pub(super) fn at(&self, line: u64) -> Source {
        Source::File { name: self.name.clone(), line }
    }
}

/// Values by key, each with the line of its key: a map, a list or a block of text as value begins further down.
type Map = BTreeMap<String, (u64, Spanned<Yaml>)>;

/// Any YAML value, with places.
enum Yaml {
    Null,
    Text(String),
    /// A number or boolean: its text is taken from the file.
    Other(String),
    List(Vec<Spanned<Yaml>>),
    Map(Map),
}

impl Node {
    fn from_yaml(value: &Spanned<Yaml>, text: &str) -> Self {
        match &value.value {
            Yaml::Null => Self::Null,
            Yaml::Text(_) | Yaml::Other(_) => scalar(value, text).map_or(Self::Other, Self::Scalar),
            Yaml::List(items) => {
                let items: Option<Vec<String>> = items.iter().map(|item| scalar(item, text)).collect();
                items.map_or(Self::Other, Self::List)
            }
            Yaml::Map(_) => Self::Other,
        }
    }
}

fn scalar(value: &Spanned<Yaml>, text: &str) -> Option<String> {
    match &value.value {
        Yaml::Text(text) => Some(text.clone()),
        Yaml::Other(parsed) => Some(as_written(value, text).unwrap_or(parsed).to_owned()),
        Yaml::Null | Yaml::List(_) | Yaml::Map(_) => None,
    }
}

fn as_written<'a>(value: &Spanned<Yaml>, text: &'a str) -> Option<&'a str> {
    let span = value.defined.span();
    let start = usize::try_from(span.byte_offset()?).ok()?;
    let end = start.checked_add(usize::try_from(span.byte_len()?).ok()?)?;
    text.get(start..end).map(str::trim).filter(|written| !written.is_empty())
}

impl<'de> Deserialize<'de> for Yaml {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(YamlVisitor)
    }
}

struct YamlVisitor;

impl<'de> Visitor<'de> for YamlVisitor {
    type Value = Yaml;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value, a list or a map")
    }

    fn visit_unit<E>(self) -> Result<Yaml, E> {
        Ok(Yaml::Null)
    }

    fn visit_none<E>(self) -> Result<Yaml, E> {
        Ok(Yaml::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Yaml, D::Error> {
        Yaml::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Yaml, E> {
        Ok(Yaml::Other(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Yaml, E> {
        Ok(Yaml::Other(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Yaml, E> {
        Ok(Yaml::Other(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Yaml, E> {
        Ok(Yaml::Other(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Yaml, E> {
        Ok(Yaml::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Yaml, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Yaml::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Yaml, A::Error> {
        let mut entries = Map::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let (line, key) = (key.referenced.line(), key.value);
            if entries.contains_key(&key) {
                map.next_value::<IgnoredAny>()?;
                return Err(serde::de::Error::custom(format!("key `{key}` is there twice")));
            }
            entries.insert(key, (line, map.next_value()?));
        }
        Ok(Yaml::Map(entries))
    }
}
