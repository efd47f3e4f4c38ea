//! Proofs that a record is in the log that its device signed, computed from our own copies.

use std::collections::BTreeMap;
use std::ops::Range;

use vedette_journal::{Frontier, Hash, empty_root, inclusion_ranges, node, verify_inclusion};
use vedette_protocol::id::{DeviceId, RecordId};

use super::device_log::DeviceLog;
use super::{Error, Registry, Result};
use crate::view::{ProofView, SignedView, TreeView};

impl Registry {
    /// Proves that a record is in the last signed tree of its journal.
    ///
    /// # Errors
    ///
    /// The record has not come, no accepted checkpoint covers it yet, or records that the proof needs are absent here.
    pub fn proof(&self, id: &RecordId) -> Result<ProofView> {
        let log = self.device_log(&id.device, id.epoch)?;
        let own = self.leaf_of(id)?;
        let own = own.ok_or_else(|| Error::NotFound(format!("record {id} has not been received here")))?;
        let size = log.tree.size();
        if id.sequence >= size {
            return Err(Error::NotFound(format!(
                "no signed checkpoint covers record {id} yet: the last one accepted is of {size} records"
            )));
        }
        let mut proof = Vec::new();
        let known = Known::of(&log.tree.adopted);
        for range in inclusion_ranges(id.sequence, size) {
            proof.push(self.subtree(id, range, &known)?);
        }
        let root = log.tree.signed.root();
        if !verify_inclusion(&own, id.sequence, size, &root, &proof) {
            return Err(Error::Refused(format!(
                "record {id} as it is here is not in the log that its device signed: it is of another history"
            )));
        }
        let key = self.standing(&id.device)?.key().map(|key| key.to_string()).unwrap_or_default();
        Ok(ProofView {
            record: id.to_string(),
            index: id.sequence,
            leaf: own.to_string(),
            size,
            root: root.to_string(),
            proof: proof.iter().map(Hash::to_string).collect(),
            key,
            note: log.tree.note,
        })
    }

    /// The tree that our own copies make of the first `size` records of a device's journal.
    ///
    /// # Errors
    ///
    /// Records among them are not here.
    pub fn tree(&self, device: &DeviceId, epoch: u64, size: u64) -> Result<TreeView> {
        let log = self.device_log(device, epoch)?;
        if size > log.progress.upto {
            return Err(Error::NotFound(format!(
                "{} records of epoch {epoch} of `{device}` have come, {size} were asked for",
                log.progress.upto
            )));
        }
        let id = RecordId { device: device.clone(), epoch, sequence: 0 };
        let known = Known::of(&log.tree.adopted);
        let root = if size == 0 { empty_root() } else { self.subtree(&id, 0..size, &known)? };
        Ok(TreeView { epoch, size, root: root.to_string() })
    }

    /// Whether a signed checkpoint covers a record, as far as our own copies show.
    pub(crate) fn signed(&self, id: &RecordId) -> Result<SignedView> {
        let DeviceLog { tree, .. } = self.device_log(&id.device, id.epoch)?;
        Ok(SignedView { size: tree.size(), covered: tree.covers(id.sequence) })
    }

    /// The root over a range of leaves.
    fn subtree(&self, id: &RecordId, range: Range<u64>, known: &Known) -> Result<Hash> {
        if let Some(hash) = known.node(&range) {
            return Ok(hash);
        }
        if range.start >= known.size {
            return self.root_of_copies(id, range);
        }
        let length = range.end - range.start;
        if length < 2 {
            return self.root_of_copies(id, range);
        }
        // Largest power of two below the length (RFC 6962 §2.1).
        let middle = range.start + (1 << (u64::BITS - 1 - (length - 1).leading_zeros()));
        let left = self.subtree(id, range.start..middle, known)?;
        let right = self.subtree(id, middle..range.end, known)?;
        Ok(node(&left, &right))
    }

    fn root_of_copies(&self, id: &RecordId, range: Range<u64>) -> Result<Hash> {
        let mut id = id.clone();
        let mut tree = Frontier::default();
        for sequence in range {
            id.sequence = sequence;
            tree.push(self.leaf_of(&id)?.ok_or_else(|| {
                Error::NotFound(format!(
                    "the proof needs record {id}, which is not here: the device has it, or it is gone"
                ))
            })?);
        }
        Ok(tree.root())
    }
}

/// Roots of subtrees that were taken over from a signed tree.
struct Known {
    size: u64,
    nodes: BTreeMap<(u64, u64), Hash>,
}

impl Known {
    fn of(adopted: &Frontier) -> Known {
        let size = adopted.size();
        let mut nodes = BTreeMap::new();
        let mut start = 0;
        let bits = (0..u64::BITS).rev().map(|bit| 1_u64 << bit).filter(|bit| size & bit != 0);
        for (length, hash) in bits.zip(adopted.nodes()) {
            nodes.insert((start, start + length), *hash);
            start += length;
        }
        Known { size, nodes }
    }

    fn node(&self, range: &Range<u64>) -> Option<Hash> {
        self.nodes.get(&(range.start, range.end)).copied()
    }
}
