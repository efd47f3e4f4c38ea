//! Devices as last heard, and what ran on them at a time.

use std::sync::atomic::Ordering;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use vedette_protocol::id::{DeviceId, RecordId, StreamName};
use vedette_protocol::message::{Birth, Status, StreamState};
use vedette_protocol::time::format_ms;

use super::anomalies::word;
use super::scored::ran;
use super::{Error, Registry, Result};
use crate::store::{Write, keys};
use crate::view::{DeviceAt, DeviceView, JournalView, RanView, StatusView, StreamView};

/// Devices known. One registry with the embedded broker serves 2,000 connections; past 20,000 names something else than
/// a fleet is talking. A further one is refused and logged; nothing of it is kept.
const DEVICES_MAX: u64 = 20_000;

/// A device as last heard. Written without an fsync: the device says it again.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Heard {
    online: bool,
    last_seen_ms: i64,
    agent_version: String,
    epoch: u64,
    next_sequence: Option<u64>,
    streams: Vec<StreamState>,
    assignment_version: u64,
    status: Option<StatusView>,
    /// Why its last checkpoint was left aside.
    #[serde(default)]
    checkpoint_left: Option<String>,
}

impl Registry {
    /// Notes a birth, or the last will that takes it back.
    ///
    /// # Errors
    ///
    /// There are too many devices, or the store could not be written.
    pub fn note_birth(&self, birth: &Birth) -> Result<()> {
        self.hear(&birth.device, |heard| {
            heard.online = birth.online;
            // A last will was written when the session began: it says who is gone and nothing newer.
            if birth.online {
                heard.agent_version.clone_from(&birth.agent_version);
                if heard.epoch != birth.epoch {
                    heard.next_sequence = None;
                }
                heard.epoch = birth.epoch;
                heard.streams.clone_from(&birth.streams);
                heard.assignment_version = birth.assignment_version;
            }
        })
    }

    /// Notes a status.
    ///
    /// # Errors
    ///
    /// There are too many devices, or the store could not be written.
    pub fn note_status(&self, status: &Status) -> Result<()> {
        self.hear(&status.device, |heard| {
            heard.online = true;
            heard.epoch = status.epoch;
            heard.next_sequence = Some(status.next_sequence);
            heard.streams.clone_from(&status.streams);
            heard.assignment_version = status.assignment_version;
            heard.status = Some(StatusView {
                rows: status.rows,
                anomalies: status.anomalies,
                dropped: status.dropped,
                degraded: status.degraded.clone(),
                memory_bytes: status.memory_bytes,
                uptime_s: status.uptime_s,
            });
        })
    }

    fn hear(&self, device: &DeviceId, change: impl FnOnce(&mut Heard)) -> Result<()> {
        let state = self.state();
        let mut turn = state.turn();
        let mut write = Write::default();
        let new = self.note(device, &mut write, change)?;
        turn.save_all(&[], write)?;
        state.counts().devices.fetch_add(new, Ordering::Relaxed);
        Ok(())
    }

    /// Adds to `write` that a device was heard. Returns how many devices are new by it: 1 or 0.
    fn note(&self, device: &DeviceId, write: &mut Write, change: impl FnOnce(&mut Heard)) -> Result<u64> {
        let state = self.state();
        let key = keys::device(device);
        let known: Option<Heard> = state.store().get_json(&key)?;
        let is_new = known.is_none();
        if is_new && state.counts().devices.load(Ordering::Relaxed) >= DEVICES_MAX {
            return Err(Error::Full(format!(
                "there are {DEVICES_MAX} devices, which is the limit: `{device}` is not taken in"
            )));
        }
        let mut heard = known.unwrap_or_default();
        heard.last_seen_ms = self.now_ms();
        change(&mut heard);
        write.set_json(key, &heard)?;
        Ok(u64::from(is_new))
    }

    /// Adds to `write` that records of a device came, and what was wrong with its checkpoint, if one came with them.
    /// Returns how many devices are new by it: 1 or 0.
    pub(crate) fn note_records(
        &self,
        device: &DeviceId,
        checkpoint: Option<&Option<String>>,
        write: &mut Write,
    ) -> Result<u64> {
        self.note(device, write, |heard| {
            if let Some(left) = checkpoint {
                heard.checkpoint_left.clone_from(left);
            }
        })
    }

    /// All devices, by name: those heard, and those that only have an assignment or are in quarantine.
    ///
    /// # Errors
    ///
    /// The store could not be read.
    pub fn devices(&self) -> Result<Vec<DeviceView>> {
        let mut names = std::collections::BTreeSet::new();
        for prefix in [keys::devices(), keys::assignments(), keys::quarantines()] {
            for entry in self.state().store().prefix(&prefix) {
                let (key, _) = entry?;
                names.insert(name_of(&key, prefix.len())?);
            }
        }
        names.iter().map(|device| self.device(device)).collect()
    }

    /// One device.
    ///
    /// # Errors
    ///
    /// Nothing is known of it.
    pub fn device(&self, device: &DeviceId) -> Result<DeviceView> {
        let heard: Option<Heard> = self.state().store().get_json(keys::device(device))?;
        let desired = self.current_assignment(device)?.map(|record| record.assigned.version);
        let quarantine = self.quarantine_view(device)?;
        if heard.is_none() && desired.is_none() && quarantine.is_none() {
            return Err(Error::NotFound(format!("no device `{device}` has been heard or assigned anything here")));
        }
        let heard = heard.unwrap_or_default();
        Ok(DeviceView {
            device: device.clone(),
            online: heard.online,
            last_seen_ms: heard.last_seen_ms,
            last_seen: format_ms(heard.last_seen_ms),
            agent_version: heard.agent_version,
            streams: heard.streams.iter().map(stream_view).collect::<Result<_>>()?,
            assignment_version: heard.assignment_version,
            desired_version: desired,
            journals: self.journals(device, heard.epoch, heard.next_sequence)?,
            status: heard.status,
            quarantine,
            key: self.standing(device)?.key().map(|key| key.to_string()),
            checkpoint_left: heard.checkpoint_left,
        })
    }

    fn journals(&self, device: &DeviceId, epoch: u64, written: Option<u64>) -> Result<Vec<JournalView>> {
        let mut journals = Vec::new();
        for entry in self.state().store().prefix(keys::received(device).bytes()) {
            let (key, _) = entry?;
            let (of, _) = keys::take_number(&key).context("a journal's key in the store cannot be read")?;
            let log = self.device_log(device, of)?;
            journals.push(JournalView {
                epoch: of,
                upto: log.progress.upto,
                written: written.filter(|_| of == epoch),
                absent: log.progress.absent.saturating_sub(log.progress.restored),
                restored: log.progress.restored,
                late: log.progress.late,
                checkpoint: log.tree.size(),
                proven: log.tree.matched,
            });
        }
        Ok(journals)
    }

    /// What ran on a device at a time (Unix ms), from the swap records it sent in and the assignments made here.
    ///
    /// # Errors
    ///
    /// Nothing is known of the device.
    pub fn device_at(&self, device: &DeviceId, at_ms: i64) -> Result<DeviceAt> {
        self.device(device).map(drop)?;
        let mut streams = Vec::new();
        for stream in self.swapped_streams(device)? {
            streams.extend(self.ran_at(device, &stream, at_ms)?);
        }
        let assignment = self.assignment_at(device, at_ms)?;
        Ok(DeviceAt { device: device.clone(), time: format_ms(at_ms), streams, assignment })
    }

    /// Streams of a device that have swap records: one look each, however many records there are.
    fn swapped_streams(&self, device: &DeviceId) -> Result<Vec<StreamName>> {
        let prefix = keys::swap_times(device);
        let skip = prefix.clone().bytes().len();
        let end = prefix.clone().raw(&[0xff]).bytes();
        let mut from = prefix.bytes();
        let mut streams = Vec::new();
        while let Some(entry) = self.state().store().range(from, end.clone()).next() {
            let (key, _) = entry?;
            let rest = key.get(skip..).unwrap_or_default();
            let name = rest.split(|byte| *byte == 0).next().unwrap_or_default();
            let stream: StreamName = parse_name(name)?;
            // 01 sorts behind every key of this stream (they go on with 00) and before any longer name.
            from = keys::swap_times(device).raw(name).raw(&[1]).bytes();
            streams.push(stream);
        }
        Ok(streams)
    }

    fn ran_at(&self, device: &DeviceId, stream: &StreamName, at_ms: i64) -> Result<Option<RanView>> {
        let prefix = keys::swap_times(device).name(stream.as_str());
        let from = prefix.clone().bytes();
        let end = prefix.time(at_ms).number(u64::MAX).number(u64::MAX).bytes();
        let Some(entry) = self.state().store().range(from, end).next_back() else {
            return Ok(None);
        };
        let (key, _) = entry?;
        let (sequence, rest) = keys::take_number(&key).context("a swap's key in the store cannot be read")?;
        let (epoch, _) = keys::take_number(rest).context("a swap's key in the store cannot be read")?;
        let id = RecordId { device: device.clone(), epoch, sequence };
        let (swap, wall_ms) = self.swap(&id)?;
        Ok(Some(ran(&id, &swap, wall_ms)))
    }
}

fn stream_view(state: &StreamState) -> Result<StreamView> {
    let stage = state.stage.as_ref();
    Ok(StreamView {
        stream: state.stream.clone(),
        by: state.by.clone(),
        row: state.row,
        stage: stage.map(|step| word(&step.stage)).transpose()?,
        stage_model: stage.map(|step| step.model.clone()),
        detail: stage.and_then(|step| step.detail.clone()),
    })
}

fn name_of(key: &[u8], skip: usize) -> Result<DeviceId> {
    parse_name(key.get(skip..).unwrap_or_default())
}

fn parse_name<T: std::str::FromStr>(bytes: &[u8]) -> Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text = std::str::from_utf8(bytes).context("a name in the store is not text")?;
    Ok(text.parse().context("a name in the store is not one")?)
}
