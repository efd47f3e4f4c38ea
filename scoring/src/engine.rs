//! Runs an ONNX graph: what is asked of an engine and what comes back.
//!
//! Two engines stand behind one front. The house's own ([`native`]) compiles a graph whose operators it all knows into a flat plan; every
//! other graph goes to tract, in the one room that names it. The file is parsed once ([`read`]), looked over once ([`check`]), and
//! the choice is made once, when it is loaded.

mod check;
mod graph;
mod native;
mod network;
mod read;
mod streaming;
mod tract;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub(crate) use check::size as check_size;
pub(crate) use network::Wanted;
pub use network::{EngineChoice, Network, NumberKind, Numbers, Outputs, Port, RunError, Runner};
pub use vedette_protocol::EngineKind;

/// Rows that are run together at most. 64 x 16 x 38 numbers are 152 KiB, within a small core's L2 cache.
pub const BATCH_ROWS: usize = 64;

/// Why a graph can't be run. Each says what was found, what was wanted, and where.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Larger than any artifact may be.
    #[error("the model is {found} bytes long, the limit is {limit}")]
    TooLarge {
        /// Bytes of the file.
        found: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// Not an ONNX file, or the end is missing.
    #[error("this is no ONNX model, or its end is cut off: {0}")]
    NotOnnx(String),
    /// More nodes than can be optimised in sensible time.
    #[error("the graph has {found} nodes, the limit is {limit}")]
    TooManyNodes {
        /// Nodes in the graph and its subgraphs.
        found: usize,
        /// Nodes allowed.
        limit: usize,
    },
    /// Rules that were written after this program.
    #[error(
        "the graph uses operator set {found} of {domain}, this program knows sets up to {known}; export it for an older one"
    )]
    NewerOperators {
        /// Whose operators.
        domain: String,
        /// Version in the graph.
        found: i64,
        /// Newest version that is known.
        known: i64,
    },
    /// Operators that the engine lacks.
    #[error("the engine does not know operator {}; export the model without it", .0.join(", "))]
    UnknownOperators(Vec<String>),
    /// Weights in a second file.
    #[error("tensor `{0}` keeps its values in another file; save the model with its weights inside")]
    ExternalData(String),
    /// The graph's input is not the one that the manifest names.
    #[error("{0}")]
    Input(String),
    /// The graph lacks an output or it has another shape.
    #[error("{0}")]
    Output(String),
    /// The engine refused the graph.
    #[error("the engine can't load the graph: {0}")]
    Load(String),
    /// The engine panicked.
    #[error("the engine panicked on the graph: {0}")]
    Panicked(String),
}

/// Longest part of an engine's complaint that is handed on, in characters: some print whole tensors.
const COMPLAINT_CHARS: usize = 300;

pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(COMPLAINT_CHARS).collect()
}

/// Runs `work`; a panic in it comes back as its message.
pub(crate) fn fenced<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        one_line(&text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default())
    })
}
