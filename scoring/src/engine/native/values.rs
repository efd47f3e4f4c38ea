//! Numbers as the steps see them: slices of one of five forms.

use crate::engine::graph::{Kind, Values};

/// In which form numbers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    F32,
    F64,
    I64,
    U8,
    I8,
}

impl Form {
    /// `None` for texts, which are no numbers.
    pub(super) fn of(kind: Kind) -> Option<Form> {
        Some(match kind {
            Kind::F32 | Kind::F16 | Kind::Bf16 => Form::F32,
            Kind::F64 => Form::F64,
            Kind::I64 | Kind::I32 | Kind::I16 | Kind::U16 => Form::I64,
            Kind::U8 | Kind::Bool => Form::U8,
            Kind::I8 => Form::I8,
            Kind::Text => return None,
        })
    }

    pub(super) fn bytes(self) -> usize {
        match self {
            Form::F32 => 4,
            Form::F64 | Form::I64 => 8,
            Form::U8 | Form::I8 => 1,
        }
    }

    /// That many zeros.
    pub(super) fn zeros(self, numbers: usize) -> Values {
        match self {
            Form::F32 => Values::F32(vec![0.0; numbers]),
            Form::F64 => Values::F64(vec![0.0; numbers]),
            Form::I64 => Values::I64(vec![0; numbers]),
            Form::U8 => Values::U8(vec![0; numbers]),
            Form::I8 => Values::I8(vec![0; numbers]),
        }
    }
}

/// Numbers to read. Whoever asks for another form than they have gets none: forms are proven when a step is made.
#[derive(Clone, Copy, Debug)]
pub(super) enum View<'a> {
    F32(&'a [f32]),
    F64(&'a [f64]),
    I64(&'a [i64]),
    U8(&'a [u8]),
    I8(&'a [i8]),
}

impl<'a> View<'a> {
    pub(super) fn f32(self) -> &'a [f32] {
        match self {
            View::F32(v) => v,
            View::F64(_) | View::I64(_) | View::U8(_) | View::I8(_) => &[],
        }
    }

    pub(super) fn i64(self) -> &'a [i64] {
        match self {
            View::I64(v) => v,
            View::F32(_) | View::F64(_) | View::U8(_) | View::I8(_) => &[],
        }
    }

    pub(super) fn u8(self) -> &'a [u8] {
        match self {
            View::U8(v) => v,
            View::F32(_) | View::F64(_) | View::I64(_) | View::I8(_) => &[],
        }
    }

    /// Up to `numbers` of `values`.
    pub(super) fn of(values: &'a Values, numbers: usize) -> View<'a> {
        match values {
            Values::F32(v) => View::F32(first(v, numbers)),
            Values::F64(v) => View::F64(first(v, numbers)),
            Values::I64(v) => View::I64(first(v, numbers)),
            Values::U8(v) => View::U8(first(v, numbers)),
            Values::I8(v) => View::I8(first(v, numbers)),
            Values::Text(_) => View::F32(&[]),
        }
    }
}

fn first<T>(values: &[T], numbers: usize) -> &[T] {
    values.get(..numbers).unwrap_or(values)
}

/// Numbers to write; as with [`View`], the form is proven.
pub(super) fn f32s(values: &mut Values, numbers: usize) -> &mut [f32] {
    match values {
        Values::F32(v) => first_mut(v, numbers),
        Values::F64(_) | Values::I64(_) | Values::U8(_) | Values::I8(_) | Values::Text(_) => &mut [],
    }
}

pub(super) fn i64s(values: &mut Values, numbers: usize) -> &mut [i64] {
    match values {
        Values::I64(v) => first_mut(v, numbers),
        Values::F32(_) | Values::F64(_) | Values::U8(_) | Values::I8(_) | Values::Text(_) => &mut [],
    }
}

pub(super) fn u8s(values: &mut Values, numbers: usize) -> &mut [u8] {
    match values {
        Values::U8(v) => first_mut(v, numbers),
        Values::F32(_) | Values::F64(_) | Values::I64(_) | Values::I8(_) | Values::Text(_) => &mut [],
    }
}

pub(super) fn first_mut<T>(values: &mut [T], numbers: usize) -> &mut [T] {
    let length = values.len().min(numbers);
    &mut values[..length]
}
