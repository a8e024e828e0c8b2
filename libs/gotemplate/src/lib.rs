// SPDX-License-Identifier: Apache-2.0
//! Go `text/template` as Tinkerbell's users write it: the workflow templates and the `customboot` media URLs.
//!
//! The parser and the executor are the `gotmpl` crate's. This crate owns what stands around them: the strict
//! meaning of a missing key and of a nil pointer, source lines in every error, bounds on output and work, and the
//! functions ([`funcs`]). `tink-server` calls it; it knows nothing of hardware or workflows.
//!
//! It never reads a file, a clock, the environment or a random number: a template is a pure function of its
//! data. That is why the functions of the sprig set which need one of these (`randInt`, `shuffle`, `ago`, the
//! key and certificate generators, …) are absent; [`funcs::UNSUPPORTED`] lists them, and a template that calls
//! one is refused when it is parsed, with the line.
//!
//! Differences from Go that a template author can see:
//! * a dictionary is a value here, not a reference: `set`, `unset`, `merge` and `mergeOverwrite` change the
//!   variable they are given (`set $d "k" "v"`), not other variables that were copied from it;
//! * a template cannot call methods; there are none on the data it gets.

pub mod data;
pub mod funcs;
mod rewrite;
mod work;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub use gotmpl::Value;
use gotmpl::parse::Parser;
use gotmpl::{MissingKey, TemplateError};

/// Upstream's cap on the length of a rendered template, in bytes.
pub const OUTPUT_LIMIT: usize = 262_144;

/// Loop turns over all `range`s of one rendering; a template that needs more is a mistake or an attack.
const RANGE_LIMIT: u64 = 1_000_000;

/// The name under which the main body is stored; no `define` can have it, as it is not a quoted Go string that
/// anybody writes.
const MAIN: &str = "\u{0}main";

/// Why a template was not parsed or rendered. None of these goes away by trying again with the same input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text is not a template.
    #[error("template line {line}: {message}")]
    Parse {
        /// Line in the template, from 1.
        line: usize,
        /// What is wrong, in the words of the template language.
        message: String,
    },
    /// The template names a value that the data does not have, or reaches through a nil pointer.
    #[error("template line {line}: {message}")]
    Missing {
        /// Line in the template, from 1.
        line: usize,
        /// The expression as written, up to and including the member that is missing.
        path: String,
        /// The whole sentence.
        message: String,
    },
    /// A function or statement failed.
    #[error("template line {line}: {message}")]
    Exec {
        /// Line in the template, from 1; the line of the last call before the failure where the failing
        /// statement has none of its own.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// The output is longer than [`OUTPUT_LIMIT`].
    #[error("the rendered template is longer than {OUTPUT_LIMIT} bytes")]
    TooLong,
}

impl Error {
    /// The line in the template that the error is about, where there is one.
    pub fn line(&self) -> Option<usize> {
        match self {
            Self::Parse { line, .. } | Self::Missing { line, .. } | Self::Exec { line, .. } => Some(*line),
            Self::TooLong => None,
        }
    }
}

/// A parsed template. Parsing is separate from rendering so that bad text is told from bad data.
pub struct Template {
    inner: gotmpl::Template,
    trace: Arc<Trace>,
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").finish_non_exhaustive()
    }
}

/// Where the executor was last, and the error of ours that it carried out; the executor itself keeps no
/// positions.
#[derive(Default)]
struct Trace {
    work: work::Work,
    line: AtomicUsize,
    error: std::sync::Mutex<Option<Error>>,
}

impl Trace {
    fn at(&self, line: usize) {
        self.line.store(line, Ordering::Relaxed);
    }

    /// Takes from the rendering's work; what is too much fails at the line noted last.
    fn cost(&self, take: impl FnOnce(&work::Work) -> Result<(), String>) -> Result<(), TemplateError> {
        take(&self.work)
            .map_err(|message| self.fail(Error::Exec { line: self.line.load(Ordering::Relaxed), message }))
    }

    /// Keeps the first error of a rendering and gives the executor something to stop with.
    fn fail(&self, error: Error) -> TemplateError {
        let text = error.to_string();
        if let Ok(mut slot) = self.error.lock() {
            slot.get_or_insert(error);
        }
        TemplateError::Exec(text)
    }

    fn take(&self) -> Option<Error> {
        self.error.lock().ok().and_then(|mut slot| slot.take())
    }
}

impl Template {
    /// Parses `source` with the default delimiters.
    ///
    /// # Errors
    /// [`Error::Parse`] for bad syntax and for a function that does not exist or is not supported.
    pub fn parse(source: &str) -> Result<Self, Error> {
        work::check_nesting(source)?;
        let parser = Parser::new(source, "{{", "}}").map_err(parse_error)?;
        let (main, defines) = parser.parse().map_err(parse_error)?;
        let trace = Arc::new(Trace::default());
        let mut inner = gotmpl::Template::new(MAIN)
            .missing_key(MissingKey::Error)
            .max_range_iters(RANGE_LIMIT)
            .funcs(rewrite::support(&trace))
            .add_parse_tree(MAIN, rewrite::tree(main)?);
        for define in defines {
            inner = inner.add_parse_tree(&define.name, rewrite::tree(define.body)?);
        }
        Ok(Self { inner, trace })
    }

    /// Renders the template with `data` as dot. Exclusive, as the place of the last call is kept beside the tree.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Exec`], [`Error::TooLong`].
    pub fn render(&mut self, data: &Value) -> Result<String, Error> {
        self.trace.at(1);
        self.trace.take();
        self.trace.work.begin();
        let mut out = Capped::default();
        let result = self.inner.execute_template_fmt(&mut out, MAIN, data);
        if out.full {
            return Err(Error::TooLong);
        }
        match result {
            Ok(()) => Ok(out.text),
            Err(error) => Err(self.trace.take().unwrap_or_else(|| Error::Exec {
                line: self.trace.line.load(Ordering::Relaxed),
                message: error.to_string().trim_start_matches("execution error: ").to_owned(),
            })),
        }
    }
}

/// Parses and renders in one go.
///
/// # Errors
/// Those of [`Template::parse`] and [`Template::render`].
pub fn render(source: &str, data: &Value) -> Result<String, Error> {
    Template::parse(source)?.render(data)
}

fn parse_error(error: TemplateError) -> Error {
    match error {
        TemplateError::Parse { line, message, .. } | TemplateError::Lex { line, message, .. } => {
            // Its bound on nesting comes without a line.
            Error::Parse { line: line.max(1), message }
        }
        other => Error::Parse { line: 1, message: other.to_string() },
    }
}

/// A string that refuses to grow past [`OUTPUT_LIMIT`].
#[derive(Default)]
struct Capped {
    text: String,
    full: bool,
}

impl fmt::Write for Capped {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        if self.text.len() + s.len() > OUTPUT_LIMIT {
            self.full = true;
            return Err(fmt::Error);
        }
        self.text.push_str(s);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
