//! Taking in the records of the devices' journals: idempotent by record id, durable before the answer.
//!
//! # Constraints
//!
//! - A record is kept as its bytes came, for ever, under its id. The same id again is counted and not written. The same
//!   id with other bytes is never taken: the first stays, and the second is reported (a cloned device, or a journal begun
//!   again under the same epoch).
//! - A record that cannot be read is kept as well: a newer agent may say things that this registry learns later. It only
//!   cannot be found by what it says.
//! - `upto` is the first sequence that is missing. Records beyond a hole are kept and not acknowledged.
//! - Records, their keys, `upto` and the audit entries of what they mean are one write.
//!
//! # Group commit
//!
//! All batches that wait are one write and one fsync: [`Registry::ingest_group`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use vedette_protocol::cbor;
use vedette_protocol::id::{DeviceId, RecordId};
use vedette_protocol::limit::MAX_RECORD_BYTES;
use vedette_protocol::record::{Anomaly, Body, DeployStep, Record, ScoredBy, Stage, Swap, SwapReason};

use super::{Error, Registry, Result};
use crate::audit::{Change, DeviceStep, Entry};
use crate::store::{Write, keys};

/// Journal records kept. Measured with 200,000 anomalies: 1,007 bytes of disk each with their keys, and 189 MB of memory
/// in all, because sled's memory follows its contents; so this is 1 GB of disk and below 1 GB of memory. When it is
/// reached nothing more is taken in: the devices are not acknowledged and keep their evidence, and the log says so.
pub(crate) const RECORDS_MAX: u64 = 1_000_000;

/// One batch of a device's journal.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The device.
    pub device: DeviceId,
    /// The epoch of its journal.
    pub epoch: u64,
    /// Sequence and record bytes, ascending.
    pub records: Vec<(u64, Vec<u8>)>,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ingested {
    /// First sequence that is not stored: all below are, durably. What `down/ack` says.
    pub upto: u64,
    /// Records that were new.
    pub new: u64,
    /// Records that were here already.
    pub duplicate: u64,
    /// Records that were here already with other bytes; the first ones stay.
    pub conflicting: u64,
}

/// What a group has decided so far, before any of it is written.
#[derive(Default)]
struct Group {
    write: Write,
    entries: Vec<Entry>,
    taken: BTreeMap<RecordId, Vec<u8>>,
    upto: BTreeMap<(DeviceId, u64), u64>,
    audited: BTreeSet<RecordId>,
}

impl Registry {
    /// Takes in one batch, durably. See [`Registry::ingest_group`].
    ///
    /// # Errors
    ///
    /// The store is full or could not be written; nothing may be acknowledged.
    pub fn ingest(&self, device: &DeviceId, epoch: u64, records: Vec<(u64, Vec<u8>)>) -> Result<Ingested> {
        let results = self.ingest_group(vec![Batch { device: device.clone(), epoch, records }])?;
        Ok(results.first().copied().unwrap_or_default())
    }

    /// Takes in batches with one write and one fsync; answers in their order.
    ///
    /// # Errors
    ///
    /// The store is full or could not be written; nothing may be acknowledged.
    pub fn ingest_group(&self, batches: Vec<Batch>) -> Result<Vec<Ingested>> {
        let state = self.state();
        let mut turn = state.turn();
        self.check_room(&batches)?;
        let now = self.now_ms();
        let mut group = Group::default();
        let mut results = Vec::with_capacity(batches.len());
        for batch in batches {
            results.push(self.take(batch, now, &mut group)?);
        }
        for ((device, epoch), upto) in &group.upto {
            group.write.set(keys::received(device).number(*epoch).bytes(), upto.to_be_bytes().to_vec());
        }
        let senders: BTreeSet<&DeviceId> = group.upto.keys().map(|(device, _)| device).collect();
        let mut new_devices = 0;
        for device in senders {
            new_devices += self.note_records(device, &mut group.write)?;
        }
        let new = group.taken.len() as u64;
        turn.save_all(&group.entries, group.write)?;
        drop(turn);
        state.counts().records.fetch_add(new, Ordering::Relaxed);
        state.counts().devices.fetch_add(new_devices, Ordering::Relaxed);
        state.store().sync()?;
        Ok(results)
    }

    fn check_room(&self, batches: &[Batch]) -> Result<()> {
        let stored = self.state().counts().records.load(Ordering::Relaxed);
        let coming: u64 = batches.iter().map(|batch| batch.records.len() as u64).sum();
        if stored + coming > RECORDS_MAX {
            return Err(Error::Full(format!(
                "the registry holds {stored} records of at most {RECORDS_MAX}: devices keep theirs until there is room"
            )));
        }
        Ok(())
    }

    fn take(&self, batch: Batch, now: i64, group: &mut Group) -> Result<Ingested> {
        let mut result = Ingested::default();
        for (sequence, bytes) in batch.records {
            let id = RecordId { device: batch.device.clone(), epoch: batch.epoch, sequence };
            match self.known(&id, group)? {
                Some(before) if before == bytes => result.duplicate += 1,
                Some(_) => {
                    result.conflicting += 1;
                    tracing::warn!(record = %id, "a device sent other bytes under an id that is taken; the first stay");
                }
                None => {
                    self.place(&id, &bytes, now, group)?;
                    group.taken.insert(id, bytes);
                    result.new += 1;
                }
            }
        }
        result.upto = self.advance(&batch.device, batch.epoch, group)?;
        Ok(result)
    }

    fn known(&self, id: &RecordId, group: &Group) -> Result<Option<Vec<u8>>> {
        if let Some(bytes) = group.taken.get(id) {
            return Ok(Some(bytes.clone()));
        }
        let stored = self.state().store().get(keys::record(id))?;
        Ok(stored.map(|value| value.get(8..).unwrap_or_default().to_vec()))
    }

    /// Moves `upto` over what is stored or in this group.
    fn advance(&self, device: &DeviceId, epoch: u64, group: &mut Group) -> Result<u64> {
        let place = (device.clone(), epoch);
        let before = match group.upto.get(&place) {
            Some(upto) => *upto,
            None => self.received(device, epoch)?,
        };
        let mut id = RecordId { device: device.clone(), epoch, sequence: before };
        while self.known(&id, group)?.is_some() {
            id.sequence += 1;
        }
        // Kept also when nothing moved, so that a journal whose beginning is missing is seen.
        group.upto.insert(place, id.sequence);
        Ok(id.sequence)
    }

    /// First sequence of this journal that is not stored.
    ///
    /// # Errors
    ///
    /// The store could not be read.
    pub fn received(&self, device: &DeviceId, epoch: u64) -> Result<u64> {
        Ok(self.state().store().get_number(keys::received(device).number(epoch).bytes())?.unwrap_or(0))
    }

    fn place(&self, id: &RecordId, bytes: &[u8], now: i64, group: &mut Group) -> Result<()> {
        let mut value = Vec::with_capacity(8 + bytes.len());
        value.extend_from_slice(&keys::sortable(now).to_be_bytes());
        value.extend_from_slice(bytes);
        group.write.set(keys::record(id), value);
        let record = match read_record(bytes) {
            Ok(record) => record,
            Err(why) => {
                tracing::warn!(record = %id, why, "a record could not be read; its bytes are kept");
                return Ok(());
            }
        };
        match &record.body {
            Body::Anomaly(anomaly) => index_anomaly(id, anomaly, &mut group.write),
            Body::Swap(swap) => index_swap(id, swap, record.stamp.wall_ms, &mut group.write),
            Body::Verdict { record: about, verdict: _, by: _, note: _ } => {
                let newest = keys::Key::new(b'v').record(id).bytes();
                group.write.set(keys::verdict(about), newest.get(1..).unwrap_or_default().to_vec());
            }
            Body::Deploy(step) => self.note_step(id, step, now, group)?,
            Body::Boot { .. }
            | Body::Gap { .. }
            | Body::Clock { .. }
            | Body::Config { .. }
            | Body::Drop(_)
            | Body::Ack { .. } => {}
        }
        Ok(())
    }

    /// A device that came to run a version, or refused it, is a change in what the fleet runs: it goes into the audit
    /// journal, once.
    fn note_step(&self, id: &RecordId, step: &DeployStep, now: i64, group: &mut Group) -> Result<()> {
        let change = match step.stage {
            Stage::Live => Change::Committed,
            Stage::Refused => Change::Refused,
            Stage::Assigned | Stage::Verified | Stage::Fetched | Stage::Tried => return Ok(()),
        };
        // The entry may be there while the record is not: a crash lay between, or the store was rebuilt.
        if self.state().store().get(keys::audited(id))?.is_some() || !group.audited.insert(id.clone()) {
            return Ok(());
        }
        let step = DeviceStep {
            device: id.device.clone(),
            stream: step.stream.clone(),
            model: step.model.clone(),
            manifest: step.manifest,
            record: id.to_string(),
            detail: step.detail.clone(),
        };
        group.entries.push(Entry { at: now, by: format!("device:{}", id.device), change: change(step) });
        Ok(())
    }
}

/// Reads the bytes of a record.
pub(crate) fn read_record(bytes: &[u8]) -> std::result::Result<Record, String> {
    if bytes.len() > MAX_RECORD_BYTES {
        return Err(format!("it is {} bytes long, {MAX_RECORD_BYTES} are allowed", bytes.len()));
    }
    cbor::from_canonical(bytes).map_err(|error| error.to_string())
}

/// How a scorer is named in keys and filters: `name@version` or `baseline`.
pub(crate) fn scorer(by: &ScoredBy) -> String {
    match by {
        ScoredBy::Model { model, .. } => model.to_string(),
        ScoredBy::Baseline { version: _ } => "baseline".to_owned(),
    }
}

fn index_anomaly(id: &RecordId, anomaly: &Anomaly, write: &mut Write) {
    let scorer = scorer(&anomaly.by);
    let stream = anomaly.stream.as_str();
    let filter = keys::Key::new(0).name(stream).name(&scorer).bytes();
    let filter = filter.get(1..).unwrap_or_default();
    let at = anomaly.at_ms;
    for key in [
        keys::Key::new(b't'),
        keys::Key::new(b'd').name(id.device.as_str()),
        keys::Key::new(b's').name(stream),
        keys::Key::new(b'm').name(&scorer),
    ] {
        write.set(key.time(at).record(id).bytes(), filter.to_vec());
    }
}

fn index_swap(id: &RecordId, swap: &Swap, wall_ms: i64, write: &mut Write) {
    let by_row = keys::swaps(&id.device, id.epoch, &swap.stream).number(swap.first_row).number(id.sequence);
    write.set(by_row.bytes(), Vec::new());
    // An extension changes how far an entry reaches, not what runs.
    if swap.reason == SwapReason::Extend {
        return;
    }
    let by_time =
        keys::swap_times(&id.device).name(swap.stream.as_str()).time(wall_ms).number(id.epoch).number(id.sequence);
    write.set(by_time.bytes(), Vec::new());
}
