//! The local interface: one HTTP interface on a Unix socket and, if configured, on a loopback port. It answers without a
//! cloud in reach, and everything that a field engineer can ask with the commands goes through it.
//!
//! The table of routes is in `router`. Answers are JSON, errors are problem documents (RFC 9457). Whoever may open the
//! socket (mode 0660) may ask everything; the port is refused to what a browser sends for another site.
//!
//! What can block on the disk (queries, journal reads) runs on blocking threads, at most `QUERIES_AT_ONCE` at a time.

mod anomalies;
pub mod answer;
mod listen;
mod metrics;
mod problem;
mod push;
mod status;
pub mod view;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use vedette_protocol::id::{DeviceId, StreamName};

use crate::clock::Clock;
use crate::config;
use crate::index::Index;
use crate::recorder::Recorder;
use crate::retention::Limits;
use crate::scorer::Board;
use crate::source::{self, push::Intake};
use crate::{deploy, sync};
use listen::Capped;
use problem::Problem;

/// Connections on each listener at once; a further one waits. 64 x about 20 KB = 1.3 MB.
const CONNECTIONS_MAX: usize = 64;

/// A body: 1 MiB holds 1000 samples of 40 signals.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Queries that read the disk at once; a further one waits.
const QUERIES_AT_ONCE: usize = 4;

/// Pause between two attempts to make the socket on a disk that refuses.
const SOCKET_RETRY: Duration = Duration::from_secs(2);

/// What Linux says when a device fails.
const EIO: i32 = 5;

/// The longest socket path that Linux takes: 108 bytes with the zero at its end.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// A stream as the interface sees it.
#[derive(Clone, Debug)]
pub struct StreamParts {
    /// Its name.
    pub name: StreamName,
    /// The kind of its source, as the configuration spells it.
    pub kind: &'static str,
    /// How the source goes.
    pub report: Arc<source::Report>,
    /// Where samples can be pushed, when it is of that kind.
    pub intake: Option<Intake>,
}

/// What the interface answers from.
#[derive(Debug)]
pub struct Parts {
    /// The device.
    pub device: DeviceId,
    /// The streams, in the order of the configuration.
    pub streams: Vec<StreamParts>,
    /// Time.
    pub clock: Clock,
    /// The journal's writer, for verdicts and the ledger.
    pub recorder: Recorder,
    /// What each stream runs.
    pub board: Arc<Board>,
    /// The anomalies.
    pub index: Index,
    /// How the models' ways stand.
    pub deploy: watch::Receiver<deploy::View>,
    /// How the talk with the registry stands.
    pub sync: watch::Receiver<sync::View>,
    /// Whether there is a registry to talk with.
    pub has_registry: bool,
    /// What the journal may keep.
    pub limits: Limits,
}

/// Everything that a handler sees.
#[derive(Clone)]
struct Api {
    parts: Arc<Parts>,
    queries: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Api {
    /// Runs what blocks on the disk where it may.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Parts) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let Ok(_turn) = self.queries.acquire().await else { return Err(Problem::stopping()) };
        let parts = Arc::clone(&self.parts);
        match tokio::task::spawn_blocking(move || work(&parts)).await {
            Ok(result) => result,
            Err(error) => Err(Problem::internal(&error)),
        }
    }
}

/// The listeners, bound but not served.
#[derive(Debug)]
pub struct Bound {
    /// `None` while the disk does not take a socket.
    unix: Option<UnixListener>,
    socket: PathBuf,
    http: Option<TcpListener>,
}

impl Bound {
    /// The port that HTTP got, if there is one.
    #[must_use]
    pub fn http(&self) -> Option<SocketAddr> {
        self.http.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Serves until the token is cancelled; requests under way are finished, and the socket is removed.
    ///
    /// # Errors
    /// When a listener failed.
    pub async fn serve(self, parts: Parts, stop: CancellationToken) -> anyhow::Result<()> {
        tracing::info!(socket = %self.socket.display(), http = self.http().map(tracing::field::display), "the local interface listens");
        let Self { unix, socket, http } = self;
        let api =
            Api { parts: Arc::new(parts), queries: Arc::new(Semaphore::new(QUERIES_AT_ONCE)), stop: stop.clone() };
        let router = router(api);
        let port_router = router.clone().layer(middleware::from_fn(local_only));
        let port_stop = stop.clone();
        let path = socket.clone();
        let on_socket = async {
            let bound = match unix {
                Some(unix) => Some(unix),
                None => stop.run_until_cancelled(bind_later(&path)).await,
            };
            match bound {
                Some(unix) => {
                    let served = axum::serve(Capped::new(unix, CONNECTIONS_MAX), router);
                    served.with_graceful_shutdown(stop.cancelled_owned()).await
                }
                None => Ok(()),
            }
        };
        let on_port = async {
            match http {
                Some(listener) => {
                    let served = axum::serve(Capped::new(listener, CONNECTIONS_MAX), port_router);
                    served.with_graceful_shutdown(port_stop.cancelled_owned()).await
                }
                None => Ok(()),
            }
        };
        let (socket_end, port_end) = tokio::join!(on_socket, on_port);
        // One that stays is a dead agent's and will be replaced.
        if let Err(error) = std::fs::remove_file(&socket)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(socket = %socket.display(), %error, "couldn't remove the socket");
        }
        socket_end.context("the local socket failed")?;
        port_end.context("the local port failed")
    }
}

/// Binds the socket and the port. The caller holds the state folder's lock, so a socket that is there is a dead agent's.
///
/// # Errors
/// When the port is taken or the socket cannot be made; the message names it and the key to change.
pub async fn bind(config: &config::Api) -> anyhow::Result<Bound> {
    let socket = config.socket.clone();
    let bytes = socket.as_os_str().len();
    anyhow::ensure!(
        bytes <= SOCKET_PATH_BYTES_MAX,
        "couldn't make the socket {}: its path has {bytes} bytes, Linux takes {SOCKET_PATH_BYTES_MAX}; name a shorter one (`socket` in [api])",
        socket.display()
    );
    let unix = match bind_socket(&socket) {
        Ok(unix) => Some(unix),
        Err(error) if is_refusal_of_disk(&error) => {
            tracing::error!(socket = %socket.display(), %error, "couldn't make the socket: the commands cannot reach this agent until the disk takes it");
            None
        }
        Err(error) => {
            let what = format!("couldn't make the socket {} (`socket` in [api])", socket.display());
            return Err(anyhow::Error::new(error).context(what));
        }
    };
    let http = match config.http {
        None => None,
        Some(address) => {
            let listener = TcpListener::bind(address).await;
            Some(listener.with_context(|| {
                format!("couldn't listen on {address} (`http` in [api]; is the port taken? port 0 takes any)")
            })?)
        }
    };
    Ok(Bound { unix, socket, http })
}

/// Tries until the disk takes the socket.
async fn bind_later(socket: &Path) -> UnixListener {
    loop {
        tokio::time::sleep(SOCKET_RETRY).await;
        if let Ok(listener) = bind_socket(socket) {
            tracing::info!(socket = %socket.display(), "the commands can reach this agent now");
            return listener;
        }
    }
}

/// A disk that is full, read-only or failing must not keep the agent from scoring.
fn is_refusal_of_disk(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem) || error.raw_os_error() == Some(EIO)
}

fn bind_socket(socket: &Path) -> std::io::Result<UnixListener> {
    if let Some(folder) = socket.parent() {
        std::fs::create_dir_all(folder)?;
    }
    match std::fs::remove_file(socket) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(socket)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// The table of all routes.
fn router(api: Api) -> Router {
    Router::new()
        .route("/health", get(status::health))
        .route("/metrics", get(metrics::metrics))
        .route("/v1/status", get(status::status))
        .route("/v1/anomalies", get(anomalies::list))
        .route("/v1/anomalies/{sequence}", get(anomalies::show))
        .route("/v1/anomalies/{sequence}/verdict", post(anomalies::verdict))
        .route("/v1/who-scored/{*record}", get(status::who_scored))
        .route("/v1/models", get(status::models))
        .route("/v1/models/{model}", get(status::model))
        .route("/v1/streams/{stream}/samples", post(push::samples))
        .fallback(nowhere)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(api)
}

async fn nowhere(State(_): State<Api>, request: Request) -> Problem {
    Problem::not_found(format!("there is nothing at {}", request.uri().path()))
}

/// On the port: a browser that was lured to another site must not reach it. It names the site in `Origin`, and a
/// name that was rebound to this machine in `Host`.
async fn local_only(request: Request, next: Next) -> Response {
    let host = request.headers().get("host").and_then(|h| h.to_str().ok()).unwrap_or("localhost");
    let name = host.rsplit_once(':').map_or(host, |(name, _port)| name);
    let local = matches!(name, "localhost" | "127.0.0.1" | "[::1]");
    if !local || request.headers().contains_key("origin") {
        return Problem::forbidden("this interface is for programs on this machine, not for pages").into_response();
    }
    next.run(request).await
}
