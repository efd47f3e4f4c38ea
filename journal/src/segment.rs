//! One segment file seen by a reader: its front, the record at an offset, the next valid record behind a bad place.

use std::io::{self, ErrorKind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use crate::disk::DiskFile;
use crate::error::ReadError;
use crate::folder::Folder;
use crate::header::{self, COPY_AT, FRONT_BYTES, HEADER_BYTES, Header};
use crate::merkle::Frontier;
use crate::parity::{PAGE_BYTES, Pages, Parity};
use crate::record::{self, ALIGN, FOOTPRINT_MIN, HEAD_BYTES, Head, Look, PAYLOAD_BYTES_MAX, Place, SEQUENCE_MAX};

/// Most records are shorter than this, so one read gets them whole.
const FIRST_READ_BYTES: usize = 1024;

/// How much of a file the search for valid records or for the first byte that is not zero holds at a time.
const BLOCK_BYTES: usize = 64 * 1024;

/// What stands in front of a segment's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Front {
    /// The header, if one of the two is whole and names this segment.
    pub(crate) header: Option<Header>,
    /// Both headers are whole and equal.
    pub(crate) sound: bool,
    /// The tree over all earlier records, if it is whole.
    pub(crate) tree: Option<Frontier>,
}

/// A segment whose front was read.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) index: u32,
    pub(crate) front: Front,
    file: Box<dyn DiskFile>,
    cure: Cure,
}

/// What stands at an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A record whose checksum is right; its bytes are in the buffer.
    Record(Head),
    /// Zeros or the end of the file.
    Blank,
    /// Something else.
    Broken,
}

/// What the segment's parity does for it: looked for when something in the segment is bad, and once.
#[derive(Debug)]
struct Cure {
    folder: Folder,
    parity: OnceLock<Option<Parity>>,
    pages: OnceLock<Pages>,
}

/// A segment open for reading, with the place that its checksums are bound to.
#[derive(Debug)]
pub(crate) struct Segment {
    file: Box<dyn DiskFile>,
    cure: Cure,
    place: Place,
    /// How many sequences a bad place can at most have held, removed ones included.
    reach: u64,
    /// Bytes reserved for the file, if the header can be read.
    capacity: Option<u64>,
    /// Where the last part ends that the disk refused to read; 0 when it read everything.
    unreadable_below: AtomicU64,
}

/// Opens the segment `index` and reads its front; `None` when the writer pruned it since it was listed.
pub(crate) fn open(folder: &Folder, index: u32) -> Result<Option<Opened>, ReadError> {
    let path = folder.segment(index);
    let file = match folder.open_to_read(index) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(ReadError::at(&path))?,
    };
    let cure = Cure { folder: folder.clone(), parity: OnceLock::new(), pages: OnceLock::new() };
    let look = || {
        let mut bytes = vec![0; FRONT_BYTES];
        let (have, _) = cure.read(&*file, &mut bytes, 0).map_err(ReadError::at(&path))?;
        bytes.truncate(have);
        front(&bytes, index).map_err(|version| ReadError::FutureVersion { file: path.clone(), version })
    };
    let mut front = look()?;
    if !(front.sound && front.tree.is_some())
        && cure.try_heal(&*file, index, front.header.map(|header| header.epoch), 0)
    {
        front = look()?;
    }
    Ok(Some(Opened { index, front, file, cure }))
}

impl Cure {
    /// Reads, with the pages that were made again in their places.
    fn read(&self, file: &dyn DiskFile, buffer: &mut [u8], offset: u64) -> io::Result<(usize, u64)> {
        let healed = |at: u64| self.pages.get().is_some_and(|pages| pages.contains_key(&(at - at % PAGE_BYTES)));
        let (mut have, unreadable_below) = read(file, buffer, offset, healed)?;
        let end = offset + buffer.len() as u64;
        for (at, page) in self.pages.get().into_iter().flat_map(|pages| pages.range(..end)) {
            let (from, to) = (offset.max(*at), end.min(at + page.len() as u64));
            if from < to && from <= offset + have as u64 {
                let into = (from - offset) as usize..(to - offset) as usize;
                have = have.max(into.end);
                buffer[into].copy_from_slice(&page[(from - at) as usize..(to - at) as usize]);
            }
        }
        Ok((have, unreadable_below))
    }

    /// Something at `offset` of the segment is bad: makes rotten pages again, if that was not tried yet. True when there
    /// are some, so that it is worth another look.
    fn try_heal(&self, file: &dyn DiskFile, segment: u32, epoch: Option<u64>, offset: u64) -> bool {
        let parity = self.parity.get_or_init(|| Parity::open(&self.folder, segment)).as_ref();
        let ours = |parity: &&Parity| epoch.is_none_or(|epoch| epoch == parity.epoch());
        let Some(parity) = parity.filter(ours).filter(|parity| offset < parity.covered()) else {
            return false;
        };
        let first = self.pages.get().is_none();
        !self.pages.get_or_init(|| parity.heal(file)).is_empty() && first
    }
}

/// What the first bytes of segment `index` say, or the version of a format that is not ours.
pub(crate) fn front(bytes: &[u8], index: u32) -> Result<Front, u32> {
    let copy = COPY_AT as usize;
    let looks = [0, copy].map(|at| header::look(bytes.get(at..at + HEADER_BYTES).unwrap_or_default()));
    let mut found = None;
    for look in looks {
        match look {
            header::Look::Header(header) if header.segment == index => found = found.or(Some(header)),
            header::Look::Header(_) | header::Look::Broken => {}
            header::Look::Future(version) => return Err(version),
        }
    }
    let sound = found.is_some() && looks[0] == looks[1];
    let tree = found.and_then(|header: Header| header.frontier(bytes));
    Ok(Front { header: found, sound, tree })
}

impl Front {
    /// The tree that the records go on from: what is written there, or the empty one in front of the very first record.
    pub(crate) fn base(&self) -> Option<Frontier> {
        let first = self.header.is_some_and(|header| header.first_sequence == 0);
        self.tree.clone().or(first.then(Frontier::default))
    }
}

impl Opened {
    /// The segment of the journal's `epoch`, to read its records.
    pub(crate) fn into_segment(self, epoch: u64) -> Segment {
        let room = match self.front.header {
            Some(header) => header.capacity,
            None => self.file.length().unwrap_or(0).max(crate::SEGMENT_BYTES),
        };
        let room = room.clamp(2 * PAYLOAD_BYTES_MAX as u64, crate::SEGMENT_BYTES_MAX);
        Segment {
            file: self.file,
            cure: self.cure,
            place: Place { epoch, segment: self.index },
            reach: room / FOOTPRINT_MIN as u64,
            capacity: self.front.header.map(|header| header.capacity),
            unreadable_below: AtomicU64::new(0),
        }
    }

    /// Length of the file.
    pub(crate) fn length(&self) -> io::Result<u64> {
        self.file.length()
    }
}

impl Segment {
    pub(crate) fn index(&self) -> u32 {
        self.place.segment
    }

    /// When the file last changed, as far as the system keeps that.
    pub(crate) fn changed(&self) -> io::Result<SystemTime> {
        self.file.modified()
    }

    /// Where the last part ends that the disk refused to read so far, which is read as zeros; 0 when there is none.
    pub(crate) fn unreadable_below(&self) -> u64 {
        self.unreadable_below.load(Ordering::Relaxed)
    }

    /// Pages that were rotten and made again from the parity, as far as the reading met them: where each begins and
    /// what it should be.
    pub(crate) fn healed(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.cure.pages.get().into_iter().flatten().map(|(at, page)| (*at, page.as_slice()))
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let (have, unreadable_below) = self.cure.read(&*self.file, buffer, offset)?;
        self.unreadable_below.fetch_max(unreadable_below, Ordering::Relaxed);
        Ok(have)
    }

    /// Looks at `offset`, where the record `expected` should stand; a valid record's bytes (head, payload, padding) are
    /// at the front of `buffer` afterwards. One with a sequence that can't be true is not valid.
    pub(crate) fn record_at(&self, offset: u64, expected: Option<u64>, buffer: &mut Vec<u8>) -> io::Result<Found> {
        let found = self.look_at(offset, expected, buffer)?;
        if matches!(found, Found::Record(_))
            || !self.cure.try_heal(&*self.file, self.place.segment, Some(self.place.epoch), offset)
        {
            return Ok(found);
        }
        // What was refused so far is looked at again, or made again.
        self.unreadable_below.store(0, Ordering::Relaxed);
        self.look_at(offset, expected, buffer)
    }

    fn look_at(&self, offset: u64, expected: Option<u64>, buffer: &mut Vec<u8>) -> io::Result<Found> {
        buffer.resize(FIRST_READ_BYTES, 0);
        let mut have = self.read(buffer, offset)?;
        let head = match record::look(&buffer[..have.min(HEAD_BYTES)]) {
            Look::Head(head) if self.can_be_true(head.sequence, expected) => head,
            Look::Blank => return Ok(Found::Blank),
            Look::Head(_) | Look::Broken => return Ok(Found::Broken),
        };
        let need = record::footprint(head.payload_bytes);
        if need > FIRST_READ_BYTES {
            buffer.resize(need, 0);
            have += self.read(&mut buffer[have..], offset + have as u64)?;
        }
        if have < need || record::checksum(self.place, offset, &buffer[..need]) != head.checksum {
            return Ok(Found::Broken);
        }
        Ok(Found::Record(head))
    }

    /// Offset of the first valid record behind the bad place at `bad`, where the record `expected` should stand (`None`
    /// when that is not known).
    pub(crate) fn next_valid(&self, bad: u64, expected: Option<u64>, buffer: &mut Vec<u8>) -> io::Result<Option<u64>> {
        let mut block = vec![0; BLOCK_BYTES];
        let mut start = bad + ALIGN as u64;
        loop {
            let have = self.read(&mut block, start)?;
            if have < HEAD_BYTES {
                return Ok(None);
            }
            // Heads that begin in the block's last bytes are looked at with the next block.
            let last = (have - HEAD_BYTES) / ALIGN * ALIGN;
            for at in (0..=last).step_by(ALIGN) {
                let offset = start + at as u64;
                if let Look::Head(head) = record::look(&block[at..at + HEAD_BYTES])
                    && self.can_be_true(head.sequence, expected)
                    && matches!(self.record_at(offset, expected, buffer)?, Found::Record(_))
                {
                    return Ok(Some(offset));
                }
            }
            start += (last + ALIGN) as u64;
        }
    }

    /// Bytes from `offset` up to the last one that is not zero.
    pub(crate) fn written_behind(&self, offset: u64) -> io::Result<u64> {
        let mut block = vec![0; BLOCK_BYTES];
        let (mut start, mut end) = (offset, offset);
        loop {
            let have = self.read(&mut block, start)?;
            if have == 0 {
                return Ok(end - offset);
            }
            if let Some(last) = block[..have].iter().rposition(|byte| *byte != 0) {
                end = start + last as u64 + 1;
            }
            start += have as u64;
        }
    }

    /// Bytes behind the last valid record, which ends at `end`, that are lost and not the room of records to come: of a
    /// file that was closed and ends in zeros none the less, or that can't be read. `torn_bytes` is what
    /// [`Segment::written_behind`] says about `end`.
    pub(crate) fn lost_end(&self, end: u64, torn_bytes: u64) -> io::Result<Option<u64>> {
        let bytes = self.file.length()?.saturating_sub(end);
        let zeros = bytes.saturating_sub(torn_bytes);
        let was_closed = self.capacity.is_some_and(|capacity| end + bytes < capacity);
        let unreadable = self.unreadable_below().saturating_sub(end);
        let bytes = if was_closed && zeros >= FOOTPRINT_MIN as u64 { bytes } else { unreadable };
        Ok((bytes >= FOOTPRINT_MIN as u64).then_some(bytes))
    }

    /// A segment holds so many records and no more, so a sequence does not jump further. Without this bound a crafted
    /// file could make a reader count to 2^62.
    fn can_be_true(&self, sequence: u64, expected: Option<u64>) -> bool {
        let most = expected.map_or(SEQUENCE_MAX, |expected| expected.saturating_add(self.reach));
        (expected.unwrap_or(0)..=most).contains(&sequence)
    }
}

/// Reads as [`DiskFile::read_at`] does, and past places that the disk can't read: they come as zeros, and the second
/// value says where the last of them ends that is not in a `healed` page.
fn read(file: &dyn DiskFile, buffer: &mut [u8], offset: u64, healed: impl Fn(u64) -> bool) -> io::Result<(usize, u64)> {
    match file.read_at(buffer, offset) {
        Ok(have) => return Ok((have, 0)),
        Err(error) if !is_unreadable(&error) => return Err(error),
        Err(_) => {}
    }
    let length = file.length()?.saturating_sub(offset);
    let have = usize::try_from(length).unwrap_or(usize::MAX).min(buffer.len());
    let (mut done, mut unreadable_below) = (0, 0);
    while done < have {
        let at = offset + done as u64;
        let piece = usize::try_from(PAGE_BYTES - at % PAGE_BYTES).unwrap_or(have).min(have - done);
        let piece = &mut buffer[done..done + piece];
        match file.read_at(piece, at) {
            Ok(_) => {}
            Err(error) if is_unreadable(&error) => {
                piece.fill(0);
                if !healed(at) {
                    unreadable_below = at + piece.len() as u64;
                }
            }
            Err(error) => return Err(error),
        }
        done += piece.len();
    }
    Ok((have, unreadable_below))
}

/// True for what is wrong with the medium or the file system's own data at this place, or with the kind of the file:
/// asking again will not help, and the rest may well be fine.
fn is_unreadable(error: &io::Error) -> bool {
    use rustix::io::Errno;
    const KINDS: [Errno; 8] = [
        Errno::IO,
        Errno::NODATA,
        Errno::ILSEQ,
        Errno::BADMSG,
        Errno::UCLEAN,
        Errno::REMOTEIO,
        Errno::ISDIR,
        Errno::SPIPE,
    ];
    error.raw_os_error().is_some_and(|code| KINDS.iter().any(|kind| kind.raw_os_error() == code))
}
