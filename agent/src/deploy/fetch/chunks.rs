//! Files over the broker: ask for a piece, wait for it, ask for the next. Slow and always possible.

use std::time::Duration;

use tokio::sync::mpsc;
use vedette_protocol::id::Digest;
use vedette_protocol::limit::MAX_CHUNK_DATA_BYTES;
use vedette_protocol::message::{ArtifactRequest, Chunk, ChunkError, Want};

use super::partial::Partial;
use super::{FetchError, SEALED_BYTES_MAX};

/// Questions without an answer before the registry counts as unreachable.
const TRIES: u32 = 3;

/// The way to the registry through the broker.
#[derive(Debug)]
pub struct Wire {
    /// Questions.
    pub requests: mpsc::Sender<ArtifactRequest>,
    /// Answers, perhaps to questions of before.
    pub chunks: mpsc::Receiver<Chunk>,
}

impl Wire {
    /// A sealed manifest.
    pub(super) async fn manifest(&mut self, digest: Digest, stall: Duration) -> Result<Vec<u8>, FetchError> {
        let mut bytes = Vec::new();
        loop {
            let chunk = self.ask(digest, Want::Manifest, bytes.len() as u64, stall).await?;
            if chunk.total > SEALED_BYTES_MAX as u64 || bytes.len() + chunk.bytes.len() > SEALED_BYTES_MAX {
                return Err(FetchError::TooLong { limit: SEALED_BYTES_MAX as u64 });
            }
            bytes.extend_from_slice(&chunk.bytes);
            if bytes.len() as u64 >= chunk.total {
                return Ok(bytes);
            }
        }
    }

    /// Goes on until all bytes are here and right.
    pub(super) async fn blob(&mut self, partial: &mut Partial, stall: Duration) -> Result<(), FetchError> {
        loop {
            if partial.is_whole() && partial.is_right().await? {
                return Ok(());
            }
            let chunk = self.ask(partial.blob().digest, Want::Blob, partial.length(), stall).await?;
            partial.write(&chunk.bytes).await?;
        }
    }

    /// One piece with at least one byte; each question waits for `stall`.
    async fn ask(&mut self, digest: Digest, want: Want, offset: u64, stall: Duration) -> Result<Chunk, FetchError> {
        let length = u32::try_from(MAX_CHUNK_DATA_BYTES).unwrap_or(u32::MAX);
        for _ in 0..TRIES {
            let request = ArtifactRequest { digest, want, offset, length };
            if let Ok(answer) = tokio::time::timeout(stall, self.exchange(request)).await {
                return answer;
            }
        }
        Err(FetchError::Unreachable("the registry does not answer over the broker".to_owned()))
    }

    /// Waits for ever when there is no connection: the question is queued.
    async fn exchange(&mut self, request: ArtifactRequest) -> Result<Chunk, FetchError> {
        let asked = self.requests.send(request).await;
        asked.map_err(|_| FetchError::Unreachable("the agent is stopping".to_owned()))?;
        self.answer(request.digest, request.offset).await
    }

    async fn answer(&mut self, digest: Digest, offset: u64) -> Result<Chunk, FetchError> {
        loop {
            let Some(chunk) = self.chunks.recv().await else {
                return Err(FetchError::Unreachable("the agent is stopping".to_owned()));
            };
            if chunk.digest != digest || chunk.offset != offset {
                continue;
            }
            return match chunk.error {
                Some(ChunkError::NotFound) => Err(FetchError::NotFound(digest)),
                Some(ChunkError::BadRange) => {
                    Err(FetchError::Unreachable(format!("the registry's file ends before byte {offset}")))
                }
                None if chunk.bytes.is_empty() => {
                    Err(FetchError::Unreachable("the registry answers with nothing".to_owned()))
                }
                None => Ok(chunk),
            };
        }
    }
}
