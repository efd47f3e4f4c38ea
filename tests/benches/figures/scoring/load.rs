//! From a model's bytes to its first score, warm: the second load and those after it, as a swap on a device has them.

use vedette_scoring::{EngineChoice, Network, Outputs, Runner};

use super::cases::Case;
use crate::Effort;
use crate::measure::Timings;
use crate::ort::{Port, Runtime};
use crate::report::{Cell, Section};

/// Loads of each engine.
const LOADS: usize = 15;
/// The goal, ms.
const GOAL_MS: f64 = 2.0;
/// Loads end when an engine took this long for all of its.
const BUDGET_NS: f64 = 3e9;

/// Measures all cases.
pub(crate) fn run(cases: &[Case], runtime: Option<&Runtime>, effort: Effort) -> anyhow::Result<Section> {
    let rows = cases.iter().map(|case| line(case, runtime, effort)).collect();
    Ok(Section {
        title: "From bytes to first score, warm",
        columns: vec!["model", "KiB", "p50 ms", "slowest ms", "tract p50 ms", "ORT p50 ms", "goal ms", "holds"],
        rows,
        notes: vec![format!(
            "{LOADS} loads after a first one that is not counted; model bytes in memory. {}",
            super::peer(runtime)
        )],
    })
}

fn line(case: &Case, runtime: Option<&Runtime>, effort: Effort) -> Vec<Cell> {
    let loads = effort.of(LOADS);
    let ours = timed(loads, || first_score(case, EngineChoice::Auto));
    let tract = timed(loads.min(5), || first_score(case, EngineChoice::Tract));
    let peer = runtime.and_then(|runtime| timed(loads, || peer_score(case, runtime)));
    let ms = |timings: &Option<Timings>, share| {
        timings.as_ref().map_or(Cell::Skipped("-"), |t| Cell::Number(t.quantile_ns(share) / 1e6, 2))
    };
    let held = ours.as_ref().map(|t| t.quantile_ns(0.5) / 1e6 <= GOAL_MS);
    vec![
        Cell::text(case.title),
        Cell::Number(case.onnx.len() as f64 / 1024.0, 0),
        ms(&ours, 0.5),
        ms(&ours, 1.0),
        ms(&tract, 0.5),
        ms(&peer, 0.5),
        Cell::text(format!("<= {GOAL_MS:.0}")),
        Cell::text(held.map_or("refused", |held| if held { "yes" } else { "no" })),
    ]
}

/// Times `load` again and again; `None` when it fails.
fn timed(loads: usize, mut load: impl FnMut() -> anyhow::Result<()>) -> Option<Timings> {
    load().ok()?;
    let mut timings = Timings::new(1);
    for _ in 0..loads {
        timings.time(&mut load).ok()?;
        if timings.total_ns() > BUDGET_NS {
            break;
        }
    }
    Some(timings)
}

fn first_score(case: &Case, choice: EngineChoice) -> anyhow::Result<()> {
    let network = Network::load(&case.onnx, choice)?;
    let (mut runner, mut out) = (Runner::new(&network), Outputs::new(network.outputs()));
    runner.run(&network, &case.rows[..case.size()], &mut out)?;
    std::hint::black_box(&out);
    Ok(())
}

fn peer_score(case: &Case, runtime: &Runtime) -> anyhow::Result<()> {
    let shape = std::iter::once(1).chain(case.row_shape.iter().copied()).collect();
    let mut session = runtime.session(&case.onnx, &Port::f32(&case.input, shape), &case.outputs(1))?;
    session.input().copy_from_slice(&case.rows[..case.size()]);
    session.run()
}
