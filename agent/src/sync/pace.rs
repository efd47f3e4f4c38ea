//! How fast the backlog goes: so many records a second, and after a pause of ours one slice of that at once. Pure.

use std::time::{Duration, Instant};

/// What may be caught up at once after a pause of ours.
const SLICE: Duration = Duration::from_millis(50);

/// When the next batch may go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Records a second.
    rate: u32,
    until: Option<Instant>,
}

impl Pace {
    pub(super) fn new(rate: u32) -> Self {
        Self { rate, until: None }
    }

    /// Until when the next batch waits; it may be over.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// So many records went.
    pub(super) fn went(&mut self, records: usize, now: Instant) {
        let takes = Duration::from_secs(1).mul_f64(records as f64 / f64::from(self.rate.max(1)));
        let slice = now.checked_sub(SLICE).unwrap_or(now);
        self.until = Some(self.until.map_or(slice, |until| until.max(slice)) + takes);
    }
}
