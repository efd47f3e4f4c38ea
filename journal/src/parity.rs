//! Parity: a small file beside a finished segment, from which a page that rotted is made again.
//!
//! # Constraints
//!
//! - It is a view of the segment and no part of the log: without it nothing is missing but the cure.
//! - It speaks for the first bytes of the segment, up to where that ended when it was written. Those bytes never change
//!   (only [`crate::Journal::thin`] writes them anew, and removes the parity first, durably), so what was appended since
//!   does not make it wrong.
//! - A page is believed when its checksum says so, which covers epoch, segment and the page's number. A page that is made
//!   again has to pass it as well: nothing is ever made up.
//! - Rot that is no whole page is a rotten page too. One page of each stripe can be made again.
//!
//! # Layout
//!
//! `seg-XXXXXXXX.par`, integers little-endian. Page `p` of the segment is in stripe `p mod K`, so that `K` pages side by
//! side may go; `K` is one for each 64 pages, which is 1.6 % of the segment, and 4 bytes a page.
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 8 | magic `VEDETTEP` |
//! | 8 | 4 | format version, 1 |
//! | 12 | 4 | number of the segment |
//! | 16 | 8 | epoch |
//! | 24 | 8 | bytes of the segment that it speaks for |
//! | 32 | 4 each | CRC32C of (epoch, segment, number of the page), then the page, for each page of the segment and then for each parity page, numbered on |
//! | … | 4 | CRC32C of everything before |
//! | … | 4096 each | parity: the exclusive or of a stripe's pages, a last short one filled up with zeros |
//!
//! # Healing
//!
//! [`Parity::heal`] reads the segment once, in the memory of two pages, and gives the pages that were rotten and could be
//! made again. Readers lay them over the file; the writer also writes them back when it opens the journal.

use std::collections::BTreeMap;
use std::io;

use crate::disk::DiskFile;
use crate::folder::Folder;
use crate::record::{Place, checksum_at, u32_at, u64_at};

/// What a disk loses at once.
pub(crate) const PAGE_BYTES: u64 = 4096;
/// Pages that share one page of parity.
const STRIPE_PAGES: u64 = 64;
/// Longest segment that gets one: its table is 64 KiB, its parity 1 MiB, and both are held while they are made.
const COVERED_BYTES_MAX: u64 = 64 << 20;

const MAGIC: &[u8; 8] = b"VEDETTEP";
const VERSION: u32 = 1;
const TABLE_AT: usize = 32;
const PAGE: usize = PAGE_BYTES as usize;

/// What a parity file says, and the file for the rest.
#[derive(Debug)]
pub(crate) struct Parity {
    file: Box<dyn DiskFile>,
    place: Place,
    covered: u64,
    /// Checksums of the segment's pages, then of the parity pages.
    sums: Vec<u32>,
}

/// Pages as they should be, each with the place where it begins; the last one of a segment may be short.
pub(crate) type Pages = BTreeMap<u64, Vec<u8>>;

/// Writes the parity of the first `covered` bytes of a segment, durable but for its name. One that can't be written is
/// no failure of the journal.
pub(crate) fn write(folder: &Folder, place: Place, segment: &dyn DiskFile, covered: u64) {
    if covered == 0 || covered > COVERED_BYTES_MAX {
        return;
    }
    let path = folder.parity(place.segment);
    let written = encode(place, segment, covered).and_then(|bytes| {
        let file = folder.disk.create(&path)?;
        file.write_at(&bytes, 0)?;
        file.sync_data()
    });
    if let Err(error) = written {
        tracing::warn!(file = %path.display(), %error, "couldn't write the parity of a journal segment");
        folder.remove_leftover(&path);
    }
}

fn encode(place: Place, segment: &dyn DiskFile, covered: u64) -> io::Result<Vec<u8>> {
    let (pages, stripes) = (pages(covered), stripes(covered));
    let mut parity = vec![0; stripes as usize * PAGE];
    let mut sums = Vec::with_capacity((pages + stripes) as usize);
    let mut page = vec![0; PAGE];
    for number in 0..pages {
        let bytes = page_bytes(number, covered);
        if segment.read_at(&mut page[..bytes], number * PAGE_BYTES)? < bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        sums.push(sum(place, number, &page[..bytes]));
        let into = (number % stripes) as usize * PAGE;
        fold(&mut parity[into..into + PAGE], &page[..bytes]);
    }
    sums.extend((pages..).zip(parity.chunks_exact(PAGE)).map(|(number, page)| sum(place, number, page)));
    let mut out = Vec::with_capacity(TABLE_AT + sums.len() * 4 + 4 + parity.len());
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&place.segment.to_le_bytes());
    out.extend_from_slice(&place.epoch.to_le_bytes());
    out.extend_from_slice(&covered.to_le_bytes());
    sums.iter().for_each(|sum| out.extend_from_slice(&sum.to_le_bytes()));
    let whole = crc32c::crc32c(&out);
    out.extend_from_slice(&whole.to_le_bytes());
    out.extend_from_slice(&parity);
    Ok(out)
}

impl Parity {
    /// The parity of a segment; `None` when there is none, or it is damaged or of a newer format.
    pub(crate) fn open(folder: &Folder, segment: u32) -> Option<Self> {
        Self::read(folder.disk.open_to_read(&folder.parity(segment)).ok()?, segment)
    }

    fn read(file: Box<dyn DiskFile>, segment: u32) -> Option<Self> {
        let mut head = [0; TABLE_AT];
        if file.read_at(&mut head, 0).ok()? < TABLE_AT || head[..8] != *MAGIC || u32_at(&head, 8) != VERSION {
            return None;
        }
        let covered = u64_at(&head, 24);
        if u32_at(&head, 12) != segment || covered == 0 || covered > COVERED_BYTES_MAX {
            return None;
        }
        let place = Place { epoch: u64_at(&head, 16), segment };
        let mut table = vec![0; (pages(covered) + stripes(covered)) as usize * 4 + 4];
        if file.read_at(&mut table, TABLE_AT as u64).ok()? < table.len() {
            return None;
        }
        let (table, whole) = table.split_at(table.len() - 4);
        if u32_at(whole, 0) != crc32c::crc32c_append(crc32c::crc32c(&head), table) {
            return None;
        }
        let sums = table.chunks_exact(4).map(|sum| u32_at(sum, 0)).collect();
        Some(Self { file, place, covered, sums })
    }

    /// Epoch of the journal that it is of.
    pub(crate) fn epoch(&self) -> u64 {
        self.place.epoch
    }

    /// Bytes of the segment that it speaks for.
    pub(crate) fn covered(&self) -> u64 {
        self.covered
    }

    /// Whether a segment has a parity file that is not as it was written.
    pub(crate) fn is_rotten(folder: &Folder, segment: u32) -> bool {
        let there = folder.disk.open_to_read(&folder.parity(segment)).is_ok();
        there && !Self::open(folder, segment).is_some_and(|parity| parity.is_whole())
    }

    fn is_whole(&self) -> bool {
        let mut page = vec![0; PAGE];
        (0..stripes(self.covered)).all(|stripe| self.parity(stripe, &mut page))
            && self.file.length().is_ok_and(|length| length == self.parity_at(stripes(self.covered)))
    }

    /// The pages of `segment` that are not as they were written and can be made again. What the disk refuses to read is
    /// rotten like any other.
    pub(crate) fn heal(&self, segment: &dyn DiskFile) -> Pages {
        let mut healed = Pages::new();
        for stripe in 0..stripes(self.covered) {
            if let Some((number, page)) = self.heal_stripe(stripe, segment) {
                healed.insert(number * PAGE_BYTES, page);
            }
        }
        healed
    }

    /// The one rotten page of a stripe; `None` when there is none, or more than one.
    fn heal_stripe(&self, stripe: u64, segment: &dyn DiskFile) -> Option<(u64, Vec<u8>)> {
        let mut made = vec![0; PAGE];
        if !self.parity(stripe, &mut made) {
            return None;
        }
        let mut page = vec![0; PAGE];
        let mut rotten = None;
        for number in (stripe..pages(self.covered)).step_by(stripes(self.covered) as usize) {
            let page = &mut page[..page_bytes(number, self.covered)];
            let read = segment.read_at(page, number * PAGE_BYTES);
            if read.is_ok_and(|have| have == page.len()) && self.is_true(number, page) {
                fold(&mut made, page);
            } else if rotten.replace(number).is_some() {
                return None;
            }
        }
        let number = rotten?;
        made.truncate(page_bytes(number, self.covered));
        self.is_true(number, &made).then_some((number, made))
    }

    /// Reads a parity page; says whether it is as it was written.
    fn parity(&self, stripe: u64, page: &mut [u8]) -> bool {
        let have = self.file.read_at(page, self.parity_at(stripe));
        have.is_ok_and(|have| have == PAGE) && self.is_true(pages(self.covered) + stripe, page)
    }

    fn parity_at(&self, stripe: u64) -> u64 {
        (TABLE_AT + self.sums.len() * 4 + 4) as u64 + stripe * PAGE_BYTES
    }

    fn is_true(&self, number: u64, page: &[u8]) -> bool {
        self.sums.get(number as usize) == Some(&sum(self.place, number, page))
    }
}

fn pages(covered: u64) -> u64 {
    covered.div_ceil(PAGE_BYTES)
}

fn stripes(covered: u64) -> u64 {
    pages(covered).div_ceil(STRIPE_PAGES)
}

/// Length of a page; the last one ends where the segment ended.
fn page_bytes(number: u64, covered: u64) -> usize {
    (covered - number * PAGE_BYTES).min(PAGE_BYTES) as usize
}

fn sum(place: Place, number: u64, page: &[u8]) -> u32 {
    checksum_at(place, number, &[page])
}

fn fold(into: &mut [u8], page: &[u8]) {
    into.iter_mut().zip(page).for_each(|(into, byte)| *into ^= byte);
}
