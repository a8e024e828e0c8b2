// SPDX-License-Identifier: Apache-2.0
//! Log messages: every datagram is one, each of its texts is bounded and safe to print.

#![no_main]

use libfuzzer_sys::fuzz_target;
use syslog::{Form, MAX_TEXT, Message};

fuzz_target!(|data: &[u8]| {
    let message = Message::parse(data);
    let Message { form, timestamp, host, app, process, id, data: structured, text, .. } = &message;
    assert!(text.len() <= MAX_TEXT);
    for field in [timestamp, host, app, process, id].into_iter().flatten() {
        assert!(!field.is_empty() && field.len() <= 255, "{field:?}");
        assert!(field.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '), "{field:?}");
    }
    let all = text.chars().chain(structured.iter().flat_map(|data| data.chars()));
    assert!(!all.into_iter().any(char::is_control));
    // Written out in the form of RFC 5424 it says the same again.
    if *form == Form::Rfc5424 {
        let field = |field: &Option<String>| field.clone().unwrap_or_else(|| "-".to_owned());
        let head = [timestamp, host, app, process, id].map(field).join(" ");
        let head = format!("<14>1 {head} {}", field(structured));
        let again = Message::parse(format!("{head} {text}").as_bytes());
        assert_eq!((again.form, &again.host, &again.app, &again.id), (Form::Rfc5424, host, app, id));
        assert_eq!(&again.data, structured);
    }
});
