//! One segment file seen by a reader: its header, the record at an offset, the next valid record behind a bad place.

use std::io;
use std::time::SystemTime;

use crate::disk::DiskFile;
use crate::error::ReadError;
use crate::folder::Folder;
use crate::header::{self, COPY_AT, DATA_AT, HEADER_BYTES, Header};
use crate::record::{self, ALIGN, FOOTPRINT_MIN, HEAD_BYTES, Head, Look, Place};

/// Most records are shorter than this, so one read gets them whole.
const FIRST_READ_BYTES: usize = 1024;

/// How much of a file the search for valid records or for the first byte that is not zero holds at a time.
const BLOCK_BYTES: usize = 64 * 1024;

/// What a segment's two headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Headers {
    /// The header, if one of the two is whole and names this segment.
    pub(crate) header: Option<Header>,
    /// Both are whole and equal.
    pub(crate) sound: bool,
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

/// A segment open for reading, with the place that its checksums are bound to.
#[derive(Debug)]
pub(crate) struct Segment {
    file: Box<dyn DiskFile>,
    place: Place,
}

/// Reads both headers of the segment `index`.
pub(crate) fn headers(file: &dyn DiskFile, folder: &Folder, index: u32) -> Result<Headers, ReadError> {
    let path = folder.segment(index);
    let mut looks = [header::Look::Broken; 2];
    for (look, offset) in looks.iter_mut().zip([0, COPY_AT]) {
        let mut bytes = [0; HEADER_BYTES];
        file.read_at(&mut bytes, offset).map_err(ReadError::at(&path))?;
        *look = header::look(&bytes);
    }
    let mut header = None;
    for look in looks {
        match look {
            header::Look::Header(found) if found.segment == index => header = header.or(Some(found)),
            header::Look::Header(_) | header::Look::Broken => {}
            header::Look::Future(version) => {
                return Err(ReadError::FutureVersion { file: path, version });
            }
        }
    }
    Ok(Headers { header, sound: header.is_some() && looks[0] == looks[1] })
}

impl Segment {
    pub(crate) fn new(file: Box<dyn DiskFile>, place: Place) -> Self {
        Self { file, place }
    }

    pub(crate) fn index(&self) -> u32 {
        self.place.segment
    }

    /// When the file last changed, as far as the system keeps that.
    pub(crate) fn changed(&self) -> io::Result<SystemTime> {
        self.file.modified()
    }

    /// Looks at `offset`; a valid record's bytes (head, payload, padding) are at the front of `buffer` afterwards.
    pub(crate) fn record_at(&self, offset: u64, buffer: &mut Vec<u8>) -> io::Result<Found> {
        buffer.resize(FIRST_READ_BYTES, 0);
        let mut have = self.file.read_at(buffer, offset)?;
        let head = match record::look(&buffer[..have.min(HEAD_BYTES)]) {
            Look::Head(head) => head,
            Look::Blank => return Ok(Found::Blank),
            Look::Broken => return Ok(Found::Broken),
        };
        let need = record::footprint(head.payload_bytes);
        if need > FIRST_READ_BYTES {
            buffer.resize(need, 0);
            have += self.file.read_at(&mut buffer[have..], offset + have as u64)?;
        }
        if have < need || record::checksum(self.place, offset, &buffer[..need]) != head.checksum {
            return Ok(Found::Broken);
        }
        Ok(Found::Record(head))
    }

    /// Offset of the first valid record behind the bad place at `bad`, where the record `expected` should stand. A
    /// candidate's sequence must be one that the bytes between can account for; `None` for `expected` allows any.
    pub(crate) fn next_valid(&self, bad: u64, expected: Option<u64>, buffer: &mut Vec<u8>) -> io::Result<Option<u64>> {
        let mut block = vec![0; BLOCK_BYTES];
        let mut start = bad + ALIGN as u64;
        loop {
            let have = self.file.read_at(&mut block, start)?;
            if have < HEAD_BYTES {
                return Ok(None);
            }
            // Heads that begin in the block's last bytes are looked at with the next block.
            let last = (have - HEAD_BYTES) / ALIGN * ALIGN;
            for at in (0..=last).step_by(ALIGN) {
                let offset = start + at as u64;
                if let Look::Head(head) = record::look(&block[at..at + HEAD_BYTES])
                    && can_be_true(head.sequence, expected, offset - bad)
                    && matches!(self.record_at(offset, buffer)?, Found::Record(_))
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
            let have = self.file.read_at(&mut block, start)?;
            if have == 0 {
                return Ok(end - offset);
            }
            if let Some(last) = block[..have].iter().rposition(|byte| *byte != 0) {
                end = start + last as u64 + 1;
            }
            start += have as u64;
        }
    }
}

/// A stretch of `between` bytes can have held so many records and no more; the record itself comes after them.
fn can_be_true(sequence: u64, expected: Option<u64>, between: u64) -> bool {
    let Some(expected) = expected else {
        return true;
    };
    let most = expected.saturating_add(between / FOOTPRINT_MIN as u64);
    (expected..=most).contains(&sequence)
}

/// One step of a walk through a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The record at this offset.
    Record { offset: u64, head: Head },
    /// Bad bytes between valid ones.
    Bad { offset: u64, bytes: u64 },
    /// Nothing valid from here on.
    End { offset: u64 },
}

/// A walk over everything in a segment that nobody writes meanwhile.
pub(crate) struct Walk<'a> {
    segment: &'a Segment,
    offset: u64,
    expected: Option<u64>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(segment: &'a Segment, first_sequence: Option<u64>) -> Self {
        Self { segment, offset: DATA_AT, expected: first_sequence }
    }

    pub(crate) fn step(&mut self, buffer: &mut Vec<u8>) -> io::Result<Step> {
        let offset = self.offset;
        if let Found::Record(head) = self.segment.record_at(offset, buffer)? {
            self.offset += record::footprint(head.payload_bytes) as u64;
            self.expected = Some(head.sequence + 1);
            return Ok(Step::Record { offset, head });
        }
        match self.segment.next_valid(offset, self.expected, buffer)? {
            Some(next) => {
                self.offset = next;
                Ok(Step::Bad { offset, bytes: next - offset })
            }
            None => Ok(Step::End { offset }),
        }
    }
}
