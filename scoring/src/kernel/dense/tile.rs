//! The inner loops of matrix products: tiles of rows and panels whose sums stay in registers.

use super::super::lanes::{Block, Isa, WIDTH};
use super::{PARTED_INPUTS_MIN, PARTED_PANELS_MAX, PARTS};

/// Rows of a tile, where there are so many.
const TILE_ROWS: usize = 4;

/// What is so cheap that it is done before a tile's sums leave the registers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bend {
    /// Sums go out as they are.
    Straight,
    /// Below zero they become zero.
    Relu,
}

/// In which order a product's sums are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// One sum over all inputs.
    Whole,
    /// One sum, or [`PARTS`] of them where inputs are many and outputs few: decided by the shape.
    ByShape,
}

/// The right side of a product, in panels.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    /// As [`super::Panels`] packs them.
    pub(crate) blocks: &'a [Block],
    /// A block for each panel, or nothing for zeros.
    pub(crate) bias: &'a [Block],
    pub(crate) bend: Bend,
    pub(crate) order: Order,
}

impl Matrix<'_> {
    #[inline(always)]
    fn panels(&self) -> usize {
        self.outputs.div_ceil(WIDTH)
    }

    /// Decided by the shape alone: the same for one row and for many.
    #[inline(always)]
    fn is_parted(&self) -> bool {
        self.order == Order::ByShape && self.inputs >= PARTED_INPUTS_MIN && self.panels() <= PARTED_PANELS_MAX
    }

    #[inline(always)]
    fn column<const P: usize>(&self, panel: usize) -> [&[Block]; P] {
        cut(&self.blocks[panel * self.inputs..], self.inputs)
    }

    #[inline(always)]
    fn start<const P: usize>(&self, panel: usize) -> [Block; P] {
        let mut start = [[0.0; WIDTH]; P];
        for (start, bias) in start.iter_mut().zip(self.bias.get(panel..).unwrap_or_default()) {
            *start = *bias;
        }
        start
    }
}

/// `out = bend(input matrix + bias)` for as many of `rows` as both slices hold.
#[inline(always)]
pub(crate) fn product<I: Isa>(isa: I, matrix: &Matrix<'_>, rows: usize, input: &[f32], out: &mut [f32]) {
    let rows = fitting(rows, matrix.inputs, input.len()).min(fitting(rows, matrix.outputs, out.len()));
    let tiled = rows - rows % TILE_ROWS;
    if tiled > 0 {
        tall::<I, TILE_ROWS>(isa, matrix, tiled, input, out);
    }
    for row in tiled..rows {
        flat(isa, matrix, &input[row * matrix.inputs..][..matrix.inputs], &mut out[row * matrix.outputs..]);
    }
}

/// `rows`, or as many as `len` numbers hold; without a division where they fit.
#[inline(always)]
fn fitting(rows: usize, width: usize, len: usize) -> usize {
    match rows.checked_mul(width) {
        Some(numbers) if numbers <= len => rows,
        _ => len / width,
    }
}

/// Many rows, in tiles of R: a panel stays in the nearest cache while all of them pass it.
#[inline(always)]
fn tall<I: Isa, const R: usize>(isa: I, matrix: &Matrix<'_>, rows: usize, input: &[f32], out: &mut [f32]) {
    let mut panel = 0;
    if I::SUMS >= 2 * R {
        while panel + 2 <= matrix.panels() {
            down::<I, R, 2>(isa, matrix, panel, rows, input, out);
            panel += 2;
        }
    }
    while panel < matrix.panels() {
        down::<I, R, 1>(isa, matrix, panel, rows, input, out);
        panel += 1;
    }
}

#[inline(always)]
fn down<I: Isa, const R: usize, const P: usize>(
    isa: I,
    matrix: &Matrix<'_>,
    panel: usize,
    rows: usize,
    input: &[f32],
    out: &mut [f32],
) {
    let (columns, start) = (matrix.column(panel), matrix.start(panel));
    for row in (0..rows).step_by(R) {
        let rows = cut::<f32, R>(&input[row * matrix.inputs..], matrix.inputs);
        let sums = if matrix.is_parted() {
            parts_in_turn::<I, R, P>(isa, rows, columns, start)
        } else {
            held_sums::<I, R, P>(isa, rows, columns, [start; R])
        };
        store(isa, matrix, panel, sums, &mut out[row * matrix.outputs..]);
    }
}

/// N consecutive slices of `len`. A loop, because `array::from_fn` is not always inlined, and what is not inlined here is not
/// compiled for the instruction set.
#[inline(always)]
pub(crate) fn cut<T, const N: usize>(numbers: &[T], len: usize) -> [&[T]; N] {
    let mut slices: [&[T]; N] = [&[]; N];
    for (n, slice) in slices.iter_mut().enumerate() {
        *slice = &numbers[n * len..][..len];
    }
    slices
}

/// One row: several panels at once, so that the sums need not wait for each other.
#[inline(always)]
fn flat<I: Isa>(isa: I, matrix: &Matrix<'_>, row: &[f32], out: &mut [f32]) {
    if matrix.is_parted() {
        for panel in 0..matrix.panels() {
            let sums = parts_at_once(isa, row, matrix.column::<1>(panel)[0], matrix.start::<1>(panel)[0]);
            store(isa, matrix, panel, [[sums]], out);
        }
        return;
    }
    let mut panel = 0;
    while panel + 4 <= matrix.panels() {
        let sums = held_sums::<I, 1, 4>(isa, [row], matrix.column(panel), [matrix.start(panel)]);
        store(isa, matrix, panel, sums, out);
        panel += 4;
    }
    if panel + 2 <= matrix.panels() {
        let sums = held_sums::<I, 1, 2>(isa, [row], matrix.column(panel), [matrix.start(panel)]);
        store(isa, matrix, panel, sums, out);
        panel += 2;
    }
    if panel < matrix.panels() {
        let sums = held_sums::<I, 1, 1>(isa, [row], matrix.column(panel), [matrix.start(panel)]);
        store(isa, matrix, panel, sums, out);
    }
}

/// Running sums of R rows by P panels. All slices are of one length.
#[inline(always)]
pub(crate) fn sums<I: Isa, const R: usize, const P: usize>(
    isa: I,
    rows: [&[f32]; R],
    columns: [&[Block]; P],
    start: [[Block; P]; R],
) -> [[Block; P]; R] {
    taken(isa, held_sums(isa, rows, columns, start))
}

#[inline(always)]
fn held_sums<I: Isa, const R: usize, const P: usize>(
    isa: I,
    rows: [&[f32]; R],
    columns: [&[Block]; P],
    start: [[Block; P]; R],
) -> [[I::Held; P]; R] {
    let mut sums = held(isa, &start);
    for input in 0..rows[0].len() {
        for p in 0..P {
            let weights = &columns[p][input];
            for r in 0..R {
                sums[r][p] = isa.add_scaled(sums[r][p], rows[r][input], weights);
            }
        }
    }
    sums
}

/// Blocks into registers.
#[inline(always)]
pub(crate) fn held<I: Isa, const R: usize, const P: usize>(isa: I, blocks: &[[Block; P]; R]) -> [[I::Held; P]; R] {
    let mut held = [[isa.hold(&[0.0; WIDTH]); P]; R];
    for r in 0..R {
        for p in 0..P {
            held[r][p] = isa.hold(&blocks[r][p]);
        }
    }
    held
}

/// Blocks out of registers.
#[inline(always)]
pub(crate) fn taken<I: Isa, const R: usize, const P: usize>(isa: I, held: [[I::Held; P]; R]) -> [[Block; P]; R] {
    let mut blocks = [[[0.0; WIDTH]; P]; R];
    for r in 0..R {
        for p in 0..P {
            blocks[r][p] = isa.block(held[r][p]);
        }
    }
    blocks
}

/// [`PARTS`] sums over consecutive parts of the inputs, one part after another. The last part takes what is left over.
#[inline(always)]
fn parts_in_turn<I: Isa, const R: usize, const P: usize>(
    isa: I,
    rows: [&[f32]; R],
    columns: [&[Block]; P],
    start: [Block; P],
) -> [[I::Held; P]; R] {
    let len = rows[0].len() / PARTS;
    let mut total = held_sums(isa, rows.map(|r| &r[..len]), columns.map(|c| &c[..len]), [start; R]);
    for part in 1..PARTS {
        let end = if part + 1 == PARTS { rows[0].len() } else { (part + 1) * len };
        let range = part * len..end;
        let (rows, columns) = (rows.map(|r| &r[range.clone()]), columns.map(|c| &c[range.clone()]));
        let more = held_sums(isa, rows, columns, [[[0.0; WIDTH]; P]; R]);
        for r in 0..R {
            for p in 0..P {
                total[r][p] = isa.add(total[r][p], more[r][p]);
            }
        }
    }
    total
}

/// The same sums as [`parts_in_turn`], to the bit, side by side.
#[inline(always)]
fn parts_at_once<I: Isa>(isa: I, row: &[f32], column: &[Block], start: Block) -> I::Held {
    let len = row.len() / PARTS;
    let (rows, columns) = (cut::<f32, PARTS>(row, len), cut::<Block, PARTS>(column, len));
    let mut sums = [isa.hold(&[0.0; WIDTH]); PARTS];
    sums[0] = isa.hold(&start);
    for input in 0..len {
        for part in 0..PARTS {
            sums[part] = isa.add_scaled(sums[part], rows[part][input], &columns[part][input]);
        }
    }
    for (x, block) in row[PARTS * len..].iter().zip(&column[PARTS * len..]) {
        sums[PARTS - 1] = isa.add_scaled(sums[PARTS - 1], *x, block);
    }
    let mut total = sums[0];
    for more in &sums[1..] {
        total = isa.add(total, *more);
    }
    total
}

/// Writes a tile to its place in the rows of `out`, bent.
#[inline(always)]
fn store<I: Isa, const R: usize, const P: usize>(
    isa: I,
    matrix: &Matrix<'_>,
    panel: usize,
    sums: [[I::Held; P]; R],
    out: &mut [f32],
) {
    for r in 0..R {
        let out = &mut out[r * matrix.outputs..][..matrix.outputs];
        for p in 0..P {
            let bent = bend(isa, matrix.bend, sums[r][p]);
            let place = &mut out[(panel + p) * WIDTH..];
            match place.first_chunk_mut() {
                Some(whole) => *whole = bent,
                None => place.copy_from_slice(&bent[..place.len()]),
            }
        }
    }
}

/// A block of sums out of registers, bent.
#[inline(always)]
pub(crate) fn bend<I: Isa>(isa: I, bend: Bend, held: I::Held) -> Block {
    match bend {
        Bend::Straight => isa.block(held),
        Bend::Relu => isa.block(isa.not_below_zero(held)),
    }
}
