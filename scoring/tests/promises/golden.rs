//! Training and serving agree: our scores are ONNX Runtime's, row for row.

use std::sync::Arc;

use vedette_scoring::{Decision, EngineChoice, EngineKind, Model, Sample, StreamScorer, selftest};

use crate::made::{Shared, data, digest, floats, server};

const TOLERANCE: f32 = 1e-5;
const MODELS: [&str; 5] = ["pca", "dense_ae", "conv_ae", "lstm_pred", "iforest_dense"];

fn largest_difference(ours: &[f32], reference: &[f32]) -> f32 {
    assert_eq!(ours.len(), reference.len());
    assert!(ours.iter().all(|s| s.is_finite()));
    ours.iter().zip(reference).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn every_row_scores_as_onnx_runtime_says_one_by_one_and_in_batches() {
    let (schema, rows) = server();
    let samples: Vec<Sample> = rows.into_iter().map(|r| r.sample).collect();
    for name in MODELS {
        let shared = Shared::read(name);
        let model = shared.load();
        let reference = floats(&data(&format!("models/{name}.ref.f32")));
        let warm = shared.manifest.contract.window as usize - 1;

        let mut single = StreamScorer::new(schema.clone());
        single.swap(Some(model.clone())).unwrap();
        let one_by_one: Vec<Decision> = (0..).zip(&samples).map(|(row, s)| *single.score(row, s)).collect();
        let scores: Vec<f32> = one_by_one[warm..].iter().map(|d| d.row_score).collect();
        let difference = largest_difference(&scores, &reference);
        assert!(one_by_one[..warm].iter().all(|d| !d.by_model()) && one_by_one[warm..].iter().all(|d| d.by_model()));

        let mut batch = StreamScorer::new(schema.clone());
        batch.swap(Some(model.clone())).unwrap();
        let mut together = Vec::new();
        batch.score_batch(0, &samples, &mut together);
        let scores: Vec<f32> = together[warm..].iter().map(|d| d.row_score).collect();
        let in_batches = largest_difference(&scores, &reference);

        println!(
            "{name}: largest difference {difference:e} one by one, {in_batches:e} in batches ({})",
            model.batches()
        );
        assert!(difference <= TOLERANCE && in_batches <= TOLERANCE, "{name}: {difference} {in_batches}");
        for (a, b) in one_by_one.iter().zip(&together) {
            assert_eq!((a.row, a.at_ms, a.cause, a.alarm), (b.row, b.at_ms, b.cause, b.alarm), "{name}");
        }
    }
}

#[test]
fn all_models_run_natively_in_batches_whatever_batch_their_graph_fixes() {
    for name in ["pca", "dense_ae", "conv_ae", "lstm_pred", "iforest_dense"] {
        let model = Shared::read(name).load();
        assert_eq!(model.engine(), EngineKind::Native, "{name}");
        assert!(model.batches(), "{name} runs 64 windows in one go");
    }
}

#[test]
fn tract_when_asked_for_runs_the_same_models_and_batches_what_lets_it() {
    for name in ["pca", "dense_ae", "conv_ae", "lstm_pred", "iforest_dense"] {
        let shared = Shared::read(name);
        let choice = EngineChoice::Tract;
        let model = Model::load_with(&shared.manifest, digest(&shared.manifest), &shared.onnx, choice).unwrap();
        assert_eq!(model.engine(), EngineKind::Tract, "{name}");
        assert_eq!(model.batches(), name != "iforest_dense", "its reshape fixes the batch");
        let (ours, theirs) = (shared.load(), Arc::new(model));
        let windows: Vec<f32> = (0..64 * ours.window_numbers()).map(|i| ((i * 7919) % 1000) as f32 / 1000.0).collect();
        for (a, b) in ours.row_scores(&windows).iter().zip(theirs.row_scores(&windows)) {
            assert!((a - b).abs() <= 1e-5 * (1.0 + b.abs()), "{name}: {a} {b}");
        }
    }
}

#[test]
fn contributions_name_the_signals_that_the_graph_names() {
    #[derive(serde::Deserialize)]
    struct Tops {
        rows: Vec<Expected>,
    }
    #[derive(serde::Deserialize)]
    struct Expected {
        row: u64,
        contributions: Vec<(String, f32)>,
    }
    let (schema, rows) = server();
    for name in ["pca", "dense_ae", "conv_ae", "lstm_pred"] {
        let mut scorer = StreamScorer::new(schema.clone());
        scorer.swap(Some(Shared::read(name).load())).unwrap();
        let decisions: Vec<Decision> = (0..).zip(&rows).map(|(row, r)| *scorer.score(row, &r.sample)).collect();
        let text = std::fs::read(data(&format!("models/{name}.top.json"))).unwrap();
        for expected in serde_json::from_slice::<Tops>(&text).unwrap().rows {
            let decision = decisions[expected.row as usize];
            let found = decision.top.as_slice();
            assert_eq!(found.len(), expected.contributions.len());
            for (share, (signal, value)) in found.iter().zip(&expected.contributions) {
                assert_eq!(
                    schema.name(share.signal.into()).unwrap().to_string(),
                    *signal,
                    "{name} row {}",
                    expected.row
                );
                assert!((share.share - value).abs() < 1e-4, "{name} row {}: {share:?}", expected.row);
                let raw = rows[expected.row as usize].sample.values[usize::from(share.signal)];
                assert_eq!(share.value, raw);
            }
        }
    }
}

#[test]
fn self_tests_pass_and_a_wrong_score_is_found() {
    for name in MODELS {
        let shared = Shared::read(name);
        let largest = selftest::check(&shared.load(), &shared.selftest).unwrap();
        assert!(largest <= 1e-5, "{name}: {largest}");
    }
    for (bad, said) in [("untrue", "the author saw"), ("nan", "the model gives no number for self-test vector 1")] {
        let folder = data("demo/bad").join(bad);
        let shared = Shared::at(&folder.join("manifest.toml"), &folder.join("model.onnx"));
        let error = selftest::check(&shared.load(), &shared.selftest).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}
