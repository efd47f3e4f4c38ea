//! The index: a sled view of the journal's anomalies and of what people said about them, for queries.
//!
//! # Constraints
//!
//! - It is a view: whatever is in it came from the journal and can be made again. It may lose, be late or be deleted.
//! - Its size is capped in bytes, because sled's memory and file follow its contents: the newest anomalies are kept.
//! - An answer from the index is the answer that a scan of the journal gives ([`scan`]), as far back as the cap reaches.
//!
//! # Layout
//!
//! One sled tree, all integers big-endian, so that keys sort as numbers do:
//!
//! | key | value |
//! |---|---|
//! | `c` | the best reading of the clock in each boot, CBOR |
//! | `m` | format, epoch, next sequence to read, bytes and number of the anomalies held |
//! | `s` sequence | the anomaly's record, canonical CBOR as in the journal |
//! | `t` stream `00` time (Unix ms, sign flipped) sequence | nothing |
//! | `v` sequence | the newest verdict on that anomaly, its record |
//!
//! # Operations
//!
//! A thread of its own follows the journal with a cursor of its own, up to what is durable. Each step is one atomic batch
//! that also moves the cursor. sled's flush is never relied on: after a crash the cursor is a little older, that is all.
//!
//! # Recovery
//!
//! A view is believed only when it was closed by a stop and not a byte of its folder has changed since: a digest over all files,
//! the seal, says so (`seal`). In every other case (a power cut, a kill, rot, another format or epoch, a cursor beyond the
//! journal, a count that is wrong, a panic of sled) the folder is deleted and built anew, which costs one reading of the journal.
//! Until it has caught up, and if it cannot be built at all, queries scan the journal.

mod query;
mod seal;
mod store;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;

use anyhow::Context as _;
use tokio::sync::watch;
use vedette_journal::Reader;
use vedette_protocol::record::RecordKind;

use crate::recorder::Recorder;

pub use query::{Found, Judgement, QUERY_LIMIT_MAX, Query, one, scan};
use store::{Step, Store};

/// Entries taken into one batch: 256 x about 400 B = 100 KB.
const ENTRIES_A_STEP: usize = 256;

/// Rebuilds in one life of the agent: a disk that breaks it a fourth time is left alone, and queries scan the journal.
const REBUILDS_MAX: u32 = 3;

/// A handle to the index; clones share it.
#[derive(Clone, Debug)]
pub struct Index {
    store: Arc<RwLock<Option<Store>>>,
    progress: watch::Receiver<u64>,
    journal: PathBuf,
}

/// The index's thread.
#[derive(Debug)]
pub struct IndexThread {
    thread: JoinHandle<()>,
}

/// Starts the index in `folder`, holding at most `bytes_max` of anomalies; it follows the recorder's journal and ends
/// with the recorder.
///
/// # Errors
/// When no thread can be made.
pub fn start(folder: PathBuf, bytes_max: u64, recorder: &Recorder) -> anyhow::Result<(Index, IndexThread)> {
    let store = Arc::new(RwLock::new(None));
    let (progress_out, progress) = watch::channel(0);
    let follower = Follower {
        folder,
        progress: progress_out,
        bytes_max,
        journal: recorder.journal().clone(),
        epoch: recorder.epoch(),
        committed: recorder.committed(),
        shared: Arc::clone(&store),
    };
    let runtime = tokio::runtime::Handle::current();
    let thread = std::thread::Builder::new()
        .name("index".to_owned())
        .spawn(move || follower.run(&runtime))
        .context("couldn't start the index's thread")?;
    Ok((Index { store, progress, journal: recorder.journal().clone() }, IndexThread { thread }))
}

impl IndexThread {
    /// Waits for it to end; it does so by itself once the recorder has ended.
    ///
    /// # Errors
    /// When the thread had died.
    pub async fn finish(self) -> anyhow::Result<()> {
        let joined = tokio::task::spawn_blocking(move || self.thread.join()).await?;
        joined.map_err(|_| anyhow::anyhow!("the index's thread died"))
    }
}

impl Index {
    /// The anomalies that a query wants, ascending by sequence. Blocks on the disk.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn query(&self, query: &Query) -> anyhow::Result<Vec<Found>> {
        if let Some(store) = self.store.read().unwrap_or_else(PoisonError::into_inner).as_ref() {
            match store.query(query) {
                Ok(found) => return Ok(found),
                Err(error) => tracing::warn!(error = %error, "the index did not answer; scanning the journal"),
            }
        }
        scan(&self.journal, query)
    }

    /// Whether queries are answered from the index and not by a scan.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.store.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Wakes whoever watches when more of the journal is in the index; ends with the index.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<u64> {
        self.progress.clone()
    }

    /// The journal's folder.
    #[must_use]
    pub fn journal(&self) -> &Path {
        &self.journal
    }
}

struct Follower {
    folder: PathBuf,
    bytes_max: u64,
    journal: PathBuf,
    epoch: u64,
    committed: watch::Receiver<u64>,
    progress: watch::Sender<u64>,
    shared: Arc<RwLock<Option<Store>>>,
}

impl Follower {
    fn run(mut self, runtime: &tokio::runtime::Handle) {
        for attempt in 0..=REBUILDS_MAX {
            let followed = catch_unwind(AssertUnwindSafe(|| self.follow(runtime)));
            match followed.unwrap_or_else(|_panic| Err(anyhow::anyhow!("sled panicked"))) {
                Ok(()) => return,
                Err(error) if attempt < REBUILDS_MAX => {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "the index is in doubt; building it anew from the journal"
                    );
                }
                Err(error) => {
                    tracing::error!(error = format!("{error:#}"), "couldn't keep an index; queries scan the journal");
                }
            }
            self.publish(None);
            if let Err(error) = store::discard(&self.folder) {
                tracing::error!(error = format!("{error:#}"), "couldn't delete the index; queries scan the journal");
                return;
            }
        }
    }

    /// Keeps up with the journal until the recorder has ended.
    fn follow(&mut self, runtime: &tokio::runtime::Handle) -> anyhow::Result<()> {
        let mut store = Store::open(&self.folder, self.epoch, self.bytes_max)?;
        let committed = *self.committed.borrow_and_update();
        anyhow::ensure!(store.next_sequence() <= committed, "its cursor is beyond the journal");
        if store.next_sequence() == 0 {
            store.begin_at(fitting(&self.journal, committed, self.bytes_max)?);
        }
        let mut reader = Reader::open(&self.journal, store.next_sequence())?;
        loop {
            let committed = *self.committed.borrow_and_update();
            while step(&mut store, &mut reader, committed)? {}
            if !self.published() {
                self.publish(Some(store.clone()));
            }
            self.progress.send_replace(store.next_sequence());
            if runtime.block_on(self.committed.changed()).is_err() {
                let committed = *self.committed.borrow();
                while step(&mut store, &mut reader, committed)? {}
                self.publish(None);
                if let Err(error) = store.close(&self.folder) {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "couldn't close the index; the next start makes it anew"
                    );
                }
                return Ok(());
            }
        }
    }

    fn published(&self) -> bool {
        self.shared.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn publish(&self, store: Option<Store>) {
        *self.shared.write().unwrap_or_else(PoisonError::into_inner) = store;
    }
}

/// The first sequence of the newest anomalies that fit. A view that is made anew begins there: to take in what would only be
/// evicted again costs twenty times what reading it does.
fn fitting(journal: &Path, committed: u64, bytes_max: u64) -> anyhow::Result<u64> {
    let (mut newest, mut bytes) = (VecDeque::new(), 0);
    let mut reader = Reader::open(journal, 0)?;
    while let Some(entry) = reader.next_below(committed)? {
        if entry.kind == RecordKind::Anomaly as u8 {
            let cost = store::cost(&entry.payload);
            newest.push_back((entry.sequence, cost));
            bytes += cost;
        }
        while bytes > bytes_max
            && let Some((_, cost)) = newest.pop_front()
        {
            bytes -= cost;
        }
    }
    Ok(newest.front().map_or(committed, |(sequence, _)| *sequence))
}

/// One batch; tells whether there may be more.
fn step(store: &mut Store, reader: &mut Reader, committed: u64) -> anyhow::Result<bool> {
    let mut step = Step::default();
    let mut entries = 0;
    while entries < ENTRIES_A_STEP {
        let Some(entry) = reader.next_below(committed)? else { break };
        entries += 1;
        step.take(&entry);
    }
    store.apply(step, reader.position())?;
    Ok(entries == ENTRIES_A_STEP)
}
