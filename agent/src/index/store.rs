//! The sled tree behind the index. Keys and layout are in the documentation of [`crate::index`].

use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use sled::{Batch, Db, IVec, Mode};
use vedette_journal::Entry;
use vedette_protocol::cbor;
use vedette_protocol::record::{Anomaly, Body, Record};

use super::query::{Found, Judgement, Query, record};

/// The layout described in the documentation.
const FORMAT: u32 = 1;

/// sled's page cache, bytes: about the default cap of the contents.
const CACHE_BYTES: u64 = 8 << 20;

/// What one anomaly costs beside its record: keys of 9 and about 40 bytes, and sled's own per item.
const OVERHEAD_BYTES: u64 = 96;

const META: &[u8] = b"m";

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
}

/// What some journal entries change.
#[derive(Debug, Default)]
pub(super) struct Step {
    anomalies: Vec<(u64, Anomaly, Vec<u8>)>,
    verdicts: BTreeMap<u64, Vec<u8>>,
}

impl Step {
    /// Takes in one journal entry; only anomalies and verdicts matter.
    pub(super) fn take(&mut self, entry: &Entry) {
        match record(entry).map(|r| r.body) {
            Some(Body::Anomaly(anomaly)) => self.anomalies.push((entry.sequence, anomaly, entry.payload.clone())),
            Some(Body::Verdict { record, .. }) => {
                self.verdicts.insert(record.sequence, entry.payload.clone());
            }
            Some(
                Body::Boot { .. }
                | Body::Swap(_)
                | Body::Gap { .. }
                | Body::Clock { .. }
                | Body::Config { .. }
                | Body::Drop(_)
                | Body::Ack { .. }
                | Body::Deploy(_),
            )
            | None => {}
        }
    }
}

impl Store {
    /// Opens or makes the view of this journal epoch.
    pub(super) fn open(folder: &Path, epoch: u64, bytes_max: u64) -> anyhow::Result<Self> {
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
        let store = Self { db, meta, bytes_max };
        ensure!(store.recount()? == (meta.bytes, meta.count), "entries are missing");
        Ok(store)
    }

    /// First sequence that is not in the view yet.
    pub(super) fn next_sequence(&self) -> u64 {
        self.meta.next_sequence
    }

    /// Takes a step and moves the cursor, atomically; then drops the oldest anomalies over the cap.
    pub(super) fn apply(&mut self, step: Step, next_sequence: u64) -> anyhow::Result<()> {
        if next_sequence == self.meta.next_sequence {
            return Ok(());
        }
        let mut batch = Batch::default();
        let mut meta = Meta { next_sequence, ..self.meta };
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
        batch.insert(META, meta.encode());
        self.db.apply_batch(batch)?;
        self.meta = meta;
        self.evict()
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
        let (anomaly, recorded_ms) = anomaly(&payload)?;
        let judgement = match self.db.get(key(b'v', sequence))? {
            None => None,
            Some(payload) => judgement(&payload)?,
        };
        Ok(Some(Found { sequence, recorded_ms, anomaly, judgement }))
    }
}

/// Moves a broken view out of the way; the one moved before it is deleted.
pub(super) fn set_aside(folder: &Path) -> anyhow::Result<()> {
    let aside = folder.with_extension("broken");
    if aside.exists() {
        std::fs::remove_dir_all(&aside).with_context(|| format!("couldn't delete {}", aside.display()))?;
    }
    if folder.exists() {
        std::fs::rename(folder, &aside)
            .with_context(|| format!("couldn't move {} to {}", folder.display(), aside.display()))?;
    }
    Ok(())
}

fn anomaly(payload: &[u8]) -> anyhow::Result<(Anomaly, i64)> {
    match cbor::from_canonical::<Record>(payload)? {
        Record { stamp, body: Body::Anomaly(anomaly) } => Ok((anomaly, stamp.wall_ms)),
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

fn cost(payload: &[u8]) -> u64 {
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
