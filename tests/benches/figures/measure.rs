//! Times of calls, and what they say.

use std::time::{Duration, Instant};

/// Durations of single calls of one contender; a call may handle several records.
#[derive(Debug)]
pub(crate) struct Timings {
    calls_ns: Vec<u64>,
    records_per_call: u64,
}

impl Timings {
    /// Nothing measured yet.
    pub(crate) fn new(records_per_call: u64) -> Self {
        Self { calls_ns: Vec::new(), records_per_call }
    }

    /// Runs `call` once and keeps how long it took.
    pub(crate) fn time<T>(&mut self, call: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = call();
        self.add(start.elapsed());
        result
    }

    /// Keeps a duration measured elsewhere.
    pub(crate) fn add(&mut self, duration: Duration) {
        self.calls_ns.push(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    /// The time per record that this share of the calls stayed within, ns.
    pub(crate) fn quantile_ns(&self, share: f64) -> f64 {
        let mut sorted = self.calls_ns.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        let place = (share * last as f64).round() as usize;
        sorted.get(place).map_or(f64::NAN, |ns| *ns as f64 / self.records_per_call as f64)
    }

    /// All calls together, ns.
    pub(crate) fn total_ns(&self) -> f64 {
        self.calls_ns.iter().sum::<u64>() as f64
    }

    /// Records a second over all calls.
    pub(crate) fn rate(&self) -> f64 {
        (self.calls_ns.len() as u64 * self.records_per_call) as f64 * 1e9 / self.total_ns()
    }
}
