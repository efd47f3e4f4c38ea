//! The way to the registry's REST API: one answer or one fault.

use std::{error::Error as _, path::Path, time::Duration};

use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::{Serialize, de::DeserializeOwned};
use vedette_protocol::id::Digest;

use super::{fault::Fault, progress};
use crate::view::Page;

/// How long the registry may take to accept a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// How long it may be silent: a push waits up to 180 s for its turn and for the trial of the model.
const SILENCE_MAX: Duration = Duration::from_secs(200);

/// Entries asked for at once: the API's own limit.
const PAGE_ENTRIES: u32 = 1_000;

/// Bytes per piece of an upload.
const PIECE_BYTES: usize = 64 << 10;

/// A client of one registry.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<String>,
}

impl Client {
    /// For the registry at `url` (`http://HOST:PORT`), with a bearer token.
    ///
    /// # Errors
    /// Usage, when the URL is none.
    pub fn new(url: &str, token: Option<String>) -> Result<Self, Fault> {
        let base = Url::parse(url)
            .ok()
            .filter(|parsed| matches!(parsed.scheme(), "http" | "https") && parsed.has_host())
            .ok_or_else(|| {
                Fault::usage(format!("couldn't use {url:?} as the registry's URL: write http://HOST:PORT"))
            })?;
        // Already installed by an earlier client: the same provider, so that is fine.
        drop(rustls::crypto::ring::default_provider().install_default());
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_WITHIN)
            .read_timeout(SILENCE_MAX)
            .build()
            .map_err(|error| Fault::failed(format!("couldn't make an HTTP client: {error}")))?;
        Ok(Self { http, base, token })
    }

    /// `GET`, with a query.
    ///
    /// # Errors
    /// Offline, or what the registry answered.
    pub async fn get<T: DeserializeOwned>(&self, path: &[&str], query: &impl Serialize) -> Result<T, Fault> {
        let response = self.send(self.request(Method::GET, path)?.query(query)).await?;
        read(response).await
    }

    /// `HEAD`: whether it is there.
    ///
    /// # Errors
    /// Offline, or what the registry answered.
    pub async fn head(&self, path: &[&str]) -> Result<(), Fault> {
        self.send(self.request(Method::HEAD, path)?).await.map(drop)
    }

    /// All entries of a paged list, up to `limit`.
    ///
    /// # Errors
    /// Offline, or what the registry answered.
    pub async fn list<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        limit: usize,
    ) -> Result<Vec<T>, Fault> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        while items.len() < limit {
            let mut query = query.to_vec();
            let left = u32::try_from(limit - items.len()).unwrap_or(PAGE_ENTRIES).min(PAGE_ENTRIES);
            query.push(("limit", left.to_string()));
            query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
            let page: Page<T> = self.get(path, &query).await?;
            items.extend(page.items);
            match page.next {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        items.truncate(limit);
        Ok(items)
    }

    /// A list that comes whole.
    ///
    /// # Errors
    /// Offline, or what the registry answered.
    pub async fn all<T: DeserializeOwned>(&self, path: &[&str]) -> Result<Vec<T>, Fault> {
        let page: Page<T> = self.get(path, &()).await?;
        Ok(page.items)
    }

    /// `POST` or `PUT` of a JSON body; says the status because 200 and 201 differ.
    ///
    /// # Errors
    /// Offline, or what the registry answered.
    pub async fn send_json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<(StatusCode, T), Fault> {
        let response = self.send(self.request(method, path)?.json(body)).await?;
        let status = response.status();
        Ok((status, read(response).await?))
    }

    /// `PUT` of a JSON body or `DELETE`, when the answer's body does not matter.
    ///
    /// # Errors
    /// Offline, or what the registry answered.
    pub async fn tell(&self, method: Method, path: &[&str], body: Option<&impl Serialize>) -> Result<(), Fault> {
        let mut request = self.request(method, path)?;
        if let Some(body) = body {
            request = request.json(body);
        }
        self.send(request).await.map(drop)
    }

    /// Uploads bytes under their digest.
    ///
    /// # Errors
    /// Offline, or what the registry answered.
    pub async fn upload(&self, digest: &Digest, bytes: Vec<u8>) -> Result<(), Fault> {
        let request = self.request(Method::PUT, &["blobs", &digest.to_string()])?;
        self.send(octets(request, bytes.len() as u64).body(bytes)).await.map(drop)
    }

    /// Uploads a file under its digest, piece by piece, with a progress bar on terminals.
    ///
    /// # Errors
    /// When the file cannot be read; offline; what the registry answered.
    pub async fn upload_file(&self, digest: &Digest, path: &Path, length: u64) -> Result<(), Fault> {
        use futures_util::TryStreamExt as _;
        let file = tokio::fs::File::open(path).await.map_err(|error| Fault::file("read", path, &error))?;
        let bar = progress::bytes(length, "uploading");
        let counted = bar.clone();
        let pieces = tokio_util::io::ReaderStream::with_capacity(file, PIECE_BYTES)
            .inspect_ok(move |piece| counted.inc(piece.len() as u64));
        let request = self.request(Method::PUT, &["blobs", &digest.to_string()])?;
        let sent = self.send(octets(request, length).body(reqwest::Body::wrap_stream(pieces))).await;
        bar.finish_and_clear();
        sent.map(drop)
    }

    fn request(&self, method: Method, path: &[&str]) -> Result<RequestBuilder, Fault> {
        let mut url = self.base.clone();
        // Pushing segments encodes what has a meaning in a URL: record ids hold `/` and `#`.
        url.path_segments_mut()
            .map_err(|()| Fault::usage(format!("couldn't use {} as the registry's URL", self.base)))?
            .pop_if_empty()
            .extend(["api", "v1"])
            .extend(path);
        let request = self.http.request(method, url);
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, Fault> {
        let response = request.send().await.map_err(|error| self.unsent(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.unwrap_or_default();
        let mut fault = Fault::answered(status, &body);
        if status == StatusCode::UNAUTHORIZED && self.token.is_none() {
            fault.message += "; give a token by --token, --token-file, VEDETTE_TOKEN or VEDETTE_TOKEN_FILE";
        }
        Err(fault)
    }

    fn unsent(&self, error: &reqwest::Error) -> Fault {
        let place = self.base.as_str().trim_end_matches('/');
        if error.is_builder() || error.is_body() {
            return Fault::failed(format!("couldn't send the request to {place}: {}", root(error)));
        }
        Fault::offline(format!(
            "couldn't reach the registry at {place}: {}; is it running? (--url or VEDETTE_URL says where)",
            root(error)
        ))
    }
}

fn octets(request: RequestBuilder, length: u64) -> RequestBuilder {
    request
        .header(reqwest::header::CONTENT_TYPE, "application/octet-stream")
        .header(reqwest::header::CONTENT_LENGTH, length)
}

async fn read<T: DeserializeOwned>(response: Response) -> Result<T, Fault> {
    let body = response
        .bytes()
        .await
        .map_err(|error| Fault::offline(format!("the registry's answer broke off: {}", root(&error))))?;
    serde_json::from_slice(&body).map_err(|error| {
        Fault::failed(format!("couldn't understand the registry's answer: {error}; is it another version?"))
    })
}

/// The innermost cause: "Connection refused", not the three layers around it.
fn root(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    if std::ptr::eq(cause, error) && error.source().is_none() { error.to_string() } else { cause.to_string() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use vedette_protocol::exit::Exit;

    #[test]
    fn a_record_id_becomes_one_path_segment() {
        let client = Client::new("http://127.0.0.1:1/", None).unwrap();
        let request = client.request(Method::GET, &["who-scored", "box/7/server#12"]).unwrap().build().unwrap();
        assert_eq!(request.url().as_str(), "http://127.0.0.1:1/api/v1/who-scored/box%2F7%2Fserver%2312");
    }

    #[tokio::test]
    async fn nobody_there_is_offline_and_names_the_place() {
        // A port that was free a moment ago, and nobody listens on.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let client = Client::new(&format!("http://127.0.0.1:{port}"), None).unwrap();
        let fault = client.all::<serde_json::Value>(&["models"]).await.unwrap_err();
        assert_eq!(fault.exit, Exit::Offline);
        assert!(fault.message.contains(&format!("127.0.0.1:{port}")) && fault.message.contains("refused"), "{fault}");
    }

    #[test]
    fn a_url_without_a_scheme_is_usage() {
        assert_eq!(Client::new("localhost:8080", None).unwrap_err().exit, Exit::Usage);
    }
}
