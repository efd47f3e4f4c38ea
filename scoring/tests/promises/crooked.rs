//! Files that no exporter writes: the native engine says in one sentence what is wrong with them, or runs them; it never panics, and
//! no fence stands around it.

use vedette_scoring::{EngineChoice, Network, Outputs, Runner};

use crate::onnx::{F32, Graph, I64, Set};

fn load(graph: &Graph) -> Result<Network, String> {
    Network::load(&graph.bytes(), EngineChoice::Native).map_err(|e| e.to_string())
}

fn refused(graph: &Graph) -> String {
    let said = load(graph).err().unwrap_or_else(|| panic!("was not refused: {graph:?}"));
    println!("{said}");
    assert!(!said.contains('\n'));
    said
}

fn ran(graph: &Graph, input: &[f32]) -> Outputs {
    let network = load(graph).unwrap();
    let mut out = Outputs::new(network.outputs());
    Runner::new(&network).run(&network, input, &mut out).unwrap();
    out
}

fn graph() -> Graph {
    Graph::of(&[1, 4])
}

#[test]
fn a_sound_file_runs() {
    let sound = graph().floats("w", &[4, 2], &[1.0; 8]).node("MatMul", &["x", "w"], &["y"], &[]);
    assert_eq!(ran(&sound, &[1.0, 2.0, 3.0, 4.0]).floats(0), [10.0, 10.0]);
}

#[test]
fn shapes_that_do_not_multiply_out_are_refused() {
    let of = |dims: &[i64], bytes: usize| {
        graph().raw("w", F32, dims, &vec![0; bytes]).node("MatMul", &["x", "w"], &["y"], &[])
    };
    assert!(refused(&of(&[4, 2], 28)).contains("holds 7 numbers, its shape [4, 2] needs 8"));
    assert!(refused(&of(&[4, 2], 33)).contains("tensor `w`"));
    assert!(refused(&of(&[-4, 2], 32)).contains("does not multiply out"));
    assert!(refused(&of(&[i64::MAX, i64::MAX], 32)).contains("does not multiply out"));
    assert!(refused(&of(&[1 << 33, 1 << 33], 0)).contains("does not multiply out"));
    assert!(refused(&of(&[3, 2], 24)).contains("multiplies shapes"));
}

#[test]
fn sizes_that_nobody_has_are_refused_before_anything_is_allocated() {
    let tile = graph().ints("t", &[1 << 20, 1 << 20]).node("Tile", &["x", "t"], &["y"], &[]);
    assert!(refused(&tile).contains("numbers for one row"));
    let filled = graph().ints("s", &[1 << 17, 1 << 17]).node("ConstantOfShape", &["s"], &["y"], &[]);
    assert!(refused(&filled).contains("numbers for one row"));
    let wide = graph().ints("s", &[1 << 40, 4]).node("Expand", &["x", "s"], &["y"], &[]);
    assert!(refused(&wide).contains("numbers for one row"));
    let pads = graph().ints("p", &[0, 1 << 40, 0, 1 << 40]).node("Pad", &["x", "p"], &["y"], &[]);
    assert!(refused(&pads).contains("numbers for one row"));
    let reshaped = graph().ints("s", &[1 << 40, -1]).node("Reshape", &["x", "s"], &["y"], &[]);
    assert!(refused(&reshaped).contains("numbers for one row"));
    let range = graph()
        .ints("a", &[0])
        .ints("b", &[i64::MAX])
        .ints("c", &[1])
        .node("Range", &["a", "b", "c"], &["r"], &[])
        .node("Cast", &["r"], &["y"], &[("to", Set::Int(1))]);
    assert!(refused(&range).contains("numbers for one row"));
    // Each doubles what was there.
    let mut doubled = graph().node("Concat", &["x", "x"], &["d0"], &[("axis", Set::Int(1))]);
    for i in 0..60 {
        let (from, to) = (format!("d{i}"), if i == 59 { "y".to_owned() } else { format!("d{}", i + 1) });
        doubled = doubled.node("Concat", &[&from, &from], &[&to], &[("axis", Set::Int(1))]);
    }
    assert!(refused(&doubled).contains("numbers for one row"));
}

#[test]
fn work_without_end_is_refused_while_loading() {
    let side = 1500;
    let mut grown = graph().ints("s", &[side, side]).node("ConstantOfShape", &["s"], &["m0"], &[]);
    for i in 0..100 {
        grown = grown.node("MatMul", &[&format!("m{i}"), "m0"], &[&format!("m{}", i + 1)], &[]);
    }
    let summed = grown.node("ReduceSum", &["m100"], &["sum"], &[("keepdims", Set::Int(0))]);
    assert!(refused(&summed.node("Add", &["x", "sum"], &["y"], &[])).contains("computed while loading"));
}

#[test]
fn graphs_that_hang_in_the_air_are_refused() {
    let cycle =
        graph().node("Add", &["x", "b"], &["a"], &[]).node("Neg", &["a"], &["b"], &[]).node("Neg", &["b"], &["y"], &[]);
    assert!(refused(&cycle).contains("cycle"));
    let missing = graph().node("Add", &["x", "nobody"], &["y"], &[]);
    assert!(refused(&missing).contains("`nobody`, which nothing makes"));
    let none = graph().node("Neg", &["x"], &["z"], &[]);
    assert_eq!(refused(&none), "output `y` of the graph comes from no node");
    let twice = graph().node("Neg", &["x"], &["y"], &[]).node("Abs", &["x"], &["y"], &[]);
    assert!(refused(&twice).contains("two nodes make `y`"));
    let short = graph().node("Add", &["x"], &["y"], &[]);
    assert!(refused(&short).contains("lacks input 1"));
}

#[test]
fn rules_newer_than_this_program_are_refused_by_number() {
    let newer = graph().opset(999).node("Neg", &["x"], &["y"], &[]);
    assert!(refused(&newer).contains("operator set 999 of ai.onnx"));
    let unknown = graph().node("Frobnicate", &["x"], &["y"], &[]);
    assert!(refused(&unknown).contains("operator Frobnicate"));
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let with = |operator: &str, sets: &[(&str, Set<'_>)]| refused(&graph().node(operator, &["x"], &["y"], sets));
    assert!(with("Softmax", &[("axis", Set::Float(1.0))]).contains("`axis` of the wrong type"));
    assert!(with("Softmax", &[("axis", Set::Int(9))]).contains("names axis 9 of 2"));
    assert!(with("Softmax", &[("axis", Set::Int(i64::MIN))]).contains("names axis"));
    assert!(with("Flatten", &[("axis", Set::Int(50))]).contains("names axis 50"));
    assert!(with("Transpose", &[("perm", Set::Ints(&[0, 0]))]).contains("order"));
    assert!(with("Transpose", &[("perm", Set::Ints(&[7, 1]))]).contains("names axis 7"));
    assert!(with("ReduceSum", &[("keepdims", Set::Text("no"))]).contains("wrong type"));
    assert!(with("Cast", &[("to", Set::Int(77))]).contains("ONNX type 77"));
    let top = |k: i64| graph().ints("k", &[k]).node("TopK", &["x", "k"], &["y", "i"], &[]);
    assert!(refused(&top(-1)).contains("more of 4 numbers"));
    assert!(refused(&top(9999)).contains("more of 4 numbers"));
    let slice = graph().ints("a", &[0]).ints("b", &[4]).ints("c", &[1]).ints("s", &[0]);
    assert!(refused(&slice.node("Slice", &["x", "a", "b", "c", "s"], &["y"], &[])).contains("steps by 0"));
    let gather = graph().ints("i", &[4]).node("Gather", &["x", "i"], &["y"], &[("axis", Set::Int(1))]);
    assert!(refused(&gather).contains("names axis 4 of 4"));
    let stride = Graph::of(&[1, 2, 8]).floats("w", &[1, 2, 3], &[0.0; 6]);
    let stride = stride.node("Conv", &["x", "w"], &["y"], &[("strides", Set::Ints(&[0]))]);
    assert!(refused(&stride).contains("stride 0"));
}

#[test]
fn divisions_by_nothing_and_infinities_give_numbers_or_none_but_no_panic() {
    let divided = graph()
        .ints("six", &[6])
        .ints("zero", &[0])
        .node("Div", &["six", "zero"], &["q"], &[])
        .node("Cast", &["q"], &["f"], &[("to", Set::Int(F32))])
        .node("Add", &["x", "f"], &["y"], &[]);
    assert_eq!(ran(&divided, &[1.0; 4]).floats(0), [1.0; 4]);
    let weights = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX];
    let endless = graph().floats("w", &[4, 1], &weights).node("MatMul", &["x", "w"], &["m"], &[]);
    let endless = endless.node("Softmax", &["m"], &["s"], &[]).node("Log", &["s"], &["y"], &[]);
    assert!(ran(&endless, &[1.0, 2.0, 3.0, f32::MAX]).floats(0)[0].is_nan());
    let cast = graph().node("Cast", &["x"], &["i"], &[("to", Set::Int(I64))]).node("Neg", &["i"], &["j"], &[]);
    let cast = cast.node("Cast", &["j"], &["y"], &[("to", Set::Int(F32))]);
    let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30];
    assert_eq!(ran(&cast, &odd).floats(0).len(), 4);
}

/// A regressor of one tree: nodes 0 (a branch), 1 and 2.
fn tree(children: [&[i64]; 2], features: &[i64], values: &[f32], modes: &[&str]) -> Graph {
    let ids: Vec<i64> = (0..features.len() as i64).collect();
    let zeros = vec![0; features.len()];
    graph().ml(
        "TreeEnsembleRegressor",
        &["x"],
        &["y"],
        &[
            ("n_targets", Set::Int(1)),
            ("nodes_treeids", Set::Ints(&zeros)),
            ("nodes_nodeids", Set::Ints(&ids)),
            ("nodes_featureids", Set::Ints(features)),
            ("nodes_modes", Set::Texts(modes)),
            ("nodes_values", Set::Floats(values)),
            ("nodes_truenodeids", Set::Ints(children[0])),
            ("nodes_falsenodeids", Set::Ints(children[1])),
            ("target_treeids", Set::Ints(&[0, 0])),
            ("target_nodeids", Set::Ints(&[1, 2])),
            ("target_ids", Set::Ints(&[0, 0])),
            ("target_weights", Set::Floats(&[1.0, 2.0])),
        ],
    )
}

#[test]
fn trees_with_circles_missing_children_and_wrong_lengths_are_refused() {
    let modes = ["BRANCH_LEQ", "LEAF", "LEAF"];
    let values = [0.5, 0.0, 0.0];
    let sound = tree([&[1, 0, 0], &[2, 0, 0]], &[0, 0, 0], &values, &modes);
    assert_eq!(ran(&sound, &[0.0; 4]).floats(0), [1.0]);
    let circle = ["BRANCH_LEQ", "BRANCH_LEQ", "LEAF"];
    refused(&tree([&[1, 0, 0], &[2, 0, 0]], &[0, 0, 0], &values, &circle));
    refused(&tree([&[1, 0, 0], &[9, 0, 0]], &[0, 0, 0], &values, &modes));
    refused(&tree([&[1, 0, 0], &[-1, 0, 0]], &[0, 0, 0], &values, &modes));
    refused(&tree([&[1, 0], &[2, 0, 0]], &[0, 0, 0], &values, &modes));
    refused(&tree([&[1, 0, 0], &[2, 0, 0]], &[4, 0, 0], &values, &modes));
    refused(&tree([&[1, 0, 0], &[2, 0, 0]], &[0, 0, 0], &[0.5], &modes));
    refused(&tree([&[1, 0, 0], &[2, 0, 0]], &[0, 0, 0], &values, &["BRANCH_ODD", "LEAF", "LEAF"]));
    // A threshold that is no number sends every row one way.
    let nan = tree([&[1, 0, 0], &[2, 0, 0]], &[0, 0, 0], &[f32::NAN, 0.0, 0.0], &modes);
    if let Ok(network) = load(&nan) {
        let mut out = Outputs::new(network.outputs());
        Runner::new(&network).run(&network, &[0.0; 4], &mut out).unwrap();
        assert_eq!(out.floats(0), [2.0]);
    }
}
