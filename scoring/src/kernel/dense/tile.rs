//! The inner loops of matrix products: tiles of rows and panels whose sums stay in registers.

use super::super::elementary::approximate::at_least;
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
    /// Below zero they are multiplied.
    Leaky {
        /// By this.
        slope: f32,
    },
}

/// The right side of a product, in panels.
pub(crate) struct Matrix<'a> {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    /// As [`super::Panels`] packs them.
    pub(crate) blocks: &'a [Block],
    /// A block for each panel, or nothing for zeros.
    pub(crate) bias: &'a [Block],
    pub(crate) bend: Bend,
}

impl Matrix<'_> {
    #[inline(always)]
    fn panels(&self) -> usize {
        self.outputs.div_ceil(WIDTH)
    }

    /// Decided by the shape alone: the same for one row and for many.
    #[inline(always)]
    fn is_parted(&self) -> bool {
        self.inputs >= PARTED_INPUTS_MIN && self.panels() <= PARTED_PANELS_MAX
    }

    #[inline(always)]
    fn column<const P: usize>(&self, panel: usize) -> [&[Block]; P] {
        std::array::from_fn(|p| &self.blocks[(panel + p) * self.inputs..][..self.inputs])
    }

    #[inline(always)]
    fn start<const P: usize>(&self, panel: usize) -> [Block; P] {
        std::array::from_fn(|p| self.bias.get(panel + p).copied().unwrap_or([0.0; WIDTH]))
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
        let rows = std::array::from_fn(|r| &input[(row + r) * matrix.inputs..][..matrix.inputs]);
        let sums = if matrix.is_parted() {
            parts_in_turn::<I, R, P>(isa, rows, columns, start)
        } else {
            sums::<I, R, P>(isa, rows, columns, start)
        };
        store(matrix, panel, &sums, &mut out[row * matrix.outputs..]);
    }
}

/// One row: several panels at once, so that the sums need not wait for each other.
#[inline(always)]
fn flat<I: Isa>(isa: I, matrix: &Matrix<'_>, row: &[f32], out: &mut [f32]) {
    if matrix.is_parted() {
        for panel in 0..matrix.panels() {
            let sums = parts_at_once(isa, row, matrix.column::<1>(panel)[0], matrix.start::<1>(panel)[0]);
            store(matrix, panel, &[[sums]], out);
        }
        return;
    }
    let mut panel = 0;
    while panel + 4 <= matrix.panels() {
        store(matrix, panel, &sums::<I, 1, 4>(isa, [row], matrix.column(panel), matrix.start(panel)), out);
        panel += 4;
    }
    if panel + 2 <= matrix.panels() {
        store(matrix, panel, &sums::<I, 1, 2>(isa, [row], matrix.column(panel), matrix.start(panel)), out);
        panel += 2;
    }
    if panel < matrix.panels() {
        store(matrix, panel, &sums::<I, 1, 1>(isa, [row], matrix.column(panel), matrix.start(panel)), out);
    }
}

/// Running sums of R rows by P panels. All slices are of one length.
#[inline(always)]
fn sums<I: Isa, const R: usize, const P: usize>(
    isa: I,
    rows: [&[f32]; R],
    columns: [&[Block]; P],
    start: [Block; P],
) -> [[Block; P]; R] {
    let mut sums = [start; R];
    for input in 0..rows[0].len() {
        for p in 0..P {
            let weights = &columns[p][input];
            for r in 0..R {
                add_scaled(isa, &mut sums[r][p], rows[r][input], weights);
            }
        }
    }
    sums
}

#[inline(always)]
fn add_scaled<I: Isa>(isa: I, sum: &mut Block, factor: f32, block: &Block) {
    for (sum, x) in sum.iter_mut().zip(block) {
        *sum = isa.mul_add(factor, *x, *sum);
    }
}

/// [`PARTS`] sums over consecutive parts of the inputs, one part after another. The last part takes what is left over.
#[inline(always)]
fn parts_in_turn<I: Isa, const R: usize, const P: usize>(
    isa: I,
    rows: [&[f32]; R],
    columns: [&[Block]; P],
    start: [Block; P],
) -> [[Block; P]; R] {
    let len = rows[0].len() / PARTS;
    let mut total = sums(isa, rows.map(|r| &r[..len]), columns.map(|c| &c[..len]), start);
    for part in 1..PARTS {
        let end = if part + 1 == PARTS { rows[0].len() } else { (part + 1) * len };
        let range = part * len..end;
        let more = sums(isa, rows.map(|r| &r[range.clone()]), columns.map(|c| &c[range.clone()]), [[0.0; WIDTH]; P]);
        for (total, more) in total.as_flattened_mut().iter_mut().zip(more.as_flattened()) {
            add(total, more);
        }
    }
    total
}

/// The same sums as [`parts_in_turn`], to the bit, side by side.
#[inline(always)]
fn parts_at_once<I: Isa>(isa: I, row: &[f32], column: &[Block], start: Block) -> Block {
    let len = row.len() / PARTS;
    let rows: [&[f32]; PARTS] = std::array::from_fn(|part| &row[part * len..][..len]);
    let columns: [&[Block]; PARTS] = std::array::from_fn(|part| &column[part * len..][..len]);
    let mut sums = [[0.0; WIDTH]; PARTS];
    sums[0] = start;
    for input in 0..len {
        for part in 0..PARTS {
            add_scaled(isa, &mut sums[part], rows[part][input], &columns[part][input]);
        }
    }
    for (x, block) in row[PARTS * len..].iter().zip(&column[PARTS * len..]) {
        add_scaled(isa, &mut sums[PARTS - 1], *x, block);
    }
    let mut total = sums[0];
    for more in &sums[1..] {
        add(&mut total, more);
    }
    total
}

#[inline(always)]
fn add(total: &mut Block, more: &Block) {
    for (total, more) in total.iter_mut().zip(more) {
        *total += more;
    }
}

/// Writes a tile to its place in the rows of `out`, bent.
#[inline(always)]
fn store<const R: usize, const P: usize>(matrix: &Matrix<'_>, panel: usize, sums: &[[Block; P]; R], out: &mut [f32]) {
    for (r, row) in sums.iter().enumerate() {
        let out = &mut out[r * matrix.outputs..][..matrix.outputs];
        for (p, block) in row.iter().enumerate() {
            let bent = bend(matrix.bend, block);
            let place = &mut out[(panel + p) * WIDTH..];
            match place.first_chunk_mut() {
                Some(whole) => *whole = bent,
                None => place.copy_from_slice(&bent[..place.len()]),
            }
        }
    }
}

#[inline(always)]
fn bend(bend: Bend, block: &Block) -> Block {
    let mut out = *block;
    match bend {
        Bend::Straight => {}
        Bend::Relu => out.iter_mut().for_each(|x| *x = at_least(*x, 0.0)),
        Bend::Leaky { slope } => out.iter_mut().for_each(|x| *x = if *x < 0.0 { slope * *x } else { *x }),
    }
    out
}
