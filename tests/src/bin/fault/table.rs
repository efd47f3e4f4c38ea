//! What came of the faults: one line each, as aligned text, as JSON and as Markdown.

use std::fmt;
use std::time::Duration;

use comfy_table::{Attribute, Cell, CellAlignment, Color, presets};
use serde_json::json;

/// What the Markdown says before its table.
const ABOUT: &str = "Made by `ci/fault`. *Acknowledged* is what was promised to be durable before the fault; *lost* of it is not there \
    afterwards, *wrong* is there but not as it was, twice, or in contradiction to something signed; *open failures* are starts \
    that failed.";

/// Misses that are told of one fault.
const MISSES_TOLD: usize = 5;

/// What a fault counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    /// How often the fault was made.
    pub(crate) tries: u64,
    /// Things that were acknowledged before a fault and looked for afterwards.
    pub(crate) acknowledged: u64,
    /// Of these, not there.
    pub(crate) lost: u64,
    /// There, but not as they were.
    pub(crate) wrong: u64,
    /// Starts (or opens) that failed.
    pub(crate) open_failures: u64,
    /// Figures beside the counts, each a few words.
    pub(crate) figures: Vec<String>,
    /// Promises missed beside the counts, each a sentence.
    pub(crate) misses: Vec<String>,
    /// Why the fault was not made at all.
    pub(crate) skipped: Option<String>,
}

/// What came of a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Every promise held.
    Ok,
    /// One did not.
    Missed(String),
    /// This machine cannot make the fault.
    Skipped(String),
}

impl Row {
    /// A fault that this machine cannot make.
    pub(crate) fn skipped(why: impl Into<String>) -> Self {
        Self { skipped: Some(why.into()), ..Self::default() }
    }

    /// A miss when `held` is false, in these words.
    pub(crate) fn expect(&mut self, held: bool, miss: impl FnOnce() -> String) {
        if !held {
            self.misses.push(miss());
        }
    }

    /// What came of it.
    pub(crate) fn outcome(&self) -> Outcome {
        if let Some(why) = &self.skipped {
            return Outcome::Skipped(why.clone());
        }
        let counted = [(self.lost, "lost"), (self.wrong, "wrong"), (self.open_failures, "failed to open")];
        let counted = counted.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        let misses: Vec<_> = counted.chain(self.misses.iter().cloned()).collect();
        if misses.is_empty() { Outcome::Ok } else { Outcome::Missed(told(&misses)) }
    }
}

impl Outcome {
    /// For a table's cell.
    fn word(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Missed(_) => "MISSED",
            Self::Skipped(_) => "skipped",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("ok"),
            Self::Missed(why) => write!(f, "MISSED: {why}"),
            Self::Skipped(why) => write!(f, "skipped: {why}"),
        }
    }
}

/// A fault and what came of it.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) row: Row,
    pub(crate) time: Duration,
}

impl Line {
    fn counts(&self) -> [String; 5] {
        let Row { tries, acknowledged, lost, wrong, open_failures, .. } = self.row;
        if self.row.skipped.is_some() {
            return [(); 5].map(|()| "-".to_owned());
        }
        [tries, acknowledged, lost, wrong, open_failures].map(grouped)
    }

    fn said(&self) -> String {
        let figures = self.row.figures.iter().cloned();
        std::iter::once(self.row.outcome().to_string()).chain(figures).collect::<Vec<_>>().join("; ")
    }
}

/// The table.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) lines: Vec<Line>,
    long: bool,
    seed: u64,
}

const COLUMNS: [&str; 8] = ["fault", "tries", "acknowledged", "lost", "wrong", "open failures", "time", "outcome"];

impl Table {
    /// An empty one.
    pub(crate) fn new(long: bool, seed: u64) -> Self {
        Self { lines: Vec::new(), long, seed }
    }

    /// Whether no promise was missed.
    pub(crate) fn holds(&self) -> bool {
        !self.lines.iter().any(|line| matches!(line.row.outcome(), Outcome::Missed(_)))
    }

    fn title(&self) -> String {
        format!("{} run, seed {}", if self.long { "long" } else { "quick" }, self.seed)
    }

    /// As one JSON document.
    ///
    /// # Errors
    /// Never in practice: numbers and text are always JSON.
    pub(crate) fn json(&self) -> anyhow::Result<String> {
        let lines: Vec<_> = self
            .lines
            .iter()
            .map(|line| {
                let row = &line.row;
                let (outcome, why) = match row.outcome() {
                    Outcome::Ok => ("ok", None),
                    Outcome::Missed(why) => ("missed", Some(why)),
                    Outcome::Skipped(why) => ("skipped", Some(why)),
                };
                json!({
                    "fault": line.name, "about": line.about, "tries": row.tries, "acknowledged": row.acknowledged,
                    "lost": row.lost, "wrong": row.wrong, "open_failures": row.open_failures,
                    "seconds": line.time.as_secs_f64(), "outcome": outcome, "why": why, "figures": row.figures,
                })
            })
            .collect();
        let whole = json!({ "long": self.long, "seed": self.seed, "holds": self.holds(), "faults": lines });
        Ok(serde_json::to_string_pretty(&whole)? + "\n")
    }

    /// As a Markdown file.
    pub(crate) fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let mut text = format!("{ABOUT}\n\n{}:\n\n", self.title());
        text += &line(&COLUMNS.map(str::to_owned));
        text += "|---|---:|---:|---:|---:|---:|---:|---|\n";
        for one in &self.lines {
            let cells = std::iter::once(format!("{}: {}", one.name, one.about)).chain(one.counts());
            let cells: Vec<_> = cells.chain([seconds(one.time), one.said().replace('|', "/")]).collect();
            text += &line(&cells);
        }
        text
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(COLUMNS.map(|name| Cell::new(name).add_attribute(Attribute::Bold)));
        for line in &self.lines {
            let outcome = line.row.outcome();
            let color = match outcome {
                Outcome::Ok => Color::Green,
                Outcome::Missed(_) => Color::Red,
                Outcome::Skipped(_) => Color::Yellow,
            };
            let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
            let mut cells = vec![Cell::new(line.name)];
            cells.extend(line.counts().map(right));
            cells.push(right(seconds(line.time)));
            cells.push(Cell::new(outcome.word()).fg(color));
            table.add_row(cells);
        }
        writeln!(f, "{}\n{table}", self.title())?;
        for line in &self.lines {
            let outcome = Some(line.row.outcome()).filter(|outcome| *outcome != Outcome::Ok);
            let said: Vec<_> = outcome.iter().map(Outcome::to_string).chain(line.row.figures.iter().cloned()).collect();
            if !said.is_empty() {
                writeln!(f, "  {}: {}", line.name, said.join("; "))?;
            }
        }
        Ok(())
    }
}

/// The first misses; a fault that misses all the time says the same all the time.
fn told(misses: &[String]) -> String {
    let mut text = misses[..misses.len().min(MISSES_TOLD)].join("; ");
    if misses.len() > MISSES_TOLD {
        text += &format!("; and {} more", misses.len() - MISSES_TOLD);
    }
    text
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// A number with a comma every three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_a_wrong_record_a_failed_start_and_a_missed_promise_each_fail_the_table() {
        let bad = [
            Row { lost: 1, ..Row::default() },
            Row { wrong: 1, ..Row::default() },
            Row { open_failures: 1, ..Row::default() },
            Row { misses: vec!["too slow".to_owned()], ..Row::default() },
        ];
        for row in bad {
            let mut table = Table::new(false, 1);
            table.lines.push(Line { name: "x", about: "x", row, time: Duration::ZERO });
            assert!(!table.holds(), "{table}");
        }
    }

    #[test]
    fn a_skipped_fault_is_neither_passed_nor_missed() {
        let row = Row::skipped("no root");
        assert_eq!(row.outcome(), Outcome::Skipped("no root".to_owned()));
        let mut table = Table::new(false, 1);
        table.lines.push(Line { name: "x", about: "x", row, time: Duration::ZERO });
        assert!(table.holds() && table.markdown().contains("skipped: no root"), "{table}");
    }

    #[test]
    fn numbers_are_grouped_by_three() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
