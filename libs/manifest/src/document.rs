// SPDX-License-Identifier: Apache-2.0

//! YAML with several documents, where every value knows its line.
//!
//! Owns reading files into [`Document`]s and finding the line of a field.

use std::{
    fmt, fs, io,
    io::Read as _,
    path::{Path, PathBuf},
};

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

/// Largest manifest that is read; a rack of a thousand machines is below it.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// One document of a manifest.
#[derive(Debug)]
pub struct Document {
    /// The file it is from, as the user named it.
    pub file: String,
    /// The line it begins on, from 1.
    pub line: u64,
    /// Its content.
    pub root: Node,
}

/// A mistake in a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub file: String,
    /// The line, from 1; 0 = the file as a whole.
    pub line: u64,
    /// The field, as `spec.interfaces[0].dhcp`; empty = the document.
    pub field: String,
    /// What is wrong, and what would be right.
    pub problem: String,
}

/// A value with its line, from 1 within its document.
#[derive(Clone, Debug)]
pub struct Node {
    /// The line that the value begins on.
    pub line: u64,
    /// The value.
    pub content: Content,
}

/// What a value is.
#[derive(Clone, Debug)]
pub enum Content {
    /// A number, text, boolean or null.
    Scalar(Value),
    /// A list.
    List(Vec<Node>),
    /// A map: keys in the order of the file, each with its own line.
    Map(Vec<(String, u64, Node)>),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl Document {
    /// A mistake at a field of this document; the line is that of the field, or of what would hold it.
    #[must_use]
    pub fn finding(&self, field: &str, problem: impl Into<String>) -> Finding {
        self.finding_at(self.root.line_of(field), field, problem)
    }

    /// A mistake on a line of this document.
    #[must_use]
    pub fn finding_at(&self, line: u64, field: &str, problem: impl Into<String>) -> Finding {
        Finding {
            file: self.file.clone(),
            line: self.line + line.max(1) - 1,
            field: field.to_owned(),
            problem: problem.into(),
        }
    }
}

impl Node {
    /// The value without its lines.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::List(items) => items.iter().map(Self::to_json).collect(),
            Content::Map(entries) => {
                let entries = entries.iter().map(|(key, _, value)| (key.clone(), value.to_json()));
                Value::Object(entries.collect::<Map<_, _>>())
            }
        }
    }

    /// The value of a key, if this is a map that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        let Content::Map(entries) = &self.content else { return None };
        entries.iter().find(|(name, ..)| name == key).map(|(.., value)| value)
    }

    /// The text under a key.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        match &self.get(key)?.content {
            Content::Scalar(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// The line of a field such as `spec.interfaces[0].dhcp.mac`, or of the nearest thing around it that is there. A key with
    /// dots in it, such as that of a label, is found too.
    #[must_use]
    pub fn line_of(&self, field: &str) -> u64 {
        let (mut node, mut line, mut rest) = (self, self.line, field);
        while let Some((next, at, after)) = node.step(rest) {
            (node, line, rest) = (next, at, after);
        }
        line
    }

    /// The value that the beginning of a path names, its line, and the rest of the path.
    fn step<'a, 'p>(&'a self, path: &'p str) -> Option<(&'a Self, u64, &'p str)> {
        match &self.content {
            Content::Map(entries) => {
                let path = path.strip_prefix('.').unwrap_or(path);
                let after = |name: &str| {
                    let after = path.strip_prefix(name)?;
                    (after.is_empty() || after.starts_with(['.', '['])).then_some(after)
                };
                let named = entries
                    .iter()
                    .filter_map(|(name, line, value)| Some((name, (value, *line, after(name)?))));
                named.max_by_key(|(name, _)| name.len()).map(|(_, found)| found)
            }
            Content::List(items) => {
                let (number, after) = path.strip_prefix('[')?.split_once(']')?;
                let item = items.get(number.parse::<usize>().ok()?)?;
                Some((item, item.line, after))
            }
            Content::Scalar(_) => None,
        }
    }
}

/// Reads manifests: files, directories (their `.yaml`, `.yml` and `.json` files by name), `-` for standard input.
/// Everything that cannot be read or parsed is a finding; the rest is still returned.
#[must_use]
pub fn read(paths: &[PathBuf]) -> (Vec<Document>, Vec<Finding>) {
    let (mut documents, mut findings) = (Vec::new(), Vec::new());
    for path in paths {
        match texts(path) {
            Ok(texts) => {
                for (name, text) in texts {
                    parse(&name, &text, &mut documents, &mut findings);
                }
            }
            Err(error) => findings.push(Finding {
                file: path.display().to_string(),
                line: 0,
                field: String::new(),
                problem: format!("cannot be read: {error}"),
            }),
        }
    }
    (documents, findings)
}

/// Parses all documents of one file.
pub fn parse(file: &str, text: &str, documents: &mut Vec<Document>, findings: &mut Vec<Finding>) {
    for (line, part) in split(text) {
        match serde_saphyr::from_str_with_options::<Option<Spanned<Parsed>>>(&part, options()) {
            Ok(None) => {}
            Ok(Some(parsed)) if matches!(parsed.value, Parsed::Scalar(Value::Null)) => {}
            Ok(Some(parsed)) => documents.push(Document { file: file.to_owned(), line, root: parsed.into() }),
            Err(error) => findings.push(Finding {
                file: file.to_owned(),
                line: line - 1 + error.location().map_or(1, |at| at.line()),
                field: String::new(),
                problem: first_line(&error.without_snippet().to_string()),
            }),
        }
    }
}

/// The parser's own bounds are for small files: a rack of machines has more nodes, and people comment out whole objects.
fn options() -> serde_saphyr::Options {
    let budget = serde_saphyr::budget! {
        max_nodes: 20_000_000,
        max_events: 80_000_000,
        max_buffered_comment_events: 1_000_000,
    };
    serde_saphyr::options! { budget: budget }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// Cuts a file at its document markers (YAML 1.2.2 section 9.1: `---` at the beginning of a line ends a document wherever
/// it stands), so that a mistake in one document does not hide those in the next. Gives each its first line.
fn split(text: &str) -> Vec<(u64, String)> {
    let mut parts = vec![(1, String::new())];
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        let rest = line
            .strip_prefix("---")
            .filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
        match (rest, parts.last_mut()) {
            (Some(rest), _) => parts.push((number, format!("   {}", rest.replace('\t', " ")))),
            (None, Some((_, part))) => part.push_str(line),
            (None, None) => {}
        }
    }
    parts.retain(|(_, part)| !part.trim().is_empty());
    parts
}

fn texts(path: &Path) -> io::Result<Vec<(String, String)>> {
    if path == Path::new("-") {
        return Ok(vec![("standard input".to_owned(), bounded(io::stdin().lock())?)]);
    }
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![(path.display().to_string(), bounded(fs::File::open(path)?)?)]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let file = entry?.path();
        let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if matches!(extension, "yaml" | "yml" | "json") && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(io::Error::other("the directory has no .yaml, .yml or .json file"));
    }
    files.iter().map(|file| Ok((file.display().to_string(), bounded(fs::File::open(file)?)?))).collect()
}

fn bounded(source: impl io::Read) -> io::Result<String> {
    let mut text = String::new();
    let read = source.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if read as u64 > MAX_BYTES {
        return Err(io::Error::other(format!("larger than {MAX_BYTES} bytes")));
    }
    Ok(text)
}

/// A value as the parser gives it; the places are in the [`Spanned`] around it.
enum Parsed {
    Scalar(Value),
    List(Vec<Spanned<Parsed>>),
    Map(Vec<(Spanned<String>, Spanned<Parsed>)>),
}

impl From<Spanned<Parsed>> for Node {
    fn from(parsed: Spanned<Parsed>) -> Self {
        let line = parsed.referenced.line();
        let content = match parsed.value {
            Parsed::Scalar(value) => Content::Scalar(value),
            Parsed::List(items) => Content::List(items.into_iter().map(Self::from).collect()),
            Parsed::Map(entries) => Content::Map(
                entries
                    .into_iter()
                    .map(|(key, value)| (key.value, key.referenced.line(), value.into()))
                    .collect(),
            ),
        };
        Self { line, content }
    }
}

impl<'de> Deserialize<'de> for Parsed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ParsedVisitor)
    }
}

struct ParsedVisitor;

impl<'de> Visitor<'de> for ParsedVisitor {
    type Value = Parsed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value, a list or a map")
    }

    fn visit_unit<E>(self) -> Result<Parsed, E> {
        Ok(Parsed::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Parsed, E> {
        Ok(Parsed::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Parsed, D::Error> {
        Parsed::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Parsed, E> {
        Ok(Parsed::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Parsed, E> {
        Ok(Parsed::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Parsed, E> {
        Ok(Parsed::Scalar(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Parsed, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("not a number that JSON can hold"))?;
        Ok(Parsed::Scalar(number.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Parsed, E> {
        Ok(Parsed::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Parsed, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Parsed::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parsed, A::Error> {
        let mut entries: Vec<(Spanned<String>, Spanned<Parsed>)> = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            if entries.iter().any(|(known, _)| known.value == key.value) {
                return Err(A::Error::custom(format!("the key {:?} is there twice", key.value)));
            }
            entries.push((key, map.next_value()?));
        }
        Ok(Parsed::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_text(text: &str) -> (Vec<Document>, Vec<Finding>) {
        let (mut documents, mut findings) = (Vec::new(), Vec::new());
        parse("f.yaml", text, &mut documents, &mut findings);
        (documents, findings)
    }

    #[test]
    fn every_field_has_its_line_in_the_file() {
        let text = "# first\n---\na: 1\n---\nspec:\n  interfaces:\n    - dhcp:\n        mac: x\n      netboot: {}\n    - {}\n";
        let (documents, findings) = parse_text(text);
        assert!(findings.is_empty(), "{findings:?}");
        let last = documents.last().unwrap();
        let line = |field| last.finding(field, "").line;
        assert_eq!(line("spec"), 5);
        assert_eq!(line("spec.interfaces[0].dhcp.mac"), 8);
        assert_eq!(line("spec.interfaces[0].netboot"), 9);
        assert_eq!(line("spec.interfaces[1]"), 10);
        assert_eq!(line("spec.interfaces[1].dhcp.mac"), 10, "what is missing is reported where it would be");
    }

    #[test]
    fn keys_with_dots_have_their_line_too() {
        let (documents, _) =
            parse_text("labels:\n  a: x\n  a.b/c: y\n  a.b:\n    c: z\n  l: [\n    1,\n    2]\n");
        let line = |field: &str| documents[0].finding(field, "").line;
        assert_eq!(
            [line("labels.a"), line("labels.a.b/c"), line("labels.a.b.c"), line("labels.l[1]")],
            [2, 3, 5, 8]
        );
        assert_eq!([line("labels.l[7]"), line("labels.ab"), line("")], [6, 1, 1]);
    }

    #[test]
    fn a_broken_document_hides_no_other() {
        let (documents, findings) =
            parse_text("a: 1\n---\nb: [1,\n---\nc: 3\n---\nd: 1\nd: 2\n---\n# nothing\n");
        assert_eq!(documents.len(), 2);
        assert_eq!(documents[1].root.to_json(), serde_json::json!({ "c": 3 }));
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert!((3..=4).contains(&findings[0].line), "{findings:?}");
        assert!((7..=8).contains(&findings[1].line), "{findings:?}");
    }

    #[test]
    fn values_keep_their_types_and_block_texts_their_lines() {
        let text = "text: |\n  ---x\n  a\nn: 9007199254740993\nf: 1.5\nb: true\nq: \"1\"\nz: null\nmac: 52:54:00:12:34:56\nbase: &x {k: v}\nuse: *x\n";
        let (documents, findings) = parse_text(text);
        assert!(findings.is_empty(), "{findings:?}");
        let expected = serde_json::json!({
            "text": "---x\na\n", "n": 9_007_199_254_740_993_i64, "f": 1.5, "b": true, "q": "1", "z": null,
            "mac": "52:54:00:12:34:56", "base": { "k": "v" }, "use": { "k": "v" }
        });
        assert_eq!(documents[0].root.to_json(), expected);
    }

    #[test]
    fn a_long_run_of_comments_is_no_mistake() {
        let text = format!("a:\n{}  b: 1\n", "  # commented out\n".repeat(500));
        let (documents, findings) = parse_text(&text);
        assert!(findings.is_empty(), "{findings:?}");
        assert_eq!(documents[0].finding("a.b", "").line, 502);
    }

    #[test]
    fn json_is_read_too() {
        let (documents, findings) = parse_text("--- {\"a\": [1, {\"b\": null}]}\n");
        assert!(findings.is_empty(), "{findings:?}");
        assert_eq!(documents[0].root.to_json(), serde_json::json!({ "a": [1, { "b": null }] }));
    }
}
