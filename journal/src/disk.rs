//! What the journal needs of a disk: the one door to the file system, small enough that a simulated disk fits behind it.
//!
//! [`RealDisk`] is the machine's own. Whoever brings another one keeps these rules, on which recovery rests: written bytes
//! and a length are durable after `sync_data` or `sync_all` of their file, names after `sync_folder`, nothing else is; a
//! rename shows the old file or the new one under a name, never a mixture; an error of a sync says that any of the bytes
//! written since the last one may be gone.

use std::ffi::OsString;
use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

pub use crate::file::RealDisk;

/// A file system, or something that behaves like one.
pub trait Disk: Debug + Send + Sync {
    /// Names of what is in `folder`, in any order.
    ///
    /// # Errors
    /// What the system says.
    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>>;

    /// Makes `folder` and the way to it, durably. Nothing happens when it is there.
    ///
    /// # Errors
    /// What the system says.
    fn make_folder(&self, folder: &Path) -> io::Result<()>;

    /// Makes a new, empty file to read and write; one of this name is replaced.
    ///
    /// # Errors
    /// What the system says.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file to read it.
    ///
    /// # Errors
    /// What the system says; `NotFound` when there is none.
    fn open_to_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file that is there, to read and write it.
    ///
    /// # Errors
    /// What the system says; `NotFound` when there is none.
    fn open_to_write(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Gives a file another name in the same folder; one that had this name is gone. Durable after
    /// [`Disk::sync_folder`].
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file's name; who holds the file open reads on. Durable after [`Disk::sync_folder`].
    ///
    /// # Errors
    /// What the system says; `NotFound` when there is none.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// What the system says.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;

    /// Takes the lock file at `path`, which is made if need be.
    ///
    /// # Errors
    /// What the system says; a lock that somebody else has is no error but [`Lock::Taken`].
    fn lock(&self, path: &Path) -> io::Result<Lock>;

    /// User ids (of the owner of `path`, of this process), where there is such a thing.
    fn owners(&self, _path: &Path) -> Option<(u32, u32)> {
        None
    }
}

/// An open file. It is written and read at offsets and has no position of its own.
pub trait DiskFile: Debug + Send + Sync {
    /// Reads until `buffer` is full or the file ends; returns how much was read.
    ///
    /// # Errors
    /// What the system says; the content of `buffer` is open then.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes`; the file grows if need be.
    ///
    /// # Errors
    /// What the system says; any part may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts the file to `bytes`, or lengthens it with zeros.
    ///
    /// # Errors
    /// What the system says.
    fn set_len(&self, bytes: u64) -> io::Result<()>;

    /// Reserves room for the file up to `bytes` and makes it as long, with zeros. A file system that can't reserve does
    /// nothing and says no error: the file grows as it is written.
    ///
    /// # Errors
    /// What the system says, above all that there is no room.
    fn allocate(&self, bytes: u64) -> io::Result<()>;

    /// Makes the file's content durable, and its length as far as reading needs it.
    ///
    /// # Errors
    /// What the system says; the file must not be trusted or synced again.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes content and metadata durable.
    ///
    /// # Errors
    /// As [`DiskFile::sync_data`].
    fn sync_all(&self) -> io::Result<()>;

    /// Length in bytes.
    ///
    /// # Errors
    /// What the system says.
    fn length(&self) -> io::Result<u64>;

    /// When the content last changed, as far as the system keeps that.
    ///
    /// # Errors
    /// What the system says.
    fn modified(&self) -> io::Result<SystemTime>;
}

/// What became of the wish to be the only writer.
#[derive(Debug)]
pub enum Lock {
    /// Ours as long as this value lives; it ends with the process, however that ends.
    Held(Box<dyn DiskFile>),
    /// Somebody else has it; the text is what they wrote into the file: their process id, or nothing.
    Taken(String),
}

/// The machine's own disk.
pub(crate) fn real() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}
