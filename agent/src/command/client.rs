//! A client of the agent's socket: one HTTP request a connection.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

/// An answer: 1000 anomalies of 1 KB, and room.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// The longest that an answer may take beyond what it was asked to wait.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum NoReply {
    /// Nobody listens: the agent is down.
    Down,
    /// The agent said no.
    Problem(StatusCode, String),
    /// Something else.
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for NoReply {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

/// Asks the agent behind a socket.
#[derive(Debug)]
pub(super) struct Client {
    socket: PathBuf,
    runtime: Runtime,
}

impl Client {
    pub(super) fn new(socket: &Path) -> anyhow::Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("couldn't start the runtime")?;
        Ok(Self { socket: socket.to_owned(), runtime })
    }

    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, NoReply> {
        self.ask(Method::GET, path, Vec::new())
    }

    pub(super) fn post<T: DeserializeOwned>(&self, path: &str, body: Vec<u8>) -> Result<T, NoReply> {
        self.ask(Method::POST, path, body)
    }

    fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, body: Vec<u8>) -> Result<T, NoReply> {
        let (status, bytes) = self.runtime.block_on(async {
            let asked = tokio::time::timeout(ANSWER_WITHIN, self.exchange(method, path, body)).await;
            asked.map_err(|_| {
                anyhow::anyhow!(
                    "the agent did not answer within {} s on {}",
                    ANSWER_WITHIN.as_secs(),
                    self.socket.display()
                )
            })?
        })?;
        if !status.is_success() {
            return Err(NoReply::Problem(status, detail(&bytes)));
        }
        Ok(serde_json::from_slice(&bytes)
            .with_context(|| format!("couldn't understand the agent's answer to {path}; is it another version?"))?)
    }

    async fn exchange(&self, method: Method, path: &str, body: Vec<u8>) -> Result<(StatusCode, Bytes), NoReply> {
        let stream = match UnixStream::connect(&self.socket).await {
            Ok(stream) => stream,
            Err(error) if is_down(error.kind()) => {
                return Err(NoReply::Down);
            }
            Err(error) => {
                return Err(anyhow::Error::new(error)
                    .context(format!("couldn't open the agent's socket {}", self.socket.display()))
                    .into());
            }
        };
        let talk = async {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header("host", "localhost")
                .header("content-type", "application/json")
                .body(Full::new(Bytes::from(body)))?;
            let answer = async {
                let response = sender.send_request(request).await?;
                let status = response.status();
                let limited = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
                let bytes = limited.collect().await.map_err(|e| anyhow::anyhow!("{e}"))?.to_bytes();
                anyhow::Ok((status, bytes))
            };
            // The connection ends with the answer: nothing else uses it.
            tokio::select! {
                answered = answer => answered,
                ended = connection => Err(ended.err().map_or_else(|| anyhow::anyhow!("the agent hung up"), anyhow::Error::new)),
            }
        };
        Ok(talk.await.with_context(|| format!("couldn't ask the agent on {}", self.socket.display()))?)
    }
}

/// The sentence of a problem document.
fn detail(bytes: &[u8]) -> String {
    let document: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
    let sentence = document.as_ref().and_then(|d| d["detail"].as_str());
    sentence.map_or_else(|| String::from_utf8_lossy(bytes).into_owned(), str::to_owned)
}

/// Nobody listens; or the state folder is none, and then nobody can.
fn is_down(why: io::ErrorKind) -> bool {
    matches!(why, io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory)
}
