//! AVX2 and AVX-512: blocks in registers, and the two functions that are compiled for these instructions.

use std::arch::x86_64::{
    __m256, __m512, _mm256_add_ps, _mm256_fmadd_ps, _mm256_max_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm512_add_ps,
    _mm512_fmadd_ps, _mm512_max_ps, _mm512_set1_ps, _mm512_setzero_ps,
};
use std::mem::transmute;

use super::{Block, Body, Isa};

/// Sixteen vectors of 256 bits with fused multiply-add. Made by [`run_avx2`] only.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

/// Thirty-two vectors of 512 bits. Made by [`run_avx512`] only.
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

#[target_feature(enable = "avx2,fma")]
pub(super) fn run_avx2<B: Body>(body: B) {
    body.run(Avx2(()));
}

#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
pub(super) fn run_avx512<B: Body>(body: B) {
    body.run(Avx512(()));
}

impl Isa for Avx2 {
    const SUMS: usize = 4;
    type Held = [__m256; 2];

    #[inline(always)]
    fn mul_add(self, a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }

    #[inline(always)]
    fn mul_add_f64(self, a: f64, b: f64, c: f64) -> f64 {
        a.mul_add(b, c)
    }

    #[inline(always)]
    fn hold(self, block: &Block) -> [__m256; 2] {
        // SAFETY: both are sixteen f32 without gaps, and any bits are both.
        unsafe { transmute::<Block, [__m256; 2]>(*block) }
    }

    #[inline(always)]
    fn block(self, held: [__m256; 2]) -> Block {
        // SAFETY: both are sixteen f32 without gaps, and any bits are both.
        unsafe { transmute::<[__m256; 2], Block>(held) }
    }

    #[inline(always)]
    fn add(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        // SAFETY: `self` exists only inside `run_avx2`, so the processor has AVX.
        unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn add_scaled(self, sum: [__m256; 2], factor: f32, block: &Block) -> [__m256; 2] {
        let [low, high] = self.hold(block);
        // SAFETY: `self` exists only inside `run_avx2`, so the processor has AVX and FMA.
        unsafe {
            let factor = _mm256_set1_ps(factor);
            [_mm256_fmadd_ps(factor, low, sum[0]), _mm256_fmadd_ps(factor, high, sum[1])]
        }
    }

    #[inline(always)]
    fn not_below_zero(self, held: [__m256; 2]) -> [__m256; 2] {
        // The instruction gives its second operand when one is NaN.
        // SAFETY: `self` exists only inside `run_avx2`, so the processor has AVX.
        unsafe { [_mm256_max_ps(_mm256_setzero_ps(), held[0]), _mm256_max_ps(_mm256_setzero_ps(), held[1])] }
    }
}

impl Isa for Avx512 {
    const SUMS: usize = 16;
    type Held = __m512;

    #[inline(always)]
    fn mul_add(self, a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }

    #[inline(always)]
    fn mul_add_f64(self, a: f64, b: f64, c: f64) -> f64 {
        a.mul_add(b, c)
    }

    #[inline(always)]
    fn hold(self, block: &Block) -> __m512 {
        // SAFETY: both are sixteen f32 without gaps, and any bits are both.
        unsafe { transmute::<Block, __m512>(*block) }
    }

    #[inline(always)]
    fn block(self, held: __m512) -> Block {
        // SAFETY: both are sixteen f32 without gaps, and any bits are both.
        unsafe { transmute::<__m512, Block>(held) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` exists only inside `run_avx512`, so the processor has AVX-512.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn add_scaled(self, sum: __m512, factor: f32, block: &Block) -> __m512 {
        // SAFETY: `self` exists only inside `run_avx512`, so the processor has AVX-512.
        unsafe { _mm512_fmadd_ps(_mm512_set1_ps(factor), self.hold(block), sum) }
    }

    #[inline(always)]
    fn not_below_zero(self, held: __m512) -> __m512 {
        // The instruction gives its second operand when one is NaN.
        // SAFETY: `self` exists only inside `run_avx512`, so the processor has AVX-512.
        unsafe { _mm512_max_ps(_mm512_setzero_ps(), held) }
    }
}
