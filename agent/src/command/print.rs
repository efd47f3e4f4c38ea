//! How answers are printed: aligned tables and lines for people, one object a line for programs. Colour only on terminals.

use std::io::{self, IsTerminal as _, Write as _};

use comfy_table::{Attribute, Cell, CellAlignment, Color, Table, presets};
use serde::Serialize;
use vedette_protocol::record::{Contribution, ScoredBy};

/// Where a command prints.
#[derive(Debug)]
pub(super) struct Out {
    json: bool,
    colour: bool,
}

impl Out {
    pub(super) fn new(json: bool) -> Self {
        let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        Self { json, colour }
    }

    /// Whether programs read this.
    pub(super) fn json(&self) -> bool {
        self.json
    }

    /// One line.
    pub(super) fn line(&self, text: &str) -> io::Result<()> {
        writeln!(io::stdout().lock(), "{text}")
    }

    /// One object on a line.
    pub(super) fn object(&self, object: &impl Serialize) -> io::Result<()> {
        self.line(&serde_json::to_string(object)?)
    }

    /// A table without frames; nothing for no rows.
    pub(super) fn table(&self, header: &[&str], rows: Vec<Vec<Cell>>) -> io::Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(header.iter().map(|h| self.title(h)).collect::<Vec<Cell>>());
        if !self.colour {
            table.force_no_tty();
        }
        let numeric = |column: usize| {
            rows.iter().all(|row| row.get(column).is_some_and(|cell| cell.content().parse::<f64>().is_ok()))
        };
        let numeric: Vec<bool> = (0..header.len()).map(numeric).collect();
        table.add_rows(rows);
        for (column, numeric) in table.column_iter_mut().zip(numeric) {
            column.set_padding((0, 2));
            if numeric {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        self.line(&table.trim_fmt())
    }

    /// Name and value, one pair a line, aligned.
    pub(super) fn pairs(&self, pairs: &[(&str, String)]) -> io::Result<()> {
        let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, value) in pairs {
            self.line(&format!("{name:width$}  {value}"))?;
        }
        Ok(())
    }

    fn title(&self, text: &str) -> Cell {
        if self.colour { Cell::new(text).add_attribute(Attribute::Bold) } else { Cell::new(text) }
    }

    /// Something that somebody should look at.
    pub(super) fn loud(&self, text: &str) -> Cell {
        if self.colour { Cell::new(text).fg(Color::Red) } else { Cell::new(text) }
    }
}

/// A share below this says nothing to people; the largest is named in any case.
const SHARE_NAMED_MIN: f32 = 0.01;

/// `mem_u_e 71 %, mem_u 20 %`: the first few signals with their shares.
pub(super) fn top(top: &[Contribution], signals_max: usize) -> String {
    let one = |c: &Contribution| format!("{} {:.0} %", c.signal, 100.0 * c.share.get());
    let worth = |(place, c): &(usize, &Contribution)| *place == 0 || c.share.get() >= SHARE_NAMED_MIN;
    top.iter().enumerate().filter(worth).take(signals_max).map(|(_, c)| one(c)).collect::<Vec<String>>().join(", ")
}

/// `server-pca@2`, or `baseline 1`.
pub(super) fn scorer(by: &ScoredBy) -> String {
    by.to_string()
}

/// A time without its milliseconds' zeros, with a space: `2026-09-05 05:02:00Z`.
pub(super) fn time(rfc3339: &str) -> String {
    rfc3339.replace('T', " ").replace(".000Z", "Z")
}

/// A time to the second, for tables: `2026-09-05 05:02:00Z`.
pub(super) fn second(rfc3339: &str) -> String {
    let whole = rfc3339.split_once('.').map_or_else(|| rfc3339.to_owned(), |(whole, _)| format!("{whole}Z"));
    time(&whole)
}

/// Bytes as people read them: `17.7 MiB`.
pub(super) fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// The lower-case word that JSON has for an enum.
pub(super) fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word.replace('_', " "),
        Ok(other) => other.to_string(),
        Err(error) => error.to_string(),
    }
}
