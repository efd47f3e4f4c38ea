//! Which models run: every model of the zoo through the front, held against ONNX Runtime's stored outputs, by family and exporter.

use std::collections::BTreeMap;

use anyhow::Context as _;
use vedette_scoring::{BATCH_ROWS, EngineChoice, EngineKind, Network, Outputs, Runner};

use crate::Effort;
use crate::measure::Timings;
use crate::report::{Cell, Section};
use crate::zoo::{self, Animal, Batch, Numbers};

/// Our outputs and ONNX Runtime's may differ by this much of 1 + the number.
const TOLERANCE: f32 = 1e-5;
/// Calls at batch 1 that are timed.
const CALLS: usize = 400;

/// How one model fared.
struct Tried {
    animal: Animal,
    outcome: Outcome,
}

enum Outcome {
    /// With the reason.
    Refused(String),
    Ran {
        engine: EngineKind,
        /// Largest difference to ONNX Runtime.
        apart: f32,
        /// At batch 1, the median.
        ns: f64,
    },
}

/// Tries every model.
pub(crate) fn run(effort: Effort) -> anyhow::Result<Vec<Section>> {
    let tried: Vec<Tried> = zoo::all()?
        .into_iter()
        .map(|animal| {
            let outcome = try_one(&animal, effort).unwrap_or_else(|error| Outcome::Refused(format!("{error:#}")));
            Tried { animal, outcome }
        })
        .collect();
    Ok(vec![families(&tried), exceptions(&tried)])
}

fn try_one(animal: &Animal, effort: Effort) -> anyhow::Result<Outcome> {
    let network = Network::load(&animal.onnx()?, EngineChoice::Auto)?;
    let rows = animal.rows()?;
    let size: usize = animal.row_shape().iter().product();
    let (mut runner, mut out) = (Runner::new(&network), Outputs::new(network.outputs()));
    let together = if animal.batch == Batch::One { 1 } else { BATCH_ROWS };
    let mut found: Vec<Vec<Numbers>> = animal.outputs.iter().map(|_| Vec::new()).collect();
    for rows in rows.chunks(size * together) {
        runner.run(&network, rows, &mut out)?;
        for (found, output) in found.iter_mut().zip(&animal.outputs) {
            found.push(numbers(&network, &out, &output.name)?);
        }
    }
    let joined = found.into_iter().map(join);
    let apart = joined.zip(animal.reference()?).map(|(found, expected)| zoo::difference(&found, &expected));
    let apart = apart.fold(0.0, f32::max);
    let mut timings = Timings::new(1);
    for row in rows.chunks_exact(size).cycle().take(effort.of(CALLS)) {
        timings.time(|| runner.run(&network, row, &mut out))?;
    }
    Ok(Outcome::Ran { engine: network.engine(), apart, ns: timings.quantile_ns(0.5) })
}

fn numbers(network: &Network, out: &Outputs, name: &str) -> anyhow::Result<Numbers> {
    let place = network.outputs().iter().position(|port| port.name == name);
    Ok(match &out.values[place.with_context(|| format!("output {name} is missing"))?] {
        vedette_scoring::Numbers::F32(list) => Numbers::F32(list.clone()),
        vedette_scoring::Numbers::I64(list) => Numbers::I64(list.clone()),
    })
}

fn join(parts: Vec<Numbers>) -> Numbers {
    let mut parts = parts.into_iter();
    let mut whole = parts.next().unwrap_or(Numbers::F32(Vec::new()));
    for part in parts {
        match (&mut whole, part) {
            (Numbers::F32(whole), Numbers::F32(part)) => whole.extend(part),
            (Numbers::I64(whole), Numbers::I64(part)) => whole.extend(part),
            // No output changes its kind from run to run.
            (Numbers::F32(_) | Numbers::I64(_), Numbers::F32(_) | Numbers::I64(_)) => {}
        }
    }
    whole
}

/// A line a family and exporter.
fn families(tried: &[Tried]) -> Section {
    let mut groups: BTreeMap<(&str, &str), Vec<&Tried>> = BTreeMap::new();
    for one in tried {
        groups.entry((&one.animal.family, &one.animal.exporter)).or_default().push(one);
    }
    let exact = tried.iter().filter(|one| one.exact()).count();
    Section {
        title: "Families",
        columns: vec!["family", "exporter", "models", "load", "exact", "largest difference", "engine", "ns at batch 1"],
        rows: groups.iter().map(|((family, exporter), group)| line(family, exporter, group)).collect(),
        notes: vec![
            format!(
                "{} models, {exact} exact: every output within {TOLERANCE:.0e} of 1 + the number, labels the same, over all rows of \
                 `tests/data/zoo`.",
                tried.len()
            ),
            "ns: the median of single calls, the clock's own 20 to 40 ns included; the fastest and the slowest model of the line."
                .to_owned(),
        ],
    }
}

fn line(family: &str, exporter: &str, group: &[&Tried]) -> Vec<Cell> {
    let loaded = group.iter().filter(|one| matches!(one.outcome, Outcome::Ran { .. })).count();
    let exact = group.iter().filter(|one| one.exact()).count();
    let ran = || {
        group.iter().filter_map(|one| match &one.outcome {
            Outcome::Ran { engine, apart, ns } => Some((*engine, *apart, *ns)),
            Outcome::Refused(_) => None,
        })
    };
    let mut engines: Vec<&str> = ran().map(|(engine, ..)| engine.as_str()).collect();
    engines.sort_unstable();
    engines.dedup();
    let times = ran().map(|(.., ns)| ns);
    let (fastest, slowest) = times.fold((f64::INFINITY, 0.0_f64), |(low, high), ns| (low.min(ns), high.max(ns)));
    let times = match (loaded, fastest == slowest) {
        (0, _) => Cell::Skipped("-"),
        (_, true) => Cell::Number(fastest, 0),
        (_, false) => Cell::text(format!("{}..{}", Cell::Number(fastest, 0), Cell::Number(slowest, 0))),
    };
    let apart = ran().map(|(_, apart, _)| apart).fold(0.0, f32::max);
    vec![
        Cell::text(family),
        Cell::text(exporter),
        Cell::Number(group.len() as f64, 0),
        Cell::Number(loaded as f64, 0),
        Cell::Number(exact as f64, 0),
        Cell::text(difference(apart)),
        Cell::text(engines.join(", ")),
        times,
    ]
}

/// The models that are not both native and exact, with the reason.
fn exceptions(tried: &[Tried]) -> Section {
    let row = |one: &Tried| {
        let (engine, why) = match &one.outcome {
            Outcome::Refused(why) => ("refused", why.clone()),
            Outcome::Ran { engine: EngineKind::Native, .. } if one.exact() => return None,
            Outcome::Ran { engine, .. } if one.exact() => (engine.as_str(), "exact".to_owned()),
            Outcome::Ran { engine, apart, .. } => (engine.as_str(), format!("differs by {}", difference(*apart))),
        };
        Some(vec![Cell::text(&one.animal.name), Cell::text(engine), Cell::text(why.replace('|', "/"))])
    };
    Section {
        title: "Models that our own engine does not run, or not exactly",
        columns: vec!["model", "engine", "how it fares"],
        rows: tried.iter().filter_map(row).collect(),
        notes: Vec::new(),
    }
}

/// Labels that are wrong differ without end.
fn difference(apart: f32) -> String {
    if apart.is_infinite() { "other labels or shape".to_owned() } else { format!("{apart:.1e}") }
}

impl Tried {
    fn exact(&self) -> bool {
        match &self.outcome {
            Outcome::Ran { apart, .. } => *apart <= TOLERANCE,
            Outcome::Refused(_) => false,
        }
    }
}
