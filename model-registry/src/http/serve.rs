//! Serving HTTP: a bound number of connections, a bound time for a request's head, and an end that lets answers finish.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Connections at a time; further ones wait in the system's queue. An idle one costs some 20 KB: 10 MB in all.
const CONNECTIONS_MAX: usize = 512;
/// For the head of a request, also the next one on a connection that is kept: whoever says nothing makes room.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// At the end, for answers that are on their way.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);
/// After an error of `accept` (no file descriptors left): time for some connection to end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Takes the address.
///
/// # Errors
///
/// Another program has it, or it is not one of this machine.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            anyhow!("couldn't listen on {address}: another program does already; stop it, or set another `http.listen` in registry.toml")
        }
        _ => anyhow::Error::new(error).context(format!("couldn't listen on {address} (`http.listen` in registry.toml)")),
    })
}

/// Serves until `shutdown`, then lets the answers on their way finish.
///
/// # Errors
///
/// The listener broke.
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) -> anyhow::Result<()> {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let permit = tokio::select! {
            () = shutdown.cancelled() => break,
            permit = Arc::clone(&room).acquire_owned() => permit.context("the room for connections closed")?,
        };
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (router, shutdown) = (router.clone(), shutdown.clone());
                connections.spawn(async move {
                    connection(stream, router, shutdown).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "couldn't accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    let drained = tokio::time::timeout(DRAIN_WITHIN, async { while connections.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::warn!(connections = connections.len(), "some answers were cut off at the end");
    }
    Ok(())
}

async fn connection(stream: TcpStream, router: Router, shutdown: CancellationToken) {
    let service = TowerToHyperService::new(router);
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .serve_connection(TokioIo::new(stream), service);
    let mut served = std::pin::pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = shutdown.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        // The other side went away, or never said anything: its business.
        tracing::debug!(%error, "a connection ended early");
    }
}
