//! LSTM and GRU against ONNX Runtime, and against themselves in company and in pieces.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::super::cases::{Case, difference, read};
use super::super::lanes::forced;
use super::activation::functions;
use super::gru::{Gru, GruNumbers, Reset};
use super::lstm::{Lstm, LstmNumbers};
use super::*;

fn size(case: &Case) -> Size {
    let direction = match case.text("direction") {
        Some("reverse") => Direction::Reverse,
        Some("bidirectional") => Direction::Bidirectional,
        _ => Direction::Forward,
    };
    let hidden = usize::try_from(case.integer("hidden_size").unwrap()).unwrap();
    Size { inputs: case.inputs["X"].shape[2], hidden, direction }
}

fn lstm(case: &Case) -> Lstm {
    let names = case.list("activations", |v| v.as_str());
    let (bias, peepholes) = (case.input("B"), case.input("P"));
    let numbers = LstmNumbers {
        size: size(case),
        weights: &case.input("W").unwrap(),
        recurrence: &case.input("R").unwrap(),
        bias: bias.as_deref(),
        peepholes: peepholes.as_deref(),
        activations: &functions(&names, &case.floats("activation_alpha"), &case.floats("activation_beta")).unwrap(),
        clip: case.attributes.get("clip").and_then(|v| v.as_f64()).map(|x| x as f32),
        is_coupled: case.integer("input_forget") == Some(1),
    };
    Lstm::new(numbers).unwrap()
}

fn gru(case: &Case) -> Gru {
    let names = case.list("activations", |v| v.as_str());
    let bias = case.input("B");
    let after = case.integer("linear_before_reset") == Some(1);
    let numbers = GruNumbers {
        size: size(case),
        weights: &case.input("W").unwrap(),
        recurrence: &case.input("R").unwrap(),
        bias: bias.as_deref(),
        activations: &functions(&names, &case.floats("activation_alpha"), &case.floats("activation_beta")).unwrap(),
        clip: case.attributes.get("clip").and_then(|v| v.as_f64()).map(|x| x as f32),
        reset: if after { Reset::AfterProduct } else { Reset::BeforeProduct },
    };
    Gru::new(numbers).unwrap()
}

struct Out {
    every: Vec<f32>,
    hidden: Vec<f32>,
    cell: Vec<f32>,
}

fn run<C: Cell>(layer: &Recurrent<C>, sequence: Sequence, input: &[f32], begin: Begin<'_>) -> Out {
    let ends = layer.size().hidden * sequence.rows * layer.size().direction.ways();
    let mut scratch = vec![7.0; layer.scratch(sequence).unwrap()];
    let mut out = Out { every: vec![0.0; ends * sequence.steps], hidden: vec![0.0; ends], cell: vec![0.0; ends] };
    let mut results = Results { every: Some(&mut out.every), hidden: Some(&mut out.hidden), cell: Some(&mut out.cell) };
    layer.run(sequence, input, begin, &mut scratch, &mut results);
    out
}

fn check<C: Cell>(case: &Case, layers: [Recurrent<C>; 2]) {
    let shape = &case.inputs["X"].shape;
    let (hidden, cell) = (case.input("initial_h"), case.input("initial_c"));
    let begin = Begin { hidden: hidden.as_deref(), cell: cell.as_deref() };
    for layer in layers {
        let sequence = Sequence { steps: shape[0], rows: shape[1] };
        let out = run(&layer, sequence, &case.input("X").unwrap(), begin);
        let mut worst = difference(&out.every, &case.output("Y")).max(difference(&out.hidden, &case.output("Y_h")));
        if case.operator == "LSTM" {
            worst = worst.max(difference(&out.cell, &case.output("Y_c")));
        }
        assert!(worst < 2e-6, "{} {:?}: {worst} on {}", case.operator, case.attributes, layer.lanes.name());
    }
}

#[test]
fn every_form_of_both_gives_onnx_runtimes_numbers_on_every_path() {
    let cases = read("recurrent.json");
    assert!(cases.len() > 20);
    for case in &cases {
        match case.operator.as_str() {
            "LSTM" => check(case, [lstm(case), forced::portable(|| lstm(case))]),
            _ => check(case, [gru(case), forced::portable(|| gru(case))]),
        }
    }
}

/// The first case's layer over more rows than the case has.
fn wide_input(rows: usize, steps: usize, inputs: usize) -> Vec<f32> {
    (0..rows * steps * inputs).map(|i| ((i * 7919) % 613) as f32 / 300.0 - 1.0).collect()
}

fn rows_are_independent<C: Cell>(layer: &Recurrent<C>) {
    let (rows, steps, inputs, hidden) = (9, 6, layer.size().inputs, layer.size().hidden);
    let input = wide_input(rows, steps, inputs);
    let together = run(layer, Sequence { steps, rows }, &input, Begin::default());
    for row in 0..rows {
        let alone: Vec<f32> = (0..steps).flat_map(|s| input[(s * rows + row) * inputs..][..inputs].to_vec()).collect();
        let alone = run(layer, Sequence { steps, rows: 1 }, &alone, Begin::default());
        assert_eq!(alone.hidden, together.hidden[row * hidden..][..hidden]);
    }
}

fn steps_make_the_sequence<C: Cell>(layer: &Recurrent<C>) {
    let (steps, inputs, hidden) = (8, layer.size().inputs, layer.size().hidden);
    let input = wide_input(1, steps, inputs);
    let whole = run(layer, Sequence { steps, rows: 1 }, &input, Begin::default());
    let (mut state, mut out) = (vec![0.0; layer.state()], vec![0.0; hidden]);
    let mut scratch = vec![3.0; layer.step_scratch().unwrap()];
    for (step, sample) in input.chunks(inputs).enumerate() {
        layer.step(&mut state, sample, &mut scratch, &mut out);
        assert_eq!(out, whole.every[step * hidden..][..hidden], "step {step}");
    }
    assert_eq!(state[..hidden], whole.hidden);
}

#[test]
fn a_row_has_the_same_bits_alone_and_in_company_and_sample_by_sample() {
    for case in read("recurrent.json").iter().filter(|case| size(case).direction == Direction::Forward) {
        match case.operator.as_str() {
            "LSTM" => {
                rows_are_independent(&lstm(case));
                steps_make_the_sequence(&lstm(case));
            }
            _ => {
                rows_are_independent(&gru(case));
                steps_make_the_sequence(&gru(case));
            }
        }
    }
}

fn small<'a>() -> LstmNumbers<'a> {
    LstmNumbers {
        size: Size { inputs: 1, hidden: 1, direction: Direction::Forward },
        weights: &[1.0; 4],
        recurrence: &[1.0; 4],
        bias: None,
        peepholes: None,
        activations: &[],
        clip: None,
        is_coupled: false,
    }
}

#[test]
fn numbers_that_do_not_fit_are_refused_by_name() {
    let refusal = |numbers: LstmNumbers<'_>| Lstm::new(numbers).map(|_| ()).unwrap_err().0;
    assert!(refusal(LstmNumbers { weights: &[1.0; 3], ..small() }).contains("weights (W) has 3 numbers"));
    assert!(refusal(LstmNumbers { bias: Some(&[1.0; 4]), ..small() }).contains("bias (B)"));
    assert!(refusal(LstmNumbers { activations: &functions(&["Tanh"], &[], &[]).unwrap(), ..small() }).contains('1'));
    for (inputs, hidden) in [(0, 1), (1, 0), (usize::MAX, 3), (3, usize::MAX / 8), (1, 1 << 20)] {
        let size = Size { inputs, hidden, direction: Direction::Forward };
        assert!(!refusal(LstmNumbers { size, ..small() }).is_empty());
    }
    assert!(functions(&["Affine"], &[], &[]).unwrap_err().0.contains("activation Affine"));
}

#[test]
fn slices_too_short_change_nothing() {
    let layer = Lstm::new(small()).unwrap();
    let sequence = Sequence { steps: 2, rows: 3 };
    assert_eq!(layer.scratch(Sequence { steps: usize::MAX, rows: 2 }), None);
    let (mut scratch, mut hidden) = (vec![0.0; layer.scratch(sequence).unwrap()], [5.0; 3]);
    for (input, begin) in [(&[1.0; 5][..], None), (&[1.0; 6][..], Some(&[1.0; 2][..]))] {
        let mut results = Results { hidden: Some(&mut hidden), ..Results::default() };
        layer.run(sequence, input, Begin { hidden: begin, cell: None }, &mut scratch, &mut results);
    }
    layer.step(&mut [0.0; 1], &[1.0], &mut scratch, &mut hidden);
    layer.step(&mut [0.0; 2], &[1.0], &mut [], &mut hidden);
    assert_eq!(hidden, [5.0; 3]);
}
