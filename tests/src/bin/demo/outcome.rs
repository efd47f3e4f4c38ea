//! What the labels say about the alarms: pure counting, per model version and part of the story.

use std::collections::BTreeSet;
use std::ops::Range;

use serde::Serialize;
use vedette_tests::sample::TOLERANCE_ROWS;

/// One minute a row in the sample.
const ROWS_A_DAY: f64 = 24.0 * 60.0;

/// A part of the story that one model version scored.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// What happens in it, for people.
    pub(crate) name: &'static str,
    /// Which model scored it, as the ledger says.
    pub(crate) model: String,
    /// Its rows.
    pub(crate) rows: Range<u64>,
}

/// How the alarms of one part compare with the operators' labels.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    /// What happens in this part.
    pub(crate) part: &'static str,
    /// Which model scored it.
    pub(crate) model: String,
    /// First row of the part.
    pub(crate) first_row: u64,
    /// Rows scored.
    pub(crate) rows: u64,
    /// Rows outside incidents.
    pub(crate) normal_rows: u64,
    /// Share of those that alarmed, 0 to 1.
    pub(crate) normal_alarmed: f64,
    /// Incidents that begin in this part.
    pub(crate) events: usize,
    /// Incidents with an alarm inside them or within the tolerance after them.
    pub(crate) found: usize,
    /// Rows (minutes) from an incident's first row to its first alarm, the median over the found ones.
    pub(crate) delay_rows: Option<u64>,
    /// Separate runs of alarms on normal rows, a day.
    pub(crate) false_alarms_a_day: f64,
}

/// Compares the alarmed rows with the incidents, part by part.
pub(crate) fn outcomes(parts: &[Part], incidents: &[Range<u64>], alarmed: &BTreeSet<u64>) -> Vec<Outcome> {
    parts.iter().map(|part| outcome(part, incidents, alarmed)).collect()
}

fn outcome(part: &Part, incidents: &[Range<u64>], alarmed: &BTreeSet<u64>) -> Outcome {
    let normal = |row: &u64| !incidents.iter().any(|i| i.start <= *row && *row < i.end + TOLERANCE_ROWS);
    let normal_rows = part.rows.clone().filter(normal).count();
    let false_rows: Vec<u64> = alarmed.range(part.rows.clone()).copied().filter(normal).collect();
    let episodes = false_rows.iter().enumerate().filter(|(i, row)| *i == 0 || false_rows[i - 1] + 1 < **row).count();
    let events: Vec<_> = incidents.iter().filter(|i| part.rows.contains(&i.start)).collect();
    let mut delays: Vec<u64> = events
        .iter()
        .filter_map(|i| alarmed.range(i.start..i.end + TOLERANCE_ROWS).next().map(|row| row - i.start))
        .collect();
    delays.sort_unstable();
    Outcome {
        part: part.name,
        model: part.model.clone(),
        first_row: part.rows.start,
        rows: part.rows.end - part.rows.start,
        normal_rows: normal_rows as u64,
        normal_alarmed: false_rows.len() as f64 / normal_rows.max(1) as f64,
        events: events.len(),
        found: delays.len(),
        delay_rows: delays.get(delays.len() / 2).copied(),
        false_alarms_a_day: episodes as f64 / (normal_rows.max(1) as f64 / ROWS_A_DAY),
    }
}
