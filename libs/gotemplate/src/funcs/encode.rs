// SPDX-License-Identifier: Apache-2.0
//! Encodings, JSON and digests.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gotmpl::Value;
use sha2::Digest as _;

use super::args::{at, str_at};
use super::{Outcome, Row};
use crate::data;

pub(super) const ROWS: &[Row] = &[
    ("adler32sum", 1, 1, |a| Ok(data::string(adler32(str_at(a, 0)?.as_bytes()).to_string()))),
    ("b32dec", 1, 1, b32dec),
    ("b32enc", 1, 1, |a| Ok(data::string(b32enc(str_at(a, 0)?.as_bytes())))),
    ("b64dec", 1, 1, b64dec),
    ("b64enc", 1, 1, |a| Ok(data::string(STANDARD.encode(str_at(a, 0)?)))),
    ("fromJson", 1, 1, |a| Ok(from_json(str_at(a, 0)?).unwrap_or(Value::Nil))),
    ("mustFromJson", 1, 1, |a| from_json(str_at(a, 0)?)),
    ("mustToJson", 1, 1, |a| json(at(a, 0)).map(|s| data::string(escape_html(&s)))),
    ("mustToPrettyJson", 1, 1, |a| pretty(at(a, 0)).map(|s| data::string(escape_html(&s)))),
    ("mustToRawJson", 1, 1, |a| json(at(a, 0)).map(data::string)),
    ("sha1sum", 1, 1, |a| Ok(data::string(hex::encode(sha1::Sha1::digest(str_at(a, 0)?))))),
    ("sha256sum", 1, 1, |a| Ok(data::string(hex::encode(sha2::Sha256::digest(str_at(a, 0)?))))),
    ("sha512sum", 1, 1, |a| Ok(data::string(hex::encode(sha2::Sha512::digest(str_at(a, 0)?))))),
    ("toJson", 1, 1, |a| Ok(data::string(json(at(a, 0)).map(|s| escape_html(&s)).unwrap_or_default()))),
    ("toPrettyJson", 1, 1, |a| {
        Ok(data::string(pretty(at(a, 0)).map(|s| escape_html(&s)).unwrap_or_default()))
    }),
    ("toRawJson", 1, 1, |a| json(at(a, 0)).map(data::string)),
];

fn from_json(text: &str) -> Outcome {
    serde_json::from_str(text).map(|json| data::from_json_floats(&json)).map_err(|e| e.to_string())
}

fn json(value: &Value) -> Result<String, String> {
    serde_json::to_string(&data::to_json(value)?).map_err(|e| e.to_string())
}

fn pretty(value: &Value) -> Result<String, String> {
    serde_json::to_string_pretty(&data::to_json(value)?).map_err(|e| e.to_string())
}

/// `encoding/json` escapes what could end a script element.
fn escape_html(json: &str) -> String {
    json.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e")
}

/// sprig gives the error text as the result; so a template sees it where it prints it.
fn b64dec(args: &[Value]) -> Outcome {
    Ok(data::string(match STANDARD.decode(str_at(args, 0)?) {
        Ok(bytes) => String::from_utf8(bytes).map_err(|_| "the decoded bytes are not text".to_owned())?,
        Err(error) => error.to_string(),
    }))
}

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// RFC 4648, section 6, with padding.
fn b32enc(bytes: &[u8]) -> String {
    let mut out = String::new();
    for group in bytes.chunks(5) {
        let mut buffer = [0_u8; 8];
        for (slot, byte) in buffer.iter_mut().skip(3).zip(group) {
            *slot = *byte;
        }
        let bits = u64::from_be_bytes(buffer);
        let symbols = (group.len() * 8).div_ceil(5);
        for index in 0..8 {
            let value = usize::try_from(bits >> (35 - 5 * index) & 31).unwrap_or(0);
            let symbol = BASE32.get(value).copied().unwrap_or(b'=');
            out.push(if index < symbols { char::from(symbol) } else { '=' });
        }
    }
    out
}

fn b32dec(args: &[Value]) -> Outcome {
    let mut bits: u64 = 0;
    let mut held = 0;
    let mut bytes = Vec::new();
    for symbol in str_at(args, 0)?.trim_end_matches('=').bytes() {
        let Some(value) = BASE32.iter().position(|known| *known == symbol) else {
            return Ok(data::string("illegal base32 data"));
        };
        bits = bits << 5 | u64::try_from(value).unwrap_or(0);
        held += 5;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 255).unwrap_or(0));
        }
    }
    String::from_utf8(bytes).map(data::string).map_err(|_| "the decoded bytes are not text".to_owned())
}

/// RFC 1950, section 8.2.
fn adler32(bytes: &[u8]) -> u32 {
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in bytes {
        a = (a + u32::from(*byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    b << 16 | a
}
