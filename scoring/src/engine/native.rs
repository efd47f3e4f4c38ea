//! The engine of the house: a graph becomes a flat list of steps over preallocated buffers.
//!
//! * **One row at a time, many rows at once.** A graph is compiled for a batch of exactly one row: every size is a plain number, every
//!   `Shape`, `Gather`, `Concat` and `Reshape` that an exporter wrote to move sizes around is folded away. Each step then runs over
//!   any number of rows: in memory the rows lie one after the other, whatever axis the graph thinks its batch is. So no row
//!   can see another, and its result can't depend on how many run together.
//! * **Compiling** ([`build`]): nodes in order of need; what depends on no input is computed at once by the kernel that would
//!   run it and becomes a constant; `Reshape` and its like are the same numbers under another shape; at the end products take up
//!   the addition and the activation behind them ([`fuse`]) and buffers are shared by what never lives at the same time.
//! * **Running** ([`plan`]): the loop over the steps matches an enum, allocates nothing, can't fail and does not panic: sizes, kinds
//!   and indices were proven when the step was made. An index that comes from the data is held within bounds.
//! * **Limits** stand before the allocation that they guard: numbers of one tensor, bytes of a row's buffers, bytes of
//!   constants, and work that is done while folding.

mod attributes;
mod build;
mod distance;
mod elementwise;
mod forest;
mod fuse;
mod learned;
mod matrix;
mod movement;
mod operators;
mod pair;
mod places;
mod plan;
mod quantized;
mod reduce;
mod sequence;
mod values;

use super::graph::Graph;

pub(crate) use plan::{Plan, Result as Output, Runner};

/// Why a graph has no plan.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Unfit {
    /// Operators that are not in the native set.
    Unknown(Vec<String>),
    /// A form of a known operator that is not in the native set: another engine may know it.
    Unsupported(String),
    /// No engine should be given this.
    Refused(String),
}

/// Compiles `graph` for rows of `shape`; `outputs` are positions among the graph's.
pub(super) fn compile(graph: &Graph, shape: &[usize], outputs: &[usize]) -> Result<Plan, Unfit> {
    build::compile(graph, shape, outputs)
}
