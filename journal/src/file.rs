//! The file layer: every touch of the file system that the journal makes, in a few functions, so that a simulated disk
//! can be put under them.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

/// Name of the file whose `flock` makes a writer the only one.
const LOCK: &str = "lock";
const PREFIX: &str = "seg-";
const SUFFIX: &str = ".log";
const SUFFIX_TEMPORARY: &str = ".tmp";
const SUFFIX_UNREADABLE: &str = ".unreadable";

/// Path of a segment.
pub(crate) fn segment_path(folder: &Path, index: u32) -> PathBuf {
    folder.join(format!("{PREFIX}{index:08x}{SUFFIX}"))
}

/// Path of a segment that is being made.
pub(crate) fn temporary_path(folder: &Path, index: u32) -> PathBuf {
    folder.join(format!("{PREFIX}{index:08x}{SUFFIX_TEMPORARY}"))
}

/// Numbers of the segments in a folder, ascending. Files with other names are nobody's business.
pub(crate) fn segments(folder: &Path) -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        if let Some(index) = entry?.file_name().to_str().and_then(|name| index_of(name, SUFFIX)) {
            found.push(index);
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn index_of(name: &str, suffix: &str) -> Option<u32> {
    let digits = name.strip_prefix(PREFIX)?.strip_suffix(suffix)?;
    let plain = digits.len() == 8 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if plain { u32::from_str_radix(digits, 16).ok() } else { None }
}

/// Removes segments that were being made when the power went.
pub(crate) fn remove_temporaries(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let temporary = entry.file_name().to_str().and_then(|name| index_of(name, SUFFIX_TEMPORARY));
        if temporary.is_some() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Makes the folder and the way to it durable; nothing happens when it is there.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(folder)?;
    match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_folder(parent),
        _ => Ok(()),
    }
}

/// What became of the wish to be the only writer.
pub(crate) enum Lock {
    Held(File),
    /// Somebody else has it; the text is what they wrote into the file: their process id.
    Taken(String),
}

/// Takes the folder's lock. It lasts as long as the file is open and ends with the process, however that ends.
pub(crate) fn lock(folder: &Path) -> io::Result<Lock> {
    let path = folder.join(LOCK);
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0)?;
            file.write_all(format!("{}\n", std::process::id()).as_bytes())?;
            Ok(Lock::Held(file))
        }
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.take(32).read_to_string(&mut holder)?;
            Ok(Lock::Taken(holder.trim().to_owned()))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

pub(crate) fn open_to_read(path: &Path) -> io::Result<File> {
    File::open(path)
}

pub(crate) fn open_to_write(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

/// Makes a new file; one of this name is replaced.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)
}

/// Reserves `bytes` on the disk and makes the file as long. A file system that can't reserve is fine: the file grows.
pub(crate) fn preallocate(file: &File, bytes: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn truncate(file: &File, bytes: u64) -> io::Result<()> {
    file.set_len(bytes)
}

pub(crate) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    file.write_all_at(bytes, offset)
}

/// Reads until `buffer` is full or the file ends; returns how much was read.
pub(crate) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Makes the file's content durable, and its length as far as reading needs it.
pub(crate) fn sync_data(file: &File) -> io::Result<()> {
    #[cfg(test)]
    tests::fail_if_told()?;
    file.sync_data()
}

/// Makes content and metadata durable.
pub(crate) fn sync_all(file: &File) -> io::Result<()> {
    file.sync_all()
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Gives a file another name in the same folder, durably.
pub(crate) fn rename(folder: &Path, from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_folder(folder)
}

pub(crate) fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)
}

/// Renames a segment that nothing can be read from, so that it is kept and in nobody's way; returns its new path.
pub(crate) fn set_aside(folder: &Path, index: u32) -> io::Result<PathBuf> {
    let from = segment_path(folder, index);
    let mut name = from.clone().into_os_string();
    name.push(SUFFIX_UNREADABLE);
    let to = PathBuf::from(name);
    rename(folder, &from, &to)?;
    Ok(to)
}

#[cfg(test)]
pub(crate) mod tests {
    //! Lets the next syncs of this thread fail.

    use std::cell::Cell;
    use std::io;

    thread_local! {
        static SYNCS_TO_FAIL: Cell<u32> = const { Cell::new(0) };
    }

    pub(crate) fn fail_next_syncs(count: u32) {
        SYNCS_TO_FAIL.set(count);
    }

    pub(super) fn fail_if_told() -> io::Result<()> {
        match SYNCS_TO_FAIL.get() {
            0 => Ok(()),
            left => {
                SYNCS_TO_FAIL.set(left - 1);
                Err(io::Error::from_raw_os_error(5)) // EIO
            }
        }
    }
}
