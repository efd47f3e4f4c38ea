//! How long a sample waited for its decision: a histogram that one thread writes and others read, without a lock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Steps in each doubling: a value is known to 1/8, 12.5 %.
const STEPS: u64 = 8;

/// Doublings from 8 ns on: 8 ns x 2^36 is 9 minutes; longer waits count in the last bucket.
const DOUBLINGS: u64 = 36;

const BUCKETS: usize = ((DOUBLINGS + 1) * STEPS) as usize;

/// A histogram of durations in ns; 2.4 KB.
#[derive(Debug)]
pub struct Latency {
    counts: [AtomicU64; BUCKETS],
}

impl Default for Latency {
    fn default() -> Self {
        Self { counts: [const { AtomicU64::new(0) }; BUCKETS] }
    }
}

impl Latency {
    /// Counts `times` durations of `ns`.
    pub fn record(&self, ns: u64, times: u64) {
        if let Some(count) = self.counts.get(bucket(ns)) {
            count.fetch_add(times, Relaxed);
        }
    }

    /// The duration in ns that the share `q` (0..=1) of all do not exceed, up to 12.5 % above the truth; `None` before
    /// the first.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<u64> {
        let counts: Vec<u64> = self.counts.iter().map(|c| c.load(Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        if total == 0 {
            return None;
        }
        // Ranks fit f64 exactly up to 2^53 samples: 2,800 years at 100k/s.
        let rank = ((total as f64 * q).ceil() as u64).clamp(1, total);
        let mut seen = 0;
        let at = counts.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some(upper_edge(at as u64))
    }
}

fn bucket(ns: u64) -> usize {
    let at = if ns < STEPS {
        ns
    } else {
        let doubling = u64::from(ns.ilog2()) - 2;
        let step = (ns >> (doubling - 1)) & (STEPS - 1);
        doubling * STEPS + step
    };
    usize::try_from(at).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// The largest duration of a bucket, ns.
fn upper_edge(bucket: u64) -> u64 {
    let (doubling, step) = (bucket / STEPS, bucket % STEPS);
    if doubling == 0 { step } else { ((STEPS + step + 1) << (doubling - 1)) - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_lies_in_its_bucket_and_the_edge_is_at_most_an_eighth_above() {
        for ns in (0..5000_u64).chain((0..30).map(|k| 12_345_u64 << k).take_while(|ns| *ns < 1 << 38)) {
            let edge = upper_edge(bucket(ns) as u64);
            assert!(edge >= ns && edge - ns <= ns / 8, "{ns} ns in a bucket up to {edge}");
        }
    }

    #[test]
    fn quantiles_are_those_of_the_durations() {
        let latency = Latency::default();
        assert_eq!(latency.quantile(0.5), None);
        latency.record(1_000, 98);
        latency.record(1_000_000, 2);
        let near = |q: f64, truth: u64| {
            let said = latency.quantile(q).unwrap_or(0);
            assert!(said >= truth && said <= truth + truth / 8, "{q}: {said} for {truth}");
        };
        near(0.5, 1_000);
        near(0.98, 1_000);
        near(0.99, 1_000_000);
    }

    #[test]
    fn a_wait_beyond_the_last_bucket_is_still_counted() {
        let latency = Latency::default();
        latency.record(u64::MAX, 1);
        assert!(latency.quantile(1.0).is_some_and(|ns| ns > 300_000_000_000));
    }
}
