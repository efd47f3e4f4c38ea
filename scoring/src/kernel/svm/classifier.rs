//! `SVMClassifier`: one machine for each pair of classes, and a vote; or one product a class for a linear one.

use super::likeness::{Function, KernelType, Likeness};
use super::pairwise;
use crate::kernel::Refused;
use crate::kernel::labels::Labels;
use crate::kernel::linear::{dot, first_greatest};
use crate::kernel::scores::{Transform, both, count, logistic, probit};

/// Classes whose pairs still fit a record's budget.
const CLASSES_MAX: usize = 1024;

/// `SVMClassifier`'s attributes.
#[derive(Clone, Debug, Default)]
pub(crate) struct SvmClassifierAttributes {
    pub(crate) kernel_type: KernelType,
    /// None, or gamma, coef0 and degree.
    pub(crate) kernel_params: Vec<f32>,
    /// One a class; empty for a linear machine.
    pub(crate) vectors_per_class: Vec<i64>,
    /// All vectors, class by class.
    pub(crate) support_vectors: Vec<f32>,
    /// `(classes - 1) x vectors`, or `classes x features` for a linear machine.
    pub(crate) coefficients: Vec<f32>,
    /// One a pair of classes; the first alone for a linear machine.
    pub(crate) rho: Vec<f32>,
    /// One a pair of classes, or empty.
    pub(crate) prob_a: Vec<f32>,
    pub(crate) prob_b: Vec<f32>,
    /// `classlabels_ints` or `classlabels_strings`.
    pub(crate) labels: Labels,
    pub(crate) post_transform: Transform,
}

#[derive(Clone, Debug)]
enum Machine {
    Pairs {
        likeness: Likeness,
        /// Where each class's vectors begin, and where the last ones end.
        bounds: Vec<usize>,
        rho: Vec<f32>,
        /// `prob_a` and `prob_b` of each pair; empty when the scores are those of the pairs.
        sigmoids: Vec<(f32, f32)>,
    },
    Linear {
        rho: f32,
    },
}

/// A label and `rows x outputs` scores from `rows x features`.
#[derive(Clone, Debug)]
pub(crate) struct SvmClassifier {
    features: usize,
    classes: usize,
    machine: Machine,
    coefficients: Vec<f32>,
    positive_only: bool,
    probabilities: bool,
    labels: Labels,
    transform: Transform,
}

impl SvmClassifier {
    /// # Errors
    /// For lists that do not fit rows of `features` numbers or each other.
    pub(crate) fn new(features: usize, a: &SvmClassifierAttributes) -> Result<SvmClassifier, Refused> {
        let classes = count("the number of class labels", a.labels.len() as i64, CLASSES_MAX)?;
        if a.prob_a.len() != a.prob_b.len() {
            return Err(Refused(format!("prob_a has {} entries and prob_b {}", a.prob_a.len(), a.prob_b.len())));
        }
        let bounds = bounds(&a.vectors_per_class)?;
        let vectors = bounds.last().copied().unwrap_or(0);
        let machine = if vectors > 0 { pairs(features, classes, bounds, a)? } else { linear(features, classes, a)? };
        Ok(SvmClassifier {
            features,
            classes,
            machine,
            coefficients: a.coefficients.clone(),
            positive_only: a.coefficients.iter().all(|c| *c >= 0.0),
            probabilities: !a.prob_a.is_empty(),
            labels: a.labels.clone(),
            transform: a.post_transform,
        })
    }

    /// Columns of the scores: one a class, or without probabilities one a pair of more than two classes.
    pub(crate) fn outputs(&self) -> usize {
        match self.machine {
            Machine::Pairs { .. } if !self.probabilities && self.classes > 2 => pairs_of(self.classes),
            Machine::Pairs { .. } | Machine::Linear { .. } => self.classes,
        }
    }

    /// What the labels of [`SvmClassifier::run`] mean.
    pub(crate) fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Numbers of scratch for [`SvmClassifier::run`], whatever the rows.
    pub(crate) fn scratch(&self) -> usize {
        match &self.machine {
            Machine::Pairs { likeness, .. } => {
                let coupling = self.classes * self.classes + pairwise::scratch(self.classes);
                likeness.width() + pairs_of(self.classes) + self.classes + coupling
            }
            Machine::Linear { .. } => 0,
        }
    }

    /// `labels[rows]` (as [`Labels::of`] gives them) and `scores[rows x outputs]` from `input[rows x features]`.
    pub(crate) fn run(&self, rows: usize, input: &[f32], scratch: &mut [f32], labels: &mut [i64], scores: &mut [f32]) {
        if scratch.len() < self.scratch() {
            return;
        }
        let outs = scores.chunks_exact_mut(self.outputs()).zip(labels.iter_mut());
        for (row, (scores, label)) in input.chunks_exact(self.features).zip(outs).take(rows) {
            *label = match &self.machine {
                Machine::Pairs { .. } => self.vote(row, scratch, scores),
                Machine::Linear { rho } => self.products(row, *rho, scores),
            };
        }
    }

    fn products(&self, row: &[f32], rho: f32, scores: &mut [f32]) -> i64 {
        for (score, coefficients) in scores.iter_mut().zip(self.coefficients.chunks_exact(self.features)) {
            *score = dot(row, coefficients) + rho;
        }
        let best = first_greatest(scores);
        let most = scores[best];
        let enough = if self.positive_only { most >= 0.5 } else { most > 0.0 };
        let class = if self.classes == 2 && !self.probabilities && enough { 1 } else { best };
        match scores {
            [only] if self.transform == Transform::Probit => *only = probit(*only),
            [_] => {}
            _ => self.transform.apply(scores),
        }
        self.labels.of(class)
    }

    fn vote(&self, row: &[f32], scratch: &mut [f32], scores: &mut [f32]) -> i64 {
        let Machine::Pairs { likeness, bounds, rho, sigmoids } = &self.machine else { return 0 };
        let (values, rest) = scratch.split_at_mut(likeness.width());
        let (duels, rest) = rest.split_at_mut(pairs_of(self.classes));
        let (votes, rest) = rest.split_at_mut(self.classes);
        likeness.row(row, values);
        votes.fill(0.0);
        let mut pair = 0;
        for i in 0..self.classes {
            for j in i + 1..self.classes {
                let sum = self.duel(bounds, values, i, j) + f64::from(rho[pair]);
                duels[pair] = sum as f32;
                votes[if sum > 0.0 { i } else { j }] += 1.0;
                pair += 1;
            }
        }
        if sigmoids.is_empty() {
            self.spread(duels, scores)
        } else {
            self.couple(duels, sigmoids, rest, scores)
        }
        self.labels.of(first_greatest(votes))
    }

    /// Class `i` against class `j`.
    fn duel(&self, bounds: &[usize], values: &[f32], i: usize, j: usize) -> f64 {
        let vectors = bounds[self.classes];
        let part = |row: usize, class: usize| {
            let (from, to) = (bounds[class], bounds[class + 1]);
            self.coefficients[row * vectors + from..row * vectors + to].iter().zip(&values[from..to])
        };
        part(j - 1, i).chain(part(i, j)).fold(0.0, |sum, (c, v)| sum + f64::from(c * v))
    }

    /// Scores without probabilities: those of the pairs, and two from the one of a single pair.
    fn spread(&self, duels: &[f32], scores: &mut [f32]) {
        match (duels, &mut *scores) {
            ([score], [negative, positive]) => {
                let other = if self.transform == Transform::None { -score } else { 1.0 - score };
                (*negative, *positive) = both(self.transform, other, *score);
            }
            _ => {
                scores.copy_from_slice(duels);
                self.transform.apply(scores);
            }
        }
    }

    fn couple(&self, duels: &[f32], sigmoids: &[(f32, f32)], scratch: &mut [f32], scores: &mut [f32]) {
        const LEAST: f32 = 1e-7;
        let n = self.classes;
        let (r, rest) = scratch.split_at_mut(n * n);
        let mut pair = 0;
        for i in 0..n {
            for j in i + 1..n {
                let (a, b) = sigmoids[pair];
                let p = (1.0 - logistic(duels[pair] * a + b)).clamp(LEAST, 1.0 - LEAST);
                r[i * n + j] = p;
                r[j * n + i] = 1.0 - p;
                pair += 1;
            }
        }
        pairwise::couple(n, r, rest, scores);
        self.transform.apply(scores);
    }
}

fn pairs_of(classes: usize) -> usize {
    classes * (classes - 1) / 2
}

fn bounds(per_class: &[i64]) -> Result<Vec<usize>, Refused> {
    let mut bounds = vec![0];
    let mut end = 0_usize;
    for n in per_class {
        let next = usize::try_from(*n).ok().and_then(|n| end.checked_add(n));
        end = next.ok_or_else(|| Refused(format!("vectors_per_class has {n}")))?;
        bounds.push(end);
    }
    Ok(bounds)
}

fn pairs(features: usize, classes: usize, bounds: Vec<usize>, a: &SvmClassifierAttributes) -> Result<Machine, Refused> {
    if classes < 2 || bounds.len() != classes + 1 {
        return Err(Refused(format!("vectors_per_class has {} entries for {classes} classes", bounds.len() - 1)));
    }
    let vectors = bounds[classes];
    let function = Function::new(a.kernel_type, &a.kernel_params)?;
    let likeness = Likeness::new(function, features, vectors, &a.support_vectors)?;
    let pairs = pairs_of(classes);
    let at_least = |name: &str, length: usize, wanted: usize| match length >= wanted {
        true => Ok(()),
        false => Err(Refused(format!("{name} has {length} entries instead of {wanted}"))),
    };
    at_least("coefficients", a.coefficients.len(), vectors.saturating_mul(classes - 1))?;
    at_least("rho", a.rho.len(), pairs)?;
    if !a.prob_a.is_empty() {
        at_least("prob_a", a.prob_a.len(), pairs)?;
    }
    let sigmoids = a.prob_a.iter().copied().zip(a.prob_b.iter().copied()).collect();
    Ok(Machine::Pairs { likeness, bounds, rho: a.rho.clone(), sigmoids })
}

fn linear(features: usize, classes: usize, a: &SvmClassifierAttributes) -> Result<Machine, Refused> {
    if features == 0 || classes.checked_mul(features) != Some(a.coefficients.len()) {
        let length = a.coefficients.len();
        return Err(Refused(format!("coefficients has {length} entries for {classes} classes of {features} columns")));
    }
    match a.rho.first() {
        Some(rho) => Ok(Machine::Linear { rho: *rho }),
        None => Err(Refused("SVMClassifier has no rho".into())),
    }
}
