// SPDX-License-Identifier: Apache-2.0

//! Comma-separated values (RFC 4180) with the line of every record.
//!
//! Owns the syntax: quotes, doubled quotes, line breaks inside quotes, CRLF, a byte order mark, comment lines (`#`) and empty
//! lines. Pure; a mistake in one record hides no other.

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// The line it begins on, from 1.
    pub line: u64,
    /// Its cells, without blanks around them unless quoted.
    pub cells: Vec<String>,
}

/// A mistake in the syntax.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Broken {
    /// The line of the record.
    pub line: u64,
    /// What is wrong.
    pub what: &'static str,
}

/// All records, and those that are none.
pub(super) fn records(text: &str) -> Vec<Result<Record, Broken>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut scanner = Scanner { rest: text, line: 1 };
    let mut all = Vec::new();
    while !scanner.rest.is_empty() {
        let (start, blank) = (scanner.line, scanner.at_blank_line());
        if blank {
            scanner.skip_line();
            continue;
        }
        let record = scanner.record().map(|cells| Record { line: start, cells });
        all.push(record.map_err(|what| {
            scanner.skip_line();
            Broken { line: start, what }
        }));
    }
    all
}

struct Scanner<'a> {
    rest: &'a str,
    line: u64,
}

impl Scanner<'_> {
    fn at_blank_line(&self) -> bool {
        let line = self.rest.lines().next().unwrap_or_default().trim();
        line.is_empty() || line.starts_with('#')
    }

    fn skip_line(&mut self) {
        while let Some(character) = self.next() {
            if character == '\n' {
                break;
            }
        }
    }

    fn next(&mut self) -> Option<char> {
        let character = self.rest.chars().next()?;
        self.rest = self.rest.get(character.len_utf8()..).unwrap_or_default();
        self.line += u64::from(character == '\n');
        Some(character)
    }

    fn skip_blanks(&mut self) {
        while self.rest.starts_with([' ', '\t', '\r']) {
            self.next();
        }
    }

    fn record(&mut self) -> Result<Vec<String>, &'static str> {
        let mut cells = Vec::new();
        loop {
            cells.push(self.cell()?);
            match self.next() {
                Some(',') => {}
                None | Some('\n') => return Ok(cells),
                Some(_) => return Err("there is text after a closing quote"),
            }
        }
    }

    /// Reads up to the comma or line break that ends the cell, without it.
    fn cell(&mut self) -> Result<String, &'static str> {
        self.skip_blanks();
        if !self.rest.starts_with('"') {
            let end = self.rest.find([',', '\n']).unwrap_or(self.rest.len());
            let (cell, rest) = self.rest.split_at(end);
            self.rest = rest;
            return Ok(cell.trim().to_owned());
        }
        let (before, line) = (self.rest, self.line);
        self.next();
        let mut cell = String::new();
        loop {
            match self.next() {
                Some('"') if self.rest.starts_with('"') => {
                    self.next();
                    cell.push('"');
                }
                Some('"') => break,
                Some(character) => cell.push(character),
                None => {
                    // The rest of the file is not lost to one forgotten quote.
                    (self.rest, self.line) = (before, line);
                    return Err("a quote is opened and never closed");
                }
            }
        }
        self.skip_blanks();
        Ok(cell)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cells(text: &str) -> Vec<(u64, Vec<String>)> {
        records(text).into_iter().map(|record| record.unwrap()).map(|r| (r.line, r.cells)).collect()
    }

    #[test]
    fn all_that_spreadsheets_write_is_read() {
        let text = "\u{feff}a, b ,c\r\n\r\n# note, with comma\r\n\"x,1\",\"say \"\"hi\"\"\",\"two\nlines\"\r\n ,,\n1,2,3";
        assert_eq!(
            cells(text),
            [
                (1, vec!["a".into(), "b".into(), "c".into()]),
                (4, vec!["x,1".into(), "say \"hi\"".into(), "two\nlines".into()]),
                (6, vec![String::new(), String::new(), String::new()]),
                (7, vec!["1".into(), "2".into(), "3".into()]),
            ]
        );
    }

    #[test]
    fn a_broken_record_hides_no_other() {
        let read = records("a\n\"x\" y,1\nb\n\"open\nc\n");
        let lines: Vec<_> = read
            .iter()
            .map(|one| match one {
                Ok(record) => (record.line, true),
                Err(broken) => (broken.line, false),
            })
            .collect();
        assert_eq!(lines, [(1, true), (2, false), (3, true), (4, false), (5, true)]);
    }

    proptest! {
        #[test]
        fn what_is_quoted_is_read_back(rows in prop::collection::vec(prop::collection::vec("[ -~\n\u{e4}]{0,12}", 1..5), 1..6)) {
            let quoted: Vec<String> = rows
                .iter()
                .map(|row| row.iter().map(|cell| format!("\"{}\"", cell.replace('"', "\"\""))).collect::<Vec<_>>().join(","))
                .collect();
            let read: Vec<_> = cells(&quoted.join("\r\n")).into_iter().map(|(_, cells)| cells).collect();
            prop_assert_eq!(read, rows);
        }

        #[test]
        fn lines_only_grow_and_nothing_panics(text in "[a,\"\n# \r]{0,60}") {
            let lines: Vec<_> = records(&text).into_iter().map(|one| one.map_or_else(|broken| broken.line, |record| record.line)).collect();
            prop_assert!(lines.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", lines);
        }
    }
}
