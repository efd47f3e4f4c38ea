//! A recorded CSV file as a live stream: its rows come with the pauses that their times ask for, divided by the speed, or
//! as fast as they are scored. At the end of the file the source says so and stays silent, or begins again with the
//! time going on. A wrong line ends it, named; what came before it was scored.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use vedette_scoring::replay::{Disorder, Options, Replay as File, ReplayError, Time};
use vedette_scoring::{Sample, Schema};

use super::{BATCH_SAMPLES_MAX, Doing, Feed};
use crate::config;

/// A recorded file, opened.
#[derive(Debug)]
pub struct Replay {
    settings: config::Replay,
    options: Options,
    file: File,
}

impl Replay {
    /// Opens the file and reads its header.
    ///
    /// # Errors
    /// Names the file, the column and what to do.
    pub fn open(settings: &config::Replay) -> anyhow::Result<Self> {
        let step_ms = i64::try_from(settings.step_ms)?;
        let time = match &settings.time_column {
            Some(column) => Time::Column(column.clone()),
            None => Time::Steps { start_ms: settings.start_ms, step_ms },
        };
        let options = Options {
            time,
            label: settings.label_column.clone(),
            skip: Vec::new(),
            default_unit: settings.units.default.clone(),
            units: settings.units.named.clone(),
            disorder: Disorder::Refuse,
        };
        let file = File::open(&settings.file, &options)?;
        Ok(Self { settings: settings.clone(), options, file })
    }

    /// The signals.
    #[must_use]
    pub fn schema(&self) -> Arc<Schema> {
        Arc::clone(self.file.schema())
    }

    /// Reads and hands over until the end of the file or of the agent.
    pub async fn run(self, feed: Feed, shutdown: CancellationToken) {
        let report = Arc::clone(&feed.report);
        let runtime = Handle::current();
        let (over, ended) = oneshot::channel();
        // Reading and unpacking block for as long as the file lasts, so they have a thread of their own.
        let thread = std::thread::Builder::new().name("replay".to_owned()).spawn(move || {
            if over.send(self.play(&feed, &shutdown, &runtime)).is_err() {
                tracing::debug!("nobody waits for the end of the replay");
            }
        });
        let played = match thread {
            Ok(_handle) => {
                ended.await.map_err(|_| "its thread died".to_owned()).and_then(|r| r.map_err(|e| e.to_string()))
            }
            Err(error) => Err(format!("couldn't start its thread: {error}")),
        };
        match played {
            Ok(()) => report.set(Doing::Ended),
            Err(error) => {
                tracing::error!(error, "the replay ends early");
                report.set(Doing::Hindered(error));
            }
        }
    }

    fn play(self, feed: &Feed, shutdown: &CancellationToken, runtime: &Handle) -> Result<(), ReplayError> {
        let Self { settings, options, mut file } = self;
        let mut player =
            Player { feed, shutdown, runtime, pace: Pace::new(settings.speed), waiting: Vec::new(), gone: false };
        let mut shift_ms = 0;
        loop {
            let (mut first_ms, mut last_ms, mut step_ms) = (None, 0, 1);
            for row in file {
                let mut sample = match row {
                    Ok(row) => row.sample,
                    Err(error) => {
                        player.flush();
                        return Err(error);
                    }
                };
                sample.at_ms = sample.at_ms.saturating_add(shift_ms);
                if first_ms.is_none() {
                    first_ms = Some(sample.at_ms);
                } else {
                    step_ms = (sample.at_ms - last_ms).max(1);
                }
                last_ms = sample.at_ms;
                player.take(sample);
                if player.gone {
                    return Ok(());
                }
            }
            player.flush();
            let Some(first_ms) = first_ms.filter(|_| settings.repeat && !player.gone) else { return Ok(()) };
            // The next round begins one step after the last row.
            shift_ms += last_ms - first_ms + step_ms;
            file = File::open(&settings.file, &options)?;
        }
    }
}

/// Hands rows over at their time.
struct Player<'a> {
    feed: &'a Feed,
    shutdown: &'a CancellationToken,
    runtime: &'a Handle,
    pace: Pace,
    waiting: Vec<Sample>,
    /// The agent is stopping.
    gone: bool,
}

impl Player<'_> {
    fn take(&mut self, sample: Sample) {
        let now = self.feed.clock.now();
        let wait = self.pace.wait(sample.at_ms, now);
        if wait.is_zero() && self.waiting.len() < BATCH_SAMPLES_MAX {
            self.waiting.push(sample);
            return;
        }
        self.flush();
        if !wait.is_zero() {
            self.sleep(wait);
        }
        self.waiting.push(sample);
        // A row that had to be waited for comes alone, now.
        if !wait.is_zero() {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let samples = std::mem::replace(&mut self.waiting, Vec::with_capacity(BATCH_SAMPLES_MAX));
        let taken = self.feed.clock.now();
        let sent = self.runtime.block_on(async {
            tokio::select! {
                () = self.shutdown.cancelled() => false,
                sent = self.feed.send(taken, samples) => sent.is_ok(),
            }
        });
        self.gone |= !sent;
    }

    fn sleep(&mut self, wait: Duration) {
        self.gone |= self.runtime.block_on(async {
            tokio::select! {
                () = self.shutdown.cancelled() => true,
                () = tokio::time::sleep(wait) => false,
            }
        });
    }
}

/// When a row is due: the first at once, the others as long after it as their times say, divided by the speed.
#[derive(Debug)]
struct Pace {
    speed: f64,
    start: Option<(Instant, i64)>,
}

impl Pace {
    fn new(speed: f64) -> Self {
        Self { speed, start: None }
    }

    /// How long to wait for the row of this time; zero when it is due or overdue, and always at speed 0.
    fn wait(&mut self, at_ms: i64, now: Instant) -> Duration {
        let (start, first_ms) = *self.start.get_or_insert((now, at_ms));
        if self.speed <= 0.0 {
            return Duration::ZERO;
        }
        let seconds = at_ms.saturating_sub(first_ms) as f64 / 1000.0 / self.speed;
        let due = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        due.saturating_sub(now.saturating_duration_since(start))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::clock::Clock;
    use crate::config::{Replay as Settings, Units};
    use crate::scorer::{Input, LaneId};
    use tokio::sync::mpsc;

    fn settings(csv: &str, dir: &tempfile::TempDir, repeat: bool) -> Settings {
        let file = dir.path().join("rows.csv");
        std::fs::write(&file, csv).unwrap();
        let (time_column, label_column, units) = (None, None, Units::default());
        Settings { file, speed: 0.0, time_column, start_ms: 1000, step_ms: 60_000, label_column, repeat, units }
    }

    async fn play(settings: &Settings, rows: usize) -> (Vec<(i64, f32)>, Doing) {
        let (scorer, mut inputs) = mpsc::channel(1);
        let feed = Feed { lane: LaneId(0), scorer, clock: Clock::start().unwrap(), report: Arc::default() };
        let (report, shutdown) = (Arc::clone(&feed.report), CancellationToken::new());
        let life = tokio::spawn(Replay::open(settings).unwrap().run(feed, shutdown.clone()));
        let mut seen = Vec::new();
        while seen.len() < rows {
            let Some(Input::Samples(batch)) = inputs.recv().await else { break };
            seen.extend(batch.samples.iter().map(|s| (s.at_ms, s.values[0])));
        }
        if rows < usize::MAX {
            shutdown.cancel();
        }
        life.await.unwrap();
        (seen, report.doing())
    }

    #[test]
    fn a_row_is_due_after_its_time_divided_by_the_speed() {
        let start = Instant::now();
        let mut pace = Pace::new(60.0);
        assert_eq!(pace.wait(5_000, start), Duration::ZERO);
        assert_eq!(pace.wait(65_000, start), Duration::from_secs(1));
        assert_eq!(pace.wait(65_000, start + Duration::from_millis(400)), Duration::from_millis(600));
        assert_eq!(pace.wait(65_000, start + Duration::from_secs(9)), Duration::ZERO);
        assert_eq!(Pace::new(0.0).wait(i64::MAX, start), Duration::ZERO);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn all_rows_come_in_order_and_then_the_source_says_it_has_ended() {
        let dir = tempfile::tempdir().unwrap();
        let csv: String = std::iter::once("cpu\n".to_owned()).chain((0..200).map(|i| format!("{i}\n"))).collect();
        let (seen, doing) = play(&settings(&csv, &dir, false), usize::MAX).await;
        let wanted: Vec<(i64, f32)> = (0..200_u16).map(|i| (1000 + 60_000 * i64::from(i), f32::from(i))).collect();
        assert_eq!(seen, wanted);
        assert_eq!(doing, Doing::Ended);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_wrong_line_ends_it_named_and_the_rows_before_it_came() {
        let dir = tempfile::tempdir().unwrap();
        let (seen, doing) = play(&settings("cpu\n1\n2\nhigh\n4\n", &dir, false), usize::MAX).await;
        assert_eq!(seen.len(), 2);
        let Doing::Hindered(said) = doing else { panic!("{doing:?}") };
        assert!(said.contains("rows.csv:4:1") && said.contains("high"), "{said}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_repeated_file_goes_on_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let (seen, _) = play(&settings("cpu\n1\n2\n3\n", &dir, true), 7).await;
        let times: Vec<i64> = seen.iter().take(7).map(|(at, _)| *at).collect();
        assert_eq!(times, (0..7).map(|i| 1000 + 60_000 * i).collect::<Vec<i64>>());
        assert!((seen[3].1 - 1.0).abs() < 1e-6);
    }
}
