//! Artifacts and other files, by the digest of their content.
//!
//! # Constraints
//!
//! - A name in the folder means: whole, durable, and of that digest. A file is written under `tmp/`, hashed on the way,
//!   synced, renamed to its digest, and the folder synced.
//! - A file never changes and is never deleted here; the same bytes again cost a write to `tmp/` and nothing else.
//! - No file above the configured limit: the writer stops at the first byte beyond it.
//!
//! # Layout
//!
//! `blobs/<first two hex digits>/<64 hex digits>` and `blobs/tmp/<n>`. What lies in `tmp/` at start is the rest of an
//! upload that never ended, and is removed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use vedette_protocol::id::{Digest, Hasher};
use vedette_protocol::manifest::Blob;

use crate::registry::Error;
use crate::store::sync_folder;

/// What may be read whole into memory: envelopes, lineages, self-tests (the largest, 256 KiB) and nothing larger.
const SMALL_BYTES_MAX: u64 = 512 * 1024;

/// The folder of artifacts.
pub struct Blobs {
    folder: PathBuf,
    length_max: u64,
    next_temporary: AtomicU64,
}

/// A file ready to be read.
#[derive(Debug)]
pub struct OpenBlob {
    /// The file, at its start.
    pub file: File,
    /// Its length in bytes.
    pub length: u64,
}

/// Whether a stored file is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It was not there before.
    New,
    /// The same bytes were there already.
    Known,
}

impl Blobs {
    /// Opens the folder, makes it if it is not there, and removes unfinished uploads.
    ///
    /// # Errors
    ///
    /// The folder cannot be made or written.
    pub fn open(folder: &Path, length_max: u64) -> anyhow::Result<Blobs> {
        let temporary = folder.join("tmp");
        fs::create_dir_all(&temporary).with_context(|| format!("couldn't make the folder {}", temporary.display()))?;
        for entry in fs::read_dir(&temporary).with_context(|| format!("couldn't read {}", temporary.display()))? {
            let rest = entry.with_context(|| format!("couldn't read {}", temporary.display()))?.path();
            fs::remove_file(&rest)
                .with_context(|| format!("couldn't remove the unfinished upload {}", rest.display()))?;
        }
        Ok(Blobs { folder: folder.to_owned(), length_max, next_temporary: AtomicU64::new(0) })
    }

    /// Where the file of this digest lies, if it is here.
    #[must_use]
    pub fn path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        let (first, _) = hex.split_at(2);
        self.folder.join(first).join(&hex)
    }

    /// Opens a file; `None` when there is none of this digest.
    ///
    /// # Errors
    ///
    /// The file is there and cannot be opened.
    pub fn open_blob(&self, digest: &Digest) -> Result<Option<OpenBlob>, Error> {
        let path = self.path(digest);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("couldn't open", &path, error)),
        };
        let length = file.metadata().map_err(|error| failed("couldn't read", &path, error))?.len();
        Ok(Some(OpenBlob { file, length }))
    }

    /// Length of the file of this digest; `None` when there is none.
    ///
    /// # Errors
    ///
    /// The folder cannot be read.
    pub fn length(&self, digest: &Digest) -> Result<Option<u64>, Error> {
        Ok(self.open_blob(digest)?.map(|open| open.length))
    }

    /// Up to `length` bytes from `offset`, and the file's whole length; `None` when there is no such file. Fewer bytes
    /// come only at the file's end.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn read_at(&self, digest: &Digest, offset: u64, length: usize) -> Result<Option<(u64, Vec<u8>)>, Error> {
        let Some(open) = self.open_blob(digest)? else {
            return Ok(None);
        };
        let left = open.length.saturating_sub(offset);
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(length);
        let mut bytes = vec![0; wanted];
        open.file
            .read_exact_at(&mut bytes, offset)
            .map_err(|error| failed("couldn't read", &self.path(digest), error))?;
        Ok(Some((open.length, bytes)))
    }

    /// Reads a small file that must be here, and checks its digest on the way: what lies on a disk may rot.
    ///
    /// # Errors
    ///
    /// It is not here, too large for this, or not what it was.
    pub fn read_small(&self, blob: &Blob) -> Result<Vec<u8>, Error> {
        let path = self.path(&blob.digest);
        let open = self.open_blob(&blob.digest)?.with_context(|| format!("the file {} is missing", path.display()))?;
        if open.length > SMALL_BYTES_MAX {
            return Err(anyhow::anyhow!(
                "the file {} is {} bytes long, too long to be read at once",
                path.display(),
                open.length
            )
            .into());
        }
        let mut bytes = Vec::new();
        let mut file = open.file;
        file.read_to_end(&mut bytes).map_err(|error| failed("couldn't read", &path, error))?;
        if Digest::of(&bytes) != blob.digest {
            return Err(anyhow::anyhow!("the file {} is damaged: its digest is not its name", path.display()).into());
        }
        Ok(bytes)
    }

    /// Stores bytes that are in memory already.
    ///
    /// # Errors
    ///
    /// They are too many, or the disk refused.
    pub fn store(&self, bytes: &[u8]) -> Result<Blob, Error> {
        let digest = Digest::of(bytes);
        let mut upload = self.begin()?;
        upload.write(bytes)?;
        upload.finish(&digest)?;
        Ok(Blob { digest, length: bytes.len() as u64 })
    }

    /// Begins an upload.
    ///
    /// # Errors
    ///
    /// The temporary file cannot be made.
    pub fn begin(&self) -> Result<Upload<'_>, Error> {
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.join("tmp").join(number.to_string());
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|error| failed("couldn't make", &path, error))?;
        Ok(Upload { blobs: self, path, file, hasher: Hasher::new(), length: 0 })
    }
}

/// A file on its way in. Dropped before [`Upload::finish`], it leaves nothing.
pub struct Upload<'a> {
    blobs: &'a Blobs,
    path: PathBuf,
    file: File,
    hasher: Hasher,
    length: u64,
}

impl Upload<'_> {
    /// Writes on.
    ///
    /// # Errors
    ///
    /// The file would become larger than allowed, or the disk refused.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.length = self.length.saturating_add(bytes.len() as u64);
        if self.length > self.blobs.length_max {
            return Err(Error::TooLarge(format!(
                "the file is larger than {} bytes, which is the limit here (http.max_artifact in registry.toml)",
                self.blobs.length_max
            )));
        }
        self.hasher.update(bytes);
        self.file.write_all(bytes).map_err(|error| failed("couldn't write", &self.path, error))
    }

    /// Makes the file durable under its digest.
    ///
    /// # Errors
    ///
    /// The bytes have another digest than `expected`, or the disk refused.
    pub fn finish(mut self, expected: &Digest) -> Result<(Stored, u64), Error> {
        let digest = std::mem::take(&mut self.hasher).finish();
        if digest != *expected {
            return Err(Error::Refused(format!(
                "the bytes have digest {digest}, not {expected}: the file changed on the way or another one was meant"
            )));
        }
        let target = self.blobs.path(&digest);
        if target.exists() {
            return Ok((Stored::Known, self.length));
        }
        self.file.sync_all().map_err(|error| failed("couldn't sync", &self.path, error))?;
        let folder = target.parent().unwrap_or(&self.blobs.folder);
        fs::create_dir_all(folder).map_err(|error| failed("couldn't make", folder, error))?;
        fs::rename(&self.path, &target).map_err(|error| failed("couldn't name", &target, error))?;
        sync_folder(folder)?;
        sync_folder(&self.blobs.folder)?;
        Ok((Stored::New, self.length))
    }
}

impl Drop for Upload<'_> {
    fn drop(&mut self) {
        match fs::remove_file(&self.path) {
            Ok(()) => {}
            // Renamed to its digest: nothing is left to remove.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(file = %self.path.display(), %error, "couldn't remove an unfinished upload"),
        }
    }
}

fn failed(what: &str, path: &Path, error: io::Error) -> Error {
    Error::Internal(anyhow::Error::new(error).context(format!("{what} {}", path.display())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_same_bytes_twice_are_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path(), 100).unwrap();
        let first = blobs.store(b"model").unwrap();
        assert_eq!(blobs.store(b"model").unwrap(), first);
        assert_eq!(blobs.read_small(&first).unwrap(), b"model");
        assert_eq!(blobs.read_at(&first.digest, 2, 10).unwrap(), Some((5, b"del".to_vec())));
        assert_eq!(fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0);
    }

    #[test]
    fn bytes_of_another_digest_leave_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path(), 100).unwrap();
        let promised = Digest::of(b"promised");
        let mut upload = blobs.begin().unwrap();
        upload.write(b"sent").unwrap();
        assert!(matches!(upload.finish(&promised), Err(Error::Refused(_))));
        assert_eq!(blobs.length(&promised).unwrap(), None);
        assert_eq!(blobs.length(&Digest::of(b"sent")).unwrap(), None);
        assert_eq!(fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0);
    }

    #[test]
    fn a_file_above_the_limit_is_stopped_at_the_first_byte_beyond() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path(), 4).unwrap();
        let mut upload = blobs.begin().unwrap();
        upload.write(b"1234").unwrap();
        assert!(matches!(upload.write(b"5"), Err(Error::TooLarge(_))));
    }

    #[test]
    fn an_unfinished_upload_of_the_last_run_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        drop(Blobs::open(folder.path(), 4).unwrap());
        fs::write(folder.path().join("tmp/7"), b"rest").unwrap();
        drop(Blobs::open(folder.path(), 4).unwrap());
        assert!(!folder.path().join("tmp/7").exists());
    }

    #[test]
    fn a_rotten_file_is_not_served_as_whole() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path(), 100).unwrap();
        let blob = blobs.store(b"lineage").unwrap();
        fs::write(blobs.path(&blob.digest), b"lineagE").unwrap();
        assert!(matches!(blobs.read_small(&blob), Err(Error::Internal(_))));
    }
}
