//! Which vector instructions this machine has, found once, and the doors through which kernels enter code compiled for them.
//!
//! A kernel's arithmetic is a [`Body`]: plain loops over [`Block`]s, generic over an [`Isa`] and always inlined. [`Lanes::run`]
//! inlines that body into a function that the compiler may fill with AVX2 or AVX-512 instructions. All `unsafe` of the kernels
//! is here, and all of it is one claim: this code is entered only where the processor said that it has the instructions.
//!
//! Bodies never call [`f32::mul_add`] themselves: without the instruction it becomes a call into the C library, fifty times
//! slower. [`Isa::mul_add`] is fused exactly where the hardware is.
#![allow(unsafe_code)]

/// Numbers that bodies take at a time: one AVX-512 register, two of AVX2, four of NEON.
pub(crate) const WIDTH: usize = 16;

/// One block of lanes. Loops over its 16 places become vector instructions.
pub(crate) type Block = [f32; WIDTH];

/// An instruction set, as a type of size zero.
pub(crate) trait Isa: Copy {
    /// Blocks that may be held at once as running sums without spilling to memory.
    const SUMS: usize;

    /// `a * b + c`, rounded once where the hardware can, else twice.
    fn mul_add(self, a: f32, b: f32, c: f32) -> f32;

    /// The same in f64.
    fn mul_add_f64(self, a: f64, b: f64, c: f64) -> f64;
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

    #[inline(always)]
    fn mul_add(self, a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }

    #[inline(always)]
    fn mul_add_f64(self, a: f64, b: f64, c: f64) -> f64 {
        a * b + c
    }
}

/// Vectors of 128 or 256 bits with fused multiply-add: AVX2 with FMA, NEON on 64-bit ARM.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[derive(Clone, Copy)]
struct Fused;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
impl Isa for Fused {
    const SUMS: usize = 4;

    #[inline(always)]
    fn mul_add(self, a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }

    #[inline(always)]
    fn mul_add_f64(self, a: f64, b: f64, c: f64) -> f64 {
        a.mul_add(b, c)
    }
}

/// Vectors of 512 bits, thirty-two of them.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
struct FusedWide;

#[cfg(target_arch = "x86_64")]
impl Isa for FusedWide {
    const SUMS: usize = 16;

    #[inline(always)]
    fn mul_add(self, a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }

    #[inline(always)]
    fn mul_add_f64(self, a: f64, b: f64, c: f64) -> f64 {
        a.mul_add(b, c)
    }
}

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
            Set::Neon => body.run(Fused),
            // SAFETY: only `best` makes this value, after the processor said that it has AVX2 and FMA.
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => unsafe { run_avx2(body) },
            // SAFETY: only `best` makes this value, after the processor said that it has these parts of AVX-512, AVX2 and FMA.
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => unsafe { run_avx512(body) },
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

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2<B: Body>(body: B) {
    body.run(Fused);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
fn run_avx512<B: Body>(body: B) {
    body.run(FusedWide);
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
