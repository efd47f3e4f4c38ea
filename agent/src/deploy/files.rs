//! The folder of model files: everything by digest, nothing believed by its name.
//!
//! `<hex>.manifest` is a sealed manifest (the digest is its payload's), `<hex>.blob` an ONNX file or self-test, `<hex>.part`
//! a blob that is still coming. A blob gets its name only when all its bytes hash right and are synced; whoever reads
//! hashes again.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use vedette_protocol::id::Digest;
use vedette_protocol::manifest::Blob;

use super::store::put_in_place;

/// Why a file is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is not there or cannot be read.
    #[error("couldn't read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is there and has other bytes.
    #[error("{} does not hold what its name says", path.display())]
    Rotten {
        /// The file.
        path: PathBuf,
    },
}

/// The folder.
#[derive(Clone, Debug)]
pub struct ModelFiles {
    folder: PathBuf,
}

impl ModelFiles {
    /// The files in this folder, which exists.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the sealed manifest of this digest is.
    #[must_use]
    pub fn manifest(&self, digest: Digest) -> PathBuf {
        self.folder.join(format!("{}.manifest", digest.hex()))
    }

    /// Where the blob of this digest is.
    #[must_use]
    pub fn blob(&self, digest: Digest) -> PathBuf {
        self.folder.join(format!("{}.blob", digest.hex()))
    }

    /// Where the blob of this digest is while it comes.
    #[must_use]
    pub fn part(&self, digest: Digest) -> PathBuf {
        self.folder.join(format!("{}.part", digest.hex()))
    }

    /// Keeps a sealed manifest; durable when it returns.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_manifest(&self, digest: Digest, sealed: &[u8]) -> io::Result<()> {
        let part = self.folder.join(format!("{}.manifest.part", digest.hex()));
        let mut file = File::create(&part)?;
        file.write_all(sealed)?;
        file.sync_all()?;
        put_in_place(&part, &self.manifest(digest))
    }

    /// A sealed manifest of at most `bytes_max`; whoever opens it checks it.
    ///
    /// # Errors
    /// When it is not there, or longer.
    pub fn read_manifest(&self, digest: Digest, bytes_max: u64) -> Result<Vec<u8>, FileError> {
        read(self.manifest(digest), bytes_max)
    }

    /// A blob's bytes, which have been hashed just now.
    ///
    /// # Errors
    /// When it is not there, or has other bytes (then it is removed, so that it is fetched again).
    pub fn read_blob(&self, blob: &Blob) -> Result<Vec<u8>, FileError> {
        let path = self.blob(blob.digest);
        let bytes = read(path.clone(), blob.length)?;
        if bytes.len() as u64 == blob.length && Digest::of(&bytes) == blob.digest {
            return Ok(bytes);
        }
        remove(&path)?;
        Err(FileError::Rotten { path })
    }

    /// Removes every file that does not belong to one of these digests; says how many.
    ///
    /// # Errors
    /// When the folder cannot be read or a file not be removed.
    pub fn sweep(&self, kept: &BTreeSet<Digest>) -> Result<u32, FileError> {
        let io = |source| FileError::Io { path: self.folder.clone(), source };
        let kept: BTreeSet<String> = kept.iter().map(Digest::hex).collect();
        let mut removed = 0;
        for entry in std::fs::read_dir(&self.folder).map_err(io)? {
            let path = entry.map_err(io)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let hex = name.split('.').next().unwrap_or_default();
            if !kept.contains(hex) {
                remove(&path)?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

fn read(path: PathBuf, bytes_max: u64) -> Result<Vec<u8>, FileError> {
    let io = |source| FileError::Io { path: path.clone(), source };
    let file = File::open(&path).map_err(io)?;
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > bytes_max {
        remove(&path)?;
        return Err(FileError::Rotten { path });
    }
    Ok(bytes)
}

fn remove(path: &Path) -> Result<(), FileError> {
    std::fs::remove_file(path).map_err(|source| FileError::Io { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_blob_with_other_bytes_is_never_handed_out_and_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let files = ModelFiles::new(dir.path().to_owned());
        let blob = Blob::of(b"model");
        for bad in [&b"modem"[..], b"mode", b"models", b""] {
            std::fs::write(files.blob(blob.digest), bad).unwrap();
            assert!(matches!(files.read_blob(&blob), Err(FileError::Rotten { .. })), "{bad:?}");
            assert!(!files.blob(blob.digest).exists());
        }
        std::fs::write(files.blob(blob.digest), b"model").unwrap();
        assert_eq!(files.read_blob(&blob).unwrap(), b"model");
    }

    #[test]
    fn a_sweep_keeps_what_is_named_and_removes_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let files = ModelFiles::new(dir.path().to_owned());
        let (kept, gone) = (Digest::of(b"kept"), Digest::of(b"gone"));
        files.keep_manifest(kept, b"sealed").unwrap();
        for path in [
            files.blob(kept),
            files.part(kept),
            files.blob(gone),
            files.part(gone),
            files.manifest(gone),
            dir.path().join("x.tmp"),
        ] {
            std::fs::write(path, b"").unwrap();
        }
        assert_eq!(files.sweep(&[kept].into()).unwrap(), 4);
        assert!(files.manifest(kept).exists() && files.blob(kept).exists() && files.part(kept).exists());
    }
}
