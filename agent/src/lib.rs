//! The device program: scores telemetry where it is born, keeps what it finds, and lets new models in.
//!
//! `source → scorer → recorder → journal → sync`, and `deploy` brings models the other way. [`run`] opens the rooms in
//! the order of the data and is the only place that starts what lives long.

pub mod api;
pub mod backoff;
pub mod clock;
pub mod command;
pub mod config;
pub mod deploy;
pub mod index;
pub mod ledger;
pub mod mqtt;
pub mod recorder;
pub mod retention;
pub mod scorer;
pub mod source;
pub mod state;
pub mod sync;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use vedette_journal::{Options, RealDisk};
use vedette_protocol::id::StreamName;
use vedette_protocol::time::Quality;
use vedette_scoring::Model;

use clock::Clock;
use config::{Config, Registry};
use recorder::Recorder;
use scorer::{LaneId, LaneSettings, Scorer};
use state::State;

/// Assignments that wait for deploy, which takes each at once.
const ASSIGNMENTS: usize = 4;

/// Pieces of files that wait for deploy: 4 x 48 KiB.
const CHUNKS: usize = 4;

/// Questions for pieces that wait for the connection: deploy asks for one at a time.
const REQUESTS: usize = 4;

/// The longest that a stop may take before what is left is abandoned: systemd kills after 90 s.
const DRAIN: Duration = Duration::from_secs(10);

/// Version of the agent, as it prints it.
pub const AGENT_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Runs the agent until `shutdown` is cancelled.
///
/// # Errors
/// When the state folder is taken or cannot be written, a source's file is wrong, a port is taken, or a room has died.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let clock = Clock::start()?;
    let state = State::open(&config.state)?;
    clock.load(&state.clock());
    let listening = api::bind(&config.api).await?;
    let mut sources = Vec::with_capacity(config.streams.len());
    for stream in &config.streams {
        sources
            .push(source::open(stream).with_context(|| format!("couldn't open the source of stream {}", stream.name))?);
    }
    let opened = match &config.registry {
        Some(registry) => Some(
            deploy::open(&config, registry, &state)
                .with_context(|| format!("couldn't read {}", state.deploy().display()))?,
        ),
        None => None,
    };
    let (recorder, recorder_thread) = recorder::open(recorder_parts(&config, &state, clock))?;
    let live = opened.as_ref().map(|opened| opened.live.clone()).unwrap_or_default();
    let (scorer, last_words) = scorer::start(lanes(&config, &sources, live), &recorder, clock);
    let (index, index_thread) = index::start(state.index(), config.journal.index_bytes, &recorder)?;

    let stop = CancellationToken::new();
    let mut rooms: JoinSet<anyhow::Result<()>> = JoinSet::new();
    let streams = start_sources(&config, sources, &scorer, clock, &stop, &mut rooms);
    let shared = Shared { config: &config, state: &state, clock, recorder: &recorder, scorer: &scorer };
    let (deploy_view, sync_view) = shared.start_registry(opened, &stop, &mut rooms)?;
    let parts = api::Parts {
        device: config.device.clone(),
        streams,
        clock,
        recorder: recorder.clone(),
        board: Arc::clone(scorer.board()),
        index,
        deploy: deploy_view,
        sync: sync_view,
        has_registry: config.registry.is_some(),
        limits: config.retention.limits,
    };
    rooms.spawn(listening.serve(parts, stop.clone()));
    rooms.spawn(watch_clock(clock, &state, &recorder, &stop));
    tracing::info!(device = %config.device, streams = config.streams.len(), ready_ms = clock.uptime().as_millis(), "ready");

    let ended = watch_over(&mut rooms, &shutdown).await;
    tracing::info!("stopping");
    stop.cancel();
    drop(scorer);
    let drained = tokio::time::timeout(DRAIN, async {
        while let Some(room) = rooms.join_next().await {
            report(room);
        }
        last_words.finish().await?;
        drop(recorder);
        recorder_thread.finish().await?;
        index_thread.finish().await?;
        state.end();
        anyhow::Ok(())
    });
    drained
        .await
        .with_context(|| format!("couldn't stop within {} s; what was not written yet is lost", DRAIN.as_secs()))??;
    ended
}

/// Journals the wall clock's jumps, and keeps the floor.
fn watch_clock(
    clock: Clock,
    state: &State,
    recorder: &Recorder,
    stop: &CancellationToken,
) -> impl Future<Output = anyhow::Result<()>> + Send + use<> {
    let (recorder, file, stop) = (recorder.clone(), state.clock(), stop.clone());
    async move {
        clock::watch::run(clock, file, |body| recorder.offer(body).is_ok(), stop).await;
        Ok(())
    }
}

/// Until shutdown, or until a room has died: then the agent ends, and whoever supervises it starts it again.
async fn watch_over(rooms: &mut JoinSet<anyhow::Result<()>>, shutdown: &CancellationToken) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            Some(room) = rooms.join_next() => match room {
                // A source may come to its end (a replayed file); the others go on.
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(error),
                Err(error) => return Err(anyhow::Error::new(error).context("a room of the agent died")),
            },
        }
    }
}

fn report(room: Result<anyhow::Result<()>, tokio::task::JoinError>) {
    match room {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(error = format!("{error:#}"), "a room ended badly"),
        Err(error) => tracing::error!(%error, "a room died"),
    }
}

fn recorder_parts(config: &Config, state: &State, clock: Clock) -> recorder::Parts {
    recorder::Parts {
        disk: Arc::new(RealDisk),
        folder: state.journal(),
        options: Options {
            segment_bytes: config.journal.segment_bytes,
            commit_records: config.journal.commit_records,
            commit_interval: config.journal.commit_interval,
            new_epoch: new_epoch(&clock),
        },
        device: config.device.clone(),
        clock,
        boot: Some(recorder::Boot { previous_was_clean: state.begin(), config: config.digest }),
        keeping: Some(recorder::Keeping {
            state: state.clone(),
            retention: config.retention,
            has_registry: config.registry.is_some(),
            checkpoint_records: config.journal.checkpoint_records,
            checkpoint_interval: config.journal.checkpoint_interval,
        }),
    }
}

/// The epoch of a journal that begins now must never have been used by this device, or the registry would take its
/// records for old ones: the second of its beginning, or, where the clock is not to be believed, a random number below all such.
fn new_epoch(clock: &Clock) -> u64 {
    let stamp = clock.stamp();
    match stamp.quality {
        Quality::System | Quality::Attested => u64::try_from(stamp.wall_ms / 1000).unwrap_or(1),
        Quality::None | Quality::Floor => u64::from(backoff::draw() >> 2) + 1,
    }
}

/// A lane for each stream, with the model that was live.
fn lanes(config: &Config, sources: &[source::Source], mut live: BTreeMap<StreamName, Arc<Model>>) -> Vec<LaneSettings> {
    let lane = |(stream, source): (&config::Stream, &source::Source)| LaneSettings {
        stream: stream.name.clone(),
        schema: source.schema(),
        model: live.remove(&stream.name),
        baseline: stream.baseline,
        anomaly_rate: config.journal.anomaly_rate,
        anomaly_burst: config.journal.anomaly_burst,
    };
    config.streams.iter().zip(sources).map(lane).collect()
}

fn start_sources(
    config: &Config,
    sources: Vec<source::Source>,
    scorer: &Scorer,
    clock: Clock,
    stop: &CancellationToken,
    rooms: &mut JoinSet<anyhow::Result<()>>,
) -> Vec<api::StreamParts> {
    let mut streams = Vec::with_capacity(sources.len());
    for (n, (stream, source)) in config.streams.iter().zip(sources).enumerate() {
        let kind = source.kind();
        let report = Arc::new(source::Report::default());
        let Some(seat) = scorer.seat(LaneId(n)) else { continue };
        let feed = source::Feed { sink: source::Sink::Lane(seat), clock, report: Arc::clone(&report) };
        let source::Started { work, intake } = source.start(feed, stop.clone());
        rooms.spawn(async move {
            work.await;
            Ok(())
        });
        streams.push(api::StreamParts { name: stream.name.clone(), kind, report, intake });
    }
    streams
}

/// What the two rooms that face the registry share.
struct Shared<'a> {
    config: &'a Config,
    state: &'a State,
    clock: Clock,
    recorder: &'a Recorder,
    scorer: &'a Scorer,
}

impl Shared<'_> {
    /// Starts deploy and sync, when there is a registry; how they stand.
    fn start_registry(
        &self,
        opened: Option<deploy::Opened>,
        stop: &CancellationToken,
        rooms: &mut JoinSet<anyhow::Result<()>>,
    ) -> anyhow::Result<(watch::Receiver<deploy::View>, watch::Receiver<sync::View>)> {
        let first = opened.as_ref().map(deploy::Opened::view).unwrap_or_default();
        let (deploy_view, deploy_seen) = watch::channel(first);
        let (sync_view, sync_seen) = watch::channel(sync::View::default());
        if let (Some(registry), Some(opened)) = (&self.config.registry, opened) {
            let (assignments, assigned) = mpsc::channel(ASSIGNMENTS);
            let (chunks, arriving) = mpsc::channel(CHUNKS);
            let (requests, asked) = mpsc::channel(REQUESTS);
            let link = deploy::Link { assignments: assigned, chunks: arriving, requests };
            rooms.spawn(deploy::run(self.deploy(registry)?, opened, link, deploy_view, stop.clone()));
            let sync = sync::run(
                self.sync(registry, deploy_seen.clone()),
                sync::Link { assignments, chunks, requests: asked },
                sync_view,
                stop.clone(),
            );
            rooms.spawn(async move {
                sync.await;
                Ok(())
            });
        }
        Ok((deploy_seen, sync_seen))
    }

    fn deploy(&self, registry: &Registry) -> anyhow::Result<deploy::Parts> {
        Ok(deploy::Parts {
            device: self.config.device.clone(),
            config: self.config.deploy.clone(),
            registry: registry.clone(),
            state: self.state.clone(),
            clock: self.clock,
            recorder: self.recorder.clone(),
            scorer: self.scorer.clone(),
            program: std::env::current_exe().context("couldn't find this program's own path, which trials run")?,
        })
    }

    fn sync(&self, registry: &Registry, deploy: watch::Receiver<deploy::View>) -> sync::Parts {
        sync::Parts {
            device: self.config.device.clone(),
            config: self.config.sync.clone(),
            broker: registry.broker.clone(),
            state: self.state.clone(),
            clock: self.clock,
            recorder: self.recorder.clone(),
            board: Arc::clone(self.scorer.board()),
            deploy,
        }
    }
}
