//! A journal's folder on its disk: which file has which name, and nothing about what is in them.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, DiskFile, Lock};

/// Name of the file whose lock makes a writer the only one.
const LOCK: &str = "lock";
const PREFIX: &str = "seg-";
const SUFFIX: &str = ".log";
const SUFFIX_TEMPORARY: &str = ".tmp";
const SUFFIX_PARITY: &str = ".par";
const SUFFIX_UNREADABLE: &str = ".unreadable";
const SUFFIX_DAMAGED: &str = ".damaged";

/// The folder and the disk that it is on.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    pub(crate) disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl Folder {
    pub(crate) fn new(disk: Arc<dyn Disk>, path: &Path) -> Self {
        Self { disk, path: path.to_path_buf() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Path of a segment.
    pub(crate) fn segment(&self, index: u32) -> PathBuf {
        self.path.join(format!("{PREFIX}{index:08x}{SUFFIX}"))
    }

    /// Path of a segment that is being made.
    pub(crate) fn temporary(&self, index: u32) -> PathBuf {
        self.path.join(format!("{PREFIX}{index:08x}{SUFFIX_TEMPORARY}"))
    }

    /// Path of a segment's parity.
    pub(crate) fn parity(&self, index: u32) -> PathBuf {
        self.path.join(format!("{PREFIX}{index:08x}{SUFFIX_PARITY}"))
    }

    /// Numbers of the segments, ascending. Files with other names are nobody's business.
    pub(crate) fn segments(&self) -> io::Result<Vec<u32>> {
        self.numbered(SUFFIX)
    }

    fn numbered(&self, suffix: &str) -> io::Result<Vec<u32>> {
        let names = self.disk.list(&self.path)?;
        let mut found: Vec<_> =
            names.iter().filter_map(|name| name.to_str()).filter_map(|name| index_of(name, suffix)).collect();
        found.sort_unstable();
        Ok(found)
    }

    /// Removes segments that were being made when the power went, and parity whose segment is gone. What can't be removed
    /// is in nobody's way.
    pub(crate) fn remove_temporaries(&self) -> io::Result<()> {
        for index in self.numbered(SUFFIX_TEMPORARY)? {
            self.remove_leftover(&self.temporary(index));
        }
        let segments = self.segments()?;
        for index in self.numbered(SUFFIX_PARITY)? {
            if segments.binary_search(&index).is_err() {
                self.remove_leftover(&self.parity(index));
            }
        }
        Ok(())
    }

    /// Removes a file that nobody needs, as far as the disk obeys.
    pub(crate) fn remove_leftover(&self, path: &Path) {
        match self.disk.remove(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(file = %path.display(), %error, "couldn't remove a left-over of the journal");
            }
            Ok(()) | Err(_) => {}
        }
    }

    pub(crate) fn make(&self) -> io::Result<()> {
        self.disk.make_folder(&self.path)
    }

    pub(crate) fn lock(&self) -> io::Result<Lock> {
        self.disk.lock(&self.path.join(LOCK))
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.disk.sync_folder(&self.path)
    }

    pub(crate) fn open_to_read(&self, index: u32) -> io::Result<Box<dyn DiskFile>> {
        self.disk.open_to_read(&self.segment(index))
    }

    /// Gives a finished temporary file its name, durably.
    pub(crate) fn publish(&self, index: u32) -> io::Result<()> {
        self.disk.rename(&self.temporary(index), &self.segment(index))?;
        self.sync()
    }

    /// A name beside the segment's own under which a copy of it is kept.
    pub(crate) fn beside(&self, index: u32) -> io::Result<PathBuf> {
        self.free_name(index, SUFFIX_DAMAGED)
    }

    /// A name for the segment that nobody has: numbers may begin again, and what was kept before is kept on.
    fn free_name(&self, index: u32, suffix: &str) -> io::Result<PathBuf> {
        let taken = self.disk.list(&self.path)?;
        let mut names = (0u32..).map(|again| match again {
            0 => format!("{PREFIX}{index:08x}{SUFFIX}{suffix}"),
            again => format!("{PREFIX}{index:08x}{SUFFIX}{suffix}.{again}"),
        });
        let name = names.find(|name| !taken.iter().any(|other| other == name.as_str())).unwrap_or_default();
        Ok(self.path.join(name))
    }

    /// Renames a segment that nothing can be read from, so that it is kept and in nobody's way; returns its new path.
    pub(crate) fn set_aside(&self, index: u32) -> io::Result<PathBuf> {
        let to = self.free_name(index, SUFFIX_UNREADABLE)?;
        self.disk.rename(&self.segment(index), &to)?;
        self.sync()?;
        Ok(to)
    }
}

/// Whether a file of this name in the folder is the journal's.
pub(crate) fn is_own(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    let aside = name.split_once(SUFFIX_UNREADABLE).or_else(|| name.split_once(SUFFIX_DAMAGED));
    let kept = aside.is_some_and(|(name, _)| index_of(name, SUFFIX).is_some());
    name == LOCK
        || kept
        || [SUFFIX, SUFFIX_TEMPORARY, SUFFIX_PARITY].iter().any(|suffix| index_of(name, suffix).is_some())
}

fn index_of(name: &str, suffix: &str) -> Option<u32> {
    let digits = name.strip_prefix(PREFIX)?.strip_suffix(suffix)?;
    let plain = digits.len() == 8 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if plain { u32::from_str_radix(digits, 16).ok() } else { None }
}
