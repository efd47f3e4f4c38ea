//! Which engine runs what, and that they agree.

use std::io::Read as _;

use vedette_scoring::{EngineChoice, EngineKind, Network, Outputs, Runner};

use crate::made::{data, floats};

fn zoo(name: &str) -> Vec<u8> {
    let file = std::fs::read(data(&format!("zoo/{name}.onnx.gz"))).unwrap();
    let mut onnx = Vec::new();
    flate2::read::GzDecoder::new(&file[..]).read_to_end(&mut onnx).unwrap();
    onnx
}

fn run(network: &Network, rows: usize) -> Outputs {
    let numbers = network.input().numbers();
    let input: Vec<f32> = (0..rows * numbers).map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0).collect();
    let mut out = Outputs::new(network.outputs());
    Runner::new(network).run(network, &input, &mut out).unwrap();
    out
}

#[test]
fn what_is_pushed_first_runs_natively() {
    let names = [
        "dense_relu",
        "dense_relu_dynamo",
        "isolation_forest_100",
        "random_forest",
        "lightgbm_binary",
        "xgboost_binary",
        "scaler_pca_small",
        "logistic",
        "kmeans_small",
        "mixture_full",
        "one_class_rbf",
        "lstm_small",
        "gru_small",
        "lstm_autoencoder_expand",
        "conv_autoencoder",
        "transformer_relu",
        "dense_relu_int8_qdq_s8",
        "dense_relu_int8_qoperator_u8",
        "dense_relu_int8_dynamic",
        "local_outlier_factor",
        "knn",
    ];
    for name in names {
        let network = Network::load(&zoo(name), EngineChoice::Auto).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(network.engine(), EngineKind::Native, "{name}");
        assert!(network.batches());
    }
}

#[test]
fn the_engines_agree_where_both_can() {
    let names = [
        "dense_relu",
        "dense_relu_dynamo",
        "conv_autoencoder",
        "gru_small",
        "lstm_small",
        "transformer_relu",
        "dense_gelu",
    ];
    for name in names {
        let onnx = zoo(name);
        let ours = Network::load(&onnx, EngineChoice::Native).unwrap();
        let theirs = Network::load(&onnx, EngineChoice::Tract).unwrap();
        assert_eq!((ours.engine(), theirs.engine()), (EngineKind::Native, EngineKind::Tract));
        assert_eq!((ours.input(), ours.outputs()), (theirs.input(), theirs.outputs()), "{name}");
        for (a, b) in run(&ours, 70).floats(0).iter().zip(run(&theirs, 70).floats(0)) {
            assert!((a - b).abs() <= 1e-5 * (1.0 + b.abs()), "{name}: {a} {b}");
        }
    }
}

#[test]
fn operators_of_ours_run_inside_of_a_graph_of_tracts() {
    let network = Network::load(&zoo("adaboost_regressor"), EngineChoice::Auto).unwrap();
    assert_eq!(network.engine(), EngineKind::Mixed);
    // The zoo's own test holds its numbers; here: several rows give what each gives alone.
    let many = run(&network, 5);
    assert_eq!(many.floats(0).len(), 5);
}

#[test]
fn a_runner_of_one_thread_gives_what_another_gives() {
    let onnx = zoo("isolation_forest_20");
    let network = Network::load(&onnx, EngineChoice::Auto).unwrap();
    let expected = run(&network, 64);
    std::thread::scope(|scope| {
        let others: Vec<_> = (0..4).map(|_| scope.spawn(|| run(&network, 64))).collect();
        for other in others {
            assert_eq!(other.join().unwrap(), expected);
        }
    });
}

#[test]
fn rows_beyond_a_batch_come_out_in_order() {
    let onnx = std::fs::read(data("coverage/dense_ae_ts.onnx")).unwrap();
    let network = Network::load(&onnx, EngineChoice::Auto).unwrap();
    let input = floats(&data("coverage/dense_ae_ts.in.f32"));
    let long: Vec<f32> = input.iter().cycle().take(input.len() * 9).copied().collect();
    let mut out = Outputs::new(network.outputs());
    let mut runner = Runner::new(&network);
    runner.run(&network, &input, &mut out).unwrap();
    let once = out.floats(0).to_vec();
    runner.run(&network, &long, &mut out).unwrap();
    assert_eq!(out.floats(0), once.repeat(9));
}
