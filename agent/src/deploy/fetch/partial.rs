//! A file that is coming: hashed while it is written, never longer than it should be, kept over a restart.

use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
use vedette_protocol::id::Hasher;
use vedette_protocol::manifest::Blob;

use super::FetchError;
use crate::deploy::files::ModelFiles;
use crate::deploy::store::put_in_place;

/// What came before a restart is hashed in pieces of this size.
const PIECE_BYTES: usize = 64 * 1024;

/// The file, its hash so far and its length so far.
#[derive(Debug)]
pub(super) struct Partial {
    file: File,
    files: ModelFiles,
    blob: Blob,
    hasher: Hasher,
    length: u64,
    resumed: bool,
}

impl Partial {
    /// Goes on with what is there.
    pub(super) async fn open(files: &ModelFiles, blob: &Blob) -> Result<Self, FetchError> {
        let file =
            File::options().create(true).read(true).write(true).truncate(false).open(files.part(blob.digest)).await?;
        let mut partial =
            Self { file, files: files.clone(), blob: *blob, hasher: Hasher::new(), length: 0, resumed: false };
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let bytes = partial.file.read(&mut piece).await?;
            if bytes == 0 {
                break;
            }
            partial.hasher.update(&piece[..bytes]);
            partial.length += bytes as u64;
        }
        partial.resumed = partial.length > 0;
        if partial.length > blob.length {
            partial.restart().await?;
        }
        Ok(partial)
    }

    /// What should come.
    pub(super) fn blob(&self) -> &Blob {
        &self.blob
    }

    /// Bytes that are here.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Whether all bytes are here.
    pub(super) fn is_whole(&self) -> bool {
        self.length == self.blob.length
    }

    /// The next bytes.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        let length = self.length + bytes.len() as u64;
        if length > self.blob.length {
            self.restart().await?;
            return Err(FetchError::TooLong { limit: self.blob.length });
        }
        self.file.write_all(bytes).await?;
        self.hasher.update(bytes);
        self.length = length;
        Ok(())
    }

    /// Forgets what came.
    pub(super) async fn restart(&mut self) -> Result<(), FetchError> {
        self.file.flush().await?;
        self.file.set_len(0).await?;
        self.file.rewind().await?;
        (self.hasher, self.length, self.resumed) = (Hasher::new(), 0, false);
        Ok(())
    }

    /// Whether what is here is right; when it is wrong and only a part of it came just now, it is forgotten and
    /// `Ok(false)` says to begin again.
    pub(super) async fn is_right(&mut self) -> Result<bool, FetchError> {
        let got = std::mem::take(&mut self.hasher).finish();
        if got == self.blob.digest {
            return Ok(true);
        }
        let began_before = self.resumed;
        self.restart().await?;
        if began_before { Ok(false) } else { Err(FetchError::WrongBytes { got }) }
    }

    /// Gives the whole file, which was found right, its name; durable when it returns.
    pub(super) async fn finish(mut self) -> Result<(), FetchError> {
        self.file.flush().await?;
        self.file.sync_all().await?;
        let (part, to) = (self.files.part(self.blob.digest), self.files.blob(self.blob.digest));
        let moved = tokio::task::spawn_blocking(move || put_in_place(&part, &to)).await;
        Ok(moved.map_err(std::io::Error::other)??)
    }
}
