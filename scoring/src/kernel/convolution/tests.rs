//! Convolutions against ONNX Runtime and against themselves, whole and as streams.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::super::cases::{Case, difference, read};
use super::super::lanes::forced;
use super::stream::CausalConvolution;
use super::*;

fn make(case: &Case) -> Convolution {
    let (input, weights) = (&case.inputs["X"].shape, &case.inputs["W"].shape);
    let one = |name: &str| case.whole(name).first().copied();
    let groups = case.integer("group").unwrap() as usize;
    let pads = case.whole("pads");
    let (bias, numbers) = (case.input("B"), case.input("W").unwrap());
    let is_plain = case.operator == "Conv";
    let numbers = ConvolutionNumbers {
        channels: input[1],
        length: input[2],
        outputs: if is_plain { weights[0] } else { weights[1] * groups },
        kernel: weights[2],
        groups,
        stride: one("strides").unwrap_or(1),
        dilation: one("dilations").unwrap_or(1),
        padding: match case.text("auto_pad") {
            Some("SAME_UPPER") => Padding::SameUpper,
            Some("SAME_LOWER") => Padding::SameLower,
            Some(_) => Padding::Valid,
            None => {
                Padding::Given { before: pads.first().copied().unwrap_or(0), after: pads.get(1).copied().unwrap_or(0) }
            }
        },
        weights: &numbers,
        bias: bias.as_deref(),
        activation: None,
    };
    let more =
        TransposedNumbers { output_padding: one("output_padding").unwrap_or(0), output_length: one("output_shape") };
    if is_plain { Convolution::new(numbers).unwrap() } else { Convolution::transposed(numbers, more).unwrap() }
}

fn run(convolution: &Convolution, rows: usize, input: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; rows * convolution.bias.len() * convolution.length()];
    let mut scratch = vec![f32::NAN; convolution.scratch()];
    convolution.run(rows, input, &mut scratch, &mut out);
    out
}

#[test]
fn every_form_of_both_gives_onnx_runtimes_numbers_on_every_path() {
    let cases = read("convolution.json");
    assert!(cases.len() > 20);
    for case in &cases {
        for convolution in [make(case), forced::portable(|| make(case))] {
            let (rows, want) = (case.inputs["X"].shape[0], &case.outputs["Y"]);
            let what = format!("{} {:?} on {}", case.operator, case.attributes, convolution.lanes.name());
            assert_eq!(convolution.length(), want.shape[2], "{what}");
            let got = run(&convolution, rows, &case.input("X").unwrap());
            let worst = difference(&got, &want.floats());
            assert!(worst < 5e-6, "{what}: {worst}");
        }
    }
}

fn numbers(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919 + seed * 104_729) % 613) as f32 / 300.0 - 1.0).collect()
}

fn causal<'a>(weights: &'a [f32], bias: &'a [f32], length: usize) -> ConvolutionNumbers<'a> {
    ConvolutionNumbers {
        channels: 20,
        length,
        outputs: 18,
        kernel: 3,
        groups: 2,
        stride: 1,
        dilation: 4,
        padding: Padding::Given { before: 8, after: 0 },
        weights,
        bias: Some(bias),
        activation: Some(Function::Relu),
    }
}

#[test]
fn a_stream_gives_the_bits_of_the_padded_row() {
    let (weights, bias, length) = (numbers(18 * 10 * 3, 1), numbers(18, 2), 50);
    let whole = Convolution::new(causal(&weights, &bias, length)).unwrap();
    let input = numbers(20 * length, 3);
    let want = run(&whole, 1, &input);
    let stream = CausalConvolution::new(causal(&weights, &bias, 1)).unwrap();
    let (mut state, mut scratch) = (vec![0.0; stream.state()], vec![0.0; stream.scratch()]);
    let mut out = vec![0.0; stream.outputs()];
    for t in 0..length {
        let sample: Vec<f32> = (0..20).map(|channel| input[channel * length + t]).collect();
        stream.step(&mut state, &sample, &mut scratch, &mut out);
        let there: Vec<f32> = (0..18).map(|channel| want[channel * length + t]).collect();
        assert_eq!(out, there, "sample {t}");
    }
}

#[test]
fn a_spoiled_ring_place_is_survived() {
    let (weights, bias) = (numbers(18 * 10 * 3, 1), numbers(18, 2));
    let stream = CausalConvolution::new(causal(&weights, &bias, 1)).unwrap();
    for place in [f32::NAN, -3.0, 1e30, f32::INFINITY, 7.5] {
        let mut state = vec![0.0; stream.state()];
        state[0] = place;
        stream.step(&mut state, &[0.0; 20], &mut vec![0.0; stream.scratch()], &mut [0.0; 18]);
        assert!((0.0..9.0).contains(&state[0]));
    }
    stream.step(&mut [0.0; 4], &[0.0; 20], &mut [0.0; 60], &mut [0.0; 18]);
}

#[test]
fn rows_have_the_same_bits_alone_and_in_company() {
    for case in read("convolution.json").iter().filter(|case| case.inputs["X"].shape[0] == 2) {
        let (convolution, input) = (make(case), case.input("X").unwrap());
        let together = run(&convolution, 2, &input);
        let apart: Vec<f32> = input.chunks(input.len() / 2).flat_map(|row| run(&convolution, 1, row)).collect();
        assert_eq!(together, apart);
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let (weights, bias) = (numbers(18 * 10 * 3, 1), numbers(18, 2));
    let good = causal(&weights, &bias, 9);
    assert!(Convolution::new(good).is_ok());
    let given = |before, after| Padding::Given { before, after };
    let bad = [
        ConvolutionNumbers { stride: 0, ..good },
        ConvolutionNumbers { dilation: usize::MAX, ..good },
        ConvolutionNumbers { kernel: 0, ..good },
        ConvolutionNumbers { groups: 0, ..good },
        ConvolutionNumbers { groups: 3, ..good },
        ConvolutionNumbers { length: usize::MAX, ..good },
        ConvolutionNumbers { weights: &weights[1..], ..good },
        ConvolutionNumbers { bias: Some(&bias[1..]), ..good },
        ConvolutionNumbers { padding: given(usize::MAX, 1), ..good },
        ConvolutionNumbers { length: 1, padding: given(3, 4), ..good },
    ];
    for numbers in bad {
        assert!(Convolution::new(numbers).is_err(), "{numbers:?}");
    }
    for numbers in [ConvolutionNumbers { stride: 2, ..good }, bad[1], bad[2], bad[3], bad[4], bad[6], bad[7]] {
        assert!(CausalConvolution::new(numbers).is_err(), "{numbers:?}");
    }
    let turned = numbers(20 * 9 * 3, 1);
    let good = ConvolutionNumbers { weights: &turned, padding: Padding::Valid, ..good };
    assert!(Convolution::transposed(good, TransposedNumbers::default()).is_ok());
    for more in [(usize::MAX, None), (0, Some(0)), (0, Some(usize::MAX))] {
        let more = TransposedNumbers { output_padding: more.0, output_length: more.1 };
        assert!(Convolution::transposed(good, more).is_err());
    }
    let padding = given(40, 40);
    assert!(
        Convolution::transposed(ConvolutionNumbers { stride: 5000, ..good }, TransposedNumbers::default()).is_err()
    );
    assert!(Convolution::transposed(ConvolutionNumbers { padding, ..good }, TransposedNumbers::default()).is_err());
}
