//! Samples on their way from an asynchronous room to the thread that scores them: a bounded queue, and that thread's work.

use std::time::Instant;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use vedette_scoring::{Rows, Sample};

use super::{BATCH_SAMPLES_MAX, Doing, Feed, on_thread};

/// A sample, and when it was taken.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) taken: Instant,
    pub(super) sample: Sample,
}

/// A queue of `places` for samples of `signals` numbers, and the work that scores what comes out of it, on a thread of its own.
/// It ends when the token is cancelled, after what waits was scored, or when the scorer has ended.
pub(super) fn open(
    places: usize,
    signals: usize,
    feed: Feed,
    shutdown: CancellationToken,
) -> (mpsc::Sender<Waiting>, impl Future<Output = ()> + Send) {
    let (queue, waiting) = mpsc::channel(places);
    let work = async move {
        let (runtime, report) = (Handle::current(), feed.report.clone());
        let scoring = move || carry(waiting, signals, &feed, &shutdown, &runtime);
        if let Err(error) = on_thread("source", scoring).await {
            tracing::error!(error, "a source ends early");
            report.set(Doing::Hindered(error));
        }
    };
    (queue, work)
}

fn carry(
    mut queue: mpsc::Receiver<Waiting>,
    signals: usize,
    feed: &Feed,
    shutdown: &CancellationToken,
    runtime: &Handle,
) {
    let mut waiting = Vec::with_capacity(BATCH_SAMPLES_MAX);
    let mut rows = Rows::new(signals, BATCH_SAMPLES_MAX);
    let mut open = true;
    loop {
        let more = runtime.block_on(async {
            tokio::select! {
                biased;
                () = shutdown.cancelled(), if open => None,
                count = queue.recv_many(&mut waiting, BATCH_SAMPLES_MAX) => Some(count),
            }
        });
        let Some(count) = more else {
            queue.close();
            open = false;
            continue;
        };
        if count == 0 {
            return;
        }
        rows.clear();
        let taken = waiting.first().map_or_else(|| feed.clock.now(), |first| first.taken);
        for waiting in waiting.drain(..) {
            rows.push(waiting.sample.at_ms, &waiting.sample.values);
        }
        if feed.score(taken, &rows).is_err() {
            return;
        }
    }
}
