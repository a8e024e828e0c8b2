// SPDX-License-Identifier: Apache-2.0
//! The message, its priority, and the form of RFC 5424.

use std::fmt;
use std::str::FromStr;

use crate::{bsd, structured};

/// Longest text of a message, in bytes; the rest is cut off. RFC 5424 section 6.1 asks for 2048.
pub const MAX_TEXT: usize = 8192;

/// Longest header fields, in bytes (RFC 5424 section 6).
pub(crate) const MAX_HOST: usize = 255;
pub(crate) const MAX_APP: usize = 48;
pub(crate) const MAX_PROCESS: usize = 128;
const MAX_ID: usize = 32;
/// Longest timestamp of RFC 5424: date, time, six digits of a second, offset.
const MAX_TIMESTAMP: usize = 32;
/// Longest structured data that is kept; longer data is dropped whole, since a part of it would mean something else.
const MAX_DATA: usize = 2048;

/// Priority of what names none (RFC 3164 section 4.3.3): user, notice.
const DEFAULT_PRIORITY: u8 = 13;
const MAX_PRIORITY: u8 = 191;

/// Where a message comes from (RFC 5424 section 6.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facility(u8);

/// How grave it is, the gravest first (RFC 5424 section 6.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names of the RFC")]
pub enum Severity {
    Emergency,
    Alert,
    Critical,
    Error,
    Warning,
    Notice,
    Informational,
    Debug,
}

/// What a message was read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// RFC 5424.
    Rfc5424,
    /// RFC 3164 with its timestamp.
    Rfc3164,
    /// Neither: a text, perhaps with a priority or a tag.
    Bare,
}

/// One message. Every text is bounded and holds no control character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it was read as.
    pub form: Form,
    /// Where it comes from.
    pub facility: Facility,
    /// How grave it is.
    pub severity: Severity,
    /// When it was sent, as the sender wrote it: its clock may be wrong.
    pub timestamp: Option<String>,
    /// The sender's own name. Anybody can write anything here.
    pub host: Option<String>,
    /// The program.
    pub app: Option<String>,
    /// Its process.
    pub process: Option<String>,
    /// Kind of message.
    pub id: Option<String>,
    /// Structured data, in its form on the wire.
    pub data: Option<String>,
    /// What is said.
    pub text: String,
}

impl Facility {
    /// The kernel.
    pub const KERNEL: Self = Self(0);

    const NAMES: [&'static str; 24] = [
        "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
        "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5",
        "local6", "local7",
    ];

    /// Its short name, as logger(1) takes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.get(usize::from(self.0)).copied().unwrap_or("user")
    }
}

impl Severity {
    const ALL: [(Self, &'static str); 8] = [
        (Self::Emergency, "emerg"),
        (Self::Alert, "alert"),
        (Self::Critical, "crit"),
        (Self::Error, "err"),
        (Self::Warning, "warning"),
        (Self::Notice, "notice"),
        (Self::Informational, "info"),
        (Self::Debug, "debug"),
    ];

    /// Its short name, as logger(1) takes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(severity, _)| *severity == self).map_or("notice", |(_, name)| name)
    }
}

/// A text names no severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoSeverity;

impl FromStr for Severity {
    type Err = NoSeverity;

    fn from_str(text: &str) -> Result<Self, NoSeverity> {
        Self::ALL.iter().find(|(_, name)| *name == text).map(|(severity, _)| *severity).ok_or(NoSeverity)
    }
}

impl fmt::Display for Facility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Message {
    /// Reads one datagram.
    #[must_use]
    pub fn parse(datagram: &[u8]) -> Self {
        let (priority, rest) = match priority(datagram) {
            Some((priority, rest)) => (priority, rest),
            None => (DEFAULT_PRIORITY, datagram),
        };
        let facility = Facility(priority >> 3);
        let severity = Severity::ALL.get(usize::from(priority & 7)).map_or(Severity::Notice, |(one, _)| *one);
        let empty = Self {
            form: Form::Bare,
            facility,
            severity,
            timestamp: None,
            host: None,
            app: None,
            process: None,
            id: None,
            data: None,
            text: String::new(),
        };
        if rest.len() < datagram.len()
            && let Some(message) = rfc5424(&empty, rest)
        {
            return message;
        }
        bsd::read(empty, rest)
    }
}

/// `<0>` to `<191>` (RFC 5424 section 6.2.1; no zero in front but alone), and what follows.
fn priority(datagram: &[u8]) -> Option<(u8, &[u8])> {
    let rest = datagram.strip_prefix(b"<")?;
    let end = rest.iter().take(4).position(|byte| *byte == b'>')?;
    let (digits, rest) = rest.split_at_checked(end)?;
    let usual = digits == b"0" || digits.first().is_some_and(|first| (b'1'..=b'9').contains(first));
    if !usual || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u8 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (number <= MAX_PRIORITY).then_some((number, rest.get(1..).unwrap_or_default()))
}

/// The header of version 1; nothing when a field breaks its rules, so that the whole is read as text instead.
fn rfc5424(empty: &Message, rest: &[u8]) -> Option<Message> {
    let rest = rest.strip_prefix(b"1 ")?;
    let (timestamp, rest) = field(rest, MAX_TIMESTAMP)?;
    if timestamp.as_deref().is_some_and(|timestamp| !is_timestamp(timestamp)) {
        return None;
    }
    let (host, rest) = field(rest, MAX_HOST)?;
    let (app, rest) = field(rest, MAX_APP)?;
    let (process, rest) = field(rest, MAX_PROCESS)?;
    let (id, rest) = field(rest, MAX_ID)?;
    let (data, rest) = structured::split(rest)?;
    let text = match rest.split_first() {
        None => &[],
        Some((b' ', text)) => text,
        Some(_) => return None,
    };
    let data = (data != b"-" && data.len() <= MAX_DATA).then(|| printable(data, usize::MAX));
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    let text = printable(trimmed(text), MAX_TEXT);
    Some(Message { form: Form::Rfc5424, timestamp, host, app, process, id, data, text, ..empty.clone() })
}

/// A header field and what follows its space: printable US-ASCII, `-` for none (RFC 5424 section 6).
fn field(bytes: &[u8], longest: usize) -> Option<(Option<String>, &[u8])> {
    let end = bytes.iter().take(longest + 1).position(|byte| *byte == b' ')?;
    let (value, rest) = bytes.split_at_checked(end)?;
    if value.is_empty() || !value.iter().all(u8::is_ascii_graphic) {
        return None;
    }
    let value = std::str::from_utf8(value).ok()?;
    Some(((value != "-").then(|| value.to_owned()), rest.get(1..).unwrap_or_default()))
}

/// Whether a text has the form of RFC 5424 section 6.2.3: `2003-10-11T22:14:15.003Z` or with an offset.
fn is_timestamp(text: &str) -> bool {
    let form = |text: &str, form: &str| {
        text.len() == form.len()
            && text.bytes().zip(form.bytes()).all(|(byte, form)| match form {
                b'0' => byte.is_ascii_digit(),
                _ => byte == form,
            })
    };
    let Some((seconds, rest)) = text.split_at_checked("0000-00-00T00:00:00".len()) else { return false };
    let digits = rest.strip_prefix('.').map(|rest| rest.bytes().take_while(u8::is_ascii_digit).count());
    let offset = match digits {
        None => Some(rest),
        Some(1..=6) => rest.get(1 + digits.unwrap_or(0)..),
        Some(_) => None,
    };
    let Some(offset) = offset else { return false };
    form(seconds, "0000-00-00T00:00:00")
        && (offset == "Z" || form(offset, "+00:00") || form(offset, "-00:00"))
}

/// Without the line ends and zero bytes that senders put behind a message.
pub(crate) fn trimmed(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r' | 0)).map_or(0, |last| last + 1);
    text.get(..end).unwrap_or_default()
}

/// A text without control characters, of at most `longest` bytes.
pub(crate) fn printable(bytes: &[u8], longest: usize) -> String {
    let bytes = bytes.get(..longest).unwrap_or(bytes);
    let mut text = String::with_capacity(bytes.len());
    for c in String::from_utf8_lossy(bytes).chars() {
        let start = text.len();
        match c {
            '\t' => text.push(' '),
            c if c.is_control() => text.extend(octal(c)),
            // Marks that change the direction of what is printed after them.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => text.push('\u{fffd}'),
            c => text.push(c),
        }
        if text.len() > longest {
            text.truncate(start);
            break;
        }
    }
    text
}

/// `#` and three octal digits.
fn octal(c: char) -> impl Iterator<Item = char> {
    let digit = move |shift: u32| char::from_digit((u32::from(c) >> shift) & 7, 8).unwrap_or('0');
    ['#', digit(6), digit(3), digit(0)].into_iter()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Message {
        Message::parse(text.as_bytes())
    }

    #[test]
    fn a_message_of_rfc_5424_has_all_its_fields() {
        let message = parse(
            "<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 \
             [exampleSDID@32473 iut=\"3\" eventSource=\"App\\\"li]cation\"][x] \u{feff}An application event\n",
        );
        let Message { form, timestamp, host, app, process, id, data, text, .. } = &message;
        assert_eq!((*form, text.as_str()), (Form::Rfc5424, "An application event"));
        let fields = [timestamp, host, app, process, id].map(|field| field.as_deref());
        let expected = ["2003-10-11T22:14:15.003Z", "mymachine.example.com", "evntslog", "", "ID47"];
        assert_eq!(fields, expected.map(|text| Some(text).filter(|text| !text.is_empty())));
        let expected = "[exampleSDID@32473 iut=\"3\" eventSource=\"App\\\"li]cation\"][x]";
        assert_eq!(data.as_deref(), Some(expected));
        assert_eq!((message.facility.name(), message.severity.name()), ("local4", "notice"));
    }

    #[test]
    fn the_shortest_message_of_rfc_5424_says_nothing() {
        for (bytes, data) in [("<0>1 - - - - - -", None), ("<0>1 - - - - - [a]", Some("[a]"))] {
            let message = parse(bytes);
            assert_eq!((message.form, message.text.as_str()), (Form::Rfc5424, ""));
            assert_eq!(message.data.as_deref(), data);
            assert_eq!((message.facility, message.severity), (Facility::KERNEL, Severity::Emergency));
        }
    }

    #[test]
    fn a_broken_header_is_text() {
        for bytes in [
            "<13>1 2003-10-11 host app - - - text",
            "<13>1 2003-10-11T22:14:15 host app - - - text",
            "<13>1 2003-10-11T22:14:15.0000000Z host app - - - text",
            "<13>1 - host app - - text",
            "<13>1 - host app - - [broken text",
            "<13>1 - host app - - -text",
            "<13>2 - - - - - - text",
        ] {
            let message = parse(bytes);
            assert_ne!(message.form, Form::Rfc5424, "{bytes}");
            assert!(message.text.ends_with("text"), "{bytes}: {message:?}");
        }
        let long = format!("<13>1 - {} - - - - text", "h".repeat(MAX_HOST + 1));
        assert_eq!(parse(&long).form, Form::Bare);
    }

    #[test]
    fn what_has_no_priority_is_a_notice_of_a_user() {
        for bytes in ["text", "<>text", "<192>text", "<013>text", "<1 3>text", "<1", "<-1>text", "<9999>text"]
        {
            let message = parse(bytes);
            assert_eq!((message.facility.name(), message.severity), ("user", Severity::Notice), "{bytes}");
            assert_eq!(message.text, bytes);
        }
    }

    #[test]
    fn nothing_takes_over_a_terminal() {
        assert_eq!(
            parse("<13>\u{1b}[31mred\tand\u{202e}back\u{9b}\0 \r\n\0").text,
            "#033[31mred and\u{fffd}back#233#000 "
        );
        assert_eq!(Message::parse(b"<13>\xff\xfe").text, "\u{fffd}\u{fffd}");
        assert_eq!(parse(&"\u{1b}".repeat(MAX_TEXT)).text.len(), MAX_TEXT);
    }

    proptest! {
        #[test]
        fn every_datagram_is_a_bounded_printable_message(
            head in "(<[0-9]{0,4}>)?(1 )?([!-~]{0,60} ){0,6}(\\[[ -~]{0,20}\\])?",
            tail in prop::collection::vec(any::<u8>(), 0..20_000),
        ) {
            let message = Message::parse(&[head.as_bytes(), &tail].concat());
            prop_assert!(message.text.len() <= MAX_TEXT);
            let fields = [&message.timestamp, &message.host, &message.app, &message.process, &message.id];
            for text in fields.into_iter().flatten() {
                prop_assert!(!text.is_empty() && text.len() <= MAX_HOST);
                prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '));
            }
            prop_assert!(!message.text.chars().chain(message.data.iter().flat_map(|data| data.chars())).any(char::is_control));
        }
    }
}
