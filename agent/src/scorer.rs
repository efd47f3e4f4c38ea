//! The scorer: turns samples into decisions, with the model that is current at each row.
//!
//! # Constraints
//!
//! - It never waits for disk or network: findings are offered to the recorder, and what finds no place is counted.
//! - A stream's rows are scored where they are: on the thread of its source, which takes the stream's [`Seat`]. Nothing is
//!   handed over on the way from a sample to its decision, because waking another thread takes several times as long as the
//!   decision. So no source may score on a thread that serves others: one that lives among the asynchronous rooms has a
//!   thread of its own for it ([`crate::source::queue`]).
//! - A swap always lies between two batches of rows: who scores and who swaps take the same lock in turn, in the order in
//!   which they ask (it is a fair one: a replay that scores without a break does not keep a swap waiting).
//! - A row gets its number here. Numbers are promised in the score ledger before they are used (see [`crate::ledger`]).
//! - Scoring never stops: a model that gives no number [`FAULTS_MAX`] times in a row, or panics, is taken out and the
//!   baseline goes on; that is a swap of its own, with the reason `fault`.
//!
//! # Operations
//!
//! One sample that came alone is scored alone; samples that wait behind each other are scored together, at most
//! [`crate::source::BATCH_SAMPLES_MAX`]. [`Board`] tells the others what each stream runs and how it goes, without a lock on
//! the way of a sample.

mod board;
mod lane;
pub mod latency;

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Mutex, watch};
use vedette_protocol::id::StreamName;
use vedette_protocol::record::SwapReason;
use vedette_scoring::{Model, Rows, Schema};

use crate::clock::Clock;
use crate::recorder::Recorder;
use crate::source::Ended;

pub use board::{Board, LaneReport, Running};
use lane::Lane;

/// Rows in a row for which a model gave no number before it is taken out: one bad window of 16 rows is not yet a bad model.
pub const FAULTS_MAX: u32 = 32;

/// The position of a stream in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneId(pub usize);

/// Why a model was not swapped in; the one before goes on.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum SwapError {
    /// No such stream in the configuration.
    #[error("there is no stream {0} on this device")]
    UnknownStream(StreamName),
    /// The model's contract does not fit the stream's signals.
    #[error("the model does not fit stream {stream}: {problem}")]
    Mismatch {
        /// The stream.
        stream: StreamName,
        /// Which signal or unit.
        problem: String,
    },
    /// Too many swaps wait to be recorded because the disk refuses.
    #[error("the swap cannot be recorded now: the journal does not take it")]
    NotRecordable,
    /// The agent is stopping.
    #[error("the scorer has ended")]
    Stopped,
}

/// A stream as the scorer needs it.
pub struct LaneSettings {
    /// Its name.
    pub stream: StreamName,
    /// The signals of each sample.
    pub schema: Arc<Schema>,
    /// The model to begin with; `None`: the baseline.
    pub model: Option<Arc<Model>>,
    /// Whether the baseline raises anomalies while there is no model.
    pub baseline: bool,
    /// Anomalies recorded per second in the long run.
    pub anomaly_rate: u32,
    /// Anomalies recorded in one burst.
    pub anomaly_burst: u32,
}

/// A stream's lane, and whether the scorer still runs.
struct Place {
    lane: Lane,
    open: bool,
}

/// A stream's place in the scorer: who has it may score the stream's rows.
#[derive(Clone)]
pub struct Seat {
    place: Arc<Mutex<Place>>,
    clock: Clock,
    changed: Arc<watch::Sender<u64>>,
}

impl std::fmt::Debug for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seat").finish_non_exhaustive()
    }
}

/// A handle to the scorer; clones share it.
#[derive(Clone, Debug)]
pub struct Scorer {
    seats: Arc<[Seat]>,
    board: Arc<Board>,
}

/// What remains of the scorer when the sources have ended.
#[derive(Debug)]
pub struct LastWords {
    seats: Arc<[Seat]>,
}

/// Opens the scorer; lanes are in the order of the configuration ([`LaneId`]).
#[must_use]
pub fn start(lanes: Vec<LaneSettings>, recorder: &Recorder, clock: Clock) -> (Scorer, LastWords) {
    let (changed, changes) = watch::channel(0);
    let changed = Arc::new(changed);
    let lanes: Vec<Lane> = lanes.into_iter().map(|settings| Lane::open(settings, recorder.clone(), clock)).collect();
    let board = Arc::new(Board::new(lanes.iter().map(Lane::report).collect(), changes));
    let seat =
        |lane| Seat { place: Arc::new(Mutex::new(Place { lane, open: true })), clock, changed: Arc::clone(&changed) };
    let seats: Arc<[Seat]> = lanes.into_iter().map(seat).collect();
    (Scorer { seats: Arc::clone(&seats), board }, LastWords { seats })
}

impl LastWords {
    /// Writes the exact end of each stream into the recorder's queue, after the rows that are being scored. None is scored
    /// afterwards.
    ///
    /// # Errors
    /// When that died.
    pub async fn finish(self) -> anyhow::Result<()> {
        // It may have to wait for a place in the recorder's queue.
        let closing = tokio::task::spawn_blocking(move || self.seats.iter().for_each(Seat::close));
        closing.await.map_err(|_panic| anyhow::anyhow!("the scorer died as it ended"))
    }
}

impl Seat {
    /// Scores the stream's next rows here and now; `taken` is when the first of them was taken. Not for a thread on which
    /// anything else waits.
    ///
    /// # Errors
    /// When the scorer has ended.
    pub fn score(&self, taken: Instant, rows: &Rows) -> Result<(), Ended> {
        let mut place = self.place.blocking_lock();
        if !place.open {
            return Err(Ended);
        }
        let swapped = place.lane.score(rows, self.clock.now());
        place.lane.count_wait(self.clock.now().saturating_duration_since(taken), rows.len());
        drop(place);
        if swapped {
            self.changed.send_modify(|n| *n += 1);
        }
        Ok(())
    }

    fn swap(&self, model: Option<Arc<Model>>, reason: SwapReason) -> Result<u64, SwapError> {
        let mut place = self.place.blocking_lock();
        if !place.open {
            return Err(SwapError::Stopped);
        }
        let first_row = place.lane.swap(model, reason)?;
        drop(place);
        self.changed.send_modify(|n| *n += 1);
        Ok(first_row)
    }

    fn close(&self) {
        let mut place = self.place.blocking_lock();
        place.open = false;
        place.lane.close();
    }
}

impl Scorer {
    /// A stream's place, for its source; `None` when there is no such lane.
    #[must_use]
    pub fn seat(&self, lane: LaneId) -> Option<Seat> {
        self.seats.get(lane.0).cloned()
    }

    /// What each stream runs and how it goes.
    #[must_use]
    pub fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// Swaps a stream's model (`None`: to the baseline) between two rows; gives the first row that the new one scores.
    ///
    /// # Errors
    /// When the model does not fit; the one before goes on.
    pub async fn swap(
        &self,
        stream: &StreamName,
        model: Option<Arc<Model>>,
        reason: SwapReason,
    ) -> Result<u64, SwapError> {
        let seat = self.board.lane(stream).and_then(|lane| self.seat(lane));
        let seat = seat.ok_or_else(|| SwapError::UnknownStream(stream.clone()))?;
        // The new model's window is filled from the rows that are kept: too long for a thread that others wait on.
        let swapped = tokio::task::spawn_blocking(move || seat.swap(model, reason)).await;
        swapped.unwrap_or(Err(SwapError::Stopped))
    }
}
