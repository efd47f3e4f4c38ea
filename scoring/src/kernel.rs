//! Pure arithmetic over slices: what a plan's steps do. Nothing here knows a graph, a file or a clock.
//!
//! A kernel is made once from plain numbers as an ONNX file has them, checked then, and run on buffers that the caller keeps:
//! no allocation, no panic, no lookup by name while it runs. Three rules hold for every kernel:
//!
//! - **A row's bits never depend on its company.** Kernels vectorise over outputs or over independent rows, and add up in one
//!   fixed order, so one row alone and the same row among sixty-four give the same bits, on any thread.
//! - **One body, several instruction sets** ([`lanes`]): the same formula in the same order everywhere; only whether a multiply
//!   and an add round once or twice differs between machines.
//! - **Slices that are too short are not an error while scoring**: a kernel runs the rows that fit.

#[cfg(test)]
mod cases;
pub(crate) mod convolution;
pub(crate) mod dense;
pub(crate) mod elementary;
pub(crate) mod labels;
pub(crate) mod lanes;
pub(crate) mod linear;
pub(crate) mod quantized;
pub(crate) mod recurrent;
#[cfg(test)]
mod reference;
pub(crate) mod scale;
pub(crate) mod scores;
pub(crate) mod softmax;
pub(crate) mod svm;
pub(crate) mod trees;

/// Why a kernel cannot be made of these numbers: one clear sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refused(pub(crate) String);
