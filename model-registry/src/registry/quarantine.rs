//! Devices whose log has two histories: nothing of theirs is taken and nothing new is sent to them until somebody has
//! looked and said so. Pin, quarantine and release are entries of the audit journal, so a lost store brings them back.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use vedette_journal::PublicKey;
use vedette_protocol::id::{DeviceId, Digest};
use vedette_protocol::limit::{MAX_DETAIL_BYTES, MAX_NOTE_BYTES, MAX_RECORD_BYTES};
use vedette_protocol::message::Claim;
use vedette_protocol::time::format_ms;

use super::checkpoint::{self, Fork, Tree};
use super::{Error, Registry, Result};
use crate::audit::{Change, Evidence, Quarantined};
use crate::store::keys;
use crate::view::{CheckpointView, DeviceView, QuarantineView};

/// The key that a device's first accepted checkpoint was signed by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pin {
    /// Base64.
    pub(crate) key: String,
    /// That checkpoint.
    pub(crate) note: String,
}

/// Why nothing is taken from a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Quarantine {
    pub(crate) since_ms: i64,
    pub(crate) epoch: u64,
    pub(crate) fork: Fork,
}

impl Quarantine {
    /// What the device is told, within what an acknowledgement holds.
    pub(crate) fn answer(&self) -> String {
        let mut text = format!("in quarantine since {}: {}", format_ms(self.since_ms), self.fork);
        let cut = (0..=MAX_DETAIL_BYTES.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(cut.unwrap_or(0));
        text
    }

    fn view(&self) -> QuarantineView {
        QuarantineView { since: format_ms(self.since_ms), epoch: self.epoch, reason: self.fork.to_string() }
    }
}

/// How a device stands while a group is decided.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    pin: Option<Pin>,
    pub(crate) quarantine: Option<Quarantine>,
}

impl Standing {
    /// The pinned key.
    pub(crate) fn key(&self) -> Option<PublicKey> {
        self.pin.as_ref().and_then(|pin| pin.key.parse().ok())
    }

    /// What stands against a claim: the last accepted checkpoint of the journal, or the one that pinned the key.
    pub(crate) fn evidence(&self, tree: &Tree) -> Evidence {
        let pinned = self.pin.as_ref().map(|pin| pin.note.as_str()).unwrap_or_default();
        let note = if tree.note.is_empty() { pinned } else { tree.note.as_str() };
        Evidence::checkpoint(note, self.key())
    }

    /// Pins the key of a claim.
    pub(crate) fn pin(&mut self, device: &DeviceId, claim: &Claim) -> Change {
        let key = checkpoint::key_of(claim).map(|key| key.to_string()).unwrap_or_default();
        let pin = Pin { key, note: claim.note.clone() };
        self.pin = Some(pin.clone());
        Change::KeyPinned { device: device.clone(), key: pin.key, note: pin.note }
    }

    /// Puts the device into quarantine.
    pub(crate) fn quarantine(
        &mut self,
        device: &DeviceId,
        epoch: u64,
        fork: Fork,
        held: Evidence,
        offered: Evidence,
        now: i64,
    ) -> Change {
        self.quarantine = Some(Quarantine { since_ms: now, epoch, fork: fork.clone() });
        let detail = fork.to_string();
        Change::Quarantined(Box::new(Quarantined { device: device.clone(), epoch, fork, detail, held, offered }))
    }
}

impl Evidence {
    /// A signed checkpoint, and the key it is held against.
    pub(crate) fn checkpoint(note: &str, key: Option<PublicKey>) -> Evidence {
        Evidence { key: key.map(|key| key.to_string()), note: Some(note.to_owned()), ..Evidence::default() }
    }

    /// The bytes of a record, or the digest of one that is longer than any may be.
    pub(crate) fn record(bytes: &[u8]) -> Evidence {
        let short = bytes.len() <= MAX_RECORD_BYTES;
        let record = if short { STANDARD.encode(bytes) } else { Digest::of(bytes).to_string() };
        Evidence { record: Some(record), ..Evidence::default() }
    }

    /// The tree that our own copies make.
    pub(crate) fn copies(tree: &Tree) -> Evidence {
        let own = tree.own();
        Evidence { size: Some(own.size()), root: Some(own.root().to_string()), ..Evidence::default() }
    }
}

impl Registry {
    /// How a device stands.
    pub(crate) fn standing(&self, device: &DeviceId) -> Result<Standing> {
        let store = self.state().store();
        Ok(Standing { pin: store.get_json(keys::pin(device))?, quarantine: self.quarantine_of(device)? })
    }

    pub(crate) fn quarantine_of(&self, device: &DeviceId) -> Result<Option<Quarantine>> {
        Ok(self.state().store().get_json(keys::quarantine(device))?)
    }

    /// The quarantine of a device as the API shows it.
    pub(crate) fn quarantine_view(&self, device: &DeviceId) -> Result<Option<QuarantineView>> {
        Ok(self.quarantine_of(device)?.as_ref().map(Quarantine::view))
    }

    /// Lifts the quarantine of a device: forgets its pinned key and its checkpoints, and accepts that what is here of its
    /// journals so far is of two histories. What the device sends from now on is held against itself again.
    ///
    /// # Errors
    ///
    /// The device is not in quarantine, or the reason is empty or too long.
    pub fn release(&self, device: &DeviceId, reason: &str, by: &str) -> Result<DeviceView> {
        let reason = reason.trim();
        if reason.is_empty() || reason.len() > MAX_NOTE_BYTES {
            return Err(Error::BadRequest(format!("a release has a reason of 1 to {MAX_NOTE_BYTES} bytes")));
        }
        let turn = self.state().turn();
        if self.quarantine_of(device)?.is_none() {
            return Err(Error::Conflict(format!("`{device}` is not in quarantine: there is nothing to lift")));
        }
        let mut floors = Vec::new();
        for epoch in self.epochs(device)? {
            floors.push((epoch, self.last_stored(device, epoch)?.map_or(0, |last| last.saturating_add(1))));
        }
        let mut view = self.device(device)?;
        let change = Change::Released { device: device.clone(), reason: reason.to_owned(), floors };
        self.state().change(turn, by, change)?;
        // What was held back is published now.
        drop(self.inner.changed.send(device.clone()));
        (view.quarantine, view.key) = (None, None);
        view.journals.iter_mut().for_each(|journal| (journal.checkpoint, journal.proven) = (0, 0));
        Ok(view)
    }

    /// Epochs of which something has come, or has been signed.
    fn epochs(&self, device: &DeviceId) -> Result<Vec<u64>> {
        let mut epochs = Vec::new();
        for entry in self.state().store().prefix(keys::received(device).bytes()) {
            let (key, _) = entry?;
            epochs.extend(keys::take_number(&key).map(|(epoch, _)| epoch));
        }
        Ok(epochs)
    }

    fn last_stored(&self, device: &DeviceId, epoch: u64) -> Result<Option<u64>> {
        let last = self.state().store().prefix(keys::records_of(device, epoch)).next_back().transpose()?;
        Ok(last.and_then(|(key, _)| keys::take_number(&key).map(|(sequence, _)| sequence)))
    }

    /// The accepted checkpoints of a device's journals, by epoch.
    ///
    /// # Errors
    ///
    /// Nothing is known of the device.
    pub fn checkpoints(&self, device: &DeviceId) -> Result<Vec<CheckpointView>> {
        self.device(device).map(drop)?;
        let key = self.standing(device)?.key().map(|key| key.to_string()).unwrap_or_default();
        let mut found = Vec::new();
        for epoch in self.epochs(device)? {
            let tree = self.device_log(device, epoch)?.tree;
            if tree.size() > 0 {
                found.push(checkpoint_view(epoch, &key, &tree));
            }
        }
        Ok(found)
    }
}

/// An accepted checkpoint as the API shows it.
pub(crate) fn checkpoint_view(epoch: u64, key: &str, tree: &Tree) -> CheckpointView {
    CheckpointView {
        epoch,
        size: tree.size(),
        root: tree.signed.root().to_string(),
        own_from: tree.adopted.size(),
        own_below: tree.matched.max(tree.adopted.size()),
        key: key.to_owned(),
        note: tree.note.clone(),
    }
}
