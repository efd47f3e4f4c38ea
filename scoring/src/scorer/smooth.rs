//! Moving mean of the last row scores.

#[derive(Clone, Debug)]
pub(super) struct Smooth {
    ring: Box<[f32]>,
    next: usize,
    len: usize,
    sum: f64,
}

impl Smooth {
    /// Over `rows` scores, at least 1.
    pub(super) fn new(rows: usize) -> Self {
        Smooth { ring: vec![0.0; rows.max(1)].into(), next: 0, len: 0, sum: 0.0 }
    }

    /// Takes a finite score, gives the mean of the last ones with it; at the start, of those there are.
    pub(super) fn mean_with(&mut self, score: f32) -> f32 {
        let old = std::mem::replace(&mut self.ring[self.next], score);
        self.sum += f64::from(score) - f64::from(old); // `old` is 0 until the ring is full
        self.len = (self.len + 1).min(self.ring.len());
        self.next += 1;
        if self.next == self.ring.len() {
            self.next = 0;
            self.sum = self.ring.iter().map(|s| f64::from(*s)).sum(); // rounding never piles up
        }
        (self.sum / self.len as f64) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::Smooth;

    #[test]
    fn the_mean_is_over_the_last_rows_and_at_the_start_over_those_there_are() {
        let mut smooth = Smooth::new(3);
        let means: Vec<f32> = [3.0, 5.0, 7.0, 9.0, 11.0].map(|s| smooth.mean_with(s)).into();
        assert_eq!(means, [3.0, 4.0, 5.0, 7.0, 9.0]);
    }
}
