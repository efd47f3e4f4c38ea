//! Samples from a topic of a local broker, one a message, in JSON or CBOR. A message that is no sample is counted and the
//! first one of a row of them is logged; time that goes back is refused like that too. When the scorer is slow the
//! socket is not read, and the broker keeps or drops what waits by its own rules.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use vedette_protocol::id::StreamName;
use vedette_scoring::Schema;

use super::ascent::Ascent;
use super::message::{self, MESSAGE_BYTES_MAX};
use super::queue::{self, Waiting};
use super::{BATCH_SAMPLES_MAX, Doing, Ended, Feed, schema};
use crate::backoff::{Backoff, draw};
use crate::config;
use crate::mqtt::{Event, Events, KEEP_ALIVE, Options, Publisher, connect};

/// The broker is local: it is back soon or was never there.
const RECONNECT_FIRST: Duration = Duration::from_millis(500);

/// The longest wait between two attempts.
const RECONNECT_MAX: Duration = Duration::from_secs(30);

/// Samples that wait for the thread that scores them: a batch. When full, the socket is not read.
const QUEUE_SAMPLES: usize = BATCH_SAMPLES_MAX;

/// An MQTT source, not started yet.
#[derive(Debug)]
pub struct Mqtt {
    settings: config::Mqtt,
    client_id: String,
    schema: Arc<Schema>,
}

impl Mqtt {
    /// # Errors
    /// When the signals make no schema.
    pub fn open(settings: &config::Mqtt, stream: &StreamName) -> anyhow::Result<Self> {
        Ok(Self {
            settings: settings.clone(),
            client_id: format!("vedette-source-{stream}-{}", std::process::id()),
            schema: schema(&settings.signals)?,
        })
    }

    /// The signals.
    #[must_use]
    pub fn schema(&self) -> Arc<Schema> {
        Arc::clone(&self.schema)
    }

    /// Connects, and connects again, until the agent stops.
    pub async fn run(self, feed: Feed, shutdown: CancellationToken) {
        let (queue, scoring) = queue::open(QUEUE_SAMPLES, self.schema.len(), feed.clone(), shutdown.clone());
        tokio::join!(self.hear(feed, queue, shutdown), scoring);
    }

    async fn hear(self, feed: Feed, queue: mpsc::Sender<Waiting>, shutdown: CancellationToken) {
        let mut backoff = Backoff::new(RECONNECT_FIRST, RECONNECT_MAX);
        let mut listener = Listener { source: &self, feed: &feed, queue, ascent: Ascent::new(), complained: false };
        loop {
            let (publisher, events) = connect(self.options());
            let end = tokio::select! {
                () = shutdown.cancelled() => return,
                end = listener.listen(&publisher, events, &mut backoff) => end,
            };
            let Ok(why) = end else { return };
            tracing::warn!(broker = %self.settings.broker, topic = self.settings.topic, error = why, "the local broker is out of reach; trying again");
            feed.report.set(Doing::Hindered(format!("{}: {why}", self.settings.broker)));
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(backoff.failed(draw())) => {}
            }
        }
    }

    fn options(&self) -> Options {
        Options {
            broker: self.settings.broker.clone(),
            client_id: self.client_id.clone(),
            will: None,
            // A sample and what MQTT puts around it.
            packet_bytes_max: MESSAGE_BYTES_MAX + 1024,
            keep_alive: KEEP_ALIVE,
        }
    }
}

struct Listener<'a> {
    source: &'a Mqtt,
    feed: &'a Feed,
    queue: mpsc::Sender<Waiting>,
    ascent: Ascent,
    complained: bool,
}

impl Listener<'_> {
    /// One connection's life; gives the reason of its end, or an error when the scorer has ended.
    async fn listen(
        &mut self,
        publisher: &Publisher,
        mut events: Events,
        backoff: &mut Backoff,
    ) -> Result<String, Ended> {
        loop {
            match events.next().await {
                Event::Connected => {
                    if let Err(error) = publisher.subscribe(&[&self.source.settings.topic]) {
                        return Ok(error.to_string());
                    }
                    backoff.worked();
                    self.feed.report.set(Doing::Running);
                }
                Event::Subscribed(heard) => {
                    if heard.contains(&false) {
                        return Ok(format!("the broker does not let us hear {}", self.source.settings.topic));
                    }
                }
                Event::Message { topic, payload } => self.take(&topic, &payload).await?,
                Event::Lost(why) => return Ok(why.to_string()),
            }
        }
    }

    async fn take(&mut self, topic: &str, payload: &[u8]) -> Result<(), Ended> {
        let taken = self.feed.clock.now();
        let now_ms = self.feed.clock.wall_ms();
        let parsed = message::parse(payload, self.source.settings.format, &self.source.schema, now_ms);
        let sample = parsed.and_then(|sample| self.ascent.take(sample.at_ms, now_ms).map(|()| sample));
        match sample {
            Ok(sample) => {
                self.complained = false;
                self.queue.send(Waiting { taken, sample }).await.map_err(|_closed| Ended)
            }
            Err(problem) => {
                self.feed.report.reject(1);
                if !std::mem::replace(&mut self.complained, true) {
                    tracing::warn!(topic, problem = %problem, "a message is no sample; refused, and further ones are only counted");
                }
                Ok(())
            }
        }
    }
}
