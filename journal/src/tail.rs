//! The tail: the open end of the newest segment, which groups are written to.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::file;
use crate::header::{COPY_AT, DATA_AT, Header};

/// The newest segment, open for writing.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) file: File,
    pub(crate) index: u32,
    /// Behind the last durable record.
    pub(crate) offset: u64,
    /// Length that the file may have.
    pub(crate) capacity: u64,
}

impl Tail {
    /// Makes a segment and its name in `folder` durable. When that fails, what was made is removed as far as possible.
    pub(crate) fn begin(folder: &Path, header: &Header, capacity: u64) -> io::Result<Self> {
        let index = header.segment;
        let temporary = file::temporary_path(folder, index);
        let path = file::segment_path(folder, index);
        let made = write_segment(&temporary, header, capacity)
            .and_then(|file| file::rename(folder, &temporary, &path).map(|()| file));
        match made {
            Ok(file) => {
                let offset = DATA_AT;
                Ok(Self { file, index, offset, capacity })
            }
            Err(error) => {
                remove_leftover(&temporary);
                remove_leftover(&path);
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
        file::write_at(&self.file, group, self.offset)?;
        file::sync_data(&self.file)?;
        self.offset += group.len() as u64;
        Ok(())
    }

    /// Ends the segment: cuts it to its durable content, as far as the disk still obeys. Readers and recovery manage
    /// with an uncut one.
    pub(crate) fn seal(self) {
        if let Err(error) = file::truncate(&self.file, self.offset) {
            tracing::warn!(segment = self.index, %error, "couldn't cut a full journal segment to its content");
        }
    }
}

/// Writes a segment with both its headers, durable but for its name.
fn write_segment(path: &Path, header: &Header, capacity: u64) -> io::Result<File> {
    let file = file::create(path)?;
    file::preallocate(&file, capacity)?;
    let bytes = header.encode();
    file::write_at(&file, &bytes, 0)?;
    file::write_at(&file, &bytes, COPY_AT)?;
    file::sync_all(&file)?;
    Ok(file)
}

fn remove_leftover(path: &Path) {
    match file::remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(file = %path.display(), %error, "couldn't remove a journal segment that failed to begin");
        }
        Ok(()) | Err(_) => {}
    }
}
