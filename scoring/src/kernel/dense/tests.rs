//! Matrix products against sums in f64, and their bits against company.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::super::lanes::forced;
use super::*;

/// Inputs and outputs that meet every kind of tile: parted or not, one panel, two, many, ragged or whole.
const SHAPES: [(usize, usize); 12] = [
    (1, 1),
    (3, 7),
    (32, 16),
    (16, 8),
    (17, 33),
    (63, 32),
    (64, 16),
    (67, 31),
    (130, 1),
    (64, 80),
    (20, 112),
    (608, 12),
];

fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn reference(inputs: usize, outputs: usize, row: &[f32], weights: &[f32], bias: &[f32]) -> Vec<f64> {
    let sum = |o: usize| (0..inputs).map(|i| f64::from(row[i]) * f64::from(weights[i * outputs + o])).sum::<f64>();
    (0..outputs).map(|o| sum(o) + f64::from(bias[o])).collect()
}

fn layer(inputs: usize, outputs: usize, activation: Option<Function>) -> Dense {
    let panels = Panels::new(inputs, outputs, &numbers(inputs * outputs, 1)).unwrap();
    Dense::new(panels, Some(&numbers(outputs, 2)), activation).unwrap()
}

#[test]
fn every_shape_gives_the_sums_of_f64_on_every_path() {
    for (inputs, outputs) in SHAPES {
        let (weights, bias) = (numbers(inputs * outputs, 1), numbers(outputs, 2));
        let input = numbers(11 * inputs, 3);
        let detected = layer(inputs, outputs, None);
        for dense in [forced::portable(|| layer(inputs, outputs, None)), detected] {
            let mut out = vec![0.0; 11 * outputs];
            dense.run(11, &input, &mut out);
            for (row, got) in input.chunks(inputs).zip(out.chunks(outputs)) {
                for (got, want) in got.iter().zip(reference(inputs, outputs, row, &weights, &bias)) {
                    assert!((f64::from(*got) - want).abs() < 2e-5, "{inputs} x {outputs}: {got} for {want}");
                }
            }
        }
    }
}

#[test]
fn a_row_has_the_same_bits_alone_and_in_company() {
    for (inputs, outputs) in SHAPES {
        let dense = layer(inputs, outputs, Some(Function::Tanh));
        let input = numbers(64 * inputs, 3);
        let mut together = vec![0.0; 64 * outputs];
        dense.run(64, &input, &mut together);
        for rows in [1, 2, 5, 7] {
            let mut apart = vec![0.0; rows * outputs];
            for at in (0..64 - rows).step_by(rows) {
                dense.run(rows, &input[at * inputs..], &mut apart);
                let company = &together[at * outputs..(at + rows) * outputs];
                assert!(apart.iter().zip(company).all(|(a, b)| a.to_bits() == b.to_bits()), "{inputs} x {outputs}");
            }
        }
    }
}

#[test]
fn transposed_weights_are_the_same_weights() {
    let (inputs, outputs) = (17, 33);
    let plain = numbers(inputs * outputs, 1);
    let turned: Vec<f32> = (0..outputs * inputs).map(|at| plain[at % inputs * outputs + at / inputs]).collect();
    let a = Panels::new(inputs, outputs, &plain).unwrap();
    let b = Panels::of_transposed(inputs, outputs, &turned).unwrap();
    assert_eq!(a.blocks, b.blocks);
}

#[test]
fn activations_in_and_after_the_inner_loops_are_the_same_functions() {
    for function in [Function::Relu, Function::LeakyRelu { slope: 0.1 }, Function::Sigmoid, Function::Gelu] {
        let input = numbers(6 * 20, 3);
        let (mut plain, mut bent) = (vec![0.0; 6 * 18], vec![0.0; 6 * 18]);
        layer(20, 18, None).run(6, &input, &mut plain);
        layer(20, 18, Some(function)).run(6, &input, &mut bent);
        function.apply(Lanes::detected(), &mut plain);
        assert_eq!(plain, bent, "{function:?}");
    }
}

#[test]
fn a_product_of_two_unknown_matrices_is_right_both_ways_round() {
    let (rows, inputs, outputs) = (9, 16, 32);
    let (left, right) = (numbers(rows * inputs, 4), numbers(inputs * outputs, 5));
    let turned: Vec<f32> = (0..outputs * inputs).map(|at| right[at % inputs * outputs + at / inputs]).collect();
    for (side, right) in [(RightSide::Plain, right.clone()), (RightSide::Transposed, turned)] {
        let product = Product::new(inputs, outputs, side).unwrap();
        let (mut scratch, mut out) = (vec![9.0; product.scratch()], vec![0.0; rows * outputs]);
        product.run(rows, &left, &right, &mut scratch, &mut out);
        let want = reference(inputs, outputs, &left[8 * inputs..], &numbers(inputs * outputs, 5), &vec![0.0; outputs]);
        assert!(out[8 * outputs..].iter().zip(want).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-5), "{side:?}");
    }
}

#[test]
fn weights_that_do_not_multiply_out_are_refused() {
    for (inputs, outputs, len) in [(3, 4, 11), (0, 4, 0), (4, 0, 0), (usize::MAX, 2, 5)] {
        assert!(Panels::new(inputs, outputs, &vec![0.0; len]).is_err());
    }
    assert!(Product::new(PACKED_MAX, 1, RightSide::Plain).is_err());
    let panels = Panels::new(2, 3, &[0.0; 6]).unwrap();
    assert!(Dense::new(panels, Some(&[0.0; 2]), None).unwrap_err().0.contains("2 numbers for 3 outputs"));
}

#[test]
fn short_slices_run_the_rows_that_fit() {
    let dense = layer(3, 7, Some(Function::Exp));
    let mut out = [5.0; 20];
    dense.run(9, &numbers(12, 3), &mut out[..15]);
    assert!(out[15..].iter().all(|x| *x == 5.0));
    dense.run(usize::MAX, &[], &mut out);
    assert_eq!(out[19], 5.0_f32.exp().max(out[19]).min(out[19]));
}
