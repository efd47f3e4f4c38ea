//! Reads the journal into batches that fit one message and say which records are gone for good.
//!
//! A record is gone for good when the journal goes on behind it: then it is rotten, thinned or pruned. A read that fails
//! says nothing about what is there, and neither does an end that comes too early: then there is no batch, and the
//! caller asks again later. A hole is believed when a second look, with a new reader, shows the same.

use std::path::PathBuf;

use vedette_journal::{Entry, ReadError, Reader};
use vedette_protocol::cbor::Bytes;
use vedette_protocol::id::DeviceId;
use vedette_protocol::limit::MAX_BATCH_BYTES;
use vedette_protocol::message::JournalBatch;
use vedette_protocol::record::{Class, RecordKind};

/// Bytes of a batch beside its records: field names, the device (64), the epoch, the span, the list's head.
const FRAME_BYTES: usize = 192;

/// Bytes of a record beside its payload: the pair's head (1), its sequence (9), the byte string's head (5).
const RECORD_FRAME_BYTES: usize = 15;

/// Records looked through at once for such that go ahead: 1024 x about 400 B are 0.4 MB read.
const LOOKED_THROUGH_MAX: usize = 1024;

/// Few are at most one of so many.
const FEW: usize = 4;

/// Which records a batch is to have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// The first.
    pub(super) from: u64,
    /// None from here on.
    pub(super) below: u64,
    /// Records below are durable.
    pub(super) committed: u64,
    pub(super) records_max: usize,
    /// Bytes of the message that are not for records.
    pub(super) reserved_bytes: usize,
}

/// A cursor in the journal that stops where a batch is full.
#[derive(Debug)]
pub(super) struct Batches {
    folder: PathBuf,
    device: DeviceId,
    epoch: u64,
    reader: Option<Reader>,
    /// Read already, and not for the batch before.
    held: Option<Entry>,
}

/// A batch, and the first sequence behind it.
#[derive(Debug, PartialEq)]
pub(super) struct Batch {
    pub(super) message: JournalBatch,
    pub(super) end: u64,
}

impl Batches {
    pub(super) fn new(folder: PathBuf, device: DeviceId, epoch: u64) -> Self {
        Self { folder, device, epoch, reader: None, held: None }
    }

    /// As many of the asked records as fit; `None` when nothing can be said about the first one now.
    pub(super) fn read(&mut self, asked: Asked) -> Result<Option<Batch>, ReadError> {
        let first = self.look(asked)?;
        if first.as_ref().is_none_or(Batch::is_whole) {
            return Ok(first);
        }
        self.forget();
        let second = self.look(asked)?;
        Ok(if first == second { second } else { None })
    }

    /// The control records among the asked ones, when they are few; and the first sequence that was not looked at.
    pub(super) fn control(&mut self, asked: Asked) -> Result<(JournalBatch, u64), ReadError> {
        let (mut records, mut bytes, mut seen) = (Vec::new(), FRAME_BYTES + asked.reserved_bytes, 0);
        self.go_to(asked.from)?;
        while seen < LOOKED_THROUGH_MAX && records.len() < asked.records_max {
            let Some(entry) = self.next(asked.below)? else { break };
            seen += 1;
            let size = entry.payload.len() + RECORD_FRAME_BYTES;
            let kind = RecordKind::from_code(entry.kind);
            if kind.is_some_and(|kind| kind.class() == Class::Control) && bytes + size <= MAX_BATCH_BYTES {
                bytes += size;
                records.push((entry.sequence, Bytes(entry.payload)));
            }
        }
        // Where most is of this class, to overtake is only to send everything twice.
        if records.len() * FEW > seen {
            records.clear();
        }
        Ok((JournalBatch::new(self.device.clone(), self.epoch, records), self.position()))
    }

    fn look(&mut self, asked: Asked) -> Result<Option<Batch>, ReadError> {
        let looked = self.collect(asked);
        if looked.is_err() {
            self.forget();
        }
        let (records, end) = looked?;
        if end <= asked.from {
            return Ok(None);
        }
        let span = Some((asked.from, end));
        Ok(Some(Batch {
            message: JournalBatch { span, ..JournalBatch::new(self.device.clone(), self.epoch, records) },
            end,
        }))
    }

    fn collect(&mut self, asked: Asked) -> Result<(Vec<(u64, Bytes)>, u64), ReadError> {
        let mut records = Vec::new();
        let mut bytes = FRAME_BYTES + asked.reserved_bytes;
        let mut end = asked.from;
        self.go_to(asked.from)?;
        while records.len() < asked.records_max {
            let Some(entry) = self.next(asked.committed)? else {
                // The reader passes over what was pruned without giving a record.
                end = end.max(self.position().min(asked.below));
                break;
            };
            if entry.sequence >= asked.below {
                self.held = Some(entry);
                end = asked.below;
                break;
            }
            let size = entry.payload.len() + RECORD_FRAME_BYTES;
            if FRAME_BYTES + size > MAX_BATCH_BYTES {
                // Nothing of ours is so long; it must not stop what comes behind it.
                tracing::error!(
                    sequence = entry.sequence,
                    bytes = entry.payload.len(),
                    "a journal record is too long to be sent and stays here"
                );
                end = entry.sequence + 1;
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
        Ok((records, end))
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

    fn position(&self) -> u64 {
        self.reader.as_ref().map_or(0, Reader::position)
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

    /// The next look is a new one.
    fn forget(&mut self) {
        (self.reader, self.held) = (None, None);
    }
}

impl Batch {
    /// Whether it has a record for each sequence that it speaks for.
    fn is_whole(&self) -> bool {
        let (from, below) = self.message.span.unwrap_or_default();
        below - from == self.message.records.len() as u64
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

    fn asked(from: u64, below: u64, records_max: usize) -> Asked {
        Asked { from, below, committed: below, records_max, reserved_bytes: 0 }
    }

    fn batches(folder: &std::path::Path) -> Batches {
        Batches::new(folder.to_owned(), "box".parse().unwrap(), 7)
    }

    fn all(batches: &mut Batches, below: u64, records_max: usize) -> Vec<Batch> {
        let mut found = Vec::new();
        let mut from = 0;
        while let Some(batch) = batches.read(asked(from, below, records_max)).unwrap() {
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
        let mut batches = batches(dir.path());
        let found = all(&mut batches, 200, 1000);
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
        let mut batches = batches(dir.path());
        let ends: Vec<u64> = all(&mut batches, 10, 4).iter().map(|batch| batch.end).collect();
        assert_eq!(ends, [4, 8, 10]);
    }

    #[test]
    fn going_back_reads_the_same_again() {
        let dir = tempfile::tempdir().unwrap();
        let _journal = journal(dir.path(), &[30_000; 6]);
        let mut batches = batches(dir.path());
        let first = batches.read(asked(0, 6, 100)).unwrap().unwrap();
        assert_eq!(first.end, 2);
        batches.read(asked(2, 6, 100)).unwrap().unwrap();
        assert_eq!(batches.read(asked(0, 6, 100)).unwrap().unwrap().message, first.message);
    }

    #[test]
    fn a_record_that_fits_no_message_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let _journal = journal(dir.path(), &[10, 65_536, 10]);
        let mut batches = batches(dir.path());
        let batch = batches.read(asked(0, 3, 100)).unwrap().unwrap();
        assert_eq!((batch.message.records.len(), batch.end), (2, 3));
    }

    #[test]
    fn control_records_among_many_others_are_found_and_where_they_are_many_none_goes_ahead() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = journal(dir.path(), &[]);
        for n in 0..3000_u64 {
            let kind = if n % 100 == 7 || n >= 2000 { RecordKind::Swap } else { RecordKind::Anomaly };
            journal.append(kind.code(), &n.to_le_bytes()).unwrap();
            if n % 64 == 0 {
                journal.commit().unwrap();
            }
        }
        journal.commit().unwrap();
        let mut batches = batches(dir.path());
        let asked = |from| Asked { from, below: 3000, committed: 3000, records_max: 64, reserved_bytes: 0 };
        let (batch, looked) = batches.control(asked(300)).unwrap();
        let sequences: Vec<u64> = batch.records.iter().map(|(n, _)| *n).collect();
        assert_eq!(sequences, (300..1324).filter(|n| n % 100 == 7).collect::<Vec<_>>());
        assert_eq!((batch.span, looked), (None, 1324));
        let (batch, looked) = batches.control(asked(2000)).unwrap();
        assert_eq!((batch.records.len(), looked), (0, 2064));
    }

    #[test]
    fn what_is_rotten_is_spoken_for_and_what_cannot_be_read_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = journal(dir.path(), &[400; 50]);
        let segment = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
        let segment = segment.into_iter().find(|path| path.extension().is_some_and(|e| e == "log")).unwrap();
        let mut bytes = std::fs::read(&segment).unwrap();
        let at = bytes.windows(300).position(|window| window == [20; 300]).unwrap();
        bytes[at] ^= 1;
        std::fs::write(&segment, &bytes).unwrap();
        let mut batches = batches(dir.path());
        let batch = batches.read(asked(0, 50, 100)).unwrap().unwrap();
        let sequences: Vec<u64> = batch.message.records.iter().map(|(n, _)| *n).collect();
        assert_eq!(sequences, (0..50).filter(|n| *n != 20).collect::<Vec<_>>());
        assert_eq!(batch.message.span, Some((0, 50)));
        // A batch that begins or ends at the hole speaks for it too.
        let ends: Vec<(u64, usize)> = [(18, 21, 5), (20, 21, 5), (20, 25, 2), (15, 25, 5)]
            .map(|(from, below, max)| {
                let batch = batches.read(asked(from, below, max));
                batch.unwrap().map_or((0, 0), |batch| (batch.end, batch.message.records.len()))
            })
            .into();
        assert_eq!(ends, [(20, 2), (0, 0), (23, 2), (20, 5)], "of 20 nothing is known before 21 is seen");
        let beyond = |from, below, max| Asked { committed: 50, ..asked(from, below, max) };
        assert_eq!(batches.read(beyond(18, 21, 5)).unwrap().map(|batch| batch.end), Some(21));
        assert_eq!(batches.read(beyond(20, 21, 5)).unwrap().map(|batch| batch.message.records.len()), Some(0));
        // The last record rots: nothing behind it shows that it is gone, so nothing is said.
        let at = bytes.windows(300).rposition(|window| window == [49; 300]).unwrap();
        bytes[at] ^= 1;
        std::fs::write(&segment, &bytes).unwrap();
        let mut batches = self::batches(dir.path());
        assert_eq!(batches.read(asked(49, 50, 100)).unwrap(), None);
        journal.append(1, &[50; 400]).unwrap();
        journal.commit().unwrap();
        let batch = batches.read(asked(49, 51, 100)).unwrap().unwrap();
        assert_eq!((batch.message.records.len(), batch.end), (1, 51));
    }

    #[test]
    fn a_pruned_beginning_is_passed_in_one_batch() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { segment_bytes: 1 << 16, ..Options::new(7) };
        let (mut journal, _) = Journal::open(dir.path(), options).unwrap();
        for n in 0..1000_u64 {
            journal.append(1, &[n as u8; 500]).unwrap();
            journal.commit().unwrap();
        }
        journal.prune_below(700).unwrap();
        let mut batches = batches(dir.path());
        let batch = batches.read(asked(0, 1000, 10)).unwrap().unwrap();
        let first = batch.message.records[0].0;
        assert!((500..=700).contains(&first), "{first}");
        assert_eq!((batch.message.span, batch.message.records.len()), (Some((0, first + 10)), 10));
    }
}
