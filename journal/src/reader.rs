//! Reading with one's own cursor: beside a running writer, after a crash, or on a copied folder. The rules are in the
//! crate's documentation under *Reading*.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use crate::disk::{self, Disk};
use crate::error::ReadError;
use crate::folder::Folder;
use crate::header::DATA_AT;
use crate::record::{Head, Mark, footprint};
use crate::segment::{self, Found, Opened, Segment};
use crate::walk;

/// Damaged ranges that a reader names; further ones are only counted. With 16 bytes each, 1 KiB.
const GAPS_NAMED_MAX: usize = 64;

/// A record as it was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Epoch of the journal.
    pub epoch: u64,
    /// Its place in the journal.
    pub sequence: u64,
    /// The kind byte given to `append`.
    pub kind: u8,
    /// The payload given to `append`.
    pub payload: Vec<u8>,
}

/// A cursor in a journal. Holds one open file and the memory of one record.
#[derive(Debug)]
pub struct Reader {
    folder: Folder,
    epoch: Option<u64>,
    /// Sequence that the next entry should have.
    wanted: u64,
    /// Where the next entry should begin is not known (a lost header behind a pruned segment), so nothing is counted.
    adrift: bool,
    skipped: u64,
    gaps: Vec<Range<u64>>,
    thinned: u64,
    at: Option<At>,
    buffer: Vec<u8>,
}

/// A place in a segment.
#[derive(Debug)]
struct At {
    segment: Segment,
    offset: u64,
    /// Sequence that a record at `offset` has, if known.
    expected: Option<u64>,
    /// Where the next segment began, if there was one when this one was entered: what is behind it here was never
    /// committed and is given again there.
    below: Option<u64>,
    /// When the file last changed as it was searched for records behind `offset` in vain.
    searched: Option<SystemTime>,
}

impl Reader {
    /// Opens the journal in `folder` at the record `from`, or at the first one that is still there. A folder without
    /// segments is at its end for now.
    ///
    /// # Errors
    /// When the folder or a segment's header can't be read, or is of a newer format.
    pub fn open(folder: &Path, from: u64) -> Result<Self, ReadError> {
        Self::open_on(disk::real(), folder, from)
    }

    /// As [`Reader::open`], on another disk.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn open_on(disk: Arc<dyn Disk>, folder: &Path, from: u64) -> Result<Self, ReadError> {
        let mut reader = Self {
            folder: Folder::new(disk, folder),
            epoch: None,
            wanted: from,
            adrift: true,
            skipped: 0,
            gaps: Vec::new(),
            thinned: 0,
            at: None,
            buffer: Vec::new(),
        };
        reader.seek(from)?;
        Ok(reader)
    }

    /// Moves the cursor to the record `from`, or the first one behind that is still there.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn seek(&mut self, from: u64) -> Result<(), ReadError> {
        (self.wanted, self.adrift, self.at) = (from, true, None);
        let mut below = None;
        let segments = self.list()?;
        for index in segments.into_iter().rev() {
            let Some(header) = segment::open(&self.folder, index)?.and_then(|opened| opened.front.header) else {
                continue;
            };
            self.epoch = self.epoch.or(Some(header.epoch));
            if header.first_sequence <= from {
                below = Some(index.checked_sub(1));
                break;
            }
        }
        self.enter_behind(below.flatten())?;
        self.adrift &= below.is_none();
        Ok(())
    }

    /// Sequence that the next entry has, or a higher one if that one is lost or pruned.
    pub fn position(&self) -> u64 {
        self.wanted
    }

    /// Epoch of the journal, once a segment was met.
    pub fn epoch(&self) -> Option<u64> {
        self.epoch
    }

    /// Records that were passed over because they are damaged; pruned ones do not count.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The damaged records as ranges of sequences, in the order they were met; the first 64.
    pub fn gaps(&self) -> &[Range<u64>] {
        &self.gaps
    }

    /// Records that were passed over because their payload was removed by [`crate::Journal::thin`].
    pub fn thinned(&self) -> u64 {
        self.thinned
    }

    /// The next entry, or `None` at the end; asked again later it goes on with what came since. Beside a writer this
    /// may be a record that is not durable yet.
    ///
    /// # Errors
    /// When the system refuses, or a segment is of a newer format. Damaged records are passed over, not reported here.
    // Not an `Iterator`: an iterator that ended stays ended.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Entry>, ReadError> {
        self.next_below(u64::MAX)
    }

    /// As [`Reader::next`], and at its end before the record `limit`. What is to leave the device is read below the
    /// writer's [`crate::Journal::committed`]: a record that a power cut takes back must not have been seen.
    ///
    /// # Errors
    /// As [`Reader::next`].
    pub fn next_below(&mut self, limit: u64) -> Result<Option<Entry>, ReadError> {
        while self.wanted < limit {
            let Some(at) = &mut self.at else {
                if self.enter_behind(None)? {
                    continue;
                }
                return Ok(None);
            };
            let path = self.folder.segment(at.segment.index());
            let found = at.segment.record_at(at.offset, at.expected, &mut self.buffer).map_err(ReadError::at(&path))?;
            let Found::Record(head) = found else {
                if self.pass()? {
                    continue;
                }
                return Ok(None);
            };
            if at.below.is_some_and(|below| head.next_sequence() > below) {
                let index = at.segment.index();
                if self.enter_behind(Some(index))? {
                    continue;
                }
                return Ok(None);
            }
            if head.sequence >= limit && head.next_sequence() > head.sequence {
                return Ok(None);
            }
            at.offset += footprint(head.payload_bytes) as u64;
            at.expected = Some(head.next_sequence());
            at.searched = None;
            if let Some(entry) = self.take(head) {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// Moves the cursor behind the record in the buffer; an entry, if it is one that is wanted.
    fn take(&mut self, head: Head) -> Option<Entry> {
        // An anchor or a note stands behind all records below its sequence.
        if head.sequence > self.wanted {
            self.miss(head.sequence);
        }
        let next = head.next_sequence();
        if next <= self.wanted {
            return None;
        }
        let passed = next - self.wanted;
        (self.wanted, self.adrift) = (next, false);
        match head.mark {
            Mark::Further | Mark::First => Some(Entry {
                epoch: self.epoch.unwrap_or(0),
                sequence: head.sequence,
                kind: head.kind,
                payload: walk::payload(&head, &self.buffer).to_vec(),
            }),
            Mark::Stubs => {
                self.thinned += passed;
                None
            }
            Mark::Anchor | Mark::Note => None,
        }
    }

    /// Moves the cursor over records that are not there.
    fn miss(&mut self, to: u64) {
        if !self.adrift {
            self.skipped += to - self.wanted;
            let room = self.gaps.len() < GAPS_NAMED_MAX;
            match self.gaps.last_mut() {
                Some(last) if last.end == self.wanted => last.end = to,
                Some(_) | None if room => self.gaps.push(self.wanted..to),
                Some(_) | None => {}
            }
        }
        (self.wanted, self.adrift) = (to, false);
    }

    /// Gets past a place that is no valid record: to the next valid one, or into the next segment. `false` is the end
    /// for now.
    fn pass(&mut self) -> Result<bool, ReadError> {
        let segments = self.list()?;
        let Some(at) = &mut self.at else {
            return Ok(false);
        };
        let index = at.segment.index();
        let path = self.folder.segment(index);
        let failed = || ReadError::at(&path);
        let newer = segments.into_iter().find(|other| *other > index);
        // The writer may have filled this segment between our look at it and the listing: only now is it finished.
        if is_record(at, &mut self.buffer).map_err(failed())? {
            return Ok(true);
        }
        let changed = at.segment.changed().map_err(failed())?;
        if newer.is_none() && at.searched == Some(changed) {
            return Ok(false);
        }
        let next = at.segment.next_valid(at.offset, at.expected, &mut self.buffer).map_err(failed())?;
        if let Some(next) = next {
            // A group lands front to back, so a valid record behind a place that still is none shows damage.
            if !is_record(at, &mut self.buffer).map_err(failed())? {
                at.offset = next;
            }
            return Ok(true);
        }
        match newer {
            Some(_) => self.enter_behind(Some(index)),
            None => {
                at.searched = Some(changed);
                Ok(false)
            }
        }
    }

    /// Goes to the beginning of the first segment above `index`. `false` when there is none.
    fn enter_behind(&mut self, index: Option<u32>) -> Result<bool, ReadError> {
        let mut entered: Option<(Opened, u64)> = None;
        let mut below = None;
        for next in self.list()?.into_iter().filter(|next| index.is_none_or(|index| *next > index)) {
            let Some(opened) = segment::open(&self.folder, next)? else {
                continue;
            };
            let header = opened.front.header;
            self.epoch = self.epoch.or(header.map(|header| header.epoch));
            let Some(epoch) = self.epoch else { continue };
            if header.is_some_and(|header| header.epoch != epoch) {
                tracing::warn!(segment = next, "passed over a segment that is of another journal");
                continue;
            }
            if entered.is_some() {
                below = header.map(|header| header.first_sequence);
                break;
            }
            entered = Some((opened, epoch));
        }
        let Some((opened, epoch)) = entered else {
            return Ok(false);
        };
        let first_sequence = opened.front.header.map(|header| header.first_sequence);
        // In front of a missing number (or of the first one) records were pruned and are not damaged.
        if index.is_none_or(|index| index.checked_add(1) != Some(opened.index)) {
            self.adrift = first_sequence.is_none();
            self.wanted = self.wanted.max(first_sequence.unwrap_or(0));
        }
        let segment = opened.into_segment(epoch);
        self.at = Some(At { segment, offset: DATA_AT, expected: first_sequence, below, searched: None });
        Ok(true)
    }

    fn list(&self) -> Result<Vec<u32>, ReadError> {
        self.folder.segments().map_err(ReadError::at(self.folder.path()))
    }
}

/// Looks again at the cursor's place.
fn is_record(at: &At, buffer: &mut Vec<u8>) -> std::io::Result<bool> {
    Ok(matches!(at.segment.record_at(at.offset, at.expected, buffer)?, Found::Record(_)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use crate::{Journal, Options, Reader};

    #[test]
    fn a_segment_that_fills_and_ends_between_two_looks_is_read_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(folder.path(), Options { segment_bytes: 0, ..Options::new(1) }).unwrap();
        journal.append(1, b"seen").unwrap();
        journal.commit().unwrap();
        let mut reader = Reader::open(folder.path(), 0).unwrap();
        assert_eq!(reader.next().unwrap().unwrap().payload, b"seen");
        // The reader has looked, found nothing, and is about to list the folder; the writer is faster.
        for payload in [vec![2; 100], vec![3; 16 << 10]] {
            journal.append(1, &payload).unwrap();
            journal.commit().unwrap();
        }
        assert_eq!(journal.segments(), 2);
        assert!(reader.pass().unwrap());
        assert_eq!(reader.next().unwrap().unwrap().sequence, 1);
        assert_eq!(reader.next().unwrap().unwrap().sequence, 2);
        assert_eq!(reader.skipped(), 0);
    }
}
