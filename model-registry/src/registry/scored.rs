//! Which model scored a record or row: the run of rows in the score ledger that its device wrote into its journal.
//!
//! A device promises rows to a scorer in advance (`swap` records with `first_row` and `reserved`); the last run that
//! begins at or below a row and reaches it answers. One look into an ordered index, whatever the number of rows.

use anyhow::Context;
use vedette_protocol::id::{Digest, RecordId, RowId};
use vedette_protocol::record::{Body, ScoredBy, Swap};
use vedette_protocol::time::format_ms;

use super::anomalies::kind_word;
use super::models::summary;
use super::{Error, Registry, Result};
use crate::store::keys;
use crate::view::{RanView, VersionSummary, WhoScored};

impl Registry {
    /// Answers for `device/epoch/sequence` (an anomaly or a swap) and `device/epoch/stream#row` (any row).
    ///
    /// # Errors
    ///
    /// The text is neither; the record has not come, or nothing was scored by it; or the row is not covered by what came.
    pub fn who_scored(&self, text: &str) -> Result<WhoScored> {
        if text.contains('#') {
            let row: RowId = text.parse().map_err(|error| Error::BadRequest(format!("{error}")))?;
            return self.who_scored_row(text, &row);
        }
        let id: RecordId = text.parse().map_err(|error| Error::BadRequest(format!("{error}")))?;
        let (_, record) = self.record(&id)?;
        let asked = id.clone();
        match record.body {
            Body::Anomaly(anomaly) => {
                let row = RowId { device: id.device, epoch: id.epoch, stream: anomaly.stream, row: anomaly.row };
                // The anomaly says itself what scored it; the run is further evidence and may still be on its way.
                self.answer(text, row, Some(anomaly.by), Some(asked))
            }
            Body::Swap(swap) => {
                let row = RowId { device: id.device, epoch: id.epoch, stream: swap.stream, row: swap.first_row };
                self.answer(text, row, Some(swap.by), Some(asked))
            }
            other @ (Body::Boot { .. }
            | Body::Gap { .. }
            | Body::Clock { .. }
            | Body::Config { .. }
            | Body::Drop(_)
            | Body::Verdict { .. }
            | Body::Ack { .. }
            | Body::Deploy(_)) => Err(Error::NotFound(format!(
                "record {id} is a {} record: no model scored it. Ask for an anomaly, or for a row as DEVICE/EPOCH/STREAM#ROW",
                kind_word(&other)
            ))),
        }
    }

    fn who_scored_row(&self, text: &str, row: &RowId) -> Result<WhoScored> {
        self.answer(text, row.clone(), None, None)
    }

    fn answer(&self, text: &str, row: RowId, said: Option<ScoredBy>, asked: Option<RecordId>) -> Result<WhoScored> {
        let run = self.run(&row)?;
        let Some(by) = said.or_else(|| run.as_ref().map(|run| run.by.clone())) else {
            return Err(Error::NotFound(format!(
                "no swap record that covers row {row} has been received here: the device has not scored it, or its journal has not come this far"
            )));
        };
        let version = self.version_of(&by)?;
        // A row has no record of its own: the swap record speaks for it.
        let record = asked.or_else(|| run.as_ref().and_then(|run| run.swap.parse().ok()));
        let signed = record.map(|record| self.signed(&record)).transpose()?;
        Ok(WhoScored {
            record: text.to_owned(),
            device: row.device,
            stream: row.stream,
            row: row.row,
            by,
            run,
            version,
            signed,
        })
    }

    fn run(&self, row: &RowId) -> Result<Option<RanView>> {
        let prefix = keys::swaps(&row.device, row.epoch, &row.stream);
        let from = prefix.clone().bytes();
        let end = prefix.number(row.row).number(u64::MAX).bytes();
        let Some(entry) = self.state().store().range(from, end).next_back() else {
            return Ok(None);
        };
        let (key, _) = entry?;
        let (sequence, _) = keys::take_number(&key).context("a swap's key in the store cannot be read")?;
        let id = RecordId { device: row.device.clone(), epoch: row.epoch, sequence };
        let (newest, _) = self.swap(&id)?;
        // An entry is extended (or cut short) by further records of the same first row: the newest says how far it
        // reaches, the first how it came about.
        if row.row - newest.first_row >= newest.reserved {
            return Ok(None);
        }
        let first = self.first_of_entry(row, newest.first_row)?.unwrap_or(id);
        let (swap, wall_ms) = self.swap(&first)?;
        Ok(Some(ran(&first, &swap, wall_ms)))
    }

    fn first_of_entry(&self, row: &RowId, first_row: u64) -> Result<Option<RecordId>> {
        let entry = keys::swaps(&row.device, row.epoch, &row.stream).number(first_row).bytes();
        let Some(found) = self.state().store().prefix(entry).next() else {
            return Ok(None);
        };
        let (key, _) = found?;
        let (sequence, _) = keys::take_number(&key).context("a swap's key in the store cannot be read")?;
        Ok(Some(RecordId { device: row.device.clone(), epoch: row.epoch, sequence }))
    }

    pub(crate) fn swap(&self, id: &RecordId) -> Result<(Swap, i64)> {
        let (_, record) = self.record(id)?;
        let wall_ms = record.stamp.wall_ms;
        match record.body {
            Body::Swap(swap) => Ok((swap, wall_ms)),
            other @ (Body::Boot { .. }
            | Body::Anomaly(_)
            | Body::Gap { .. }
            | Body::Clock { .. }
            | Body::Config { .. }
            | Body::Drop(_)
            | Body::Verdict { .. }
            | Body::Ack { .. }
            | Body::Deploy(_)) => {
                Err(anyhow::anyhow!("record {id} is indexed as a swap and is a {}", kind_word(&other)).into())
            }
        }
    }

    fn version_of(&self, by: &ScoredBy) -> Result<Option<VersionSummary>> {
        match by {
            ScoredBy::Model { manifest, .. } => self.summary_of_manifest(manifest),
            ScoredBy::Baseline { version: _ } => Ok(None),
        }
    }

    fn summary_of_manifest(&self, manifest: &Digest) -> Result<Option<VersionSummary>> {
        Ok(self.version_of_manifest(manifest)?.as_ref().map(summary))
    }
}

/// A swap as the API shows it.
pub(crate) fn ran(id: &RecordId, swap: &Swap, wall_ms: i64) -> RanView {
    RanView {
        stream: swap.stream.clone(),
        by: swap.by.clone(),
        since: format_ms(wall_ms),
        first_row: swap.first_row,
        reason: swap.reason,
        swap: id.to_string(),
    }
}
