//! The models that the engines are timed with, their rows, and what we promise of each.

use std::path::PathBuf;

use anyhow::Context as _;
use vedette_scoring::replay::{self, Replay};

use crate::ort::{self, Port};
use crate::zoo::{self, Animal};

/// Rows that are run together at most.
pub(crate) const ROWS: usize = 256;

/// What a figure must be.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Goal {
    /// Of ONNX Runtime's time.
    pub(crate) ratio: Option<f64>,
    /// Per record.
    pub(crate) ns: Option<f64>,
}

/// One model with rows for it.
pub(crate) struct Case {
    pub(crate) title: &'static str,
    pub(crate) onnx: Vec<u8>,
    pub(crate) input: String,
    /// Shape of one row.
    pub(crate) row_shape: Vec<usize>,
    /// [`ROWS`] rows, one after the other.
    pub(crate) rows: Vec<f32>,
    /// Each with the shape for one row.
    outputs: Vec<Port>,
    /// One by one, and all together.
    pub(crate) goals: [Goal; 2],
    /// Widths of a dense model's layers, for the hand-written bound.
    pub(crate) widths: &'static [usize],
}

impl Case {
    /// Numbers of a row.
    pub(crate) fn size(&self) -> usize {
        self.row_shape.iter().product()
    }

    /// The outputs with their shapes for a batch.
    pub(crate) fn outputs(&self, batch: usize) -> Vec<Port> {
        let batched = |port: &Port| {
            let mut port = port.clone();
            port.shape[0] = batch;
            port
        };
        self.outputs.iter().map(batched).collect()
    }
}

/// What is promised at batch 1, and of all rows together.
const fn goals(single: f64, together: Option<f64>) -> [Goal; 2] {
    [Goal { ratio: Some(single), ns: None }, Goal { ratio: together, ns: None }]
}

const NONE: [Goal; 2] = [Goal { ratio: None, ns: None }; 2];
const DENSE: [Goal; 2] = [Goal { ratio: Some(0.125), ns: Some(300.0) }, Goal { ratio: Some(1.0), ns: None }];
const TREES: [Goal; 2] = goals(0.5, Some(1.0));
const SMALL: [Goal; 2] = goals(0.2, None);

/// Every case, read into memory.
pub(crate) fn all() -> anyhow::Result<Vec<Case>> {
    let animals = zoo::all()?;
    let zoo = |title, name: &str, goals, widths| {
        let found = animals.iter().find(|animal| animal.name == name);
        of_zoo(title, found.with_context(|| format!("the zoo has no {name}"))?, goals, widths)
    };
    Ok(vec![
        zoo("dense AE 32-16-8-16-32", "coverage_dense_ae_ts", DENSE, &[32, 16, 8, 16, 32])?,
        zoo("dense AE, its score", "coverage_dense_ae_score_ts", NONE, &[32, 16, 8, 16, 32])?,
        zoo("dense AE 32-128-64-128-32", "coverage_dense_ae_big_ts", NONE, &[32, 128, 64, 128, 32])?,
        shared("dense AE 608-64-12-64-608", "dense_ae", 16, goals(0.5, None), &[608, 64, 12, 64, 608])?,
        zoo("isolation forest 100 x 256", "coverage_iforest100", TREES, &[])?,
        zoo("random forest 50 x depth 8", "coverage_rf_nozip", TREES, &[])?,
        zoo("LightGBM 50 x 15 leaves", "coverage_lgbm_nozip", TREES, &[])?,
        zoo("XGBoost 50 x depth 4", "coverage_xgb", TREES, &[])?,
        shared("PCA, its score, 38 signals", "pca", 1, SMALL, &[])?,
        zoo("scaler + PCA", "coverage_scaler_pca", SMALL, &[])?,
        zoo("scaler", "standard_scaler", SMALL, &[])?,
        zoo("logistic regression", "coverage_logreg_nozip", SMALL, &[])?,
        zoo("scaler + logistic", "scaler_logistic", SMALL, &[])?,
        zoo("k-means", "coverage_kmeans", SMALL, &[])?,
        zoo("Gaussian mixture", "coverage_gmm", SMALL, &[])?,
        zoo("one-class SVM", "coverage_ocsvm", NONE, &[])?,
        zoo("LSTM AE 32 x 8", "coverage_lstm_ae_mul", goals(0.8, None), &[])?,
        shared("LSTM forecaster 16 x 38", "lstm_pred", 16, goals(0.8, None), &[])?,
        zoo("GRU forecaster 32 x 8", "coverage_gru_ts", goals(0.8, None), &[])?,
        zoo("conv AE 8 x 64", "coverage_conv_ae_ts", NONE, &[])?,
        zoo("causal conv 8 x 64", "coverage_causal_conv_ts", NONE, &[])?,
        zoo("dense AE int8 QDQ", "coverage_dense_int8_qdq_s8", goals(1.0, None), &[])?,
        zoo("dense AE int8 QOperator", "coverage_dense_int8_qop_u8", goals(1.0, None), &[])?,
        zoo("transformer 32 x 8", "coverage_transformer_ts", NONE, &[])?,
    ])
}

fn of_zoo(title: &'static str, animal: &Animal, goals: [Goal; 2], widths: &'static [usize]) -> anyhow::Result<Case> {
    let output = |output: &zoo::Output| {
        let kind = match output.kind {
            zoo::Kind::F32 => ort::Kind::F32,
            zoo::Kind::I64 | zoo::Kind::String => ort::Kind::I64,
        };
        Port { name: output.name.clone(), kind, shape: output.shape.clone() }
    };
    Ok(Case {
        title,
        onnx: animal.onnx()?,
        input: animal.input_name()?.to_owned(),
        row_shape: animal.row_shape().to_vec(),
        rows: repeated(&animal.rows()?, animal.row_shape().iter().product()),
        outputs: animal.outputs.iter().map(output).collect(),
        goals,
        widths,
    })
}

/// [`ROWS`] rows out of fewer or more.
fn repeated(rows: &[f32], size: usize) -> Vec<f32> {
    rows.chunks_exact(size).cycle().take(ROWS).flatten().copied().collect()
}

/// One of `tests/data/models`, with windows of a server's telemetry.
fn shared(
    title: &'static str,
    name: &str,
    window: usize,
    goals: [Goal; 2],
    widths: &'static [usize],
) -> anyhow::Result<Case> {
    let (signals, rows) = telemetry(window + ROWS)?;
    let windows = (0..ROWS).flat_map(|row| &rows[row * signals..(row + window) * signals]).copied().collect();
    Ok(Case {
        title,
        onnx: std::fs::read(batched(name))?,
        input: "x".to_owned(),
        row_shape: if window == 1 { vec![signals] } else { vec![window, signals] },
        rows: windows,
        outputs: vec![Port::f32("score", vec![1, 1]), Port::f32("contrib", vec![1, signals])],
        goals,
        widths,
    })
}

/// The file of a shared model with a symbolic batch axis.
pub(crate) fn batched(name: &str) -> PathBuf {
    vedette_tests::data_dir().join("models/batched").join(format!("{name}.onnx"))
}

/// The sample's first rows.
fn telemetry(count: usize) -> anyhow::Result<(usize, Vec<f32>)> {
    let mut options = replay::Options::new(0, 60_000);
    options.label = Some("label".to_owned());
    options.default_unit = Some("1".parse()?);
    let replay = Replay::open(&vedette_tests::sample::test_file(), &options)?;
    let signals = replay.schema().len();
    let rows: Vec<Vec<f32>> =
        replay.take(count).map(|row| Ok(row?.sample.values.to_vec())).collect::<anyhow::Result<_>>()?;
    Ok((signals, rows.concat()))
}
