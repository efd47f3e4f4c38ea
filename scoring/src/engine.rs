//! Runs an ONNX graph: what is asked of an engine and what comes back. The engine itself is `tract`, in the one file that
//! names it.

mod tract;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub(crate) use tract::{Engine, Runner};

/// Rows that are run together at most. 64 x 16 x 38 numbers are 152 KiB, within a small core's L2 cache.
pub const BATCH_ROWS: usize = 64;

/// Which program runs the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// tract, for any graph it knows.
    Tract,
}

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
    /// tract refused the graph.
    #[error("the engine can't load the graph: {0}")]
    Load(String),
    /// tract panicked.
    #[error("the engine panicked on the graph: {0}")]
    Panicked(String),
}

/// Why one run gave no numbers.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct RunError(String);

/// An output that is wanted and how many numbers it must hold for one row.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) numbers: usize,
}

/// The numbers that came out: per wanted output, the rows one after the other.
#[derive(Debug, Default)]
pub(crate) struct Outputs {
    pub(crate) values: Vec<Vec<f32>>,
}

impl Outputs {
    /// Empty; grows to the most rows that were ever run together, then stays.
    pub(crate) fn new(outputs: usize) -> Outputs {
        Outputs { values: vec![Vec::new(); outputs] }
    }

    pub(crate) fn clear(&mut self) {
        self.values.iter_mut().for_each(Vec::clear);
    }
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
