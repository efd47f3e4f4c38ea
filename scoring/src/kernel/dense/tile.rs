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
        self.blocks.len() / self.inputs
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
    let rows = rows.min(input.len() / matrix.inputs).min(out.len() / matrix.outputs);
    let tiled = rows - rows % TILE_ROWS;
    let (input, out) = (&input[..rows * matrix.inputs], &mut out[..rows * matrix.outputs]);
    let (tall_in, flat_in) = input.split_at(tiled * matrix.inputs);
    let (tall_out, flat_out) = out.split_at_mut(tiled * matrix.outputs);
    if tiled > 0 {
        tall(isa, matrix, tall_in, tall_out);
    }
    for (row, out) in flat_in.chunks_exact(matrix.inputs).zip(flat_out.chunks_exact_mut(matrix.outputs)) {
        flat(isa, matrix, row, out);
    }
}

/// Many rows: a panel stays in the nearest cache while all tiles of rows pass it.
#[inline(always)]
fn tall<I: Isa>(isa: I, matrix: &Matrix<'_>, input: &[f32], out: &mut [f32]) {
    let mut panel = 0;
    if I::SUMS >= 2 * TILE_ROWS {
        while panel + 2 <= matrix.panels() {
            down::<I, 2>(isa, matrix, panel, input, out);
            panel += 2;
        }
    }
    while panel < matrix.panels() {
        down::<I, 1>(isa, matrix, panel, input, out);
        panel += 1;
    }
}

#[inline(always)]
fn down<I: Isa, const P: usize>(isa: I, matrix: &Matrix<'_>, panel: usize, input: &[f32], out: &mut [f32]) {
    let tiles = input.chunks_exact(TILE_ROWS * matrix.inputs);
    for (rows, out) in tiles.zip(out.chunks_exact_mut(TILE_ROWS * matrix.outputs)) {
        let rows = std::array::from_fn(|r| &rows[r * matrix.inputs..][..matrix.inputs]);
        let sums = if matrix.is_parted() {
            parts_in_turn::<I, TILE_ROWS, P>(isa, rows, matrix.column(panel), matrix.start(panel))
        } else {
            sums::<I, TILE_ROWS, P>(isa, rows, matrix.column(panel), matrix.start(panel))
        };
        store(matrix, panel, &sums, out);
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
    for (row, out) in sums.iter().zip(out.chunks_exact_mut(matrix.outputs)) {
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
