//! The figures that we stand for, measured on the machine at hand: scoring beside ONNX Runtime, the agent end to end, the
//! registry's ingest.
//!
//! `cargo bench -p vedette-tests --bench figures -- [scoring] [agent] [registry] [--json FILE] [--markdown FILE]` runs all
//! or the named parts and prints a table each. ONNX Runtime is the library of its PyPI wheel; `VEDETTE_ORT` says where it lies
//! (`…/onnxruntime/capi/libonnxruntime.so.*`), and without it the peer's columns say "skipped". The agent's and the registry's
//! parts start the real programs, so these must be built first: `cargo build --release --workspace --bins`.

mod agent;
mod machine;
mod measure;
mod ort;
mod registry;
mod report;
mod scoring;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};

use report::Section;

/// The parts that can be run alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Five models, one thread, beside ONNX Runtime.
    Scoring,
    /// The agent end to end: rate, delay, memory, start, size.
    Agent,
    /// Anomalies taken in per second, by broker.
    Registry,
}

/// Measures, prints a table a part.
#[derive(Debug, Parser)]
#[command(name = "figures")]
struct Arguments {
    /// Parts to run; all when none is named.
    parts: Vec<Part>,
    /// Writes everything as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes everything as Markdown.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// A tenth of the samples: whether it runs, not how fast.
    #[arg(long)]
    quick: bool,
    /// What cargo passes to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// How long to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Enough samples for a p99.
    Full,
    /// A tenth of it.
    Quick,
}

impl Effort {
    /// `samples` of a full run, or a tenth.
    pub(crate) fn of(self, samples: usize) -> usize {
        match self {
            Self::Full => samples,
            Self::Quick => samples.div_ceil(10),
        }
    }
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let effort = if arguments.quick { Effort::Quick } else { Effort::Full };
    let parts = if arguments.parts.is_empty() { Part::value_variants() } else { &arguments.parts };
    let machine = machine::Machine::read();
    println!("{machine}\n");
    let mut sections = Vec::new();
    for part in parts {
        let section = run(*part, effort)?;
        println!("{section}");
        sections.push(section);
    }
    if let Some(path) = &arguments.json {
        write(path, &report::json(&machine, &sections)?)?;
    }
    if let Some(path) = &arguments.markdown {
        write(path, &report::markdown(&machine, &sections))?;
    }
    Ok(())
}

fn run(part: Part, effort: Effort) -> anyhow::Result<Section> {
    match part {
        Part::Scoring => scoring::run(effort),
        Part::Agent => agent::run(effort),
        Part::Registry => registry::run(effort),
    }
}

fn write(path: &PathBuf, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("couldn't write {}", path.display()))
}
