//! Sources: one file a kind; each turns what it reads into timed samples of a fixed schema, over a bounded queue.
//!
//! A source is opened first, which finds every mistake in files and signals before anything runs and fixes the schema,
//! and then started with a [`Feed`]. Samples travel in [`Batch`]es of 1..=[`BATCH_SAMPLES_MAX`]: one when a sample came
//! alone, many when they wait, so that the scorer can score them together. The queue to the scorer is shared and fair; a
//! source waits for its turn, and behind it waits whoever feeds the source: the file is not read, the socket is not
//! read, a push is answered "busy".

pub mod ascent;
pub mod host;
pub mod message;
pub mod mqtt;
pub mod push;
pub mod replay;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use vedette_protocol::id::{SignalName, Unit};
use vedette_scoring::{Sample, Schema};

use crate::clock::Clock;
use crate::config::{self, Stream};
use crate::scorer::{Input, LaneId};

/// Samples in one batch: the largest batch that the engines gain from (64 rows of 38 signals are 10 KB).
pub const BATCH_SAMPLES_MAX: usize = 64;

/// Samples of one stream on their way to the scorer.
#[derive(Debug)]
pub struct Batch {
    /// The stream.
    pub lane: LaneId,
    /// When the first of them was taken: what the wait for a decision is counted from.
    pub taken: Instant,
    /// 1..=[`BATCH_SAMPLES_MAX`] samples in order of time.
    pub samples: Vec<Sample>,
}

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
    /// The stream.
    pub lane: LaneId,
    /// The scorer's queue.
    pub scorer: mpsc::Sender<Input>,
    /// Time.
    pub clock: Clock,
    /// Where it says how it goes.
    pub report: Arc<Report>,
}

/// The scorer has ended.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the scorer has ended")]
pub struct Ended;

impl Feed {
    /// Hands samples over, waiting for a place in the queue. Nothing is sent for no samples.
    ///
    /// # Errors
    /// When the scorer has ended.
    pub async fn send(&self, taken: Instant, samples: Vec<Sample>) -> Result<(), Ended> {
        let count = samples.len() as u64;
        if count == 0 {
            return Ok(());
        }
        self.scorer.send(Input::Samples(Batch { lane: self.lane, taken, samples })).await.map_err(|_closed| Ended)?;
        self.report.samples.fetch_add(count, Relaxed);
        Ok(())
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
