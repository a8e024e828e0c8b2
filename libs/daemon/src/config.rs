// SPDX-License-Identifier: Apache-2.0
//! Layered configuration: a table of settings per daemon, read from flags, environment and one YAML file.
//!
//! A flag wins over a `TINKERBELL_*` variable, which wins over the daemon's section of the file, which wins over the file's
//! `global` section (keyed by full flag names, for what several daemons share), which wins over the default.
//!
//! Daemons declare a `&[Setting]` and read it through [`Settings`]; whoever composes them (a lone daemon's `main`, or all of
//! them in one process) makes the [`Layers`] from the [`Inputs`] and asks [`Layers::finish`] for every mistake of every section
//! at once. Nothing here stops at the first mistake. A secret is never a value: a setting names the file that holds it, and the
//! content of that file never reaches a message.

mod file;
mod mistake;
mod sample;
mod setting;
mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

pub use self::mistake::{ConfigErrors, Mistake, Source};
pub use self::sample::{help, sample};
pub use self::setting::{Kind, Setting};
pub use self::value::{parse_bool, parse_duration};

use self::file::{File, Node};
use crate::Secret;

/// Largest secret file that is read.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// Prefix of every environment variable that is a setting.
const ENV_PREFIX: &str = "TINKERBELL_";

/// Name of the section whose keys are full flag names and which applies to every daemon.
const GLOBAL: &str = "global";

/// One daemon's name, which is its section in the file, and its settings.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// Section name, such as `boots`.
    pub daemon: &'static str,
    /// The daemon's own settings.
    pub settings: &'static [Setting],
    /// Settings that the skeleton adds, the same for every daemon.
    pub common: &'static [Setting],
}

impl Table {
    /// A daemon's table without the skeleton's settings.
    pub const fn new(daemon: &'static str, settings: &'static [Setting]) -> Self {
        Self { daemon, settings, common: &[] }
    }

    /// Own settings first, then the common ones.
    fn iter(&self) -> impl Iterator<Item = &'static Setting> + use<> {
        self.settings.iter().chain(self.common)
    }
}

/// What the outside world says, before it is understood.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// Name (for messages) and text of the configuration file.
    pub file: Option<(String, String)>,
    /// Environment variables; those without the prefix are ignored.
    pub env: Vec<(String, String)>,
    /// Command-line arguments without the program's name and without `--config`.
    pub args: Vec<String>,
    /// Mistakes that happened while the inputs were gathered (an unreadable file).
    pub mistakes: Vec<Mistake>,
}

impl Inputs {
    /// Takes `--config FILE` out of the arguments, reads that file, and keeps the rest for the tables.
    pub fn gather(
        args: impl IntoIterator<Item = String>,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        let mut inputs = Self { env: env.into_iter().collect(), ..Self::default() };
        let mut args = args.into_iter();
        let mut path = None;
        while let Some(arg) = args.next() {
            if arg == "--config" {
                path = args.next();
                if path.is_none() {
                    inputs.mistakes.push(Mistake::new(
                        Source::Flag("config".into()),
                        "config",
                        "needs the path of a file",
                    ));
                }
            } else if let Some(value) = arg.strip_prefix("--config=") {
                path = Some(value.to_owned());
            } else {
                inputs.args.push(arg);
            }
        }
        if let Some(path) = path {
            inputs.read_file(Path::new(&path));
        }
        inputs
    }

    /// Reads the configuration file; a failure is remembered as a mistake.
    pub fn read_file(&mut self, path: &Path) {
        match std::fs::read_to_string(path) {
            Ok(text) => self.file = Some((path.display().to_string(), text)),
            Err(error) => self.mistakes.push(
                Mistake::new(Source::Flag("config".into()), "config", format!("cannot be read: {error}"))
                    .with_value(&path.display().to_string()),
            ),
        }
    }
}

/// All layers of all tables, matched to their settings.
#[derive(Debug)]
pub struct Layers {
    tables: Vec<Table>,
    file: Option<File>,
    env: BTreeMap<String, String>,
    flags: BTreeMap<&'static str, Vec<String>>,
    mistakes: Vec<Mistake>,
    warnings: Vec<String>,
}

impl Layers {
    /// Matches the inputs to the tables. `whole` says that `tables` are all daemons there are, so that a section of another name
    /// is a mistake; a lone daemon passes `false` and leaves the other daemons' sections alone.
    pub fn read(tables: &[Table], inputs: Inputs, whole: bool) -> Self {
        let mut layers = Self {
            tables: tables.to_vec(),
            file: None,
            env: inputs.env.into_iter().filter(|(name, _)| name.starts_with(ENV_PREFIX)).collect(),
            flags: BTreeMap::new(),
            mistakes: inputs.mistakes,
            warnings: Vec::new(),
        };
        if let Some((name, text)) = inputs.file {
            match File::parse(name, &text) {
                Ok(file) => layers.file = Some(file),
                Err(mistake) => layers.mistakes.push(*mistake),
            }
        }
        layers.read_flags(inputs.args);
        layers.check_sections(whole);
        layers.check_env();
        layers
    }

    /// One daemon's settings; unknown keys of its section are recorded as mistakes.
    ///
    /// A daemon that is in no table has no settings, so that every read of one is recorded as missing.
    pub fn settings(&self, daemon: &str) -> Settings {
        let mut settings = Settings { daemon: daemon.to_owned(), ..Settings::default() };
        let Some(table) = self.tables.iter().find(|table| table.daemon == daemon) else { return settings };
        settings.own = table.settings;
        for setting in table.iter() {
            let raw = self.lookup(table.daemon, setting, &mut settings.mistakes);
            settings.values.insert(setting.key, (setting, raw));
        }
        if let Some(file) = &self.file {
            for (key, entry) in file.entries(table.daemon) {
                if !settings.values.contains_key(key) {
                    let names = settings.values.keys().copied();
                    settings.mistakes.push(
                        Mistake::new(file.at(entry.line), format!("{daemon}.{key}"), "is not a setting")
                            .with_expected(mistake::did_you_mean(key, names)),
                    );
                }
            }
        }
        settings
    }

    /// Every mistake of the inputs and of the given daemons' settings at once; otherwise warnings that are worth a log line.
    ///
    /// # Errors
    /// When there is at least one mistake.
    pub fn finish(
        mut self,
        settings: impl IntoIterator<Item = Settings>,
    ) -> Result<Vec<String>, ConfigErrors> {
        for settings in settings {
            self.mistakes.extend(settings.mistakes);
        }
        if self.mistakes.is_empty() { Ok(self.warnings) } else { Err(ConfigErrors::new(self.mistakes)) }
    }

    fn lookup(&self, daemon: &str, setting: &'static Setting, mistakes: &mut Vec<Mistake>) -> Option<Raw> {
        if let Some(values) = self.flags.get(setting.flag) {
            return Some(Raw { values: values.clone(), source: Source::Flag(setting.flag.into()) });
        }
        for name in setting.env_names() {
            if let Some(value) = self.env.get(&name) {
                return Some(Raw { values: vec![value.clone()], source: Source::Env(name) });
            }
        }
        let from_file = self.file.as_ref().and_then(|file| {
            let entry = file.get(daemon, setting.key).or_else(|| file.get(GLOBAL, setting.flag))?;
            let source = file.at(entry.line);
            match &entry.node {
                Node::Null => None,
                Node::Scalar(text) => Some(Raw { values: vec![text.clone()], source }),
                Node::List(values) if setting.kind.is_list() => Some(Raw { values: values.clone(), source }),
                Node::List(_) | Node::Other => {
                    let name = format!("{daemon}.{}", setting.key);
                    mistakes.push(
                        Mistake::new(source, name, "has the wrong shape")
                            .with_expected(setting.kind.expected()),
                    );
                    None
                }
            }
        });
        from_file.or_else(|| {
            setting.default.map(|text| Raw { values: vec![text.to_owned()], source: Source::Default })
        })
    }

    fn read_flags(&mut self, args: Vec<String>) {
        let mut args = args.into_iter().peekable();
        while let Some(arg) = args.next() {
            let Some(body) = arg.strip_prefix("--") else {
                self.mistakes.push(
                    Mistake::new(Source::Argument, arg, "is not a flag")
                        .with_expected(Some("--name=value or --name value".into())),
                );
                continue;
            };
            let (name, inline) = match body.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (body, None),
            };
            let Some(setting) =
                self.tables.iter().flat_map(Table::iter).find(|setting| setting.is_flag(name))
            else {
                let names = self.tables.iter().flat_map(Table::iter).map(|setting| setting.flag);
                let hint = mistake::did_you_mean(name, names)
                    .map(|hint| hint.replace('`', "").replace("mean ", "mean --"));
                self.mistakes.push(
                    Mistake::new(Source::Flag(name.into()), name, "is not a flag of this program")
                        .with_expected(hint),
                );
                if inline.is_none() && args.peek().is_some_and(|next| !next.starts_with("--")) {
                    args.next();
                }
                continue;
            };
            let value = match inline {
                Some(value) => value,
                None if setting.kind == Kind::Bool => "true".to_owned(),
                None => match args.next() {
                    Some(value) => value,
                    None => {
                        self.mistakes.push(
                            Mistake::new(Source::Flag(name.into()), name, "needs a value")
                                .with_expected(setting.kind.expected()),
                        );
                        continue;
                    }
                },
            };
            let values = self.flags.entry(setting.flag).or_default();
            if !setting.kind.is_list() {
                values.clear();
            }
            values.push(value);
        }
    }

    fn check_sections(&mut self, whole: bool) {
        let Some(file) = &self.file else { return };
        let known: Vec<&str> = self.tables.iter().map(|table| table.daemon).chain([GLOBAL]).collect();
        for (name, line) in file.sections() {
            let hint = mistake::did_you_mean(name, known.iter().copied());
            if !known.contains(&name) && (whole || hint.is_some()) {
                self.mistakes.push(Mistake::new(file.at(line), name, "is not a section").with_expected(hint));
            }
        }
        let flags: BTreeSet<&str> =
            self.tables.iter().flat_map(Table::iter).map(|setting| setting.flag).collect();
        for (key, entry) in file.entries(GLOBAL) {
            let hint = mistake::did_you_mean(key, flags.iter().copied());
            if !flags.contains(key) && (whole || hint.is_some()) {
                let name = format!("{GLOBAL}.{key}");
                self.mistakes.push(
                    Mistake::new(file.at(entry.line), name, "is not the full flag name of a setting")
                        .with_expected(hint),
                );
            }
        }
    }

    /// A variable that nearly is a setting may be one of another daemon or of upstream's server: a warning, not a mistake.
    fn check_env(&mut self) {
        let known: Vec<String> =
            self.tables.iter().flat_map(Table::iter).flat_map(Setting::env_names).collect();
        for name in self.env.keys().filter(|name| !known.contains(name)) {
            if let Some(hint) = mistake::did_you_mean(name, known.iter().map(String::as_str)) {
                self.warnings.push(format!("environment variable {name} is not a setting; {hint}"));
            }
        }
    }
}

#[derive(Debug, Clone)]
struct Raw {
    values: Vec<String>,
    source: Source,
}

impl Raw {
    fn text(&self) -> &str {
        self.values.last().map_or("", String::as_str)
    }
}

/// One daemon's settings: typed getters that record mistakes instead of failing, so that all are reported together.
///
/// After a mistake a getter returns nothing or the fallback; the configuration made of it is thrown away by [`Layers::finish`].
#[derive(Debug, Default)]
pub struct Settings {
    daemon: String,
    values: BTreeMap<&'static str, (&'static Setting, Option<Raw>)>,
    mistakes: Vec<Mistake>,
    read: BTreeSet<&'static str>,
    own: &'static [Setting],
}

impl Settings {
    /// The settings of one daemon alone, those of the skeleton included; `finish` on the result reports every mistake.
    pub fn load(daemon: &'static str, table: &'static [Setting], inputs: Inputs) -> Self {
        let layers = Layers::read(&[Table { daemon, settings: table, common: crate::COMMON }], inputs, false);
        let mut settings = layers.settings(daemon);
        settings.mistakes.extend(layers.mistakes);
        settings
    }

    /// Reports every mistake recorded so far.
    ///
    /// # Errors
    /// When there is at least one.
    pub fn finish(self) -> Result<(), ConfigErrors> {
        if self.mistakes.is_empty() { Ok(()) } else { Err(ConfigErrors::new(self.mistakes)) }
    }

    /// The value parsed as `T`; nothing when it is unset or empty, or when it is a mistake, which is recorded.
    pub fn get<T: FromStr>(&mut self, key: &str) -> Option<T> {
        self.parse(key, |text| text.parse().ok())
    }

    /// Like [`Settings::get`], with a value for when it is unset or mistaken.
    pub fn get_or<T: FromStr>(&mut self, key: &str, fallback: T) -> T {
        self.get(key).unwrap_or(fallback)
    }

    /// Like [`Settings::get`], but being unset is a mistake too.
    pub fn require<T: FromStr>(&mut self, key: &str) -> Option<T> {
        if self.is_set(key) {
            return self.get(key);
        }
        self.mistake(key, "must be set");
        None
    }

    /// The value as text, empty when unset.
    pub fn text(&mut self, key: &str) -> String {
        self.parse(key, |text| Some(text.to_owned())).unwrap_or_default()
    }

    /// A switch: `true`, `false` and what Go accepts for them; false when unset.
    pub fn bool(&mut self, key: &str) -> bool {
        self.parse(key, parse_bool).unwrap_or_default()
    }

    /// A duration as Go writes it (`1m30s`, `100ms`) or whole seconds; zero when unset.
    pub fn duration(&mut self, key: &str) -> Duration {
        self.parse(key, parse_duration).unwrap_or_default()
    }

    /// A path, not checked for existence.
    pub fn path(&mut self, key: &str) -> Option<PathBuf> {
        self.parse(key, |text| Some(PathBuf::from(text)))
    }

    /// All elements of a list; a wrong element is recorded and left out.
    pub fn list<T: FromStr>(&mut self, key: &str) -> Vec<T> {
        let Some((setting, raw)) = self.raw(key) else { return Vec::new() };
        let mut items = Vec::new();
        for value in &raw.values {
            let parts: Vec<&str> = match setting.kind {
                Kind::Csv(_) => value.split(',').map(str::trim).collect(),
                _ => vec![value.as_str()],
            };
            for part in parts.into_iter().filter(|part| !part.is_empty()) {
                match part.parse() {
                    Ok(item) => items.push(item),
                    Err(_) => self.wrong(setting, part, raw.source.clone()),
                }
            }
        }
        items
    }

    /// The content of the file that the setting names, without trailing line breaks.
    pub fn secret_file(&mut self, key: &str) -> Option<Secret<String>> {
        let path = self.path(key)?;
        match read_secret(&path) {
            Ok(secret) => Some(secret),
            Err(problem) => {
                self.mistake(key, format!("names a file that {problem}"));
                None
            }
        }
    }

    /// Whether a layer, or the default, gives a value that is not empty.
    pub fn is_set(&mut self, key: &str) -> bool {
        self.raw(key).is_some_and(|(_, raw)| raw.values.iter().any(|value| !value.is_empty()))
    }

    /// Records a mistake that only the daemon can see (two settings that exclude each other, a directory that lacks a file).
    pub fn mistake(&mut self, key: &str, problem: impl Into<String>) {
        let (value, source) = match self.values.get(key) {
            Some((_, Some(raw))) => (Some(raw.values.join(",")), raw.source.clone()),
            _ => (None, Source::Default),
        };
        let mut mistake = Mistake::new(source, format!("{}.{key}", self.daemon), problem);
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            mistake = mistake.with_value(&value);
        }
        self.mistakes.push(mistake);
    }

    /// Settings of the daemon's own table that nobody has read: its test asserts that there are none.
    pub fn unread(&self) -> Vec<&'static str> {
        self.own.iter().map(|setting| setting.key).filter(|key| !self.read.contains(key)).collect()
    }

    fn parse<T>(&mut self, key: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let (setting, raw) = self.raw(key)?;
        let text = raw.text().trim();
        if text.is_empty() {
            return None;
        }
        let parsed = if setting.kind.allows(text) { parse(text) } else { None };
        if parsed.is_none() {
            self.wrong(setting, text, raw.source.clone());
        }
        parsed
    }

    fn raw(&mut self, key: &str) -> Option<(&'static Setting, Raw)> {
        let Some((setting, raw)) = self.values.get(key) else {
            // A key that is in no table is our own mistake; it is reported like the user's, so that no test can miss it.
            self.mistakes.push(Mistake::new(
                Source::Default,
                format!("{}.{key}", self.daemon),
                "is read but not declared",
            ));
            return None;
        };
        self.read.insert(setting.key);
        raw.clone().map(|raw| (*setting, raw))
    }

    fn wrong(&mut self, setting: &Setting, text: &str, source: Source) {
        let subject = format!("{}.{}", self.daemon, setting.key);
        let mistake = Mistake::new(source, subject, "is not valid").with_value(text);
        self.mistakes.push(mistake.with_expected(setting.kind.expected()));
    }
}

fn read_secret(path: &Path) -> Result<Secret<String>, String> {
    let size = std::fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?.len();
    if size > MAX_SECRET_BYTES {
        return Err(format!("is larger than {MAX_SECRET_BYTES} bytes"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))?;
    let text = zeroize::Zeroizing::new(text);
    let trimmed = text.trim_end_matches(['\r', '\n']);
    if trimmed.is_empty() {
        return Err("is empty".to_owned());
    }
    Ok(Secret::new(trimmed.to_owned()))
}

#[cfg(test)]
mod tests;
