//! Which class a tally names, and the scores beside it, by the rules of ONNX Runtime, which go beyond the operator's text when
//! there are two classes.

use super::attributes::WeightLists;
use super::tally::Tally;
use crate::kernel::Refused;
use crate::kernel::labels::Labels;
use crate::kernel::scores::{Transform, both, probit};

/// The rules of one classifier.
pub(super) struct Verdict {
    columns: usize,
    base_values: Vec<f32>,
    transform: Transform,
    /// Two classes, and all weights belong to one of them.
    one_sided: bool,
    /// No weight is negative: the one number is a probability and decides at 0.5, not at 0.
    probabilities: bool,
}

/// How one number becomes two scores.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spread {
    /// `1 - s` and `s`, or LOGISTIC.
    Complement,
    /// `-s` and `s`, or LOGISTIC.
    Mirror,
    /// The number stays alone; the second score is 0.
    Alone,
}

impl Verdict {
    pub(super) fn new(
        classes: &WeightLists,
        columns: usize,
        base_values: &[f32],
        transform: Transform,
    ) -> Result<Verdict, Refused> {
        let allowed = match columns {
            1 => base_values.len() <= 1,
            2 => base_values.len() <= 2,
            n => base_values.is_empty() || base_values.len() == n,
        };
        if !allowed {
            return Err(Refused(format!("base_values has {} entries for {columns} classes", base_values.len())));
        }
        let first = classes.ids.first();
        Ok(Verdict {
            columns,
            base_values: base_values.to_vec(),
            transform,
            one_sided: columns == 2 && first.is_some() && classes.ids.iter().all(|id| Some(id) == first),
            probabilities: classes.weights.iter().all(|w| *w >= 0.0),
        })
    }

    /// The label, and the scores into `out`.
    pub(super) fn of(&self, tally: Tally<'_>, labels: &Labels, out: &mut [f32]) -> i64 {
        match self.columns {
            1 => self.of_one(tally, out),
            2 => self.of_two(tally, labels, out),
            _ => self.of_many(tally, labels, out),
        }
    }

    fn of_one(&self, mut tally: Tally<'_>, out: &mut [f32]) -> i64 {
        tally.add(0, self.base_values.first().copied().unwrap_or(0.0));
        let score = tally.scores[0];
        out[0] = if self.transform == Transform::Probit { probit(score) } else { score };
        i64::from(score > 0.0)
    }

    fn of_two(&self, mut tally: Tally<'_>, labels: &Labels, out: &mut [f32]) -> i64 {
        let mut alone = !tally.has(1);
        let mut spread = Spread::Alone;
        match *self.base_values.as_slice() {
            [_, base] if tally.has(1) => {
                tally.scores[1] = base + tally.scores[0];
                tally.scores[0] = -tally.scores[1];
            }
            [base, other] => {
                tally.add(1, other);
                tally.add(0, base);
                alone = false;
            }
            [base] => tally.add(0, base),
            _ => spread = Spread::Mirror,
        }
        let weight = if tally.has(1) { tally.scores[1] } else { tally.value(0) };
        let positive = if self.one_sided && self.probabilities { weight > 0.5 } else { weight > 0.0 };
        if self.one_sided {
            spread = if self.probabilities { Spread::Complement } else { Spread::Mirror };
        }
        if alone {
            self.spread(spread, tally.value(0), out);
        } else {
            out[0] = tally.value(0);
            out[1] = tally.value(1);
            self.transform.apply(out);
        }
        // With weights on both sides the labels are 0 and 1, whatever the file calls its classes.
        if self.one_sided { labels.of(usize::from(positive)) } else { i64::from(positive) }
    }

    fn spread(&self, spread: Spread, score: f32, out: &mut [f32]) {
        (out[0], out[1]) = match spread {
            Spread::Complement => both(self.transform, 1.0 - score, score),
            Spread::Mirror => both(self.transform, -score, score),
            Spread::Alone if self.transform == Transform::Probit => (probit(score), 0.0),
            Spread::Alone => (score, 0.0),
        };
    }

    fn of_many(&self, mut tally: Tally<'_>, labels: &Labels, out: &mut [f32]) -> i64 {
        for (column, base) in self.base_values.iter().enumerate() {
            tally.add(column, *base);
            tally.spoke[column] = 1.0;
        }
        let mut best: Option<usize> = None;
        for (column, out) in out.iter_mut().enumerate() {
            if tally.has(column) && best.is_none_or(|b| tally.scores[column] > tally.scores[b]) {
                best = Some(column);
            }
            *out = tally.value(column);
        }
        self.transform.apply(out);
        labels.of(best.unwrap_or(0))
    }
}
