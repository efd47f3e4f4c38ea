//! Whole numbers against ONNX Runtime's, to the last one.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::super::cases::{Case, difference, read};
use super::super::dense::RightSide;
use super::super::lanes::forced;
use super::dense::{Finish, QuantizedDense, QuantizedProduct, WeightNumbers, scales};
use super::*;

/// The kind of an output is that of its zero point's tensor; the files keep numbers only, so it is told by their sign.
fn kind(case: &Case, tensors: [&str; 2]) -> Eight {
    let numbers = |name: &str| case.input(name).or_else(|| case.outputs.get(name).map(|t| t.floats()));
    let is_signed = tensors.iter().filter_map(|name| numbers(name)).flatten().any(|x| x < 0.0);
    if is_signed { Eight::Signed } else { Eight::Unsigned }
}

fn scale(case: &Case, x: &str, y: [&str; 3]) -> Scale {
    let shape = &case.inputs["x"].shape;
    let scales = case.input(y[0]).unwrap();
    let axis = case.integer("axis").map_or(shape.len(), |axis| axis as usize + 1);
    let run = shape[axis..].iter().product();
    Scale::new(kind(case, [x, y[2]]), &scales, case.input(y[1]).as_deref(), run).unwrap()
}

fn weights<'a>(case: &Case, name: &str, weights: &'a [f32], zeros: &'a [f32]) -> WeightNumbers<'a> {
    let shape = &case.inputs[name].shape;
    let is_turned = case.integer("transB") == Some(1);
    let (inputs, outputs) = if is_turned { (shape[1], shape[0]) } else { (shape[0], shape[1]) };
    let side = if is_turned { RightSide::Transposed } else { RightSide::Plain };
    WeightNumbers { inputs, outputs, weights, side, zeros }
}

/// QLinearMatMul and QGemm, whose inputs have the same names but for their case.
fn layer(case: &Case, [a, b, y]: [&str; 3]) -> Vec<f32> {
    let input = |name: String| case.input(&name);
    let one = |name: String| input(name).unwrap()[0];
    let (numbers, zeros) = (case.input(b).unwrap(), input("b_zero_point".into()).unwrap());
    let numbers = weights(case, b, &numbers, &zeros);
    let output = input("y_scale".into()).map(|scale| scale[0]);
    let scales = scales(one("a_scale".into()), &input("b_scale".into()).unwrap(), output);
    let finish = match output {
        Some(_) => Finish::Requantised { scales: &scales, zero: one("y_zero_point".into()), kind: kind(case, [a, y]) },
        None => Finish::Scaled { scales: &scales },
    };
    let bias: Option<Vec<i32>> = case.input("C").map(|c| c.iter().map(|x| *x as i32).collect());
    let dense = QuantizedDense::new(numbers, one("a_zero_point".into()), bias.as_deref(), finish).unwrap();
    let rows = case.inputs[a].shape[0];
    let mut out = vec![0.0; rows * numbers.outputs];
    dense.run(rows, &case.input(a).unwrap(), &mut out);
    out
}

fn product(case: &Case) -> Vec<f32> {
    let (numbers, zeros) = (case.input("B").unwrap(), case.input("b_zero_point").unwrap());
    let numbers = weights(case, "B", &numbers, &zeros);
    let mut out = vec![0.0; 3 * numbers.outputs];
    let product = QuantizedProduct::new(numbers).unwrap();
    product.run(3, case.input("a_zero_point").unwrap()[0], &case.input("A").unwrap(), &mut out);
    out
}

fn answer(case: &Case) -> (Vec<f32>, Vec<f32>) {
    let values = case.input("x").unwrap_or_default();
    let mut out = vec![0.0; values.len()];
    match case.operator.as_str() {
        "QuantizeLinear" => {
            scale(case, "y_zero_point", ["y_scale", "y_zero_point", "y"]).quantize(&values, &mut out);
            (out, case.output("y"))
        }
        "DequantizeLinear" => {
            scale(case, "x", ["x_scale", "x_zero_point", "x"]).dequantize(&values, &mut out);
            (out, case.output("y"))
        }
        "DynamicQuantizeLinear" => {
            let (scale, zero) = quantize_by_range(Lanes::detected(), &values, &mut out);
            assert_eq!([scale, zero], [case.output("y_scale")[0], case.output("y_zero_point")[0]]);
            (out, case.output("y"))
        }
        "QLinearMatMul" => (layer(case, ["a", "b", "y"]), case.output("y")),
        "QGemm" => (layer(case, ["A", "B", "Y"]), case.output("Y")),
        _ => (product(case), case.output("Y")),
    }
}

#[test]
fn every_operator_gives_onnx_runtimes_whole_numbers_on_every_path() {
    let cases = read("quantized.json");
    assert!(cases.len() > 20);
    for case in &cases {
        for (got, want) in [answer(case), forced::portable(|| answer(case))] {
            let is_float = case.operator == "DequantizeLinear" || !case.inputs.contains_key("y_scale");
            if is_float && case.operator != "MatMulInteger" {
                assert!(difference(&got, &want) < 1e-6, "{} {:?}", case.operator, case.attributes);
            } else {
                assert_eq!(got, want, "{} {:?}", case.operator, case.attributes);
            }
        }
    }
}

#[test]
fn sums_beyond_f32_are_counted_in_integers() {
    let (inputs, outputs) = (1000, 17);
    let weights: Vec<f32> = (0..inputs * outputs).map(|i| ((i * 7919) % 256) as f32 - 128.0).collect();
    let numbers = WeightNumbers { inputs, outputs, weights: &weights, side: RightSide::Plain, zeros: &[] };
    let bias: Vec<i32> = (0..outputs as i32).map(|i| i * 1_000_003).collect();
    let dense = QuantizedDense::new(numbers, 3.0, Some(&bias), Finish::Scaled { scales: &[1.0] }).unwrap();
    let row: Vec<f32> = (0..inputs).map(|i| ((i * 31) % 256) as f32).collect();
    let mut out = vec![0.0; outputs];
    dense.run(1, &row, &mut out);
    for (output, got) in out.iter().enumerate() {
        let product = |i: usize| (f64::from(row[i]) - 3.0) * f64::from(weights[i * outputs + output]);
        let want = (0..inputs).map(product).sum::<f64>() + f64::from(bias[output]);
        assert_eq!(*got, want as f32);
    }
}

#[test]
fn not_a_number_becomes_the_smallest() {
    let scale = Scale::new(Eight::Unsigned, &[0.5], Some(&[7.0]), 1).unwrap();
    let mut out = [9.0; 3];
    scale.quantize(&[f32::NAN, f32::INFINITY, -f32::INFINITY], &mut out);
    assert_eq!(out, [0.0, 255.0, 0.0]);
}

#[test]
fn numbers_that_do_not_fit_are_refused() {
    assert!(Scale::new(Eight::Signed, &[], None, 1).is_err());
    assert!(Scale::new(Eight::Signed, &[1.0], Some(&[1.0, 2.0]), 1).is_err());
    assert!(Scale::new(Eight::Signed, &[1.0], None, 0).is_err());
    let good = WeightNumbers { inputs: 2, outputs: 3, weights: &[1.0; 6], side: RightSide::Plain, zeros: &[] };
    let scaled = Finish::Scaled { scales: &[1.0] };
    assert!(QuantizedDense::new(good, 0.0, None, scaled).is_ok());
    for bad in [
        WeightNumbers { inputs: 0, ..good },
        WeightNumbers { inputs: usize::MAX, ..good },
        WeightNumbers { zeros: &[1.0; 2], ..good },
        WeightNumbers { weights: &[1.0; 5], ..good },
    ] {
        assert!(QuantizedDense::new(bad, 0.0, None, scaled).is_err());
    }
    assert!(QuantizedDense::new(good, 0.0, Some(&[1; 2]), scaled).is_err());
    assert!(QuantizedDense::new(good, 0.0, None, Finish::Scaled { scales: &[1.0; 2] }).is_err());
}
