//! The recorder: findings become journal records here, on a thread of their own, and nowhere else.
//!
//! # Constraints
//!
//! - Scoring never waits for the disk: a finding is handed over with [`Recorder::offer`], which gives it back when the
//!   queue is full, and the scorer counts it.
//! - Who needs to know that a record is on the disk awaits [`Recorder::append`] (deploy steps, verdicts, swaps by hand).
//! - Records are numbered by the journal in the order in which they are taken from the queue.
//! - Readers (index, sync, tail) keep their own position in the journal; they are told only how far it is durable
//!   ([`Recorder::committed`]).
//!
//! # Operations
//!
//! A turn takes what waits, appends it to the journal's group and commits when the group is due by count or time, at
//! once when somebody awaits an answer. A swap record also goes into the ledger.
//!
//! # Recovery
//!
//! When the disk refuses, scoring goes on: the group stays in the journal's memory, what does not fit there is held
//! here up to [`HELD_RECORDS_MAX`], further findings are counted in [`Report::lost`]; the commit is tried again every
//! `RETRY`, and [`Report::degraded`] says what is wrong. Who awaits an answer gets the error at once.

pub mod bucket;
mod worker;

use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, RwLock};
use std::thread::JoinHandle;

use anyhow::Context as _;
use tokio::sync::{oneshot, watch};
use vedette_journal::Journal;
use vedette_protocol::id::{DeviceId, RecordId};
use vedette_protocol::record::Body;

use crate::clock::Clock;
use crate::ledger::Ledger;
use worker::Worker;

/// Orders that wait for the recorder: 1024 x about 400 B = 0.4 MB. When full, a finding is counted as dropped.
const QUEUE_ORDERS: usize = 1024;

/// Records held while the disk refuses, beyond the journal's own group: 2048 x about 500 B = 1 MB. When full, lost and counted.
pub const HELD_RECORDS_MAX: usize = 2048;

/// Why a record is not on the disk.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum RecordError {
    /// The queue is full; the caller may try again.
    #[error("the recorder is busy: too many records wait for the disk")]
    Busy,
    /// The disk refused; the record is kept in memory and tried again.
    #[error("couldn't write the journal: {0}")]
    Disk(String),
    /// The agent is stopping.
    #[error("the recorder has stopped")]
    Stopped,
}

/// What the recorder says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The sequence of the next record.
    pub next_sequence: u64,
    /// Records below this sequence are on the disk.
    pub committed: u64,
    /// Anomalies recorded since the start.
    pub anomalies: u64,
    /// Records that wait in memory because the disk refuses.
    pub held: u64,
    /// Records lost because that memory was full.
    pub lost: u64,
    /// What is wrong with the disk, if something is.
    pub degraded: Option<String>,
}

enum Order {
    Finding(Box<Body>),
    Append(Box<Body>, oneshot::Sender<Result<u64, RecordError>>),
    Close,
}

/// A handle to the recorder; clones share one queue.
#[derive(Clone, Debug)]
pub struct Recorder {
    orders: SyncSender<Order>,
    committed: watch::Receiver<u64>,
    report: watch::Receiver<Report>,
    ledger: Arc<RwLock<Ledger>>,
    device: DeviceId,
    epoch: u64,
    journal: PathBuf,
}

/// The recorder's thread.
#[derive(Debug)]
pub struct RecorderThread {
    orders: SyncSender<Order>,
    thread: JoinHandle<()>,
}

/// Starts the recorder on an opened journal; `folder` is the journal's, for those who read it.
///
/// # Errors
/// When the ledger cannot be read from the journal, or no thread can be made.
pub fn start(
    journal: Journal,
    folder: PathBuf,
    device: DeviceId,
    clock: Clock,
) -> anyhow::Result<(Recorder, RecorderThread)> {
    let ledger = Ledger::read(&folder).with_context(|| format!("couldn't read the journal {}", folder.display()))?;
    let ledger = Arc::new(RwLock::new(ledger));
    let (orders, inbox) = sync_channel(QUEUE_ORDERS);
    let (committed_out, committed) = watch::channel(journal.committed());
    let (report_out, report) = watch::channel(Report {
        next_sequence: journal.next_sequence(),
        committed: journal.committed(),
        ..Report::default()
    });
    let epoch = journal.epoch();
    let worker = Worker::new(journal, clock, inbox, Arc::clone(&ledger), committed_out, report_out);
    let thread = std::thread::Builder::new()
        .name("recorder".to_owned())
        .spawn(move || worker.run())
        .context("couldn't start the recorder's thread")?;
    let recorder = Recorder { orders: orders.clone(), committed, report, ledger, device, epoch, journal: folder };
    Ok((recorder, RecorderThread { orders, thread }))
}

impl RecorderThread {
    /// Lets it write what waits, and end: then it is on the disk, or the disk has refused. Nothing may be handed over
    /// afterwards.
    ///
    /// # Errors
    /// When the thread had died.
    pub async fn finish(self) -> anyhow::Result<()> {
        let joined = tokio::task::spawn_blocking(move || {
            // A closed queue means that the thread has ended already; join tells why.
            let closing = self.orders.send(Order::Close);
            self.thread.join().map(|()| closing.is_ok())
        });
        match joined.await? {
            Ok(true) => Ok(()),
            Ok(false) => anyhow::bail!("the recorder had ended before"),
            Err(_panic) => anyhow::bail!("the recorder's thread died"),
        }
    }
}

impl Recorder {
    /// Hands a finding over without waiting.
    ///
    /// # Errors
    /// [`RecordError::Busy`] when the queue is full, [`RecordError::Stopped`] when the recorder has stopped.
    pub fn offer(&self, body: Body) -> Result<(), RecordError> {
        self.orders.try_send(Order::Finding(Box::new(body))).map_err(|e| refusal(&e))
    }

    /// Hands over the last words of a room that ends: waits for a place in the queue, and never while scoring.
    ///
    /// # Errors
    /// [`RecordError::Stopped`] when the recorder has stopped.
    pub fn hand_over(&self, body: Body) -> Result<(), RecordError> {
        self.orders.send(Order::Finding(Box::new(body))).map_err(|_closed| RecordError::Stopped)
    }

    /// Writes a record and returns its id when it is on the disk.
    ///
    /// # Errors
    /// [`RecordError::Busy`] at once when the queue is full, [`RecordError::Disk`] when the disk refused.
    pub async fn append(&self, body: Body) -> Result<RecordId, RecordError> {
        let (reply, answer) = oneshot::channel();
        self.orders.try_send(Order::Append(Box::new(body), reply)).map_err(|e| refusal(&e))?;
        let sequence = answer.await.map_err(|_| RecordError::Stopped)??;
        Ok(self.id(sequence))
    }

    /// How far the journal is durable: records below this sequence. Changes wake whoever watches.
    #[must_use]
    pub fn committed(&self) -> watch::Receiver<u64> {
        self.committed.clone()
    }

    /// What the recorder says about itself now.
    #[must_use]
    pub fn report(&self) -> Report {
        self.report.borrow().clone()
    }

    /// The score ledger, kept up with the swap records written here.
    #[must_use]
    pub fn ledger(&self) -> Arc<RwLock<Ledger>> {
        Arc::clone(&self.ledger)
    }

    /// The device whose journal this is.
    #[must_use]
    pub fn device(&self) -> &DeviceId {
        &self.device
    }

    /// The journal's epoch.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The journal's folder, for readers.
    #[must_use]
    pub fn journal(&self) -> &PathBuf {
        &self.journal
    }

    /// The id of the record with this sequence.
    #[must_use]
    pub fn id(&self, sequence: u64) -> RecordId {
        RecordId { device: self.device.clone(), epoch: self.epoch, sequence }
    }
}

fn refusal(error: &TrySendError<Order>) -> RecordError {
    match error {
        TrySendError::Full(_) => RecordError::Busy,
        TrySendError::Disconnected(_) => RecordError::Stopped,
    }
}
