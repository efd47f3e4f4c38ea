//! What people see: aligned tables, or one JSON object a line; colour on terminals only.

use std::io::{IsTerminal as _, Write as _};

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, presets};
use serde::Serialize;
use vedette_protocol::id::Digest;

use super::fault::Fault;

/// For whom a command prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Aligned text.
    Text,
    /// One JSON object a line.
    Json,
}

/// Whether text carries colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Plain text.
    No,
    /// ANSI colour.
    Yes,
}

impl Colour {
    /// Only when standard output is a terminal and `NO_COLOR` is unset or empty.
    #[must_use]
    pub fn detect() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        if wanted && std::io::stdout().is_terminal() { Self::Yes } else { Self::No }
    }
}

/// How a cell is meant; without colour they all look alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Nothing special.
    Plain,
    /// As it should be.
    Good,
    /// Somebody should look.
    Bad,
}

/// A column's title and side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// Words, to the left.
    Text(&'static str),
    /// Numbers, to the right.
    Number(&'static str),
}

/// A table to be: rows of text with tones.
#[derive(Clone, Debug)]
pub struct Sheet {
    columns: Vec<Column>,
    rows: Vec<Vec<(String, Tone)>>,
}

impl Sheet {
    /// An empty table with these columns.
    #[must_use]
    pub fn new(columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row of plain cells.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into_iter().map(|cell| (cell, Tone::Plain)).collect());
    }

    /// Adds a row whose cells have tones.
    pub fn toned<const N: usize>(&mut self, cells: [(String, Tone); N]) {
        self.rows.push(cells.into());
    }

    /// The text, one line a row, without trailing blanks; `nothing` when there is no row.
    #[must_use]
    pub fn render(&self, colour: Colour, nothing: &str) -> String {
        if self.rows.is_empty() {
            return format!("{nothing}\n");
        }
        let mut table = Table::new();
        // Lines are never wrapped: what is piped or copied stays whole, and a terminal wraps by itself.
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        if colour == Colour::Yes {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table.set_header(self.columns.iter().map(|column| title(*column, colour)));
        for row in &self.rows {
            table.add_row(
                row.iter().zip(&self.columns).map(|((text, tone), column)| cell(text, *tone, *column, colour)),
            );
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        table.lines().fold(String::new(), |text, line| text + line.trim_end() + "\n")
    }
}

fn title(column: Column, colour: Colour) -> Cell {
    let (Column::Text(text) | Column::Number(text)) = column;
    let cell = cell(text, Tone::Plain, column, colour);
    if colour == Colour::Yes { cell.add_attribute(Attribute::Bold) } else { cell }
}

fn cell(text: &str, tone: Tone, column: Column, colour: Colour) -> Cell {
    let cell = Cell::new(text).set_alignment(match column {
        Column::Text(_) => CellAlignment::Left,
        Column::Number(_) => CellAlignment::Right,
    });
    match (colour, tone) {
        (Colour::No, _) | (Colour::Yes, Tone::Plain) => cell,
        (Colour::Yes, Tone::Good) => cell.fg(Color::Green),
        (Colour::Yes, Tone::Bad) => cell.fg(Color::Red),
    }
}

/// A time as people read it, to the second: `2026-09-05 05:02:00Z`. `--json` has all of it.
#[must_use]
pub fn time(rfc3339: &str) -> String {
    let whole = rfc3339.split_once('.').map_or_else(|| rfc3339.to_owned(), |(whole, _)| format!("{whole}Z"));
    whole.replace('T', " ")
}

/// Bytes as people read them: `17.7 MiB`.
#[must_use]
pub fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// A digest as people tell it from others: `sha256:4ef96301697d…`. `--json` has all of it.
#[must_use]
pub fn short(digest: &Digest) -> String {
    format!("{:.19}…", digest.to_string())
}

/// Names and values under each other: `name  value`.
#[must_use]
pub fn facts(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    facts.iter().fold(String::new(), |text, (name, value)| {
        let pad = " ".repeat(width - name.chars().count());
        text + format!("{name}{pad}  {value}").trim_end() + "\n"
    })
}

/// Prints text as it is.
///
/// # Errors
/// When standard output cannot be written; quiet when its reader went away.
pub fn say(text: &str) -> Result<(), Fault> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| Fault::output(&error))
}

/// Prints one JSON object a line.
///
/// # Errors
/// As [`say`].
pub fn say_json<T: Serialize>(items: &[T]) -> Result<(), Fault> {
    let mut text = String::new();
    for item in items {
        let line =
            serde_json::to_string(item).map_err(|error| Fault::failed(format!("couldn't write JSON: {error}")))?;
        text.push_str(&line);
        text.push('\n');
    }
    say(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sheet() -> Sheet {
        let mut sheet = Sheet::new(&[Column::Text("NAME"), Column::Number("ROWS")]);
        sheet.row(["box-1".to_owned(), "7".to_owned()]);
        sheet.toned([("a-long-name".to_owned(), Tone::Bad), ("12345".to_owned(), Tone::Plain)]);
        sheet
    }

    #[test]
    fn words_stand_left_and_numbers_right() {
        assert_eq!(sheet().render(Colour::No, "none"), "NAME          ROWS\nbox-1            7\na-long-name  12345\n");
    }

    #[test]
    fn colour_comes_only_when_asked_for() {
        assert!(!sheet().render(Colour::No, "none").contains('\u{1b}'));
        assert!(sheet().render(Colour::Yes, "none").contains('\u{1b}'));
    }

    #[test]
    fn an_empty_table_says_so() {
        assert_eq!(Sheet::new(&[Column::Text("NAME")]).render(Colour::No, "no models"), "no models\n");
    }

    #[test]
    fn times_sizes_and_digests_are_short_for_people() {
        assert_eq!(time("2026-09-05T05:02:00.123Z"), "2026-09-05 05:02:00Z");
        assert_eq!(mebibytes(3 << 19), "1.5 MiB");
        assert_eq!(short(&Digest::of(b"")), "sha256:e3b0c44298fc…");
    }

    #[test]
    fn facts_are_aligned() {
        assert_eq!(
            facts(&[("kind", "score".to_owned()), ("artifact", "x".to_owned())]),
            "kind      score\nartifact  x\n"
        );
    }
}
