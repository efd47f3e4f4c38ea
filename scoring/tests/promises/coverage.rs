//! One model per family that people export gives what ONNX Runtime gives.

use serde::Deserialize;
use vedette_protocol::{Blob, Contract, ModelKind, TensorSpec};
use vedette_scoring::Model;

use crate::made::{data, digest, floats, number, score_kind, signal, tiny_manifest};

#[derive(Deserialize)]
struct Case {
    name: String,
    family: String,
    input: Tensor,
    outputs: Vec<Tensor>,
}

#[derive(Deserialize)]
struct Tensor {
    name: String,
    shape: Vec<usize>,
    file: String,
}

/// As the graph's only output: a reconstruction where it gives back what it saw, a score where it gives one number. Others give
/// what no kind of ours asks for, and are left to the engine's own tests.
fn kind_for(case: &Case, output: &Tensor) -> Option<ModelKind> {
    let numbers = |t: &Tensor| t.shape[1..].iter().product::<usize>();
    if numbers(output) == 1 {
        return Some(ModelKind::Score { score: output.name.clone(), contribution: None });
    }
    if case.input.shape.len() > 2 && output.shape == case.input.shape {
        return Some(ModelKind::Autoencoder { reconstruction: output.name.clone() });
    }
    let signals = *case.input.shape.last().unwrap();
    (numbers(output) == signals).then(|| ModelKind::Forecaster { forecast: output.name.clone() })
}

#[test]
fn every_family_runs_and_scores_as_the_reference_says() {
    let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(data("coverage/manifest.json")).unwrap()).unwrap();
    assert!(cases.len() >= 20);
    let mut ran = 0;
    for case in &cases {
        let onnx = std::fs::read(data(&format!("coverage/{}.onnx", case.name))).unwrap();
        let input = floats(&data(&format!("coverage/{}", case.input.file)));
        let (rows, signals) = (case.input.shape[0], *case.input.shape.last().unwrap());
        let seen: usize = case.input.shape[1..].iter().product();
        for output in &case.outputs {
            let reference = floats(&data(&format!("coverage/{}", output.file)));
            let Some(kind) = kind_for(case, output) else { continue };
            let forecasts = matches!(kind, ModelKind::Forecaster { .. });
            let reconstructs = matches!(kind, ModelKind::Autoencoder { .. });
            let mut manifest = tiny_manifest(score_kind(), &onnx);
            manifest.kind = kind;
            manifest.artifact = Blob::of(&onnx);
            manifest.contract = Contract {
                signals: (0..signals).map(|i| signal(&format!("s{i}"))).collect(),
                window: (seen / signals) as u32 + u32::from(forecasts),
                ..manifest.contract
            };
            let shape = case.input.shape[1..].iter().map(|d| *d as u32).collect();
            manifest.input = TensorSpec { name: case.input.name.clone(), shape };
            manifest.calibration.residual = vec![number(1.0); signals];
            let model = Model::load(&manifest, digest(&manifest), &onnx)
                .unwrap_or_else(|e| panic!("{} ({}): {e}", case.name, case.family));
            let model = std::sync::Arc::new(model);
            // A forecast is held against a last row of zeros, so that the score says what the graph said.
            let windows: Vec<f32> = input
                .chunks_exact(seen)
                .flat_map(|w| w.iter().copied().chain(vec![0.0; if forecasts { signals } else { 0 }]))
                .collect();
            let scores = model.row_scores(&windows);
            assert_eq!(scores.len(), rows);
            for (row, (score, said)) in scores.iter().zip(reference.chunks_exact(reference.len() / rows)).enumerate() {
                let expected = if forecasts {
                    let squares: f64 = said.iter().map(|y| f64::from(*y).powi(2)).sum();
                    (squares / signals as f64).ln_1p() as f32
                } else if reconstructs {
                    let seen = &windows[row * seen..(row + 1) * seen];
                    let squares: f64 = seen.iter().zip(said).map(|(x, y)| f64::from(x - y).powi(2)).sum();
                    (squares / seen.len() as f64).ln_1p() as f32
                } else {
                    said[0]
                };
                let close = (score - expected).abs() <= 1e-5 * expected.abs().max(1.0);
                // Numbers of 8 bits, scaled by the largest of a batch, differ when the batch does.
                assert!(close || case.name == "dense_int8_dyn", "{} row {row}: {score} {expected}", case.name);
            }
            ran += 1;
        }
    }
    println!("{ran} outputs of {} models", cases.len());
    assert!(ran >= 12, "only {ran}");
}
