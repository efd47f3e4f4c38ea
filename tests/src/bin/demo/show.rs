//! What the demo shows: one line an episode, a progress bar while it works, the closing table.

use std::io::IsTerminal as _;

use comfy_table::{CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use crate::outcome::Outcome;

/// Rows without an alarm after which the next alarm begins a new episode.
const QUIET_ROWS: u64 = 30;

/// In a long episode, one line each time its length doubles past this many rows.
const FIRST_REMINDER_ROWS: u64 = 512;

/// A signal with a smaller share of an anomaly is not named.
const LEAST_SHARE: f64 = 0.02;

/// The demo's screen: text above, a progress bar below when somebody looks.
pub(crate) struct Screen {
    bar: ProgressBar,
    bold: bool,
}

impl Screen {
    /// A screen for `rows` rows to come.
    pub(crate) fn new(rows: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(rows), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{bar:30} row {pos}/{len} · {elapsed} · {msg}") {
            bar.set_style(style);
        }
        let bold = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { bar, bold }
    }

    /// A line of text.
    pub(crate) fn line(&self, text: &str) {
        self.bar.suspend(|| println!("{text}"));
    }

    /// The heading of a part of the story.
    pub(crate) fn heading(&self, text: &str) {
        self.line(&if self.bold { format!("\n\x1b[1m{text}\x1b[0m") } else { format!("\n{text}") });
    }

    /// Moves the bar, and says what is going on.
    pub(crate) fn progress(&self, row: u64, doing: &str) {
        self.bar.set_position(row);
        self.bar.set_message(doing.to_owned());
    }

    /// Takes the bar away.
    pub(crate) fn done(&self) {
        self.bar.finish_and_clear();
    }
}

/// Turns the anomalies' stream into readable lines: the first of each episode, and a reminder now and then.
#[derive(Debug, Default)]
pub(crate) struct Episodes {
    model: String,
    last_row: Option<u64>,
    length: u64,
    reminder: u64,
}

impl Episodes {
    /// The line to show for the next anomaly, if it is worth one.
    pub(crate) fn line(&mut self, anomaly: &Value) -> Option<String> {
        let row = anomaly["row"].as_u64()?;
        let model = model_of(anomaly);
        let begins = self.model != model || self.last_row.is_none_or(|last| row > last + QUIET_ROWS);
        self.last_row = Some(row);
        if begins {
            self.model = model;
            self.length = 1;
            self.reminder = FIRST_REMINDER_ROWS;
            return Some(readable(anomaly));
        }
        self.length += 1;
        (self.length == self.reminder).then(|| {
            self.reminder *= 2;
            format!("{}   … and on: {} rows of this episode so far", readable(anomaly), self.length)
        })
    }
}

/// Time, stream, score against threshold, top signals, model.
fn readable(anomaly: &Value) -> String {
    let text = |key: &str| anomaly[key].as_str().unwrap_or("?").to_owned();
    let number = |key: &str| anomaly[key].as_f64().unwrap_or(f64::NAN);
    let worth_naming = |c: &&Value| c["share"].as_f64().is_some_and(|share| share >= LEAST_SHARE);
    let top = anomaly["top"].as_array().into_iter().flatten().filter(worth_naming);
    let top: Vec<String> = top.take(3).map(signal).collect();
    format!(
        "  {}  {} row {:<5} {:>6.2} > {:.2}  {}  by {}",
        text("at").replace('T', " ").trim_end_matches(".000Z").trim_end_matches('Z'),
        text("stream"),
        anomaly["row"],
        number("score"),
        number("threshold"),
        top.join(", "),
        model_of(anomaly)
    )
}

fn signal(contribution: &Value) -> String {
    let name = contribution["signal"].as_str().unwrap_or("?");
    format!("{name} {:.0} %", 100.0 * contribution["share"].as_f64().unwrap_or(0.0))
}

/// The name of the model that an anomaly was scored by.
pub(crate) fn model_of(anomaly: &Value) -> String {
    anomaly["by"]["model"].as_str().map_or_else(|| "baseline".to_owned(), str::to_owned)
}

/// The closing table.
pub(crate) fn table(outcomes: &[Outcome]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "part of the story",
        "model",
        "rows",
        "normal rows alarmed",
        "events found",
        "delay",
        "false alarms/day",
    ]);
    for o in outcomes {
        table.add_row([
            o.part.to_owned(),
            o.model.clone(),
            o.rows.to_string(),
            format!("{:.1} %", 100.0 * o.normal_alarmed),
            format!("{} of {}", o.found, o.events),
            o.delay_rows.map_or_else(|| "-".to_owned(), |rows| format!("{rows} min")),
            format!("{:.1}", o.false_alarms_a_day),
        ]);
    }
    for column in 2..7 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string()
}
