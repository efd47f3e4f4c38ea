//! Models that keep a state from row to row: the same numbers as over the whole sequence, and a state that is nobody else's.

use std::sync::Arc;

use vedette_protocol::{Cause, Manifest, ModelKind, StateTensor, Stateful, TensorSpec};
use vedette_scoring::{Decision, KEPT_ROWS, Model, Rows, Schema, Session, StreamScorer};

use crate::made::{data, digest, number, schema, signal, tiny, tiny_manifest};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const SIGNALS: usize = NAMES.len();
/// The models, and their state tensors.
const MODELS: [(&str, &[&str]); 4] =
    [("lstm", &["h", "c"]), ("gru", &["h"]), ("causal", &["past1", "past2"]), ("sum", &["sum"])];

fn floats(file: &str) -> Vec<f32> {
    let bytes = std::fs::read(data(&format!("streaming/{file}.f32"))).unwrap();
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn graph(name: &str) -> Vec<u8> {
    std::fs::read(data(&format!("streaming/{name}.onnx"))).unwrap()
}

fn manifest(name: &str) -> Manifest {
    let kind = ModelKind::Score { score: "score".into(), contribution: Some("parts".into()) };
    let mut manifest = tiny_manifest(kind, &graph(name));
    manifest.contract.signals = NAMES.map(signal).into();
    manifest.contract.window = 1;
    manifest.input = TensorSpec { name: "x".into(), shape: vec![1, SIGNALS as u32] };
    let (_, states) = MODELS.iter().find(|(known, _)| *known == name).unwrap();
    let pair = |s: &&str| StateTensor { input: format!("{s}_in"), output: format!("{s}_out") };
    manifest.stateful = Some(Stateful { state: states.iter().map(pair).collect(), warm_rows: 0 });
    manifest.check().unwrap();
    manifest
}

fn load(name: &str, change: impl FnOnce(&mut Manifest)) -> Arc<Model> {
    let mut manifest = manifest(name);
    change(&mut manifest);
    Arc::new(Model::load(&manifest, digest(&manifest), &graph(name)).unwrap())
}

fn refused(name: &str, change: impl FnOnce(&mut Manifest)) -> String {
    let mut manifest = manifest(name);
    change(&mut manifest);
    Model::load(&manifest, digest(&manifest), &graph(name)).unwrap_err().to_string()
}

fn signals() -> Arc<Schema> {
    schema(&NAMES)
}

/// Rows of ones: a model that adds up has their number as each of its parts, and its square as its score.
fn ones(rows: usize) -> Rows {
    let mut made = Rows::new(SIGNALS, rows);
    (0..rows).for_each(|i| made.push(i as i64 * 60_000, &[1.0; SIGNALS]));
    made
}

fn score(scorer: &mut StreamScorer, rows: usize) -> Vec<Decision> {
    let mut decisions = Vec::new();
    scorer.score_rows(0, &ones(rows), &mut decisions);
    decisions
}

fn added_up(decision: &Decision) -> f32 {
    assert_eq!(decision.cause, Cause::Model, "{decision:?}");
    decision.row_score.sqrt()
}

#[test]
fn row_by_row_gives_what_the_whole_sequence_gives_in_one_window() {
    for (name, _) in MODELS {
        let (rows, wanted) = (floats(&format!("{name}.in")), floats(&format!("{name}.parts")));
        let mut session = Session::new(load(name, |_| {}));
        for (i, (row, wanted)) in rows.chunks(SIGNALS).zip(wanted.chunks(SIGNALS)).enumerate() {
            session.run(row);
            for (found, wanted) in session.contributions(0).iter().zip(wanted) {
                assert!((found - wanted).abs() <= 1e-5 * (1.0 + wanted.abs()), "{name}, row {i}: {found} for {wanted}");
            }
        }
    }
}

#[test]
fn rows_that_come_together_get_the_scores_of_rows_that_come_alone() {
    for (name, _) in MODELS {
        let numbers = floats(&format!("{name}.in"));
        let scores = |together: usize| {
            let mut scorer = StreamScorer::new(signals());
            scorer.swap(Some(load(name, |_| {}))).unwrap();
            let mut decisions = Vec::new();
            for (batch, part) in numbers.chunks(together * SIGNALS).enumerate() {
                let mut rows = Rows::new(SIGNALS, together);
                part.chunks(SIGNALS).for_each(|row| rows.push(0, row));
                scorer.score_rows((batch * together) as u64, &rows, &mut decisions);
            }
            decisions.iter().map(|d| (d.cause, d.row_score.to_bits())).collect::<Vec<_>>()
        };
        assert_eq!(scores(1), scores(64), "{name}");
    }
}

#[test]
fn the_state_goes_on_over_a_swap_to_the_same_graph_and_over_no_other() {
    let mut scorer = StreamScorer::new(signals());
    scorer.swap(Some(load("sum", |_| {}))).unwrap();
    assert_eq!(added_up(score(&mut scorer, 400).last().unwrap()), 400.0);
    scorer.swap(Some(load("sum", |m| m.calibration.threshold = number(1e9)))).unwrap();
    assert_eq!(added_up(&score(&mut scorer, 1)[0]), 401.0, "another calibration of the same graph");
    scorer.swap(Some(load("gru", |_| {}))).unwrap();
    scorer.swap(Some(load("sum", |_| {}))).unwrap();
    let kept = KEPT_ROWS as f32;
    assert_eq!(added_up(&score(&mut scorer, 1)[0]), kept + 1.0, "begun anew, with the rows that are kept");
    scorer.swap(None).unwrap();
    scorer.swap(Some(load("sum", |_| {}))).unwrap();
    assert_eq!(added_up(&score(&mut scorer, 1)[0]), kept + 1.0);
}

#[test]
fn a_model_that_is_not_warm_leaves_the_decision_to_the_baseline_and_a_swap_warms_it_with_what_is_kept() {
    let warm = |rows: u32| {
        load("sum", move |m| {
            if let Some(stateful) = &mut m.stateful {
                stateful.warm_rows = rows;
            }
        })
    };
    let mut scorer = StreamScorer::new(signals());
    scorer.swap(Some(warm(100))).unwrap();
    let decisions = score(&mut scorer, 150);
    assert!(decisions[..100].iter().all(|d| d.cause == Cause::Baseline));
    assert_eq!(added_up(&decisions[100]), 101.0, "it saw the rows before");
    // The kept rows are not enough for this one: 151 of 200.
    scorer.swap(Some(load("gru", |_| {}))).unwrap();
    assert_eq!(score(&mut scorer, 1)[0].cause, Cause::Model);
    scorer.swap(Some(warm(200))).unwrap();
    let decisions = score(&mut scorer, 60);
    assert_eq!((decisions[48].cause, decisions[49].cause), (Cause::Baseline, Cause::Model));
}

#[test]
fn a_row_that_would_spoil_the_state_is_a_fault_and_the_next_one_goes_on_from_before() {
    let mut session = Session::new(load("sum", |_| {}));
    assert_eq!(session.run(&[1.0; SIGNALS]), [1.0]);
    session.run(&[f32::MAX; SIGNALS]);
    assert!(session.run(&[f32::MAX; SIGNALS])[0].is_nan());
    assert!(session.fault().unwrap().contains("no finite number"));
    assert!(!session.run(&[-f32::MAX; SIGNALS])[0].is_nan());
}

#[test]
fn windows_leave_nothing_behind_for_the_next_one() {
    let model = crate::made::Shared::read("lstm_pred").load();
    let window: Vec<f32> = (0..model.window_numbers()).map(|i| (i as f32 * 0.37).sin()).collect();
    let other: Vec<f32> = window.iter().map(|v| v * -3.0).collect();
    let mut session = Session::new(model);
    let first = session.run(&window)[0];
    session.run(&other);
    assert_eq!(session.run(&window)[0].to_bits(), first.to_bits());
}

#[test]
fn what_the_manifest_says_of_the_state_must_be_in_the_graph() {
    let state = |input: &str, output: &str| StateTensor { input: input.into(), output: output.into() };
    let with = |tensors: Vec<StateTensor>| {
        move |m: &mut Manifest| m.stateful = Some(Stateful { state: tensors, warm_rows: 0 })
    };
    let said = refused("lstm", |m| m.stateful = None);
    assert!(said.contains("3 inputs (x, h_in, c_in), it must have one"), "{said}");
    let said = refused("lstm", with(vec![state("h_in", "h_out")]));
    assert!(
        said.contains("input `c_in` of the graph is neither the row nor a state that the manifest names"),
        "{said}"
    );
    let said = refused("gru", with(vec![state("h_in", "h_out"), state("c_in", "c_out")]));
    assert!(said.contains("the manifest's input `c_in` is not in the graph"), "{said}");
    let said = refused("gru", with(vec![state("h_in", "hidden")]));
    assert!(said.contains("the manifest's output `hidden` is not in the graph"), "{said}");
    let said = refused("gru", with(vec![state("h_in", "parts")]));
    assert!(said.contains("output `parts` has shape [1, 4], the manifest needs 8 numbers"), "{said}");
    let windowed = tiny("score", ModelKind::Score { score: "score".into(), contribution: None }, |_| {});
    assert!(!windowed.is_stateful() && load("gru", |_| {}).is_stateful());
}
