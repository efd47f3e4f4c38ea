//! The registry: it keeps the fleet's models, says which device runs which, takes in what the devices find, and
//! answers who changed what and which model scored a record.
//!
//! The way of a version: [`http`] (REST) and [`ingest`] (MQTT) come in, [`registry`] holds the verbs (load, decide,
//! save), [`model`] the pure rules, [`store`] the state written together with [`audit`], [`blobs`] the artifacts, and
//! [`publisher`] tells the devices. [`run`] is the program; nobody else spawns what lives long.

pub mod admission;
pub mod audit;
pub mod auth;
pub mod blobs;
pub mod broker;
pub mod cli;
pub mod clock;
pub mod config;
pub mod http;
pub mod ingest;
pub mod model;
pub mod mqtt;
pub mod publisher;
pub mod registry;
pub mod store;
pub mod view;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{Broker, Config};
use crate::ingest::{Desks, Ingest, Tally, chunks};
use crate::publisher::Publisher;
use crate::registry::Registry;

/// The registry's name at the broker.
const CLIENT_ID: &str = "vedette-registry";
/// How often assignments are looked through for those that are about to expire. Lifetimes are a minute at least and
/// renewed at half, so none runs out.
const RENEW_EVERY: Duration = Duration::from_secs(20);
/// How long the start waits for the session with the embedded broker: milliseconds, unless the machine is overloaded.
const SESSION_WITHIN: Duration = Duration::from_secs(5);
/// At the end, for the rooms to finish what they are at.
const FAREWELL_WITHIN: Duration = Duration::from_secs(15);

/// Where a running registry is to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The REST API, with its real port.
    pub http: SocketAddr,
    /// The broker, as `mqtt://host:port`.
    pub broker: String,
}

/// Runs the registry until `shutdown`. `ready` is told the addresses once both can be reached.
///
/// # Errors
///
/// The state, a key or an address cannot be had; or a room ended that should not.
pub async fn run(config: Config, shutdown: CancellationToken, ready: oneshot::Sender<Addresses>) -> anyhow::Result<()> {
    let registry = open(config.clone()).await?;
    let listener = http::serve::bind(config.http.listen).await?;
    let http_address = listener.local_addr().context("couldn't learn the address of the REST API")?;
    let (broker_url, embedded) = match &config.broker {
        Broker::Embedded { listen } => {
            let address = broker::start(*listen).await?;
            (format!("mqtt://{address}"), Some(address))
        }
        Broker::External { url } => (url.clone(), None),
    };
    let link = mqtt::link(mqtt::Settings::from_url(&broker_url, CLIENT_ID)?);
    let (stale_in, stale) = mpsc::channel(publisher::STALE_MAX);
    let (chunks_in, chunk_requests) = mpsc::channel(chunks::REQUESTS_MAX);
    let tally = Arc::new(Tally::default());
    let desks = Desks { stale: stale_in, chunks: chunks_in };
    let router = http::router(registry.clone(), config.http.max_body_bytes);
    let ingest = Ingest::new(registry.clone(), link.outbox.clone(), desks, Arc::clone(&tally));
    let publisher = Publisher::new(registry.clone(), link.outbox.clone());

    // The only tasks that live as long as the program, in the order of the data.
    let mut rooms = JoinSet::new();
    let stop = shutdown.child_token();
    let (driver, inbox, sessions, outbox) = (link.driver, link.inbox, link.sessions, link.outbox);
    let mut first_session = sessions.clone();
    if let Some(address) = embedded {
        let watch = broker::watch(address, stop.clone());
        rooms.spawn(room("broker", async { Ok(watch.await?) }));
    }
    rooms.spawn(room("mqtt", finished(driver.run(stop.clone()))));
    rooms.spawn(room("ingest", finished(ingest.run(inbox, stop.clone()))));
    rooms.spawn(room("chunks", finished(chunks::run(registry.clone(), outbox, chunk_requests, tally, stop.clone()))));
    rooms.spawn(room("publisher", finished(publisher.run(sessions, stale, stop.clone()))));
    rooms.spawn(room("renewal", finished(renew(registry.clone(), stop.clone()))));
    rooms.spawn(room("http", http::serve::serve(listener, router, stop.clone())));

    if embedded.is_some()
        && tokio::time::timeout(SESSION_WITHIN, first_session.wait_for(|count| *count > 0)).await.is_err()
    {
        tracing::warn!("the session with the embedded broker takes long; devices are heard once it is there");
    }
    tracing::info!(http = %http_address, broker = %mqtt::without_login(&broker_url), "the registry is ready");
    if ready.send(Addresses { http: http_address, broker: broker_url }).is_err() {
        tracing::debug!("nobody waits for the addresses");
    }
    let ended = until_the_end(&mut rooms, &shutdown).await;
    stop.cancel();
    if tokio::time::timeout(FAREWELL_WITHIN, async { while rooms.join_next().await.is_some() {} }).await.is_err() {
        tracing::warn!("some rooms did not end in time and were left");
    }
    tokio::task::spawn_blocking(move || registry.state().close()).await??;
    ended
}

async fn open(config: Config) -> anyhow::Result<Registry> {
    tokio::task::spawn_blocking(move || Registry::open(&config, Clock::System)).await?
}

async fn finished(life: impl Future<Output = ()>) -> anyhow::Result<()> {
    life.await;
    Ok(())
}

async fn room(
    name: &'static str,
    life: impl Future<Output = anyhow::Result<()>>,
) -> (&'static str, anyhow::Result<()>) {
    (name, life.await)
}

/// Waits for `shutdown`, or for a room that ends before it: that one is missed.
async fn until_the_end(
    rooms: &mut JoinSet<(&'static str, anyhow::Result<()>)>,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        ended = rooms.join_next() => match ended {
            Some(Ok((_, _))) if shutdown.is_cancelled() => Ok(()),
            Some(Ok((name, Err(error)))) => Err(error.context(format!("the room `{name}` failed"))),
            Some(Ok((name, Ok(())))) => bail!("the room `{name}` ended by itself"),
            Some(Err(error)) => Err(anyhow::Error::new(error).context("a room panicked")),
            None => bail!("no room is left"),
        },
    }
}

/// Signs assignments again before they expire; the publisher hears of it.
async fn renew(registry: Registry, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(RENEW_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let registry = registry.clone();
        match tokio::task::spawn_blocking(move || registry.renew_assignments()).await {
            Ok(Ok(renewed)) if renewed.is_empty() => {}
            Ok(Ok(renewed)) => {
                tracing::info!(devices = renewed.len(), "assignments that were about to expire were signed again")
            }
            Ok(Err(error)) => tracing::error!(%error, "couldn't sign assignments again"),
            Err(error) => tracing::error!(%error, "couldn't sign assignments again"),
        }
    }
}
