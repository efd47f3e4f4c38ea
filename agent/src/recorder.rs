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
//! Beside that, once a second at most (the *chores*): a checkpoint of the log is signed when enough records or time have
//! passed since the last one; the registry's position is journalled when it has moved far; what [`crate::retention`] says
//! may not be kept is thinned or removed, after what is lost by that is counted in a durable `drop` record and each
//! stream's newest swap is written again; the ballast is made again when there is room for it.
//!
//! # Recovery
//!
//! A start reads the journal once: the ledger, an account a segment, the ranges that gap records name. Damage that none
//! of them names gets one. Sequences that the registry has seen and the disk has lost are left out and named, too.
//!
//! When the disk refuses (full, read-only, failing), scoring goes on and [`Report::degraded`] says why. Records wait in
//! memory, in their order: first in the journal's group, then, or when the journal could not even be opened, in a ring of
//! [`RING_BYTES_MAX`]. What finds no room is counted to the last record and becomes a `drop` record: generated = written +
//! counted. Every `RETRY` the disk is asked again, with a fresh segment each time. Who awaits an answer gets the error at
//! once.
//!
//! What waits in memory does not leave the device. It has no sequence that a power cut would not take back, and a sequence
//! that the registry has seen must never be given to another record: the registry would believe that it has the new one,
//! and the log would contradict what is known of it. What leaves instead is the status: that the disk refuses, why, how
//! many records wait and how many are lost.

mod ballast;
mod begin;
pub mod bucket;
mod chores;
mod keeper;
mod opening;
mod ring;
mod signer;
mod survey;
mod trouble;
mod worker;

use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{oneshot, watch};
use vedette_journal::{Disk, Journal, Options, PublicKey, RealDisk, Signed};
use vedette_protocol::id::{DeviceId, Digest, RecordId};
use vedette_protocol::record::Body;

use crate::clock::Clock;
use crate::config;
use crate::ledger::Ledger;
use crate::retention::CLASSES;
use crate::state::State;
use opening::Opening;
pub use ring::RING_BYTES_MAX;
use signer::SignerEnds;
pub use trouble::Trouble;
use worker::Worker;

/// Orders that wait for the recorder: 1024 x about 400 B = 0.4 MB. When full, a finding is counted as dropped.
const QUEUE_ORDERS: usize = 1024;

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
    /// Records lost because that memory was full; each is counted in a drop record, once the disk takes one.
    pub lost: u64,
    /// How the disk refuses, if it does.
    pub trouble: Option<Trouble>,
    /// The same as a sentence.
    pub degraded: Option<String>,
    /// Bytes of the journal's files.
    pub journal_bytes: u64,
    /// Bytes of records by class, in the order of `Class::ALL`; headers and hashes count with class control.
    pub usage: [u64; CLASSES],
    /// Size of the log that the newest checkpoint of this life speaks for.
    pub checkpoint: Option<u64>,
}

/// How far the registry has this journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acknowledged {
    /// It has all records below this sequence.
    pub upto: u64,
    /// It has accepted a checkpoint of this size.
    pub checkpoint: u64,
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
    acknowledged: Arc<watch::Sender<Acknowledged>>,
    checkpoint: watch::Receiver<Option<Arc<Signed>>>,
    log_key: Arc<OnceLock<PublicKey>>,
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

/// What a life of the agent begins with.
#[derive(Clone, Debug)]
pub struct Boot {
    /// Whether the life before ended as it was asked to.
    pub previous_was_clean: bool,
    /// The configuration's digest.
    pub config: Digest,
}

/// What the journal needs beside its own folder to be kept for years.
#[derive(Clone, Debug)]
pub struct Keeping {
    /// The state folder.
    pub state: State,
    /// What may be kept.
    pub retention: config::Retention,
    /// Whether there is a registry that acknowledges.
    pub has_registry: bool,
    /// Records after which a checkpoint is signed.
    pub checkpoint_records: u32,
    /// Age at which one is signed.
    pub checkpoint_interval: Duration,
}

/// What a recorder works with.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// The journal's folder.
    pub folder: PathBuf,
    /// How the journal is written.
    pub options: Options,
    /// Whose journal it is.
    pub device: DeviceId,
    /// Time.
    pub clock: Clock,
    /// What is journalled first; `None`: nothing.
    pub boot: Option<Boot>,
    /// How it is kept; `None`: everything stays and nothing is signed.
    pub keeping: Option<Keeping>,
}

/// Opens the journal and starts the recorder on it. A disk that refuses (full, read-only, failing) does not hinder this:
/// the recorder then begins in memory.
///
/// # Errors
/// What will not mend itself: another writer, a newer format, somebody else's folder; or no thread can be made.
pub fn open(parts: Parts) -> anyhow::Result<(Recorder, RecorderThread)> {
    let cursor = parts.keeping.as_ref().map(|keeping| keeping.state.cursor());
    let Parts { disk, folder, options, device, clock, boot, keeping } = parts;
    let opening = Opening { disk, folder, options, cursor };
    launch(opening, None, Setting { device, clock, boot, keeping })
}

/// Starts the recorder on an opened journal, which it only writes; `folder` is the journal's, for those who read it.
///
/// # Errors
/// When no thread can be made.
pub fn start(
    journal: Journal,
    folder: PathBuf,
    device: DeviceId,
    clock: Clock,
) -> anyhow::Result<(Recorder, RecorderThread)> {
    let options = Options::new(journal.epoch());
    let opening = Opening { disk: Arc::new(RealDisk), folder, options, cursor: None };
    launch(opening, Some(journal), Setting { device, clock, boot: None, keeping: None })
}

/// What the worker knows of the world around it.
struct Setting {
    device: DeviceId,
    clock: Clock,
    boot: Option<Boot>,
    keeping: Option<Keeping>,
}

/// The recorder's ends of its channels.
struct Ends {
    inbox: std::sync::mpsc::Receiver<Order>,
    committed: watch::Sender<u64>,
    report: watch::Sender<Report>,
    acknowledged: watch::Receiver<Acknowledged>,
    signer: SignerEnds,
}

fn launch(opening: Opening, journal: Option<Journal>, setting: Setting) -> anyhow::Result<(Recorder, RecorderThread)> {
    let (device, folder) = (setting.device.clone(), opening.folder.clone());
    let (orders, inbox) = sync_channel(QUEUE_ORDERS);
    let (committed_out, committed) = watch::channel(0);
    let (report_out, report) = watch::channel(Report::default());
    let (acknowledged_in, acknowledged) = watch::channel(Acknowledged::default());
    let ledger = Arc::new(RwLock::new(Ledger::default()));
    let (checkpoint_out, checkpoint) = watch::channel(None);
    let log_key = Arc::new(OnceLock::new());
    let signer = SignerEnds { public: Arc::clone(&log_key), out: checkpoint_out };
    let ends = Ends { inbox, committed: committed_out, report: report_out, acknowledged, signer };
    let worker = Worker::open(opening, journal, setting, ends, Arc::clone(&ledger))?;
    let epoch = worker.epoch();
    let thread = std::thread::Builder::new()
        .name("recorder".to_owned())
        .spawn(move || worker.run())
        .context("couldn't start the recorder's thread")?;
    let acknowledged = Arc::new(acknowledged_in);
    let recorder = Recorder {
        orders: orders.clone(),
        committed,
        report,
        acknowledged,
        checkpoint,
        log_key,
        ledger,
        device,
        epoch,
        journal: folder,
    };
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

    /// The registry has the journal so far: sync says it when it moves. It never goes back.
    pub fn acknowledged(&self, now: Acknowledged) {
        self.acknowledged.send_if_modified(|known| {
            let new = Acknowledged { upto: known.upto.max(now.upto), checkpoint: known.checkpoint.max(now.checkpoint) };
            std::mem::replace(known, new) != new
        });
    }

    /// The newest signed checkpoint of this life; wakes whoever watches when there is another one.
    #[must_use]
    pub fn checkpoint(&self) -> watch::Receiver<Option<Arc<Signed>>> {
        self.checkpoint.clone()
    }

    /// The key that signs the checkpoints; `None` as long as the disk gives none.
    #[must_use]
    pub fn log_key(&self) -> Option<PublicKey> {
        self.log_key.get().copied()
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

#[cfg(test)]
mod tests;
