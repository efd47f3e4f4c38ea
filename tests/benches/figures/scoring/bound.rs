//! What a dense model costs at least: its products by hand, one row at a time, weights drawn, no graph around them.

#![allow(
    unsafe_code,
    reason = "entries for the processor's vector instructions, in a benchmark only; each block says why it holds"
)]

/// Numbers that are summed up side by side.
const LANES: usize = 16;
/// Sums that run beside each other over a layer's inputs, so that none waits for the last.
const CHAINS: usize = 4;

/// A chain of dense layers with ReLU between them.
pub(crate) struct Dense {
    layers: Vec<Layer>,
    /// The numbers between layers, two at a time.
    from: Vec<f32>,
    to: Vec<f32>,
}

struct Layer {
    inputs: usize,
    /// As wide as whole lanes.
    outputs: usize,
    /// Per block of lanes, per input, a lane's weight each.
    weights: Vec<f32>,
    bias: Vec<f32>,
}

impl Dense {
    /// Layers of these widths; the weights are small numbers that no product makes denormal.
    pub(crate) fn new(widths: &[usize]) -> Self {
        let layers = widths.windows(2).map(|pair| Layer::new(pair[0], pair[1])).collect();
        let widest = widths.iter().max().map_or(0, |width| width.next_multiple_of(LANES));
        Self { layers, from: vec![0.0; widest], to: vec![0.0; widest] }
    }

    /// One row through all layers.
    pub(crate) fn run(&mut self, row: &[f32]) -> &[f32] {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                // SAFETY: the processor has these instructions, as was just asked.
                unsafe { self.run_avx512(row) };
                return &self.from;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                // SAFETY: the processor has these instructions, as was just asked.
                unsafe { self.run_avx2(row) };
                return &self.from;
            }
        }
        self.walk(row, |a, b, c| a * b + c);
        &self.from
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f")]
    fn run_avx512(&mut self, row: &[f32]) {
        self.walk(row, f32::mul_add);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn run_avx2(&mut self, row: &[f32]) {
        self.walk(row, f32::mul_add);
    }

    #[inline(always)]
    fn walk(&mut self, row: &[f32], mul_add: impl Fn(f32, f32, f32) -> f32 + Copy) {
        self.from[..row.len()].copy_from_slice(row);
        for layer in &self.layers {
            layer.run(&self.from[..layer.inputs], &mut self.to[..layer.outputs], mul_add);
            std::mem::swap(&mut self.from, &mut self.to);
        }
    }
}

impl Layer {
    fn new(inputs: usize, outputs: usize) -> Self {
        let outputs = outputs.next_multiple_of(LANES);
        let weight = |i: usize| ((i * 37 % 101) as f32 - 50.0) / 500.0;
        Self { inputs, outputs, weights: (0..inputs * outputs).map(weight).collect(), bias: vec![0.1; outputs] }
    }

    #[inline(always)]
    fn run(&self, from: &[f32], to: &mut [f32], mul_add: impl Fn(f32, f32, f32) -> f32 + Copy) {
        let blocks = self.weights.chunks_exact(self.inputs * LANES).zip(self.bias.chunks_exact(LANES));
        for (to, (weights, bias)) in to.chunks_exact_mut(LANES).zip(blocks) {
            let mut sums = [[0.0_f32; LANES]; CHAINS];
            for (inputs, weights) in
                from.chunks_exact(CHAINS).zip(weights.as_chunks::<LANES>().0.as_chunks::<CHAINS>().0)
            {
                for chain in 0..CHAINS {
                    for lane in 0..LANES {
                        sums[chain][lane] = mul_add(inputs[chain], weights[chain][lane], sums[chain][lane]);
                    }
                }
            }
            for (lane, to) in to.iter_mut().enumerate() {
                let sum: f32 = sums.iter().map(|sums| sums[lane]).sum();
                *to = (sum + bias[lane]).max(0.0);
            }
        }
    }
}
