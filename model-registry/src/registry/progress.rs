//! How far a device's journal has come in: pure arithmetic over ranges of sequences.
//!
//! A sequence is *settled* when its record is stored here, or when the device said that it is gone for good. Everything
//! below `upto` is settled, so what is not stored there is absent; beyond it the settled ranges are listed, because a
//! device sends what is new before what has waited.

use serde::{Deserialize, Serialize};

/// Settled ranges beyond `upto` that are listed: live records beyond a backlog are one, and each control record that was
/// sent ahead is one. When they are full, further records are stored and found one by one once `upto` comes to them, and
/// further absences are not taken: the device says them again. At most 5 KiB a journal.
const AHEAD_MAX: usize = 256;

/// How far one journal of a device has come in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// First sequence that is not settled. Kept under a key of its own.
    #[serde(skip)]
    pub(crate) upto: u64,
    /// Settled ranges `[from, below)` beyond `upto`, ascending, neither overlapping nor touching.
    #[serde(default)]
    ahead: Vec<(u64, u64)>,
    /// Sequences that the device said are gone for good.
    #[serde(default)]
    pub(crate) absent: u64,
    /// Records that came although they had been said to be gone.
    #[serde(default)]
    pub(crate) restored: u64,
    /// Records that waited for the connection before they came.
    #[serde(default)]
    pub(crate) late: u64,
}

impl Progress {
    /// Whether `sequence` is settled, as far as the list says.
    pub(crate) fn is_settled(&self, sequence: u64) -> bool {
        sequence < self.upto || self.ahead.iter().any(|(from, below)| (*from..*below).contains(&sequence))
    }

    /// The same with another `upto`.
    pub(crate) fn at(self, upto: u64) -> Progress {
        Progress { upto, ..self }
    }

    /// The longest settled ranges beyond `upto`, ascending, at most `count`: they spare the device the most.
    pub(crate) fn longest(&self, count: usize) -> Vec<(u64, u64)> {
        let mut longest = self.ahead.clone();
        longest.sort_by_key(|(from, below)| std::cmp::Reverse(below - from));
        longest.truncate(count);
        longest.sort_unstable();
        longest
    }

    /// Settles `[from, below)`. False when there is no room to remember it; nothing changes then.
    pub(crate) fn settle(&mut self, from: u64, below: u64) -> bool {
        let mut range = (from.max(self.upto), below);
        if range.0 >= range.1 {
            return true;
        }
        if range.0 == self.upto {
            self.upto = range.1;
            self.swallow();
            return true;
        }
        let touched = |held: &(u64, u64)| held.0 <= range.1 && range.0 <= held.1;
        let (first, count) = (
            self.ahead.partition_point(|held| held.1 < range.0),
            self.ahead.iter().filter(|held| touched(held)).count(),
        );
        if count == 0 && self.ahead.len() >= AHEAD_MAX {
            return false;
        }
        for held in self.ahead.drain(first..first + count) {
            range = (range.0.min(held.0), range.1.max(held.1));
        }
        self.ahead.insert(first, range);
        true
    }

    /// Lets `upto` pass the ranges that it has reached.
    fn swallow(&mut self) {
        let reached = self.ahead.iter().take_while(|held| held.0 <= self.upto).count();
        for held in self.ahead.drain(..reached) {
            self.upto = self.upto.max(held.1);
        }
    }

    /// The parts of `[from, below)` that are not settled, ascending.
    pub(crate) fn open(&self, from: u64, below: u64) -> Vec<(u64, u64)> {
        let mut open = Vec::new();
        let mut at = from.max(self.upto);
        for (held_from, held_below) in &self.ahead {
            if *held_from >= below {
                break;
            }
            if *held_from > at {
                open.push((at, *held_from));
            }
            at = at.max(*held_below);
        }
        if at < below {
            open.push((at, below));
        }
        open
    }
}

/// The ranges that ascending sequences make.
pub(crate) fn runs(sequences: impl IntoIterator<Item = u64>) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for sequence in sequences {
        match runs.last_mut() {
            Some(run) if run.1 == sequence => run.1 = sequence.saturating_add(1),
            Some(_) | None => runs.push((sequence, sequence.saturating_add(1))),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(upto: u64, ahead: &[(u64, u64)]) -> Progress {
        Progress { upto, ahead: ahead.to_vec(), ..Progress::default() }
    }

    #[test]
    fn upto_moves_over_what_it_reaches_and_stops_at_the_first_hole() {
        let mut known = progress(0, &[]);
        assert!(known.settle(0, 10) && known.settle(20, 30) && known.settle(40, 50));
        assert_eq!((known.upto, known.ahead.clone()), (10, vec![(20, 30), (40, 50)]));
        assert!(known.settle(10, 20));
        assert_eq!((known.upto, known.ahead.clone()), (30, vec![(40, 50)]));
        assert!(known.settle(5, 45));
        assert_eq!((known.upto, known.ahead.clone()), (50, vec![]));
    }

    #[test]
    fn ranges_that_touch_or_overlap_become_one() {
        let mut known = progress(0, &[(10, 20), (30, 40), (50, 60)]);
        assert!(known.settle(20, 30));
        assert_eq!(known.ahead, [(10, 40), (50, 60)]);
        assert!(known.settle(35, 100));
        assert_eq!(known.ahead, [(10, 100)]);
        assert!(known.settle(15, 16) && known.settle(7, 8));
        assert_eq!(known.ahead, [(7, 8), (10, 100)]);
        assert!(known.is_settled(7) && !known.is_settled(8) && !known.is_settled(0) && !known.is_settled(100));
    }

    #[test]
    fn what_is_open_is_what_nothing_covers() {
        let known = progress(5, &[(10, 20), (30, 40)]);
        assert_eq!(known.open(0, 50), [(5, 10), (20, 30), (40, 50)]);
        assert_eq!(known.open(12, 18), []);
        assert_eq!(known.open(12, 25), [(20, 25)]);
        assert_eq!(known.open(0, 4), []);
        assert_eq!(known.open(9, 9), []);
    }

    #[test]
    fn the_longest_ranges_are_named_in_their_order() {
        let known = progress(0, &[(1, 2), (3, 13), (20, 22), (30, 35)]);
        assert_eq!(known.longest(2), [(3, 13), (30, 35)]);
        assert_eq!(known.longest(9).len(), 4);
    }

    #[test]
    fn a_full_list_takes_no_new_range_but_lets_old_ones_grow() {
        let mut known = progress(0, &[]);
        for n in 0..AHEAD_MAX as u64 {
            assert!(known.settle(10 + 3 * n, 11 + 3 * n));
        }
        let before = known.clone();
        assert!(!known.settle(1000, 1001));
        assert_eq!(known, before);
        assert!(known.settle(11, 12) && known.settle(0, 10));
        assert_eq!(known.upto, 12);
        assert!(known.settle(1000, 1001), "room came free");
    }

    #[test]
    fn every_way_of_settling_gives_what_a_set_of_numbers_gives() {
        let mut random = 1_u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        for _ in 0..200 {
            let mut known = progress(0, &[]);
            let mut set = std::collections::BTreeSet::new();
            for _ in 0..30 {
                let from = next(100);
                let below = from + next(12);
                assert!(known.settle(from, below));
                set.extend(from..below);
                let upto = (0..).find(|n| !set.contains(n)).unwrap_or_default();
                assert_eq!(known.upto, upto);
                assert_eq!(known.ahead, runs(set.iter().copied().filter(|n| *n > upto)));
                let open: Vec<u64> = known.open(3, 90).into_iter().flat_map(|(from, below)| from..below).collect();
                assert_eq!(open, (3..90).filter(|n| !set.contains(n)).collect::<Vec<_>>());
            }
        }
    }
}
