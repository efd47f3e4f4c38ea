//! Where a record is kept, and how it is found again by what it says.

use std::collections::BTreeSet;

use vedette_protocol::cbor;
use vedette_protocol::id::RecordId;
use vedette_protocol::limit::MAX_RECORD_BYTES;
use vedette_protocol::record::{Anomaly, Body, DeployStep, Record, ScoredBy, Stage, Swap, SwapReason};

use super::{Registry, Result};
use crate::audit::{Change, DeviceStep, Entry};
use crate::store::{Write, keys};

/// What keeping records asks of the one write.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) write: Write,
    pub(crate) entries: Vec<Entry>,
    audited: BTreeSet<RecordId>,
}

/// When a record came, and whether it had waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Unix ms, by our clock.
    pub at_ms: i64,
    /// It had waited for the connection.
    pub late: bool,
}

impl Registry {
    /// Adds a record to `kept`: its bytes as they came, and the keys under which it is found.
    pub(crate) fn keep(&self, id: &RecordId, bytes: &[u8], received: Received, kept: &mut Kept) -> Result<()> {
        let mut value = Vec::with_capacity(8 + bytes.len());
        value.extend_from_slice(&keys::received_at(received.at_ms, received.late).to_be_bytes());
        value.extend_from_slice(bytes);
        kept.write.set(keys::record(id), value);
        let record = match read_record(bytes) {
            Ok(record) => record,
            Err(why) => {
                tracing::warn!(record = %id, why, "a record could not be read; its bytes are kept");
                return Ok(());
            }
        };
        match &record.body {
            Body::Anomaly(anomaly) => index_anomaly(id, anomaly, &mut kept.write),
            Body::Swap(swap) => index_swap(id, swap, record.stamp.wall_ms, &mut kept.write),
            Body::Verdict { record: about, verdict: _, by: _, note: _ } => {
                self.note_verdict(id, about, &mut kept.write)?
            }
            Body::Deploy(step) => self.note_step(id, step, received.at_ms, kept)?,
            Body::Gap { from, to, reason: _ } => {
                let key = keys::lost(&id.device, id.epoch).number(*from);
                kept.write.set(key.bytes(), to.to_be_bytes().to_vec());
            }
            Body::Boot { .. } | Body::Clock { .. } | Body::Config { .. } | Body::Drop(_) | Body::Ack { .. } => {}
        }
        Ok(())
    }

    /// The newest verdict counts: by its place in the journal, because what had waited comes after what is new.
    fn note_verdict(&self, id: &RecordId, about: &RecordId, write: &mut Write) -> Result<()> {
        let key = keys::verdict(about);
        let place = keys::Key::new(b'v').record(id).bytes().split_off(1);
        let stored = self.state().store().get(&key)?;
        let known = write.get(&key).or(stored.as_deref());
        if known.is_none_or(|known| known < place.as_slice()) {
            write.set(key, place);
        }
        Ok(())
    }

    /// A device that came to run a version, or refused it, is a change in what the fleet runs: it goes into the audit
    /// journal, once.
    fn note_step(&self, id: &RecordId, step: &DeployStep, now: i64, kept: &mut Kept) -> Result<()> {
        let change = match step.stage {
            Stage::Live => Change::Committed,
            Stage::Refused => Change::Refused,
            Stage::Assigned | Stage::Verified | Stage::Fetched | Stage::Tried => return Ok(()),
        };
        // The entry may be there while the record is not: a crash lay between, or the store was rebuilt.
        if self.state().store().get(keys::audited(id))?.is_some() || !kept.audited.insert(id.clone()) {
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
        kept.entries.push(Entry { at: now, by: format!("device:{}", id.device), change: change(step) });
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
