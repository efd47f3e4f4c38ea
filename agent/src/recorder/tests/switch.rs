//! The real disk with a switch: every change is refused in the way that is set.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::SystemTime;

use vedette_journal::{Disk, DiskFile, Lock, RealDisk};

/// How the disk does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mood {
    Well,
    Full,
    ReadOnly,
    Failing,
}

/// The disk.
#[derive(Clone, Debug, Default)]
pub(super) struct SwitchDisk {
    errno: Arc<AtomicI32>,
}

#[derive(Debug)]
struct SwitchFile {
    inner: Box<dyn DiskFile>,
    disk: SwitchDisk,
}

impl SwitchDisk {
    pub(super) fn set(&self, mood: Mood) {
        let errno = match mood {
            Mood::Well => 0,
            Mood::Full => 28,
            Mood::ReadOnly => 30,
            Mood::Failing => 5,
        };
        self.errno.store(errno, Ordering::SeqCst);
    }

    pub(super) fn arc(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    fn ask(&self) -> io::Result<()> {
        match self.errno.load(Ordering::SeqCst) {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    fn wrap(&self, inner: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(SwitchFile { inner, disk: self.clone() })
    }
}

impl Disk for SwitchDisk {
    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        RealDisk.list(folder)
    }

    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        self.ask()?;
        RealDisk.make_folder(folder)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.ask()?;
        Ok(self.wrap(RealDisk.create(path)?))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        RealDisk.open_to_read(path)
    }

    fn open_to_write(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.ask()?;
        Ok(self.wrap(RealDisk.open_to_write(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.ask()?;
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.ask()?;
        RealDisk.sync_folder(folder)
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        self.ask()?;
        RealDisk.lock(path)
    }
}

impl DiskFile for SwitchFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.ask()?;
        self.inner.write_at(bytes, offset)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.disk.ask()?;
        self.inner.set_len(bytes)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.disk.ask()?;
        self.inner.allocate(bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.ask()?;
        self.inner.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.disk.ask()?;
        self.inner.sync_all()
    }

    fn length(&self) -> io::Result<u64> {
        self.inner.length()
    }

    fn modified(&self) -> io::Result<SystemTime> {
        self.inner.modified()
    }
}
