//! How many anomalies of a stream are recorded: a token bucket, and an account of what it turned away.
//!
//! A model that alarms on every row must not wear out the flash or fill the uplink. What is turned away is counted by
//! row range and recorded as a drop, so that the log says what it does not hold.

use std::time::Instant;

/// Rows turned away in a row after which the drop is recorded although it goes on: at 1000 rows/s one record in a minute.
pub const DROP_REPORT_ROWS: u64 = 65_536;

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

/// A run of anomalies that were not recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DroppedRun {
    /// Row of the first.
    pub first_row: u64,
    /// Row of the last.
    pub last_row: u64,
    /// How many, at least 1.
    pub count: u64,
}

/// Admission of a stream's anomalies to the journal.
#[derive(Clone, Debug)]
pub struct Admission {
    bucket: Bucket,
    open: Option<DroppedRun>,
}

/// What to do with one anomaly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Record it; before it, record the run of dropped ones that it ends.
    Record(Option<DroppedRun>),
    /// Do not record it; record this run so far, because it has become long.
    Drop(Option<DroppedRun>),
}

impl Admission {
    /// With a full bucket.
    #[must_use]
    pub fn new(bucket: Bucket) -> Self {
        Self { bucket, open: None }
    }

    /// Decides about the anomaly at `row`.
    pub fn admit(&mut self, row: u64, now: Instant) -> Verdict {
        if self.bucket.take(now) { Verdict::Record(self.open.take()) } else { Verdict::Drop(self.refuse(row)) }
    }

    /// Counts the anomaly at `row` as dropped (it found the queue full, say); gives the run when it has become long.
    pub fn refuse(&mut self, row: u64) -> Option<DroppedRun> {
        let run = self.open.get_or_insert(DroppedRun { first_row: row, last_row: row, count: 0 });
        run.last_row = row;
        run.count += 1;
        if run.count >= DROP_REPORT_ROWS { self.open.take() } else { None }
    }

    /// Gives a run back that could not be handed on, so that it is counted with the next.
    pub fn restore(&mut self, run: DroppedRun) {
        self.open = Some(match self.open.take() {
            None => run,
            Some(later) => {
                DroppedRun { first_row: run.first_row, last_row: later.last_row, count: run.count + later.count }
            }
        });
    }

    /// The open run, at the end of the stream's life.
    pub fn finish(&mut self) -> Option<DroppedRun> {
        self.open.take()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Duration;

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

    #[test]
    fn recorded_and_dropped_add_up_to_all_and_each_drop_is_in_one_run() {
        let start = Instant::now();
        let mut admission = Admission::new(Bucket::new(100, 10, start));
        let (mut recorded, mut dropped) = (0, 0);
        for row in 0..10_000_u64 {
            match admission.admit(row, start + Duration::from_millis(row)) {
                Verdict::Record(run) => {
                    recorded += 1;
                    dropped += run.map_or(0, |r| r.count);
                }
                Verdict::Drop(run) => dropped += run.map_or(0, |r| r.count),
            }
        }
        dropped += admission.finish().map_or(0, |r| r.count);
        assert_eq!(recorded + dropped, 10_000);
        assert!((1005..=1015).contains(&recorded), "{recorded} recorded in 10 s at 100/s with a burst of 10");
    }

    #[test]
    fn a_run_names_its_first_and_last_row_and_ends_at_the_next_recorded_one() {
        let start = Instant::now();
        let mut admission = Admission::new(Bucket::new(1, 1, start));
        assert_eq!(admission.admit(7, start), Verdict::Record(None));
        assert_eq!(admission.admit(8, start), Verdict::Drop(None));
        assert_eq!(admission.admit(12, start), Verdict::Drop(None));
        let run = DroppedRun { first_row: 8, last_row: 12, count: 2 };
        assert_eq!(admission.admit(13, start + Duration::from_secs(1)), Verdict::Record(Some(run)));
    }

    #[test]
    fn a_drop_that_never_ends_is_recorded_in_between() {
        let start = Instant::now();
        let mut admission = Admission::new(Bucket::new(1, 1, start));
        admission.admit(0, start);
        let reports = (1..=2 * DROP_REPORT_ROWS)
            .filter(|row| matches!(admission.admit(*row, start), Verdict::Drop(Some(_))))
            .count();
        assert_eq!(reports, 2);
    }

    #[test]
    fn a_run_that_could_not_be_handed_on_is_counted_with_the_next() {
        let mut admission = Admission::new(Bucket::new(1, 1, Instant::now()));
        admission.refuse(5);
        let run = admission.finish().unwrap();
        admission.refuse(9);
        admission.restore(run);
        assert_eq!(admission.finish(), Some(DroppedRun { first_row: 5, last_row: 9, count: 2 }));
    }
}
