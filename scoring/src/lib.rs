//! Samples to windows, windows to scores, scores to decisions: everything that thinks about telemetry. Nothing here knows a
//! network, a clock or a journal.
//!
//! The device, the backtest and the registry's check all run [`StreamScorer`] over a [`Model`]; that is why they agree.
//!
//! | room | one sentence |
//! |---|---|
//! | [`sample`](Sample) | rows as a source gives them, and the schema that names their columns |
//! | features | a contract's transforms, fills and window over raw rows |
//! | engine | runs a graph: by a plan of our own, or by tract, which only this room names |
//! | kernel | the arithmetic of the native engine, over plain slices |
//! | [`model`](Model) | a graph and its manifest: what goes in, what the numbers mean |
//! | [`scorer`](StreamScorer) | one stream, row by row, to decisions |
//! | [`baseline`] | the built-in detector that needs no model |
//! | [`eval`] | how good decisions are, against labels |
//! | [`replay`] | CSV files as streams |
//! | [`backtest`] | a whole file through the device's path, and what came of it |
//! | [`selftest`] | a manifest's vectors against its model |
//! | [`trial`] | a model that nobody has tried, in a child process with limits |

pub mod backtest;
pub mod baseline;
pub mod eval;
pub mod replay;
pub mod selftest;
pub mod trial;

mod clock;
mod decision;
mod engine;
mod features;
// Some kernels are tested and not yet asked by any plan: eight-bit layers, causal convolutions a sample at a time, columns that
// labels pick. They are to be wired in or to go, and this line with them.
#[allow(dead_code, unused_imports)]
mod kernel;
mod model;
mod sample;
mod scorer;

pub use decision::{Decision, Share, Top};
pub use engine::{
    BATCH_ROWS, EngineChoice, EngineError, EngineKind, Network, NumberKind, Numbers, Outputs, Port, RunError, Runner,
};
pub use features::ContractMismatch;
pub use model::{LoadError, Model, Session};
pub use sample::{Rows, Sample, Schema, SchemaError};
pub use scorer::{Explain, FINDING_REPEAT_ROWS, KEPT_ROWS, StreamScorer};
