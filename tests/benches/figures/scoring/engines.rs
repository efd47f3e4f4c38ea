//! Every case by every engine: ours as it chooses, ours forced to tract, ONNX Runtime, and the bound of the dense ones. All take turns
//! in one process, so that a busy moment of the machine hits all of them.
//!
//! Our outputs are held against ONNX Runtime's first: a fast wrong answer is no figure.

use vedette_scoring::EngineChoice;

use super::cases::{Case, Goal, ROWS};
use super::contender::{Bound, Contender, Ours, Peer, apart};
use crate::Effort;
use crate::measure::Timings;
use crate::ort::Runtime;
use crate::report::{Cell, Section};

/// Our outputs and ONNX Runtime's may differ by this much of 1 + the number.
const TOLERANCE: f32 = 1e-5;
/// Samples of a contender that are not taken before another has its turn.
const TURN: usize = 20;
/// Samples of a contender; a p99 of these rests on 40.
const SAMPLES: usize = 4_000;
const SAMPLES_MIN: usize = 20;
/// A sample is as many calls as take this long, so that the clock's own time does not count.
const SAMPLE_NS: f64 = 4_000.0;
/// What a contender may take in all.
const BUDGET_NS: f64 = 1.0e9;

/// What one case at one batch size took.
struct Measured<'a> {
    case: &'a Case,
    batch: usize,
    goal: Goal,
    engine: &'static str,
    /// Largest difference to ONNX Runtime.
    apart: Option<f32>,
    ours: Option<Timings>,
    tract: Option<Timings>,
    peer: Option<Timings>,
    bound: Option<Timings>,
}

/// Measures all cases.
pub(crate) fn run(cases: &[Case], runtime: Option<&Runtime>, effort: Effort) -> anyhow::Result<Section> {
    let mut measured = Vec::new();
    for case in cases {
        for (batch, goal) in [1, ROWS].into_iter().zip(case.goals) {
            measured.push(measure(case, batch, goal, runtime, effort)?);
        }
    }
    let worst = measured.iter().filter_map(|m| m.apart).fold(0.0, f32::max);
    let notes = vec![
        "ns per record; ratio is our p50 over ONNX Runtime's, below 1 we are faster. A sample is as many calls as take 4 us; each call has other rows."
            .to_owned(),
        format!("Largest difference to ONNX Runtime over all outputs: {worst:.1e} of 1 + the number (allowed {TOLERANCE:.0e}, labels exactly)."),
        "Bound: the layers' products by hand, one row after the other, nothing else.".to_owned(),
        format!("Peer: {}", super::peer(runtime)),
    ];
    let columns = [
        "model",
        "batch",
        "engine",
        "p50 ns",
        "p99 ns",
        "tract p50",
        "tract p99",
        "ORT p50",
        "ORT p99",
        "bound p50",
        "ratio",
        "goal",
        "holds",
    ];
    Ok(Section {
        title: "Scoring by engine, one thread",
        columns: columns.to_vec(),
        rows: measured.iter().map(line).collect(),
        notes,
    })
}

fn measure<'a>(
    case: &'a Case,
    batch: usize,
    goal: Goal,
    runtime: Option<&Runtime>,
    effort: Effort,
) -> anyhow::Result<Measured<'a>> {
    let mut ours = Ours::new(case, batch, EngineChoice::Auto).ok();
    let tract = Ours::new(case, batch, EngineChoice::Tract).ok();
    let peer = runtime.map(|runtime| Peer::new(case, batch, runtime)).transpose()?;
    let mut exact = runtime.map(|runtime| Peer::exact(case, batch, runtime)).transpose()?;
    let engine = ours.as_ref().map_or("refused", |ours| ours.network.engine().as_str());
    let apart = ours.as_mut().zip(exact.as_mut()).map(|(ours, peer)| apart(ours, peer)).transpose()?;
    let contenders = [
        ours.map(|ours| Contender::Ours(Box::new(ours))),
        tract.map(|ours| Contender::Ours(Box::new(ours))),
        peer.map(Contender::Peer),
        Bound::new(case, batch).map(Contender::Bound),
    ];
    let [ours, tract, peer, bound] = race(contenders, batch, effort)?;
    Ok(Measured { case, batch, goal, engine, apart, ours, tract, peer, bound })
}

/// One contender on its way.
struct Racing<'a> {
    contender: Contender<'a>,
    calls: usize,
    left: usize,
    timings: Timings,
}

impl<'a> Racing<'a> {
    /// Warms it up and decides how many calls make a sample and how many samples it has time for. `None` when it fails.
    fn new(mut contender: Contender<'a>, batch: usize, effort: Effort) -> Option<Self> {
        let mut trial = Timings::new(1);
        for _ in 0..20 {
            trial.time(|| contender.call()).ok()?;
        }
        let call_ns = trial.quantile_ns(0.5).max(20.0);
        let calls = (SAMPLE_NS / call_ns).ceil() as usize;
        let samples = (BUDGET_NS / (call_ns * calls as f64)) as usize;
        let left = effort.of(samples.clamp(SAMPLES_MIN, SAMPLES)).max(2);
        Some(Self { contender, calls, left, timings: Timings::new((batch * calls) as u64) })
    }

    fn turn(&mut self) -> anyhow::Result<()> {
        for _ in 0..self.left.min(TURN) {
            self.timings.time(|| (0..self.calls).try_for_each(|_| self.contender.call()))?;
        }
        self.left -= self.left.min(TURN);
        Ok(())
    }
}

fn race<const N: usize>(
    contenders: [Option<Contender<'_>>; N],
    batch: usize,
    effort: Effort,
) -> anyhow::Result<[Option<Timings>; N]> {
    let mut racing = contenders.map(|contender| Racing::new(contender?, batch, effort));
    while racing.iter().flatten().any(|one| one.left > 0) {
        racing.iter_mut().flatten().try_for_each(Racing::turn)?;
    }
    Ok(racing.map(|one| Some(one?.timings)))
}

fn line(measured: &Measured<'_>) -> Vec<Cell> {
    let two = |timings: &Option<Timings>| match timings {
        Some(t) => [Cell::Number(t.quantile_ns(0.5), 0), Cell::Number(t.quantile_ns(0.99), 0)],
        None => [const { Cell::Skipped("-") }; 2],
    };
    let p50 = |timings: &Option<Timings>| timings.as_ref().map(|t| t.quantile_ns(0.5));
    let ratio = p50(&measured.ours).zip(p50(&measured.peer)).map(|(ours, peer)| ours / peer);
    let mut cells =
        vec![Cell::text(measured.case.title), Cell::Number(measured.batch as f64, 0), Cell::text(measured.engine)];
    cells.extend(two(&measured.ours));
    cells.extend(two(&measured.tract));
    cells.extend(two(&measured.peer));
    cells.push(p50(&measured.bound).map_or(Cell::Skipped("-"), |ns| Cell::Number(ns, 0)));
    cells.push(ratio.map_or(Cell::Skipped("-"), |ratio| Cell::Number(ratio, 2)));
    cells.push(Cell::text(goal(measured.goal)));
    cells.push(Cell::text(holds(measured, p50(&measured.ours), ratio)));
    cells
}

fn goal(goal: Goal) -> String {
    let parts = [goal.ns.map(|ns| format!("{ns:.0} ns")), goal.ratio.map(|ratio| format!("{ratio} x"))];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { String::new() } else { format!("<= {}", parts.join(", ")) }
}

fn holds(measured: &Measured<'_>, ours_ns: Option<f64>, ratio: Option<f64>) -> String {
    if measured.apart.is_some_and(|apart| apart > TOLERANCE) {
        return format!("wrong by {:.0e}", measured.apart.unwrap_or_default());
    }
    let goals = [(measured.goal.ns, ours_ns), (measured.goal.ratio, ratio)];
    let mut held = goals.iter().filter_map(|(goal, found)| Some((*goal)?.ge(found.as_ref()?))).peekable();
    match held.peek() {
        None => String::new(),
        Some(_) => if held.all(|held| held) { "yes" } else { "no" }.to_owned(),
    }
}
