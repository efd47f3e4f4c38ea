//! The one writer: records into the group, the group onto the disk, segments begun and removed. The rules are in the
//! crate's documentation under *Writing*.

mod open;

pub(crate) use open::take_folder;

use std::io::ErrorKind;
use std::path::Path;
use std::time::Instant;

use crate::checkpoint::Checkpoint;
use crate::clock;
use crate::disk::DiskFile;
use crate::error::{AppendError, CommitError, is_no_space};
use crate::folder::Folder;
use crate::group::Group;
use crate::header::{DATA_AT, Header};
use crate::merkle::Frontier;
use crate::note::SigningKey;
use crate::options::Options;
use crate::parity::{self, PAGE_BYTES};
use crate::record::{self, Mark, PAYLOAD_BYTES_MAX, Place, footprint};
use crate::shrink::Known;
use crate::tail::{Sealed, Tail};
use crate::walk;

/// Fresh files that one commit tries after a failing one, before it reports the disk.
const FRESH_FILES_MAX: u32 = 2;

/// Records after which the frontier is written again: the next write of a frontier is at most so far behind a bad place,
/// and at 300 bytes a record it costs 0.5 %.
const ANCHOR_RECORDS: u64 = 256;
/// Segments to be cut later that are remembered: a disk that refuses refuses the next one's beginning, too, so there are few.
const UNCUT_MAX: usize = 64;
/// Largest number of sequences that [`Journal::skip_to`] leaves out at once: each is counted as a lost record in the
/// tree, which takes half a second for so many. More than a device can have lost, and no word from outside makes it hang.
pub const SKIP_RECORDS_MAX: u64 = 1 << 20;

/// A checkpoint that was just signed; everything it speaks for is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// What was signed.
    pub checkpoint: Checkpoint,
    /// The signed note.
    pub note: String,
    /// The tree of the checkpoint.
    pub frontier: Frontier,
}

/// A journal open for writing; there is one a folder. Dropping it does not commit: what was not committed is gone, as
/// after a power cut.
#[derive(Debug)]
pub struct Journal {
    pub(crate) folder: Folder,
    options: Options,
    pub(crate) epoch: u64,
    /// Over all durable records: its size is the sequence behind them.
    tree: Frontier,
    /// Size of the tree that was last written down.
    anchored: u64,
    /// Where the anchor of the last checkpoint ends, until there is a second copy of it or a later one.
    lone_anchor: Option<u64>,
    /// A signed checkpoint that goes with the next group.
    note: Option<String>,
    group: Group,
    /// Ascending; the last one is the newest. 48 bytes a segment.
    pub(crate) segments: Vec<Known>,
    next_segment: u32,
    /// A segment that could not be begun, and may have its name none the less.
    in_vain: Option<u32>,
    /// Segments that ended while the disk refused to cut them, with the length of their content.
    pub(crate) uncut: Vec<(u32, u64)>,
    /// The segment that the next group goes into; `None` begins a new one.
    tail: Option<Tail>,
    scratch: Vec<u8>,
    _lock: Box<dyn DiskFile>,
}

impl Journal {
    /// Epoch of this journal.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Sequence that the next record gets.
    pub fn next_sequence(&self) -> u64 {
        self.committed() + self.group.len() as u64
    }

    /// Sequences below this are durable.
    pub fn committed(&self) -> u64 {
        self.tree.size()
    }

    /// The Merkle tree over what is durable.
    pub fn tree(&self) -> &Frontier {
        &self.tree
    }

    /// The folder that the journal lives in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Segments in the folder.
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// Puts a record into the group and returns its sequence. It is durable when [`Journal::committed`] is above that.
    ///
    /// # Errors
    /// When the payload is too long, or when so many records wait for a failing commit that no more fit.
    pub fn append(&mut self, kind: u8, payload: &[u8]) -> Result<u64, AppendError> {
        let sequence = self.next_sequence();
        self.group.push(kind, payload, clock::now())?;
        Ok(sequence)
    }

    /// True when the group is full enough or old enough to be committed.
    pub fn commit_due(&self, now: Instant) -> bool {
        self.group.len() >= self.options.commit_records.max(1) as usize
            || self.next_commit_at().is_some_and(|at| now >= at)
    }

    /// When the group will be old enough; `None` while it is empty.
    pub fn next_commit_at(&self) -> Option<Instant> {
        self.group.since()?.checked_add(self.options.commit_interval)
    }

    /// Makes all appended records durable and returns [`Journal::committed`]. Nothing is written for an empty group.
    ///
    /// # Errors
    /// The group, or the rest of it, is still in memory, and may be committed again later; it goes into a fresh segment.
    pub fn commit(&mut self) -> Result<u64, CommitError> {
        self.write_out(Asides::IfDue)?;
        Ok(self.committed())
    }

    /// Commits, makes the tree durable, and only then signs a checkpoint of it under the name `origin`. The note goes
    /// into the journal with the next group.
    ///
    /// # Errors
    /// As [`Journal::commit`]; nothing is signed then.
    pub fn checkpoint(&mut self, origin: &str, key: &SigningKey) -> Result<Signed, CommitError> {
        self.write_out(Asides::Frontier)?;
        self.lone_anchor = self.tail.as_ref().map(|tail| tail.offset);
        let checkpoint = Checkpoint { origin: origin.to_owned(), size: self.tree.size(), root: self.tree.root() };
        let note = checkpoint.sign(key);
        self.note = Some(note.clone()).filter(|note| note.len() <= PAYLOAD_BYTES_MAX);
        Ok(Signed { checkpoint, note, frontier: self.tree.clone() })
    }

    /// Commits and ends the journal as a whole: the newest segment is cut to its content, and its last page is written
    /// twice over, so that rot there is told from room that was never used.
    ///
    /// # Errors
    /// As [`Journal::commit`]; what was committed before is on the disk.
    pub fn close(mut self) -> Result<(), CommitError> {
        self.write_out(Asides::All)?;
        let Some(mut tail) = self.tail.take() else {
            return Ok(());
        };
        let place = Place { epoch: self.epoch, segment: tail.index };
        let (next_page, mut offset) = (tail.offset.next_multiple_of(PAGE_BYTES), tail.offset);
        self.scratch.clear();
        while self.tree.size() > 0
            && offset <= next_page
            && self.scratch.len() as u64 + anchor_bytes(&self.tree) <= tail.room()
        {
            offset = tail.offset + self.scratch.len() as u64;
            record::encode_anchor(&mut self.scratch, place, tail.offset, &self.tree);
        }
        let path = self.folder.segment(tail.index);
        let closed = tail.write(&self.scratch).and_then(|()| tail.close());
        let (file, covered) = closed.map_err(|source| CommitError::at(&path, source))?;
        parity::write(&self.folder, place, &*file, covered);
        self.folder.sync().map_err(|source| CommitError::at(self.folder.path(), source))
    }

    /// Writes all that waits, and what is asked for besides unless it is there already.
    fn write_out(&mut self, asides: Asides) -> Result<(), CommitError> {
        let mut failures = 0;
        loop {
            let note = self.note.as_ref().filter(|_| asides == Asides::All).map(|note| footprint(note.len()) as u64);
            let anchor = asides != Asides::IfDue && self.anchored < self.committed();
            let anchor = anchor.then(|| anchor_bytes(&self.tree));
            let Some(need) = self.group.first_bytes().or(note).or(anchor) else {
                return Ok(());
            };
            let Some(tail) = self.tail.as_ref().filter(|tail| tail.room() >= need) else {
                self.begin_segment(need)?;
                continue;
            };
            let (index, written) = (tail.index, self.encode(tail.index, tail.offset, tail.room(), asides));
            let outcome = self.tail.as_mut().map_or(Ok(()), |tail| tail.write(&self.scratch));
            let Err(source) = outcome else {
                self.settle(written);
                continue;
            };
            let path = self.folder.segment(index);
            self.seal();
            failures += 1;
            if failures > FRESH_FILES_MAX || is_no_space(&source) {
                return Err(CommitError::at(&path, source));
            }
            let records = written.records;
            tracing::warn!(file = %path.display(), %source, records, "a journal segment failed; its group goes into a fresh one");
        }
    }

    /// Encodes as much as fits into `room` bytes at `offset`: records, then the note, then the frontier where it is due.
    fn encode(&mut self, segment: u32, offset: u64, room: u64, asides: Asides) -> Written {
        let place = Place { epoch: self.epoch, segment };
        let mut tree = self.tree.clone();
        let records = self.group.encode(&mut self.scratch, place, offset, room, tree.size());
        self.group.leaves(records).for_each(|leaf| tree.push(leaf));
        let mut written = Written { records, tree, note: false, anchor: None };
        if records < self.group.len() {
            return written;
        }
        let size = written.tree.size();
        let fits = |out: &Vec<u8>, bytes: u64| out.len() as u64 + bytes <= room;
        if let Some(note) = self.note.as_ref().filter(|note| fits(&self.scratch, footprint(note.len()) as u64)) {
            record::encode_aside(&mut self.scratch, place, offset, Mark::Note, size, note.as_bytes());
            written.note = true;
        }
        let at = offset + self.scratch.len() as u64;
        let second_copy = self.lone_anchor.is_some_and(|end| at / PAGE_BYTES > end / PAGE_BYTES);
        let wanted = asides != Asides::IfDue && size > self.anchored;
        let due = wanted || second_copy || size - self.anchored >= ANCHOR_RECORDS;
        if due && fits(&self.scratch, anchor_bytes(&written.tree)) {
            record::encode_anchor(&mut self.scratch, place, offset, &written.tree);
            written.anchor = Some(second_copy);
        }
        written
    }

    /// Takes over what was written and is durable now.
    fn settle(&mut self, written: Written) {
        self.group.forget(written.records);
        self.tree = written.tree;
        if written.note {
            self.note = None;
        }
        if let Some(second_copy) = written.anchor {
            self.anchored = self.tree.size();
            self.lone_anchor = self.lone_anchor.filter(|_| !second_copy);
        }
    }

    /// Lets the next record have at least this sequence: for a writer that knows from elsewhere (an acknowledgement)
    /// that higher sequences were given than recovery found, because the disk lost them. Commits first. In the tree each
    /// sequence that is left out counts as a lost record.
    ///
    /// # Errors
    /// As [`Journal::commit`], when the new segment can't be begun, and when more than [`SKIP_RECORDS_MAX`] would be left
    /// out.
    pub fn skip_to(&mut self, sequence: u64) -> Result<(), CommitError> {
        self.commit()?;
        let from = self.committed();
        if sequence.saturating_sub(from) > SKIP_RECORDS_MAX {
            return Err(CommitError::SkipTooFar { from, to: sequence, max: SKIP_RECORDS_MAX });
        }
        if sequence > from {
            tracing::warn!(
                from,
                to = sequence,
                "the journal lost records that were acknowledged; their sequences are skipped"
            );
            let before = self.tree.clone();
            walk::lose(&mut self.tree, from..sequence);
            if let Err(error) = self.begin_segment(0) {
                // What is said to be committed is on the disk, and this is not.
                self.tree = before;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Ends the newest segment, which failed; the next group begins another. It gets no parity: what the system shows of
    /// it need not be what is on the disk.
    fn seal(&mut self) {
        if let Some(sealed) = self.tail.take().map(Tail::seal) {
            self.remember(&sealed);
        }
    }

    /// What could not be cut is cut when the disk works again: its room would be taken for as long as it is kept.
    fn remember(&mut self, sealed: &Sealed) {
        if !sealed.cut && self.uncut.len() < UNCUT_MAX {
            self.uncut.push((sealed.index, sealed.covered));
        }
    }

    /// Cuts what is left to be cut, as far as the disk obeys. Nothing writes to those files any more.
    fn cut_again(&mut self) {
        let Self { uncut, folder, segments, .. } = self;
        uncut.retain(|(index, covered)| {
            let cut = folder.disk.open_to_write(&folder.segment(*index)).and_then(|file| file.set_len(*covered));
            if let Ok(position) = segments.binary_search_by_key(index, |known| known.index) {
                segments[position] = Known::new(*index);
            }
            cut.is_err_and(|error| error.kind() != ErrorKind::NotFound)
        });
    }

    /// Begins a segment that has room for a record of `need` bytes at least. A number is used once, whatever happens.
    fn begin_segment(&mut self, need: u64) -> Result<(), CommitError> {
        if let Some(tail) = self.tail.take() {
            let sealed = tail.seal();
            let place = Place { epoch: self.epoch, segment: sealed.index };
            parity::write(&self.folder, place, &*sealed.file, sealed.covered);
            self.remember(&sealed);
        }
        self.remove_begun_in_vain()?;
        let index = self.next_segment;
        let path = self.folder.segment(index);
        let used_up = || std::io::Error::other("segment numbers are used up");
        let next = index.checked_add(1).ok_or_else(used_up);
        self.next_segment = next.map_err(|source| CommitError::at(&path, source))?;
        let header = Header {
            segment: index,
            epoch: self.epoch,
            first_sequence: self.committed(),
            root: self.tree.root(),
            capacity: self.options.segment_bytes.max(DATA_AT + anchor_bytes(&self.tree) + need),
        };
        self.in_vain = Some(index);
        let begun = Tail::begin(&self.folder, &header, &self.tree);
        self.tail = Some(begun.map_err(|source| CommitError::at(&path, source))?);
        self.in_vain = None;
        self.segments.push(Known::new(index));
        // The frontier stands in front of the segment, twice.
        (self.anchored, self.lone_anchor) = (self.committed(), None);
        self.cut_again();
        Ok(())
    }

    /// A segment that was begun in vain for [`Journal::skip_to`] begins at a sequence that was not reached. In front of
    /// the next one it would make readers pass over what that holds, so it goes first; the next one's name is synced after.
    fn remove_begun_in_vain(&mut self) -> Result<(), CommitError> {
        let Some(index) = self.in_vain else { return Ok(()) };
        let path = self.folder.segment(index);
        match self.folder.disk.remove(&path) {
            Err(source) if source.kind() != ErrorKind::NotFound => return Err(CommitError::at(&path, source)),
            Ok(()) | Err(_) => self.in_vain = None,
        }
        Ok(())
    }
}

/// What a write takes along behind the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asides {
    /// With a group: a note that waits, and the frontier when it is due.
    IfDue,
    /// The frontier, even without a group.
    Frontier,
    /// Frontier and note, even without a group.
    All,
}

/// What one write took along.
struct Written {
    records: usize,
    /// Over everything durable once the write is.
    tree: Frontier,
    note: bool,
    /// The frontier; `true` when it is the second copy that the last checkpoint needs.
    anchor: Option<bool>,
}

/// Bytes that an anchor of `tree` takes up.
fn anchor_bytes(tree: &Frontier) -> u64 {
    footprint(tree.nodes().len() * 32) as u64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;
    use crate::record::footprint;
    use crate::{GROUP_BYTES_MAX, PAYLOAD_BYTES_MAX};

    #[test]
    fn what_waits_for_a_failing_commit_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(folder.path(), Options::new(1)).unwrap();
        let payload = vec![7; PAYLOAD_BYTES_MAX];
        let fit = GROUP_BYTES_MAX / footprint(PAYLOAD_BYTES_MAX);
        for _ in 0..fit {
            journal.append(1, &payload).unwrap();
        }
        let error = journal.append(1, &payload).unwrap_err();
        assert!(matches!(error, AppendError::Full { waiting } if waiting == fit), "{error}");
        journal.commit().unwrap();
        assert_eq!(journal.append(1, &payload).unwrap(), fit as u64);
    }
}
