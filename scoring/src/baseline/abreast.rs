//! Signals side by side: what every signal needs is done for [`LANES`] of them at once, so that one instruction serves several.
//!
//! A lane that has nothing to do in a row (its value is absent, it is not warm yet) takes part with an empty mask, which
//! leaves its numbers exactly as they were. So each signal's numbers depend on its own values alone.

/// Signals that are computed side by side: four f64 are a register of AVX2, two of SSE2 and NEON.
/// (Eight were slower by half: their sums do not fit the registers.)
pub(super) const LANES: usize = 4;

/// One number of each signal.
pub(super) type Abreast = [f64; LANES];

/// One number of each signal, made from its lane's index.
#[inline(always)]
pub(super) fn each(of: impl Fn(usize) -> f64) -> Abreast {
    let mut out = [0.0; LANES];
    for (i, out) in out.iter_mut().enumerate() {
        *out = of(i);
    }
    out
}

/// All bits of a lane where something holds, none where it does not: choosing by bits never becomes a branch.
pub(super) type Mask = [u64; LANES];

#[inline(always)]
pub(super) fn mask(holds: impl Fn(usize) -> bool) -> Mask {
    let mut out = [0; LANES];
    for (i, out) in out.iter_mut().enumerate() {
        *out = if holds(i) { u64::MAX } else { 0 };
    }
    out
}

/// The mask whose lanes have these bits.
#[inline(always)]
pub(super) fn bits(of: impl Fn(usize) -> u64) -> Mask {
    let mut out = [0; LANES];
    for (i, out) in out.iter_mut().enumerate() {
        *out = of(i);
    }
    out
}

#[inline(always)]
pub(super) fn any(of: &Mask) -> bool {
    of.iter().fold(0, |some, lane| some | lane) != 0
}

/// `a` where the mask holds, else `b`.
#[inline(always)]
pub(super) fn pick(mask: u64, a: f64, b: f64) -> f64 {
    f64::from_bits((a.to_bits() & mask) | (b.to_bits() & !mask))
}

/// `a` where the mask holds, else 0.
#[inline(always)]
pub(super) fn only(mask: u64, a: f64) -> f64 {
    f64::from_bits(a.to_bits() & mask)
}

/// `x` within -`most` to `most`.
#[inline(always)]
pub(super) fn within(x: f64, most: f64) -> f64 {
    let x = if x < most { x } else { most };
    if x > -most { x } else { -most }
}
