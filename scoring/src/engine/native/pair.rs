//! Functions of two numbers, a choice between two, and how operands of different shapes meet.

use crate::engine::graph::Values;
use crate::kernel::elementary::Function;

use super::plan::Inputs;
use super::values::{View, first_mut};

/// A function of two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Pow,
    Min,
    Max,
    /// The remainder with the divisor's sign.
    Mod,
    /// The remainder with the dividend's sign.
    Fmod,
    /// The first where it is not negative, else the product.
    Prelu,
}

/// A question about two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    And,
    Or,
    Xor,
}

/// How a result's numbers find theirs in an operand.
#[derive(Clone, Debug)]
pub(super) enum Reach {
    /// One for one.
    Same,
    /// A constant that has all numbers of a row.
    Constant,
    /// A constant of one number.
    One,
    /// By a list of places within the row (or within the constant).
    Table { places: Box<[u32]>, numbers: usize, constant: bool },
}

impl Reach {
    /// Bytes of its list.
    pub(super) fn held(&self) -> usize {
        match self {
            Reach::Table { places, .. } => size_of_val(&**places),
            Reach::Same | Reach::Constant | Reach::One => 0,
        }
    }

    fn at(&self, row: usize, i: usize, out: usize) -> usize {
        match self {
            Reach::Same => row * out + i,
            Reach::Constant => i,
            Reach::One => 0,
            Reach::Table { places, numbers, constant } => {
                let place = places.get(i).map_or(0, |p| *p as usize);
                if *constant { place } else { row * numbers + place }
            }
        }
    }
}

/// What is done to numbers of either kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Compute(Binary),
    Ask(Question),
}

/// What a product may take up from the step behind it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Behind<'a> {
    Function(Function),
    /// One number for all, or as many as the product has columns.
    Added(&'a [f32]),
}

/// A function of two operands as a step.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) what: What,
    pub(super) reach: [Reach; 2],
    /// Numbers of a row's result.
    pub(super) numbers: usize,
}

/// Numbers that can be computed with.
trait Number: Copy + PartialOrd {
    fn compute(with: Binary, a: Self, b: Self) -> Self;
    fn is_true(self) -> bool;
}

impl Number for f32 {
    #[inline(always)]
    fn compute(with: Binary, a: f32, b: f32) -> f32 {
        match with {
            Binary::Add => a + b,
            Binary::Sub => a - b,
            Binary::Mul => a * b,
            Binary::Div => a / b,
            Binary::Pow => power(a, b),
            Binary::Min => {
                if b < a || b.is_nan() {
                    b
                } else {
                    a
                }
            }
            Binary::Max => {
                if b > a || b.is_nan() {
                    b
                } else {
                    a
                }
            }
            Binary::Mod => a - b * (a / b).floor(),
            Binary::Fmod => a % b,
            Binary::Prelu => {
                if a < 0.0 {
                    a * b
                } else {
                    a
                }
            }
        }
    }

    fn is_true(self) -> bool {
        self != 0.0
    }
}

/// The powers that scores are made of are products.
#[inline(always)]
fn power(a: f32, b: f32) -> f32 {
    if b == 2.0 {
        a * a
    } else if b == 0.5 {
        a.sqrt()
    } else {
        a.powf(b)
    }
}

impl Number for f64 {
    fn compute(with: Binary, a: f64, b: f64) -> f64 {
        match with {
            Binary::Add => a + b,
            Binary::Sub => a - b,
            Binary::Mul => a * b,
            Binary::Div => a / b,
            Binary::Pow => a.powf(b),
            Binary::Min => {
                if b < a || b.is_nan() {
                    b
                } else {
                    a
                }
            }
            Binary::Max => {
                if b > a || b.is_nan() {
                    b
                } else {
                    a
                }
            }
            Binary::Mod => a - b * (a / b).floor(),
            Binary::Fmod => a % b,
            Binary::Prelu => {
                if a < 0.0 {
                    a * b
                } else {
                    a
                }
            }
        }
    }

    fn is_true(self) -> bool {
        self != 0.0
    }
}

/// Whole numbers wrap; a division by zero gives zero, as there is no other number to give.
impl Number for i64 {
    fn compute(with: Binary, a: i64, b: i64) -> i64 {
        match with {
            Binary::Add => a.wrapping_add(b),
            Binary::Sub => a.wrapping_sub(b),
            Binary::Mul => a.wrapping_mul(b),
            Binary::Div => {
                if b == 0 {
                    0
                } else {
                    a.wrapping_div(b)
                }
            }
            Binary::Pow => (a as f64).powf(b as f64) as i64,
            Binary::Min => a.min(b),
            Binary::Max => a.max(b),
            Binary::Mod => {
                let rest = if b == 0 { 0 } else { a.wrapping_rem(b) };
                if rest != 0 && (rest < 0) != (b < 0) { rest.wrapping_add(b) } else { rest }
            }
            Binary::Fmod => {
                if b == 0 {
                    0
                } else {
                    a.wrapping_rem(b)
                }
            }
            Binary::Prelu => {
                if a < 0 {
                    a.wrapping_mul(b)
                } else {
                    a
                }
            }
        }
    }

    fn is_true(self) -> bool {
        self != 0
    }
}

impl Number for u8 {
    fn compute(with: Binary, a: u8, b: u8) -> u8 {
        i64::compute(with, i64::from(a), i64::from(b)) as u8
    }

    fn is_true(self) -> bool {
        self != 0
    }
}

impl Number for i8 {
    fn compute(with: Binary, a: i8, b: i8) -> i8 {
        i64::compute(with, i64::from(a), i64::from(b)) as i8
    }

    fn is_true(self) -> bool {
        self != 0
    }
}

fn ask<T: Number>(question: Question, a: T, b: T) -> bool {
    match question {
        Question::Equal => a == b,
        Question::Less => a < b,
        Question::LessOrEqual => a <= b,
        Question::Greater => a > b,
        Question::GreaterOrEqual => a >= b,
        Question::And => a.is_true() && b.is_true(),
        Question::Or => a.is_true() || b.is_true(),
        Question::Xor => a.is_true() != b.is_true(),
    }
}

impl Pair {
    /// Whether it adds numbers.
    pub(super) fn adds(&self) -> bool {
        self.what == What::Compute(Binary::Add)
    }

    pub(super) fn run(&self, inputs: Inputs<'_>, out: &mut Values) {
        let n = inputs.rows * self.numbers;
        match (inputs.get(0), inputs.get(1), out) {
            (View::F32(a), View::F32(b), Values::F32(out)) => self.floats(a, b, first_mut(out, n)),
            (View::F64(a), View::F64(b), Values::F64(out)) => self.computed(a, b, first_mut(out, n)),
            (View::I64(a), View::I64(b), Values::I64(out)) => self.computed(a, b, first_mut(out, n)),
            (View::I8(a), View::I8(b), Values::I8(out)) => self.computed(a, b, first_mut(out, n)),
            (View::F32(a), View::F32(b), Values::U8(out)) => self.asked(a, b, first_mut(out, n)),
            (View::F64(a), View::F64(b), Values::U8(out)) => self.asked(a, b, first_mut(out, n)),
            (View::I64(a), View::I64(b), Values::U8(out)) => self.asked(a, b, first_mut(out, n)),
            (View::I8(a), View::I8(b), Values::U8(out)) => self.asked(a, b, first_mut(out, n)),
            (View::U8(a), View::U8(b), Values::U8(out)) => match self.what {
                What::Compute(_) => self.computed(a, b, first_mut(out, n)),
                What::Ask(_) => self.asked(a, b, first_mut(out, n)),
            },
            (_, _, out) => debug_assert!(out.len() == 0, "forms are proven when a step is made"),
        }
    }

    /// The choice of the function stands outside of the loop, so that each loop becomes vectors.
    fn floats(&self, a: &[f32], b: &[f32], out: &mut [f32]) {
        let What::Compute(with) = self.what else { return };
        match with {
            Binary::Add => self.meet(a, b, out, |a, b| a + b),
            Binary::Sub => self.meet(a, b, out, |a, b| a - b),
            Binary::Mul => self.meet(a, b, out, |a, b| a * b),
            Binary::Div => self.meet(a, b, out, |a, b| a / b),
            Binary::Pow | Binary::Min | Binary::Max | Binary::Mod | Binary::Fmod | Binary::Prelu => {
                self.meet(a, b, out, |a, b| f32::compute(with, a, b));
            }
        }
    }

    fn computed<T: Number>(&self, a: &[T], b: &[T], out: &mut [T]) {
        let What::Compute(with) = self.what else { return };
        self.meet(a, b, out, |a, b| T::compute(with, a, b));
    }

    fn asked<T: Number>(&self, a: &[T], b: &[T], out: &mut [u8]) {
        let What::Ask(question) = self.what else { return };
        self.meet(a, b, out, |a, b| u8::from(ask(question, a, b)));
    }

    #[inline(always)]
    fn meet<T: Copy, U>(&self, a: &[T], b: &[T], out: &mut [U], f: impl Fn(T, T) -> U) {
        let n = self.numbers;
        match &self.reach {
            [Reach::Same, Reach::Same] => zip(a, b, out, f),
            [Reach::Same, Reach::One] => {
                let Some(b) = b.first() else { return };
                a.iter().zip(out).for_each(|(a, out)| *out = f(*a, *b));
            }
            [Reach::One, Reach::Same] => {
                let Some(a) = a.first() else { return };
                b.iter().zip(out).for_each(|(b, out)| *out = f(*a, *b));
            }
            [Reach::Same, Reach::Constant] => {
                a.chunks(n).zip(out.chunks_mut(n)).for_each(|(a, out)| zip(a, b, out, &f));
            }
            [Reach::Constant, Reach::Same] => {
                b.chunks(n).zip(out.chunks_mut(n)).for_each(|(b, out)| zip(a, b, out, &f));
            }
            [left, right] => {
                for (row, out) in out.chunks_mut(n).enumerate() {
                    for (i, out) in out.iter_mut().enumerate() {
                        if let (Some(a), Some(b)) = (a.get(left.at(row, i, n)), b.get(right.at(row, i, n))) {
                            *out = f(*a, *b);
                        }
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn zip<T: Copy, U>(a: &[T], b: &[T], out: &mut [U], f: impl Fn(T, T) -> U) {
    for ((a, b), out) in a.iter().zip(b).zip(out) {
        *out = f(*a, *b);
    }
}

/// Where a truth says so the second, else the third.
#[derive(Debug)]
pub(super) struct Select {
    pub(super) reach: [Reach; 3],
    pub(super) numbers: usize,
}

impl Select {
    pub(super) fn run(&self, inputs: Inputs<'_>, out: &mut Values) {
        let n = inputs.rows * self.numbers;
        let truth = inputs.get(0).u8();
        match (inputs.get(1), inputs.get(2), out) {
            (View::F32(a), View::F32(b), Values::F32(out)) => self.choose(truth, a, b, first_mut(out, n)),
            (View::F64(a), View::F64(b), Values::F64(out)) => self.choose(truth, a, b, first_mut(out, n)),
            (View::I64(a), View::I64(b), Values::I64(out)) => self.choose(truth, a, b, first_mut(out, n)),
            (View::U8(a), View::U8(b), Values::U8(out)) => self.choose(truth, a, b, first_mut(out, n)),
            (View::I8(a), View::I8(b), Values::I8(out)) => self.choose(truth, a, b, first_mut(out, n)),
            (_, _, out) => debug_assert!(out.len() == 0, "forms are proven when a step is made"),
        }
    }

    fn choose<T: Copy>(&self, truth: &[u8], a: &[T], b: &[T], out: &mut [T]) {
        let n = self.numbers;
        let [asked, left, right] = &self.reach;
        for (row, out) in out.chunks_mut(n).enumerate() {
            for (i, out) in out.iter_mut().enumerate() {
                let truth = truth.get(asked.at(row, i, n)).is_some_and(|t| *t != 0);
                let chosen = if truth { a.get(left.at(row, i, n)) } else { b.get(right.at(row, i, n)) };
                if let Some(chosen) = chosen {
                    *out = *chosen;
                }
            }
        }
    }
}
