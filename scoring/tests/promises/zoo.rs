//! Every model of the zoo gives what ONNX Runtime gives, through whichever engine the front chooses, and the same bits however many
//! rows run together.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use vedette_scoring::{BATCH_ROWS, EngineChoice, Network, Numbers, Outputs, Runner};

use crate::made::{data, floats};

/// A number may differ from ONNX Runtime's by this much of 1 + its size.
const TOLERANCE: f32 = 1e-5;

/// Models that may be wrong or refused, and why. Whoever makes one of them right takes its line out.
const KNOWN: [(&str, &str); 1] = [(
    "lstm_small_int8_dynamic",
    "com.microsoft's DynamicQuantizeLSTM is known to neither engine, and refused by name",
)];

#[derive(Deserialize)]
struct Case {
    name: String,
    batch: Batch,
    model: PathBuf,
    inputs: Vec<Input>,
    outputs: Vec<Output>,
}

/// How rows go together.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Batch {
    Any,
    One,
    Whole,
}

#[derive(Deserialize)]
struct Input {
    shape: Vec<usize>,
    file: PathBuf,
}

#[derive(Deserialize)]
struct Output {
    name: String,
    r#type: Kind,
    shape: Vec<usize>,
    #[serde(default)]
    values: Vec<String>,
    #[serde(default)]
    words: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    F32,
    I64,
    String,
}

impl Case {
    fn all() -> Vec<Case> {
        let cases: Vec<Case> =
            serde_json::from_slice(&std::fs::read(zoo(Path::new("manifest.json"))).unwrap()).unwrap();
        assert!(cases.len() > 350, "only {}", cases.len());
        cases
    }

    fn model(&self) -> Vec<u8> {
        let file = std::fs::read(zoo(&self.model)).unwrap();
        if self.model.extension().is_none_or(|e| e != "gz") {
            return file;
        }
        let mut onnx = Vec::new();
        flate2::read::GzDecoder::new(&file[..]).read_to_end(&mut onnx).unwrap();
        onnx
    }

    fn network(&self, choice: EngineChoice) -> Result<Network, String> {
        Network::load(&self.model(), choice).map_err(|e| e.to_string())
    }

    fn input(&self) -> Vec<f32> {
        floats(&zoo(&self.inputs[0].file))
    }

    fn rows(&self) -> usize {
        self.inputs[0].shape[0]
    }

    /// What ONNX Runtime gave; words as their places in the list that they come from.
    fn reference(&self) -> Vec<Numbers> {
        let stored = std::fs::read(zoo(Path::new(&format!("{}.out", self.name)))).unwrap();
        let mut rest = &stored[..];
        let reference = self.outputs.iter().map(|o| o.take(&mut rest)).collect();
        assert!(rest.is_empty(), "{}: {} bytes too many", self.name, rest.len());
        reference
    }

    /// Runs all rows, so many together; the outputs in the manifest's order.
    fn run(&self, network: &Network, together: usize) -> Result<Vec<Numbers>, String> {
        let input = self.input();
        let size = input.len() / self.rows();
        let mut runner = Runner::new(network);
        let mut piece = Outputs::new(network.outputs());
        let mut whole = Outputs::new(network.outputs()).values;
        for rows in input.chunks(size * together) {
            runner.run(network, rows, &mut piece).map_err(|e| e.to_string())?;
            whole.iter_mut().zip(&piece.values).for_each(|(whole, piece)| append(whole, piece));
        }
        let place = |o: &Output| network.outputs().iter().position(|p| p.name == o.name);
        let sorted =
            self.outputs.iter().map(|o| place(o).map(|p| whole[p].clone()).ok_or(format!("no output {}", o.name)));
        sorted.collect()
    }

    /// What differs from ONNX Runtime's outputs, or the largest difference of a number.
    fn held(&self) -> Result<f32, String> {
        let network = self.network(EngineChoice::Auto)?;
        let found = self.run(&network, BATCH_ROWS)?;
        let mut largest = 0.0_f32;
        for ((output, found), expected) in self.outputs.iter().zip(&found).zip(self.reference()) {
            let difference = difference(found, &expected).map_err(|e| format!("output {}: {e}", output.name))?;
            if difference > TOLERANCE {
                return Err(format!("output {} differs by {difference:.1e}", output.name));
            }
            largest = largest.max(difference);
        }
        Ok(largest)
    }
}

impl Output {
    fn take(&self, rest: &mut &[u8]) -> Numbers {
        let count: usize = self.shape.iter().product();
        let mut cut = |bytes: usize| {
            let (numbers, behind) = rest.split_at(count * bytes);
            *rest = behind;
            numbers
        };
        match self.r#type {
            Kind::F32 => Numbers::F32(cut(4).as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
            Kind::I64 => Numbers::I64(cut(8).as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect()),
            Kind::String => Numbers::I64(self.values.iter().map(|v| self.place(v)).collect()),
        }
    }

    fn place(&self, word: &str) -> i64 {
        self.words.iter().position(|w| w == word).unwrap() as i64
    }
}

fn zoo(file: &Path) -> PathBuf {
    data("zoo").join(file)
}

fn append(whole: &mut Numbers, piece: &Numbers) {
    match (whole, piece) {
        (Numbers::F32(whole), Numbers::F32(piece)) => whole.extend_from_slice(piece),
        (Numbers::I64(whole), Numbers::I64(piece)) => whole.extend_from_slice(piece),
        _ => panic!("an output changed its kind"),
    }
}

/// The largest difference of numbers, of 1 + the expected size. Labels and places must be the same.
fn difference(found: &Numbers, expected: &Numbers) -> Result<f32, String> {
    match (found, expected) {
        (Numbers::F32(found), Numbers::F32(expected)) if found.len() == expected.len() => {
            let pairs = found.iter().zip(expected);
            let apart = |(f, e): (&f32, &f32)| {
                let same = f == e || (f.is_nan() && e.is_nan());
                let apart = (f - e).abs() / (1.0 + e.abs());
                // Whatever is no number here is a difference without end.
                if same {
                    0.0
                } else if apart.is_nan() {
                    f32::INFINITY
                } else {
                    apart
                }
            };
            Ok(pairs.map(apart).fold(0.0, f32::max))
        }
        (Numbers::I64(found), Numbers::I64(expected)) if found.len() == expected.len() => {
            let wrong = found.iter().zip(expected).filter(|(f, e)| f != e).count();
            if wrong == 0 { Ok(0.0) } else { Err(format!("{wrong} of {} labels are wrong", found.len())) }
        }
        _ => Err(format!("wanted {}, found {}", told(expected), told(found))),
    }
}

fn told(numbers: &Numbers) -> String {
    match numbers {
        Numbers::F32(list) => format!("{} numbers", list.len()),
        Numbers::I64(list) => format!("{} whole numbers", list.len()),
    }
}

fn bits(numbers: &Numbers) -> Vec<u64> {
    match numbers {
        Numbers::F32(list) => list.iter().map(|x| u64::from(x.to_bits())).collect(),
        Numbers::I64(list) => list.iter().map(|x| x.cast_unsigned()).collect(),
    }
}

fn known(name: &str) -> bool {
    KNOWN.iter().any(|(known, _)| *known == name)
}

#[test]
fn every_model_of_the_zoo_gives_what_onnx_runtime_gives() {
    let (mut wrong, mut largest, mut right) = (Vec::new(), 0.0_f32, Vec::new());
    for case in Case::all() {
        match case.held() {
            Ok(difference) => {
                largest = largest.max(difference);
                right.push(case.name);
            }
            Err(why) if !known(&case.name) => wrong.push(format!("{}: {why}", case.name)),
            Err(_) => {}
        }
    }
    println!("{} models, largest difference {largest:.1e} of 1 + the number", right.len());
    assert!(wrong.is_empty(), "{} wrong:\n  {}", wrong.len(), wrong.join("\n  "));
    KNOWN.iter().for_each(|(name, why)| println!("known: {name}: {why}"));
    let mended: Vec<&String> = right.iter().filter(|name| known(name)).collect();
    assert!(mended.is_empty(), "these hold, take them out of the list: {mended:?}");
}

#[test]
fn rows_of_the_zoo_have_the_same_bits_however_many_run_together() {
    let mut wrong = Vec::new();
    for case in Case::all().iter().filter(|c| c.batch != Batch::Whole && !known(&c.name)) {
        let Ok(network) = case.network(EngineChoice::Auto) else { continue };
        let runs: Result<Vec<_>, String> = [1, 7, BATCH_ROWS].iter().map(|n| case.run(&network, *n)).collect();
        let runs = runs.unwrap_or_else(|e| panic!("{}: {e}", case.name));
        let first: Vec<_> = runs[0].iter().map(bits).collect();
        if runs[1..].iter().any(|run| run.iter().map(bits).ne(first.iter().cloned())) {
            wrong.push(format!("{} ({})", case.name, network.engine().as_str()));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n  {}", wrong.len(), wrong.join("\n  "));
}
