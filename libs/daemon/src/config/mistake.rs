// SPDX-License-Identifier: Apache-2.0
//! Mistakes in a configuration and how they are told: where, what, and what would be right.

use std::fmt;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A flag, by its name without dashes.
    Flag(String),
    /// An argument that is no flag.
    Argument,
    /// An environment variable, by its name.
    Env(String),
    /// A line of the configuration file; line 0 is the file as a whole.
    File {
        /// Name of the file as given.
        name: String,
        /// Line, counted from 1.
        line: u64,
    },
    /// No layer: the default, or nothing.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "--{name}"),
            Self::Argument => f.write_str("command line"),
            Self::Env(name) => f.write_str(name),
            Self::File { name, line: 0 } => f.write_str(name),
            Self::File { name, line } => write!(f, "{name}:{line}"),
            Self::Default => f.write_str("not set"),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where it is.
    pub source: Source,
    /// What it is about: `section.key`, a flag, a section.
    pub subject: String,
    /// The value as given, when it may be shown.
    pub value: Option<String>,
    /// What is wrong.
    pub problem: String,
    /// What would be right.
    pub expected: Option<String>,
}

impl Mistake {
    /// A mistake without value and advice.
    pub fn new(source: Source, subject: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { source, subject: subject.into(), value: None, problem: problem.into(), expected: None }
    }

    /// The same with the value as given.
    #[must_use]
    pub fn with_value(mut self, value: &str) -> Self {
        self.value = Some(value.to_owned());
        self
    }

    /// The same with advice.
    #[must_use]
    pub fn with_expected(mut self, expected: Option<String>) -> Self {
        self.expected = expected;
        self
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.source, self.subject)?;
        if let Some(value) = &self.value {
            write!(f, ": {value:?}")?;
        }
        write!(f, " {}", self.problem)?;
        match &self.expected {
            Some(hint) if hint.starts_with("did you mean") => write!(f, "; {hint}"),
            Some(expected) => write!(f, "; expected {expected}"),
            None => Ok(()),
        }
    }
}

/// Every mistake that was found, flags first, then the environment, then the file by line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    mistakes: Vec<Mistake>,
}

impl ConfigErrors {
    pub(super) fn new(mut mistakes: Vec<Mistake>) -> Self {
        mistakes.sort_by(|a, b| a.source.cmp(&b.source));
        // A setting that two daemons share would otherwise be told once per daemon.
        mistakes.dedup();
        Self { mistakes }
    }

    /// The mistakes in the order in which they are shown.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mistakes.len() {
            1 => f.write_str("1 mistake in the configuration:")?,
            count => write!(f, "{count} mistakes in the configuration:")?,
        }
        self.mistakes.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
    }
}

impl std::error::Error for ConfigErrors {}

/// A hint when one of `names` is near to what was typed: at most two edits, or a third of a short word.
pub(super) fn did_you_mean<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let limit = (typed.len() / 3).clamp(1, 2);
    names
        .map(|name| (strsim::damerau_levenshtein(typed, name), name))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| format!("did you mean `{name}`?"))
}
