//! The report of a backtest as people read it.

use vedette_protocol::Cause;
use vedette_scoring::{backtest::Judgement, eval::Event, trial::TrialReport};

use super::Outcome;
use crate::cli::{
    Screen,
    screen::{Column, Sheet, Tone, facts},
};

/// Events listed one by one; more are only counted.
const EVENTS_LISTED: usize = 20;

/// A cause in a word.
pub(super) const fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::Model => "model",
        Cause::Baseline => "baseline",
        Cause::Missing => "missing",
        Cause::Frozen => "frozen",
        Cause::ModelFault => "model_fault",
    }
}

/// The whole report.
pub(super) fn report(outcome: &Outcome<'_>, screen: Screen) -> String {
    let report = outcome.report;
    let mut lines = vec![
        ("data", outcome.data.clone()),
        ("scored by", format!("{}, threshold {:.4}", outcome.model, report.threshold)),
    ];
    lines.extend(outcome.trial.map(|trial| ("trial", trial_text(trial))));
    lines.push(("rows scored", format!("{} over {:.2} days", report.rows, report.days)));
    if report.rows_by_model != report.rows && report.rows_by_model > 0 {
        let rest = report.rows - report.rows_by_model;
        lines
            .push(("by the model", format!("{}; {rest} had no full window or a signal missing", report.rows_by_model)));
    }
    lines.push(("rows alarmed", format!("{} ({})", report.rows_alarmed, percent(report.rows_alarmed, report.rows))));
    let time = report.row_time;
    lines.push(("time per row", format!("{} µs median, {} µs p99", micros(time.p50_ns), micros(time.p99_ns))));
    match &report.judgement {
        None => {
            facts(&lines) + "\nWithout labels there is nothing to judge: give --label COLUMN or --windows FILE.csv.\n"
        }
        Some(judgement) => {
            lines.extend(judged(judgement));
            format!("{}\n{}", facts(&lines), events_text(&judgement.events, screen))
        }
    }
}

fn trial_text(trial: &TrialReport) -> String {
    format!(
        "{} self-test vectors right (off by {:.1e} at most), loaded in {:.1} ms, {} MiB",
        trial.vectors,
        trial.largest_difference,
        trial.load_ms,
        trial.memory_bytes >> 20
    )
}

fn judged(judgement: &Judgement) -> Vec<(&'static str, String)> {
    let delay = judgement.median_delay_rows.map_or_else(String::new, |rows| format!(", median delay {rows} rows"));
    let nab = &judgement.nab;
    vec![
        ("labelled rows", judgement.labelled_rows.to_string()),
        ("events found", format!("{} of {}{delay}", judgement.events_found, judgement.events_total)),
        (
            "false alarms",
            format!(
                "{:.2} % of the normal rows alarmed; {} episodes apart from any event, {:.2} a day",
                judgement.normal_rows_alarmed * 100.0,
                judgement.false_episodes,
                judgement.false_episodes_per_day
            ),
        ),
        (
            "VUS-PR",
            judgement
                .vus_pr
                .map_or_else(|| "none".to_owned(), |value| format!("{value:.4} (buffer {} rows)", judgement.vus_width)),
        ),
        (
            "NAB",
            format!(
                "{:.2} standard, {:.2} low FP, {:.2} low FN at the best threshold; {:.2} as deployed",
                nab.standard, nab.low_false_positives, nab.low_false_negatives, nab.standard_as_deployed
            ),
        ),
    ]
}

fn events_text(events: &[Event], screen: Screen) -> String {
    let mut sheet = Sheet::new(&[
        Column::Number("EVENT"),
        Column::Number("FIRST ROW"),
        Column::Number("LAST ROW"),
        Column::Text("FOUND"),
    ]);
    for (number, event) in (1..).zip(events.iter().take(EVENTS_LISTED)) {
        let found = match event.delay_rows {
            Some(rows) => (format!("after {rows} rows"), Tone::Good),
            None => ("missed".to_owned(), Tone::Bad),
        };
        let plain = |number: usize| (number.to_string(), Tone::Plain);
        sheet.toned([plain(number), plain(event.first_row), plain(event.last_row), found]);
    }
    let table = sheet.render(screen.colour, "no labelled event");
    match events.len().saturating_sub(EVENTS_LISTED) {
        0 => table,
        more => format!("{table}and {more} more; --json has all\n"),
    }
}

fn percent(part: usize, whole: usize) -> String {
    format!("{:.2} %", part as f64 * 100.0 / whole.max(1) as f64)
}

fn micros(ns: u64) -> String {
    format!("{}.{}", ns / 1_000, ns % 1_000 / 100)
}
