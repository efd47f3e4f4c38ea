//! Steps that move numbers and compute none: every slice, transposition, repetition and padding is a list of places.

use crate::engine::graph::Values;

use super::plan::Inputs;
use super::values::{View, first_mut};

/// A place that no number is taken from: it is filled.
pub(super) const NOWHERE: u32 = u32::MAX;

/// Neighbours that stay neighbours.
#[derive(Clone, Copy, Debug)]
struct Run {
    from: u32,
    length: u32,
}

/// Each number of a row's result is one of the row's numbers.
#[derive(Debug)]
pub(super) struct Pick {
    /// One place a number, or nothing when `runs` say it shorter.
    places: Box<[u32]>,
    runs: Box<[Run]>,
    /// Numbers of a row, before and after.
    from: usize,
    to: usize,
    fill: f64,
}

impl Pick {
    /// `places` are below `from`, or [`NOWHERE`].
    pub(super) fn new(places: Vec<u32>, from: usize, fill: f64) -> Pick {
        let mut runs: Vec<Run> = Vec::new();
        for place in &places {
            match runs.last_mut() {
                Some(run) if run.from == NOWHERE && *place == NOWHERE => run.length += 1,
                Some(run) if run.from != NOWHERE && *place != NOWHERE && run.from + run.length == *place => {
                    run.length += 1;
                }
                Some(_) | None => runs.push(Run { from: *place, length: 1 }),
            }
        }
        let to = places.len();
        if runs.len() * 4 <= to {
            Pick { places: Box::default(), runs: runs.into(), from, to, fill }
        } else {
            Pick { places: places.into(), runs: Box::default(), from, to, fill }
        }
    }

    /// Bytes of its lists.
    pub(super) fn held(&self) -> usize {
        size_of_val(&*self.places) + size_of_val(&*self.runs)
    }

    pub(super) fn run(&self, inputs: Inputs<'_>, out: &mut Values) {
        let n = inputs.rows * self.to;
        match (inputs.get(0), out) {
            (View::F32(x), Values::F32(out)) => self.pick(x, first_mut(out, n), self.fill as f32),
            (View::F64(x), Values::F64(out)) => self.pick(x, first_mut(out, n), self.fill),
            (View::I64(x), Values::I64(out)) => self.pick(x, first_mut(out, n), self.fill as i64),
            (View::U8(x), Values::U8(out)) => self.pick(x, first_mut(out, n), self.fill as u8),
            (View::I8(x), Values::I8(out)) => self.pick(x, first_mut(out, n), self.fill as i8),
            (_, out) => debug_assert!(out.len() == 0, "forms are proven when a step is made"),
        }
    }

    fn pick<T: Copy>(&self, x: &[T], out: &mut [T], fill: T) {
        for (x, out) in x.chunks(self.from).zip(out.chunks_mut(self.to)) {
            if self.runs.is_empty() {
                for (place, out) in self.places.iter().zip(out) {
                    *out = x.get(*place as usize).copied().unwrap_or(fill);
                }
                continue;
            }
            let mut at = 0;
            for run in &self.runs {
                let (from, length) = (run.from as usize, run.length as usize);
                let out = &mut out[at..at + length];
                match x.get(from..from + length) {
                    Some(x) => out.copy_from_slice(x),
                    None => out.fill(fill),
                }
                at += length;
            }
        }
    }
}

/// A part of a [`Concat`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// Numbers that lie together.
    pub(super) length: usize,
    pub(super) constant: bool,
}

/// Several tensors, one after the other along an axis.
#[derive(Debug)]
pub(super) struct Concat {
    pub(super) parts: Box<[Part]>,
    /// How often each part gives a piece, in one row.
    pub(super) outer: usize,
}

impl Concat {
    pub(super) fn run(&self, inputs: Inputs<'_>, out: &mut Values) {
        let whole: usize = self.parts.iter().map(|p| p.length).sum();
        let mut at = 0;
        for (i, part) in self.parts.iter().enumerate() {
            let lay = Lay { part: *part, at, whole, outer: self.outer, rows: inputs.rows };
            match (inputs.get(i), &mut *out) {
                (View::F32(x), Values::F32(out)) => lay.down(x, out),
                (View::F64(x), Values::F64(out)) => lay.down(x, out),
                (View::I64(x), Values::I64(out)) => lay.down(x, out),
                (View::U8(x), Values::U8(out)) => lay.down(x, out),
                (View::I8(x), Values::I8(out)) => lay.down(x, out),
                (_, out) => debug_assert!(out.len() == 0, "forms are proven when a step is made"),
            }
            at += part.length;
        }
    }
}

/// Where one part goes.
struct Lay {
    part: Part,
    at: usize,
    whole: usize,
    outer: usize,
    rows: usize,
}

impl Lay {
    fn down<T: Copy>(&self, x: &[T], out: &mut [T]) {
        let length = self.part.length;
        if length == 0 {
            return;
        }
        for (i, piece) in out.chunks_mut(self.whole).take(self.rows * self.outer).enumerate() {
            let from = if self.part.constant { i % self.outer } else { i } * length;
            if let Some(x) = x.get(from..from + length) {
                piece[self.at..self.at + length].copy_from_slice(x);
            }
        }
    }
}

/// Places that come from the data: `Gather` whose indices are computed.
#[derive(Debug)]
pub(super) struct Lookup {
    pub(super) outer: usize,
    pub(super) axis: usize,
    pub(super) inner: usize,
    /// Indices of one row, and whether they or the numbers are the same for all rows.
    pub(super) indices: usize,
    pub(super) constant_indices: bool,
    pub(super) constant_numbers: bool,
}

impl Lookup {
    pub(super) fn run(&self, inputs: Inputs<'_>, out: &mut Values) {
        let (rows, indices) = (inputs.rows, inputs.get(1).i64());
        match (inputs.get(0), out) {
            (View::F32(x), Values::F32(out)) => self.look_up(rows, x, indices, out),
            (View::F64(x), Values::F64(out)) => self.look_up(rows, x, indices, out),
            (View::I64(x), Values::I64(out)) => self.look_up(rows, x, indices, out),
            (View::U8(x), Values::U8(out)) => self.look_up(rows, x, indices, out),
            (View::I8(x), Values::I8(out)) => self.look_up(rows, x, indices, out),
            (_, out) => debug_assert!(out.len() == 0, "forms are proven when a step is made"),
        }
    }

    /// An index beyond the axis is held at its end.
    fn look_up<T: Copy>(&self, rows: usize, x: &[T], indices: &[i64], out: &mut [T]) {
        let (axis, inner) = (self.axis, self.inner);
        let mut pieces = out.chunks_mut(inner);
        for row in 0..rows {
            let numbers = if self.constant_numbers { 0 } else { row * self.outer * axis * inner };
            let first = if self.constant_indices { 0 } else { row * self.indices };
            for outer in 0..self.outer {
                for index in indices.iter().skip(first).take(self.indices) {
                    let counted = if *index < 0 { index.saturating_add(axis as i64) } else { *index };
                    let index = counted.clamp(0, axis as i64 - 1) as usize;
                    let from = numbers + (outer * axis + index) * inner;
                    if let (Some(piece), Some(x)) = (pieces.next(), x.get(from..from + inner)) {
                        piece.copy_from_slice(x);
                    }
                }
            }
        }
    }
}
