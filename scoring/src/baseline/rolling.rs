//! Mean and standard deviation over about the last N numbers, in constant time a number.
//!
//! The window slides by blocks: it holds `BLOCKS` full blocks and the one being filled, so 20 times 16 bytes stand for
//! 1000 or 4000 numbers and a stream of 64 signals stays below 100 KiB of sums.

/// Blocks a window is cut into: the window's true length is N to N + N / 20.
const BLOCKS: usize = 20;

/// Sum and sum of squares of `x - pivot`.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    sum: f64,
    squares: f64,
}

impl Sums {
    fn add(self, other: Sums) -> Sums {
        Sums { sum: self.sum + other.sum, squares: self.squares + other.squares }
    }
}

/// A window over about the last `rows` numbers.
#[derive(Clone, Debug)]
pub(super) struct Rolling {
    full: [Sums; BLOCKS],
    oldest: usize,
    full_blocks: usize,
    /// Sum over `full`, taken anew whenever a block ends, so rounding errors never pile up.
    settled: Sums,
    open: Sums,
    open_rows: u32,
    block_rows: u32,
    /// The first number: a large offset does not eat the digits of the variance. With f32 numbers (24 bits) in f64 sums
    /// (53 bits) it may stay for good.
    pivot: f64,
}

impl Rolling {
    pub(super) fn new(rows: u32) -> Self {
        Rolling {
            full: [Sums::default(); BLOCKS],
            oldest: 0,
            full_blocks: 0,
            settled: Sums::default(),
            open: Sums::default(),
            open_rows: 0,
            block_rows: rows.div_ceil(BLOCKS as u32).max(1),
            pivot: 0.0,
        }
    }

    /// Numbers in the window.
    pub(super) fn rows(&self) -> u32 {
        self.full_blocks as u32 * self.block_rows + self.open_rows
    }

    /// Adds a finite number.
    pub(super) fn push(&mut self, x: f64) {
        if self.rows() == 0 {
            self.pivot = x;
        }
        let d = x - self.pivot;
        self.open = self.open.add(Sums { sum: d, squares: d * d });
        self.open_rows += 1;
        if self.open_rows == self.block_rows {
            self.full[self.oldest] = std::mem::take(&mut self.open);
            self.open_rows = 0;
            self.oldest = (self.oldest + 1) % BLOCKS;
            self.full_blocks = (self.full_blocks + 1).min(BLOCKS);
            self.settled = self.full.iter().fold(Sums::default(), |a, b| a.add(*b));
        }
    }

    /// Mean and sample standard deviation (n - 1); (0, 0) when empty, deviation 0 below two numbers.
    pub(super) fn mean_and_deviation(&self) -> (f64, f64) {
        let rows = self.rows();
        if rows == 0 {
            return (0.0, 0.0);
        }
        let (n, all) = (f64::from(rows), self.settled.add(self.open));
        let mean = all.sum / n;
        let variance = if rows < 2 { 0.0 } else { (all.squares - all.sum * mean) / (n - 1.0) };
        (self.pivot + mean, variance.max(0.0).sqrt())
    }
}
