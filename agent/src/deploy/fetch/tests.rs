//! The promises of fetching, against a small registry that cuts, lies and stalls.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use vedette_protocol::key::{KeySet, SigningKey, Trust};
use vedette_protocol::message::{ArtifactRequest, Chunk, ChunkError};

use super::*;
use crate::config::{Broker, Registry};

/// Short, because some tests wait for it.
const STALL: Duration = Duration::from_millis(300);

/// A server that answers each connection with the bytes that a function makes of the request's head.
struct Server {
    url: String,
    heads: Arc<Mutex<Vec<String>>>,
    _task: AbortOnDropHandle<()>,
}

/// What to do with a connection.
struct Reply {
    bytes: Vec<u8>,
    /// Keep it open and silent afterwards.
    hang: bool,
}

fn reply(status: &str, headers: &str, body: &[u8]) -> Reply {
    let mut bytes = format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}\r\n").into_bytes();
    bytes.extend_from_slice(body);
    Reply { bytes, hang: false }
}

async fn serve(answer: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let heads = Arc::new(Mutex::new(Vec::new()));
    let (seen, answer) = (Arc::clone(&heads), Arc::new(answer));
    let task = tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(socket.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap().to_lowercase();
            let Reply { bytes, hang } = answer(&head);
            seen.lock().unwrap().push(head);
            // The client may have gone away already.
            socket.write_all(&bytes).await.ok();
            if hang {
                open.push(socket);
            }
        }
    });
    Server { url, heads, _task: AbortOnDropHandle::new(task) }
}

/// Where a `Range: bytes=N-` begins.
fn offset(head: &str) -> Option<usize> {
    head.split("range: bytes=").nth(1)?.split('-').next()?.parse().ok()
}

/// An honest answer from `offset` on, cut after `most` bytes of body.
fn honest(body: &[u8], head: &str, most: usize) -> Reply {
    let rest = |from: usize| &body[from..(from + most).min(body.len())];
    match offset(head) {
        None => reply("200 OK", &format!("content-length: {}\r\netag: \"e\"\r\n", body.len()), rest(0)),
        Some(from) => {
            let headers = format!(
                "content-length: {}\r\ncontent-range: bytes {from}-{}/{}\r\netag: \"e\"\r\n",
                body.len() - from,
                body.len() - 1,
                body.len()
            );
            reply("206 Partial Content", &headers, rest(from))
        }
    }
}

struct Device {
    _dir: tempfile::TempDir,
    files: ModelFiles,
    requests: mpsc::Receiver<ArtifactRequest>,
    chunks: mpsc::Sender<Chunk>,
    fetcher: Fetcher,
}

fn a_device(url: Option<&str>) -> Device {
    rustls::crypto::ring::default_provider().install_default().ok();
    let dir = tempfile::tempdir().unwrap();
    let keys = || KeySet::single(SigningKey::generate().unwrap().0.public());
    let registry = Registry {
        broker: Broker { host: "127.0.0.1".to_owned(), port: 1 },
        url: url.map(str::to_owned),
        token: None,
        trust: Trust { models: keys(), fleet: keys() },
    };
    let (requests, asked) = mpsc::channel(4);
    let (chunks, arriving) = mpsc::channel(4);
    let limits = Limits { deadline: Duration::from_secs(20), stall: STALL };
    let fetcher = Fetcher::new(Http::new(&registry).unwrap(), Wire { requests, chunks: arriving }, limits);
    Device { files: ModelFiles::new(dir.path().to_owned()), _dir: dir, requests: asked, chunks, fetcher }
}

fn model() -> Vec<u8> {
    (0..200_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

#[tokio::test]
async fn a_file_that_is_cut_again_and_again_comes_whole() {
    let body = model();
    let served = body.clone();
    let server = serve(move |head| honest(&served, head, 100_000)).await;
    let mut device = a_device(Some(&server.url));
    device.fetcher.blob(&Blob::of(&body), &device.files).await.unwrap();
    assert_eq!(std::fs::read(device.files.blob(Digest::of(&body))).unwrap(), body);
    let heads = server.heads.lock().unwrap();
    assert_eq!(heads.len(), 8, "800 kB in pieces of 100 kB");
    assert_eq!(offset(&heads[1]), Some(100_000));
    assert!(heads[1].contains("if-range: \"e\""), "{}", heads[1]);
}

#[tokio::test]
async fn what_came_before_a_restart_is_not_fetched_again() {
    let body = model();
    let served = body.clone();
    let server = serve(move |head| honest(&served, head, usize::MAX / 2)).await;
    let mut device = a_device(Some(&server.url));
    std::fs::write(device.files.part(Digest::of(&body)), &body[..500_000]).unwrap();
    device.fetcher.blob(&Blob::of(&body), &device.files).await.unwrap();
    assert_eq!(offset(&server.heads.lock().unwrap()[0]), Some(500_000));
}

#[tokio::test]
async fn a_rotten_beginning_is_thrown_away_and_all_fetched_once_more() {
    let body = model();
    let served = body.clone();
    let server = serve(move |head| honest(&served, head, usize::MAX / 2)).await;
    let mut device = a_device(Some(&server.url));
    std::fs::write(device.files.part(Digest::of(&body)), vec![7; 500_000]).unwrap();
    device.fetcher.blob(&Blob::of(&body), &device.files).await.unwrap();
    assert_eq!(std::fs::read(device.files.blob(Digest::of(&body))).unwrap(), body);
}

#[tokio::test]
async fn a_server_that_ignores_ranges_is_taken_from_the_beginning() {
    let body = model();
    let served = body.clone();
    let server = serve(move |_| honest(&served, "", usize::MAX / 2)).await;
    let mut device = a_device(Some(&server.url));
    std::fs::write(device.files.part(Digest::of(&body)), &body[..500_000]).unwrap();
    device.fetcher.blob(&Blob::of(&body), &device.files).await.unwrap();
    assert_eq!(std::fs::read(device.files.blob(Digest::of(&body))).unwrap(), body);
}

#[tokio::test]
async fn wrong_bytes_of_the_right_length_are_refused_and_not_kept() {
    let body = model();
    let wrong = vec![0; body.len()];
    let server = serve(move |head| honest(&wrong, head, usize::MAX / 2)).await;
    let mut device = a_device(Some(&server.url));
    let blob = Blob::of(&body);
    let error = device.fetcher.blob(&blob, &device.files).await.unwrap_err();
    assert!(matches!(error, FetchError::WrongBytes { .. }), "{error}");
    assert!(!device.files.blob(blob.digest).exists());
    assert_eq!(std::fs::metadata(device.files.part(blob.digest)).unwrap().len(), 0);
}

#[tokio::test]
async fn an_endless_file_is_cut_at_the_length_of_the_manifest() {
    let body = model();
    let mut longer = body.clone();
    longer.extend_from_slice(&[0; 100_000]);
    let server = serve(move |head| honest(&longer, head, usize::MAX / 2)).await;
    let mut device = a_device(Some(&server.url));
    let blob = Blob::of(&body);
    let error = device.fetcher.blob(&blob, &device.files).await.unwrap_err();
    assert!(matches!(error, FetchError::TooLong { limit: 800_000 }), "{error}");
}

#[tokio::test]
async fn a_server_that_lies_about_the_length_does_not_stop_us() {
    let body = model();
    let served = body.clone();
    let server = serve(move |head| match offset(head) {
        // It promises a thousand bytes more than it sends, and says that a half is the whole.
        None => reply("200 OK", "content-length: 401000\r\n", &served[..400_000]),
        Some(_) => honest(&served, head, usize::MAX / 2),
    })
    .await;
    let mut device = a_device(Some(&server.url));
    device.fetcher.blob(&Blob::of(&body), &device.files).await.unwrap();
}

#[tokio::test]
async fn a_silent_server_is_left_after_the_stall_time_and_the_broker_is_asked() {
    let body = b"a small model".to_vec();
    let server =
        serve(|_| Reply { bytes: b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\na sm".to_vec(), hang: true }).await;
    let mut device = a_device(Some(&server.url));
    let served = body.clone();
    let registry = async {
        let mut answered = 0;
        while let Some(asked) = device.requests.recv().await {
            let from = usize::try_from(asked.offset).unwrap();
            let chunk = Chunk {
                digest: asked.digest,
                offset: asked.offset,
                total: served.len() as u64,
                bytes: served[from..].to_vec().into(),
                error: None,
            };
            device.chunks.send(chunk).await.unwrap();
            answered += 1;
        }
        answered
    };
    let blob = Blob::of(&body);
    tokio::select! {
        fetched = device.fetcher.blob(&blob, &device.files) => fetched.unwrap(),
        answered = registry => panic!("nobody asks any more after {answered}"),
    }
    assert_eq!(std::fs::read(device.files.blob(blob.digest)).unwrap(), body);
    assert!(server.heads.lock().unwrap().len() > 1, "it was tried again before");
}

#[tokio::test]
async fn what_the_registry_does_not_have_or_give_is_said() {
    let server = serve(|_| reply("404 Not Found", "content-length: 0\r\n", b"")).await;
    let blob = Blob::of(b"x");
    let mut one = a_device(Some(&server.url));
    assert!(matches!(one.fetcher.blob(&blob, &one.files).await, Err(FetchError::NotFound(_))));
    assert!(matches!(one.fetcher.manifest(blob.digest).await, Err(FetchError::NotFound(_))));
    let server = serve(|_| reply("401 Unauthorized", "content-length: 0\r\n", b"")).await;
    let mut other = a_device(Some(&server.url));
    let said = other.fetcher.blob(&blob, &other.files).await.unwrap_err().to_string();
    assert!(said.contains("401") && said.contains("token_file"), "{said}");
}

#[tokio::test]
async fn a_manifest_without_end_is_cut() {
    let server = serve(|_| reply("200 OK", "", &vec![0; 2 * SEALED_BYTES_MAX])).await;
    let mut device = a_device(Some(&server.url));
    assert!(matches!(device.fetcher.manifest(Digest::of(b"x")).await, Err(FetchError::TooLong { .. })));
}

#[tokio::test]
async fn a_file_comes_in_chunks_when_there_is_only_the_broker() {
    let body = model();
    let blob = Blob::of(&body);
    let mut device = a_device(None);
    let asked = AtomicU32::new(0);
    let registry = async {
        while let Some(request) = device.requests.recv().await {
            // An answer to a question of before is passed over, and one in five is lost.
            let stale = Chunk { digest: Digest::of(b"old"), offset: 0, total: 1, bytes: vec![1].into(), error: None };
            device.chunks.send(stale).await.unwrap();
            if asked.fetch_add(1, Relaxed) % 5 == 4 {
                continue;
            }
            let from = usize::try_from(request.offset).unwrap();
            let to = (from + request.length as usize).min(body.len());
            let chunk = Chunk {
                digest: request.digest,
                offset: request.offset,
                total: body.len() as u64,
                bytes: body[from..to].to_vec().into(),
                error: None,
            };
            device.chunks.send(chunk).await.unwrap();
        }
    };
    tokio::select! {
        fetched = device.fetcher.blob(&blob, &device.files) => fetched.unwrap(),
        () = registry => panic!("nobody asks any more"),
    }
    assert_eq!(std::fs::read(device.files.blob(blob.digest)).unwrap(), body);
    assert!(asked.load(Relaxed) >= 17, "800 kB are at least 17 pieces of 48 KiB");
}

#[tokio::test]
async fn a_broker_that_never_answers_is_given_up_and_a_missing_file_is_said() {
    let blob = Blob::of(b"x");
    let mut silent = a_device(None);
    let error = silent.fetcher.blob(&blob, &silent.files).await.unwrap_err();
    assert!(matches!(error, FetchError::Unreachable(_) | FetchError::Deadline(_)), "{error}");

    let mut missing = a_device(None);
    let registry = async {
        let request = missing.requests.recv().await.unwrap();
        let chunk = Chunk {
            digest: request.digest,
            offset: 0,
            total: 0,
            bytes: Vec::new().into(),
            error: Some(ChunkError::NotFound),
        };
        missing.chunks.send(chunk).await.unwrap();
        std::future::pending::<()>().await;
    };
    let error = tokio::select! {
        fetched = missing.fetcher.blob(&blob, &missing.files) => fetched.unwrap_err(),
        () = registry => panic!(),
    };
    assert!(matches!(error, FetchError::NotFound(_)), "{error}");
}
