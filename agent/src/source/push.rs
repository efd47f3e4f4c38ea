//! Samples that local programs hand in: JSON lines posted to the local interface, over its Unix socket or loopback HTTP.
//!
//! A post is taken whole or not at all: a wrong line refuses all of it and is named; when the stream's queue has no
//! place for all of it, the answer is "busy" and the sender keeps it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio_util::sync::CancellationToken;
use vedette_scoring::{Sample, Schema};

use super::ascent::Ascent;
use super::message::{self, MessageError};
use super::queue::{self, Waiting};
use super::{Feed, Report, schema};
use crate::clock::Clock;
use crate::config::{self, Format};

/// A push source, not started yet.
#[derive(Debug)]
pub struct Push {
    schema: Arc<Schema>,
    queue: usize,
}

/// Why a post was refused.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum PushError {
    /// No place in the queue now; the same post can be taken later.
    #[error("the stream's queue is full: {waiting} samples wait for the scorer")]
    Busy {
        /// Samples that wait.
        waiting: usize,
    },
    /// More samples than the queue can ever hold.
    #[error(
        "{samples} samples in one post, the stream's queue holds {queue} (`queue` in the configuration); post fewer at once"
    )]
    TooMany {
        /// Samples posted.
        samples: usize,
        /// What the queue holds.
        queue: usize,
    },
    /// A line is no sample.
    #[error("line {line}: {problem}")]
    Line {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: MessageError,
    },
    /// The agent is stopping.
    #[error("the agent is stopping")]
    Stopping,
}

/// Where posts are handed in; clones share the queue.
#[derive(Clone, Debug)]
pub struct Intake {
    schema: Arc<Schema>,
    queue: mpsc::Sender<Waiting>,
    /// Time of the newest sample taken, Unix ms. Held while a post enters the queue, so that posts do not mix.
    ascent: Arc<Mutex<Ascent>>,
    clock: Clock,
    report: Arc<Report>,
}

impl Push {
    /// # Errors
    /// When the signals make no schema.
    pub fn open(settings: &config::Push, queue: usize) -> anyhow::Result<Self> {
        Ok(Self { schema: schema(&settings.signals)?, queue })
    }

    /// The signals.
    #[must_use]
    pub fn schema(&self) -> Arc<Schema> {
        Arc::clone(&self.schema)
    }

    /// The intake, and the work that scores what comes in.
    pub fn run(self, feed: Feed, shutdown: CancellationToken) -> (Intake, impl Future<Output = ()> + Send) {
        let (clock, report) = (feed.clock, Arc::clone(&feed.report));
        let (queue, work) = queue::open(self.queue, self.schema.len(), feed, shutdown);
        (Intake { schema: self.schema, queue, ascent: Arc::default(), clock, report }, work)
    }
}

impl Intake {
    /// Takes JSON lines (empty ones are passed over); returns how many samples were taken: all or none.
    ///
    /// # Errors
    /// See [`PushError`].
    pub fn take(&self, body: &[u8]) -> Result<usize, PushError> {
        let taken = self.clock.now();
        let now_ms = self.clock.wall_ms();
        let result = self.read(body, now_ms).and_then(|samples| self.enter(samples, now_ms, taken));
        if result.is_err() {
            self.report.reject(1);
        }
        result
    }

    fn read(&self, body: &[u8], now_ms: i64) -> Result<Vec<(usize, Sample)>, PushError> {
        let mut samples = Vec::new();
        for (at, line) in body.split(|b| *b == b'\n').enumerate() {
            if line.trim_ascii().is_empty() {
                continue;
            }
            if samples.len() == self.queue.max_capacity() {
                let lines = body.split(|b| *b == b'\n').filter(|l| !l.trim_ascii().is_empty()).count();
                return Err(PushError::TooMany { samples: lines, queue: self.queue.max_capacity() });
            }
            let sample = message::parse(line, Format::Json, &self.schema, now_ms)
                .map_err(|problem| PushError::Line { line: at + 1, problem })?;
            samples.push((at + 1, sample));
        }
        Ok(samples)
    }

    fn enter(&self, samples: Vec<(usize, Sample)>, now_ms: i64, taken: Instant) -> Result<usize, PushError> {
        let mut ascent = self.ascent.lock().unwrap_or_else(PoisonError::into_inner);
        let mut newest = *ascent;
        for (line, sample) in &samples {
            if let Err(problem) = newest.take(sample.at_ms, now_ms) {
                ascent.refuse();
                return Err(PushError::Line { line: *line, problem });
            }
        }
        let count = samples.len();
        if count == 0 {
            return Ok(0);
        }
        let places = self.queue.try_reserve_many(count).map_err(|e| match e {
            TrySendError::Full(()) => PushError::Busy { waiting: self.queue.max_capacity() - self.queue.capacity() },
            TrySendError::Closed(()) => PushError::Stopping,
        })?;
        for (place, (_, sample)) in places.zip(samples) {
            place.send(Waiting { taken, sample });
        }
        *ascent = newest;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::source::{BATCH_SAMPLES_MAX, Sink};
    use std::sync::mpsc::{Receiver, sync_channel};
    use vedette_scoring::Rows;

    fn push(queue: usize) -> Push {
        Push::open(&config::Push { signals: vec![("cpu".parse().unwrap(), None)] }, queue).unwrap()
    }

    fn feed() -> (Feed, Receiver<Rows>) {
        let (shown, rows) = sync_channel(1);
        (Feed { sink: Sink::Shown(shown), clock: Clock::start().unwrap(), report: Arc::default() }, rows)
    }

    fn lines(from: usize, to: usize) -> Vec<u8> {
        (from..to).map(|i| format!("{{\"at\":{i},\"values\":{{\"cpu\":{i}}}}}\n")).collect::<String>().into_bytes()
    }

    #[test]
    fn a_post_is_taken_whole_or_not_at_all_and_a_full_queue_is_busy() {
        let (feed, _rows) = feed();
        let (intake, _work) = push(4).run(feed, CancellationToken::new());
        assert_eq!(intake.take(&lines(0, 3)), Ok(3));
        assert_eq!(intake.take(&lines(3, 5)), Err(PushError::Busy { waiting: 3 }));
        assert_eq!(intake.take(&lines(3, 4)), Ok(1));
        assert_eq!(intake.take(&lines(4, 9)), Err(PushError::TooMany { samples: 5, queue: 4 }));
        assert_eq!(intake.report.rejected(), 2);
    }

    #[test]
    fn a_wrong_line_is_named_and_nothing_of_its_post_is_taken() {
        let (feed, _rows) = feed();
        let (intake, _work) = push(8).run(feed, CancellationToken::new());
        let body = b"{\"at\":1,\"values\":{\"cpu\":1}}\n\n{\"at\":2,\"values\":{\"gpu\":1}}\n";
        let problem = MessageError::UnknownSignal("gpu".into());
        assert_eq!(intake.take(body), Err(PushError::Line { line: 3, problem }));
        assert_eq!(intake.queue.capacity(), 8);
    }

    #[test]
    fn time_may_stand_but_not_go_back_also_over_posts() {
        let (feed, _rows) = feed();
        let (intake, _work) = push(8).run(feed, CancellationToken::new());
        assert_eq!(intake.take(&lines(5, 7)), Ok(2));
        assert_eq!(intake.take(&lines(6, 7)), Ok(1));
        let problem = MessageError::Backwards { at_ms: 5, last_ms: 6 };
        assert_eq!(intake.take(&lines(5, 6)), Err(PushError::Line { line: 1, problem }));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn samples_reach_the_scorer_in_order_and_those_that_wait_together() {
        let (feed, rows) = feed();
        let shutdown = CancellationToken::new();
        let (intake, work) = push(1024).run(feed, shutdown.clone());
        assert_eq!(intake.take(&lines(0, 100)), Ok(100));
        let work = tokio::spawn(work);
        let seen = tokio::task::spawn_blocking(move || {
            let mut times = Vec::new();
            while times.len() < 100 {
                let rows = rows.recv().unwrap();
                assert!(rows.len() <= BATCH_SAMPLES_MAX);
                times.extend_from_slice(rows.times());
            }
            times
        });
        assert_eq!(seen.await.unwrap(), (0..100).collect::<Vec<i64>>());
        shutdown.cancel();
        work.await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_taken_before_the_stop_is_scored() {
        let (feed, rows) = feed();
        let shutdown = CancellationToken::new();
        let (intake, work) = push(1024).run(feed, shutdown.clone());
        assert_eq!(intake.take(&lines(0, 100)), Ok(100));
        shutdown.cancel();
        let work = tokio::spawn(work);
        let seen = tokio::task::spawn_blocking(move || rows.iter().map(|rows| rows.len()).sum::<usize>());
        work.await.unwrap();
        assert_eq!(seen.await.unwrap(), 100);
        assert_eq!(intake.take(&lines(100, 101)), Err(PushError::Stopping));
    }
}
