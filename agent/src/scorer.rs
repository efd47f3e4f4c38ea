//! The scorer: a thread of its own that turns samples into decisions, with the model that is current at each row.
//!
//! # Constraints
//!
//! - It never waits for disk or network: findings are offered to the recorder, and what finds no place is counted.
//! - Samples and orders to swap a model come through one bounded queue, so a swap always lies between two rows.
//! - A row gets its number here. Numbers are promised in the score ledger before they are used (see [`crate::ledger`]).
//! - Scoring never stops: a model that gives no number [`FAULTS_MAX`] times in a row, or panics, is taken out and the
//!   baseline goes on; that is a swap of its own, with the reason `fault`.
//!
//! # Operations
//!
//! A turn takes what waits. One sample that came alone is scored alone; samples of a stream that wait behind each other are
//! scored together, at most [`crate::source::BATCH_SAMPLES_MAX`]. [`Board`] tells the others what each stream runs and
//! how it goes, without a lock on the way of a sample.

mod board;
mod lane;
pub mod latency;

use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Context as _;
use tokio::sync::{mpsc, oneshot, watch};
use vedette_protocol::id::StreamName;
use vedette_protocol::record::SwapReason;
use vedette_scoring::{Model, Schema};

use crate::clock::Clock;
use crate::recorder::Recorder;
use crate::source::{BATCH_SAMPLES_MAX, Batch};

pub use board::{Board, LaneReport, Running};
use lane::Lane;

/// Batches and orders that wait for the scorer: 32 x 64 samples x 38 signals x 4 B = 311 KB. When full, sources wait.
const QUEUE_INPUTS: usize = 32;

/// Rows in a row for which a model gave no number before it is taken out: one bad window of 16 rows is not yet a bad model.
pub const FAULTS_MAX: u32 = 32;

/// The position of a stream in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneId(pub usize);

/// What the scorer's queue carries.
#[derive(Debug)]
pub enum Input {
    /// Samples to score.
    Samples(Batch),
    /// Another model from here on.
    Swap(SwapOrder),
    /// Score what came before this, then end.
    Close,
}

/// An order to change a stream's model at the next row.
pub struct SwapOrder {
    lane: LaneId,
    model: Option<Arc<Model>>,
    reason: SwapReason,
    reply: oneshot::Sender<Result<u64, SwapError>>,
}

impl std::fmt::Debug for SwapOrder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SwapOrder").field("lane", &self.lane).field("reason", &self.reason).finish_non_exhaustive()
    }
}

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

/// A handle to the scorer; clones share its queue.
#[derive(Clone, Debug)]
pub struct Scorer {
    inputs: mpsc::Sender<Input>,
    board: Arc<Board>,
}

/// The scorer's thread.
#[derive(Debug)]
pub struct ScorerThread {
    inputs: mpsc::Sender<Input>,
    thread: JoinHandle<()>,
}

/// Starts the scorer; lanes are in the order of the configuration ([`LaneId`]). Each stream's first swap record is
/// offered to the recorder before this returns.
///
/// # Errors
/// When no thread can be made.
pub fn start(lanes: Vec<LaneSettings>, recorder: &Recorder, clock: Clock) -> anyhow::Result<(Scorer, ScorerThread)> {
    let (changed, changes) = watch::channel(0);
    let lanes: Vec<Lane> = lanes.into_iter().map(|settings| Lane::open(settings, recorder.clone(), clock)).collect();
    let board = Arc::new(Board::new(lanes.iter().map(Lane::report).collect(), changes));
    let (inputs, inbox) = mpsc::channel(QUEUE_INPUTS);
    let worker = Worker { lanes, inbox, clock, changed };
    let thread = std::thread::Builder::new()
        .name("scorer".to_owned())
        .spawn(move || worker.run())
        .context("couldn't start the scorer's thread")?;
    Ok((Scorer { inputs: inputs.clone(), board }, ScorerThread { inputs, thread }))
}

impl ScorerThread {
    /// Lets it score what waits, write the exact end of each stream into the journal's queue, and end.
    ///
    /// # Errors
    /// When the thread had died.
    pub async fn finish(self) -> anyhow::Result<()> {
        // A closed queue means that the thread has ended already; join tells why.
        let closing = self.inputs.send(Input::Close).await;
        let joined = tokio::task::spawn_blocking(move || self.thread.join()).await?;
        joined.map_err(|_| anyhow::anyhow!("the scorer's thread died"))?;
        closing.map_err(|_| anyhow::anyhow!("the scorer had ended before"))
    }
}

impl Scorer {
    /// The queue for samples.
    #[must_use]
    pub fn inputs(&self) -> mpsc::Sender<Input> {
        self.inputs.clone()
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
        let lane = self.board.lane(stream).ok_or_else(|| SwapError::UnknownStream(stream.clone()))?;
        let (reply, answer) = oneshot::channel();
        let order = SwapOrder { lane, model, reason, reply };
        self.inputs.send(Input::Swap(order)).await.map_err(|_closed| SwapError::Stopped)?;
        answer.await.map_err(|_closed| SwapError::Stopped)?
    }
}

struct Worker {
    lanes: Vec<Lane>,
    inbox: mpsc::Receiver<Input>,
    clock: Clock,
    changed: watch::Sender<u64>,
}

impl Worker {
    fn run(mut self) {
        let mut inputs = Vec::with_capacity(QUEUE_INPUTS);
        let mut open = true;
        while open && self.inbox.blocking_recv_many(&mut inputs, QUEUE_INPUTS) > 0 {
            let mut waiting: Option<Batch> = None;
            for input in inputs.drain(..) {
                match input {
                    Input::Samples(batch) => {
                        if let Some(before) = join(&mut waiting, batch) {
                            self.score(before);
                        }
                    }
                    Input::Swap(order) => {
                        if let Some(before) = waiting.take() {
                            self.score(before);
                        }
                        self.swap(order);
                    }
                    Input::Close => open = false,
                }
            }
            if let Some(last) = waiting {
                self.score(last);
            }
        }
        for lane in &mut self.lanes {
            lane.close();
        }
    }

    fn score(&mut self, batch: Batch) {
        let Some(lane) = self.lanes.get_mut(batch.lane.0) else { return };
        let swapped = lane.score(&batch, self.clock.now());
        lane.count_wait(self.clock.now().saturating_duration_since(batch.taken), batch.samples.len());
        if swapped {
            self.changed.send_modify(|n| *n += 1);
        }
    }

    fn swap(&mut self, order: SwapOrder) {
        let Some(lane) = self.lanes.get_mut(order.lane.0) else { return };
        let result = lane.swap(order.model, order.reason);
        if result.is_ok() {
            self.changed.send_modify(|n| *n += 1);
        }
        if order.reply.send(result).is_err() {
            tracing::debug!("whoever ordered a swap has gone");
        }
    }
}

/// Joins a batch to the one that waits; gives back the one that waited when both do not go together.
fn join(waiting: &mut Option<Batch>, batch: Batch) -> Option<Batch> {
    match waiting {
        Some(before)
            if before.lane == batch.lane && before.samples.len() + batch.samples.len() <= BATCH_SAMPLES_MAX =>
        {
            before.samples.extend(batch.samples);
            None
        }
        Some(_) | None => waiting.replace(batch),
    }
}
