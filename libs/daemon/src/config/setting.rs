// SPDX-License-Identifier: Apache-2.0
//! What a setting is: its names, its kind, its default and its one line of help.

use super::ENV_PREFIX;
use super::value::{parse_bool, parse_duration};

/// One row of a daemon's settings table.
///
/// The environment variable is always `TINKERBELL_` and the flag in upper snake case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// Key in the daemon's section of the file: upstream's flag without the daemon's own prefix.
    pub key: &'static str,
    /// Upstream's full flag name, without dashes in front.
    pub flag: &'static str,
    /// A second flag name that people also type.
    pub alias: Option<&'static str>,
    /// What the value is when nobody says.
    pub default: Option<&'static str>,
    /// One line for the sample file and `--help`.
    pub help: &'static str,
    /// What the value must look like.
    pub kind: Kind,
}

impl Setting {
    /// A setting without default.
    pub const fn new(key: &'static str, flag: &'static str, kind: Kind, help: &'static str) -> Self {
        Self { key, flag, alias: None, default: None, help, kind }
    }

    /// The same setting with a default.
    #[must_use]
    pub const fn with_default(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    /// The same setting with a second flag name.
    #[must_use]
    pub const fn with_alias(mut self, alias: &'static str) -> Self {
        self.alias = Some(alias);
        self
    }

    /// The `health-port` setting that every daemon has in its table; `flag` carries the daemon's prefix.
    pub const fn health_port(flag: &'static str, default: &'static str) -> Self {
        Self::new(
            "health-port",
            flag,
            Kind::Port,
            "port of /healthz, /readyz and /metrics; 0 switches them off",
        )
        .with_default(default)
    }

    /// The environment variables that carry this setting, first one wins.
    pub fn env_names(&self) -> impl Iterator<Item = String> + use<> {
        let names = [Some(self.flag), self.alias];
        names
            .into_iter()
            .flatten()
            .map(|flag| format!("{ENV_PREFIX}{}", flag.to_uppercase().replace('-', "_")))
    }

    /// The settings of several tables in one, for a daemon whose parts have tables of their own. `N` is how many there are.
    ///
    /// # Panics
    /// When `N` is not, which the compiler says.
    #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
    pub const fn joined<const N: usize>(tables: &[&[Self]]) -> [Self; N] {
        let mut all = [tables[0][0]; N];
        let (mut count, mut table) = (0, 0);
        while table < tables.len() {
            let mut row = 0;
            while row < tables[table].len() {
                all[count] = tables[table][row];
                (count, row) = (count + 1, row + 1);
            }
            table += 1;
        }
        assert!(count == N);
        all
    }

    pub(super) fn is_flag(&self, name: &str) -> bool {
        self.flag == name || self.alias == Some(name)
    }
}

/// What a value must look like; also decides how flags and lists are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// `true` or `false`; as a flag the value may be left out.
    Bool,
    /// A whole number.
    Integer,
    /// A TCP or UDP port; 0 where the help says what it means.
    Port,
    /// An IPv4 or IPv6 address.
    Ip,
    /// An address and a port, such as `0.0.0.0:7171`.
    SocketAddr,
    /// A URL with its scheme.
    Url,
    /// A path of a file or directory.
    Path,
    /// A path of a file whose content is a secret.
    SecretFile,
    /// A duration as Go writes it, or whole seconds.
    Duration,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A comma-separated list; in the file also a YAML list. The text says what the elements are.
    Csv(&'static str),
    /// A repeatable flag; in the file a YAML list. The text says what the elements are.
    List(&'static str),
}

impl Kind {
    /// Whether several values may be given.
    pub fn is_list(self) -> bool {
        matches!(self, Self::Csv(_) | Self::List(_))
    }

    /// A check that needs no type: words of a choice, switches, durations, ports.
    pub(super) fn allows(self, text: &str) -> bool {
        match self {
            Self::Choice(words) => words.contains(&text),
            Self::Bool => parse_bool(text).is_some(),
            Self::Duration => parse_duration(text).is_some(),
            Self::Port => text.parse::<u16>().is_ok(),
            Self::Url => {
                text.split_once("://").is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty())
            }
            _ => true,
        }
    }

    /// What is expected, for messages.
    pub(super) fn expected(self) -> Option<String> {
        Some(match self {
            Self::Text => "one text value".to_owned(),
            Self::Bool => "true or false".to_owned(),
            Self::Integer => "a whole number".to_owned(),
            Self::Port => "a port number from 0 to 65535".to_owned(),
            Self::Ip => "an IP address such as 172.31.0.1".to_owned(),
            Self::SocketAddr => "an address with port such as 0.0.0.0:7171".to_owned(),
            Self::Url => "a URL such as http://172.31.0.1:7171/hook".to_owned(),
            Self::Path => "a path".to_owned(),
            Self::SecretFile => "the path of a file that holds the secret".to_owned(),
            Self::Duration => "a duration such as 90s, 1m30s or 250ms".to_owned(),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::Csv(items) => format!("a comma-separated list of {items}"),
            Self::List(items) => format!("a list of {items}"),
        })
    }
}
