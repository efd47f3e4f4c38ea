//! What the store holds of one journal of a device beside its records: how far it has come in, and its signed tree.

use std::collections::BTreeMap;

use sled::IVec;
use vedette_journal::{Hash, leaf};
use vedette_protocol::id::{DeviceId, RecordId};
use vedette_protocol::record::{Body, Record};

use super::checkpoint::{Copy, Fork, Tree};
use super::indexed::read_record;
use super::progress::Progress;
use super::{Error, Registry, Result};
use crate::store::{Write, keys};

/// Bytes before a record's own: when it came.
const RECEIVED_BYTES: usize = 8;

/// One journal of a device while a group is decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeviceLog {
    pub(crate) progress: Progress,
    pub(crate) tree: Tree,
    /// Below this our copies are of two histories, as a release of its quarantine has accepted.
    pub(crate) floor: u64,
}

/// Records that a group has decided to take and not written yet.
pub(crate) type Taken = BTreeMap<u64, Vec<u8>>;

/// The bytes under an id.
pub(crate) enum Held<'a> {
    Taken(&'a [u8]),
    Stored(IVec),
}

impl Held<'_> {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Held::Taken(bytes) => bytes,
            Held::Stored(value) => value.get(RECEIVED_BYTES..).unwrap_or_default(),
        }
    }
}

impl DeviceLog {
    /// Adds to `write` what differs from `before`.
    pub(crate) fn save(&self, before: &DeviceLog, device: &DeviceId, epoch: u64, write: &mut Write) -> Result<()> {
        // Always, so that a journal whose beginning is missing is seen.
        let upto = self.progress.upto.to_be_bytes();
        write.set(keys::received(device).number(epoch).bytes(), upto.to_vec());
        if self.progress != before.progress.clone().at(self.progress.upto) {
            write.set_json(keys::progress(device).number(epoch).bytes(), &self.progress)?;
        }
        if self.tree != before.tree {
            write.set_json(keys::tree(device).number(epoch).bytes(), &self.tree)?;
        }
        Ok(())
    }
}

impl Registry {
    /// Reads what is stored of a journal.
    pub(crate) fn device_log(&self, device: &DeviceId, epoch: u64) -> Result<DeviceLog> {
        let store = self.state().store();
        let upto = self.received(device, epoch)?;
        let known: Option<Progress> = store.get_json(keys::progress(device).number(epoch).bytes())?;
        Ok(DeviceLog {
            progress: known.unwrap_or_default().at(upto),
            tree: store.get_json(keys::tree(device).number(epoch).bytes())?.unwrap_or_default(),
            floor: store.get_number(keys::floor(device).number(epoch).bytes())?.unwrap_or(0),
        })
    }

    /// First sequence of this journal that is neither stored nor gone for good.
    ///
    /// # Errors
    ///
    /// The store could not be read.
    pub fn received(&self, device: &DeviceId, epoch: u64) -> Result<u64> {
        Ok(self.state().store().get_number(keys::received(device).number(epoch).bytes())?.unwrap_or(0))
    }

    /// The bytes that are held under an id, among those just taken or in the store.
    pub(crate) fn held<'a>(&self, id: &RecordId, taken: &'a Taken) -> Result<Option<Held<'a>>> {
        if let Some(bytes) = taken.get(&id.sequence) {
            return Ok(Some(Held::Taken(bytes)));
        }
        Ok(self.state().store().get(keys::record(id))?.map(Held::Stored))
    }

    /// The leaf of our copy of a record.
    pub(crate) fn leaf_of(&self, id: &RecordId) -> Result<Option<Hash>> {
        Ok(self.held(id, &Taken::new())?.map(|held| leaf(held.bytes())))
    }

    /// Holds our copies against the signed tree, as far as they are here.
    pub(crate) fn follow(
        &self,
        log: &mut DeviceLog,
        device: &DeviceId,
        epoch: u64,
        taken: &Taken,
    ) -> Result<Option<Fork>> {
        let DeviceLog { progress, tree, floor } = log;
        let mut id = RecordId { device: device.clone(), epoch, sequence: 0 };
        let mut copy = |sequence| {
            id.sequence = sequence;
            Ok::<_, Error>(self.held(&id, taken)?.map_or(Copy::Absent, |held| Copy::Leaf(leaf(held.bytes()))))
        };
        let Some(fork) = tree.follow(progress.upto, *floor, &mut copy)? else {
            return Ok(None);
        };
        // A device that lost records that it had sent goes on without them, and says so.
        let lost = self.lost(device, epoch, taken)?;
        Ok(if tree.agrees_without(&lost, &mut copy)? { None } else { Some(fork) })
    }

    /// Ranges that the device said its journal lost, ascending: in records stored, and in those just taken.
    fn lost(&self, device: &DeviceId, epoch: u64, taken: &Taken) -> Result<Vec<(u64, u64)>> {
        let mut lost = Vec::new();
        for entry in self.state().store().prefix(keys::lost(device, epoch).bytes()) {
            let (key, value) = entry?;
            lost.extend(keys::take_number(&key).zip(keys::take_number(&value)).map(|((from, _), (to, _))| (from, to)));
        }
        for bytes in taken.values() {
            if let Ok(Record { body: Body::Gap { from, to, reason: _ }, stamp: _ }) = read_record(bytes) {
                lost.push((from, to));
            }
        }
        lost.sort_unstable();
        lost.dedup();
        Ok(lost)
    }

    /// Stored sequences within `[from, below)`, ascending.
    pub(crate) fn stored_within(&self, device: &DeviceId, epoch: u64, from: u64, below: u64) -> Result<Vec<u64>> {
        let key = |sequence| keys::record(&RecordId { device: device.clone(), epoch, sequence });
        let mut found = Vec::new();
        for entry in self.state().store().range(key(from), key(below)) {
            let (key, _) = entry?;
            found.extend(keys::take_number(&key).map(|(sequence, _)| sequence));
        }
        Ok(found)
    }
}
