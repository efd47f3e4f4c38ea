//! Files by digest: artifacts and self-tests up and down, manifests and lineages down.

use std::io::{Seek, SeekFrom};
use std::time::Duration;

use anyhow::Context;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio_util::io::ReaderStream;
use utoipa::IntoParams;
use vedette_protocol::id::Digest;

use super::extract::Path;
use super::problem::Failure;
use super::ranges::{self, Part};
use super::{App, verb};
use crate::blobs::Stored;
use crate::registry::{self, Registry};
use crate::view::{BlobView, Problem};

/// Read from a file for one write to the socket.
const READ_BYTES: usize = 64 * 1024;
/// Pieces between the socket and the disk; hyper's are at most some 64 KiB, so 512 KiB for each upload.
const PIECES_WAITING: usize = 8;
/// A sender that is silent for so long has gone.
const PIECE_WITHIN: Duration = Duration::from_secs(30);

/// `{digest}`
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct Digested {
    /// `sha256:<64 hex digits>`.
    #[param(value_type = String)]
    digest: Digest,
}

/// The signed envelope of a manifest, by the digest of its payload.
#[utoipa::path(get, path = "/manifests/{digest}", tag = "files", operation_id = "get_manifest", params(Digested), responses(
    (status = 200, content_type = "application/octet-stream"), (status = 404, body = Problem, content_type = "application/problem+json")))]
pub async fn manifest(State(app): State<App>, Path(Digested { digest }): Path<Digested>) -> Result<Response, Failure> {
    let bytes = verb(&app, move |registry| registry.manifest(&digest)).await?;
    small(bytes, "manifest", &digest)
}

/// The canonical CBOR of a lineage.
#[utoipa::path(get, path = "/lineages/{digest}", tag = "files", operation_id = "get_lineage", params(Digested), responses(
    (status = 200, content_type = "application/cbor"), (status = 404, body = Problem, content_type = "application/problem+json")))]
pub async fn lineage(State(app): State<App>, Path(Digested { digest }): Path<Digested>) -> Result<Response, Failure> {
    let bytes = verb(&app, move |registry| registry.lineage(&digest)).await?;
    small(bytes, "lineage", &digest)
}

fn small(bytes: Option<Vec<u8>>, what: &str, digest: &Digest) -> Result<Response, Failure> {
    let media = if what == "lineage" { "application/cbor" } else { "application/octet-stream" };
    match bytes {
        Some(bytes) => Ok(([(CONTENT_TYPE, media), (ETAG, etag(digest).as_str())], bytes).into_response()),
        None => Err(registry::Error::NotFound(format!("no version here has a {what} with digest {digest}")).into()),
    }
}

/// A file, or a range of it.
#[utoipa::path(get, path = "/blobs/{digest}", tag = "files", operation_id = "get_blob", params(Digested), responses(
    (status = 200, content_type = "application/octet-stream", description = "the file"),
    (status = 206, content_type = "application/octet-stream", description = "the range asked for"),
    (status = 304, description = "the caller has it"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 416, body = Problem, content_type = "application/problem+json")))]
pub async fn download(
    State(app): State<App>,
    Path(Digested { digest }): Path<Digested>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let opened = verb(&app, move |registry| registry.blobs().open_blob(&digest)).await?;
    let Some(mut opened) = opened else {
        return Err(registry::Error::NotFound(format!("there is no file {digest} here")).into());
    };
    let tag = etag(&digest);
    let total = opened.length;
    let (status, offset, length) = match ranges::part(&headers, &tag, total) {
        Part::Whole => (StatusCode::OK, 0, total),
        Part::Bytes { offset, length } => (StatusCode::PARTIAL_CONTENT, offset, length),
        Part::NotModified => return Ok((StatusCode::NOT_MODIFIED, [(ETAG, tag)]).into_response()),
        Part::Outside => {
            let mut response = Failure::bad_range(format!("the file has {total} bytes")).into_response();
            insert(&mut response, CONTENT_RANGE, &format!("bytes */{total}"));
            return Ok(response);
        }
    };
    opened.file.seek(SeekFrom::Start(offset)).context("couldn't seek in a file").map_err(registry::Error::Internal)?;
    let reader = tokio::fs::File::from_std(opened.file).take(length);
    let mut response = (status, Body::from_stream(ReaderStream::with_capacity(reader, READ_BYTES))).into_response();
    insert(&mut response, CONTENT_TYPE, "application/octet-stream");
    insert(&mut response, CONTENT_LENGTH, &length.to_string());
    insert(&mut response, ACCEPT_RANGES, "bytes");
    insert(&mut response, ETAG, &tag);
    if status == StatusCode::PARTIAL_CONTENT {
        insert(&mut response, CONTENT_RANGE, &format!("bytes {offset}-{}/{total}", offset + length - 1));
    }
    Ok(response)
}

fn etag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

fn insert(response: &mut Response, name: axum::http::HeaderName, value: &str) {
    // Numbers, digests and constants: always a header's text.
    if let Ok(value) = value.parse() {
        response.headers_mut().insert(name, value);
    }
}

/// Uploads a file. Its bytes must have the digest in the path.
#[utoipa::path(put, path = "/blobs/{digest}", tag = "files", operation_id = "put_blob", params(Digested),
    request_body(content_type = "application/octet-stream"), responses(
    (status = 201, body = BlobView, description = "stored"),
    (status = 200, body = BlobView, description = "it was here already"),
    (status = 413, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json", description = "the bytes have another digest")))]
pub async fn upload(
    State(app): State<App>,
    Path(Digested { digest }): Path<Digested>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, axum::Json<BlobView>), Failure> {
    let length_max = app.registry.max_artifact_bytes();
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if let Some(announced) = announced.filter(|announced| *announced > length_max) {
        return Err(registry::Error::TooLarge(format!(
            "the file has {announced} bytes, {length_max} are the limit here (http.max_artifact in registry.toml)"
        ))
        .into());
    }
    let (pieces, waiting) = mpsc::channel(PIECES_WAITING);
    let writing = tokio::spawn({
        let app = app.clone();
        async move { verb(&app, move |registry| write(registry, &digest, waiting)).await }
    });
    let sent = send(body, pieces).await;
    let written = writing.await.map_err(|error| Failure::from(registry::Error::Internal(error.into())))?;
    // Whoever writes knows best why it stopped; a sender that stopped explains what is left.
    let (stored, length) = match (written, sent) {
        (Ok(done), Ok(())) => done,
        (Err(failure), Ok(())) => return Err(failure),
        (_, Err(failure)) => return Err(failure),
    };
    let status = match stored {
        Stored::New => StatusCode::CREATED,
        Stored::Known => StatusCode::OK,
    };
    Ok((status, axum::Json(BlobView { digest, length })))
}

/// A piece of an upload, or its end. Without the end the file is not complete.
enum Piece {
    Bytes(Bytes),
    End,
}

async fn send(body: Body, pieces: mpsc::Sender<Piece>) -> Result<(), Failure> {
    let mut stream = body.into_data_stream();
    loop {
        let piece = tokio::time::timeout(PIECE_WITHIN, stream.next()).await;
        let piece =
            piece.map_err(|_| Failure::cut_off(format!("no byte came for {} seconds", PIECE_WITHIN.as_secs())))?;
        let (piece, last) = match piece {
            Some(Ok(bytes)) => (Piece::Bytes(bytes), false),
            Some(Err(error)) => return Err(Failure::cut_off(format!("the body broke off: {error}"))),
            None => (Piece::End, true),
        };
        // A writer that has gone says why itself.
        if pieces.send(piece).await.is_err() || last {
            return Ok(());
        }
    }
}

fn write(registry: &Registry, digest: &Digest, mut pieces: mpsc::Receiver<Piece>) -> registry::Result<(Stored, u64)> {
    let mut upload = registry.blobs().begin()?;
    loop {
        match pieces.blocking_recv() {
            Some(Piece::Bytes(bytes)) => upload.write(&bytes)?,
            Some(Piece::End) => return upload.finish(digest),
            None => return Err(registry::Error::BadRequest("the upload broke off before its end".to_owned())),
        }
    }
}
