//! The tail: the open end of the newest segment, which groups are written to.

use std::io;

use crate::disk::DiskFile;
use crate::folder::Folder;
use crate::header::{DATA_AT, Header};
use crate::merkle::Frontier;
use crate::record;

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

/// A segment that was ended.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) file: Box<dyn DiskFile>,
    pub(crate) index: u32,
    /// Length of its durable content.
    pub(crate) covered: u64,
    /// It has no room behind that any more.
    pub(crate) cut: bool,
}

impl Tail {
    /// Makes a segment and its name in `folder` durable. When that fails, what was made is removed as far as possible.
    pub(crate) fn begin(folder: &Folder, header: &Header, tree: &Frontier) -> io::Result<Self> {
        let Header { segment: index, capacity, .. } = *header;
        let mut front = header.encode_front(Some(tree));
        if tree.size() > 0 {
            // A second copy of the frontier, in another page than the first.
            let mut anchor = Vec::new();
            record::encode_anchor(&mut anchor, header.place(), DATA_AT, tree);
            front.extend_from_slice(&anchor);
        }
        let made = write_segment(folder, index, capacity, &front).and_then(|file| folder.publish(index).map(|()| file));
        match made {
            Ok(file) => {
                let offset = front.len() as u64;
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

    /// Ends the file for good: cuts it to its content, durably. Returns it with the length of that.
    pub(crate) fn close(self) -> io::Result<(Box<dyn DiskFile>, u64)> {
        self.file.set_len(self.offset)?;
        self.file.sync_all()?;
        Ok((self.file, self.offset))
    }

    /// Ends the segment: cuts it to its durable content, as far as the disk still obeys. Readers and recovery manage
    /// with an uncut one.
    pub(crate) fn seal(self) -> Sealed {
        let cut = self.file.set_len(self.offset);
        if let Err(error) = &cut {
            tracing::warn!(segment = self.index, %error, "couldn't cut a full journal segment to its content");
        }
        Sealed { file: self.file, index: self.index, covered: self.offset, cut: cut.is_ok() }
    }
}

/// Writes a segment that begins with `front`, durable but for its name.
fn write_segment(folder: &Folder, index: u32, capacity: u64, front: &[u8]) -> io::Result<Box<dyn DiskFile>> {
    let file = folder.disk.create(&folder.temporary(index))?;
    file.allocate(capacity)?;
    file.write_at(front, 0)?;
    file.sync_all()?;
    Ok(file)
}
