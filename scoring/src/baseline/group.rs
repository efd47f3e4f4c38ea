//! What the detector knows of [`LANES`] signals, and how it takes their next values.

use crate::kernel::lanes::Isa;

use super::abreast::{Abreast, LANES, Mask, any, bits, each, mask, only, pick, within};
use super::autoregression::Autoregression;
use super::rolling::Rolling;
use super::short::Short;
use super::{
    BASE_DEVIATIONS, DISTANCE_MAX, ERROR_ROWS, ERROR_UNIT, MEAN_ROWS, MEAN_UNIT, REBASE, ROUNDING, TINY, VALUE_ROWS,
    VALUE_UNIT, WARM,
};

/// The state of some signals.
#[derive(Clone, Debug)]
pub(super) struct Group {
    values: Rolling,
    means: Rolling,
    errors: Rolling,
    predictor: Autoregression,
    /// Centre and one over the width in which the predictor sees values; no width yet: 0.
    centre: Abreast,
    per_width: Abreast,
    far_rows: Abreast,
    short: Short,
}

impl Group {
    pub(super) fn new() -> Self {
        Group {
            values: Rolling::new(VALUE_ROWS),
            means: Rolling::new(MEAN_ROWS),
            errors: Rolling::new(ERROR_ROWS),
            predictor: Autoregression::new(),
            centre: [0.0; LANES],
            per_width: [0.0; LANES],
            far_rows: [0.0; LANES],
            short: Short::new(),
        }
    }

    /// How strange the next values are, in units of which e^-(a third) is left; 0 for those that are not finite.
    #[inline(always)]
    pub(super) fn step<I: Isa>(&mut self, isa: I, values: &[f32; LANES]) -> [f32; LANES] {
        let x = each(|i| f64::from(values[i]));
        let on = mask(|i| x[i].abs() <= f64::from(f32::MAX));
        let x = each(|i| only(on[i], x[i]));
        let before = self.values.rows();
        let enough = mask(|i| before[i] >= WARM);
        let warm = bits(|i| on[i] & enough[i]);
        let mut scaled = each(|i| (x[i] - self.centre[i]) * self.per_width[i]);
        let far = mask(|i| scaled[i].abs() > REBASE);
        self.far_rows = each(|i| pick(warm[i], only(far[i], self.far_rows[i] + 1.0), self.far_rows[i]));
        let (new, gone) = (mask(|i| self.per_width[i] == 0.0), mask(|i| self.far_rows[i] >= WARM));
        let homeless = bits(|i| warm[i] & (new[i] | gone[i]));
        let first = mask(|i| before[i] == 0.0);
        let unusual = any(&bits(|i| homeless[i] | first[i] | !on[i]));
        if unusual {
            scaled = self.settle_in(&x, &bits(|i| on[i] & first[i]), &homeless);
        }

        let predicted = self.predictor.error(isa, &scaled, &warm);
        let surprise = self.errors.excess(isa, &predicted.size);
        let errors_ended = self.errors.push(isa, &predicted.size, &predicted.of);
        let away = self.values.distance(isa, &x);
        let values_ended = self.values.push(isa, &x, &on);
        let mean = if unusual || self.short.uneven {
            self.predictor.shift_in(&scaled, &on);
            self.short.mean_in(&x, &on)
        } else {
            self.predictor.shift(&scaled);
            self.short.mean(&x)
        };
        let full = self.short.full();
        let moves = bits(|i| on[i] & full[i]);
        let moved = self.means.distance(isa, &mean);
        let means_ended = self.means.push(isa, &mean, &moves);
        let ends = Ends { errors: errors_ended, values: values_ended, means: means_ended, broken: predicted.broken };
        if any(&bits(|i| ends.errors[i] | ends.values[i] | ends.means[i] | ends.broken[i])) {
            self.turn(&ends);
        }

        let part =
            |square: f64, unit: f64| (within(square, DISTANCE_MAX * DISTANCE_MAX) as f32).sqrt() * (1.0 / unit) as f32;
        let mut units = [0.0; LANES];
        for (i, units) in units.iter_mut().enumerate() {
            *units = part(only(predicted.of[i], surprise[i]), ERROR_UNIT)
                + part(only(on[i], away[i]), VALUE_UNIT)
                + part(only(moves[i], moved[i]), MEAN_UNIT);
        }
        units
    }

    /// The first value of a signal says about how large its values and their means are; signals without a base, or that have
    /// left theirs for long, get one. Gives the values as the predictors are to see them.
    #[cold]
    fn settle_in(&mut self, x: &Abreast, first: &Mask, homeless: &Mask) -> Abreast {
        for lane in (0..LANES).filter(|i| first[*i] != 0) {
            self.values.begin(lane, x[lane]);
            self.means.begin(lane, x[lane]);
        }
        for lane in (0..LANES).filter(|i| homeless[*i] != 0) {
            let (mean, deviation) = self.values.mean_and_deviation(lane);
            self.centre[lane] = mean;
            self.per_width[lane] = 1.0 / (deviation * BASE_DEVIATIONS).max(mean.abs() * ROUNDING).max(TINY);
            self.far_rows[lane] = 0.0;
            self.predictor.restart(lane);
        }
        each(|i| (x[i] - self.centre[i]) * self.per_width[i])
    }

    /// Blocks of the windows that are full, and what is to be done now and then.
    #[cold]
    fn turn(&mut self, ends: &Ends) {
        self.values.turn(&ends.values);
        self.means.turn(&ends.means);
        self.errors.turn(&ends.errors);
        self.predictor.mend(&ends.broken);
        self.predictor.settle(&ends.errors);
    }
}

/// What ended with a row, by lane.
struct Ends {
    errors: Mask,
    values: Mask,
    means: Mask,
    broken: Mask,
}
