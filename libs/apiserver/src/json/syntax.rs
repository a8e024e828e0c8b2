// SPDX-License-Identifier: Apache-2.0

//! What is wrong with a text that is no JSON, in the words of Go's decoder: people search for them. Pure; called where parsing has failed.

use std::fmt;

/// Nesting that is followed; Go's own bound is 10,000, our parser's is lower than this.
const MAX_DEPTH: usize = 512;

/// The first thing that is wrong.
#[derive(Debug, PartialEq, Eq)]
enum Problem {
    End,
    Depth,
    Letter(u8, &'static str),
    /// Inside `true`, `false` or `null`: the word, and the letter that is missing.
    Word(u8, &'static str, char),
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::End => out.write_str("unexpected end of JSON input"),
            Self::Depth => out.write_str("exceeded max depth"),
            Self::Letter(byte, place) => write!(out, "invalid character {} {place}", shown(*byte)),
            Self::Word(byte, word, missing) => {
                write!(out, "invalid character {} in literal {word} (expecting '{missing}')", shown(*byte))
            }
        }
    }
}

/// A byte as Go quotes it.
fn shown(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        b'\\' => r"'\\'".to_owned(),
        b'\n' => r"'\n'".to_owned(),
        b'\t' => r"'\t'".to_owned(),
        b'\r' => r"'\r'".to_owned(),
        0..0x20 | 0x7f => format!("'\\x{byte:02x}'"),
        0x80..0xa0 | 0xad => format!("'\\u{byte:04x}'"),
        _ => format!("'{}'", char::from(byte)),
    }
}

/// What is wrong; `None` for good JSON.
pub(crate) fn problem(text: &[u8]) -> Option<String> {
    Scanner { rest: text }.document().err().map(|problem| problem.to_string())
}

struct Scanner<'a> {
    rest: &'a [u8],
}

type Scanned = Result<(), Problem>;

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn skip(&mut self) {
        self.rest = self.rest.get(1..).unwrap_or_default();
    }

    /// The next byte that is no space.
    fn solid(&mut self) -> Result<u8, Problem> {
        while self.peek().is_some_and(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')) {
            self.skip();
        }
        self.peek().ok_or(Problem::End)
    }

    fn document(&mut self) -> Scanned {
        self.value(0)?;
        match self.solid() {
            Err(_) => Ok(()),
            Ok(byte) => Err(Problem::Letter(byte, "after top-level value")),
        }
    }

    fn value(&mut self, depth: usize) -> Scanned {
        if depth > MAX_DEPTH {
            return Err(Problem::Depth);
        }
        match self.solid()? {
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => self.string(),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            byte => Err(Problem::Letter(byte, "looking for beginning of value")),
        }
    }

    fn object(&mut self, depth: usize) -> Scanned {
        self.skip();
        if self.solid()? == b'}' {
            self.skip();
            return Ok(());
        }
        loop {
            match self.solid()? {
                b'"' => self.string()?,
                byte => return Err(Problem::Letter(byte, "looking for beginning of object key string")),
            }
            match self.solid()? {
                b':' => self.skip(),
                byte => return Err(Problem::Letter(byte, "after object key")),
            }
            self.value(depth + 1)?;
            match self.solid()? {
                b',' => self.skip(),
                b'}' => {
                    self.skip();
                    return Ok(());
                }
                byte => return Err(Problem::Letter(byte, "after object key:value pair")),
            }
        }
    }

    fn array(&mut self, depth: usize) -> Scanned {
        self.skip();
        if self.solid()? == b']' {
            self.skip();
            return Ok(());
        }
        loop {
            self.value(depth + 1)?;
            match self.solid()? {
                b',' => self.skip(),
                b']' => {
                    self.skip();
                    return Ok(());
                }
                byte => return Err(Problem::Letter(byte, "after array element")),
            }
        }
    }

    fn string(&mut self) -> Scanned {
        self.skip();
        loop {
            let byte = self.peek().ok_or(Problem::End)?;
            self.skip();
            match byte {
                b'"' => return Ok(()),
                b'\\' => {
                    let escaped = self.peek().ok_or(Problem::End)?;
                    self.skip();
                    match escaped {
                        b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => {}
                        b'u' => self.hex()?,
                        byte => return Err(Problem::Letter(byte, "in string escape code")),
                    }
                }
                0..0x20 => return Err(Problem::Letter(byte, "in string literal")),
                _ => {}
            }
        }
    }

    fn hex(&mut self) -> Scanned {
        for _ in 0..4 {
            match self.peek().ok_or(Problem::End)? {
                byte if byte.is_ascii_hexdigit() => self.skip(),
                byte => return Err(Problem::Letter(byte, "in \\u hexadecimal character escape")),
            }
        }
        Ok(())
    }

    fn digits(&mut self, place: &'static str) -> Scanned {
        match self.peek().ok_or(Problem::End)? {
            b'0'..=b'9' => {}
            byte => return Err(Problem::Letter(byte, place)),
        }
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.skip();
        }
        Ok(())
    }

    fn number(&mut self) -> Scanned {
        if self.peek() == Some(b'-') {
            self.skip();
        }
        match self.peek() {
            Some(b'0') => self.skip(),
            _ => self.digits("in numeric literal")?,
        }
        if self.peek() == Some(b'.') {
            self.skip();
            self.digits("after decimal point in numeric literal")?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.skip();
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.skip();
            }
            self.digits("in exponent of numeric literal")?;
        }
        Ok(())
    }

    fn word(&mut self, word: &'static str) -> Scanned {
        self.skip();
        for wanted in word.chars().skip(1) {
            match self.peek().ok_or(Problem::End)? {
                byte if char::from(byte) == wanted => self.skip(),
                byte => return Err(Problem::Word(byte, word, wanted)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_as_go_tells_it() {
        for (text, told) in [
            ("{\"a", "unexpected end of JSON input"),
            ("", "unexpected end of JSON input"),
            ("{} x", "invalid character 'x' after top-level value"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("{a", "invalid character 'a' looking for beginning of object key string"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\":1 \"b\"}", "invalid character '\"' after object key:value pair"),
            ("[1 2]", "invalid character '2' after array element"),
            ("nul!", "invalid character '!' in literal null (expecting 'l')"),
            ("-x", "invalid character 'x' in numeric literal"),
            ("\u{81}", "invalid character 'Â' looking for beginning of value"),
        ] {
            assert_eq!(problem(text.as_bytes()).as_deref(), Some(told), "{text}");
        }
        assert_eq!(
            problem(b"\x81").as_deref(),
            Some("invalid character '\\u0081' looking for beginning of value")
        );
        assert_eq!(problem(b" {\"a\": [1.5e3, true, null, \"\\u00e4\"]} "), None);
    }

    proptest::proptest! {
        #[test]
        fn what_serde_reads_has_no_problem(text in "[\\[\\]{}\",:0-9a-c.\\-\\\\ ]{0,40}") {
            let reads = serde_json::from_str::<serde_json::Value>(&text).is_ok();
            proptest::prop_assert_eq!(problem(text.as_bytes()).is_none(), reads, "{}", text);
        }
    }
}
