//! What the registry holds beyond the cursor, as a short list of ranges of sequences. Pure.

/// Ranges `[from, below)`, ascending, neither overlapping nor touching, at most so many.
#[derive(Clone, Debug)]
pub(super) struct Ranges {
    ranges: Vec<(u64, u64)>,
    ranges_max: usize,
}

impl Ranges {
    pub(super) fn new(ranges_max: usize) -> Self {
        Self { ranges: Vec::with_capacity(ranges_max + 1), ranges_max }
    }

    pub(super) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Sequences in all ranges.
    pub(super) fn count(&self) -> u64 {
        self.ranges.iter().map(|(from, below)| below - from).sum()
    }

    /// Adds `[from, below)`. When that is one range too many, the lowest is forgotten and returned.
    #[must_use]
    pub(super) fn insert(&mut self, from: u64, below: u64) -> Option<(u64, u64)> {
        if from >= below {
            return None;
        }
        let first = self.ranges.partition_point(|held| held.1 < from);
        let behind = self.ranges.partition_point(|held| held.0 <= below);
        let touched = self.ranges.drain(first..behind);
        let merged = touched.fold((from, below), |all, held| (all.0.min(held.0), all.1.max(held.1)));
        self.ranges.insert(first, merged);
        (self.ranges.len() > self.ranges_max).then(|| self.ranges.remove(0))
    }

    /// Forgets what lies below `upto`.
    pub(super) fn forget_below(&mut self, upto: u64) {
        self.ranges.retain(|held| held.1 > upto);
        if let Some(first) = self.ranges.first_mut() {
            first.0 = first.0.max(upto);
        }
    }

    pub(super) fn clear(&mut self) {
        self.ranges.clear();
    }

    /// Whether all of `[from, below)` is in them.
    pub(super) fn cover(&self, from: u64, below: u64) -> bool {
        from >= below || self.ranges.iter().any(|held| held.0 <= from && below <= held.1)
    }

    /// The first sequence from `at` on that is in none, and where the next range begins behind it.
    pub(super) fn open_from(&self, at: u64) -> (u64, Option<u64>) {
        let open = self.ranges.iter().find(|held| (held.0..held.1).contains(&at)).map_or(at, |held| held.1);
        (open, self.ranges.iter().find(|held| held.0 > open).map(|held| held.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(of: &[(u64, u64)]) -> Ranges {
        let mut ranges = Ranges::new(8);
        for (from, below) in of {
            assert_eq!(ranges.insert(*from, *below), None);
        }
        ranges
    }

    #[test]
    fn ranges_that_touch_become_one_and_empty_ones_are_none() {
        let mut held = ranges(&[(10, 20), (30, 40), (50, 60), (7, 7)]);
        assert_eq!(held.insert(20, 30), None);
        assert_eq!(held.ranges, [(10, 40), (50, 60)]);
        assert_eq!(held.insert(5, 100), None);
        assert_eq!((held.ranges.as_slice(), held.count()), (&[(5, 100)][..], 95));
    }

    #[test]
    fn a_full_list_forgets_its_lowest_range() {
        let mut held = ranges(&[]);
        for n in 0..8 {
            assert_eq!(held.insert(n * 10, n * 10 + 1), None);
        }
        assert_eq!(held.insert(500, 501), Some((0, 1)));
        assert_eq!(held.len(), 8);
    }

    #[test]
    fn what_is_open_lies_between_the_ranges() {
        let held = ranges(&[(10, 20), (30, 40)]);
        assert_eq!(held.open_from(0), (0, Some(10)));
        assert_eq!(held.open_from(10), (20, Some(30)));
        assert_eq!(held.open_from(25), (25, Some(30)));
        assert_eq!(held.open_from(35), (40, None));
        assert!(held.cover(12, 20) && held.cover(15, 15) && !held.cover(12, 21) && !held.cover(19, 31));
    }

    #[test]
    fn what_the_cursor_has_passed_is_forgotten() {
        let mut held = ranges(&[(10, 20), (30, 40)]);
        held.forget_below(15);
        assert_eq!(held.ranges, [(15, 20), (30, 40)]);
        held.forget_below(30);
        assert_eq!(held.ranges, [(30, 40)]);
        held.forget_below(40);
        assert_eq!(held.len(), 0);
    }
}
