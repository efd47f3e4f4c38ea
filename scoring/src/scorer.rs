//! Scores one stream, row by row: the device's path, the backtest's and the registry's.
//!
//! Operations on a row: the baseline sees it (always, so that it is warm whenever it is needed); findings about the signals
//! come before any model; then the model, if its window is full; else the baseline decides.
//!
//! * A **finding** (a signal missing beyond its fill limit, or frozen) is that row's decision when it begins, when another
//!   signal joins, and every [`FINDING_REPEAT_ROWS`] rows while it lasts. In between, scoring goes on: the model with a frozen
//!   signal, the baseline with a missing one.
//! * A model's answer that is no finite number is a **fault** of the model: an alarm of its own when it begins and at the
//!   same interval, and the baseline's score stands in.
//! * With a **hop** above 1 the rows between two windows repeat the last decision and never alarm; smoothing and holding count
//!   windows.
//! * A **stateful** model sees each row once, in its order. What it says counts after its manifest's `warm_rows`; the baseline
//!   decides before. Those rows are taken from the rows that are kept, so a swap is warm at once; a swap to the same graph
//!   (another calibration, a hold taken back) goes on with the state as it is, and nothing else ever carries one over. The
//!   journal keeps findings and not rows, so after a restart of the agent the first `warm_rows` rows warm the state.
//! * A **swap** happens between two rows. The last rows are kept raw, so the new model's window is full at once.
//!
//! Rows are scored up to 64 together, whoever asks for more gets the same: the baseline takes all rows of four signals,
//! then of the next four; then the rows go by one by one until their windows are gathered; the model runs all windows; then
//! decisions are made one by one.
//!
//! Memory: a window twice, [`KEPT_ROWS`] raw rows, the baseline's sums, and after the first batch 64 windows. After
//! warm-up nothing here allocates; tract does, inside.

use std::sync::Arc;

use vedette_protocol::{Cause, Digest, Hasher, ScoredBy};

use crate::baseline::{self, Baseline};
use crate::decision::{Decision, Top};
use crate::engine::{BATCH_ROWS, EngineKind};
use crate::features::{ContractMismatch, Features, Row, Stillness, Window};
use crate::model::{Model, Session};
use crate::sample::{Part, Rows, Sample, Schema};

mod history;
mod smooth;

use history::History;
use smooth::Smooth;

/// Raw rows kept for a model to come: 256 rows x 64 signals x 4 bytes = 64 KiB. A model with a longer window grows it.
pub const KEPT_ROWS: usize = 256;
/// Rows after which a lasting finding or fault is said again: at one row a minute, every 17 hours.
pub const FINDING_REPEAT_ROWS: u64 = 1000;
/// Rows for which a signal may be absent before that is a finding, when there is no contract that says.
const ABSENT_ROWS: u32 = 10;

/// Which decisions name the signals that contributed most: sorting them out costs as much as the rest of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Explain {
    /// All.
    EveryRow,
    /// Alarms only; [`Decision::top`] of other rows is empty.
    Alarms,
}

/// Scores one stream.
#[derive(Debug)]
pub struct StreamScorer {
    schema: Arc<Schema>,
    still: Stillness,
    history: History,
    baseline: Baseline,
    baseline_by: ScoredBy,
    live: Option<Live>,
    missing: Lasting,
    frozen: Lasting,
    fault: Lasting,
    /// Windows waiting to be run, and the rows waiting for their decision.
    windows: Vec<f32>,
    waiting: Vec<Waiting>,
    /// Findings of waiting rows.
    found: Vec<Decision>,
    columns: Vec<u16>,
    explain: Explain,
    /// Samples that came as such, as rows.
    rows: Rows,
    decisions: Vec<Decision>,
    last: Decision,
}

/// The model that is running.
#[derive(Debug)]
struct Live {
    features: Features,
    session: Session,
    threshold: f32,
    hold: u32,
    over_rows: u32,
    /// Rows that a stateful model is yet to see before its scores count.
    cold_rows: u32,
    smooth: Smooth,
    last_window: Option<Decision>,
}

/// A row between being seen and being decided.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    /// Which of the findings is about this row.
    finding: Option<usize>,
    step: Step,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Nothing more to do.
    Decided,
    /// The model's answer for this many-th waiting window decides.
    Window(usize),
    /// Repeats the last window's decision.
    Between,
}

/// When a state that lasts is said: as it begins, as it grows, and now and then.
#[derive(Clone, Copy, Debug, Default)]
struct Lasting {
    size: usize,
    rows: u64,
}

impl Lasting {
    /// Takes the size of the state in this row (0 = it is over), says whether this is a row to say it.
    fn due(&mut self, size: usize) -> bool {
        let due = size > self.size || (size > 0 && self.rows >= FINDING_REPEAT_ROWS);
        self.rows = if due || size == 0 { 1 } else { self.rows + 1 };
        self.size = size;
        due
    }
}

impl StreamScorer {
    /// A scorer that knows nothing yet and runs the baseline.
    pub fn new(schema: Arc<Schema>) -> StreamScorer {
        let signals = schema.len();
        StreamScorer {
            still: Stillness::new(signals),
            history: History::new(signals, KEPT_ROWS),
            baseline: Baseline::new(signals),
            baseline_by: ScoredBy::Baseline { version: baseline::VERSION },
            live: None,
            missing: Lasting::default(),
            frozen: Lasting::default(),
            fault: Lasting::default(),
            windows: Vec::new(),
            waiting: Vec::with_capacity(1),
            found: Vec::new(),
            columns: Vec::with_capacity(signals),
            explain: Explain::EveryRow,
            rows: Rows::new(signals, 1),
            decisions: Vec::with_capacity(1),
            last: undecided(),
            schema,
        }
    }

    /// The same, naming signals only as `explain` says.
    #[must_use]
    pub fn explaining(self, explain: Explain) -> StreamScorer {
        StreamScorer { explain, ..self }
    }

    /// Puts `model` (or the baseline, for `None`) in charge from the next row on. If it does not fit, the old one stays.
    ///
    /// # Errors
    /// [`ContractMismatch`] names the signal, and the unit found and expected.
    pub fn swap(&mut self, model: Option<Arc<Model>>) -> Result<(), ContractMismatch> {
        let Some(model) = model else {
            self.live = None;
            return Ok(());
        };
        let (contract, calibration) = (&model.manifest().contract, &model.manifest().calibration);
        let mut features = Features::bind(contract, &self.schema)?;
        let warm_rows = model.manifest().stateful.as_ref().map_or(0, |stateful| stateful.warm_rows);
        self.history.keep_at_least(contract.raw_rows() as usize + warm_rows as usize);
        let mut session = Session::new(Arc::clone(&model));
        let goes_on = self.live.as_ref().filter(|live| session.go_on_from(&live.session));
        let mut cold_rows = goes_on.map_or(warm_rows, |live| live.cold_rows.min(warm_rows));
        let warms = model.is_stateful() && goes_on.is_none();
        for (at_ms, row) in self.history.rows() {
            let window = features.push(at_ms, row, Row::of(row), &self.still);
            if warms && window == Window::Ready {
                session.run(features.window());
                cold_rows = cold_rows.saturating_sub(1);
            }
        }
        features.restart_hop();
        self.live = Some(Live {
            features,
            threshold: calibration.threshold.get() as f32,
            hold: calibration.hold.max(1),
            over_rows: 0,
            cold_rows,
            smooth: Smooth::new(calibration.smooth.max(1) as usize),
            last_window: None,
            session,
        });
        self.fault = Lasting::default();
        Ok(())
    }

    /// Who is in charge: the model of the last swap, or the baseline.
    pub fn running(&self) -> &ScoredBy {
        self.live.as_ref().map_or(&self.baseline_by, |live| live.session.model().scored_by())
    }

    /// What runs the graph of the model in charge; nothing for the baseline.
    pub fn engine(&self) -> Option<EngineKind> {
        self.live.as_ref().map(|live| live.session.model().engine())
    }

    /// Who made this decision: rows that a model can't score (no full window yet, signals missing, a fault) are the baseline's.
    pub fn scored_by(&self, decision: &Decision) -> &ScoredBy {
        if decision.by_model() { self.running() } else { &self.baseline_by }
    }

    /// The schema of the stream.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// Why the model failed in its last run, if the engine said.
    pub fn fault(&self) -> Option<&str> {
        self.live.as_ref().and_then(|live| live.session.fault())
    }

    /// Decides about the next row. `row` is the caller's count.
    pub fn score(&mut self, row: u64, sample: &Sample) -> &Decision {
        let mut decisions = std::mem::take(&mut self.decisions);
        self.score_batch(row, std::slice::from_ref(sample), &mut decisions);
        decisions.clear();
        self.decisions = decisions;
        &self.last
    }

    /// Decides about the next rows, `first_row` and on, and appends one decision for each to `out`: the same decisions as one by
    /// one (a model's scores may differ by rounding), computed up to 64 at a time.
    pub fn score_batch(&mut self, first_row: u64, samples: &[Sample], out: &mut Vec<Decision>) {
        let mut row = first_row;
        let mut rows = std::mem::replace(&mut self.rows, Rows::new(self.schema.len(), 0));
        for samples in samples.chunks(BATCH_ROWS) {
            rows.clear();
            samples.iter().for_each(|sample| rows.push(sample.at_ms, &sample.values));
            self.take(row, rows.part(0..rows.len()), out);
            row += samples.len() as u64;
        }
        self.rows = rows;
    }

    /// The same for rows in one piece, of this stream's schema; of another schema, nothing is decided.
    pub fn score_rows(&mut self, first_row: u64, rows: &Rows, out: &mut Vec<Decision>) {
        if !rows.has_signals(self.schema.len()) {
            return;
        }
        let mut done = 0;
        while done < rows.len() {
            let to = rows.len().min(done + BATCH_ROWS);
            self.take(first_row + done as u64, rows.part(done..to), out);
            done = to;
        }
    }

    /// Decides about some rows, at most [`BATCH_ROWS`].
    fn take(&mut self, first_row: u64, rows: Part<'_>, out: &mut Vec<Decision>) {
        self.windows.clear();
        self.waiting.clear();
        self.found.clear();
        self.baseline.see(rows.values);
        for (i, at_ms) in rows.at_ms.iter().enumerate() {
            self.observe(first_row + i as u64, i, *at_ms, rows.row(i));
        }
        self.run();
        for (i, at_ms) in rows.at_ms.iter().enumerate() {
            self.last = self.decide(first_row + i as u64, i, *at_ms, rows.row(i));
            out.push(self.last);
        }
    }

    /// Everything about the `i`-th row of a batch that needs no model's answer.
    fn observe(&mut self, row: u64, i: usize, at_ms: i64, values: &[f32]) {
        let is = self.still.see(values);
        self.history.push(at_ms, values);
        let mut step = Step::Decided;
        self.columns.clear();
        match &mut self.live {
            None => self.columns.extend(self.still.absent_for(ABSENT_ROWS).map(|c| c as u16)),
            Some(live) => {
                let window = live.features.push(at_ms, values, is, &self.still);
                self.columns.extend_from_slice(live.features.missing());
                match window {
                    Window::Warming => {}
                    Window::Between => step = Step::Between,
                    Window::Ready => {
                        // A model that is not warm yet sees the row, but says nothing about it.
                        if live.cold_rows == 0 {
                            step = Step::Window(self.windows.len() / live.session.model().window_numbers());
                        }
                        live.cold_rows = live.cold_rows.saturating_sub(1);
                        self.windows.extend_from_slice(live.features.window());
                    }
                }
            }
        }
        let frozen = self.live.as_ref().map_or(&[][..], |live| live.features.frozen());
        let missing_due = self.missing.due(self.columns.len());
        let frozen_due = self.frozen.due(frozen.len());
        let mut finding = None;
        if missing_due || frozen_due {
            let (cause, columns) =
                if missing_due { (Cause::Missing, &self.columns[..]) } else { (Cause::Frozen, frozen) };
            finding = Some(self.found.len());
            self.found.push(found(cause, columns, self.baseline_decision(row, i, at_ms), values));
        }
        self.waiting.push(Waiting { finding, step });
    }

    /// What the baseline says about the `i`-th row of a batch, without the signals.
    fn baseline_decision(&self, row: u64, i: usize, at_ms: i64) -> Decision {
        let score = self.baseline.scores().get(i).copied().unwrap_or(0.0);
        let over = score >= baseline::THRESHOLD;
        Decision {
            row,
            at_ms,
            cause: Cause::Baseline,
            score,
            row_score: score,
            threshold: baseline::THRESHOLD,
            over,
            alarm: over,
            top: Top::default(),
            input: None,
        }
    }

    /// Runs all waiting windows.
    fn run(&mut self) {
        if let Some(live) = &mut self.live
            && !self.windows.is_empty()
        {
            live.session.run(&self.windows);
        }
    }

    fn decide(&mut self, row: u64, i: usize, at_ms: i64, values: &[f32]) -> Decision {
        let mut decision = self.baseline_decision(row, i, at_ms);
        let Some(Waiting { finding, step }) = self.waiting.get(i).copied() else { return decision };
        let finding = finding.and_then(|at| self.found.get(at).copied());
        let mut seen = values;
        match (&mut self.live, step) {
            (None, _) | (Some(_), Step::Decided) => {}
            (Some(live), Step::Between) => {
                if let Some(last) = live.last_window {
                    let (row, at_ms) = (decision.row, decision.at_ms);
                    decision = Decision { row, at_ms, alarm: false, input: None, ..last };
                    return finding.map_or(decision, |finding| with_digest(finding, values));
                }
            }
            (Some(live), Step::Window(slot)) => {
                decision = live.judge(slot, &decision, &mut self.fault);
                if decision.by_model() {
                    let numbers = live.session.model().window_numbers();
                    seen = self.windows.get(slot * numbers..(slot + 1) * numbers).unwrap_or(values);
                }
            }
        }
        if decision.alarm || self.explain == Explain::EveryRow {
            decision.top = self.top(&decision, i, step).with_values(values);
        }
        if let (Some(live), Step::Window(_)) = (&mut self.live, step) {
            live.last_window = Some(decision);
        }
        match finding {
            Some(finding) => with_digest(finding, values),
            None if decision.alarm => with_digest(decision, seen),
            None => decision,
        }
    }

    /// The signals that contributed most to the decision about the `i`-th row of a batch.
    fn top(&self, decision: &Decision, i: usize, step: Step) -> Top {
        if let (Some(live), Step::Window(slot)) = (&self.live, step)
            && decision.by_model()
            && let contributions @ [_, ..] = live.session.contributions(slot)
        {
            return Top::of(contributions.iter().enumerate().map(|(c, part)| (live.features.column(c), *part)));
        }
        // Where a graph does not say, the baseline's view of the signals stands in.
        Top::of(self.baseline.signals_of(i).enumerate())
    }
}

impl Live {
    /// The model's decision, or the baseline's with the fault noted.
    fn judge(&mut self, slot: usize, baseline: &Decision, fault: &mut Lasting) -> Decision {
        let row_score = self.session.scores().get(slot).copied().unwrap_or(f32::NAN);
        let failed = !row_score.is_finite();
        let say_fault = fault.due(usize::from(failed));
        if failed {
            return Decision { cause: Cause::ModelFault, alarm: say_fault || baseline.alarm, ..*baseline };
        }
        let score = self.smooth.mean_with(row_score);
        let over = score > self.threshold;
        self.over_rows = if over { self.over_rows.saturating_add(1) } else { 0 };
        Decision {
            cause: Cause::Model,
            score,
            row_score,
            threshold: self.threshold,
            over,
            alarm: over && self.over_rows >= self.hold,
            ..*baseline
        }
    }
}

/// A finding about `columns`.
fn found(cause: Cause, columns: &[u16], decision: Decision, values: &[f32]) -> Decision {
    let count = columns.len() as f32;
    let top = Top::of(columns.iter().map(|c| (usize::from(*c), 1.0))).with_values(values);
    Decision { cause, score: count, row_score: count, threshold: 0.0, over: true, alarm: true, top, ..decision }
}

/// The decision with the digest of what it is about.
fn with_digest(decision: Decision, seen: &[f32]) -> Decision {
    Decision { input: Some(digest(seen)), ..decision }
}

fn undecided() -> Decision {
    Decision {
        row: 0,
        at_ms: 0,
        cause: Cause::Baseline,
        score: 0.0,
        row_score: 0.0,
        threshold: baseline::THRESHOLD,
        over: false,
        alarm: false,
        top: Top::default(),
        input: None,
    }
}

/// Numbers that are hashed in one piece: 1 KiB on the stack.
const HASH_NUMBERS: usize = 256;

/// SHA-256 of the numbers as f32 little-endian.
fn digest(numbers: &[f32]) -> Digest {
    let mut hasher = Hasher::new();
    let mut bytes = [0; 4 * HASH_NUMBERS];
    for chunk in numbers.chunks(HASH_NUMBERS) {
        for (into, number) in bytes.chunks_exact_mut(4).zip(chunk) {
            into.copy_from_slice(&number.to_le_bytes());
        }
        hasher.update(&bytes[..4 * chunk.len()]);
    }
    hasher.finish()
}
