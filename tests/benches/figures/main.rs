//! The figures that we stand for, measured on the machine at hand: scoring beside ONNX Runtime, the agent end to end, the
//! registry's ingest; and which models run at all.
//!
//! `cargo bench -p vedette-tests --bench figures -- [scoring] [agent] [registry] [models] [--json FILE] [--markdown FILE]` runs
//! the named parts, or the first three, and prints their tables. ONNX Runtime is the library of its PyPI wheel; `VEDETTE_ORT` says where it lies
//! (`…/onnxruntime/capi/libonnxruntime.so.*`), and without it the peer's columns say "skipped". The agent's and the registry's
//! parts start the real programs, so these must be built first: `cargo build --release --workspace --bins`.

mod agent;
mod machine;
mod measure;
mod models;
mod ort;
mod registry;
mod report;
mod scoring;
mod zoo;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};

use report::Section;
use scoring::memory::Holding;

/// The parts that can be run alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Models of each kind, one thread, by each of our engines and ONNX Runtime.
    Scoring,
    /// The agent end to end: rate, delay, memory, start, size.
    Agent,
    /// Anomalies taken in per second, by broker.
    Registry,
    /// Every model of the zoo: whether it loads, is exact, by which engine. Only when named.
    Models,
}

/// The parts that are run when none is named.
const FIGURES: [Part; 3] = [Part::Scoring, Part::Agent, Part::Registry];

/// Measures, prints a table a part.
#[derive(Debug, Parser)]
#[command(name = "figures")]
struct Arguments {
    /// Parts to run; all but the models when none is named.
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
    /// What a child of the memory figures does: holds a model and says how much memory it has.
    #[arg(long, hide = true, value_name = "WHAT")]
    hold: Option<Holding>,
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
    if let Some(holding) = arguments.hold {
        return scoring::memory::hold(holding);
    }
    let effort = if arguments.quick { Effort::Quick } else { Effort::Full };
    let parts = if arguments.parts.is_empty() { &FIGURES[..] } else { &arguments.parts };
    let machine = machine::Machine::read();
    println!("{machine}\n");
    let mut sections = Vec::new();
    for part in parts {
        for section in run(*part, effort)? {
            println!("{section}");
            sections.push(section);
        }
    }
    if let Some(path) = &arguments.json {
        write(path, &report::json(&machine, &sections)?)?;
    }
    if let Some(path) = &arguments.markdown {
        let about = if *parts == [Part::Models] { &report::MODELS } else { &report::FIGURES };
        write(path, &report::markdown(about, &machine, &sections))?;
    }
    Ok(())
}

fn run(part: Part, effort: Effort) -> anyhow::Result<Vec<Section>> {
    Ok(match part {
        Part::Scoring => scoring::run(effort)?,
        Part::Agent => agent::run(effort)?,
        Part::Registry => vec![registry::run(effort)?],
        Part::Models => models::run(effort)?,
    })
}

fn write(path: &PathBuf, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("couldn't write {}", path.display()))
}
