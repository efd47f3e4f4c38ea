//! The mean of the last [`SHORT`] values of each signal.

use super::SHORT;
use super::abreast::{Abreast, LANES, Mask, each, mask};

/// The last values of some signals.
#[derive(Clone, Debug)]
pub(super) struct Short {
    recent: Box<[[f32; LANES]; SHORT]>,
    sum: Abreast,
    rows: Abreast,
    /// Where each lane writes next; the same in all while none has been absent.
    next: [u8; LANES],
    /// Some lane has been absent in some row: from then on each is looked at by itself.
    pub(super) uneven: bool,
}

impl Short {
    pub(super) fn new() -> Self {
        Short {
            recent: Box::new([[0.0; LANES]; SHORT]),
            sum: [0.0; LANES],
            rows: [0.0; LANES],
            next: [0; LANES],
            uneven: false,
        }
    }

    /// The means with the next values.
    #[inline(always)]
    pub(super) fn mean(&mut self, x: &Abreast) -> Abreast {
        let next = self.next[0];
        let row = &mut self.recent[usize::from(next) % SHORT];
        self.sum = each(|i| self.sum[i] + (x[i] - f64::from(row[i]))); // 0 in the first round
        row.iter_mut().zip(x).for_each(|(to, from)| *to = *from as f32);
        self.next = [next + 1; LANES];
        if usize::from(next) + 1 == SHORT {
            (0..LANES).for_each(|lane| self.wrap(lane));
        }
        each(|i| self.sum[i] * (1.0 / SHORT as f64))
    }

    /// The same where some are absent, now or before.
    #[cold]
    pub(super) fn mean_in(&mut self, x: &Abreast, on: &Mask) -> Abreast {
        self.uneven |= on.contains(&0);
        for lane in (0..LANES).filter(|i| on[*i] != 0) {
            let at = &mut self.recent[usize::from(self.next[lane]) % SHORT][lane];
            self.sum[lane] += x[lane] - f64::from(*at);
            *at = x[lane] as f32;
            self.next[lane] += 1;
            if usize::from(self.next[lane]) == SHORT {
                self.wrap(lane);
            }
        }
        each(|i| self.sum[i] * (1.0 / SHORT as f64))
    }

    /// At the ring's end the sum is taken anew: rounding never piles up.
    #[cold]
    fn wrap(&mut self, lane: usize) {
        self.next[lane] = 0;
        self.rows[lane] = SHORT as f64;
        self.sum[lane] = self.recent.iter().map(|row| f64::from(row[lane])).sum();
    }

    /// The lanes that have seen [`SHORT`] values.
    #[inline(always)]
    pub(super) fn full(&self) -> Mask {
        mask(|i| self.rows[i] > 0.0)
    }
}
