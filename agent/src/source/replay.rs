//! A recorded CSV file as a live stream: its rows come with the pauses that their times ask for, divided by the speed, or
//! as fast as they are scored. At the end of the file the source says so and stays silent, or begins again with the
//! time going on. A wrong line ends it, named; what came before it was scored.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use vedette_scoring::replay::{Disorder, Options, Replay as File, ReplayError, Time};
use vedette_scoring::{Rows, Schema};

use super::{BATCH_SAMPLES_MAX, Doing, Feed, on_thread};
use crate::config;

/// Numbers of a file that is replayed again and again that are kept, so that it is read once: 4 MiB, a week of 38
/// signals at one row in 20 s. A longer file is read anew each time.
const KEPT_NUMBERS_MAX: usize = 1 << 20;

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
        // Reading, unpacking and scoring block for as long as the file lasts, so they have a thread of their own.
        let played = on_thread("replay", move || self.play(&feed, &shutdown, &runtime)).await;
        let played = played.and_then(|played| played.map_err(|e| e.to_string()));
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
        let signals = file.schema().len();
        let mut player = Player {
            feed,
            shutdown,
            runtime,
            pace: Pace::new(settings.speed),
            waiting: Rows::new(signals, BATCH_SAMPLES_MAX),
            gone: false,
        };
        let mut round = Round::default();
        let mut kept = settings.repeat.then(|| Rows::new(signals, 0));
        loop {
            let mut rows = Rows::new(signals, BATCH_SAMPLES_MAX);
            loop {
                rows.clear();
                let read = file.read_rows(&mut rows, BATCH_SAMPLES_MAX);
                player.play(round.shifted(&rows, 0..rows.len()));
                if read.inspect_err(|_| player.flush())? == 0 || player.gone {
                    break;
                }
                kept.take_if(|kept| (kept.len() + rows.len()) * signals > KEPT_NUMBERS_MAX);
                if let Some(kept) = &mut kept {
                    kept.push_later(&rows, 0..rows.len(), 0);
                }
            }
            while settings.repeat && !player.gone && round.again() {
                let Some(kept) = &kept else { break };
                for from in (0..kept.len()).step_by(BATCH_SAMPLES_MAX) {
                    player.play(round.shifted(kept, from..kept.len().min(from + BATCH_SAMPLES_MAX)));
                }
            }
            player.flush();
            if !settings.repeat || player.gone || round.is_empty() {
                return Ok(());
            }
            file = File::open(&settings.file, &options)?;
        }
    }
}

/// The times of a file that is replayed again: they go on.
#[derive(Debug, Default)]
struct Round {
    rows: Option<Rows>,
    shift_ms: i64,
    first_ms: Option<i64>,
    last_ms: i64,
    step_ms: i64,
}

impl Round {
    /// Some rows of the file, with the times of this round.
    fn shifted(&mut self, rows: &Rows, which: std::ops::Range<usize>) -> &Rows {
        for at_ms in rows.times().get(which.clone()).unwrap_or_default() {
            match self.first_ms {
                None => self.first_ms = Some(*at_ms),
                Some(_) => self.step_ms = at_ms.saturating_sub(self.last_ms).max(1),
            }
            self.last_ms = *at_ms;
        }
        let shifted = self.rows.get_or_insert_with(|| rows.like());
        shifted.clear();
        shifted.push_later(rows, which, self.shift_ms);
        shifted
    }

    fn is_empty(&self) -> bool {
        self.first_ms.is_none() && self.shift_ms == 0
    }

    /// The next round begins one step after the last row; false when there is no row to go on from.
    fn again(&mut self) -> bool {
        let Some(first_ms) = self.first_ms.take() else { return false };
        let length_ms = self.last_ms.saturating_sub(first_ms).saturating_add(self.step_ms.max(1));
        self.shift_ms = self.shift_ms.saturating_add(length_ms);
        true
    }
}

/// Hands rows over at their time.
struct Player<'a> {
    feed: &'a Feed,
    shutdown: &'a CancellationToken,
    runtime: &'a Handle,
    pace: Pace,
    /// Rows that are due.
    waiting: Rows,
    /// The agent is stopping.
    gone: bool,
}

impl Player<'_> {
    fn play(&mut self, rows: &Rows) {
        if self.gone {
            return;
        }
        if self.pace.is_full() {
            self.score(rows);
            return;
        }
        for (i, at_ms) in rows.times().iter().enumerate() {
            self.take(*at_ms, rows.row(i));
        }
    }

    fn take(&mut self, at_ms: i64, row: &[f32]) {
        let wait = self.pace.wait(at_ms, self.feed.clock.now());
        if wait.is_zero() && self.waiting.len() < BATCH_SAMPLES_MAX {
            self.waiting.push(at_ms, row);
            return;
        }
        self.flush();
        if !wait.is_zero() {
            self.sleep(wait);
        }
        self.waiting.push(at_ms, row);
        // A row that had to be waited for comes alone, now.
        if !wait.is_zero() {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let empty = self.waiting.like();
        let waiting = std::mem::replace(&mut self.waiting, empty);
        self.score(&waiting);
        self.waiting = waiting;
        self.waiting.clear();
    }

    fn score(&mut self, rows: &Rows) {
        self.gone = self.gone || self.shutdown.is_cancelled() || self.feed.score(self.feed.clock.now(), rows).is_err();
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

    /// As fast as rows are scored.
    fn is_full(&self) -> bool {
        self.speed <= 0.0
    }

    /// How long to wait for the row of this time; zero when it is due or overdue, and always at speed 0.
    fn wait(&mut self, at_ms: i64, now: Instant) -> Duration {
        let (start, first_ms) = *self.start.get_or_insert((now, at_ms));
        if self.is_full() {
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
    use crate::source::Sink;

    fn settings(csv: &str, dir: &tempfile::TempDir, repeat: bool) -> Settings {
        let file = dir.path().join("rows.csv");
        std::fs::write(&file, csv).unwrap();
        let (time_column, label_column, units) = (None, None, Units::default());
        Settings { file, speed: 0.0, time_column, start_ms: 1000, step_ms: 60_000, label_column, repeat, units }
    }

    async fn play(settings: &Settings, rows: usize) -> (Vec<(i64, f32)>, Doing) {
        let (shown, played) = std::sync::mpsc::sync_channel(1);
        let feed = Feed { sink: Sink::Shown(shown), clock: Clock::start().unwrap(), report: Arc::default() };
        let (report, shutdown) = (Arc::clone(&feed.report), CancellationToken::new());
        let life = tokio::spawn(Replay::open(settings).unwrap().run(feed, shutdown.clone()));
        let seen = tokio::task::spawn_blocking(move || {
            let mut seen = Vec::new();
            while seen.len() < rows {
                let Ok(played) = played.recv() else { break };
                seen.extend((0..played.len()).map(|i| (played.times()[i], played.row(i)[0])));
            }
            seen
        });
        let seen = seen.await.unwrap();
        shutdown.cancel();
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
