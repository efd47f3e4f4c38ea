//! Mending a journal that nobody writes: what can be made whole again is, and what can't is left to be read around.
//!
//! Before a segment is touched, a copy of it is kept beside it (`….damaged`), durably: a repair that goes wrong, or that
//! somebody regrets, has taken nothing away. Mended are rotten pages (from the parity beside their segment), the end (an
//! unfinished write is cut, as opening would) and the fronts of segments (from their other copy, or from the anchor behind
//! them). Records that are gone stay gone.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::check::Against;
use crate::disk::{self, Disk, DiskFile};
use crate::error::{OpenError, ReadError};
use crate::folder::Folder;
use crate::header::{DATA_AT, Header};
use crate::merkle::Frontier;
use crate::parity::{self, Parity};
use crate::record::{Mark, Place};
use crate::scan::{Event, Scan, Spot};
use crate::segment::{self, Opened};
use crate::verify::{Report, verify_on};
use crate::walk::{self, Step, Walk};
use crate::writer;

/// How much of a file is copied at a time.
const BLOCK_BYTES: usize = 64 * 1024;

/// Why a journal wasn't repaired. Copies that were already made are kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// Somebody writes there, or the folder is not ours to write.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A copy couldn't be made, or a segment not be written.
    #[error("couldn't repair the journal: {}: {source}", path.display())]
    Io {
        /// The file concerned.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What was made whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mended {
    /// An unfinished write was cut from the end.
    End(Spot),
    /// A page that had rotted was written back as it was.
    Page(Spot),
    /// The parity of a sound segment was made again.
    Parity {
        /// Number of the segment.
        segment: u32,
    },
    /// The front of a segment was written anew.
    Front {
        /// Number of the segment.
        segment: u32,
    },
}

/// What a repair did.
#[derive(Clone, Debug)]
pub struct Repaired {
    /// What was made whole, in order.
    pub mended: Vec<Mended>,
    /// Copies of the segments as they were.
    pub copies: Vec<PathBuf>,
    /// The journal as it is now: what can't be mended is in there.
    pub report: Report,
}

/// Repairs the journal in `folder`, as far as that can be done. Nothing valid is removed; a sound journal is not touched.
///
/// # Errors
/// When somebody writes the journal, it can't be read or written, or a segment is of a newer format.
pub fn repair(folder: &Path) -> Result<Repaired, RepairError> {
    repair_on(disk::real(), folder)
}

/// As [`repair`], on another disk.
///
/// # Errors
/// As [`repair`].
pub fn repair_on(disk: Arc<dyn Disk>, folder: &Path) -> Result<Repaired, RepairError> {
    let place = Folder::new(Arc::clone(&disk), folder);
    // A folder that is not there must not be made by this.
    place.segments().map_err(ReadError::at(folder))?;
    let _lock = writer::take_folder(&place)?;
    let wounds = examine(&disk, folder)?;
    let mut copies = Vec::new();
    for wound in &wounds {
        let path = place.segment(wound.segment);
        copies.push(keep_copy(&place, wound.segment).map_err(|source| RepairError::Io { path, source })?);
    }
    let mut mended = Vec::new();
    for wound in wounds {
        let path = place.segment(wound.segment);
        mended.extend(mend(&place, wound).map_err(|source| RepairError::Io { path, source })?);
    }
    let report = verify_on(disk, folder, &Against::default(), &mut |_| {})?;
    Ok(Repaired { mended, copies, report })
}

/// A segment that can be mended, and how. One segment has one entry.
struct Wound {
    segment: u32,
    /// An unfinished write at its end.
    torn: Option<Spot>,
    /// What its front should be.
    front: Option<(Header, Frontier)>,
    /// Some of its pages rotted and can be made again.
    pages: bool,
    /// Its parity rotted and is to be made again, for so many bytes of it.
    parity: Option<(Place, u64)>,
}

impl Wound {
    fn is_none(&self) -> bool {
        self.torn.is_none() && self.front.is_none() && self.parity.is_none() && !self.pages
    }
}

/// What can be mended in a folder.
fn examine(disk: &Arc<dyn Disk>, folder: &Path) -> Result<Vec<Wound>, ReadError> {
    let place = Folder::new(Arc::clone(disk), folder);
    let mut scan = Scan::new(Arc::clone(disk), folder, 0)?;
    let mut wounds = Vec::new();
    let mut front = None;
    let mut whole_so_far = true;
    while let Some(event) = scan.next()? {
        match event {
            Event::Segment { index, front: found } => {
                whole_so_far = found.sound;
                let whole = found.sound && found.tree.is_some();
                let epoch = scan.epoch();
                front = match (whole, segment::open(&place, index)?, epoch) {
                    (false, Some(opened), Some(epoch)) => {
                        whole_front(opened, epoch).map_err(ReadError::at(&place.segment(index)))?
                    }
                    (_, _, _) => None,
                };
            }
            Event::End { torn, lost, newest, healed } => {
                let cut = newest && !lost && torn.bytes > 0;
                let segment = torn.segment;
                let sound = whole_so_far && torn.bytes == 0 && healed.is_empty();
                let rotten = || Parity::is_rotten(&place, segment);
                let parity = scan.epoch().filter(|_| sound && rotten());
                let wound = Wound {
                    segment,
                    torn: cut.then_some(torn),
                    front: front.take(),
                    pages: !healed.is_empty(),
                    parity: parity.map(|epoch| (Place { epoch, segment }, torn.offset)),
                };
                wounds.extend(Some(wound).filter(|wound| !wound.is_none()));
            }
            Event::Bad(_) => whole_so_far = false,
            Event::Record { .. } | Event::Stubs { .. } | Event::Anchor(_) | Event::Note | Event::Stranger { .. } => {}
        }
    }
    Ok(wounds)
}

/// What a damaged front should be: from what is left of it and from the anchor behind it. `None` when these do not say.
fn whole_front(opened: Opened, epoch: u64) -> io::Result<Option<(Header, Frontier)>> {
    let (segment, front, capacity) = (opened.index, opened.front.clone(), opened.length()?);
    let mut walk = Walk::new(opened.into_segment(epoch), front.header.map(|header| header.first_sequence));
    let mut buffer = Vec::new();
    let behind = match walk.step(&mut buffer)? {
        Step::Record { offset: DATA_AT, head } if head.mark == Mark::Anchor => walk::anchor(&head, &buffer),
        // Only the very first segment does without an anchor.
        Step::Record { offset: DATA_AT, head } if head.sequence == 0 => Some(Frontier::default()),
        Step::Record { .. } | Step::Bad { .. } | Step::End { .. } => None,
    };
    let Some(tree) = front.base().or(behind) else {
        return Ok(None);
    };
    let (first_sequence, root) = (tree.size(), tree.root());
    let header = front.header.unwrap_or(Header { segment, epoch, first_sequence, root, capacity });
    Ok((header.first_sequence == first_sequence && header.root == root).then_some((header, tree)))
}

/// Copies a segment as it is, durably.
fn keep_copy(folder: &Folder, index: u32) -> io::Result<PathBuf> {
    let from = folder.open_to_read(index)?;
    let path = folder.beside(index)?;
    let to = folder.disk.create(&path)?;
    let mut block = vec![0; BLOCK_BYTES];
    let mut offset = 0;
    loop {
        let have = from.read_at(&mut block, offset)?;
        if have == 0 {
            break;
        }
        to.write_at(&block[..have], offset)?;
        offset += have as u64;
    }
    to.sync_all()?;
    folder.sync()?;
    Ok(path)
}

fn mend(folder: &Folder, wound: Wound) -> io::Result<Vec<Mended>> {
    let Wound { segment, torn, front, pages, parity } = wound;
    let file = folder.disk.open_to_write(&folder.segment(segment))?;
    let mut mended = Vec::new();
    if let Some(parity) = Parity::open(folder, segment).filter(|_| pages) {
        for (offset, page) in parity.heal(&*file) {
            file.write_at(&page, offset)?;
            mended.push(Mended::Page(Spot { segment, offset, bytes: page.len() as u64 }));
        }
    }
    if let Some(torn) = torn {
        file.set_len(torn.offset.max(DATA_AT))?;
        mended.push(Mended::End(torn));
    }
    if let Some((header, tree)) = front {
        write_front(&*file, &header, &tree)?;
        mended.push(Mended::Front { segment });
    }
    file.sync_all()?;
    if let Some((place, covered)) = parity {
        parity::write(folder, place, &*file, covered);
        folder.sync()?;
        mended.push(Mended::Parity { segment });
    }
    Ok(mended)
}

fn write_front(file: &dyn DiskFile, header: &Header, tree: &Frontier) -> io::Result<()> {
    file.write_at(&header.encode_front(Some(tree)), 0)
}
