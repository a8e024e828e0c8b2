// SPDX-License-Identifier: Apache-2.0

//! `tink logs`: what a machine wrote to the log server of boots.
//!
//! Owns the request and how a line looks. Which machine is meant is asked of the API, as by every other command; the lines
//! come from boots, whose address and token lie in its state directory unless the command line says otherwise. When the
//! connection breaks a follower goes on after the last line that it has.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use boots::{ACCESS_FILE, AccessFile, LogLine};
use daemon::Secret;
use jiff::Timestamp;
use reqwest::StatusCode;
use thiserror::Error;

use crate::output;

/// Time to reach boots.
const CONNECT: Duration = Duration::from_secs(10);
/// Longest silence of a follower's connection; boots gives a sign of life every 30 s.
const SILENCE: Duration = Duration::from_secs(90);
/// Pause before a follower connects again.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest line; boots keeps none that is near it.
const MAX_LINE: usize = 256 * 1024;

/// Where boots is, as the command line says.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// Its URL.
    pub url: Option<String>,
    /// The file with its token.
    pub token_file: Option<PathBuf>,
    /// The state directory.
    pub state_dir: Option<PathBuf>,
}

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Namespace of the machine.
    pub namespace: String,
    /// Its name.
    pub machine: String,
    /// Only the last lines.
    pub tail: Option<usize>,
    /// Go on with what will come.
    pub follow: bool,
    /// Lines as boots sends them.
    pub json: bool,
}

/// Why there is no log. None is retried, but for [`LogsError::Broken`] by a follower.
#[derive(Debug, Error)]
pub enum LogsError {
    /// Nobody says where boots is.
    #[error(
        "{} cannot be used ({source}): boots writes it at its start; or name boots with --boots and --token-file",
        path.display()
    )]
    Access {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The client cannot be built, or boots cannot be reached.
    #[error("boots cannot be reached at {url}")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// Boots refuses.
    #[error("boots at {url} says {status}{}", hint(.status))]
    Refused {
        /// Where.
        url: String,
        /// What it says.
        status: StatusCode,
    },
    /// The answer broke off.
    #[error("the connection to boots broke")]
    Broken(#[source] reqwest::Error),
    /// A line is none of boots.
    #[error("the answer is no log of boots: {0}")]
    Line(String),
    /// The terminal is gone.
    #[error(transparent)]
    Output(#[from] std::io::Error),
}

fn hint(status: &StatusCode) -> &'static str {
    match *status {
        StatusCode::UNAUTHORIZED => ": the token is not its token",
        StatusCode::NOT_FOUND => ": its log server is off (boots.syslog-enabled)",
        StatusCode::SERVICE_UNAVAILABLE => ": too many follow logs already",
        _ => "",
    }
}

/// Prints the log of a machine; with `follow` until the process is ended.
///
/// # Errors
///
/// See [`LogsError`].
pub async fn logs(place: &Place, wanted: &Wanted) -> Result<(), LogsError> {
    daemon::install_crypto();
    let (url, token) = access(place)?;
    let mut log = Log { url, token, since: 0, seen: false };
    loop {
        let ended = log.print(wanted).await;
        match ended {
            Ok(()) if !wanted.follow => return Ok(()),
            // What cannot be reached at all is a mistake; what was reached once will come back.
            Err(LogsError::Unreachable { .. } | LogsError::Broken(_)) | Ok(())
                if wanted.follow && log.seen =>
            {
                tokio::time::sleep(PAUSE).await;
            }
            ended => return ended,
        }
    }
}

/// URL and token of boots.
fn access(place: &Place) -> Result<(String, Secret<String>), LogsError> {
    let wrap = |path: &Path| {
        let path = path.to_owned();
        move |source| LogsError::Access { path, source }
    };
    let path = daemon::state_dir(place.state_dir.clone()).join(ACCESS_FILE);
    let file = || AccessFile::read(&path).map_err(wrap(&path));
    let token = match &place.token_file {
        Some(path) => std::fs::read_to_string(path).map_err(wrap(path))?.trim().to_owned(),
        None => file()?.token,
    };
    let url = match &place.url {
        Some(url) => url.clone(),
        None => file()?.url,
    };
    Ok((url.trim_end_matches('/').to_owned(), Secret::new(token)))
}

struct Log {
    url: String,
    token: Secret<String>,
    since: u64,
    /// Whether boots has answered once.
    seen: bool,
}

impl Log {
    /// Prints one answer to its end.
    async fn print(&mut self, wanted: &Wanted) -> Result<(), LogsError> {
        let mut url = format!("{}/logs/{}/{}", self.url, wanted.namespace, wanted.machine);
        url.push_str(&format!("?since={}&follow={}", self.since, wanted.follow));
        // What came while the connection was broken is wanted in full.
        if let Some(tail) = wanted.tail.filter(|_| self.since == 0) {
            url.push_str(&format!("&tail={tail}"));
        }
        let unreachable = |source| LogsError::Unreachable { url: self.url.clone(), source };
        let client = reqwest::Client::builder().connect_timeout(CONNECT).read_timeout(SILENCE).no_proxy();
        let request = client.build().map_err(unreachable)?.get(&url);
        let mut answer = request.bearer_auth(self.token.expose()).send().await.map_err(unreachable)?;
        if !answer.status().is_success() {
            return Err(LogsError::Refused { url: self.url.clone(), status: answer.status() });
        }
        self.seen = true;
        let mut rest = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(LogsError::Broken)? {
            rest.extend_from_slice(&chunk);
            let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else {
                if rest.len() > MAX_LINE {
                    return Err(LogsError::Line("a line is too long".to_owned()));
                }
                continue;
            };
            let lines: Vec<u8> = rest.drain(..=end).collect();
            self.print_lines(&lines, wanted.json)?;
        }
        Ok(())
    }

    fn print_lines(&mut self, lines: &[u8], json: bool) -> Result<(), LogsError> {
        let mut text = String::new();
        for bytes in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let line: LogLine =
                serde_json::from_slice(bytes).map_err(|error| LogsError::Line(error.to_string()))?;
            self.since = self.since.max(line.at);
            match json {
                true => text.push_str(&String::from_utf8_lossy(bytes)),
                false => text.push_str(&shown(&line)),
            }
            text.push('\n');
        }
        Ok(output::print(&text)?)
    }
}

/// A line as people read it: when it came, how grave it is where that is more than usual, who wrote it, what it says.
fn shown(line: &LogLine) -> String {
    let at =
        i64::try_from(line.at).ok().and_then(|at| Timestamp::from_microsecond(at).ok()).unwrap_or_default();
    let grave = match line.severity.as_str() {
        "emerg" | "alert" | "crit" | "err" | "warning" => format!("{}: ", line.severity),
        _ => String::new(),
    };
    let process = line.process.as_ref().map(|process| format!("[{process}]")).unwrap_or_default();
    let app = line.app.as_deref().unwrap_or(&line.facility);
    format!("{at:.3} {app}{process}: {grave}{}", line.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_when_who_how_grave_and_what() {
        let line = |json: &str| shown(&serde_json::from_str(json).unwrap());
        assert_eq!(
            line(r#"{"at":1700000000123456,"facility":"kern","severity":"info","app":"kernel","text":"up"}"#),
            "2023-11-14T22:13:20.123Z kernel: up"
        );
        assert_eq!(
            line(
                r#"{"at":1700000000000000,"facility":"daemon","severity":"err","app":"a","process":"7","text":"x"}"#
            ),
            "2023-11-14T22:13:20.000Z a[7]: err: x"
        );
        assert_eq!(
            line(r#"{"at":0,"facility":"local0","severity":"notice","text":"x"}"#),
            "1970-01-01T00:00:00.000Z local0: x"
        );
    }
}
