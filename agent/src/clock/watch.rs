//! Watches the wall clock against the time since boot, so that a jump is on record and times can be corrected later.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use vedette_protocol::record::Body;
use vedette_protocol::time::Stamp;
use vedette_protocol::time::corrected::{JUMP_MS, extrapolated_ms};

use super::{Clock, floor};

/// How often the clock is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Between two clock records: a clock that jumps all the time writes 1440 records of 100 B a day. Jumps within it are
/// one record, from what the last record promised to what the clock shows in the end.
pub const RECORD_INTERVAL_NS: u64 = 60_000_000_000;

/// How often the floor is stored although nothing has raised it: so much of a power cut is not counted.
const SAVE_INTERVAL_NS: u64 = 3_600_000_000_000;

/// What a look at the clock showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// The clock has jumped, or its quality has changed, since the last look.
    pub jumped: bool,
    /// The record to journal now; [`Watcher::journalled`] says that it was.
    pub record: Option<Body>,
}

/// The rule: readings go in, records come out. No clock, no journal.
#[derive(Clone, Debug)]
pub struct Watcher {
    seen: Stamp,
    /// The reading that the journal goes by.
    known: Stamp,
    told_ns: Option<u64>,
    /// Jumps since that record.
    jumps: u64,
}

impl Watcher {
    /// Begins with a reading that is in the journal: that of the boot record.
    #[must_use]
    pub fn new(first: Stamp) -> Self {
        Self { seen: first, known: first, told_ns: None, jumps: 0 }
    }

    /// Takes in what the clock shows now, in the same boot.
    pub fn look(&mut self, now: Stamp) -> Look {
        let jumped = differs(&self.seen, &now);
        self.seen = now;
        self.jumps += u64::from(jumped);
        let may_tell = self.told_ns.is_none_or(|told| now.monotonic_ns.saturating_sub(told) >= RECORD_INTERVAL_NS);
        let record = (may_tell && differs(&self.known, &now)).then(|| Body::Clock {
            old_ms: extrapolated_ms(&self.known, now.monotonic_ns),
            new_ms: now.wall_ms,
            quality: now.quality,
        });
        Look { jumped, record }
    }

    /// The record of the last look was taken; gives the number of jumps that it speaks for.
    pub fn journalled(&mut self) -> u64 {
        self.known = self.seen;
        self.told_ns = Some(self.seen.monotonic_ns);
        std::mem::take(&mut self.jumps)
    }
}

/// Whether `now` is not what a reading promised.
fn differs(reading: &Stamp, now: &Stamp) -> bool {
    let promised_ms = extrapolated_ms(reading, now.monotonic_ns);
    now.quality != reading.quality || now.wall_ms.abs_diff(promised_ms) > JUMP_MS.unsigned_abs()
}

/// Watches until asked to stop: `record` hands a body to the journal and says whether it was taken; the floor is stored in
/// `file`.
pub async fn run(clock: Clock, file: PathBuf, record: impl Fn(Body) -> bool + Send, stop: CancellationToken) {
    let mut watcher = Watcher::new(clock.stamp());
    let mut keeper = Keeper { clock, file, saved: *clock.floor(), saved_ns: clock.monotonic_ns(), complained: false };
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let stopping = tokio::select! {
            () = stop.cancelled() => true,
            _ = ticks.tick() => false,
        };
        let look = watcher.look(clock.stamp());
        if look.jumped {
            clock.tell_of_change();
        }
        if let Some(body) = look.record
            && record(body.clone())
        {
            let jumps = watcher.journalled();
            tracing::warn!(jumps, record = ?body, "the wall clock was set");
        }
        keeper.keep(stopping).await;
        if stopping {
            return;
        }
    }
}

/// Stores the floor now and then.
struct Keeper {
    clock: Clock,
    file: PathBuf,
    saved: floor::Floor,
    saved_ns: u64,
    complained: bool,
}

impl Keeper {
    async fn keep(&mut self, stopping: bool) {
        let (floor, now_ns) = (*self.clock.floor(), self.clock.monotonic_ns());
        let due = now_ns.saturating_sub(self.saved_ns) >= SAVE_INTERVAL_NS;
        if floor == self.saved && !due && !stopping {
            return;
        }
        let (file, boot) = (self.file.clone(), self.clock.boot());
        let saved = tokio::task::spawn_blocking(move || floor::save(&file, &floor, boot, now_ns)).await;
        // Also when it failed: a disk that refuses is asked again in an hour, or when the floor rises.
        (self.saved, self.saved_ns) = (floor, now_ns);
        let failed = saved.map_err(std::io::Error::other).and_then(|saved| saved).err();
        if let Some(error) = &failed
            && !self.complained
        {
            let file = self.file.display();
            tracing::warn!(%file, %error, "couldn't store the time; after a power cut an earlier one is the floor");
        }
        self.complained = failed.is_some();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use vedette_protocol::id::BootId;
    use vedette_protocol::time::Quality;

    const T: i64 = 1_800_000_000_000;

    fn stamp(s: u64, wall_ms: i64) -> Stamp {
        let boot = BootId::from_bytes([3; 16]);
        Stamp { boot, monotonic_ns: s * 1_000_000_000, wall_ms, quality: Quality::System }
    }

    #[test]
    fn a_clock_that_goes_as_time_goes_says_nothing_and_a_jump_says_both_times() {
        let mut watcher = Watcher::new(stamp(0, T));
        for s in 1..1000 {
            let jitter = i64::try_from(s % 3).unwrap() * 100;
            let look = watcher.look(stamp(s, T + i64::try_from(s).unwrap() * 1000 + jitter));
            assert_eq!(look, Look { jumped: false, record: None });
        }
        let look = watcher.look(stamp(1000, T + 1_000_000 + 3_600_000));
        let said = Body::Clock { old_ms: T + 1_000_000, new_ms: T + 4_600_000, quality: Quality::System };
        assert_eq!(look, Look { jumped: true, record: Some(said) });
        assert_eq!(watcher.journalled(), 1);
        assert_eq!(watcher.look(stamp(1001, T + 4_601_000)), Look { jumped: false, record: None });
    }

    #[test]
    fn a_better_quality_is_a_change_although_the_time_is_the_same() {
        let mut watcher = Watcher::new(Stamp { quality: Quality::Floor, ..stamp(0, T) });
        let look = watcher.look(stamp(1, T + 1000));
        assert!(look.jumped && matches!(look.record, Some(Body::Clock { quality: Quality::System, .. })));
    }

    #[test]
    fn a_thousand_jumps_a_minute_are_two_records_and_the_last_one_tells_the_end() {
        let mut watcher = Watcher::new(stamp(0, T));
        let mut records = Vec::new();
        for s in 1..=180_u64 {
            // A jump at each look of the first minute, then peace an hour off.
            let off = if s <= 60 { i64::try_from(s).unwrap() * 86_400_000 } else { 3_600_000 };
            let wall_ms = T + i64::try_from(s).unwrap() * 1000 + off;
            if let Some(body) = watcher.look(stamp(s, wall_ms)).record {
                records.push((s, body, watcher.journalled()));
            }
        }
        let [(1, _, 1), (61, Body::Clock { old_ms, new_ms, .. }, 60)] = records.as_slice() else {
            panic!("{records:?}")
        };
        assert_eq!((*old_ms, *new_ms), (T + 61_000 + 86_400_000, T + 61_000 + 3_600_000));
    }

    #[test]
    fn a_record_that_was_not_taken_is_offered_again() {
        let mut watcher = Watcher::new(stamp(0, T));
        assert!(watcher.look(stamp(1, T + 10_000_000)).record.is_some());
        let again = watcher.look(stamp(2, T + 10_001_000));
        assert!(!again.jumped && again.record.is_some());
        assert_eq!(watcher.journalled(), 1);
        assert_eq!(watcher.look(stamp(3, T + 10_002_000)).record, None);
    }

    #[tokio::test]
    async fn the_floor_is_stored_when_a_signed_time_raises_it_and_a_disk_that_refuses_is_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let (file, boot) = (dir.path().join("clock"), BootId::from_bytes([4; 16]));
        let clock = Clock::set(boot, std::sync::Arc::default());
        let stop = CancellationToken::new();
        let watching = tokio::spawn(run(clock, file.clone(), |_| true, stop.clone()));
        clock.signed(1, T);
        stop.cancel();
        watching.await.unwrap();
        assert_eq!(floor::load(&file, boot, 0).unwrap().unwrap().at(0), T);
        let stop = CancellationToken::new();
        stop.cancel();
        run(clock, dir.path().join("no such folder/clock"), |_| true, stop).await;
    }
}
