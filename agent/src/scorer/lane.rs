//! One stream in the scorer: its rows, its model, and what becomes of its decisions.
//!
//! A ledger entry begins with the first row that its scorer decides: after a start or a swap the baseline decides until the
//! model's window is full, and gets an entry of its own for that. Later rows that the model could not score (a signal
//! missing, no number) stay in the model's entry; findings say where such a stretch begins.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use vedette_protocol::id::{Digest, StreamName};
use vedette_protocol::number::Finite32;
use vedette_protocol::record::{Anomaly, Body, Cause, Contribution, DropClass, Dropped, ScoredBy, Swap, SwapReason};
use vedette_scoring::{Decision, Explain, Model, Rows, Schema, StreamScorer};

use super::board::{LaneReport, Running};
use super::{FAULTS_MAX, LaneSettings, SwapError};
use crate::clock::Clock;
use crate::ledger::RESERVED_ROWS;
use crate::recorder::Recorder;
use crate::recorder::bucket::{Admission, Bucket, DroppedRun};
use crate::source::BATCH_SAMPLES_MAX;

/// Swap records that wait because the recorder's queue is full; beyond it a further swap is refused.
const OWED_SWAPS_MAX: usize = 16;

pub(super) struct Lane {
    stream: StreamName,
    schema: Arc<Schema>,
    scorer: StreamScorer,
    baseline_alarms: bool,
    /// The newest ledger entry; its reservation always reaches beyond `next_row`. `None` before the first row.
    entry: Option<Swap>,
    /// Why the scorer in charge was put there, until its own entry begins.
    starting: Option<SwapReason>,
    next_row: u64,
    faults_in_a_row: u32,
    admission: Admission,
    /// Swap records that the recorder has not taken yet, in order.
    owed: VecDeque<Swap>,
    decisions: Vec<Decision>,
    report: Arc<LaneReport>,
    recorder: Recorder,
    clock: Clock,
}

impl Lane {
    pub(super) fn open(settings: LaneSettings, recorder: Recorder, clock: Clock) -> Self {
        let LaneSettings { stream, schema, model, baseline, anomaly_rate, anomaly_burst } = settings;
        let next_row = recorder.ledger().read().unwrap_or_else(PoisonError::into_inner).next_row(&stream);
        let mut scorer = new_scorer(&schema);
        if let Err(problem) = scorer.swap(model) {
            tracing::error!(stream = %stream, problem = %problem, "the model of the last run no longer fits the stream; the baseline scores it");
        }
        let running = Running {
            by: scorer.running().clone(),
            engine: scorer.engine(),
            first_row: next_row,
            since_ms: clock.wall_ms(),
            reason: SwapReason::Start,
        };
        Self {
            report: Arc::new(LaneReport::new(stream.clone(), running, next_row)),
            admission: Admission::new(Bucket::new(anomaly_rate, anomaly_burst, clock.now())),
            owed: VecDeque::new(),
            decisions: Vec::with_capacity(BATCH_SAMPLES_MAX),
            stream,
            schema,
            scorer,
            baseline_alarms: baseline,
            entry: None,
            starting: Some(SwapReason::Start),
            next_row,
            faults_in_a_row: 0,
            recorder,
            clock,
        }
    }

    pub(super) fn report(&self) -> Arc<LaneReport> {
        Arc::clone(&self.report)
    }

    pub(super) fn count_wait(&self, wait: Duration, samples: usize) {
        self.report.latency().record(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX), samples as u64);
    }

    /// Scores the next rows; tells whether the model had to be taken out.
    pub(super) fn score(&mut self, rows: &Rows, now: Instant) -> bool {
        self.reserve(rows.len() as u64);
        let panicked = !self.decide(rows);
        if panicked {
            tracing::error!(stream = %self.stream, by = %self.scorer.running(), "the model panicked; the baseline goes on");
            self.start_over();
            if !self.decide(rows) {
                tracing::error!(stream = %self.stream, rows = rows.len(), "the baseline panicked too; these rows have no decision");
                self.decisions.clear();
                self.start_over();
            }
        }
        self.next_row += rows.len() as u64;
        self.report.scored(rows.len() as u64, self.next_row);
        let decisions = std::mem::take(&mut self.decisions);
        self.report.count_over(decisions.iter().filter(|d| d.over).count() as u64);
        for decision in &decisions {
            self.judge(decision, now);
        }
        if let Some(run) = self.admission.due(now) {
            self.record_drop(run);
        }
        self.decisions = decisions;
        let worn_out = self.faults_in_a_row >= FAULTS_MAX;
        if worn_out {
            let (faults, problem) = (self.faults_in_a_row, self.scorer.fault().unwrap_or("its scores are no numbers"));
            tracing::error!(stream = %self.stream, by = %self.scorer.running(), faults, problem, "the model gives no numbers; the baseline goes on");
            match self.scorer.swap(None) {
                Ok(()) => self.take_charge(SwapReason::Fault),
                Err(problem) => tracing::error!(problem = %problem, "couldn't go back to the baseline"),
            }
        }
        panicked || worn_out
    }

    /// Swaps the model in for the next row, which is returned.
    pub(super) fn swap(&mut self, model: Option<Arc<Model>>, reason: SwapReason) -> Result<u64, SwapError> {
        self.pay();
        if self.owed.len() >= OWED_SWAPS_MAX {
            return Err(SwapError::NotRecordable);
        }
        self.scorer
            .swap(model)
            .map_err(|problem| SwapError::Mismatch { stream: self.stream.clone(), problem: problem.to_string() })?;
        self.take_charge(reason);
        tracing::info!(stream = %self.stream, by = %self.scorer.running(), first_row = self.next_row, reason = ?reason, "another scorer from here on");
        Ok(self.next_row)
    }

    /// The stream ends here: the last run of dropped anomalies, and the exact number of rows.
    pub(super) fn close(&mut self) {
        if let Some(first_row) = self.entry.as_ref().map(|e| e.first_row) {
            self.extend_to(self.next_row - first_row);
        }
        let run = self.admission.finish().map(|run| self.dropped(run));
        let last_words = self.owed.drain(..).map(Body::Swap).chain(run);
        if last_words.into_iter().any(|body| self.recorder.hand_over(body).is_err()) {
            tracing::warn!(stream = %self.stream, "the end of the stream could not be recorded; its next start leaves a hole in the row numbers");
        }
    }

    /// After a panic: what it left behind is not trusted.
    fn start_over(&mut self) {
        self.scorer = new_scorer(&self.schema);
        self.take_charge(SwapReason::Fault);
    }

    /// Another scorer is in charge from the next row on; its entry begins with the first row that it decides.
    fn take_charge(&mut self, reason: SwapReason) {
        self.faults_in_a_row = 0;
        self.starting = Some(reason);
        let by = self.scorer.running().clone();
        let (engine, first_row, since_ms) = (self.scorer.engine(), self.next_row, self.clock.wall_ms());
        self.report.set_running(Running { by, engine, first_row, since_ms, reason });
    }

    /// Fills `decisions`; false when scoring panicked.
    fn decide(&mut self, rows: &Rows) -> bool {
        self.decisions.clear();
        let (scorer, decisions, row) = (&mut self.scorer, &mut self.decisions, self.next_row);
        catch_unwind(AssertUnwindSafe(|| scorer.score_rows(row, rows, decisions))).is_ok()
    }

    fn judge(&mut self, decision: &Decision, now: Instant) {
        if let Some(reason) = self.starting {
            self.enter(decision, reason);
        }
        self.report.count_cause(decision.cause);
        match decision.cause {
            Cause::ModelFault => self.faults_in_a_row = self.faults_in_a_row.saturating_add(1),
            Cause::Model => self.faults_in_a_row = 0,
            Cause::Baseline | Cause::Missing | Cause::Frozen => {}
        }
        let wanted = decision.cause != Cause::Baseline || self.baseline_alarms;
        if decision.alarm && wanted {
            self.find(decision, now);
        }
    }

    fn find(&mut self, decision: &Decision, now: Instant) {
        if self.admission.admit(now) {
            self.pay();
            let anomaly = Body::Anomaly(self.anomaly(decision));
            if self.owed.is_empty() && self.recorder.offer(anomaly).is_ok() {
                self.report.count_anomaly();
                return;
            }
        }
        self.report.count_dropped();
        self.admission.refuse(decision.row, Finite32::saturating(decision.score), now);
    }

    fn anomaly(&self, decision: &Decision) -> Anomaly {
        let top = decision.top.as_slice().iter().filter_map(|share| {
            Some(Contribution {
                signal: self.schema.name(usize::from(share.signal))?.clone(),
                share: Finite32::saturating(share.share),
                value: Finite32::new(share.value).ok(),
            })
        });
        Anomaly {
            stream: self.stream.clone(),
            row: decision.row,
            at_ms: decision.at_ms,
            cause: decision.cause,
            score: Finite32::saturating(decision.score),
            threshold: Finite32::saturating(decision.threshold),
            top: top.collect(),
            by: self.blamed(decision).clone(),
            input: decision.input.unwrap_or_else(|| Digest::of(&[])),
        }
    }

    /// Whose finding it is: the baseline's own, else that of whoever is in charge.
    fn blamed(&self, decision: &Decision) -> &ScoredBy {
        match decision.cause {
            Cause::Baseline => self.scorer.scored_by(decision),
            Cause::Model | Cause::Missing | Cause::Frozen | Cause::ModelFault => self.scorer.running(),
        }
    }

    fn record_drop(&mut self, run: DroppedRun) {
        if self.recorder.offer(self.dropped(run)).is_err() {
            self.admission.restore(run);
        }
    }

    fn dropped(&self, run: DroppedRun) -> Body {
        let DroppedRun { first_row, last_row, count, max } = run;
        let stream = Some(self.stream.clone());
        Body::Drop(Dropped { stream, class: DropClass::Anomaly, first_row, last_row, count, max: Some(max) })
    }

    /// Makes sure that the next rows are promised to what runs, half a reservation ahead of their use.
    fn reserve(&mut self, rows: u64) {
        let Some(entry) = &self.entry else { return };
        let ahead = self.next_row.saturating_add(rows).saturating_add(RESERVED_ROWS / 2);
        let needed = ahead.saturating_sub(entry.first_row);
        if needed > entry.reserved {
            self.extend_to(needed.saturating_add(RESERVED_ROWS / 2));
            self.pay();
        }
    }

    fn extend_to(&mut self, rows: u64) {
        let Some(entry) = &mut self.entry else { return };
        entry.reserved = rows;
        // An entry that is still owed is simply made longer.
        match self.owed.back_mut().filter(|last| last.first_row == entry.first_row) {
            Some(last) => last.reserved = rows,
            None => self.owed.push_back(Swap { reason: SwapReason::Extend, ..entry.clone() }),
        }
    }

    /// The row of this decision may be the first of another scorer: then its entry begins.
    fn enter(&mut self, decision: &Decision, reason: SwapReason) {
        let by = self.scorer.scored_by(decision);
        let in_charge = by == self.scorer.running();
        if in_charge {
            self.starting = None;
        }
        // A start has an entry of its own also when the scorer is the one of the life before.
        if self.entry.as_ref().is_some_and(|entry| entry.by == *by) {
            return;
        }
        let entry = Swap {
            stream: self.stream.clone(),
            first_row: decision.row,
            reserved: RESERVED_ROWS,
            by: by.clone(),
            reason,
            engine: self.scorer.engine().filter(|_| in_charge),
        };
        if self.owed.len() >= OWED_SWAPS_MAX {
            // The disk refuses for long: the newest entry tells the truth about the rows to come.
            self.owed.pop_back();
        }
        self.owed.push_back(entry.clone());
        self.entry = Some(entry);
        self.pay();
    }

    /// Hands over the swap records that are owed, in order, as far as the recorder takes them.
    fn pay(&mut self) {
        while let Some(swap) = self.owed.front() {
            if self.recorder.offer(Body::Swap(swap.clone())).is_err() {
                return;
            }
            self.owed.pop_front();
        }
    }
}

fn new_scorer(schema: &Arc<Schema>) -> StreamScorer {
    StreamScorer::new(Arc::clone(schema)).explaining(Explain::Alarms)
}

#[cfg(test)]
mod tests;
