//! The sled tree behind the index. Keys and layout are in the documentation of [`crate::index`].

use std::collections::BTreeMap;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustix::fs::{FlockOperation, flock};
use sled::{Batch, Db, IVec, Mode};
use vedette_journal::Entry;
use vedette_protocol::cbor;
use vedette_protocol::record::{Anomaly, Body, Record};
use vedette_protocol::time::Stamp;
use vedette_protocol::time::corrected::{BOOTS_MAX, Corrections};

use super::query::{Found, Judgement, Query, record};
use super::seal;

/// The layout described in the documentation.
const FORMAT: u32 = 2;

/// sled's page cache, bytes: about the default cap of the contents.
const CACHE_BYTES: u64 = 8 << 20;

/// What one anomaly costs beside its record: keys of 9 and about 40 bytes, and sled's own per item.
const OVERHEAD_BYTES: u64 = 96;

/// What sled's files take beside and for the contents: it writes a page anew for each change and cleans up later. Measured: two
/// to four times the contents; a longer file is not read but made anew.
const FILE_FACTOR: u64 = 16;

/// The same for a view of nothing: segments of 512 KiB.
const FILE_BASE_BYTES: u64 = 16 << 20;

/// The readings of the clock, encoded: 1024 x below 128 B.
const CLOCKS_BYTES_MAX: usize = BOOTS_MAX * 128;

/// The file that sled locks while it has a view open.
const LOCKED_FILE: &str = "db";

/// How often it is asked whether sled has let go, and the pause between: two seconds in all.
const LET_GO_TRIES: u32 = 1000;
const LET_GO_PAUSE: Duration = Duration::from_millis(2);

const META: &[u8] = b"m";

const CLOCKS: &[u8] = b"c";

/// What the view knows about itself; little-endian in this order, 36 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    format: u32,
    epoch: u64,
    next_sequence: u64,
    bytes: u64,
    count: u64,
}

impl Meta {
    fn encode(self) -> Vec<u8> {
        let mut bytes = self.format.to_le_bytes().to_vec();
        for number in [self.epoch, self.next_sequence, self.bytes, self.count] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (format, rest) = bytes.split_first_chunk::<4>()?;
        let (epoch, rest) = rest.split_first_chunk::<8>()?;
        let (next, rest) = rest.split_first_chunk::<8>()?;
        let (size, rest) = rest.split_first_chunk::<8>()?;
        let (count, rest) = rest.split_first_chunk::<8>()?;
        rest.is_empty().then_some(Self {
            format: u32::from_le_bytes(*format),
            epoch: u64::from_le_bytes(*epoch),
            next_sequence: u64::from_le_bytes(*next),
            bytes: u64::from_le_bytes(*size),
            count: u64::from_le_bytes(*count),
        })
    }
}

/// The view; clones share the tree.
#[derive(Clone, Debug)]
pub(super) struct Store {
    db: Db,
    meta: Meta,
    bytes_max: u64,
    begin: u64,
    clocks: Arc<RwLock<Corrections>>,
}

/// What some journal entries change.
#[derive(Debug, Default)]
pub(super) struct Step {
    anomalies: Vec<(u64, Anomaly, Vec<u8>)>,
    verdicts: BTreeMap<u64, Vec<u8>>,
    clocks: Vec<Record>,
}

impl Step {
    /// Takes in one journal entry; only anomalies and verdicts matter.
    pub(super) fn take(&mut self, entry: &Entry) {
        let Some(record) = record(entry) else { return };
        match record.body {
            Body::Boot { .. } | Body::Clock { .. } => self.clocks.push(record),
            Body::Anomaly(anomaly) => self.anomalies.push((entry.sequence, anomaly, entry.payload.clone())),
            Body::Verdict { record, .. } => {
                self.verdicts.insert(record.sequence, entry.payload.clone());
            }
            Body::Swap(_)
            | Body::Gap { .. }
            | Body::Config { .. }
            | Body::Drop(_)
            | Body::Ack { .. }
            | Body::Deploy(_) => {}
        }
    }
}

impl Store {
    /// Opens the view of this journal epoch when it was closed and nothing has touched it since; otherwise makes it anew.
    pub(super) fn open(folder: &Path, epoch: u64, bytes_max: u64) -> anyhow::Result<Self> {
        if folder.exists() {
            let sealed = seal::take(folder, file_bytes_max(bytes_max));
            match sealed.and_then(|()| Self::open_files(folder, epoch, bytes_max)) {
                Ok(store) => return Ok(store),
                Err(why) => {
                    tracing::info!(
                        why = format!("{why:#}"),
                        "the index is not believed; making it anew from the journal"
                    );
                }
            }
            discard(folder)?;
        }
        Self::open_files(folder, epoch, bytes_max)
    }

    /// Closes and seals the view: the next start believes it.
    pub(super) fn close(self, folder: &Path) -> anyhow::Result<()> {
        self.db.flush()?;
        let bytes_max = self.bytes_max;
        drop(self);
        ensure!(is_let_go(folder), "sled holds its files on after it was closed");
        seal::put(folder, file_bytes_max(bytes_max))
    }

    fn open_files(folder: &Path, epoch: u64, bytes_max: u64) -> anyhow::Result<Self> {
        let path = folder.to_owned();
        let opened = catch_unwind(move || {
            let config = sled::Config::new()
                .path(path)
                .cache_capacity(CACHE_BYTES)
                .flush_every_ms(None)
                .mode(Mode::HighThroughput);
            config.open()
        });
        let db = match opened {
            Ok(db) => db.with_context(|| format!("couldn't open {}", folder.display()))?,
            Err(_panic) => bail!("sled panicked over {}", folder.display()),
        };
        let fresh = Meta { format: FORMAT, epoch, next_sequence: 0, bytes: 0, count: 0 };
        let meta = match db.get(META)? {
            None if db.is_empty() => fresh,
            None => bail!("it does not say how far it is"),
            Some(bytes) => Meta::decode(&bytes).context("what it says about itself cannot be read")?,
        };
        ensure!(meta.format == FORMAT && meta.epoch == epoch, "it is of another format or journal");
        let mut clocks = Corrections::default();
        if let Some(bytes) = db.get(CLOCKS)? {
            for reading in cbor::decode::<Vec<Stamp>>(&bytes, CLOCKS_BYTES_MAX)? {
                clocks.read(reading);
            }
        }
        let store = Self { db, meta, bytes_max, begin: 0, clocks: Arc::new(RwLock::new(clocks)) };
        ensure!(store.recount()? == (meta.bytes, meta.count), "entries are missing");
        Ok(store)
    }

    /// Leaves anomalies before this sequence out.
    pub(super) fn begin_at(&mut self, sequence: u64) {
        self.begin = sequence;
    }

    /// First sequence that is not in the view yet.
    pub(super) fn next_sequence(&self) -> u64 {
        self.meta.next_sequence
    }

    /// Takes a step and moves the cursor, atomically; then drops the oldest anomalies over the cap.
    pub(super) fn apply(&mut self, mut step: Step, next_sequence: u64) -> anyhow::Result<()> {
        if next_sequence == self.meta.next_sequence {
            return Ok(());
        }
        let mut batch = Batch::default();
        let mut meta = Meta { next_sequence, ..self.meta };
        step.anomalies.retain(|(sequence, ..)| *sequence >= self.begin);
        let fresh: Vec<u64> = step.anomalies.iter().map(|(sequence, ..)| *sequence).collect();
        for (sequence, anomaly, payload) in step.anomalies {
            meta.bytes += cost(&payload);
            meta.count += 1;
            batch.insert(time_key(anomaly.stream.as_str(), anomaly.at_ms, sequence), &[]);
            batch.insert(key(b's', sequence), payload);
        }
        for (sequence, payload) in step.verdicts {
            if fresh.binary_search(&sequence).is_ok() || self.db.contains_key(key(b's', sequence))? {
                batch.insert(key(b'v', sequence), payload);
            }
        }
        if let Some(readings) = self.learn(&step.clocks) {
            batch.insert(CLOCKS, cbor::encode(&readings));
        }
        batch.insert(META, meta.encode());
        self.db.apply_batch(batch)?;
        self.meta = meta;
        self.evict()
    }

    /// Takes in what is said about the clock; all readings, when something was learnt.
    fn learn(&self, records: &[Record]) -> Option<Vec<Stamp>> {
        let mut clocks = self.clocks.write().unwrap_or_else(PoisonError::into_inner);
        let learnt = records.iter().filter(|record| clocks.note(record)).count() > 0;
        learnt.then(|| clocks.readings())
    }

    fn evict(&mut self) -> anyhow::Result<()> {
        if self.meta.bytes <= self.bytes_max {
            return Ok(());
        }
        let mut batch = Batch::default();
        let mut meta = self.meta;
        for item in self.db.scan_prefix(b"s") {
            if meta.bytes <= self.bytes_max {
                break;
            }
            let (sequence_key, payload) = item?;
            let sequence = tail(&sequence_key).context("a key cannot be read")?;
            let (anomaly, _) = anomaly(&payload)?;
            batch.remove(time_key(anomaly.stream.as_str(), anomaly.at_ms, sequence));
            batch.remove(key(b'v', sequence));
            batch.remove(sequence_key);
            meta.bytes -= cost(&payload).min(meta.bytes);
            meta.count -= meta.count.min(1);
        }
        batch.insert(META, meta.encode());
        self.db.apply_batch(batch)?;
        self.meta = meta;
        Ok(())
    }

    /// Bytes and number of the anomalies that are really there.
    fn recount(&self) -> anyhow::Result<(u64, u64)> {
        let (mut bytes, mut count) = (0, 0);
        for item in self.db.scan_prefix(b"s") {
            bytes += cost(&item?.1);
            count += 1;
        }
        Ok((bytes, count))
    }

    /// Answers a query, ascending by sequence.
    pub(super) fn query(&self, query: &Query) -> anyhow::Result<Vec<Found>> {
        match catch_unwind(AssertUnwindSafe(|| self.answer(query))) {
            Ok(answer) => answer,
            Err(_panic) => bail!("sled panicked over a query"),
        }
    }

    fn answer(&self, query: &Query) -> anyhow::Result<Vec<Found>> {
        let limit = query.limit();
        let by_time = query.stream.is_some() || query.since_ms.is_some() || query.until_ms.is_some();
        let mut sequences = match (by_time, query.after) {
            (true, _) => self.by_time(query)?,
            (false, Some(after)) => {
                sequences(self.db.range(key(b's', after.saturating_add(1))..=key(b's', u64::MAX)).take(limit))?
            }
            (false, None) => sequences(self.db.scan_prefix(b"s").rev().take(limit))?,
        };
        sequences.sort_unstable();
        let from = if query.after.is_some() { 0 } else { sequences.len().saturating_sub(limit) };
        sequences.into_iter().skip(from).take(limit).filter_map(|sequence| self.found(sequence).transpose()).collect()
    }

    /// The sequences of all wanted anomalies, from the time keys alone.
    fn by_time(&self, query: &Query) -> anyhow::Result<Vec<u64>> {
        let range = match &query.stream {
            Some(stream) => {
                let from = time_key(stream.as_str(), query.since_ms.unwrap_or(i64::MIN), 0);
                let to = time_key(stream.as_str(), query.until_ms.unwrap_or(i64::MAX), u64::MAX);
                self.db.range(from..=to)
            }
            None => self.db.scan_prefix(b"t"),
        };
        let mut sequences = Vec::new();
        for item in range {
            let (time_key, _) = item?;
            let (stream, at_ms, sequence) = split_time_key(&time_key).context("a time key cannot be read")?;
            if query.wants(sequence, stream, at_ms) {
                sequences.push(sequence);
            }
        }
        Ok(sequences)
    }

    fn found(&self, sequence: u64) -> anyhow::Result<Option<Found>> {
        // Evicted between the two looks: then it is not in the answer.
        let Some(payload) = self.db.get(key(b's', sequence))? else { return Ok(None) };
        let (anomaly, stamp) = anomaly(&payload)?;
        let judgement = match self.db.get(key(b'v', sequence))? {
            None => None,
            Some(payload) => judgement(&payload)?,
        };
        let corrected_ms = self.clocks.read().unwrap_or_else(PoisonError::into_inner).corrected_ms(&stamp);
        Ok(Some(Found { sequence, recorded_ms: stamp.wall_ms, corrected_ms, anomaly, judgement }))
    }
}

/// Deletes a view that is not believed: everything in it is in the journal.
pub(super) fn discard(folder: &Path) -> anyhow::Result<()> {
    let gone = match std::fs::symlink_metadata(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(folder),
        Ok(_) | Err(_) => std::fs::remove_file(folder),
    };
    gone.with_context(|| format!("couldn't delete {}", folder.display()))
}

/// Whether sled has let go of a view that was closed: its threads write and hold the lock for a moment longer than its handle
/// lives. Waits for that, two seconds at most.
fn is_let_go(folder: &Path) -> bool {
    let Ok(file) = File::open(folder.join(LOCKED_FILE)) else { return true };
    (0..LET_GO_TRIES).any(|_| {
        let free = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
        if !free {
            std::thread::sleep(LET_GO_PAUSE);
        }
        free
    })
}

fn file_bytes_max(bytes_max: u64) -> u64 {
    bytes_max.saturating_mul(FILE_FACTOR).saturating_add(FILE_BASE_BYTES)
}

fn anomaly(payload: &[u8]) -> anyhow::Result<(Anomaly, Stamp)> {
    match cbor::from_canonical::<Record>(payload)? {
        Record { stamp, body: Body::Anomaly(anomaly) } => Ok((anomaly, stamp)),
        Record { .. } => bail!("an entry is no anomaly"),
    }
}

fn judgement(payload: &[u8]) -> anyhow::Result<Option<Judgement>> {
    Ok(match cbor::from_canonical::<Record>(payload)? {
        Record { stamp, body: Body::Verdict { verdict, by, note, .. } } => {
            Some(Judgement { verdict, by, note, at_ms: stamp.wall_ms })
        }
        Record { .. } => None,
    })
}

pub(super) fn cost(payload: &[u8]) -> u64 {
    payload.len() as u64 + OVERHEAD_BYTES
}

fn key(kind: u8, sequence: u64) -> Vec<u8> {
    let mut key = vec![kind];
    key.extend_from_slice(&sequence.to_be_bytes());
    key
}

fn time_key(stream: &str, at_ms: i64, sequence: u64) -> Vec<u8> {
    let mut key = vec![b't'];
    key.extend_from_slice(stream.as_bytes());
    key.push(0);
    // With the sign flipped, negative times sort before positive ones.
    key.extend_from_slice(&(at_ms.cast_unsigned() ^ (1 << 63)).to_be_bytes());
    key.extend_from_slice(&sequence.to_be_bytes());
    key
}

fn split_time_key(key: &[u8]) -> Option<(&str, i64, u64)> {
    let (rest, sequence) = key.split_last_chunk::<8>()?;
    let (rest, at) = rest.split_last_chunk::<8>()?;
    let stream = std::str::from_utf8(rest.strip_prefix(b"t")?.strip_suffix(&[0])?).ok()?;
    Some((stream, (u64::from_be_bytes(*at) ^ (1 << 63)).cast_signed(), u64::from_be_bytes(*sequence)))
}

fn tail(key: &[u8]) -> Option<u64> {
    key.split_last_chunk::<8>().map(|(_, sequence)| u64::from_be_bytes(*sequence))
}

fn sequences(items: impl Iterator<Item = sled::Result<(IVec, IVec)>>) -> anyhow::Result<Vec<u64>> {
    items.map(|item| tail(&item?.0).context("a key cannot be read")).collect()
}
