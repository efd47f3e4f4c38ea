//! Models that mean no good, signed and assigned as if they did: each ends in its trial, in a process of its own.

use vedette_protocol::assignment::Slot;
use vedette_protocol::manifest::{Manifest, ModelKind, SelfTest, TensorSpec, Transform, Vector};
use vedette_protocol::number::{Finite32, Finite64};
use vedette_protocol::record::Stage;
use vedette_protocol::{Blob, Digest, ModelVersion, cbor};

use super::{Device, Fleet};
use crate::data;

/// Memory that a trial may map: the endless graph must reach the deadline before it reaches this.
const MEMORY_BYTES: u64 = 2 << 30;

/// Short, because the endless graph takes all of it.
const SHORT: &str = "trial_memory = \"2GiB\"\ntrial_deadline = \"5s\"";

impl Fleet {
    /// A graph with an input of three rows of two signals, under a manifest that fits such a one.
    fn push_hostile(&mut self, name: &str) -> Slot {
        let onnx = std::fs::read(data(&format!("hostile/{name}.onnx"))).unwrap();
        let window = vec![Finite32::new(1.0).unwrap(); 6];
        let vectors = vec![Vector { window, score: Finite32::new(6.0).unwrap() }];
        let selftest = cbor::to_canonical(&SelfTest { tolerance: Finite64::new(1e-4).unwrap(), vectors });
        let mut manifest = Manifest {
            kind: ModelKind::Score { score: "score".to_owned(), contribution: None },
            input: TensorSpec { name: "x".to_owned(), shape: vec![3, 2] },
            artifact: Blob::of(&onnx),
            selftest: Blob::of(&selftest),
            ..self.draft("demo/v2")
        };
        manifest.model.version = ModelVersion::new(9).unwrap();
        (manifest.contract.window, manifest.contract.hop) = (3, 1);
        manifest.contract.signals.truncate(2);
        manifest.contract.signals.iter_mut().for_each(|signal| signal.transform = Transform::None);
        manifest.calibration.residual.clear();
        manifest.calibration.tail = 0;
        manifest.limits.memory_bytes = MEMORY_BYTES;
        manifest.check().unwrap();
        self.blobs.insert(Digest::of(&onnx), onnx);
        self.blobs.insert(Digest::of(&selftest), selftest);
        self.publish(&manifest)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_panics_eats_memory_or_never_ends_is_refused_and_the_old_one_goes_on() {
    let mut fleet = Fleet::new();
    let v1 = fleet.push("demo/v1");
    let mut device = Device::start_with(tempfile::tempdir().unwrap(), &fleet.trust(), SHORT);
    device.runs_to(&fleet, fleet.assign(1, &v1), Stage::Live).await;
    let cases = [
        ("unknown_operator", "Frobnicate"),
        ("wrong_shape", "[1, 5]"),
        ("panic_stride", "panicked"),
        ("memory_constant", "more memory than the 2048 MiB"),
        ("for_ever", "did not finish its trial"),
    ];
    for (version, (name, reason)) in (2..).zip(cases) {
        let slot = fleet.push_hostile(name);
        device.runs_to(&fleet, fleet.assign(version, &slot), Stage::Refused).await;
        let why = device.why();
        assert!(
            why.starts_with("the trial failed") && why.contains(reason),
            "{name}: expected `{reason}`, got `{why}`"
        );
        assert_eq!(device.running(), "server-pca@1", "{name}");
    }
    device.stop().await;
}
