//! Columns that line up.

use std::fmt;

/// Which way a column's cells stand.
#[derive(Clone, Copy)]
enum Side {
    Left,
    Right,
}

/// A column's heading.
#[derive(Clone, Copy)]
pub(super) struct Column {
    heading: &'static str,
    side: Side,
}

/// A column of text.
pub(super) fn left(heading: &'static str) -> Column {
    Column { heading, side: Side::Left }
}

/// A column of numbers.
pub(super) fn right(heading: &'static str) -> Column {
    Column { heading, side: Side::Right }
}

/// Rows under headings. Widths are counted in characters.
pub(super) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(columns: &[Column]) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; one cell for each column.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.columns.len());
        self.rows.push(cells.into());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |(at, column): (usize, &Column)| {
            let cells = self.rows.iter().map(|row| row[at].chars().count());
            cells.chain([column.heading.len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = self.columns.iter().enumerate().map(width).collect();
        let headings: Vec<String> = self.columns.iter().map(|column| column.heading.to_owned()).collect();
        for row in std::iter::once(&headings).chain(&self.rows) {
            let mut line = String::new();
            for ((cell, column), &width) in row.iter().zip(&self.columns).zip(&widths) {
                let padded = match column.side {
                    Side::Left => format!("{cell:<width$}  "),
                    Side::Right => format!("{cell:>width$}  "),
                };
                line += &padded;
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}
