// SPDX-License-Identifier: Apache-2.0

//! `tink logs`: what a machine wrote to the log server of boots.
//!
//! Owns the request and how a line looks. Which machine is meant is asked of the API, as by every other command; the lines
//! come from boots. When the connection breaks a follower goes on after the last line that it has.

use std::time::Duration;

use boots::LogLine;
use jiff::Timestamp;
use reqwest::StatusCode;
use thiserror::Error;

use crate::{
    output,
    traces::{Boots, Place, TraceError},
};

/// Pause before a follower connects again.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest line; boots keeps none that is near it.
const MAX_LINE: usize = 256 * 1024;

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

/// Why there is no log. None is retried, but for a broken connection by a follower.
#[derive(Debug, Error)]
pub enum LogsError {
    /// Boots does not give it.
    #[error(transparent)]
    Trace(#[from] TraceError),
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

fn hint(status: StatusCode) -> &'static str {
    match status {
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
    let mut log = Log { boots: Boots::at(place)?, since: 0, seen: false };
    loop {
        let ended = log.print(wanted).await;
        match ended {
            Ok(()) if !wanted.follow => return Ok(()),
            // What cannot be reached at all is a mistake; what was reached once will come back.
            Err(LogsError::Trace(TraceError::Unreachable { .. }) | LogsError::Broken(_)) | Ok(())
                if wanted.follow && log.seen =>
            {
                tokio::time::sleep(PAUSE).await;
            }
            ended => return ended,
        }
    }
}

struct Log {
    boots: Boots,
    since: u64,
    /// Whether boots has answered once.
    seen: bool,
}

impl Log {
    /// Prints one answer to its end.
    async fn print(&mut self, wanted: &Wanted) -> Result<(), LogsError> {
        let mut path = format!("/logs/{}/{}", wanted.namespace, wanted.machine);
        path.push_str(&format!("?since={}&follow={}", self.since, wanted.follow));
        // What came while the connection was broken is wanted in full.
        if let Some(tail) = wanted.tail.filter(|_| self.since == 0) {
            path.push_str(&format!("&tail={tail}"));
        }
        let mut answer = self.boots.get(&path, hint).await?;
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
