// SPDX-License-Identifier: Apache-2.0
//! The form of RFC 3164, and what is sent in its name: without a host (busybox), without a timestamp (iPXE, kernels).

use crate::message::{MAX_APP, MAX_HOST, MAX_PROCESS, MAX_TEXT, printable, trimmed};
use crate::{Facility, Form, Message};

const MONTHS: [&[u8]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
/// `Oct 11 22:14:15`
const TIMESTAMP: usize = 15;

/// Who wrote a message, as its head says.
#[derive(Default)]
struct Writer<'a> {
    host: Option<&'a [u8]>,
    app: Option<&'a [u8]>,
    process: Option<&'a [u8]>,
}

/// Reads what follows the priority.
pub(crate) fn read(empty: Message, rest: &[u8]) -> Message {
    let (timestamp, rest) = match timestamp(rest) {
        Some((timestamp, rest)) => (Some(printable(timestamp, TIMESTAMP)), rest),
        None => (None, rest),
    };
    let form = if timestamp.is_some() { Form::Rfc3164 } else { Form::Bare };
    // A kernel that sends by itself names nobody, and its lines are full of colons ("usb 1-1: new device").
    let from_kernel = empty.facility == Facility::KERNEL && timestamp.is_none();
    let (writer, text) = if from_kernel { (Writer::default(), rest) } else { writer(rest, form) };
    let owned = |bytes: Option<&[u8]>| bytes.map(|bytes| printable(bytes, MAX_HOST));
    Message {
        form,
        timestamp,
        host: owned(writer.host),
        app: if from_kernel { Some("kernel".to_owned()) } else { owned(writer.app) },
        process: owned(writer.process),
        text: printable(trimmed(text), MAX_TEXT),
        ..empty
    }
}

/// A timestamp (RFC 3164 section 4.1.2) and what follows its space.
fn timestamp(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (stamp, rest) = bytes.split_at_checked(TIMESTAMP)?;
    let rest = rest.strip_prefix(b" ")?;
    let (month, time) = stamp.split_at_checked(3)?;
    let as_written = time.iter().zip(b" 00 00:00:00").enumerate().all(|(at, (byte, form))| match form {
        // The day of the month has a space in front where it has one digit.
        b'0' => byte.is_ascii_digit() || (at == 1 && *byte == b' '),
        _ => byte == form,
    });
    (MONTHS.contains(&month) && as_written).then_some((stamp, rest))
}

/// Splits host and tag off. A word that is followed by no tag is a host only where a timestamp says that a head is there;
/// else it is the first of the text.
fn writer(bytes: &[u8], form: Form) -> (Writer<'_>, &[u8]) {
    if let Some((app, process, text)) = tag(bytes) {
        return (Writer { host: None, app: Some(app), process }, text);
    }
    let host = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_:".contains(byte);
    let length = bytes.iter().take(MAX_HOST + 1).take_while(|byte| host(byte)).count();
    let named =
        bytes.split_at_checked(length).and_then(|(name, rest)| Some((name, rest.strip_prefix(b" ")?)));
    match named.filter(|(name, _)| !name.is_empty()) {
        None => (Writer::default(), bytes),
        Some((name, rest)) => match tag(rest) {
            Some((app, process, text)) => (Writer { host: Some(name), app: Some(app), process }, text),
            None if form == Form::Rfc3164 => (Writer { host: Some(name), ..Writer::default() }, rest),
            None => (Writer::default(), bytes),
        },
    }
}

type Tag<'a> = (&'a [u8], Option<&'a [u8]>, &'a [u8]);

/// `app:` or `app[process]:`, and the text after it.
fn tag(bytes: &[u8]) -> Option<Tag<'_>> {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"._/-+".contains(byte);
    let length = bytes.iter().take(MAX_APP + 1).take_while(|byte| allowed(byte)).count();
    if !(1..=MAX_APP).contains(&length) {
        return None;
    }
    let (app, rest) = bytes.split_at_checked(length)?;
    let (process, rest) = match rest.strip_prefix(b"[") {
        None => (None, rest),
        Some(inner) => {
            let graphic = |byte: &u8| byte.is_ascii_graphic() && *byte != b']';
            let length = inner.iter().take(MAX_PROCESS + 1).take_while(|byte| graphic(byte)).count();
            let (process, rest) = inner.split_at_checked(length)?;
            (Some(process), rest.strip_prefix(b"]")?)
        }
    };
    let text = rest.strip_prefix(b":")?;
    let text = match text.split_first() {
        None => text,
        Some((b' ', text)) => text,
        // An address or a time, not a tag.
        Some(_) => return None,
    };
    Some((app, process.filter(|process| (1..=MAX_PROCESS).contains(&process.len())), text))
}

#[cfg(test)]
mod tests {
    use crate::{Form, Message};

    /// Form, host, program, process, text.
    type Row<'a> = (&'a str, (Form, Option<&'a str>, Option<&'a str>, Option<&'a str>, &'a str));

    #[test]
    fn heads_are_read_as_their_senders_write_them() {
        let rows: [Row<'_>; 13] = [
            // The examples of RFC 3164 section 5.4.
            (
                "<34>Oct 11 22:14:15 mymachine su: 'su root' failed for lonvick on /dev/pts/8",
                (
                    Form::Rfc3164,
                    Some("mymachine"),
                    Some("su"),
                    None,
                    "'su root' failed for lonvick on /dev/pts/8",
                ),
            ),
            ("Use the BFG!", (Form::Bare, None, None, None, "Use the BFG!")),
            (
                "<165>Aug 24 05:34:00 10.1.2.3 myproc[10]: %% It's time",
                (Form::Rfc3164, Some("10.1.2.3"), Some("myproc"), Some("10"), "%% It's time"),
            ),
            // busybox's syslogd sends what it got from the program, without a host.
            ("<13>Nov  7 01:02:03 root: hello", (Form::Rfc3164, None, Some("root"), None, "hello")),
            (
                "<13>Nov  7 01:02:03 m1 hello: there",
                (Form::Rfc3164, Some("m1"), Some("hello"), None, "there"),
            ),
            ("<13>Nov  7 01:02:03 m1 hello there", (Form::Rfc3164, Some("m1"), None, None, "hello there")),
            // iPXE has a name where DHCP gave it one, and never a timestamp.
            ("<14>ipxe: net0: 52:54:00", (Form::Bare, None, Some("ipxe"), None, "net0: 52:54:00")),
            ("<14>m1.lab ipxe: ok", (Form::Bare, Some("m1.lab"), Some("ipxe"), None, "ok")),
            ("<6>usb 1-1: new device", (Form::Bare, None, Some("kernel"), None, "usb 1-1: new device")),
            ("<30>12:30 is a time", (Form::Bare, None, None, None, "12:30 is a time")),
            ("<30>Nov 31 1:02:03 m1 x", (Form::Bare, None, None, None, "Nov 31 1:02:03 m1 x")),
            ("<30>app[]: x", (Form::Bare, None, Some("app"), None, "x")),
            ("<30>app[1 x", (Form::Bare, None, None, None, "app[1 x")),
        ];
        for (bytes, expected) in rows {
            let message = Message::parse(bytes.as_bytes());
            let Message { form, host, app, process, text, .. } = &message;
            let found = (*form, host.as_deref(), app.as_deref(), process.as_deref(), text.as_str());
            assert_eq!(found, expected, "{bytes}");
        }
    }
}
