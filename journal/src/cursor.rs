//! How far somebody has read, kept through power cuts: one small file, replaced as a whole.
//!
//! `VEDCURS1` | epoch u64 | sequence u64 | CRC32C of the 24 bytes before. Written under another name, synced, renamed,
//! folder synced: after a cut the old cursor or the new one is there, never a mixture and never none.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{self, Disk};
use crate::error::CursorError;
use crate::record::{u32_at, u64_at};

const MAGIC: &[u8; 8] = b"VEDCURS1";
const BYTES: usize = 28;
const CHECKSUM_AT: usize = BYTES - 4;

/// A place in a journal: everything below `sequence` of `epoch` is done with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Epoch of the journal that the sequence counts in.
    pub epoch: u64,
    /// First sequence that is not done with.
    pub sequence: u64,
}

/// The file that a [`Cursor`] is kept in. One writer at a time.
#[derive(Clone, Debug)]
pub struct CursorFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl CursorFile {
    /// The cursor kept at `path`. Nothing is touched yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::on(disk::real(), path)
    }

    /// As [`CursorFile::new`], on another disk.
    pub fn on(disk: Arc<dyn Disk>, path: impl Into<PathBuf>) -> Self {
        Self { disk, path: path.into() }
    }

    /// The cursor, or `None` when none was ever stored.
    ///
    /// # Errors
    /// [`CursorError::Damaged`] when the content is not what was stored; [`CursorError::Io`] when it can't be read.
    pub fn load(&self) -> Result<Option<Cursor>, CursorError> {
        let bytes = match self.read() {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(CursorError::Io { path: self.path.clone(), source });
            }
        };
        match decode(&bytes) {
            Some(cursor) => Ok(Some(cursor)),
            None => Err(CursorError::Damaged { path: self.path.clone() }),
        }
    }

    /// Stores the cursor durably.
    ///
    /// # Errors
    /// When the file can't be written, synced or renamed: the cursor stored before is still there.
    pub fn store(&self, cursor: Cursor) -> Result<(), CursorError> {
        let failed = |source| CursorError::Io { path: self.path.clone(), source };
        let mut temporary = self.path.clone().into_os_string();
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            Some(_) | None => Path::new("."),
        };
        let file = self.disk.create(&temporary).map_err(failed)?;
        file.write_at(&encode(cursor), 0).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        self.disk.rename(&temporary, &self.path).map_err(failed)?;
        self.disk.sync_folder(folder).map_err(failed)
    }

    /// The content, with one byte more than a cursor has, so that a longer file shows.
    fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; BYTES + 1];
        let have = self.disk.open_to_read(&self.path)?.read_at(&mut bytes, 0)?;
        bytes.truncate(have);
        Ok(bytes)
    }
}

fn encode(cursor: Cursor) -> [u8; BYTES] {
    let mut out = [0; BYTES];
    out[..8].copy_from_slice(MAGIC);
    out[8..16].copy_from_slice(&cursor.epoch.to_le_bytes());
    out[16..24].copy_from_slice(&cursor.sequence.to_le_bytes());
    let sum = crc32c::crc32c(&out[..CHECKSUM_AT]);
    out[CHECKSUM_AT..].copy_from_slice(&sum.to_le_bytes());
    out
}

fn decode(bytes: &[u8]) -> Option<Cursor> {
    let whole = bytes.len() == BYTES && bytes[..8] == *MAGIC;
    if !whole || u32_at(bytes, CHECKSUM_AT) != crc32c::crc32c(&bytes[..CHECKSUM_AT]) {
        return None;
    }
    Some(Cursor { epoch: u64_at(bytes, 8), sequence: u64_at(bytes, 16) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use super::*;

    #[test]
    fn a_cursor_comes_back_and_a_later_one_replaces_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = CursorFile::new(folder.path().join("cursor"));
        assert_eq!(file.load().unwrap(), None);
        for sequence in [5, 6] {
            file.store(Cursor { epoch: 3, sequence }).unwrap();
            assert_eq!(file.load().unwrap(), Some(Cursor { epoch: 3, sequence }));
        }
    }

    #[test]
    fn a_cursor_that_is_not_what_was_stored_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cursor");
        let file = CursorFile::new(&path);
        file.store(Cursor { epoch: 3, sequence: 9 }).unwrap();
        let whole = fs::read(&path).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &flipped).unwrap();
            assert!(matches!(file.load(), Err(CursorError::Damaged { .. })), "bit {bit}");
        }
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(matches!(file.load(), Err(CursorError::Damaged { .. })), "cut to {length}");
        }
    }

    /// Added to, never edited.
    #[test]
    fn the_bytes_of_a_cursor_are_pinned() {
        let bytes = encode(Cursor { epoch: 1, sequence: 2 });
        assert_eq!(bytes[..24], *b"VEDCURS1\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0");
    }
}
