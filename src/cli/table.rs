//! Aligned tables for people: columns as wide as their widest cell, two spaces apart.

use std::io::{self, Write};

/// Rows of text under a head; numbers are aligned to the right.
pub struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub fn new(head: &[&'static str]) -> Table {
        Table { head: head.to_vec(), rows: Vec::new() }
    }

    /// Adds a row with one cell for each column.
    pub fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.head.len(), "a row has a cell for each column");
        self.rows.push(cells);
    }

    /// Writes head and rows; no line ends in spaces.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        let columns = 0..self.head.len();
        let width = |cell: &str| cell.chars().count();
        let widths: Vec<usize> = columns
            .clone()
            .map(|column| {
                let cells = self.rows.iter().map(|row| width(&row[column]));
                cells.chain([width(self.head[column])]).max().unwrap_or(0)
            })
            .collect();
        let numbers: Vec<bool> = columns
            .map(|column| {
                let is_number = |row: &Vec<String>| row[column].parse::<f64>().is_ok();
                !self.rows.is_empty() && self.rows.iter().all(is_number)
            })
            .collect();
        let head: Vec<String> = self.head.iter().map(|name| (*name).to_owned()).collect();
        for row in std::iter::once(&head).chain(&self.rows) {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let padding = " ".repeat(widths[column] - width(cell));
                let gap = if column == 0 { "" } else { "  " };
                line.push_str(gap);
                if numbers[column] {
                    line.push_str(&padding);
                    line.push_str(cell);
                } else {
                    line.push_str(cell);
                    line.push_str(&padding);
                }
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: columns line up, numbers to the right. Method: print and compare the text.
    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["topic", "partitions", "id"]);
        table.row(vec!["words".into(), "16".into(), "x".into()]);
        table.row(vec!["a-longer-name".into(), "1".into(), String::new()]);
        let mut out = Vec::new();
        table.print(&mut out).expect("a vector takes all");
        let expected = "topic          partitions  id\n\
                        words                  16  x\n\
                        a-longer-name           1\n";
        assert_eq!(String::from_utf8(out).expect("text"), expected);
    }
}
