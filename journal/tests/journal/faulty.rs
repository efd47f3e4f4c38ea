//! The real disk with faults on order: syncs that fail, places that can't be read, calls that stop the process's work.

use std::ffi::OsString;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use vedette_journal::{Disk, DiskFile, Lock, RealDisk};

/// What is to fail; shared by the disk and its files.
#[derive(Debug, Default)]
pub struct Faults {
    /// So many of the next `sync_data` calls fail with EIO.
    pub syncs: AtomicU32,
    /// Reads that touch these bytes of files whose name ends so fail with EIO.
    pub unreadable: Mutex<Option<(String, Range<u64>)>>,
    /// So many changes still happen; all later ones fail, as if the process had ended. `u64::MAX` is no limit.
    pub changes_left: AtomicU64,
    /// The folder is somebody else's: nothing in it may be opened to write.
    pub denied: AtomicBool,
    /// Bytes that may still be reserved or written before the disk is full.
    pub room: AtomicU64,
}

/// A real disk that obeys [`Faults`].
#[derive(Clone, Debug, Default)]
pub struct FaultyDisk {
    pub faults: Arc<Faults>,
}

#[derive(Debug)]
struct FaultyFile {
    inner: Box<dyn DiskFile>,
    path: PathBuf,
    faults: Arc<Faults>,
}

fn eio() -> io::Error {
    io::Error::from_raw_os_error(5)
}

fn enospc() -> io::Error {
    io::Error::from_raw_os_error(28)
}

impl Faults {
    fn change(&self) -> io::Result<()> {
        let spend = |left: u64| if left == u64::MAX { Some(left) } else { left.checked_sub(1) };
        let spent = self.changes_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, spend);
        spent.map(|_| ()).map_err(|_| eio())
    }
}

impl FaultyDisk {
    pub fn new() -> Self {
        let disk = Self::default();
        disk.faults.changes_left.store(u64::MAX, Ordering::SeqCst);
        disk.faults.room.store(u64::MAX, Ordering::SeqCst);
        disk
    }

    pub fn arc(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    fn wrap(&self, path: &Path, inner: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(FaultyFile { inner, path: path.to_path_buf(), faults: Arc::clone(&self.faults) })
    }
}

impl Disk for FaultyDisk {
    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        RealDisk.list(folder)
    }

    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        self.faults.change()?;
        RealDisk.make_folder(folder)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.faults.change()?;
        Ok(self.wrap(path, RealDisk.create(path)?))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.wrap(path, RealDisk.open_to_read(path)?))
    }

    fn open_to_write(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.wrap(path, RealDisk.open_to_write(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.faults.change()?;
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.faults.change()?;
        RealDisk.remove(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.faults.change()?;
        RealDisk.sync_folder(folder)
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        if self.faults.denied.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        RealDisk.lock(path)
    }

    fn owners(&self, path: &Path) -> Option<(u32, u32)> {
        if self.faults.denied.load(Ordering::SeqCst) { Some((1234, 77)) } else { RealDisk.owners(path) }
    }
}

impl DiskFile for FaultyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let read = offset..offset + buffer.len() as u64;
        if let Some((name, bad)) = &*self.faults.unreadable.lock().unwrap()
            && self.path.to_string_lossy().ends_with(name)
            && read.start < bad.end
            && bad.start < read.end
        {
            return Err(eio());
        }
        self.inner.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.faults.change()?;
        self.inner.write_at(bytes, offset)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.faults.change()?;
        self.inner.set_len(bytes)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.faults.change()?;
        let have = self.inner.length()?;
        let wanted = bytes.saturating_sub(have);
        let room = self.faults.room.load(Ordering::SeqCst);
        if wanted > room {
            // As ext4 does: what there is room for stays with the file.
            self.inner.set_len(have + room)?;
            return Err(enospc());
        }
        if room != u64::MAX {
            self.faults.room.store(room - wanted, Ordering::SeqCst);
        }
        self.inner.allocate(bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.faults.change()?;
        let failing = |left: u32| left.checked_sub(1);
        match self.faults.syncs.fetch_update(Ordering::SeqCst, Ordering::SeqCst, failing) {
            Ok(_) => Err(eio()),
            Err(_) => self.inner.sync_data(),
        }
    }

    fn sync_all(&self) -> io::Result<()> {
        self.faults.change()?;
        self.inner.sync_all()
    }

    fn length(&self) -> io::Result<u64> {
        self.inner.length()
    }

    fn modified(&self) -> io::Result<SystemTime> {
        self.inner.modified()
    }
}
