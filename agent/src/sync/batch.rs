//! Reads the journal into batches that fit one message.

use std::path::PathBuf;

use vedette_journal::{Entry, ReadError, Reader};
use vedette_protocol::cbor::Bytes;
use vedette_protocol::id::DeviceId;
use vedette_protocol::limit::MAX_BATCH_BYTES;
use vedette_protocol::message::JournalBatch;

/// Bytes of a batch beside its records: three field names, the device (64), the epoch, the list's head.
const FRAME_BYTES: usize = 128;

/// Bytes of a record beside its payload: the pair's head (1), its sequence (9), the byte string's head (5).
const RECORD_FRAME_BYTES: usize = 15;

/// A cursor in the journal that stops where a batch is full.
#[derive(Debug)]
pub(super) struct Batches {
    folder: PathBuf,
    device: DeviceId,
    epoch: u64,
    records_max: usize,
    reader: Option<Reader>,
    /// Read already, and found too large for the batch before.
    held: Option<Entry>,
}

/// A batch, and the first sequence behind it.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) message: JournalBatch,
    pub(super) end: u64,
}

impl Batches {
    pub(super) fn new(folder: PathBuf, device: DeviceId, epoch: u64, records_max: usize) -> Self {
        Self { folder, device, epoch, records_max, reader: None, held: None }
    }

    /// The records from `from` on, below `below`, as many as fit; `None` when there are none that can be read.
    pub(super) fn read(&mut self, from: u64, below: u64) -> Result<Option<Batch>, ReadError> {
        let mut records = Vec::new();
        let mut bytes = FRAME_BYTES;
        let mut end = from;
        self.go_to(from)?;
        while records.len() < self.records_max {
            let Some(entry) = self.next(below)? else { break };
            let size = entry.payload.len() + RECORD_FRAME_BYTES;
            if FRAME_BYTES + size > MAX_BATCH_BYTES {
                // Nothing of ours is so long; it must not stop what comes behind it.
                tracing::error!(
                    sequence = entry.sequence,
                    bytes = entry.payload.len(),
                    "a journal record is too long to be sent and stays here"
                );
                continue;
            }
            if bytes + size > MAX_BATCH_BYTES {
                self.held = Some(entry);
                break;
            }
            bytes += size;
            end = entry.sequence + 1;
            records.push((entry.sequence, Bytes(entry.payload)));
        }
        if records.is_empty() {
            return Ok(None);
        }
        Ok(Some(Batch { message: JournalBatch::new(self.device.clone(), self.epoch, records), end }))
    }

    fn next(&mut self, below: u64) -> Result<Option<Entry>, ReadError> {
        if let Some(entry) = self.held.take() {
            return Ok(Some(entry));
        }
        match &mut self.reader {
            Some(reader) => reader.next_below(below),
            None => Ok(None),
        }
    }

    /// Puts the cursor at `from`, unless it stands there.
    fn go_to(&mut self, from: u64) -> Result<(), ReadError> {
        let at = self.held.as_ref().map(|entry| entry.sequence).or(self.reader.as_ref().map(Reader::position));
        match &mut self.reader {
            Some(_) if at == Some(from) => {}
            Some(reader) => {
                self.held = None;
                reader.seek(from)?;
            }
            None => self.reader = Some(Reader::open(&self.folder, from)?),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use vedette_journal::{Journal, Options};
    use vedette_protocol::message::Message as _;

    use super::*;

    fn journal(folder: &std::path::Path, payloads: &[usize]) -> Journal {
        let options = Options {
            segment_bytes: 1 << 20,
            commit_records: 64,
            commit_interval: Duration::from_secs(1),
            new_epoch: 7,
        };
        let (mut journal, _) = Journal::open(folder, options).unwrap();
        for (n, bytes) in payloads.iter().enumerate() {
            journal.append(1, &vec![n as u8; *bytes]).unwrap();
            journal.commit().unwrap();
        }
        journal
    }

    fn all(batches: &mut Batches, below: u64) -> Vec<Batch> {
        let mut found = Vec::new();
        let mut from = 0;
        while let Some(batch) = batches.read(from, below).unwrap() {
            from = batch.end;
            found.push(batch);
        }
        found
    }

    #[test]
    fn every_record_is_in_exactly_one_batch_and_every_batch_fits_its_message() {
        let dir = tempfile::tempdir().unwrap();
        let sizes: Vec<usize> = (0..200).map(|n| (n * 97) % 5000).collect();
        let _journal = journal(dir.path(), &sizes);
        let mut batches = Batches::new(dir.path().to_owned(), "box".parse().unwrap(), 7, 1000);
        let found = all(&mut batches, 200);
        assert!(found.len() > 3);
        let sequences: Vec<u64> =
            found.iter().flat_map(|batch| batch.message.records.iter().map(|(n, _)| *n)).collect();
        assert_eq!(sequences, (0..200).collect::<Vec<_>>());
        for batch in &found {
            let bytes = batch.message.encode();
            assert!(bytes.len() <= MAX_BATCH_BYTES, "{}", bytes.len());
            JournalBatch::decode(&bytes).unwrap();
        }
    }

    #[test]
    fn nothing_is_read_that_is_not_durable_and_no_more_records_than_asked() {
        let dir = tempfile::tempdir().unwrap();
        let _journal = journal(dir.path(), &[10; 20]);
        let mut batches = Batches::new(dir.path().to_owned(), "box".parse().unwrap(), 7, 4);
        let ends: Vec<u64> = all(&mut batches, 10).iter().map(|batch| batch.end).collect();
        assert_eq!(ends, [4, 8, 10]);
    }

    #[test]
    fn going_back_reads_the_same_again() {
        let dir = tempfile::tempdir().unwrap();
        let _journal = journal(dir.path(), &[30_000; 6]);
        let mut batches = Batches::new(dir.path().to_owned(), "box".parse().unwrap(), 7, 100);
        let first = batches.read(0, 6).unwrap().unwrap();
        assert_eq!(first.end, 2);
        batches.read(2, 6).unwrap().unwrap();
        assert_eq!(batches.read(0, 6).unwrap().unwrap().message, first.message);
    }

    #[test]
    fn a_record_that_fits_no_message_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let _journal = journal(dir.path(), &[10, 65_536, 10]);
        let mut batches = Batches::new(dir.path().to_owned(), "box".parse().unwrap(), 7, 100);
        let batch = batches.read(0, 3).unwrap().unwrap();
        assert_eq!((batch.message.records.len(), batch.end), (2, 3));
    }
}
