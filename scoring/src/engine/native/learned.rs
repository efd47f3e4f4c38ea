//! The models of ai.onnx.ml as steps: trees, vector machines, linear classifiers, and what stands before and behind them.

use std::fmt;

use crate::engine::graph::Values;
use crate::kernel::labels::{Entries, LabelEncoder, OneHotEncoder};
use crate::kernel::linear::{LinearClassifier, LinearRegressor};
use crate::kernel::scale::{Binarizer, Imputer, Normalizer};
use crate::kernel::svm::{SvmClassifier, SvmRegressor};
use crate::kernel::trees::{TreeClassifier, Trees};

use super::plan::{Inputs, STEP_OUTPUTS};
use super::values::{View, f32s, i64s};

/// A kernel, and how many lines of features one row has: one, but for a graph that folds several into a batch.
#[derive(Debug)]
pub(super) struct Learned {
    pub(super) lines: usize,
    pub(super) model: Learner,
}

/// What was learned.
pub(super) enum Learner {
    Trees(Box<Trees>),
    TreeClassifier(Box<TreeClassifier>),
    LinearRegressor(LinearRegressor),
    LinearClassifier(LinearClassifier),
    SvmRegressor(Box<SvmRegressor>),
    SvmClassifier(Box<SvmClassifier>),
    Normalizer(Normalizer),
    Imputer(Imputer),
    Binarizer(Binarizer),
    Labels(LabelEncoder),
    OneHot(OneHotEncoder),
}

impl fmt::Debug for Learner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Learner::Trees(_) => "Trees",
            Learner::TreeClassifier(_) => "TreeClassifier",
            Learner::LinearRegressor(_) => "LinearRegressor",
            Learner::LinearClassifier(_) => "LinearClassifier",
            Learner::SvmRegressor(_) => "SvmRegressor",
            Learner::SvmClassifier(_) => "SvmClassifier",
            Learner::Normalizer(_) => "Normalizer",
            Learner::Imputer(_) => "Imputer",
            Learner::Binarizer(_) => "Binarizer",
            Learner::Labels(_) => "Labels",
            Learner::OneHot(_) => "OneHot",
        })
    }
}

impl Learned {
    pub(super) fn run(&self, inputs: Inputs<'_>, out: &mut [Values; STEP_OUTPUTS], scratch: &mut [f32]) {
        let lines = inputs.rows * self.lines;
        let x = inputs.get(0).f32();
        let [first, second, _] = out;
        match &self.model {
            Learner::Trees(k) => k.run(lines, x, scratch, f32s(first, lines * k.outputs())),
            Learner::LinearRegressor(k) => k.run(lines, x, f32s(first, lines * k.outputs())),
            Learner::SvmRegressor(k) => k.run(lines, x, scratch, f32s(first, lines)),
            Learner::Normalizer(k) => k.run(lines, x, f32s(first, x.len())),
            Learner::Imputer(k) => k.run(lines, x, f32s(first, x.len())),
            Learner::Binarizer(k) => k.run(x, f32s(first, x.len())),
            Learner::TreeClassifier(k) => {
                k.run(lines, x, scratch, i64s(first, lines), f32s(second, lines * k.outputs()));
            }
            Learner::LinearClassifier(k) => k.run(lines, x, i64s(first, lines), f32s(second, lines * k.outputs())),
            Learner::SvmClassifier(k) => {
                k.run(lines, x, scratch, i64s(first, lines), f32s(second, lines * k.outputs()));
            }
            Learner::Labels(k) => encode(k, inputs.get(0), first),
            Learner::OneHot(k) => match inputs.get(0) {
                View::I64(x) => k.run_ints(x, f32s(first, x.len() * k.categories())),
                View::F32(_) | View::F64(_) | View::U8(_) | View::I8(_) => {
                    k.run_floats(x, f32s(first, x.len() * k.categories()));
                }
            },
        }
    }

    /// Numbers of scratch that it needs for so many rows.
    pub(super) fn scratch(&self, rows: usize) -> usize {
        match &self.model {
            Learner::Trees(k) => k.scratch(rows * self.lines),
            Learner::TreeClassifier(k) => k.scratch(rows * self.lines),
            Learner::SvmRegressor(k) => k.scratch(),
            Learner::SvmClassifier(k) => k.scratch(),
            Learner::LinearRegressor(_)
            | Learner::LinearClassifier(_)
            | Learner::Normalizer(_)
            | Learner::Imputer(_)
            | Learner::Binarizer(_)
            | Learner::Labels(_)
            | Learner::OneHot(_) => 0,
        }
    }
}

fn encode(encoder: &LabelEncoder, x: View<'_>, out: &mut Values) {
    match x {
        View::I64(x) => put(encoder, x.iter().map(|x| encoder.place_of_int(*x)), out),
        View::F32(x) => put(encoder, x.iter().map(|x| encoder.place_of_float(*x)), out),
        // Refused when the step is made.
        View::F64(_) | View::U8(_) | View::I8(_) => {}
    }
}

fn put(encoder: &LabelEncoder, places: impl Iterator<Item = usize>, out: &mut Values) {
    match (encoder.values(), out) {
        (Entries::Floats(_), Values::F32(out)) => {
            out.iter_mut().zip(places).for_each(|(out, place)| *out = encoder.float_at(place));
        }
        (Entries::Ints(_) | Entries::Strings(_), Values::I64(out)) => {
            out.iter_mut().zip(places).for_each(|(out, place)| *out = encoder.int_at(place));
        }
        (_, _) => {}
    }
}
