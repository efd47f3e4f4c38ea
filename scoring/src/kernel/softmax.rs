//! Softmax, its logarithm, and log-sum-exp over rows that lie one after another.
//!
//! The largest number of a row is taken out before anything is raised to a power, so large inputs neither overflow nor lose
//! their digits. Sums are of sixteen lanes first and then of the lanes in pairs, whatever the instruction set.

use super::elementary::approximate::{at_least, exp, log};
use super::lanes::{Block, Body, Isa, Lanes, WIDTH};

/// What becomes of each row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Softmax {
    /// exp(x) over the row's sum of exp(x).
    Share,
    /// The logarithm of [`Softmax::Share`].
    LogShare,
}

impl Softmax {
    /// Rewrites each whole row of `width` numbers in place. A width of 0 does nothing.
    pub(crate) fn run(self, lanes: Lanes, width: usize, values: &mut [f32]) {
        lanes.run(Rows { form: self, width, values });
    }
}

/// `out[i]` becomes the logarithm of the sum of exp over row `i` of `width` numbers of `values`, which are used up.
pub(crate) fn log_sum_exp(lanes: Lanes, width: usize, values: &mut [f32], out: &mut [f32]) {
    lanes.run(LogSumExp { width, values, out });
}

struct Rows<'a> {
    form: Softmax,
    width: usize,
    values: &'a mut [f32],
}

impl Body for Rows<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        for row in self.values.chunks_exact_mut(self.width.max(1)) {
            let most = largest(row);
            match self.form {
                Softmax::Share => {
                    let total = exps_in_place(isa, row, most);
                    row.iter_mut().for_each(|x| *x /= total);
                }
                Softmax::LogShare => {
                    let total = exps_summed(isa, row, most);
                    let taken = log(isa, total);
                    row.iter_mut().for_each(|x| *x = (*x - most) - taken);
                }
            }
        }
    }
}

struct LogSumExp<'a> {
    width: usize,
    values: &'a mut [f32],
    out: &'a mut [f32],
}

impl Body for LogSumExp<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        for (row, out) in self.values.chunks_exact_mut(self.width.max(1)).zip(self.out) {
            let most = largest(row);
            *out = if most.is_infinite() { most } else { most + log(isa, exps_in_place(isa, row, most)) };
        }
    }
}

#[inline(always)]
fn largest(row: &[f32]) -> f32 {
    let (blocks, rest) = row.as_chunks::<WIDTH>();
    let mut most: Block = [f32::NEG_INFINITY; WIDTH];
    for block in blocks {
        for (most, x) in most.iter_mut().zip(block) {
            *most = at_least(*x, *most);
        }
    }
    most.iter().chain(rest).fold(f32::NEG_INFINITY, |most, x| if *x > most { *x } else { most })
}

/// Each number becomes exp(x - most); returns their sum.
#[inline(always)]
fn exps_in_place<I: Isa>(isa: I, row: &mut [f32], most: f32) -> f32 {
    let mut sums: Block = [0.0; WIDTH];
    let (blocks, rest) = row.as_chunks_mut::<WIDTH>();
    for block in blocks {
        let mut raised: Block = [0.0; WIDTH];
        for lane in 0..WIDTH {
            raised[lane] = exp(isa, block[lane] - most);
            sums[lane] += raised[lane];
        }
        *block = raised;
    }
    for (x, sum) in rest.iter_mut().zip(&mut sums) {
        *x = exp(isa, *x - most);
        *sum += *x;
    }
    in_pairs(sums)
}

/// The sum of exp(x - most).
#[inline(always)]
fn exps_summed<I: Isa>(isa: I, row: &[f32], most: f32) -> f32 {
    let mut sums: Block = [0.0; WIDTH];
    for chunk in row.chunks(WIDTH) {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += exp(isa, *x - most);
        }
    }
    in_pairs(sums)
}

/// The sum of sixteen lanes, always in the same pairs.
#[inline(always)]
pub(crate) fn in_pairs(mut lanes: Block) -> f32 {
    let mut half = WIDTH / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<f32> {
        (0..3 * 37).map(|i| ((i * 7919) % 101) as f32 * 0.3 - 10.0).collect()
    }

    fn reference(row: &[f32]) -> Vec<f64> {
        let most = row.iter().fold(f64::NEG_INFINITY, |m, x| m.max(f64::from(*x)));
        let raised: Vec<f64> = row.iter().map(|x| (f64::from(*x) - most).exp()).collect();
        let total: f64 = raised.iter().sum();
        raised.iter().map(|x| x / total).collect()
    }

    #[test]
    fn shares_and_their_logarithms_are_right_for_any_width() {
        for lanes in [Lanes::detected(), Lanes::portable()] {
            let (mut shares, mut logs) = (rows(), rows());
            Softmax::Share.run(lanes, 37, &mut shares);
            Softmax::LogShare.run(lanes, 37, &mut logs);
            for (at, row) in rows().chunks(37).enumerate() {
                for (i, want) in reference(row).iter().enumerate() {
                    assert!((f64::from(shares[at * 37 + i]) - want).abs() <= 4e-6 * want, "{i}");
                    assert!((f64::from(logs[at * 37 + i]) - want.ln()).abs() <= 1e-6 * (1.0 + want.ln().abs()), "{i}");
                }
            }
        }
    }

    #[test]
    fn large_numbers_neither_overflow_nor_vanish() {
        let mut values = [1000.0, 1000.0, -1000.0, -1000.0];
        let mut out = [0.0; 2];
        log_sum_exp(Lanes::detected(), 2, &mut values, &mut out);
        let ln_2 = std::f32::consts::LN_2;
        assert_eq!(out, [1000.0 + ln_2, -1000.0 + ln_2]);
        let mut none = [f32::NEG_INFINITY; 2];
        log_sum_exp(Lanes::detected(), 2, &mut none, &mut out[..1]);
        assert_eq!(out[0], f32::NEG_INFINITY);
    }

    #[test]
    fn not_a_number_spoils_its_own_row_only() {
        let mut values = [1.0, f32::NAN, 2.0, 3.0];
        Softmax::Share.run(Lanes::detected(), 2, &mut values);
        assert!(values[0].is_nan() && values[1].is_nan() && values[3] > values[2]);
    }
}
