//! A table in three forms: aligned text, JSON and Markdown.

use std::fmt;

use comfy_table::{Attribute, Cell as TableCell, CellAlignment, Table, presets};
use serde_json::{Map, Value, json};

use crate::machine::Machine;

/// What a Markdown file says before its tables.
pub(crate) struct About {
    title: &'static str,
    text: &'static str,
}

/// The figures.
pub(crate) const FIGURES: About = About {
    title: "Figures",
    text: "Made by `ci/bench --markdown tests/BENCHMARKS.md`, not edited by hand. Other work on the machine shows \
        in p99 and rows/s first; the p50 and the ratios hold best.",
};

/// Which models run.
pub(crate) const MODELS: About = About {
    title: "Models",
    text: "Made by `ci/bench models --markdown tests/MODELS.md`, not edited by hand: the models of `tests/data/zoo` through the front of \
        our engines, laid beside what ONNX Runtime gives for them. The same is held by a test, `scoring/tests/promises/zoo.rs`.",
};

/// One value of a table.
#[derive(Clone, Debug)]
pub(crate) enum Cell {
    /// A word.
    Text(String),
    /// A number and the decimals to print.
    Number(f64, usize),
    /// Not measured, and why.
    Skipped(&'static str),
}

impl Cell {
    /// A word.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    fn json(&self) -> Value {
        match self {
            Self::Text(text) => json!(text),
            Self::Number(number, _) => json!(number),
            Self::Skipped(_) => Value::Null,
        }
    }

    fn alignment(&self) -> CellAlignment {
        match self {
            Self::Text(_) => CellAlignment::Left,
            Self::Number(..) | Self::Skipped(_) => CellAlignment::Right,
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number, decimals) => f.write_str(&grouped(*number, *decimals)),
            Self::Skipped(why) => f.write_str(why),
        }
    }
}

/// A number with a comma every three digits.
fn grouped(number: f64, decimals: usize) -> String {
    let text = format!("{number:.decimals$}");
    let (whole, fraction) =
        text.split_once('.').map_or((text.as_str(), None), |(whole, fraction)| (whole, Some(fraction)));
    let digits = whole.trim_start_matches('-').len();
    let mut out = String::new();
    for (i, c) in whole.chars().enumerate() {
        let left = whole.len() - i;
        if left.is_multiple_of(3) && left < digits {
            out.push(',');
        }
        out.push(c);
    }
    fraction.map_or(out.clone(), |fraction| format!("{out}.{fraction}"))
}

/// One part's results.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    pub(crate) title: &'static str,
    pub(crate) columns: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<Cell>>,
    /// How it was measured and what held.
    pub(crate) notes: Vec<String>,
}

impl Section {
    fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let cells = self.columns.iter().zip(row);
            cells.map(|(column, cell)| ((*column).to_owned(), cell.json())).collect::<Map<_, _>>()
        });
        json!({ "title": self.title, "rows": rows.collect::<Vec<_>>(), "notes": self.notes })
    }

    fn markdown(&self) -> String {
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let alignments = self.rows.first().into_iter().flatten().map(|cell| match cell.alignment() {
            CellAlignment::Left | CellAlignment::Center => "---".to_owned(),
            CellAlignment::Right => "---:".to_owned(),
        });
        let mut text = format!("## {}\n\n", self.title);
        text += &line(self.columns.iter().map(|name| (*name).to_owned()).collect());
        text += &line(alignments.collect());
        for row in &self.rows {
            text += &line(row.iter().map(Cell::to_string).collect());
        }
        text += "\n";
        for note in &self.notes {
            text += &format!("- {note}\n");
        }
        text
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(self.columns.iter().map(|name| TableCell::new(*name).add_attribute(Attribute::Bold)));
        for row in &self.rows {
            table.add_row(row.iter().map(|cell| TableCell::new(cell).set_alignment(cell.alignment())));
        }
        writeln!(f, "{}\n{table}", self.title)?;
        self.notes.iter().try_for_each(|note| writeln!(f, "  {note}"))
    }
}

/// Everything as one JSON document.
pub(crate) fn json(machine: &Machine, sections: &[Section]) -> anyhow::Result<String> {
    let sections: Vec<_> = sections.iter().map(Section::json).collect();
    let text = serde_json::to_string_pretty(&json!({ "machine": machine, "sections": sections }))?;
    Ok(text + "\n")
}

/// Everything as the Markdown file that lies in the repository.
pub(crate) fn markdown(about: &About, machine: &Machine, sections: &[Section]) -> String {
    let sections: Vec<_> = sections.iter().map(Section::markdown).collect();
    format!("# {}\n\n{}\n\nMachine: {machine}.\n\n{}", about.title, about.text, sections.join("\n"))
}
