//! Which vector instructions this machine has, found once, and the doors through which kernels enter code compiled for them.
//!
//! A kernel's arithmetic is a [`Body`]: plain loops over [`Block`]s, generic over an [`Isa`] and always inlined. [`Lanes::run`]
//! inlines that body into a function that the compiler may fill with AVX2 or AVX-512 instructions. All `unsafe` of the kernels
//! is here, and all of it is one claim: this code is entered only where the processor said that it has the instructions (the
//! types of [`x86`] are made nowhere but behind its two doors).
//!
//! Bodies never call [`f32::mul_add`] themselves: without the instruction it becomes a call into the C library, fifty times
//! slower. [`Isa::mul_add`] is fused exactly where the hardware is.
#![allow(unsafe_code)]

/// Numbers that bodies take at a time: one AVX-512 register, two of AVX2, four of NEON.
pub(crate) const WIDTH: usize = 16;

/// One block of lanes. Loops over its 16 places become vector instructions.
pub(crate) type Block = [f32; WIDTH];

/// An instruction set, as a type of size zero.
///
/// Straight loops over blocks need nothing but [`Isa::mul_add`]: the compiler makes vectors of them. It does not do so reliably
/// for running sums that live through a loop (measured: a convolution forty times slower when it missed), so those are held in
/// registers by name.
pub(crate) trait Isa: Copy {
    /// Blocks of running sums that fit the registers, with room for what is added to them.
    const SUMS: usize;
    /// A block in registers.
    type Held: Copy;

    /// `a * b + c`, rounded once where the hardware can, else twice.
    fn mul_add(self, a: f32, b: f32, c: f32) -> f32;
    /// The same in f64.
    fn mul_add_f64(self, a: f64, b: f64, c: f64) -> f64;
    /// A block into registers.
    fn hold(self, block: &Block) -> Self::Held;
    /// A block out of registers.
    fn block(self, held: Self::Held) -> Block;
    /// `a + b`.
    fn add(self, a: Self::Held, b: Self::Held) -> Self::Held;
    /// `sum + factor * block`, each lane by [`Isa::mul_add`].
    fn add_scaled(self, sum: Self::Held, factor: f32, block: &Block) -> Self::Held;
    /// Zero where a lane is less; NaN stays.
    fn not_below_zero(self, held: Self::Held) -> Self::Held;
}

/// Arithmetic that is compiled once for each instruction set. Every function it calls on its way must be inlined.
pub(crate) trait Body {
    /// Does the work. Implementations are `#[inline(always)]`.
    fn run<I: Isa>(self, isa: I);
}

/// No vector instructions known: 32-bit ARM, old x86, everything else.
#[derive(Clone, Copy)]
struct Portable;

impl Isa for Portable {
    const SUMS: usize = 4;
    type Held = Block;

    #[inline(always)]
    fn mul_add(self, a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }

    #[inline(always)]
    fn mul_add_f64(self, a: f64, b: f64, c: f64) -> f64 {
        a * b + c
    }

    #[inline(always)]
    fn hold(self, block: &Block) -> Block {
        *block
    }

    #[inline(always)]
    fn block(self, held: Block) -> Block {
        held
    }

    #[inline(always)]
    fn add(self, mut a: Block, b: Block) -> Block {
        a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        a
    }

    #[inline(always)]
    fn add_scaled(self, mut sum: Block, factor: f32, block: &Block) -> Block {
        sum.iter_mut().zip(block).for_each(|(sum, x)| *sum = self.mul_add(factor, *x, *sum));
        sum
    }

    #[inline(always)]
    fn not_below_zero(self, mut held: Block) -> Block {
        held.iter_mut().for_each(|x| *x = if *x < 0.0 { 0.0 } else { *x });
        held
    }
}

#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "x86_64")]
mod x86;

/// The instruction set in use. Only [`Lanes::detected`] and [`Lanes::portable`] make one, so holding one proves that the
/// processor has the instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lanes(Set);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    Portable,
    #[cfg(target_arch = "aarch64")]
    Neon,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Lanes {
    /// The best that this processor has (the standard library asks it once and remembers).
    pub(crate) fn detected() -> Self {
        #[cfg(test)]
        if forced::is_portable() {
            return Lanes::portable();
        }
        Lanes::best()
    }

    /// Plain code, which runs anywhere.
    pub(crate) const fn portable() -> Self {
        Lanes(Set::Portable)
    }

    #[cfg(target_arch = "x86_64")]
    fn best() -> Self {
        use std::arch::is_x86_feature_detected as has;
        let wide = has!("avx512f") && has!("avx512vl") && has!("avx512bw") && has!("avx512dq");
        match (has!("avx2") && has!("fma"), wide) {
            (true, true) => Lanes(Set::Avx512),
            (true, false) => Lanes(Set::Avx2),
            (false, _) => Lanes(Set::Portable),
        }
    }

    #[cfg(target_arch = "aarch64")]
    fn best() -> Self {
        // NEON with fused multiply-add belongs to every 64-bit ARM: the compiler uses it unasked.
        Lanes(Set::Neon)
    }

    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn best() -> Self {
        Lanes::portable()
    }

    /// Runs a body with these instructions.
    #[inline]
    pub(crate) fn run<B: Body>(self, body: B) {
        match self.0 {
            Set::Portable => body.run(Portable),
            #[cfg(target_arch = "aarch64")]
            Set::Neon => body.run(neon::Neon),
            // SAFETY: only `best` makes this value, after the processor said that it has AVX2 and FMA.
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => unsafe { x86::run_avx2(body) },
            // SAFETY: only `best` makes this value, after the processor said that it has these parts of AVX-512, AVX2 and FMA.
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => unsafe { x86::run_avx512(body) },
        }
    }

    /// The name for reports: `avx512`, `avx2`, `neon` or `portable`.
    pub(crate) fn name(self) -> &'static str {
        match self.0 {
            Set::Portable => "portable",
            #[cfg(target_arch = "aarch64")]
            Set::Neon => "neon",
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => "avx512",
        }
    }
}

/// For tests that hold the portable path against the detected one.
#[cfg(test)]
pub(crate) mod forced {
    use std::cell::Cell;

    thread_local! {
        static PORTABLE: Cell<bool> = const { Cell::new(false) };
    }

    pub(super) fn is_portable() -> bool {
        PORTABLE.get()
    }

    /// What `make` makes on this thread uses plain code only.
    pub(crate) fn portable<T>(make: impl FnOnce() -> T) -> T {
        PORTABLE.set(true);
        let made = make();
        PORTABLE.set(false);
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sum<'a>(&'a mut f32);

    impl Body for Sum<'_> {
        #[inline(always)]
        fn run<I: Isa>(self, isa: I) {
            *self.0 = isa.mul_add(2.0, 3.0, 4.0);
        }
    }

    #[test]
    fn every_door_leads_to_the_same_arithmetic() {
        for lanes in [Lanes::detected(), Lanes::portable()] {
            let mut sum = 0.0;
            lanes.run(Sum(&mut sum));
            assert_eq!(sum, 10.0, "{}", lanes.name());
        }
    }

    #[test]
    fn what_is_made_under_force_is_portable_and_only_that() {
        assert_eq!(forced::portable(Lanes::detected), Lanes::portable());
        assert_eq!(Lanes::detected(), Lanes::best());
    }
}
