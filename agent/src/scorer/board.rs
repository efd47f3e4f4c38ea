//! What the scorer tells the others: which model each stream runs, counts, and how long samples wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::sync::watch;
use vedette_protocol::id::StreamName;
use vedette_protocol::record::{Cause, EngineKind, ScoredBy, SwapReason};

use super::LaneId;
use super::latency::Latency;

/// Which model runs, since when and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// The scorer.
    pub by: ScoredBy,
    /// What runs its graph; nothing for the baseline.
    pub engine: Option<EngineKind>,
    /// The first row that it scored.
    pub first_row: u64,
    /// When it was swapped in, Unix ms UTC.
    pub since_ms: i64,
    /// Why.
    pub reason: SwapReason,
}

/// One stream's report; who scores it writes, everyone may read.
#[derive(Debug)]
pub struct LaneReport {
    stream: StreamName,
    running: watch::Sender<Running>,
    first_row: u64,
    next_row: AtomicU64,
    rows: AtomicU64,
    over: AtomicU64,
    anomalies: AtomicU64,
    dropped: AtomicU64,
    signal_findings: AtomicU64,
    model_faults: AtomicU64,
    latency: Latency,
}

impl LaneReport {
    pub(super) fn new(stream: StreamName, running: Running, next_row: u64) -> Self {
        Self {
            stream,
            running: watch::Sender::new(running),
            first_row: next_row,
            next_row: AtomicU64::new(next_row),
            rows: AtomicU64::new(0),
            over: AtomicU64::new(0),
            anomalies: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            signal_findings: AtomicU64::new(0),
            model_faults: AtomicU64::new(0),
            latency: Latency::default(),
        }
    }

    /// The stream.
    #[must_use]
    pub fn stream(&self) -> &StreamName {
        &self.stream
    }

    /// What runs now.
    #[must_use]
    pub fn running(&self) -> Running {
        self.running.borrow().clone()
    }

    /// The first row of this life of the agent.
    #[must_use]
    pub fn first_row(&self) -> u64 {
        self.first_row
    }

    /// The number of the next row.
    #[must_use]
    pub fn next_row(&self) -> u64 {
        self.next_row.load(Relaxed)
    }

    /// Rows scored since the agent started.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows.load(Relaxed)
    }

    /// Rows over their threshold since the agent started.
    #[must_use]
    pub fn over(&self) -> u64 {
        self.over.load(Relaxed)
    }

    /// Anomalies handed to the recorder since the agent started.
    #[must_use]
    pub fn anomalies(&self) -> u64 {
        self.anomalies.load(Relaxed)
    }

    /// Anomalies dropped since the agent started: over the rate, or no place in the recorder's queue.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Rows with a missing or frozen signal since the agent started.
    #[must_use]
    pub fn signal_findings(&self) -> u64 {
        self.signal_findings.load(Relaxed)
    }

    /// Rows for which the model gave no number since the agent started.
    #[must_use]
    pub fn model_faults(&self) -> u64 {
        self.model_faults.load(Relaxed)
    }

    /// Times from sample to decision.
    #[must_use]
    pub fn latency(&self) -> &Latency {
        &self.latency
    }

    pub(super) fn set_running(&self, running: Running) {
        self.running.send_replace(running);
    }

    pub(super) fn scored(&self, rows: u64, next_row: u64) {
        self.rows.fetch_add(rows, Relaxed);
        self.next_row.store(next_row, Relaxed);
    }

    pub(super) fn count_over(&self, rows: u64) {
        self.over.fetch_add(rows, Relaxed);
    }

    pub(super) fn count_anomaly(&self) {
        self.anomalies.fetch_add(1, Relaxed);
    }

    pub(super) fn count_dropped(&self) {
        self.dropped.fetch_add(1, Relaxed);
    }

    pub(super) fn count_cause(&self, cause: Cause) {
        match cause {
            Cause::Missing | Cause::Frozen => self.signal_findings.fetch_add(1, Relaxed),
            Cause::ModelFault => self.model_faults.fetch_add(1, Relaxed),
            Cause::Model | Cause::Baseline => return,
        };
    }
}

/// The reports of all streams.
#[derive(Debug)]
pub struct Board {
    lanes: Vec<Arc<LaneReport>>,
    changes: watch::Receiver<u64>,
}

impl Board {
    pub(super) fn new(lanes: Vec<Arc<LaneReport>>, changes: watch::Receiver<u64>) -> Self {
        Self { lanes, changes }
    }

    /// The streams in the order of the configuration.
    #[must_use]
    pub fn lanes(&self) -> &[Arc<LaneReport>] {
        &self.lanes
    }

    /// A stream's report.
    #[must_use]
    pub fn report(&self, stream: &StreamName) -> Option<&Arc<LaneReport>> {
        self.lanes.iter().find(|lane| lane.stream() == stream)
    }

    /// A stream's position.
    #[must_use]
    pub fn lane(&self, stream: &StreamName) -> Option<LaneId> {
        self.lanes.iter().position(|lane| lane.stream() == stream).map(LaneId)
    }

    /// Wakes whoever watches when some stream has got another model.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }
}
