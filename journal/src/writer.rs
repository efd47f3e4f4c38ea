//! The one writer: records into the group, the group onto the disk, segments begun and removed. The rules are in the
//! crate's documentation under *Writing*.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock;
use crate::disk::{self, Disk, DiskFile, Lock};
use crate::error::{AppendError, CommitError, OpenError, PruneError, is_no_space};
use crate::folder::Folder;
use crate::group::Group;
use crate::header::{DATA_AT, Header};
use crate::record::Place;
use crate::recovery::{self, Recovery, Survey};
use crate::tail::Tail;

/// Usual size of a segment: one anomaly a minute at some 300 bytes fills it in 2.4 days, and a lost block costs little.
pub const SEGMENT_BYTES: u64 = 1 << 20;
/// Smallest segment: the headers take 4224 bytes of it.
pub const SEGMENT_BYTES_MIN: u64 = 16 << 10;
/// Largest segment; recovery reads the newest one whole, at some 1 GiB/s.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// A group is due at this many records: 64 take the bytes written per payload byte from 23.6 to 1.5 on ext4 (measured
/// with 200-byte payloads).
pub const COMMIT_RECORDS: u32 = 64;
/// A group is due at this age: the most that a power cut takes, and 345,600 small writes a day at the very worst.
pub const COMMIT_INTERVAL: Duration = Duration::from_millis(250);

/// Fresh files that one commit tries after a failing one, before it reports the disk.
const FRESH_FILES_MAX: u32 = 2;

/// How a journal is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Length of a segment in bytes, held within [`SEGMENT_BYTES_MIN`] and [`SEGMENT_BYTES_MAX`]. A single record that
    /// is longer than what a segment holds gets a longer one.
    pub segment_bytes: u64,
    /// Records after which a commit is due, at least 1.
    pub commit_records: u32,
    /// Age of the oldest waiting record at which a commit is due.
    pub commit_interval: Duration,
    /// Epoch of a journal that begins now; an existing one keeps its own. Must not repeat on this device.
    pub new_epoch: u64,
}

impl Options {
    /// The usual sizes: [`SEGMENT_BYTES`], [`COMMIT_RECORDS`], [`COMMIT_INTERVAL`].
    pub const fn new(new_epoch: u64) -> Self {
        Self {
            segment_bytes: SEGMENT_BYTES,
            commit_records: COMMIT_RECORDS,
            commit_interval: COMMIT_INTERVAL,
            new_epoch,
        }
    }
}

/// A journal open for writing; there is one a folder. Dropping it does not commit: what was not committed is gone, as
/// after a power cut.
#[derive(Debug)]
pub struct Journal {
    folder: Folder,
    options: Options,
    epoch: u64,
    /// Sequences below are durable.
    committed: u64,
    group: Group,
    /// Ascending; the last one is the newest. Four bytes a segment.
    segments: Vec<u32>,
    next_segment: u32,
    /// The segment that the next group goes into; `None` begins a new one.
    tail: Option<Tail>,
    scratch: Vec<u8>,
    _lock: Box<dyn DiskFile>,
}

impl Journal {
    /// Opens the journal in `folder` for writing, or begins one there (the folder is made if need be). Says in
    /// [`Recovery`] what was found and cut.
    ///
    /// # Errors
    /// [`OpenError::Locked`] when somebody else writes there; the other kinds as they say. Damage is no error.
    pub fn open(folder: &Path, options: Options) -> Result<(Self, Recovery), OpenError> {
        Self::open_on(disk::real(), folder, options)
    }

    /// As [`Journal::open`], on another disk.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn open_on(disk: Arc<dyn Disk>, folder: &Path, options: Options) -> Result<(Self, Recovery), OpenError> {
        let folder = Folder::new(disk, folder);
        let options =
            Options { segment_bytes: options.segment_bytes.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX), ..options };
        let lock = take_folder(&folder)?;
        let mut survey = recovery::survey(&folder)?;
        let next_segment = survey.segments.last().map_or(0, |last| last.saturating_add(1));
        if survey.epoch.is_none() {
            recovery::set_all_aside(&folder, &mut survey)?;
        }
        let Survey { segments, epoch, tail, damage } = survey;
        let mut recovery = Recovery {
            epoch: epoch.unwrap_or(options.new_epoch),
            next_sequence: 0,
            cut_bytes: 0,
            segments: segments.len(),
            created: epoch.is_none(),
            damage,
        };
        let mut writable = None;
        if let Some(tail) = tail {
            recovery.next_sequence = tail.next_sequence;
            recovery.cut_bytes = tail.torn_bytes;
            writable = recovery::mend(&folder, tail, options.segment_bytes)?;
        }
        let mut journal = Self {
            folder,
            epoch: recovery.epoch,
            committed: recovery.next_sequence,
            group: Group::default(),
            segments,
            next_segment,
            tail: writable,
            scratch: Vec::new(),
            options,
            _lock: lock,
        };
        if recovery.created {
            journal.begin_segment(0).map_err(|error| OpenError::beginning(journal.folder.path(), error))?;
            recovery.segments = 1;
        }
        Ok((journal, recovery))
    }

    /// Epoch of this journal.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Sequence that the next record gets.
    pub fn next_sequence(&self) -> u64 {
        self.committed + self.group.len() as u64
    }

    /// Sequences below this are durable.
    pub fn committed(&self) -> u64 {
        self.committed
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
        let mut failures = 0;
        while let Some(need) = self.group.first_bytes() {
            let Some(tail) = self.tail.as_mut().filter(|tail| tail.room() >= need) else {
                self.begin_segment(need)?;
                continue;
            };
            let place = Place { epoch: self.epoch, segment: tail.index };
            let (offset, room) = (tail.offset, tail.room());
            let records = self.group.encode(&mut self.scratch, place, offset, room, self.committed);
            let Err(source) = tail.write(&self.scratch) else {
                self.group.forget(records);
                self.committed += records as u64;
                continue;
            };
            let path = self.folder.segment(tail.index);
            self.seal();
            failures += 1;
            if failures > FRESH_FILES_MAX || is_no_space(&source) {
                return Err(CommitError::at(&path, source));
            }
            tracing::warn!(file = %path.display(), %source, records, "a journal segment failed; its group goes into a fresh one");
        }
        Ok(self.committed)
    }

    /// Lets the next record have at least this sequence: for a writer that knows from elsewhere (an acknowledgement)
    /// that higher sequences were given than recovery found, because the disk lost them. Commits first.
    ///
    /// # Errors
    /// As [`Journal::commit`], and when the new segment can't be begun.
    pub fn skip_to(&mut self, sequence: u64) -> Result<(), CommitError> {
        self.commit()?;
        if sequence > self.committed {
            tracing::warn!(
                from = self.committed,
                to = sequence,
                "the journal lost records that were acknowledged; their sequences are skipped"
            );
            self.committed = sequence;
            self.begin_segment(0)?;
        }
        Ok(())
    }

    /// Removes whole segments whose records all lie below `sequence`, oldest first, never the newest. Returns how many
    /// went.
    ///
    /// # Errors
    /// When a file can't be read or removed; those before it are gone.
    pub fn prune_below(&mut self, sequence: u64) -> Result<usize, PruneError> {
        let removable = self.removable_below(sequence)?;
        for index in self.segments.drain(..removable) {
            let path = self.folder.segment(index);
            match self.folder.disk.remove(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(PruneError::at(&path, error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        if removable > 0 {
            self.folder.sync().map_err(|source| PruneError::at(self.folder.path(), source))?;
        }
        Ok(removable)
    }

    /// How many of the oldest segments end below `sequence`: all those in front of the last one that begins at or below
    /// it. One whose header is lost is taken along by its neighbours.
    fn removable_below(&self, sequence: u64) -> Result<usize, PruneError> {
        let mut removable = 0;
        for (position, index) in self.segments.iter().copied().enumerate().skip(1) {
            let path = self.folder.segment(index);
            let at = |source| PruneError::at(&path, source);
            let file = self.folder.open_to_read(index).map_err(at)?;
            let headers = crate::segment::headers(&*file, &self.folder, index)
                .map_err(|error| at(std::io::Error::other(error)))?;
            match headers.header {
                Some(header) if header.first_sequence <= sequence => removable = position,
                Some(_) => break,
                None => {}
            }
        }
        Ok(removable)
    }

    /// Ends the newest segment; the next group begins another.
    fn seal(&mut self) {
        if let Some(tail) = self.tail.take() {
            tail.seal();
        }
    }

    /// Begins a segment that has room for a record of `need` bytes at least. A number is used once, whatever happens.
    fn begin_segment(&mut self, need: u64) -> Result<(), CommitError> {
        self.seal();
        let index = self.next_segment;
        let path = self.folder.segment(index);
        let used_up = || std::io::Error::other("segment numbers are used up");
        let next = index.checked_add(1).ok_or_else(used_up);
        self.next_segment = next.map_err(|source| CommitError::at(&path, source))?;
        let header = Header { segment: index, epoch: self.epoch, first_sequence: self.committed };
        let capacity = self.options.segment_bytes.max(DATA_AT + need);
        let begun = Tail::begin(&self.folder, &header, capacity);
        self.tail = Some(begun.map_err(|source| CommitError::at(&path, source))?);
        self.segments.push(index);
        Ok(())
    }
}

/// Makes the folder if need be, takes its lock and clears what a cut left half made.
fn take_folder(folder: &Folder) -> Result<Box<dyn DiskFile>, OpenError> {
    let at = |source| OpenError::at(folder.path(), folder.path(), source);
    folder.make().map_err(at)?;
    match folder.lock().map_err(at)? {
        Lock::Held(lock) => {
            folder.remove_temporaries().map_err(at)?;
            Ok(lock)
        }
        Lock::Taken(holder) => Err(OpenError::Locked {
            folder: folder.path().to_path_buf(),
            holder: if holder.is_empty() { holder } else { format!(" by process {holder}") },
        }),
    }
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
