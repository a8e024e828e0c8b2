// SPDX-License-Identifier: Apache-2.0

//! Columns of text, as listings have them.

/// Space between two columns.
const GAP: usize = 3;

/// Widest cell but in the last column; what is longer moves only its own line.
const MAX_WIDTH: usize = 48;

/// Headings and rows of a listing.
#[derive(Debug)]
pub(crate) struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
    widths: Vec<usize>,
}

impl Table {
    pub(crate) fn new(headings: Vec<String>) -> Self {
        let widths = headings.iter().map(|heading| heading.chars().count()).collect();
        Self { headings, rows: Vec::new(), widths }
    }

    pub(crate) fn push(&mut self, row: Vec<String>) {
        for (width, cell) in self.widths.iter_mut().zip(&row) {
            *width = (*width).max(cell.chars().count().min(MAX_WIDTH));
        }
        self.rows.push(row);
    }

    /// One row in the columns of what was pushed so far, without a line break: for rows that come later.
    pub(crate) fn line(&self, row: &[String]) -> String {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&self.widths) {
            let cell = if cell.is_empty() { "-" } else { cell };
            line.push_str(cell);
            line.push_str(&" ".repeat(GAP + width.saturating_sub(cell.chars().count())));
        }
        line.trim_end().to_owned()
    }

    /// Headings in capitals, then all rows, each with a line break.
    pub(crate) fn render(&self) -> String {
        let headings: Vec<_> = self.headings.iter().map(|heading| heading.to_uppercase()).collect();
        let mut text = self.line(&headings) + "\n";
        for row in &self.rows {
            text += &self.line(row);
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_empty_cells_are_seen() {
        let mut table = Table::new(vec!["Name".into(), "State".into(), "Age".into()]);
        table.push(vec!["machine-1".into(), String::new(), "5s".into()]);
        table.push(vec!["m2".into(), "RUNNING".into(), "1d".into()]);
        assert_eq!(
            table.render(),
            "NAME        STATE     AGE\nmachine-1   -         5s\nm2          RUNNING   1d\n"
        );
    }
}
