//! A whole file through the device's path, and what came of it.
//!
//! Rows go one by one through a [`StreamScorer`], exactly as on a device; the time taken is that of `score` alone. The
//! metrics need all scores at once, so a file may have at most [`ROWS_MAX`] rows.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use vedette_protocol::ScoredBy;

use crate::baseline;
use crate::clock::Stopwatch;
use crate::decision::Decision;
use crate::eval::{Event, EventRules, events, nab, period, vus_pr};
use crate::features::ContractMismatch;
use crate::model::Model;
use crate::replay::{Options, Replay, ReplayError};
use crate::sample::Schema;
use crate::scorer::StreamScorer;

/// Most rows of a file: 10 million x 17 bytes kept a row = 170 MB.
pub const ROWS_MAX: usize = 10_000_000;
const DAY_MS: f64 = 86_400_000.0;

/// What to score with what.
#[derive(Clone, Debug)]
pub struct Backtest<'a> {
    /// CSV, plain or gzip.
    pub file: &'a Path,
    /// How to read it.
    pub options: Options,
    /// `None` = the baseline.
    pub model: Option<Arc<Model>>,
    /// Labelled windows by time, first and last moment (Unix ms), instead of a label column: NAB's way.
    pub windows: Vec<(i64, i64)>,
    /// What counts as found and as false.
    pub rules: EventRules,
}

/// Why a backtest ended early.
#[derive(Debug, thiserror::Error)]
pub enum BacktestError {
    /// The file.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// The file's signals do not fit the model.
    #[error("{file}: {source}")]
    Contract {
        /// The data file.
        file: String,
        /// What does not fit.
        source: ContractMismatch,
    },
    /// More rows than can be judged at once.
    #[error("{0}: more than {ROWS_MAX} rows; split the file")]
    TooLong(String),
    /// Nothing to score.
    #[error("{0}: the file has no rows")]
    Empty(String),
}

/// One decided row, for whoever wants to write it down.
#[derive(Clone, Copy, Debug)]
pub struct ScoredRow<'a> {
    /// The decision.
    pub decision: &'a Decision,
    /// The label, if the file has one.
    pub label: Option<bool>,
    /// Names the signals of `decision.top`.
    pub schema: &'a Schema,
}

/// Time of a row from sample to decision, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RowTime {
    /// Half of the rows took no longer.
    pub p50_ns: u64,
    /// 99 of 100 rows took no longer.
    pub p99_ns: u64,
}

/// NAB's score of this one file, with the best threshold for it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct NabScores {
    /// Standard profile.
    pub standard: f64,
    /// False alarms cost twice.
    pub low_false_positives: f64,
    /// Misses cost twice.
    pub low_false_negatives: f64,
    /// The threshold of the standard profile's score; absent when no threshold is better than silence.
    pub threshold: Option<f64>,
    /// Standard profile with the alarms that the device would have raised.
    pub standard_as_deployed: f64,
}

/// What the labels say.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judgement {
    /// Labelled rows.
    pub labelled_rows: usize,
    /// Events with an alarm.
    pub events_found: usize,
    /// Labelled events.
    pub events_total: usize,
    /// Rows from an event's begin to its first alarm, the middle one of those found.
    pub median_delay_rows: Option<usize>,
    /// Each event.
    pub events: Vec<Event>,
    /// Runs of alarms that belong to no event.
    pub false_episodes: usize,
    /// The same per day of telemetry.
    pub false_episodes_per_day: f64,
    /// Part of the rows without label that alarm, 0 to 1.
    pub normal_rows_alarmed: f64,
    /// Volume under the precision-recall surface, 0 to 1.
    pub vus_pr: Option<f64>,
    /// Buffer width of `vus_pr`, rows: the period of the first signal.
    pub vus_width: usize,
    /// NAB's score of this file.
    pub nab: NabScores,
}

/// What a backtest found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Rows of the file.
    pub rows: usize,
    /// Rows that the model decided; the others (until its window is full, signals missing, faults) the baseline did.
    pub rows_by_model: usize,
    /// Rows over the threshold.
    pub rows_over: usize,
    /// Rows with an alarm.
    pub rows_alarmed: usize,
    /// Days of telemetry, from the first row to the last.
    pub days: f64,
    /// Who scored.
    pub scored_by: ScoredBy,
    /// The threshold.
    pub threshold: f64,
    /// Time per row.
    pub row_time: RowTime,
    /// When there are labels.
    pub judgement: Option<Judgement>,
}

#[derive(Default)]
struct Kept {
    scores: Vec<f64>,
    by_model: Vec<bool>,
    alarms: Vec<bool>,
    labels: Vec<bool>,
    nanoseconds: Vec<u32>,
    first_signal: Vec<f32>,
    over: usize,
    from_ms: i64,
    to_ms: i64,
}

/// Scores the file; `each_row` sees every decision.
///
/// # Errors
/// [`BacktestError`] names the file, the place and the way out.
pub fn run(backtest: &Backtest<'_>, mut each_row: impl FnMut(ScoredRow<'_>)) -> Result<Report, BacktestError> {
    let file = || backtest.file.display().to_string();
    let mut replay = Replay::open(backtest.file, &backtest.options)?;
    let schema = Arc::clone(replay.schema());
    let mut scorer = StreamScorer::new(Arc::clone(&schema));
    scorer.swap(backtest.model.clone()).map_err(|source| BacktestError::Contract { file: file(), source })?;
    let mut kept = Kept::default();
    let labelled = backtest.options.label.is_some() || !backtest.windows.is_empty();
    for (number, row) in (0..).zip(&mut replay) {
        let row = row?;
        if kept.scores.len() == ROWS_MAX {
            return Err(BacktestError::TooLong(file()));
        }
        let watch = Stopwatch::start();
        let decision = scorer.score(number, &row.sample);
        let took = watch.ns();
        kept.nanoseconds.push(u32::try_from(took).unwrap_or(u32::MAX));
        let at_ms = row.sample.at_ms;
        let in_window = backtest.windows.iter().any(|(from, to)| (*from..=*to).contains(&at_ms));
        let label = labelled.then(|| row.label.unwrap_or(in_window));
        kept.take(decision, label, row.sample.values.first().copied().unwrap_or(f32::NAN));
        each_row(ScoredRow { decision, label, schema: &schema });
    }
    if kept.scores.is_empty() {
        return Err(BacktestError::Empty(file()));
    }
    let threshold = match &backtest.model {
        Some(model) => model.manifest().calibration.threshold.get(),
        None => f64::from(baseline::THRESHOLD),
    };
    Ok(kept.report(scorer.running().clone(), threshold, labelled.then_some(backtest.rules)))
}

impl Kept {
    fn take(&mut self, decision: &Decision, label: Option<bool>, first_signal: f32) {
        if self.scores.is_empty() {
            self.from_ms = decision.at_ms;
        }
        self.to_ms = self.to_ms.max(decision.at_ms);
        self.scores.push(f64::from(decision.score));
        self.by_model.push(decision.by_model());
        self.alarms.push(decision.alarm);
        self.labels.push(label.unwrap_or(false));
        self.first_signal.push(if first_signal.is_nan() { 0.0 } else { first_signal });
        self.over += usize::from(decision.over);
    }

    /// Scores of one kind in every row: where the model did not score, its last score stands (at the start, its first).
    fn even_scores(&self) -> Vec<f64> {
        let Some(first) = self.by_model.iter().position(|m| *m) else { return self.scores.clone() };
        let mut last = self.scores[first];
        self.scores
            .iter()
            .zip(&self.by_model)
            .map(|(score, by_model)| {
                last = if *by_model { *score } else { last };
                last
            })
            .collect()
    }

    fn report(mut self, scored_by: ScoredBy, threshold: f64, judged_by: Option<EventRules>) -> Report {
        let days = (self.to_ms - self.from_ms) as f64 / DAY_MS;
        self.nanoseconds.sort_unstable();
        let at = |part: f64| u64::from(self.nanoseconds[((self.nanoseconds.len() - 1) as f64 * part) as usize]);
        let row_time = RowTime { p50_ns: at(0.5), p99_ns: at(0.99) };
        Report {
            rows: self.scores.len(),
            rows_by_model: self.by_model.iter().filter(|m| **m).count(),
            rows_over: self.over,
            rows_alarmed: self.alarms.iter().filter(|a| **a).count(),
            days,
            scored_by,
            threshold,
            row_time,
            judgement: judged_by.map(|rules| self.judge(rules, days)),
        }
    }

    fn judge(&self, rules: EventRules, days: f64) -> Judgement {
        let found = events(&self.labels, &self.alarms, rules);
        let scores = self.even_scores();
        let vus_width = period(&self.first_signal);
        let normal = self.labels.iter().filter(|l| !**l).count();
        let normal_alarmed = self.labels.iter().zip(&self.alarms).filter(|(label, alarm)| !**label && **alarm).count();
        Judgement {
            labelled_rows: self.labels.len() - normal,
            events_found: found.found(),
            events_total: found.events.len(),
            median_delay_rows: found.median_delay_rows(),
            false_episodes: found.false_episodes,
            false_episodes_per_day: if days > 0.0 { found.false_episodes as f64 / days } else { 0.0 },
            normal_rows_alarmed: if normal == 0 { 0.0 } else { normal_alarmed as f64 / normal as f64 },
            vus_pr: vus_pr(&self.labels, &scores, vus_width),
            vus_width,
            nab: self.nab(&found.events, &scores),
            events: found.events,
        }
    }

    fn nab(&self, events: &[Event], scores: &[f64]) -> NabScores {
        let windows: Vec<nab::Window> =
            events.iter().map(|e| nab::Window { first: e.first_row, last: e.last_row }).collect();
        let best =
            |profile| nab::score(&[nab::Series { scores, windows: &windows }], profile, nab::Threshold::Optimised);
        let alarms: Vec<f64> = self.alarms.iter().map(|a| f64::from(u8::from(*a))).collect();
        let deployed = nab::Series { scores: &alarms, windows: &windows };
        let standard = best(nab::Profile::Standard);
        NabScores {
            standard: standard.value,
            low_false_positives: best(nab::Profile::LowFalsePositives).value,
            low_false_negatives: best(nab::Profile::LowFalseNegatives).value,
            threshold: Some(standard.threshold).filter(|t| t.is_finite()),
            standard_as_deployed: nab::score(&[deployed], nab::Profile::Standard, nab::Threshold::Fixed(1.0)).value,
        }
    }
}
