//! NEON on 64-bit ARM, where it and its fused multiply-add belong to every processor.

use std::arch::aarch64::{float32x4_t, vaddq_f32, vdupq_n_f32, vfmaq_f32, vmaxq_f32};
use std::mem::transmute;

use super::{Block, Isa};

/// Thirty-two vectors of 128 bits.
#[derive(Clone, Copy)]
pub(super) struct Neon;

impl Isa for Neon {
    const SUMS: usize = 4;
    type Held = [float32x4_t; 4];

    #[inline(always)]
    fn mul_add(self, a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }

    #[inline(always)]
    fn mul_add_f64(self, a: f64, b: f64, c: f64) -> f64 {
        a.mul_add(b, c)
    }

    #[inline(always)]
    fn hold(self, block: &Block) -> [float32x4_t; 4] {
        // SAFETY: both are sixteen f32 without gaps, and any bits are both.
        unsafe { transmute::<Block, [float32x4_t; 4]>(*block) }
    }

    #[inline(always)]
    fn block(self, held: [float32x4_t; 4]) -> Block {
        // SAFETY: both are sixteen f32 without gaps, and any bits are both.
        unsafe { transmute::<[float32x4_t; 4], Block>(held) }
    }

    #[inline(always)]
    fn add(self, mut a: [float32x4_t; 4], b: [float32x4_t; 4]) -> [float32x4_t; 4] {
        for (a, b) in a.iter_mut().zip(b) {
            // SAFETY: every 64-bit ARM processor has NEON.
            *a = unsafe { vaddq_f32(*a, b) };
        }
        a
    }

    #[inline(always)]
    fn add_scaled(self, mut sum: [float32x4_t; 4], factor: f32, block: &Block) -> [float32x4_t; 4] {
        for (sum, x) in sum.iter_mut().zip(self.hold(block)) {
            // SAFETY: every 64-bit ARM processor has NEON.
            *sum = unsafe { vfmaq_f32(*sum, x, vdupq_n_f32(factor)) };
        }
        sum
    }

    #[inline(always)]
    fn not_below_zero(self, mut held: [float32x4_t; 4]) -> [float32x4_t; 4] {
        for held in &mut held {
            // SAFETY: every 64-bit ARM processor has NEON. Its maximum with NaN is NaN.
            *held = unsafe { vmaxq_f32(*held, vdupq_n_f32(0.0)) };
        }
        held
    }
}
