// SPDX-License-Identifier: Apache-2.0
//! Structured data of RFC 5424 section 6.3: where it ends. Its content is kept as it is.

/// Longest name of an element or of a parameter, in bytes.
const MAX_NAME: usize = 32;

/// Splits after the structured data (`-`, or elements without a space between them); nothing when it breaks its rules.
pub(crate) fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    if bytes.first() == Some(&b'-') {
        return bytes.split_at_checked(1);
    }
    let mut rest = element(bytes)?;
    while rest.first() == Some(&b'[') {
        rest = element(rest)?;
    }
    bytes.split_at_checked(bytes.len() - rest.len())
}

/// What follows one `[id name="value" ...]`.
fn element(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = name(bytes.strip_prefix(b"[")?)?;
    loop {
        match rest.split_first()? {
            (b']', after) => return Some(after),
            (b' ', after) => rest = value(name(after)?.strip_prefix(b"=\"")?)?,
            _ => return None,
        }
    }
}

/// What follows a name: printable US-ASCII without `=`, `]`, `"` and space.
fn name(bytes: &[u8]) -> Option<&[u8]> {
    let allowed = |byte: &u8| byte.is_ascii_graphic() && !b"=]\"".contains(byte);
    let length = bytes.iter().take(MAX_NAME + 1).take_while(|byte| allowed(byte)).count();
    (1..=MAX_NAME).contains(&length).then(|| bytes.get(length..)).flatten()
}

/// What follows a value and its closing quote; a backslash keeps the next character from ending it.
fn value(bytes: &[u8]) -> Option<&[u8]> {
    let mut escaped = false;
    let end = bytes.iter().position(|byte| {
        let ends = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    })?;
    bytes.get(end + 1..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_ends_where_the_rfc_says() {
        for (text, length) in [
            ("- text", Some(1)),
            ("[a]", Some(3)),
            ("[a][b x=\"1\"] text", Some(12)),
            ("[a] [b] text", Some(3)),
            (r#"[a x="\"]\\"] text"#, Some(13)),
            (r#"[a x="\"] text"#, None),
            ("[]", None),
            ("[a x=1]", None),
            ("[a  x=\"1\"]", None),
            ("[a", None),
            ("text", None),
            ("", None),
        ] {
            assert_eq!(split(text.as_bytes()).map(|(data, _)| data.len()), length, "{text}");
        }
        assert!(split(format!("[{}]", "n".repeat(MAX_NAME)).as_bytes()).is_some());
        assert!(split(format!("[{}]", "n".repeat(MAX_NAME + 1)).as_bytes()).is_none());
    }
}
