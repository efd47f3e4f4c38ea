//! Files with bytes changed at random: the native engine refuses or runs them and never panics. Nothing here catches a panic: one
//! of them fails the test.
//!
//! `VEDETTE_MUTATIONS` says how many files; without it a few thousand.

use std::io::Read as _;

use vedette_scoring::{EngineChoice, Network, Outputs, Runner};

use crate::made::data;

const FILES: u64 = 4000;
/// Small models, one for each kind of step.
const SEEDS: [&str; 16] = [
    "trees_modes",
    "forest_words",
    "trees5_member",
    "decision_tree_regressor",
    "svm_regressor_poly",
    "svc_probability",
    "logistic_zipmap",
    "kmeans_small",
    "mixture_full",
    "imputer_mean",
    "gru_small",
    "lstm_small",
    "conv_autoencoder",
    "transformer_relu",
    "dense_relu_int8_qdq_s8",
    "rearranged",
];

/// Marsaglia's xorshift: the same files in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

fn mutate(random: &mut Random, file: &[u8]) -> Vec<u8> {
    let mut file = file.to_vec();
    for _ in 0..1 + random.below(4) {
        let at = random.below(file.len());
        match random.below(5) {
            0 => file[at] = random.next() as u8,
            1 => file[at] ^= 1 << random.below(8),
            2 => file[at] = [0x00, 0xff, 0x7f, 0x80, 0x01][random.below(5)],
            3 => file.truncate(at.max(1)),
            _ => {
                // A piece from elsewhere: lengths and names in the wrong place.
                let (from, length) = (random.below(file.len()), 1 + random.below(8));
                let piece: Vec<u8> = file[from..].iter().take(length).copied().collect();
                file.splice(at..(at + piece.len()).min(file.len()), piece);
            }
        }
    }
    file
}

#[test]
fn no_change_of_bytes_makes_the_native_engine_panic() {
    let files = std::env::var("VEDETTE_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(FILES);
    let seeds: Vec<Vec<u8>> = SEEDS
        .iter()
        .map(|name| {
            let file = std::fs::read(data(&format!("zoo/{name}.onnx.gz"))).unwrap();
            let mut onnx = Vec::new();
            flate2::read::GzDecoder::new(&file[..]).read_to_end(&mut onnx).unwrap();
            assert!(Network::load(&onnx, EngineChoice::Native).is_ok(), "{name} does not run natively");
            onnx
        })
        .collect();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut loaded, mut refused) = (0, 0);
    for i in 0..files {
        let file = mutate(&mut random, &seeds[(i % SEEDS.len() as u64) as usize]);
        let Ok(network) = Network::load(&file, EngineChoice::Native) else {
            refused += 1;
            continue;
        };
        loaded += 1;
        let input: Vec<f32> = (0..3 * network.input().numbers()).map(|i| (i % 17) as f32 - 8.0).collect();
        let mut out = Outputs::new(network.outputs());
        Runner::new(&network).run(&network, &input, &mut out).unwrap();
    }
    println!("{loaded} ran, {refused} were refused");
    assert!(loaded > files / 20 && refused > files / 20);
}
