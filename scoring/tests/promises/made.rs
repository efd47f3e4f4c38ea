//! Models and streams for the tests.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use vedette_protocol::{
    Blob, Calibration, Contract, Digest, Draft, Fill, Finite32, Finite64, Manifest, ModelKind, ModelLimits, SelfTest,
    Signal, TensorSpec, Transform, Vector, cbor,
};
use vedette_scoring::replay::{Options, Replay, Row};
use vedette_scoring::{Model, Sample, Schema};

pub(crate) const MINUTE_MS: i64 = 60_000;

pub(crate) fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data").join(path)
}

/// One of the five shared models, with its manifest as a data scientist wrote it.
pub(crate) struct Shared {
    pub(crate) manifest: Manifest,
    pub(crate) onnx: Vec<u8>,
    pub(crate) selftest: SelfTest,
}

impl Shared {
    pub(crate) fn read(name: &str) -> Shared {
        Shared::at(&data(&format!("models/{name}.toml")), &data(&format!("models/{name}.onnx")))
    }

    pub(crate) fn at(draft: &Path, onnx: &Path) -> Shared {
        let onnx = std::fs::read(onnx).unwrap();
        let written = Draft::from_toml(&std::fs::read_to_string(draft).unwrap(), &draft.display().to_string()).unwrap();
        let selftest = std::fs::read(draft.with_file_name(written.selftest_file().unwrap())).unwrap();
        let selftest: SelfTest = serde_json::from_slice(&selftest).unwrap();
        let blob = Blob::of(&cbor::to_canonical(&selftest));
        let (manifest, _) = written.finish(Blob::of(&onnx), blob, 0).unwrap();
        Shared { manifest, onnx, selftest }
    }

    pub(crate) fn load(&self) -> Arc<Model> {
        Arc::new(Model::load(&self.manifest, digest(&self.manifest), &self.onnx).unwrap())
    }
}

pub(crate) fn digest(manifest: &Manifest) -> Digest {
    Digest::of(&cbor::to_canonical(manifest))
}

/// The server's telemetry in which something happens.
pub(crate) fn server() -> (Arc<Schema>, Vec<Row>) {
    let options = Options { label: Some("label".into()), ..Options::new(0, MINUTE_MS) };
    let mut replay = Replay::open(&data("sample/machine-3-4_test_rows1000-7500.csv.gz"), &options).unwrap();
    let rows = replay.by_ref().collect::<Result<_, _>>().unwrap();
    (Arc::clone(replay.schema()), rows)
}

pub(crate) fn floats(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    bytes.chunks_exact(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect()
}

pub(crate) fn number(value: f64) -> Finite64 {
    Finite64::new(value).unwrap()
}

pub(crate) fn signal(name: &str) -> Signal {
    Signal {
        name: name.parse().unwrap(),
        unit: "1".parse().unwrap(),
        transform: Transform::None,
        center: number(0.0),
        scale: number(1.0),
        clip: None,
        fill: Fill::None,
        frozen_after: None,
    }
}

pub(crate) fn score_kind() -> ModelKind {
    ModelKind::Score { score: "score".into(), contribution: Some("parts".into()) }
}

/// A manifest for `onnx` with two signals `a` and `b`, a window of three rows, and a threshold of 10.
pub(crate) fn tiny_manifest(kind: ModelKind, onnx: &[u8]) -> Manifest {
    let rows = if matches!(kind, ModelKind::Forecaster { .. }) { 2 } else { 3 };
    Manifest {
        model: "tiny@1".parse().unwrap(),
        floor: "1".parse().unwrap(),
        kind,
        artifact: Blob::of(onnx),
        contract: Contract {
            signals: vec![signal("a"), signal("b")],
            sampling_ms: MINUTE_MS as u64,
            window: 3,
            hop: 1,
        },
        input: TensorSpec { name: "x".into(), shape: vec![rows, 2] },
        calibration: Calibration { threshold: number(10.0), smooth: 1, hold: 1, residual: vec![], tail: 0 },
        limits: ModelLimits { memory_bytes: 1 << 30, load_ms: 60_000, row_us: 1_000_000 },
        selftest: Blob::of(b"none"),
        lineage: Digest::of(b"none"),
        issued_ms: 0,
        stateful: None,
    }
}

/// Bytes of one of the four small graphs.
pub(crate) fn tiny_graph(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/models/{name}.onnx"))).unwrap()
}

pub(crate) fn tiny(name: &str, kind: ModelKind, change: impl FnOnce(&mut Manifest)) -> Arc<Model> {
    let onnx = tiny_graph(name);
    let mut manifest = tiny_manifest(kind, &onnx);
    change(&mut manifest);
    Arc::new(Model::load(&manifest, digest(&manifest), &onnx).unwrap())
}

pub(crate) fn schema(names: &[&str]) -> Arc<Schema> {
    Arc::new(Schema::new(names.iter().map(|n| (n.parse().unwrap(), None)).collect()).unwrap())
}

pub(crate) fn sample(row: u64, values: &[f32]) -> Sample {
    Sample { at_ms: row as i64 * MINUTE_MS, values: values.into() }
}

pub(crate) fn vector(window: &[f32], score: f32) -> Vector {
    Vector { window: window.iter().map(|v| Finite32::new(*v).unwrap()).collect(), score: Finite32::new(score).unwrap() }
}
