//! Tables for people. A file or a pipe gets full values, one line for each row. A terminal gets
//! lines that fit: 80 columns, or more if it is wider.
//!
//! A value that a person must be able to copy (a label, a serial number, an address) is never
//! shortened.

use std::fmt::Write as _;

use unicode_width::UnicodeWidthStr;

/// The width of a terminal that does not have more columns.
pub const WIDTH: usize = 80;

/// Spaces between two columns.
const GAP: usize = 2;

/// The shortest form of a shortened value, with its ellipsis.
const SHORTEST: usize = 12;

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub struct TableColumn {
    heading: &'static str,
    fit: Fit,
}

/// The behavior of a column on a narrow terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    /// its values stay complete
    Whole,
    /// its values are cut, with an ellipsis
    Shortened,
    /// it is left out if all rows have the same value
    OmittedIfSame,
}

impl TableColumn {
    /// A column whose values are always complete.
    pub const fn whole(heading: &'static str) -> Self {
        Self { heading, fit: Fit::Whole }
    }

    /// A column whose values may be shortened.
    pub const fn shortened(heading: &'static str) -> Self {
        Self { heading, fit: Fit::Shortened }
    }

    /// A column that only tells rows apart.
    pub const fn omitted_if_same(heading: &'static str) -> Self {
        Self { heading, fit: Fit::OmittedIfSame }
    }
}

/// A column with its values.
struct Filled {
    heading: String,
    fit: Fit,
    cells: Vec<String>,
}

impl Filled {
    fn width(&self) -> usize {
        self.cells.iter().map(|cell| cell.width()).max().unwrap_or_default().max(self.heading.width())
    }

    /// The number of columns that it can give up.
    fn slack(&self) -> usize {
        match self.fit {
            Fit::Shortened => self.width().saturating_sub(self.heading.width().max(SHORTEST)),
            Fit::Whole | Fit::OmittedIfSame => 0,
        }
    }

    fn is_omitted(&self) -> bool {
        self.fit == Fit::OmittedIfSame && self.cells.windows(2).all(|pair| matches!(pair, [one, next] if one == next))
    }

    fn cell(&self, row: usize) -> &str {
        self.cells.get(row).map_or("", String::as_str)
    }
}

/// The table, without its last line break. Without a `width` (in columns) lines have any length.
/// Rows that do not fit even if they are shortened become paragraphs, with full values.
pub fn format_table(columns: &[TableColumn], rows: &[Vec<String>], width: Option<usize>) -> String {
    let fill = |(index, column): (usize, &TableColumn)| Filled {
        heading: column.heading.to_uppercase(),
        fit: column.fit,
        cells: rows.iter().map(|row| row.get(index).cloned().unwrap_or_default()).collect(),
    };
    let mut filled: Vec<_> = columns.iter().enumerate().map(fill).collect();
    let Some(width) = width else { return lines(&filled, rows.len()) };
    if total(&filled) > width {
        filled.retain(|column| !column.is_omitted());
    }
    while let excess @ 1.. = total(&filled).saturating_sub(width) {
        let widest = filled.iter_mut().filter(|column| column.slack() > 0).max_by_key(|column| column.width());
        let Some(column) = widest else { return paragraphs(columns, rows) };
        let target = column.width() - column.slack().min(excess);
        for cell in &mut column.cells {
            *cell = cut(cell, target);
        }
    }
    lines(&filled, rows.len())
}

fn total(columns: &[Filled]) -> usize {
    columns.iter().map(Filled::width).sum::<usize>() + GAP * columns.len().saturating_sub(1)
}

fn lines(columns: &[Filled], rows: usize) -> String {
    let line = |value: &dyn Fn(&Filled) -> String| {
        let padded = columns.iter().map(|column| {
            let value = value(column);
            let padding = column.width().saturating_sub(value.width());
            value + &" ".repeat(padding)
        });
        padded.collect::<Vec<_>>().join(&" ".repeat(GAP)).trim_end().to_owned()
    };
    let heading = line(&|column| column.heading.clone());
    let rows = (0..rows).map(|row| line(&|column| column.cell(row).to_owned()));
    std::iter::once(heading).chain(rows).collect::<Vec<_>>().join("\n")
}

/// A value that has at most so many columns, with an ellipsis if something is missing.
fn cut(value: &str, columns: usize) -> String {
    if value.width() <= columns {
        return value.to_owned();
    }
    // The width of a text is not the sum of its characters': a variation selector widens the one
    // before it.
    let ends = value.char_indices().map(|(end, _)| end);
    let prefix = ends.rev().filter_map(|end| value.get(..end)).find(|prefix| prefix.width() < columns);
    format!("{}…", prefix.unwrap_or_default().trim_end())
}

/// Each row as a paragraph, with a line for each column that has a value.
fn paragraphs(columns: &[TableColumn], rows: &[Vec<String>]) -> String {
    let width = columns.iter().map(|column| column.heading.width()).max().unwrap_or_default();
    let paragraph = |row: &Vec<String>| {
        let filled = columns.iter().zip(row).filter(|(_, cell)| !cell.is_empty());
        filled.map(|(column, cell)| line_of(column.heading, cell, width)).collect::<Vec<_>>().join("\n")
    };
    rows.iter().map(paragraph).collect::<Vec<_>>().join("\n\n")
}

/// A heading padded to `width` characters, and its value, wrapped at spaces and indented under its
/// first line.
pub fn line_of(heading: &str, cell: &str, width: usize) -> String {
    let mut text = format!("{heading:<width$} ");
    let mut at = width + 1;
    for word in cell.split(' ') {
        let length = word.chars().count();
        if at + 1 + length > WIDTH && at > width + 1 {
            let _ = write!(text, "\n{:width$} ", "");
            at = width + 1;
        }
        let _ = write!(text, " {word}");
        at += 1 + length;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [TableColumn; 4] = [
        TableColumn::whole("keyset"),
        TableColumn::whole("serial"),
        TableColumn::shortened("authority"),
        TableColumn::omitted_if_same("module"),
    ];

    fn row(cells: [&str; 4]) -> Vec<String> {
        cells.map(str::to_owned).to_vec()
    }

    #[test]
    fn a_pipe_gets_full_values_in_one_line_a_row() {
        let long = "Authority ".repeat(12);
        let text = format_table(&COLUMNS, &[row(["Schlüssel", "c9287ce204e481cd", &long, "a.so"])], None);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].starts_with("KEYSET     SERIAL            AUTHORITY  "), "{text}");
        assert!(lines[1].contains(&long) && lines[1].ends_with("a.so"), "{text}");
    }

    #[test]
    fn a_terminal_gets_short_lines_with_whole_labels_and_serial_numbers() {
        let name = "鍵".repeat(11);
        let rows = [
            row(["Grüße an alle, die das hier lesen", "c9287ce204e481cd", &"Ä".repeat(60), "a.so"]),
            row([&name, "0000000000000000", "short", "a.so"]),
        ];
        let text = format_table(&COLUMNS, &rows, Some(WIDTH));
        assert!(text.lines().all(|line| line.width() <= WIDTH), "{text}");
        assert!(text.contains("Grüße an alle, die das hier lesen  c9287ce204e481cd  ÄÄÄ"), "{text}");
        assert!(text.contains("Ä…") && !text.contains("MODULE"), "{text}");
        // Wide characters take two columns.
        assert!(text.contains(&format!("{name}{}0000000000000000", " ".repeat(33 - 22 + 2))), "{text}");
        // A wider terminal shows all of it.
        let wide = format_table(&COLUMNS, &rows, Some(200));
        assert!(wide.contains(&"Ä".repeat(60)) && wide.contains("MODULE"), "{wide}");
    }

    #[test]
    fn columns_that_tell_rows_apart_stay() {
        let authority = "A".repeat(60);
        let rows = [
            row(["one", "c9287ce204e481cd", &authority, "a.so"]),
            row(["one", "c9287ce204e481cd", &authority, "b.so"]),
        ];
        let text = format_table(&COLUMNS, &rows, Some(WIDTH));
        assert!(text.contains("…  a.so\n") && text.ends_with("…  b.so"), "{text}");
    }

    #[test]
    fn rows_that_cannot_be_shortened_are_paragraphs() {
        let long = "word ".repeat(30).trim().to_owned();
        let rows = [row([&long, "serial", "", "a.so"]), row([&long, "serial", "", "b.so"])];
        let text = format_table(&COLUMNS, &rows, Some(WIDTH));
        assert!(text.lines().all(|line| line.width() <= WIDTH), "{text}");
        assert_eq!(text.matches("serial     serial").count(), 2, "{text}");
        assert!(!text.contains("authority"), "{text}");
        assert_eq!(text.split_whitespace().filter(|word| *word == "word").count(), 60);
    }

    #[test]
    fn a_cut_value_has_no_half_of_a_wide_character() {
        assert_eq!(cut("short", 12), "short");
        assert_eq!(cut("a longer value", 12), "a longer va…");
        assert_eq!(cut("鍵鍵鍵鍵鍵鍵鍵", 12), "鍵鍵鍵鍵鍵…");
        assert_eq!(cut("twelve and more", 7), "twelve…");
        // Base character and variation selector are two columns together.
        let hearts = "\u{2764}\u{fe0f}".repeat(12);
        assert!((6..=12).all(|columns| cut(&hearts, columns).width() <= columns));
        let text = format_table(&COLUMNS, &[row(["k", "s", &hearts.repeat(5), "a.so"])], Some(WIDTH));
        assert!(text.lines().all(|line| line.width() <= WIDTH) && text.contains('…'), "{text}");
    }
}
