//! What [`crate::Journal::open`] does about what the survey found: cuts the torn tail, reserves the rest of the file again,
//! syncs; sets aside what can't be read. And [`stat`], which only tells.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{self, Disk, DiskFile};
use crate::error::{OpenError, ReadError};
use crate::folder::Folder;
use crate::header::DATA_AT;
use crate::record::footprint;
use crate::segment;
use crate::survey::{Newest, Survey, survey};
use crate::tail::Tail;

/// How much of the last group is held in memory while it is written again.
const WRITE_AGAIN_BYTES: usize = 64 << 10;

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
    /// The frontier in front of a segment is bad; the tree was found again from other places.
    Frontier {
        /// Number of the segment.
        segment: u32,
    },
    /// A page of a segment had rotted and was made again from the segment's parity; nothing is lost.
    Page {
        /// Number of the segment.
        segment: u32,
        /// Where the page begins.
        offset: u64,
    },
    /// The tree over the records before a segment is in no place that can be read, so proofs that reach behind that
    /// segment's beginning no longer hold. Takes three places that are bad at once.
    Tree {
        /// Number of the segment.
        segment: u32,
    },
    /// A stretch that held records. Valid ones are behind it, or it is the end of a file that was closed whole.
    Records {
        /// Number of the segment.
        segment: u32,
        /// Where the stretch begins.
        offset: u64,
        /// Its length.
        bytes: u64,
        /// First sequence that is lost.
        from: u64,
        /// First sequence that is there again, or the first one that was surely never given.
        to: u64,
        /// It lies in the last group: maybe a write that the power cut, and never acknowledged.
        last_group: bool,
    },
    /// Nothing in a file with the name of a segment can be read or proven; it was kept under this name.
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

/// Cuts the torn tail and makes the newest segment durable as it now is: records that a killed process wrote and never
/// synced count from here on. Returns the tail to write on, or `None` when the next group begins a new segment.
pub(crate) fn mend(folder: &Folder, newest: &Newest) -> Result<Option<Tail>, OpenError> {
    let index = newest.index;
    let path = folder.segment(index);
    let at = |source| OpenError::at(folder, &path, source);
    let file = folder.disk.open_to_write(&path).map_err(at)?;
    let end = newest.end.max(DATA_AT);
    for (offset, page) in &newest.healed {
        tracing::warn!(segment = index, offset, "a page of the journal had rotted; it was made again from its parity");
        file.write_at(page, *offset).map_err(at)?;
    }
    if newest.torn_bytes > 0 {
        let cut_bytes = newest.torn_bytes;
        tracing::warn!(segment = index, offset = end, cut_bytes, "cut an unfinished write from the journal");
        file.set_len(end).map_err(at)?;
    }
    let capacity = newest.capacity.filter(|capacity| newest.sound && end + footprint(0) as u64 <= *capacity);
    if let Some(capacity) = capacity
        && let Err(error) = file.allocate(capacity)
    {
        tracing::warn!(segment = index, %error, "couldn't reserve the rest of a journal segment; it grows as it is written");
    }
    write_again(&*file, newest).and_then(|()| file.sync_all()).map_err(at)?;
    // Whoever named this segment may have been killed, or told of an error, before its name was durable.
    folder.sync().map_err(at)?;
    Ok(capacity.map(|capacity| Tail { file, index, offset: end, capacity }))
}

/// Writes the last group over itself. When its sync failed in an earlier life of the process, the system may take its
/// pages for written although they are only in memory, and would sync them no more.
fn write_again(file: &dyn DiskFile, newest: &Newest) -> io::Result<()> {
    let mut buffer = vec![0; WRITE_AGAIN_BYTES];
    let mut at = newest.last_group;
    while at < newest.end && newest.readable {
        let bytes = usize::try_from(newest.end - at).unwrap_or(usize::MAX).min(buffer.len());
        let have = file.read_at(&mut buffer[..bytes], at)?;
        if have == 0 {
            break;
        }
        file.write_at(&buffer[..have], at)?;
        at += have as u64;
    }
    Ok(())
}

/// Sets aside files from which nothing can be read or proven.
pub(crate) fn set_aside(folder: &Folder, files: &[u32], damage: &mut Vec<Damage>) -> Result<(), OpenError> {
    for index in files.iter().copied() {
        let path = folder.segment(index);
        let file = folder.set_aside(index).map_err(|source| OpenError::at(folder, &path, source))?;
        tracing::error!(file = %file.display(), "nothing in this segment of the journal can be read; it was set aside");
        damage.push(Damage::SetAside { file });
    }
    Ok(())
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
    let Survey { segments, epoch, newest, damage, .. } = survey(folder)?;
    let mut bytes = 0;
    let mut first_sequence = None;
    for index in segments.iter().copied() {
        // Pruned by the writer since the listing?
        let Some(opened) = segment::open(folder, index)? else { continue };
        bytes += opened.length().map_err(ReadError::at(folder.path()))?;
        first_sequence = first_sequence.or(opened.front.header.map(|header| header.first_sequence));
    }
    Ok(Stat {
        epoch,
        first_sequence: first_sequence.unwrap_or(0),
        next_sequence: newest.map_or(0, |newest| newest.next_sequence),
        segments: segments.len(),
        bytes,
        damage,
    })
}
