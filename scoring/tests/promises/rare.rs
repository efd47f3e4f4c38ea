//! Operators that no model of the zoo has: values by hand.

use vedette_scoring::{EngineChoice, EngineKind, Network, Outputs, Runner};

use crate::onnx::{F32, Graph, Set};

/// ONNX's number for u8.
const U8: i64 = 2;

fn run(graph: &Graph, input: &[f32]) -> Vec<f32> {
    let network = Network::load(&graph.bytes(), EngineChoice::Auto).unwrap();
    assert_eq!(network.engine(), EngineKind::Native);
    let mut out = Outputs::new(network.outputs());
    Runner::new(&network).run(&network, input, &mut out).unwrap();
    out.floats(0).to_vec()
}

fn graph() -> Graph {
    Graph::of(&[1, 4])
}

#[test]
fn swish_is_x_by_its_sigmoid() {
    let found = run(&graph().opset(24).node("Swish", &["x"], &["y"], &[]), &[0.0, 1.0, -2.0, 20.0]);
    for (y, x) in found.iter().zip([0.0_f32, 1.0, -2.0, 20.0]) {
        assert!((y - x / (1.0 + (-x).exp())).abs() < 1e-6);
    }
}

#[test]
fn what_drops_out_while_training_stays() {
    assert_eq!(run(&graph().node("Dropout", &["x"], &["y"], &[]), &[1.0, 2.0, 3.0, 4.0]), [1.0, 2.0, 3.0, 4.0]);
}

#[test]
fn sizes_and_ranges_are_numbers_like_others() {
    let sized = graph().node("Size", &["x"], &["n"], &[]).node("CastLike", &["n", "x"], &["f"], &[]).node(
        "Add",
        &["x", "f"],
        &["y"],
        &[],
    );
    assert_eq!(run(&sized, &[1.0, 2.0, 3.0, 4.0]), [5.0, 6.0, 7.0, 8.0]);
    let ranged = graph()
        .raw("a", F32, &[], &1.0_f32.to_le_bytes())
        .raw("b", F32, &[], &3.0_f32.to_le_bytes())
        .raw("c", F32, &[], &0.5_f32.to_le_bytes())
        .node("Range", &["a", "b", "c"], &["r"], &[])
        .node("Mul", &["x", "r"], &["y"], &[]);
    assert_eq!(run(&ranged, &[2.0; 4]), [2.0, 3.0, 4.0, 5.0]);
}

#[test]
fn a_triangle_keeps_one_side_of_the_diagonal() {
    let square = Graph::of(&[1, 2, 2]);
    let lower = square.clone().node("Trilu", &["x"], &["y"], &[("upper", Set::Int(0))]);
    assert_eq!(run(&lower, &[1.0, 2.0, 3.0, 4.0]), [1.0, 0.0, 3.0, 4.0]);
    assert_eq!(run(&square.node("Trilu", &["x"], &["y"], &[]), &[1.0, 2.0, 3.0, 4.0]), [1.0, 2.0, 0.0, 4.0]);
}

#[test]
fn a_global_pool_takes_the_largest_of_each_channel() {
    let pooled = Graph::of(&[1, 2, 2]).node("GlobalMaxPool", &["x"], &["y"], &[]);
    assert_eq!(run(&pooled, &[1.0, 5.0, -3.0, -4.0]), [5.0, -3.0]);
}

/// `x` in steps of 0.5 around 128, and the same as weights.
fn quantised() -> Graph {
    graph().floats("s", &[], &[0.5]).raw("z", U8, &[], &[128]).node("QuantizeLinear", &["x", "s", "z"], &["q"], &[])
}

#[test]
fn products_and_sums_of_8_bits_are_as_exact_as_their_steps() {
    let x = [1.0, -2.0, 0.5, 3.0];
    // 2, -1, 4, 0 in steps of a half.
    let product = quantised()
        .raw("w", U8, &[4, 1], &[132, 126, 136, 128])
        .node("QLinearMatMul", &["q", "s", "z", "w", "s", "z", "s", "z"], &["p"], &[])
        .node("DequantizeLinear", &["p", "s", "z"], &["y"], &[]);
    assert_eq!(run(&product, &x), [6.0]);
    for (operator, expected) in [("QLinearAdd", [2.0, -4.0, 1.0, 6.0]), ("QLinearMul", [1.0, 4.0, 0.0, 9.0])] {
        let both = quantised().microsoft(operator, &["q", "s", "z", "q", "s", "z", "s", "z"], &["p"]).node(
            "DequantizeLinear",
            &["p", "s", "z"],
            &["y"],
            &[],
        );
        // A quarter lies between two steps: to the even one.
        assert_eq!(run(&both, &x), expected, "{operator}");
    }
}
