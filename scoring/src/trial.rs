//! Tries a model that nobody has tried, in a child process that may be lost.
//!
//! Constraints: a graph can panic the engine, abort the process, run for ever or eat all memory, and no fence inside a process
//! holds the last three. So the parent ([`run`]) starts a child with a request on its standard input; the child
//! ([`child_main`]) sets limits on *itself* (address space, processor time, files), then loads the graph, runs the self-test
//! and measures, and writes one JSON report to its standard output. The parent waits no longer than the wall limit, reads
//! no more than [`OUTPUT_MAX`], and says in one sentence why a model was refused.
//!
//! The program that runs both needs a hidden command that does nothing but `child_main`, before it starts any thread: every
//! thread reserves address space.

mod child;
mod parent;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use vedette_protocol::EngineKind;
use vedette_protocol::limit::{MAX_MANIFEST_BYTES, MAX_SELFTEST_BYTES};

pub use child::child_main;
pub use parent::run;

/// Bytes that the parent reads from the child's standard output and error, each.
pub const OUTPUT_MAX: usize = 64 * 1024;
/// Bytes of a request: both blobs as CBOR arrays of small numbers (2 bytes each), and room for paths.
const REQUEST_MAX: usize = 2 * (MAX_MANIFEST_BYTES + MAX_SELFTEST_BYTES) + 16 * 1024;

/// What a trial may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrialLimits {
    /// Address space on top of what the program itself takes, bytes.
    pub memory_bytes: u64,
    /// Processor time; rounded up to seconds.
    pub cpu: Duration,
    /// Time on the wall.
    pub wall: Duration,
}

impl Default for TrialLimits {
    /// 512 MiB, 20 s, 30 s: the slowest sane model that was measured loads in 0.3 s and takes 60 MB; a small ARM core is
    /// twenty times slower than the machine it was measured on.
    fn default() -> Self {
        TrialLimits { memory_bytes: 512 << 20, cpu: Duration::from_secs(20), wall: Duration::from_secs(30) }
    }
}

/// What goes to the child.
#[derive(Serialize, Deserialize)]
struct Request {
    /// The manifest's canonical bytes: the signed payload.
    manifest: Vec<u8>,
    artifact: PathBuf,
    selftest: Vec<u8>,
    memory_bytes: u64,
    cpu_seconds: u64,
}

/// What a model did in its trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrialReport {
    /// What ran the graph.
    pub engine: EngineKind,
    /// Loading the graph, milliseconds.
    pub load_ms: f64,
    /// One window, half of the runs took no longer, nanoseconds.
    pub row_p50_ns: u64,
    /// One window, 99 of 100 runs took no longer, nanoseconds.
    pub row_p99_ns: u64,
    /// Largest resident size of the child, bytes: the program and the model.
    pub memory_bytes: u64,
    /// Self-test vectors that scored as the author saw.
    pub vectors: usize,
    /// Largest difference to the author's scores.
    pub largest_difference: f64,
}

/// What comes back from the child.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Passed(TrialReport),
    Refused { reason: String },
    Panicked { message: String },
}

/// Why a model did not pass.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The model is not what its manifest says, or can't be run.
    #[error("{reason}")]
    Refused {
        /// One sentence.
        reason: String,
    },
    /// Too slow, or endless.
    #[error("the model did not finish its trial within {}", if *.wall { "the time limit" } else { "the limit of processor time" })]
    TimedOut {
        /// Whether the wall limit ended it, else the one of processor time.
        wall: bool,
    },
    /// More memory than allowed.
    #[error("the model needs more memory than the {} MiB that a trial may use", memory_bytes >> 20)]
    OutOfMemory {
        /// The limit.
        memory_bytes: u64,
    },
    /// The engine panicked.
    #[error("the engine panicked on the model: {message}")]
    Panicked {
        /// The panic's message, one line.
        message: String,
    },
    /// The child ended without a report.
    #[error("the trial ended without a report ({how}){}", if said.is_empty() { String::new() } else { format!(": {said}") })]
    Lost {
        /// Exit status or signal.
        how: String,
        /// End of what it wrote to its standard error, one line.
        said: String,
    },
    /// No trial took place: this says nothing about the model.
    #[error("couldn't start the trial with {program}: {source}")]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}
