//! What a journal's folder holds: found by reading only the newest segment, and put right where it was torn.
//!
//! `survey` reads and changes nothing, so that [`stat`] can use it beside a running writer; `mend` is the writer's, and
//! makes what the survey found durable: cuts the tail, reserves the rest of the file again, syncs.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{self, Disk, DiskFile};
use crate::error::{OpenError, ReadError};
use crate::folder::Folder;
use crate::header::{DATA_AT, Header};
use crate::record::{Place, footprint};
use crate::segment::{self, Segment, Step, Walk};
use crate::tail::Tail;

/// Damaged stretches named one by one; further ones are only in the logs' sequences. A 1 MiB segment can't hold more
/// news than this for a person, and the list stays below 4 KiB.
const DAMAGE_NAMED_MAX: usize = 64;

/// What [`crate::Journal::open`] found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// Epoch of the journal.
    pub epoch: u64,
    /// Sequence that the next record gets.
    pub next_sequence: u64,
    /// Bytes of an unfinished write cut from the end; 0 after a clean end.
    pub cut_bytes: u64,
    /// Segments in the folder.
    pub segments: usize,
    /// The folder held no journal, or none that could be read: sequence and epoch are new.
    pub created: bool,
    /// What is wrong and was kept, in the newest segment and the headers that had to be read; the first 64.
    pub damage: Vec<Damage>,
}

/// Something in the folder that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// One of the two headers of a segment is bad; nothing is lost.
    HeaderCopy {
        /// Number of the segment.
        segment: u32,
    },
    /// Both headers of a segment are bad; its records are still read.
    Header {
        /// Number of the segment.
        segment: u32,
    },
    /// A stretch that held records and has valid ones behind it.
    Records {
        /// Number of the segment.
        segment: u32,
        /// Where the stretch begins.
        offset: u64,
        /// Its length.
        bytes: u64,
        /// First sequence that is lost.
        from: u64,
        /// First sequence that is there again.
        to: u64,
        /// It lies in the last group: maybe a write that the power cut, and never acknowledged.
        last_group: bool,
    },
    /// No segment had a readable header, so its records can't be proven; the file was kept under this name.
    SetAside {
        /// Where it is now.
        file: PathBuf,
    },
}

/// A journal's folder in figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Epoch, or `None` when the folder holds no readable segment.
    pub epoch: Option<u64>,
    /// Lowest sequence that is still there.
    pub first_sequence: u64,
    /// Sequence that the next record gets.
    pub next_sequence: u64,
    /// Segments in the folder.
    pub segments: usize,
    /// Length of all segments, preallocated zeros included.
    pub bytes: u64,
    /// As in [`Recovery::damage`].
    pub damage: Vec<Damage>,
}

/// The folder as it is found.
pub(crate) struct Survey {
    pub(crate) segments: Vec<u32>,
    /// Of the newest segment with a readable header.
    pub(crate) epoch: Option<u64>,
    /// The newest segment and what the walk through it found, if an epoch is known.
    pub(crate) tail: Option<Newest>,
    pub(crate) damage: Vec<Damage>,
}

/// The newest segment.
pub(crate) struct Newest {
    pub(crate) segment: Segment,
    /// Behind the last valid record.
    pub(crate) end: u64,
    pub(crate) next_sequence: u64,
    /// Bytes behind `end` that are not the zeros of the preallocation.
    pub(crate) torn_bytes: u64,
    /// Whole, so that it may be written on.
    pub(crate) sound: bool,
}

/// Reads a folder and changes nothing.
pub(crate) fn survey(folder: &Folder) -> Result<Survey, ReadError> {
    let segments = folder.segments().map_err(ReadError::at(folder.path()))?;
    let mut damage = Vec::new();
    let mut epoch = None;
    let mut newest = None;
    for index in segments.iter().rev().copied() {
        let (file, headers) = open_segment(folder, index)?;
        if !headers.sound && damage.len() < DAMAGE_NAMED_MAX {
            damage.push(match headers.header {
                Some(_) => Damage::HeaderCopy { segment: index },
                None => Damage::Header { segment: index },
            });
        }
        newest = newest.or(Some((file, index, headers.header, headers.sound)));
        epoch = headers.header.map(|header| header.epoch);
        if epoch.is_some() {
            break;
        }
    }
    let tail = match (newest, epoch) {
        (Some((file, index, header, sound)), Some(epoch)) => {
            let segment = Segment::new(file, Place { epoch, segment: index });
            Some(walk_tail(folder, segment, header, sound, &mut damage)?)
        }
        (Some(_) | None, _) => None,
    };
    Ok(Survey { segments, epoch, tail, damage })
}

fn open_segment(folder: &Folder, index: u32) -> Result<(Box<dyn DiskFile>, segment::Headers), ReadError> {
    let file = folder.open_to_read(index).map_err(ReadError::at(&folder.segment(index)))?;
    let headers = segment::headers(&*file, folder, index)?;
    Ok((file, headers))
}

/// Walks the newest segment to its end.
fn walk_tail(
    folder: &Folder,
    segment: Segment,
    header: Option<Header>,
    sound: bool,
    damage: &mut Vec<Damage>,
) -> Result<Newest, ReadError> {
    let path = folder.segment(segment.index());
    let mut buffer = Vec::new();
    let first_sequence = header.map(|header| header.first_sequence);
    let mut next = first_sequence;
    let mut stretches = Vec::new();
    let mut bad = None;
    let mut walk = Walk::new(&segment, first_sequence);
    let end = loop {
        match walk.step(&mut buffer).map_err(ReadError::at(&path))? {
            Step::Record { head, .. } => {
                if head.first_of_group {
                    stretches.iter_mut().for_each(mark_as_committed);
                }
                if let Some((offset, bytes)) = bad.take() {
                    let from = next.unwrap_or(head.sequence);
                    let (segment, to) = (segment.index(), head.sequence);
                    let last_group = !head.first_of_group;
                    stretches.push(Damage::Records { segment, offset, bytes, from, to, last_group });
                }
                next = Some(head.sequence + 1);
            }
            Step::Bad { offset, bytes } => bad = Some((offset, bytes)),
            Step::End { offset } => break offset,
        }
    };
    let torn_bytes = segment.written_behind(end).map_err(ReadError::at(&path))?;
    let next_sequence = match next {
        Some(next) => next,
        None => sequence_before(folder, segment.index())?,
    };
    let sound = sound && stretches.is_empty();
    damage.extend(stretches.into_iter().take(DAMAGE_NAMED_MAX));
    Ok(Newest { segment, end, next_sequence, torn_bytes, sound })
}

/// A group begins behind this stretch, so the stretch belongs to one that was committed.
fn mark_as_committed(damage: &mut Damage) {
    if let Damage::Records { last_group, .. } = damage {
        *last_group = false;
    }
}

/// The sequence after the last record below the segment `index`, for a segment of which nothing can be read.
fn sequence_before(folder: &Folder, index: u32) -> Result<u64, ReadError> {
    let segments = folder.segments().map_err(ReadError::at(folder.path()))?;
    let mut buffer = Vec::new();
    for index in segments.into_iter().rev().filter(|below| *below < index) {
        let (file, headers) = open_segment(folder, index)?;
        let Some(header) = headers.header else {
            continue;
        };
        let path = folder.segment(index);
        let segment = Segment::new(file, Place { epoch: header.epoch, segment: index });
        let mut next = header.first_sequence;
        let mut walk = Walk::new(&segment, Some(next));
        loop {
            match walk.step(&mut buffer).map_err(ReadError::at(&path))? {
                Step::Record { head, .. } => next = head.sequence + 1,
                Step::Bad { .. } => {}
                Step::End { .. } => return Ok(next),
            }
        }
    }
    Ok(0)
}

/// Cuts the torn tail and makes the newest segment durable as it now is: records that a killed process wrote and never
/// synced count from here on. Returns the tail to write on, or `None` when the next group begins a new segment.
pub(crate) fn mend(folder: &Folder, tail: Newest, segment_bytes: u64) -> Result<Option<Tail>, OpenError> {
    let index = tail.segment.index();
    let path = folder.segment(index);
    let at = |source| OpenError::at(folder.path(), &path, source);
    let file = folder.disk.open_to_write(&path).map_err(at)?;
    let end = tail.end.max(DATA_AT);
    if tail.torn_bytes > 0 {
        tracing::warn!(
            segment = index,
            offset = end,
            cut_bytes = tail.torn_bytes,
            "cut an unfinished write from the journal"
        );
        file.set_len(end).map_err(at)?;
    }
    let has_room = end + footprint(0) as u64 <= segment_bytes;
    if tail.sound
        && has_room
        && let Err(error) = file.allocate(segment_bytes)
    {
        tracing::warn!(segment = index, %error, "couldn't reserve the rest of a journal segment; it grows as it is written");
    }
    file.sync_all().map_err(at)?;
    Ok((tail.sound && has_room).then_some(Tail { file, index, offset: end, capacity: segment_bytes }))
}

/// Reads a folder's figures: works beside a running writer, after a crash, and on a copy. Nothing is changed.
///
/// # Errors
/// When the folder or its newest segment can't be read, or is of a newer format.
pub fn stat(folder: &Path) -> Result<Stat, ReadError> {
    stat_on(disk::real(), folder)
}

/// As [`stat`], on another disk.
///
/// # Errors
/// As [`stat`].
pub fn stat_on(disk: Arc<dyn Disk>, folder: &Path) -> Result<Stat, ReadError> {
    let folder = &Folder::new(disk, folder);
    let survey = survey(folder)?;
    let mut bytes = 0;
    let mut first_sequence = None;
    for index in survey.segments.iter().copied() {
        let (file, headers) = match open_segment(folder, index) {
            // Pruned by the writer since the listing.
            Err(ReadError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => continue,
            opened => opened?,
        };
        bytes += file.length().map_err(ReadError::at(folder.path()))?;
        first_sequence = first_sequence.or(headers.header.map(|header| header.first_sequence));
    }
    Ok(Stat {
        epoch: survey.epoch,
        first_sequence: first_sequence.unwrap_or(0),
        next_sequence: survey.tail.map_or(0, |tail| tail.next_sequence),
        segments: survey.segments.len(),
        bytes,
        damage: survey.damage,
    })
}

/// Sets aside every segment, because none says which epoch its records are of.
pub(crate) fn set_all_aside(folder: &Folder, survey: &mut Survey) -> Result<(), OpenError> {
    for index in survey.segments.drain(..) {
        let path = folder.segment(index);
        let file = folder.set_aside(index).map_err(|source| OpenError::at(folder.path(), &path, source))?;
        tracing::error!(file = %file.display(), "no header of the journal can be read; the segment was set aside and a new epoch begins");
        survey.damage.push(Damage::SetAside { file });
    }
    Ok(())
}
