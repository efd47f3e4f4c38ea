//! Pure arithmetic over slices: takes the attributes of an ONNX operator, checks them once, and runs without allocating. Knows
//! no graph and no file.
//!
//! Every kernel is built by a constructor that refuses what it cannot run for sure, in one sentence, and afterwards runs on
//! buffers that the caller made: sizes that do not fit are the caller's fault and give less output, never a panic.
//! A row's result never depends on the rows that are run beside it.

pub(crate) mod labels;
pub(crate) mod linear;
pub(crate) mod scale;
pub(crate) mod scores;
pub(crate) mod svm;
pub(crate) mod trees;

/// Why an operator's attributes cannot be run: one sentence that names the attribute.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refused(pub(crate) String);

impl Refused {
    /// The sentence, from anything that reads as one.
    pub(crate) fn because(sentence: impl Into<String>) -> Refused {
        Refused(sentence.into())
    }
}
