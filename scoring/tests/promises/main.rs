//! What this crate promises, held over real models and real telemetry. One binary, because linking the engine takes long.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod allocations;
mod backtests;
mod coverage;
mod crooked;
mod engines;
mod golden;
mod hostile;
mod made;
mod metrics;
mod mutated;
mod nab;
mod onnx;
mod rare;
mod replays;
mod stateful;
mod streams;
mod zoo;
