//! What a stream's scorer does with rows: contracts, windows, fills, findings, faults, swaps.

use vedette_protocol::{Cause, Digest, Fill, ModelKind, ScoredBy, Transform};
use vedette_scoring::{
    ContractMismatch, Decision, FINDING_REPEAT_ROWS, LoadError, Model, Schema, SchemaError, StreamScorer, selftest,
};

use crate::made::{digest, number, sample, schema, score_kind, tiny, tiny_graph, tiny_manifest, vector};

const ABSENT: f32 = f32::NAN;

/// A scorer of signals `a` and `b` that runs `model`.
fn running(model: &std::sync::Arc<Model>) -> StreamScorer {
    let mut scorer = StreamScorer::new(schema(&["a", "b"]));
    scorer.swap(Some(model.clone())).unwrap();
    scorer
}

fn feed(scorer: &mut StreamScorer, rows: &[[f32; 2]]) -> Vec<Decision> {
    (0..).zip(rows).map(|(row, values)| *scorer.score(row, &sample(row, values))).collect()
}

fn causes(decisions: &[Decision]) -> Vec<Cause> {
    decisions.iter().map(|d| d.cause).collect()
}

#[test]
fn signals_are_found_by_name_and_scaled_as_the_contract_says() {
    let model = tiny("score", score_kind(), |m| {
        m.contract.signals[0].center = number(1.0);
        m.contract.signals[0].scale = number(2.0);
        m.contract.signals[1].clip = Some(number(3.0));
    });
    // Columns in another order, and one that the model does not want.
    let mut scorer = StreamScorer::new(schema(&["b", "other", "a"]));
    scorer.swap(Some(model)).unwrap();
    let mut last = None;
    for row in 0..3 {
        last = Some(*scorer.score(row, &sample(row, &[-9.0, 1e9, 5.0])));
    }
    let decision = last.unwrap();
    assert_eq!(decision.cause, Cause::Model);
    // a: (5 - 1) / 2 = 2, three squares of it = 12; b: -9 clipped to -3, three squares = 27.
    assert!((decision.row_score - 39.0).abs() < 1e-5, "{decision:?}");
    let top = decision.top.as_slice();
    assert_eq!((top[0].signal, top[0].value), (0, -9.0));
    assert!((top[0].share - 27.0 / 39.0).abs() < 1e-6);
    assert_eq!((top[1].signal, top[1].value), (2, 5.0));
}

#[test]
fn an_autoencoder_and_a_forecaster_are_judged_by_their_residuals() {
    let autoencoder = ModelKind::Autoencoder { reconstruction: "y".into() };
    let model = tiny("autoencoder", autoencoder.clone(), |m| {
        m.calibration.residual = vec![number(1.0), number(4.0)];
        m.calibration.tail = 2;
    });
    let rows = [[2.0, 2.0], [4.0, 8.0], [8.0, 0.0]];
    // Half is missing: a: (4 + 16) / 2 = 10 over 1; b: (16 + 0) / 2 = 8 over 4.
    let decision = feed(&mut running(&model), &rows)[2];
    assert!((decision.row_score - (1.0_f32 + (10.0 + 2.0) / 2.0).ln()).abs() < 1e-6, "{decision:?}");
    assert!((decision.top.as_slice()[0].share - 10.0 / 12.0).abs() < 1e-6);

    let all = tiny("autoencoder", autoencoder, |_| {});
    let decision = feed(&mut running(&all), &rows)[2];
    let (a, b) = ((1.0 + 4.0 + 16.0) / 3.0, (1.0 + 16.0) / 3.0);
    assert!((decision.row_score - (1.0_f32 + (a + b) / 2.0).ln()).abs() < 1e-6);

    // The forecast is the row before: residuals 4 and -8 squared; 64 is cut to nothing, 1e4 is.
    let forecaster = tiny("forecaster", ModelKind::Forecaster { forecast: "next".into() }, |m| {
        m.calibration.residual = vec![number(1.0), number(1e-3)];
    });
    let decision = feed(&mut running(&forecaster), &rows)[2];
    assert!((decision.row_score - (1.0_f32 + (16.0 + 1e4) / 2.0).ln()).abs() < 1e-5, "{decision:?}");
}

#[test]
fn until_the_window_is_full_the_baseline_decides() {
    let decisions = feed(&mut running(&tiny("score", score_kind(), |_| {})), &[[1.0, 1.0]; 4]);
    assert_eq!(causes(&decisions), [Cause::Baseline, Cause::Baseline, Cause::Model, Cause::Model]);
    let scorer = StreamScorer::new(schema(&["a", "b"]));
    assert!(matches!(scorer.running(), ScoredBy::Baseline { .. }));
}

#[test]
fn differences_and_rates_need_a_row_before_and_a_counter_that_falls_has_restarted() {
    let model = tiny("score", score_kind(), |m| {
        m.contract.window = 3;
        m.contract.signals[0].transform = Transform::Difference;
        m.contract.signals[1].transform = Transform::Rate;
        m.contract.signals[1].fill = Fill::Hold { limit: 1 };
    });
    // One row a minute: 60 more are 1 a second. At row 4 the counter falls: the last rate, 2, stands in.
    let rows = [[1.0, 0.0], [2.0, 60.0], [4.0, 120.0], [4.0, 240.0], [5.0, 30.0], [5.0, 90.0]];
    let decisions = feed(&mut running(&model), &rows);
    assert_eq!(decisions[3].cause, Cause::Model);
    assert!((decisions[3].row_score - (1.0 + 4.0 + 0.0 + 1.0 + 1.0 + 4.0)).abs() < 1e-5, "{:?}", decisions[3]);
    assert!((decisions[4].row_score - (4.0 + 0.0 + 1.0 + 1.0 + 4.0 + 4.0)).abs() < 1e-5, "{:?}", decisions[4]);
    assert!((decisions[5].row_score - (0.0 + 1.0 + 0.0 + 4.0 + 4.0 + 1.0)).abs() < 1e-5, "{:?}", decisions[5]);
}

#[test]
fn a_gap_is_filled_up_to_its_limit_and_then_is_a_finding() {
    let model = tiny("score", score_kind(), |m| {
        m.contract.signals[0].fill = Fill::Hold { limit: 2 };
        m.contract.signals[1].fill = Fill::Constant { value: number(2.0), limit: 1 };
    });
    let mut scorer = running(&model);
    let rows = [[1.0, 1.0], [1.0, 1.0], [3.0, 1.0], [ABSENT, ABSENT], [ABSENT, 1.0], [ABSENT, 1.0], [ABSENT, 1.0]];
    let decisions = feed(&mut scorer, &rows);
    assert!((decisions[3].row_score - (1.0 + 9.0 + 9.0 + 1.0 + 1.0 + 4.0)).abs() < 1e-5, "{:?}", decisions[3]);
    assert_eq!(decisions[4].cause, Cause::Model);
    let missing = decisions[5];
    assert_eq!((missing.cause, missing.alarm, missing.score), (Cause::Missing, true, 1.0));
    assert_eq!(missing.top.as_slice().len(), 1);
    assert_eq!(missing.top.as_slice()[0].signal, 0);
    // While it lasts the baseline goes on, and it is not said again and again.
    assert_eq!((decisions[6].cause, decisions[6].alarm), (Cause::Baseline, false));
    assert!(matches!(scorer.scored_by(&decisions[6]), ScoredBy::Baseline { .. }));

    let mut said = Vec::new();
    for row in 7..(2 * FINDING_REPEAT_ROWS) {
        let decision = *scorer.score(row, &sample(row, &[ABSENT, 1.0]));
        if decision.cause == Cause::Missing {
            said.push(row);
        }
    }
    assert_eq!(said, [5 + FINDING_REPEAT_ROWS]);
    // A second signal that goes is news.
    let decision = *scorer.score(9000, &sample(9000, &[ABSENT, ABSENT]));
    assert_eq!(decision.cause, Cause::Baseline, "one row may be filled");
    let decision = *scorer.score(9001, &sample(9001, &[ABSENT, ABSENT]));
    assert_eq!((decision.cause, decision.score), (Cause::Missing, 2.0));
    // Back again: a window without holes first, then the model.
    let back: Vec<Cause> = (9002..9005).map(|row| scorer.score(row, &sample(row, &[1.0, 1.0])).cause).collect();
    assert_eq!(back, [Cause::Baseline, Cause::Baseline, Cause::Model]);
}

#[test]
fn a_frozen_signal_is_a_finding_and_the_model_goes_on() {
    let model = tiny("score", score_kind(), |m| m.contract.signals[1].frozen_after = Some(5));
    let mut scorer = running(&model);
    let rows: Vec<[f32; 2]> = (0..8).map(|i| [i as f32 / 10.0, if i == 7 { 0.5 } else { 0.4 }]).collect();
    let decisions = feed(&mut scorer, &rows);
    let expected = [2, 3].map(|_| Cause::Model);
    assert_eq!(causes(&decisions[2..4]), expected);
    assert_eq!((decisions[4].cause, decisions[4].alarm), (Cause::Frozen, true));
    assert_eq!(decisions[4].top.as_slice()[0].signal, 1);
    assert_eq!(causes(&decisions[5..]), [Cause::Model; 3]);
}

#[test]
fn without_a_model_a_signal_that_stays_away_is_a_finding_too() {
    let mut scorer = StreamScorer::new(schema(&["a", "b"]));
    let decisions = feed(&mut scorer, &[[ABSENT, 1.0]; 30]);
    let found: Vec<usize> = (0..30).filter(|i| decisions[*i].cause == Cause::Missing).collect();
    assert_eq!(found, [10]);
}

#[test]
fn nan_from_a_model_is_its_fault_and_the_baseline_stands_in() {
    let kind = ModelKind::Score { score: "score".into(), contribution: None };
    let model = tiny("logarithm", kind, |m| m.calibration.threshold = number(1e6));
    let mut scorer = running(&model);
    let rows = [[1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [-9.0, -9.0], [-9.0, -9.0], [90.0, 9.0]];
    let decisions = feed(&mut scorer, &rows);
    assert_eq!(causes(&decisions[2..]), [Cause::Model, Cause::ModelFault, Cause::ModelFault, Cause::Model]);
    assert!(decisions.iter().all(|d| d.score.is_finite() && d.row_score.is_finite()));
    assert_eq!([3, 4].map(|i| decisions[i].alarm), [true, false], "said when it begins");
    assert!(matches!(scorer.scored_by(&decisions[3]), ScoredBy::Baseline { .. }));
    assert!(matches!(scorer.scored_by(&decisions[5]), ScoredBy::Model { .. }));

    // The same in a batch: one bad window does not cost the others their score.
    let mut scorer = running(&model);
    let samples: Vec<_> = (0..).zip(&rows).map(|(row, values)| sample(row, values)).collect();
    let mut together = Vec::new();
    scorer.score_batch(0, &samples, &mut together);
    assert_eq!(causes(&together), causes(&decisions));
}

#[test]
fn a_graph_that_names_no_signals_leaves_that_to_the_baseline() {
    let model = tiny("score", ModelKind::Score { score: "score".into(), contribution: None }, |_| ());
    let mut rows: Vec<[f32; 2]> = (0..400).map(|i| [(i % 7) as f32 * 0.1, (i % 5) as f32 * 0.1]).collect();
    rows.push([0.3, 50.0]);
    let last = feed(&mut running(&model), &rows)[400];
    let top = last.top.as_slice();
    assert!(last.cause == Cause::Model && last.alarm, "{last:?}");
    assert_eq!((top[0].signal, top[0].value), (1, 50.0), "{last:?}");
}

#[test]
fn smoothing_and_holding_come_before_an_alarm() {
    let model = tiny("score", score_kind(), |m| {
        m.calibration.threshold = number(10.0);
        m.calibration.smooth = 2;
        m.calibration.hold = 2;
    });
    let mut rows = vec![[0.0, 0.0]; 3];
    rows.extend([[4.0, 0.0]; 4]); // row scores 16, 32, 48, 48; smoothed 8, 24, 40, 48
    let decisions = feed(&mut running(&model), &rows);
    let over: Vec<bool> = decisions[2..].iter().map(|d| d.over).collect();
    let alarms: Vec<bool> = decisions[2..].iter().map(|d| d.alarm).collect();
    assert_eq!(over, [false, false, true, true, true]);
    assert_eq!(alarms, [false, false, false, true, true]);
    assert!((decisions[4].score - 24.0).abs() < 1e-5);
    let window: Vec<u8> = [4.0_f32, 0.0, 4.0, 0.0, 4.0, 0.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(decisions[5].input, Some(Digest::of(&window)), "the digest is of the window that the graph saw");
    assert_eq!(decisions[4].input, None);
}

#[test]
fn between_two_hops_the_last_decision_stands_and_does_not_alarm_again() {
    let model = tiny("score", score_kind(), |m| m.contract.hop = 2);
    let rows: Vec<[f32; 2]> = (0..8).map(|i| [i as f32, 0.0]).collect();
    let decisions = feed(&mut running(&model), &rows);
    let scores: Vec<f32> = decisions[2..].iter().map(|d| d.row_score).collect();
    assert_eq!(scores, [5.0, 5.0, 29.0, 29.0, 77.0, 77.0]);
    let alarms: Vec<bool> = decisions[2..].iter().map(|d| d.alarm).collect();
    assert_eq!(alarms, [false, false, true, false, true, false]);
}

#[test]
fn a_swapped_model_is_warm_at_once_and_one_that_does_not_fit_changes_nothing() {
    let mut scorer = StreamScorer::new(schema(&["a", "b"]));
    feed(&mut scorer, &[[1.0, 2.0]; 5]);
    let model = tiny("score", score_kind(), |_| {});
    scorer.swap(Some(model.clone())).unwrap();
    assert_eq!(scorer.running(), model.scored_by());
    let decision = *scorer.score(5, &sample(5, &[1.0, 2.0]));
    assert_eq!((decision.cause, decision.row_score), (Cause::Model, 15.0));

    let stranger = tiny("score", score_kind(), |m| m.contract.signals[1].name = "humidity".parse().unwrap());
    let error = scorer.swap(Some(stranger)).unwrap_err();
    assert!(matches!(&error, ContractMismatch::Signals { .. }));
    let said = error.to_string();
    assert!(said.contains("`humidity`") && said.contains("`a`, `b`"), "{said}");
    assert_eq!(scorer.running(), model.scored_by());
    scorer.swap(None).unwrap();
    assert_eq!(scorer.score(6, &sample(6, &[1.0, 2.0])).cause, Cause::Baseline);
}

#[test]
fn a_signal_in_another_unit_is_refused_by_name() {
    let celsius = Schema::new(vec![("a".parse().unwrap(), None), ("b".parse().unwrap(), Some("Cel".parse().unwrap()))]);
    let mut scorer = StreamScorer::new(celsius.unwrap().into());
    let error = scorer.swap(Some(tiny("score", score_kind(), |_| {}))).unwrap_err().to_string();
    assert_eq!(error, "the model needs signal `b` in `1`, the stream gives it in `Cel`");
    let twice = Schema::new(vec![("a".parse().unwrap(), None), ("a".parse().unwrap(), None)]);
    assert_eq!(twice, Err(SchemaError::Twice("a".parse().unwrap())));
}

#[test]
fn rows_that_are_short_or_infinite_never_reach_a_model() {
    let model = tiny("score", score_kind(), |_| {});
    let mut scorer = running(&model);
    feed(&mut scorer, &[[1.0, 1.0]; 3]);
    assert_eq!(scorer.score(3, &sample(3, &[1.0])).cause, Cause::Missing);
    let mut scorer = running(&model);
    feed(&mut scorer, &[[1.0, 1.0]; 3]);
    assert_eq!(scorer.score(3, &sample(3, &[f32::INFINITY, 1.0])).cause, Cause::Missing);
}

#[test]
fn a_graph_that_is_not_the_manifests_is_refused_with_names_and_numbers() {
    let refused = |change: &dyn Fn(&mut vedette_protocol::Manifest)| {
        let onnx = tiny_graph("score");
        let mut manifest = tiny_manifest(score_kind(), &onnx);
        change(&mut manifest);
        Model::load(&manifest, digest(&manifest), &onnx).unwrap_err().to_string()
    };
    let said = refused(&|m| m.input.name = "rows".into());
    assert_eq!(said, "the manifest's input `rows` is not in the graph, which has x");
    let said = refused(&|m| m.input.shape = vec![6]);
    assert_eq!(said, "input `x` of the graph has shape [1, 3, 2], the manifest needs [1, 6] (batch first)");
    let said = refused(&|m| m.kind = ModelKind::Score { score: "strangeness".into(), contribution: None });
    assert_eq!(said, "the manifest's output `strangeness` is not in the graph, which has score, parts");
    let said = refused(&|m| m.kind = ModelKind::Score { score: "parts".into(), contribution: None });
    assert!(said.contains("output `parts` has shape [1, 2], the manifest needs 1 numbers"), "{said}");
    let said = refused(&|m| m.contract.window = 4);
    assert!(said.contains("tiny@1") && said.contains("4 rows of 2 signals"), "{said}");
    let onnx = tiny_graph("score");
    let manifest = tiny_manifest(score_kind(), &onnx);
    let other = Model::load(&manifest, digest(&manifest), &tiny_graph("logarithm"));
    assert!(matches!(other, Err(LoadError::Artifact { .. })));
}

#[test]
fn a_self_test_over_differences_takes_one_row_more() {
    let model = tiny("score", score_kind(), |m| m.contract.signals[0].transform = Transform::Difference);
    let window = [0.0, 9.0, 1.0, 1.0, 3.0, 1.0, 3.0, 1.0];
    let test = |window: &[f32], score| vedette_protocol::SelfTest {
        tolerance: number(1e-5),
        vectors: vec![vector(window, score)],
    };
    assert!(selftest::check(&model, &test(&window, 8.0)).unwrap() < 1e-6);
    let short = selftest::check(&model, &test(&window[2..], 8.0)).unwrap_err().to_string();
    assert_eq!(short, "self-test vector 1 has 6 numbers, expected 4 rows x 2 signals = 8");
}
