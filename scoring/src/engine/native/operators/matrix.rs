//! `Gemm` and `MatMul`: by known weights, and of two matrices that come from the data.

use crate::engine::graph::Kind;
use crate::engine::native::Unfit;
use crate::engine::native::attributes::At;
use crate::engine::native::build::{Builder, Slot, Source};
use crate::engine::native::matrix::{Dense, Meeting, Product};
use crate::engine::native::pair::{Binary, What};
use crate::engine::native::plan::Kernel;

use super::arithmetic::{broadcast, meet, places};
use super::shuffle::transposed;

pub(super) fn gemm(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let mut a = at.input(0)?.clone();
    let mut b = at.input(1)?.clone();
    if a.shape.len() != 2 || b.shape.len() != 2 {
        return Err(at.refused(&format!("multiplies shapes {:?} and {:?}", a.shape, b.shape)));
    }
    if at.int_or("transA", 0)? != 0 {
        a = transposed(builder, &a, &[1, 0])?;
    }
    if at.int_or("transB", 0)? != 0 {
        b = transposed(builder, &b, &[1, 0])?;
    }
    let mut product = multiplied(builder, at, &a, &b)?;
    let (alpha, beta) = (at.float_or("alpha", 1.0)?, at.float_or("beta", 1.0)?);
    product = scaled(builder, at, product, alpha)?;
    if let Some(c) = at.optional(2).cloned() {
        let c = scaled(builder, at, c, beta)?;
        let shape = product.shape.clone();
        product = meet(builder, at, What::Compute(Binary::Add), &product, &c)?;
        if product.shape != shape {
            return Err(at.refused("adds more than its product has"));
        }
    }
    Ok(vec![product])
}

fn scaled(builder: &mut Builder, at: &At<'_>, x: Slot, factor: f32) -> Result<Slot, Unfit> {
    if factor == 1.0 {
        return Ok(x);
    }
    let factor = builder.constant(x.kind, &[], crate::engine::graph::Values::F32(vec![factor]))?;
    meet(builder, at, What::Compute(Binary::Mul), &x, &factor)
}

pub(super) fn matmul(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    Ok(vec![multiplied(builder, at, at.input(0)?, at.input(1)?)?])
}

/// The matrices of two tensors, batch axes first, and vectors as matrices of one line or column.
fn multiplied(builder: &mut Builder, at: &At<'_>, a: &Slot, b: &Slot) -> Result<Slot, Unfit> {
    if a.kind != b.kind || !matches!(a.kind, Kind::F32 | Kind::F16 | Kind::Bf16) {
        return Err(at.unsupported(&format!("multiplies numbers of kinds {:?} and {:?}", a.kind, b.kind)));
    }
    let (mut left, mut right) = (a.shape.to_vec(), b.shape.to_vec());
    let (line, column) = (left.len() == 1, right.len() == 1);
    if line {
        left.insert(0, 1);
    }
    if column {
        right.push(1);
    }
    let [left_batch @ .., lines, inner] = left.as_slice() else { return Err(at.refused("multiplies no matrices")) };
    let [right_batch @ .., same, columns] = right.as_slice() else { return Err(at.refused("multiplies no matrices")) };
    if inner != same || *inner == 0 {
        return Err(at.refused(&format!("multiplies shapes {:?} and {:?}", a.shape, b.shape)));
    }
    let batch = broadcast(at, left_batch, right_batch)?;
    let mut shape = batch.clone();
    if !line {
        shape.push(*lines);
    }
    if !column {
        shape.push(*columns);
    }
    Builder::room(&shape)?;
    let shared = right_batch.iter().all(|d| *d == 1);
    if let (Some(weights), true) = (builder.known_floats(b), shared) {
        let lines = a.numbers() / inner;
        let dense = Dense::new(*inner, *columns, lines, weights).map_err(|e| at.refused(&e.to_string()))?;
        return builder.emit_one(Kernel::Dense(dense), &[a], a.kind, &shape);
    }
    let (lefts, rights) = (places(left_batch, &batch), places(right_batch, &batch));
    let meetings = lefts
        .iter()
        .zip(&rights)
        .map(|(l, r)| Meeting { left: *l as usize * lines * inner, right: *r as usize * inner * columns });
    let numbers = |slot: &Slot| if matches!(slot.source, Source::Constant(_)) { 0 } else { slot.numbers() };
    let (lines, inner, columns) = (*lines, *inner, *columns);
    let kernel = Product::kernel(inner, columns).map_err(|e| at.refused(&e.to_string()))?;
    let (left, right) = (numbers(a), numbers(b));
    let product = Product { lines, inner, columns, meetings: meetings.collect(), left, right, kernel };
    builder.emit_one(Kernel::Product(product), &[a, b], a.kind, &shape)
}
