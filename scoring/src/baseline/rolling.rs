//! Mean and standard deviation over about the last N numbers of each signal, in constant time a number.
//!
//! The window slides by blocks: it holds `BLOCKS` full blocks and the one being filled, so 20 times 16 bytes stand for
//! 1000 or 4000 numbers and a stream of 64 signals stays below 100 KiB of sums.
//!
//! With n numbers of sum S and squares Q, both of differences to a pivot p, and d = x - p: the distance of x from the mean, in
//! standard deviations (n - 1), has the square (n d - S)² (n - 1) / (n (n Q - S²)). So a distance costs one division
//! and no root; the root is taken where the three signs are added up.

use crate::kernel::lanes::Isa;

use super::abreast::{Abreast, LANES, Mask, each, mask, only};
use super::{ROUNDING, TINY, WARM};

/// Blocks a window is cut into: the window's true length is N to N + N / 20.
const BLOCKS: usize = 20;

/// Windows over about the last `rows` numbers of each signal.
#[derive(Clone, Debug)]
pub(super) struct Rolling {
    /// About the first number: a large offset does not eat the digits of the variance. With f32 numbers (24 bits) in f64 sums
    /// (53 bits) it may stay for good.
    pivot: Abreast,
    /// Over the full blocks, taken anew whenever a block ends, so rounding errors never pile up.
    settled_sum: Abreast,
    settled_squares: Abreast,
    settled_rows: Abreast,
    open_sum: Abreast,
    open_squares: Abreast,
    open_rows: Abreast,
    /// The square of the least deviation that counts; as of the last end of a block.
    floor: Abreast,
    block_rows: f64,
    /// Sum and squares of each full block.
    full: Box<[[Abreast; 2]; BLOCKS]>,
    oldest: [u8; LANES],
}

impl Rolling {
    pub(super) fn new(rows: u32) -> Self {
        Rolling {
            pivot: [0.0; LANES],
            settled_sum: [0.0; LANES],
            settled_squares: [0.0; LANES],
            settled_rows: [0.0; LANES],
            open_sum: [0.0; LANES],
            open_squares: [0.0; LANES],
            open_rows: [0.0; LANES],
            floor: [TINY * TINY; LANES],
            block_rows: f64::from(rows.div_ceil(BLOCKS as u32).max(1)),
            full: Box::new([[[0.0; LANES]; 2]; BLOCKS]),
            oldest: [0; LANES],
        }
    }

    /// Before a lane's first number: about how large its numbers are.
    pub(super) fn begin(&mut self, lane: usize, pivot: f64) {
        self.pivot[lane] = pivot;
        self.floor[lane] = floor(pivot);
    }

    /// Numbers in each window.
    #[inline(always)]
    pub(super) fn rows(&self) -> Abreast {
        each(|i| self.settled_rows[i] + self.open_rows[i])
    }

    /// Adds the numbers of the lanes in `on`; gives the lanes whose block is full, for [`turn`](Self::turn).
    #[inline(always)]
    pub(super) fn push<I: Isa>(&mut self, isa: I, x: &Abreast, on: &Mask) -> Mask {
        let d = each(|i| only(on[i], x[i] - self.pivot[i]));
        self.open_sum = each(|i| self.open_sum[i] + d[i]);
        self.open_squares = each(|i| isa.mul_add_f64(d[i], d[i], self.open_squares[i]));
        self.open_rows = each(|i| self.open_rows[i] + only(on[i], 1.0));
        mask(|i| self.open_rows[i] >= self.block_rows)
    }

    /// Closes the blocks of these lanes.
    pub(super) fn turn(&mut self, ended: &Mask) {
        for i in (0..LANES).filter(|i| ended[*i] != 0) {
            let at = usize::from(self.oldest[i]) % BLOCKS;
            self.full[at][0][i] = std::mem::take(&mut self.open_sum[i]);
            self.full[at][1][i] = std::mem::take(&mut self.open_squares[i]);
            self.open_rows[i] = 0.0;
            self.oldest[i] = ((at + 1) % BLOCKS) as u8;
            self.settled_rows[i] = (self.settled_rows[i] + self.block_rows).min(self.block_rows * BLOCKS as f64);
            self.settled_sum[i] = self.full.iter().map(|[sums, _]| sums[i]).sum();
            self.settled_squares[i] = self.full.iter().map(|[_, squares]| squares[i]).sum();
            self.floor[i] = floor(self.pivot[i] + self.settled_sum[i] / self.settled_rows[i]);
        }
    }

    /// The square of how many deviations each number is away from the mean of what went before; 0 while too little did.
    #[inline(always)]
    pub(super) fn distance<I: Isa>(&self, isa: I, x: &Abreast) -> Abreast {
        let (z, _) = self.square(isa, x);
        z
    }

    /// The same of numbers above the mean; 0 for those below.
    #[inline(always)]
    pub(super) fn excess<I: Isa>(&self, isa: I, x: &Abreast) -> Abreast {
        let (z, away) = self.square(isa, x);
        let above = mask(|i| away[i] > 0.0);
        each(|i| only(above[i], z[i]))
    }

    /// The square, and a number with the sign of the distance.
    #[inline(always)]
    fn square<I: Isa>(&self, isa: I, x: &Abreast) -> (Abreast, Abreast) {
        let n = self.rows();
        let sum = each(|i| self.settled_sum[i] + self.open_sum[i]);
        let squares = each(|i| self.settled_squares[i] + self.open_squares[i]);
        let away = each(|i| isa.mul_add_f64(n[i], x[i] - self.pivot[i], -sum[i]));
        let spread = each(|i| n[i] * isa.mul_add_f64(n[i], squares[i], -(sum[i] * sum[i])));
        let least = each(|i| self.floor[i] * (n[i] * n[i] * (n[i] - 1.0)));
        let spread = each(|i| if spread[i] > least[i] { spread[i] } else { least[i] });
        let z = each(|i| away[i] * away[i] * (n[i] - 1.0) / spread[i]);
        let enough = mask(|i| n[i] >= WARM);
        (each(|i| only(enough[i], z[i])), away)
    }

    /// Mean and sample standard deviation (n - 1) of one signal; (0, 0) when empty, deviation 0 below two numbers.
    pub(super) fn mean_and_deviation(&self, lane: usize) -> (f64, f64) {
        let n = self.rows()[lane];
        if n < 1.0 {
            return (0.0, 0.0);
        }
        let sum = self.settled_sum[lane] + self.open_sum[lane];
        let squares = self.settled_squares[lane] + self.open_squares[lane];
        let mean = sum / n;
        let variance = if n < 2.0 { 0.0 } else { (squares - sum * mean) / (n - 1.0) };
        (self.pivot[lane] + mean, variance.max(0.0).sqrt())
    }
}

/// A deviation below a part of the mean is rounding of f32, and none is below [`TINY`].
fn floor(mean: f64) -> f64 {
    let least = (mean.abs() * ROUNDING).max(TINY);
    least * least
}
