//! Sources: one file a kind; each turns what it reads into timed samples of a fixed schema and has them scored.
//!
//! A source is opened first, which finds every mistake in files and signals before anything runs and fixes the schema,
//! and then started with a [`Feed`]. Its rows are scored on its own thread, 1..=[`BATCH_SAMPLES_MAX`] at a time: one when a
//! sample came alone, many when they wait. While they are scored nothing else of this source happens, and behind it waits
//! whoever feeds the source: the file is not read, the socket is not read, a push is answered "busy".

pub mod ascent;
pub mod host;
pub mod message;
pub mod mqtt;
pub mod push;
pub mod queue;
pub mod replay;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use vedette_protocol::id::{SignalName, Unit};
use vedette_scoring::{Rows, Schema};

use crate::clock::Clock;
use crate::config::{self, Stream};
use crate::scorer::Seat;

/// Samples that are scored together at most: the largest batch that the engines gain from (64 rows of 38 signals are 10 KB).
pub const BATCH_SAMPLES_MAX: usize = 64;

/// What a source is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Doing {
    /// Samples come, or may come.
    #[default]
    Running,
    /// The recording is over.
    Ended,
    /// Something is in the way, in words; it is tried again.
    Hindered(String),
}

/// What a source says about itself; it writes, others read.
#[derive(Debug, Default)]
pub struct Report {
    samples: AtomicU64,
    rejected: AtomicU64,
    doing: watch::Sender<Doing>,
}

impl Report {
    /// Samples handed to the scorer since the start.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.samples.load(Relaxed)
    }

    /// Samples that were refused (busy, malformed) since the start.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.rejected.load(Relaxed)
    }

    /// What it is doing now.
    #[must_use]
    pub fn doing(&self) -> Doing {
        self.doing.borrow().clone()
    }

    fn reject(&self, samples: u64) {
        self.rejected.fetch_add(samples, Relaxed);
    }

    fn set(&self, doing: Doing) {
        self.doing.send_if_modified(|now| {
            let changed = *now != doing;
            *now = doing;
            changed
        });
    }
}

/// Where a source puts its samples.
#[derive(Clone, Debug)]
pub struct Feed {
    /// Where they are scored.
    pub sink: Sink,
    /// Time.
    pub clock: Clock,
    /// Where it says how it goes.
    pub report: Arc<Report>,
}

/// Where samples are scored.
#[derive(Clone, Debug)]
pub enum Sink {
    /// In the stream's lane.
    Lane(Seat),
    /// Not at all: a test looks at them.
    #[cfg(test)]
    Shown(std::sync::mpsc::SyncSender<Rows>),
}

/// The scorer has ended.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the scorer has ended")]
pub struct Ended;

impl Feed {
    /// Has rows scored, here and now: not on a thread on which anything else waits. `taken` is when the first of them was
    /// taken: what the wait for a decision is counted from.
    ///
    /// # Errors
    /// When the scorer has ended.
    pub fn score(&self, taken: Instant, rows: &Rows) -> Result<(), Ended> {
        if rows.is_empty() {
            return Ok(());
        }
        match &self.sink {
            Sink::Lane(seat) => seat.score(taken, rows)?,
            #[cfg(test)]
            Sink::Shown(shown) => shown.send(rows.clone()).map_err(|_closed| Ended)?,
        }
        self.report.samples.fetch_add(rows.len() as u64, Relaxed);
        Ok(())
    }
}

/// Does a source's work on a thread of its own, and waits for its end.
async fn on_thread<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    let (over, ended) = oneshot::channel();
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        if over.send(work()).is_err() {
            tracing::debug!("nobody waits for the end of a source");
        }
    });
    match thread {
        Ok(_handle) => ended.await.map_err(|_| "its thread died".to_owned()),
        Err(error) => Err(format!("couldn't start its thread: {error}")),
    }
}

/// The life of a source, to be spawned; it ends when the token is cancelled or the scorer has ended.
pub type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A source that was started.
pub struct Started {
    /// Its life.
    pub work: Work,
    /// Of a push source: where samples are handed in.
    pub intake: Option<push::Intake>,
}

/// A source that is ready to start.
#[derive(Debug)]
pub enum Source {
    /// A recorded file.
    Replay(replay::Replay),
    /// This machine's own metrics.
    Host(host::Host),
    /// A topic of a local broker.
    Mqtt(mqtt::Mqtt),
    /// Whoever posts to the local interface.
    Push(push::Push),
}

/// Opens the source of a stream: its schema is fixed now.
///
/// # Errors
/// When the file or a signal is wrong; the message names the file, line and column, or the signal.
pub fn open(stream: &Stream) -> anyhow::Result<Source> {
    Ok(match &stream.source {
        config::Source::Replay(settings) => Source::Replay(replay::Replay::open(settings)?),
        config::Source::Host(settings) => Source::Host(host::Host::open(settings)?),
        config::Source::Mqtt(settings) => Source::Mqtt(mqtt::Mqtt::open(settings, &stream.name)?),
        config::Source::Push(settings) => Source::Push(push::Push::open(settings, stream.queue)?),
    })
}

impl Source {
    /// The signals of each sample, in order.
    #[must_use]
    pub fn schema(&self) -> Arc<Schema> {
        match self {
            Self::Replay(replay) => replay.schema(),
            Self::Host(host) => host.schema(),
            Self::Mqtt(mqtt) => mqtt.schema(),
            Self::Push(push) => push.schema(),
        }
    }

    /// The kind, as the configuration spells it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Replay(_) => "replay",
            Self::Host(_) => "host",
            Self::Mqtt(_) => "mqtt",
            Self::Push(_) => "push",
        }
    }

    /// Starts it: the returned work is to be spawned on a tokio runtime.
    #[must_use]
    pub fn start(self, feed: Feed, shutdown: CancellationToken) -> Started {
        match self {
            Self::Replay(replay) => Started { work: Box::pin(replay.run(feed, shutdown)), intake: None },
            Self::Host(host) => Started { work: Box::pin(host.run(feed, shutdown)), intake: None },
            Self::Mqtt(mqtt) => Started { work: Box::pin(mqtt.run(feed, shutdown)), intake: None },
            Self::Push(push) => {
                let (intake, work) = push.run(feed, shutdown);
                Started { work: Box::pin(work), intake: Some(intake) }
            }
        }
    }
}

/// The schema of configured signals.
fn schema(signals: &[(SignalName, Option<Unit>)]) -> anyhow::Result<Arc<Schema>> {
    Ok(Arc::new(Schema::new(signals.to_vec())?))
}
