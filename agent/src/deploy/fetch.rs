//! Gets a model's files: by HTTP with resume, or over the broker in chunks when there is no HTTP or it does not answer.
//!
//! # Constraints
//!
//! - No more bytes are taken than the manifest names, and none is believed before all hash right.
//! - A transfer always ends: a total deadline, a minimum throughput, a few tries without progress.
//! - What has arrived is kept over a restart and goes on where it stopped.

mod chunks;
mod http;
mod partial;

pub use chunks::Wire;
pub use http::Http;

use std::io;
use std::time::Duration;

use vedette_protocol::id::Digest;
use vedette_protocol::limit::{MAX_ENVELOPE_OVERHEAD_BYTES, MAX_MANIFEST_BYTES};
use vedette_protocol::manifest::Blob;

use super::files::ModelFiles;
use partial::Partial;

/// A sealed manifest.
pub(super) const SEALED_BYTES_MAX: usize = MAX_MANIFEST_BYTES + MAX_ENVELOPE_OVERHEAD_BYTES;

/// Why a file did not come.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The registry has no such file.
    #[error("the registry has no {0}")]
    NotFound(Digest),
    /// The registry does not let us.
    #[error("the registry refuses the file (HTTP {status}): is `registry.token_file` right?")]
    Forbidden {
        /// The HTTP status.
        status: u16,
    },
    /// The answer goes on behind the expected end.
    #[error("more than {limit} bytes came")]
    TooLong {
        /// Bytes expected at most.
        limit: u64,
    },
    /// All bytes came, and they are others.
    #[error("the bytes have the digest {got}")]
    WrongBytes {
        /// Their digest.
        got: Digest,
    },
    /// Nobody answers, or not to the end.
    #[error("{0}")]
    Unreachable(String),
    /// The deadline is over.
    #[error("it did not come within {} s", .0.as_secs())]
    Deadline(Duration),
    /// The file cannot be written.
    #[error("couldn't write the file: {0}")]
    Disk(#[from] io::Error),
}

/// How long a transfer may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// One file, altogether.
    pub deadline: Duration,
    /// Over this time at least 1 KiB a second must come, or the answer to a question over the broker.
    pub stall: Duration,
}

/// Gets files, one at a time.
#[derive(Debug)]
pub struct Fetcher {
    http: Option<Http>,
    wire: Wire,
    limits: Limits,
}

impl Fetcher {
    /// By `http` first, where there is one; else and after over the broker.
    #[must_use]
    pub fn new(http: Option<Http>, wire: Wire, limits: Limits) -> Self {
        Self { http, wire, limits }
    }

    /// A sealed manifest, not opened.
    ///
    /// # Errors
    /// When it did not come.
    pub async fn manifest(&mut self, digest: Digest) -> Result<Vec<u8>, FetchError> {
        let deadline = self.limits.deadline;
        if let Some(http) = &self.http {
            match within(deadline, http.manifest(digest)).await {
                Err(error) if elsewhere(&error) => {
                    tracing::info!(%digest, %error, "the manifest does not come by HTTP; asking over the broker")
                }
                done => return done,
            }
        }
        within(deadline, self.wire.manifest(digest, self.limits.stall)).await
    }

    /// Gets a blob into the folder unless it is there already; it hashes right when this returns.
    ///
    /// # Errors
    /// When it did not come; what has come stays for the next time, unless it was wrong.
    pub async fn blob(&mut self, blob: &Blob, files: &ModelFiles) -> Result<(), FetchError> {
        if files.read_blob(blob).is_ok() {
            return Ok(());
        }
        let deadline = self.limits.deadline;
        if let Some(http) = &self.http {
            let mut partial = Partial::open(files, blob).await?;
            match within(deadline, http.blob(&mut partial, self.limits.stall)).await {
                Ok(()) => return partial.finish().await,
                Err(error) if elsewhere(&error) => {
                    tracing::info!(digest = %blob.digest, %error, "the file does not come by HTTP; asking over the broker")
                }
                Err(error) => return Err(error),
            }
        }
        let mut partial = Partial::open(files, blob).await?;
        within(deadline, self.wire.blob(&mut partial, self.limits.stall)).await?;
        partial.finish().await
    }
}

/// Whether the other way may still work.
fn elsewhere(error: &FetchError) -> bool {
    match error {
        FetchError::Unreachable(_) | FetchError::Deadline(_) => true,
        FetchError::NotFound(_)
        | FetchError::Forbidden { .. }
        | FetchError::TooLong { .. }
        | FetchError::WrongBytes { .. }
        | FetchError::Disk(_) => false,
    }
}

async fn within<T>(deadline: Duration, work: impl Future<Output = Result<T, FetchError>>) -> Result<T, FetchError> {
    tokio::time::timeout(deadline, work).await.unwrap_or(Err(FetchError::Deadline(deadline)))
}

#[cfg(test)]
mod tests;
