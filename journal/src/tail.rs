//! The tail: the open end of the newest segment, which groups are written to.

use std::io;

use crate::disk::DiskFile;
use crate::folder::Folder;
use crate::header::{COPY_AT, DATA_AT, Header};

/// The newest segment, open for writing.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) file: Box<dyn DiskFile>,
    pub(crate) index: u32,
    /// Behind the last durable record.
    pub(crate) offset: u64,
    /// Length that the file may have.
    pub(crate) capacity: u64,
}

impl Tail {
    /// Makes a segment and its name in `folder` durable. When that fails, what was made is removed as far as possible.
    pub(crate) fn begin(folder: &Folder, header: &Header, capacity: u64) -> io::Result<Self> {
        let index = header.segment;
        let made = write_segment(folder, header, capacity).and_then(|file| folder.publish(index).map(|()| file));
        match made {
            Ok(file) => {
                let offset = DATA_AT;
                Ok(Self { file, index, offset, capacity })
            }
            Err(error) => {
                folder.remove_leftover(&folder.temporary(index));
                folder.remove_leftover(&folder.segment(index));
                Err(error)
            }
        }
    }

    /// Bytes that still fit.
    pub(crate) fn room(&self) -> u64 {
        self.capacity.saturating_sub(self.offset)
    }

    /// Writes a group and makes it durable; only then does the tail move.
    pub(crate) fn write(&mut self, group: &[u8]) -> io::Result<()> {
        self.file.write_at(group, self.offset)?;
        self.file.sync_data()?;
        self.offset += group.len() as u64;
        Ok(())
    }

    /// Ends the segment: cuts it to its durable content, as far as the disk still obeys. Readers and recovery manage
    /// with an uncut one.
    pub(crate) fn seal(self) {
        if let Err(error) = self.file.set_len(self.offset) {
            tracing::warn!(segment = self.index, %error, "couldn't cut a full journal segment to its content");
        }
    }
}

/// Writes a segment with both its headers, durable but for its name.
fn write_segment(folder: &Folder, header: &Header, capacity: u64) -> io::Result<Box<dyn DiskFile>> {
    let file = folder.disk.create(&folder.temporary(header.segment))?;
    file.allocate(capacity)?;
    let bytes = header.encode();
    file.write_at(&bytes, 0)?;
    file.write_at(&bytes, COPY_AT)?;
    file.sync_all()?;
    Ok(file)
}
