//! `SVMRegressor` and `SVMClassifier`: how near a row is to each support vector, weighted and added.
//!
//! The support vectors stand in blocks, feature by feature ([`likeness`]), so that a block's sums grow side by side, each in the
//! order of the features.

mod classifier;
mod likeness;
mod pairwise;
mod regressor;

pub(crate) use classifier::{SvmClassifier, SvmClassifierAttributes};
pub(crate) use likeness::KernelType;
pub(crate) use regressor::{SvmRegressor, SvmRegressorAttributes};
