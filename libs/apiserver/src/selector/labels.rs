// SPDX-License-Identifier: Apache-2.0

//! The grammar of label selectors, with kube-apiserver's words for what does not parse: clients show them to people. Pure.

use std::collections::BTreeSet;

use super::{Requirement, check_label_value, check_qualified_name};

/// A piece of a selector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    /// A key or a value.
    Word,
    /// `in` or `notin`, which are words where a word is wanted.
    Operator,
    /// Anything of the other letters: `=`, `(`, `,` and so on.
    Sign,
    /// Letters that make no sign.
    Broken,
    End,
}

type Piece = (Token, String);

const SIGNS: [&str; 9] = [")", ",", "!", "==", "=", ">", "<", "!=", "("];

fn is_sign(letter: char) -> bool {
    "=!(),><".contains(letter)
}

fn is_space(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\r' | '\n')
}

/// Splits a selector.
fn pieces(selector: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = selector.trim_start_matches(is_space);
    while let Some(first) = rest.chars().next() {
        let (token, length) = if is_sign(first) {
            let run = rest.find(|letter| !is_sign(letter)).unwrap_or(rest.len());
            // The longest sign that the letters begin with.
            let sign =
                (1..=run.min(2)).rev().find(|length| rest.get(..*length).is_some_and(|s| SIGNS.contains(&s)));
            sign.map_or((Token::Broken, run), |length| (Token::Sign, length))
        } else {
            let length = rest.find(|letter| is_sign(letter) || is_space(letter)).unwrap_or(rest.len());
            let operator = matches!(rest.get(..length), Some("in" | "notin"));
            (if operator { Token::Operator } else { Token::Word }, length)
        };
        let (text, tail) = rest.split_at(length);
        pieces.push((token, text.to_owned()));
        rest = tail.trim_start_matches(is_space);
    }
    pieces
}

struct Parser {
    pieces: Vec<Piece>,
    at: usize,
}

/// Parses a label selector.
///
/// # Errors
/// Why it does not parse.
pub(super) fn parse(selector: &str) -> Result<Vec<Requirement>, String> {
    let mut parser = Parser { pieces: pieces(selector), at: 0 };
    let mut requirements = Vec::new();
    loop {
        match parser.peek() {
            (Token::End, _) => return Ok(requirements),
            (Token::Word, _) => {}
            (Token::Sign, sign) if sign == "!" => {}
            (_, text) => return Err(format!("found '{text}', expected: !, identifier, or 'end of string'")),
        }
        let requirement =
            parser.requirement().map_err(|why| format!("unable to parse requirement: {why}"))?;
        requirements.push(requirement);
        match parser.take() {
            (Token::End, _) => return Ok(requirements),
            (_, text) if text == "," => {}
            (_, text) => return Err(format!("found '{text}', expected: ',' or 'end of string'")),
        }
        let (token, text) = parser.peek();
        if token != Token::Word && text != "!" {
            return Err(format!("found '{text}', expected: identifier after ','"));
        }
    }
}

impl Parser {
    fn raw(&self) -> Piece {
        self.pieces.get(self.at).cloned().unwrap_or((Token::End, String::new()))
    }

    /// The next piece where an operator is just a word.
    fn peek(&self) -> Piece {
        match self.raw() {
            (Token::Operator, text) => (Token::Word, text),
            other => other,
        }
    }

    fn take(&mut self) -> Piece {
        let piece = self.peek();
        self.at += 1;
        piece
    }

    fn word(&mut self) -> Result<String, String> {
        match self.take() {
            (Token::Word, text) => Ok(text),
            (_, text) => Err(format!("found '{text}', expected: identifier")),
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let absent = self.peek().1 == "!";
        if absent {
            self.at += 1;
        }
        let key = self.word()?;
        check_qualified_name(&key).map_err(|why| format!("<nil>: Invalid value: {key:?}: {why}"))?;
        if absent {
            return Ok(Requirement::Absent(key));
        }
        if matches!(self.peek(), (Token::End, _)) || self.peek().1 == "," {
            return Ok(Requirement::Exists(key));
        }
        let (_, operator) = self.raw();
        self.at += 1;
        match operator.as_str() {
            "in" => Ok(Requirement::In(key.clone(), self.set(&key)?)),
            "notin" => Ok(Requirement::NotIn(key.clone(), self.set(&key)?)),
            "=" | "==" => Ok(Requirement::In(key.clone(), BTreeSet::from([self.value(&key)?]))),
            "!=" => Ok(Requirement::NotIn(key.clone(), BTreeSet::from([self.value(&key)?]))),
            ">" => Ok(Requirement::Greater(key.clone(), self.number(&key)?)),
            "<" => Ok(Requirement::Less(key.clone(), self.number(&key)?)),
            other => Err(format!("found '{other}', expected: in, notin, =, ==, !=, gt, lt")),
        }
    }

    fn exact(&mut self) -> Result<String, String> {
        if matches!(self.peek(), (Token::End, _)) || self.peek().1 == "," {
            return Ok(String::new());
        }
        self.word()
    }

    fn value(&mut self, key: &str) -> Result<String, String> {
        let value = self.exact()?;
        check_values(key, [&value])?;
        Ok(value)
    }

    fn number(&mut self, key: &str) -> Result<i64, String> {
        let value = self.exact()?;
        let number = value.parse().map_err(|_| {
            format!(
                "values[0]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer"
            )
        })?;
        check_values(key, [&value])?;
        Ok(number)
    }

    fn set(&mut self, key: &str) -> Result<BTreeSet<String>, String> {
        match self.take().1.as_str() {
            "(" => {}
            other => return Err(format!("found '{other}' expected: '('")),
        }
        let (token, first) = self.peek();
        let values = match (token, first.as_str()) {
            (Token::Word, _) | (_, ",") => self.list(&first)?,
            (_, ")") => {
                self.at += 1;
                BTreeSet::from([String::new()])
            }
            _ => return Err(format!("found '{first}', expected: ',', ')' or identifier")),
        };
        check_values(key, &values)?;
        Ok(values)
    }

    /// The values up to the closing parenthesis; where nothing stands between two commas stands the empty value.
    fn list(&mut self, first: &str) -> Result<BTreeSet<String>, String> {
        let mut values = BTreeSet::new();
        loop {
            let (token, text) = self.take();
            let next = self.peek().1;
            match (token, text.as_str()) {
                (Token::Word, _) => {
                    values.insert(text);
                    match next.as_str() {
                        "," => continue,
                        ")" => {}
                        _ => return Err(format!("found '{next}', expected: ',' or ')'")),
                    }
                }
                (_, ",") => {
                    if values.is_empty() {
                        values.insert(String::new());
                    }
                    if next == "," {
                        self.at += 1;
                        values.insert(String::new());
                    }
                    if next != ")" {
                        continue;
                    }
                    values.insert(String::new());
                }
                _ => return Err(format!("found '{text}', expected: ',', or identifier")),
            }
            return match self.take().1.as_str() {
                ")" => Ok(values),
                _ => Err(format!("found '{first}', expected: ')'")),
            };
        }
    }
}

fn check_values<'a>(key: &str, values: impl IntoIterator<Item = &'a String>) -> Result<(), String> {
    let wrong: Vec<String> = values
        .into_iter()
        .enumerate()
        .filter_map(|(index, value)| {
            let why = check_label_value(value).err()?;
            Some(format!("values[{index}][{key}]: Invalid value: {value:?}: {why}"))
        })
        .collect();
    match wrong.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        many => Err(format!("[{}]", many.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_parse_is_told_in_the_words_of_kubernetes() {
        for (selector, told) in [
            ("a===b", "unable to parse requirement: found '=', expected: identifier"),
            ("=x", "found '=', expected: !, identifier, or 'end of string'"),
            ("tier,", "found '', expected: identifier after ','"),
            ("tier in (front", "unable to parse requirement: found '', expected: ',' or ')'"),
            ("tier=a b", "found 'b', expected: ',' or 'end of string'"),
            ("a foo (b)", "unable to parse requirement: found 'foo', expected: in, notin, =, ==, !=, gt, lt"),
            (
                "a>x",
                "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer",
            ),
            ("a in b", "unable to parse requirement: found 'b' expected: '('"),
            ("!", "unable to parse requirement: found '', expected: identifier"),
        ] {
            assert_eq!(parse(selector).unwrap_err(), told, "{selector}");
        }
        let wrong = parse("-a").unwrap_err();
        assert!(
            wrong.starts_with("unable to parse requirement: <nil>: Invalid value: \"-a\": name part must"),
            "{wrong}"
        );
        let wrong = parse("a=-b").unwrap_err();
        assert!(
            wrong.starts_with(
                "unable to parse requirement: values[0][a]: Invalid value: \"-b\": a valid label"
            ),
            "{wrong}"
        );
    }
}
