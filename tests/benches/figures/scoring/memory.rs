//! What a loaded dense model adds to a process: children of this program, one with the model and one without, are asked for their
//! resident memory after the same work.

use std::process::Command;

use anyhow::{Context as _, ensure};
use clap::ValueEnum;
use vedette_scoring::{EngineChoice, Network, Outputs, Runner};

use super::cases;
use crate::ort::{Port, Runtime};
use crate::report::{Cell, Section};

/// Rows that each child scores.
const ROWS: usize = 1_000;
/// Children of each kind; the median counts.
const CHILDREN: usize = 5;
/// The goal, KiB.
const GOAL_KIB: f64 = 1024.0;

/// What a child loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Holding {
    /// The file's bytes only.
    Nothing,
    /// Our engine, as it chooses.
    Ours,
    /// Ours, forced to tract.
    Tract,
    /// ONNX Runtime.
    Peer,
}

/// Resident memory of a child, KiB: all, and the part that no file backs.
#[derive(Clone, Copy, Debug)]
struct Resident {
    all: f64,
    anonymous: f64,
}

/// Starts the children and lays them beside each other.
pub(crate) fn run() -> anyhow::Result<Section> {
    let bare = resident(Holding::Nothing)?.context("the bare child failed")?;
    let holders = [("ours", Holding::Ours), ("ours, forced to tract", Holding::Tract), ("ONNX Runtime", Holding::Peer)];
    let mut rows = Vec::new();
    for (name, holding) in holders {
        let Some(found) = resident(holding)? else { continue };
        let growth = found.all - bare.all;
        let (goal, holds) = match holding {
            Holding::Ours => ("<= 1,024", if growth <= GOAL_KIB { "yes" } else { "no" }),
            Holding::Nothing | Holding::Tract | Holding::Peer => ("", ""),
        };
        let number = |kib: f64| Cell::Number(kib, 0);
        rows.push(vec![
            Cell::text(name),
            number(growth),
            number(found.anonymous - bare.anonymous),
            Cell::text(goal),
            Cell::text(holds),
        ]);
    }
    Ok(Section {
        title: "Resident memory that a dense model adds",
        columns: vec!["engine", "grown by KiB", "not backed by a file", "goal", "holds"],
        rows,
        notes: vec![format!(
            "Dense AE 608-64-12-64-608 ({:.0} KiB as a file, which both children read), {ROWS} windows one by one; a child \
             without the model has {:.0} KiB. VmRSS and RssAnon, median of {CHILDREN} children.",
            std::fs::metadata(cases::batched("dense_ae"))?.len() as f64 / 1024.0,
            bare.all
        )],
    })
}

/// The median child; `None` when it has not what it needs.
fn resident(holding: Holding) -> anyhow::Result<Option<Resident>> {
    let mut found = Vec::new();
    for _ in 0..CHILDREN {
        let name = holding.to_possible_value().context("a kind without a name")?;
        let child = Command::new(std::env::current_exe()?).arg("--hold").arg(name.get_name()).output()?;
        let text = String::from_utf8(child.stdout)?;
        let mut numbers = text.split_whitespace().map(str::parse::<f64>);
        match (child.status.success(), numbers.next(), numbers.next()) {
            (true, Some(all), Some(anonymous)) => found.push(Resident { all: all?, anonymous: anonymous? }),
            (false, ..) => return Ok(None),
            (true, ..) => ensure!(false, "a child told nothing: {text}"),
        }
    }
    found.sort_by(|a, b| a.all.total_cmp(&b.all));
    Ok(found.get(CHILDREN / 2).copied())
}

/// What a child does: holds the model, scores, and prints its resident memory.
pub(crate) fn hold(holding: Holding) -> anyhow::Result<()> {
    let onnx = std::fs::read(cases::batched("dense_ae"))?;
    let row = vec![0.5_f32; 16 * 38];
    match holding {
        Holding::Nothing => tell(),
        Holding::Ours => held(&onnx, EngineChoice::Auto, &row),
        Holding::Tract => held(&onnx, EngineChoice::Tract, &row),
        Holding::Peer => {
            let runtime = Runtime::from_env()?.context("VEDETTE_ORT does not name ONNX Runtime's library")?;
            let outputs = [Port::f32("score", vec![1, 1]), Port::f32("contrib", vec![1, 38])];
            let mut session = runtime.session(&onnx, &Port::f32("x", vec![1, 16, 38]), &outputs)?;
            session.input().copy_from_slice(&row);
            (0..ROWS).try_for_each(|_| session.run())?;
            tell()
        }
    }
}

fn held(onnx: &[u8], choice: EngineChoice, row: &[f32]) -> anyhow::Result<()> {
    let network = Network::load(onnx, choice)?;
    let (mut runner, mut out) = (Runner::new(&network), Outputs::new(network.outputs()));
    (0..ROWS).try_for_each(|_| runner.run(&network, row, &mut out))?;
    tell()
}

fn tell() -> anyhow::Result<()> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let kib = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|line| line.split_whitespace().next()).with_context(|| format!("no {key} in the status"))
    };
    println!("{} {}", kib("VmRSS:")?, kib("RssAnon:")?);
    Ok(())
}
