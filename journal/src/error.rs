//! What can go wrong, as far as a caller does something different about it. Each message names the place and, where
//! there is one, the way out.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::folder::Folder;

/// Why a journal couldn't be opened for writing.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process (or another `Journal` of this one) writes into this folder.
    #[error(
        "couldn't open the journal: {} is in use{holder}; stop the other program or give this one a folder of its own",
        folder.display()
    )]
    Locked {
        /// The journal's folder.
        folder: PathBuf,
        /// ` by process N`, or empty when the lock file does not say.
        holder: String,
    },
    /// The folder can't be made or written.
    #[error("couldn't write into the journal's folder {}{owner}: {source}", folder.display())]
    NotWritable {
        /// The journal's folder.
        folder: PathBuf,
        /// `, which belongs to user N while this program runs as user M`, or empty when that is not the reason.
        owner: String,
        /// What the system said.
        source: io::Error,
    },
    /// No room for the first segment.
    #[error("couldn't begin a segment in {}: no space left; free some or choose smaller segments", folder.display())]
    NoSpace {
        /// The journal's folder.
        folder: PathBuf,
    },
    /// A segment was written by a newer program; opening would risk what it holds.
    #[error("couldn't open {}: format {version} is from a newer version of this program, update it", file.display())]
    FutureVersion {
        /// The segment.
        file: PathBuf,
        /// The format version it names.
        version: u32,
    },
    /// Any other failure of the system.
    #[error("couldn't open the journal: {}: {source}", path.display())]
    Io {
        /// The file or folder concerned.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a record wasn't taken. Nothing changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The payload is longer than a record may be.
    #[error("couldn't append to the journal: a payload of {bytes} bytes, at most {max} are allowed")]
    TooLong {
        /// Length of the payload.
        bytes: usize,
        /// [`crate::PAYLOAD_BYTES_MAX`].
        max: usize,
    },
    /// The group in memory is full because commits fail; the caller drops and counts, or waits.
    #[error("couldn't append to the journal: {waiting} records wait for a commit that fails, no more fit into memory")]
    Full {
        /// Records in the group.
        waiting: usize,
    },
}

/// Why the group isn't durable. It is still in memory; [`crate::Journal::commit`] may be called again.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The disk (or a quota) is full. Free space, or prune, and commit again.
    #[error("couldn't commit to the journal: no space left for {}", path.display())]
    NoSpace {
        /// The segment that couldn't grow or begin.
        path: PathBuf,
    },
    /// A sequence was asked for that is further away than any loss explains; nothing was skipped.
    #[error("couldn't skip to sequence {to} of the journal: it is at {from}, and at most {max} are left out at once")]
    SkipTooFar {
        /// Sequence of the next record.
        from: u64,
        /// Sequence that was asked for.
        to: u64,
        /// [`crate::SKIP_RECORDS_MAX`].
        max: u64,
    },
    /// The disk failed, for a fresh file as well.
    #[error("couldn't commit to the journal: {}: {source}", path.display())]
    Io {
        /// The segment or folder concerned.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why old segments couldn't be removed.
#[derive(Debug, Error)]
#[error("couldn't prune the journal: {}: {source}", path.display())]
pub struct PruneError {
    /// The segment or folder concerned.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// Why a reader couldn't go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// A segment was written by a newer program.
    #[error("couldn't read {}: format {version} is from a newer version of this program, update it", file.display())]
    FutureVersion {
        /// The segment.
        file: PathBuf,
        /// The format version it names.
        version: u32,
    },
    /// The system refused.
    #[error("couldn't read the journal: {}: {source}", path.display())]
    Io {
        /// The file or folder concerned.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a cursor couldn't be loaded or stored.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CursorError {
    /// The file is not a cursor, or its checksum is wrong. Begin at the start: everything is sent again, nothing is lost.
    #[error("couldn't use the cursor in {}: it is damaged; begin again from the start", path.display())]
    Damaged {
        /// The cursor's file.
        path: PathBuf,
    },
    /// The system refused.
    #[error("couldn't load or store the cursor {}: {source}", path.display())]
    Io {
        /// The cursor's file or its folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// True for a full disk, a used-up quota, or a file that may not grow any further.
pub(crate) fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

impl OpenError {
    /// Sorts what the system said about a write at `path` in the journal `folder`.
    pub(crate) fn at(place: &Folder, path: &Path, source: io::Error) -> Self {
        use io::ErrorKind::{NotADirectory, PermissionDenied, ReadOnlyFilesystem};
        let folder = place.path().to_path_buf();
        if is_no_space(&source) {
            return Self::NoSpace { folder };
        }
        match source.kind() {
            PermissionDenied | ReadOnlyFilesystem | NotADirectory => {
                Self::NotWritable { owner: owner_of(place, path), folder, source }
            }
            _ => Self::Io { path: path.to_path_buf(), source },
        }
    }
}

impl OpenError {
    /// Why a new journal couldn't begin its first segment.
    pub(crate) fn beginning(folder: &Folder, error: CommitError) -> Self {
        match error {
            CommitError::NoSpace { .. } => Self::NoSpace { folder: folder.path().to_path_buf() },
            CommitError::Io { path, source } => Self::at(folder, &path, source),
            CommitError::SkipTooFar { .. } => Self::at(folder, folder.path(), io::Error::other(error.to_string())),
        }
    }
}

/// Whose `path` is, or its folder where it can't be seen, if not this program's user's.
fn owner_of(folder: &Folder, path: &Path) -> String {
    match folder.disk.owners(path).or_else(|| folder.disk.owners(folder.path())) {
        Some((owner, us)) if owner != us => {
            format!(", which belongs to user {owner} while this program runs as user {us}")
        }
        Some(_) | None => String::new(),
    }
}

impl CommitError {
    /// Sorts what the system said about a write at `path`.
    pub(crate) fn at(path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        if is_no_space(&source) { Self::NoSpace { path } } else { Self::Io { path, source } }
    }
}

impl PruneError {
    /// What the system said about `path`.
    pub(crate) fn at(path: &Path, source: io::Error) -> Self {
        Self { path: path.to_path_buf(), source }
    }
}

impl ReadError {
    /// What the system said about a read at `path`.
    pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }
}

impl From<ReadError> for OpenError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::FutureVersion { file, version } => Self::FutureVersion { file, version },
            ReadError::Io { path, source } => Self::Io { path, source },
        }
    }
}
