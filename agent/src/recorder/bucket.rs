//! How many anomalies of a stream are recorded: a token bucket, and an account of what it turned away.
//!
//! A model that alarms on every row must not wear out the flash or fill the uplink. What is turned away is counted, and one
//! record speaks for a whole run of it: first row, last row, how many, the largest score. Every anomaly that was found is
//! either recorded or counted in exactly one run, whatever happens in between (the recorder's queue full, a run that could
//! not be handed on, the stop); rows between a run's first and last may be recorded ones.

use std::time::{Duration, Instant};

use vedette_protocol::number::Finite32;

/// How long a run is counted before it is recorded although it goes on: a flood of a day leaves 8,640 drop records, 1 MB, and a
/// power cut takes at most so much of the count.
pub const RUN_MAX: Duration = Duration::from_secs(10);

/// A token bucket: `burst` at once, `rate` per second in the long run.
#[derive(Clone, Debug)]
pub struct Bucket {
    rate_per_s: f64,
    burst: f64,
    level: f64,
    filled: Instant,
}

impl Bucket {
    /// A full bucket at `now`.
    #[must_use]
    pub fn new(rate_per_s: u32, burst: u32, now: Instant) -> Self {
        let burst = f64::from(burst);
        Self { rate_per_s: f64::from(rate_per_s), burst, level: burst, filled: now }
    }

    /// Takes one token if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.level = (self.level + passed * self.rate_per_s).min(self.burst);
        // A moment before the last one gives nothing, now or later.
        self.filled = self.filled.max(now);
        if self.level < 1.0 {
            return false;
        }
        self.level -= 1.0;
        true
    }
}

/// Anomalies that were not recorded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DroppedRun {
    /// Row of the first.
    pub first_row: u64,
    /// Row of the last.
    pub last_row: u64,
    /// How many, at least 1.
    pub count: u64,
    /// The largest score among them.
    pub max: Finite32,
}

impl DroppedRun {
    fn one(row: u64, score: Finite32) -> Self {
        Self { first_row: row, last_row: row, count: 1, max: score }
    }

    fn and(self, other: Self) -> Self {
        Self {
            first_row: self.first_row.min(other.first_row),
            last_row: self.last_row.max(other.last_row),
            count: self.count.saturating_add(other.count),
            max: if other.max > self.max { other.max } else { self.max },
        }
    }
}

/// Admission of a stream's anomalies to the journal.
#[derive(Clone, Debug)]
pub struct Admission {
    bucket: Bucket,
    open: Option<Open>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    run: DroppedRun,
    /// When it is to be recorded; `None`: at the next occasion.
    due: Option<Instant>,
}

impl Admission {
    /// With a full bucket.
    #[must_use]
    pub fn new(bucket: Bucket) -> Self {
        Self { bucket, open: None }
    }

    /// Whether an anomaly may be recorded now. One that then is not must be handed to [`Admission::refuse`].
    pub fn admit(&mut self, now: Instant) -> bool {
        self.bucket.take(now)
    }

    /// Counts the anomaly at `row`, which is not recorded.
    pub fn refuse(&mut self, row: u64, score: Finite32, now: Instant) {
        let one = DroppedRun::one(row, score);
        self.open = Some(match self.open {
            None => Open { run: one, due: Some(now + RUN_MAX) },
            Some(open) => Open { run: open.run.and(one), ..open },
        });
    }

    /// The run that has been counted for [`RUN_MAX`], to be recorded now.
    pub fn due(&mut self, now: Instant) -> Option<DroppedRun> {
        let is_due = self.open.is_some_and(|open| open.due.is_none_or(|due| now >= due));
        if is_due { self.finish() } else { None }
    }

    /// Gives a run back that could not be handed on, so that it is counted with what comes.
    pub fn restore(&mut self, run: DroppedRun) {
        let run = self.open.map_or(run, |open| run.and(open.run));
        self.open = Some(Open { run, due: None });
    }

    /// The open run, at the end of the stream's life.
    pub fn finish(&mut self) -> Option<DroppedRun> {
        self.open.take().map(|open| open.run)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10, 5, start);
        assert_eq!((0..20).filter(|_| bucket.take(start)).count(), 5);
        let later = start + Duration::from_millis(300);
        assert_eq!((0..20).filter(|_| bucket.take(later)).count(), 3);
        let much_later = start + Duration::from_secs(3600);
        assert_eq!((0..20).filter(|_| bucket.take(much_later)).count(), 5);
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_gives_nothing() {
        let start = Instant::now() + Duration::from_secs(10);
        let mut bucket = Bucket::new(10, 1, start);
        assert!(bucket.take(start));
        assert!(!bucket.take(start.checked_sub(Duration::from_secs(5)).unwrap()));
        assert!(!bucket.take(start));
    }

    fn score(value: u32) -> Finite32 {
        Finite32::saturating(value as f32)
    }

    #[test]
    fn a_flood_is_one_run_with_its_rows_count_and_largest_score_until_its_time_is_up() {
        let start = Instant::now();
        let mut admission = Admission::new(Bucket::new(1, 1, start));
        assert!(admission.admit(start));
        for (row, value) in [(8, 3), (9, 7), (12, 5)] {
            assert!(!admission.admit(start));
            admission.refuse(row, score(value), start);
        }
        let second = start + Duration::from_secs(1);
        assert!(admission.admit(second), "a recorded one in between does not end the run");
        admission.refuse(20, score(1), second);
        assert_eq!(admission.due(start + RUN_MAX - Duration::from_millis(1)), None);
        let run = DroppedRun { first_row: 8, last_row: 20, count: 4, max: score(7) };
        assert_eq!(admission.due(start + RUN_MAX), Some(run));
        assert_eq!(admission.due(start + 9 * RUN_MAX), None);
    }

    #[test]
    fn a_run_that_could_not_be_handed_on_is_counted_with_the_next_and_is_due_at_once() {
        let start = Instant::now();
        let mut admission = Admission::new(Bucket::new(1, 1, start));
        admission.refuse(5, score(9), start);
        let run = admission.finish().unwrap();
        admission.refuse(9, score(1), start);
        admission.restore(run);
        assert_eq!(admission.due(start), Some(DroppedRun { first_row: 5, last_row: 9, count: 2, max: score(9) }));
        assert_eq!(admission.finish(), None);
    }

    /// What happens around one anomaly.
    #[derive(Clone, Copy, Debug)]
    struct Event {
        /// Since the one before, ms.
        after_ms: u64,
        score: u16,
        /// Whether the recorder's queue has a place for the anomaly, and for a run.
        place: bool,
        place_for_run: bool,
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let event = (0..3000_u64, any::<u16>(), any::<bool>(), any::<bool>())
            .prop_map(|(after_ms, score, place, place_for_run)| Event { after_ms, score, place, place_for_run });
        proptest::collection::vec(event, 1..400)
    }

    proptest! {
        #[test]
        fn recorded_and_counted_add_up_to_all_under_every_interleaving(
            events in events(), rate in 0..5_u32, burst in 1..5_u32, last_place in any::<bool>(),
        ) {
            let start = Instant::now();
            let (mut admission, mut now) = (Admission::new(Bucket::new(rate, burst, start)), start);
            let (mut recorded, mut runs, mut refused) = (Vec::new(), Vec::new(), Vec::new());
            for (row, event) in (0_u64..).zip(&events) {
                now += Duration::from_millis(event.after_ms);
                if admission.admit(now) && event.place {
                    recorded.push(row);
                } else {
                    admission.refuse(row, score(event.score.into()), now);
                    refused.push((row, u32::from(event.score)));
                }
                if let Some(run) = admission.due(now) {
                    if event.place_for_run { runs.push(run) } else { admission.restore(run) }
                }
            }
            // The stop: one try that may find no place, and one that waits for it.
            if let Some(run) = admission.finish() {
                if last_place { runs.push(run) } else { admission.restore(run) }
            }
            runs.extend(admission.finish());
            prop_assert_eq!(recorded.len() as u64 + runs.iter().map(|r| r.count).sum::<u64>(), events.len() as u64);
            let mut left = refused.iter();
            for run in &runs {
                let within: Vec<_> = left.by_ref().take(usize::try_from(run.count).unwrap()).collect();
                prop_assert_eq!((within[0].0, within[within.len() - 1].0), (run.first_row, run.last_row));
                prop_assert_eq!(score(within.iter().map(|(_, s)| *s).max().unwrap()), run.max);
            }
        }
    }
}
