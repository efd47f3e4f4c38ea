//! The simulated disk's open files and locks.

use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use vedette_journal::DiskFile;

use super::fate::Change;
use super::{Outcome, SimDisk, State, eio};

/// An open file.
#[derive(Debug)]
pub(super) struct SimFile {
    pub(super) disk: SimDisk,
    pub(super) file: usize,
    pub(super) writable: bool,
}

impl SimFile {
    fn writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(ErrorKind::PermissionDenied.into()) }
    }

    /// Lengthens or cuts the file, as far as there is room.
    fn length_to(&self, state: &mut State, bytes: usize) -> io::Result<()> {
        let grows = bytes.saturating_sub(state.files[self.file].shown.len());
        if grows > state.room() {
            return Err(ErrorKind::StorageFull.into());
        }
        state.change(self.file, Change::Length(bytes));
        Ok(())
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.state();
        state.check_power()?;
        let shown = &state.files[self.file].shown;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(shown.len());
        let read = buffer.len().min(shown.len() - from);
        buffer[..read].copy_from_slice(&shown[from..from + read]);
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.writable()?;
        let mut state = self.disk.state();
        let outcome = state.begin()?;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let grows = (offset + bytes.len()).saturating_sub(state.files[self.file].shown.len());
        let error = match outcome {
            Outcome::Fail => Some(eio()),
            Outcome::Work if grows > state.room() => Some(ErrorKind::StorageFull.into()),
            Outcome::Work => None,
        };
        let fits = (bytes.len() - grows.min(bytes.len())).saturating_add(state.room()).min(bytes.len());
        let written = if error.is_some() { state.random.index(fits + 1) } else { bytes.len() };
        if written > 0 {
            state.change(self.file, Change::Write { offset, bytes: bytes[..written].into() });
        }
        error.map_or(Ok(()), Err)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.writable()?;
        let mut state = self.disk.state();
        state.begin_whole()?;
        self.length_to(&mut state, usize::try_from(bytes).map_err(io::Error::other)?)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.writable()?;
        let mut state = self.disk.state();
        state.begin_whole()?;
        let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
        if bytes > state.files[self.file].shown.len() { self.length_to(&mut state, bytes) } else { Ok(()) }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.state().sync(self.file)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.disk.state().sync(self.file)
    }

    fn length(&self) -> io::Result<u64> {
        let state = self.disk.state();
        state.check_power()?;
        Ok(state.files[self.file].shown.len() as u64)
    }

    fn modified(&self) -> io::Result<SystemTime> {
        let state = self.disk.state();
        Ok(SystemTime::UNIX_EPOCH + Duration::from_nanos(state.files[self.file].changed))
    }
}

/// A lock that is held until it is dropped. Nothing else is done with its file.
#[derive(Debug)]
pub(super) struct SimLock {
    pub(super) disk: SimDisk,
    pub(super) path: PathBuf,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.state().locked.retain(|path| *path != self.path);
    }
}

impl DiskFile for SimLock {
    fn read_at(&self, _buffer: &mut [u8], _offset: u64) -> io::Result<usize> {
        Ok(0)
    }

    fn write_at(&self, _bytes: &[u8], _offset: u64) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }

    fn set_len(&self, _bytes: u64) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }

    fn allocate(&self, _bytes: u64) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(0)
    }

    fn modified(&self) -> io::Result<SystemTime> {
        Ok(SystemTime::UNIX_EPOCH)
    }
}
