//! Files by HTTP: Range resume, If-Range with the answer's ETag, minimum throughput.

use std::time::Duration;

use reqwest::header::{CONTENT_RANGE, ETAG, HeaderValue, IF_RANGE, RANGE};
use reqwest::{Client, Response, StatusCode, redirect};
use vedette_protocol::id::Digest;

use super::partial::Partial;
use super::{FetchError, SEALED_BYTES_MAX};
use crate::backoff::{self, Backoff};
use crate::clock;
use crate::config::{Registry, Token};

/// TCP and TLS.
const CONNECT: Duration = Duration::from_secs(10);

/// Answers in a row that brought no byte: then HTTP counts as unreachable.
const TRIES_WITHOUT_PROGRESS: u32 = 4;

/// The wait between them, at most.
const BETWEEN_TRIES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Bytes a second that a transfer must bring: 64 MiB would take 18 h, so this only ends the dead ones.
const THROUGHPUT_MIN: u64 = 1024;

/// A registry's HTTP side.
#[derive(Debug)]
pub struct Http {
    client: Client,
    url: String,
    token: Option<Token>,
}

impl Http {
    /// The registry's HTTP side, if the configuration names one.
    ///
    /// # Errors
    /// When no TLS can be had.
    pub fn new(registry: &Registry) -> Result<Option<Self>, FetchError> {
        let Some(url) = registry.url.clone() else { return Ok(None) };
        let mut builder = Client::builder().connect_timeout(CONNECT).redirect(redirect::Policy::none()).no_proxy();
        if url.starts_with("http://") {
            // No certificate is ever looked at: reading the system's store would cost memory and time.
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().map_err(|e| FetchError::Unreachable(chain(&e)))?;
        Ok(Some(Self { client, url, token: registry.token.clone() }))
    }

    fn get(&self, path: &str) -> reqwest::RequestBuilder {
        let request = self.client.get(format!("{}/api/v1/{path}", self.url));
        match &self.token {
            Some(token) => request.bearer_auth(token.secret()),
            None => request,
        }
    }

    /// A sealed manifest.
    pub(super) async fn manifest(&self, digest: Digest) -> Result<Vec<u8>, FetchError> {
        let sent = self.get(&format!("manifests/{digest}")).timeout(CONNECT * 3).send().await;
        let mut answer = admitted(sent.map_err(|e| FetchError::Unreachable(chain(&e)))?, digest)?;
        let mut bytes = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(|e| FetchError::Unreachable(chain(&e)))? {
            if bytes.len() + piece.len() > SEALED_BYTES_MAX {
                return Err(FetchError::TooLong { limit: SEALED_BYTES_MAX as u64 });
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    /// Goes on until all bytes are here and right.
    pub(super) async fn blob(&self, partial: &mut Partial, stall: Duration) -> Result<(), FetchError> {
        let mut backoff = Backoff::new(BETWEEN_TRIES.0, BETWEEN_TRIES.1);
        let mut etag = None;
        let mut tries = 0;
        loop {
            if partial.is_whole() {
                if partial.is_right().await? {
                    return Ok(());
                }
                etag = None;
            }
            let before = partial.length();
            let why = match self.piece(partial, &mut etag, stall).await {
                Ok(()) => "the answer ended early".to_owned(),
                Err(FetchError::Unreachable(why)) => why,
                Err(error) => return Err(error),
            };
            if partial.is_whole() {
                continue;
            }
            if partial.length() > before {
                tries = 0;
                backoff.worked();
            }
            tries += 1;
            if tries == TRIES_WITHOUT_PROGRESS {
                return Err(FetchError::Unreachable(why));
            }
            tokio::time::sleep(backoff.failed(backoff::draw())).await;
        }
    }

    /// One request: what is missing, as far as the answer goes.
    async fn piece(
        &self,
        partial: &mut Partial,
        etag: &mut Option<HeaderValue>,
        stall: Duration,
    ) -> Result<(), FetchError> {
        let digest = partial.blob().digest;
        let mut request = self.get(&format!("blobs/{digest}"));
        if partial.length() > 0 {
            request = request.header(RANGE, format!("bytes={}-", partial.length()));
            if let Some(etag) = etag {
                request = request.header(IF_RANGE, etag.clone());
            }
        }
        let sent = tokio::time::timeout(stall, request.send()).await.map_err(|_| stalled(stall))?;
        let answer = sent.map_err(|e| FetchError::Unreachable(chain(&e)))?;
        if answer.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            return partial.restart().await;
        }
        let mut answer = admitted(answer, digest)?;
        let goes_on = answer.status() == StatusCode::PARTIAL_CONTENT && begins_at(&answer, partial.length());
        if !goes_on {
            partial.restart().await?;
            if answer.status() == StatusCode::PARTIAL_CONTENT {
                return Err(FetchError::Unreachable("the answer begins somewhere else than asked".to_owned()));
            }
        }
        *etag = answer.headers().get(ETAG).filter(|etag| !etag.as_bytes().starts_with(b"W/")).cloned();
        copy(&mut answer, partial, stall).await
    }
}

/// Copies the body as long as it comes fast enough.
async fn copy(answer: &mut Response, partial: &mut Partial, stall: Duration) -> Result<(), FetchError> {
    let (mut since, mut bytes) = (clock::timer_now(), 0);
    loop {
        let piece = tokio::time::timeout(stall, answer.chunk()).await.map_err(|_| stalled(stall))?;
        let Some(piece) = piece.map_err(|e| FetchError::Unreachable(chain(&e)))? else { return Ok(()) };
        partial.write(&piece).await?;
        bytes += piece.len() as u64;
        let elapsed = clock::timer_now() - since;
        if elapsed >= stall {
            if bytes < THROUGHPUT_MIN * elapsed.as_secs() {
                return Err(stalled(stall));
            }
            (since, bytes) = (clock::timer_now(), 0);
        }
    }
}

fn stalled(stall: Duration) -> FetchError {
    FetchError::Unreachable(format!("less than {THROUGHPUT_MIN} bytes a second came for {} s", stall.as_secs()))
}

/// `Content-Range: bytes FROM-…`
fn begins_at(answer: &Response, offset: u64) -> bool {
    let range = answer.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let from = range.and_then(|range| range.strip_prefix("bytes ")?.split_once('-')).map(|(from, _)| from.parse());
    from == Some(Ok(offset))
}

fn admitted(answer: Response, digest: Digest) -> Result<Response, FetchError> {
    match answer.status() {
        StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(answer),
        StatusCode::NOT_FOUND => Err(FetchError::NotFound(digest)),
        status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
            Err(FetchError::Forbidden { status: status.as_u16() })
        }
        status => Err(FetchError::Unreachable(format!("the registry answers HTTP {}", status.as_u16()))),
    }
}

/// An error with its causes: reqwest's own text leaves the reason out.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
