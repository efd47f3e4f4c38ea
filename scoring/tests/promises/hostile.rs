//! Models that mean no good end in their trial, with one sentence each, and the parent lives on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use vedette_protocol::{Blob, Digest, Manifest, ModelKind, SelfTest, cbor};
use vedette_scoring::Model;
use vedette_scoring::trial::{self, TrialError, TrialLimits, TrialReport};

use crate::made::{Shared, data, digest, number, tiny_graph, tiny_manifest, vector};

const LIMITS: TrialLimits =
    TrialLimits { memory_bytes: 256 << 20, cpu: Duration::from_secs(5), wall: Duration::from_secs(20) };

struct Case {
    manifest: Manifest,
    artifact: PathBuf,
    selftest: Vec<u8>,
}

impl Case {
    /// A trial of the file, whose manifest promises the sum of `x` as score.
    fn of(artifact: &Path) -> Case {
        let kind = ModelKind::Score { score: "score".into(), contribution: None };
        let test = SelfTest { tolerance: number(1e-4), vectors: vec![vector(&[1.0; 6], 6.0)] };
        let selftest = cbor::to_canonical(&test);
        let bytes = std::fs::read(artifact).unwrap();
        let mut manifest = tiny_manifest(kind, &bytes);
        manifest.artifact.length = manifest.artifact.length.max(1);
        manifest.selftest = Blob::of(&selftest);
        Case { manifest, artifact: artifact.to_owned(), selftest }
    }

    fn hostile(name: &str) -> Case {
        Case::of(&data(&format!("hostile/{name}.onnx")))
    }

    fn run(&self, limits: TrialLimits) -> Result<TrialReport, TrialError> {
        let program = Path::new(env!("CARGO_BIN_EXE_vedette-trial-child"));
        trial::run(program, &[], &self.manifest, digest(&self.manifest), &self.artifact, &self.selftest, limits)
    }
}

fn refused(name: &str) -> String {
    let error = Case::hostile(name).run(LIMITS).unwrap_err();
    println!("{name}: {error}");
    assert!(!error.to_string().contains('\n'));
    error.to_string()
}

#[test]
fn a_good_model_passes_and_tells_what_it_took() {
    for name in ["pca", "lstm_pred", "iforest_dense"] {
        let shared = Shared::read(name);
        let artifact = data(&format!("models/{name}.onnx"));
        let selftest = cbor::to_canonical(&shared.selftest);
        let report = Case { manifest: shared.manifest, artifact, selftest }.run(LIMITS).unwrap();
        println!("{name}: {report:?}");
        assert!(report.vectors >= 3 && report.largest_difference <= 1e-5);
        assert!(report.row_p50_ns > 100 && report.row_p99_ns >= report.row_p50_ns && report.load_ms > 0.0);
        assert!(report.memory_bytes > 1 << 20);
    }
}

#[test]
fn what_is_no_model_is_refused() {
    for name in ["truncated", "no_onnx"] {
        let said = refused(name);
        assert!(said.starts_with("this is no ONNX model, or its end is cut off"), "{said}");
    }
    assert!(refused("empty").contains("0 bytes"));
}

#[test]
fn what_is_another_model_than_promised_is_refused_with_what_was_found() {
    let said = refused("wrong_shape");
    assert_eq!(said, "input `x` of the graph has shape [1, 5], the manifest needs [1, 3, 2] (batch first)");
    let said = refused("unknown_operator");
    assert_eq!(said, "the engine does not know operator Frobnicate; export the model without it");
    let said = refused("external_data");
    assert_eq!(said, "tensor `w` keeps its values in another file; save the model with its weights inside");
    let said = refused("too_many_nodes");
    assert_eq!(said, "the graph has 2001 nodes, the limit is 2000");
    assert!(refused("panic_output").contains("`score`"));
}

#[test]
fn a_graph_that_panics_the_engine_ends_only_the_trial() {
    for name in ["panic_stride", "panic_division"] {
        let error = Case::hostile(name).run(LIMITS).unwrap_err();
        println!("{name}: {error}");
        assert!(matches!(error, TrialError::Panicked { .. }), "{name}: {error:?}");
    }
    // The same in a process that loads it without a trial: the fence holds a panic.
    let case = Case::hostile("panic_division");
    let onnx = std::fs::read(&case.artifact).unwrap();
    let error = Model::load(&case.manifest, digest(&case.manifest), &onnx).unwrap_err().to_string();
    assert!(error.contains("panicked"), "{error}");
}

#[test]
fn a_graph_without_an_end_is_stopped_by_processor_time_or_the_wall() {
    let short = TrialLimits { memory_bytes: 2 << 30, cpu: Duration::from_secs(1), ..LIMITS };
    let error = Case::hostile("for_ever").run(short).unwrap_err();
    assert!(matches!(error, TrialError::TimedOut { wall: false }), "{error:?}");
    let short = TrialLimits { memory_bytes: 2 << 30, wall: Duration::from_millis(700), ..LIMITS };
    let error = Case::hostile("for_ever").run(short).unwrap_err();
    assert!(matches!(error, TrialError::TimedOut { wall: true }), "{error:?}");
    assert_eq!(error.to_string(), "the model did not finish its trial within the time limit");
}

#[test]
fn a_graph_that_eats_memory_is_refused_for_it() {
    for name in ["memory_constant", "memory_tile", "memory_pad"] {
        let error = Case::hostile(name).run(LIMITS).unwrap_err();
        println!("{name}: {error}");
        assert!(matches!(error, TrialError::OutOfMemory { .. }), "{name}: {error:?}");
    }
}

#[test]
fn the_artifact_must_be_the_one_that_the_manifest_names() {
    let mut case = Case::hostile("wrong_shape");
    case.manifest.artifact.length += 1;
    assert!(case.run(LIMITS).unwrap_err().to_string().contains("bytes, the manifest says"));
    let mut case = Case::hostile("wrong_shape");
    case.manifest.artifact.digest = Digest::of(b"something else");
    assert!(case.run(LIMITS).unwrap_err().to_string().contains("names sha256:"));
    let mut case = Case::hostile("wrong_shape");
    case.selftest.push(0);
    assert!(case.run(LIMITS).unwrap_err().to_string().contains("the self-test is not the one"));
    case.artifact = "/nowhere/model.onnx".into();
    case.selftest.pop();
    assert!(case.run(LIMITS).unwrap_err().to_string().contains("couldn't read the artifact"));
}

#[test]
fn a_file_larger_than_any_artifact_may_be_is_refused_unread() {
    let onnx = vec![0_u8; (256 << 20) + 1];
    let mut manifest =
        tiny_manifest(ModelKind::Score { score: "score".into(), contribution: None }, &tiny_graph("score"));
    manifest.artifact.length = onnx.len() as u64;
    let error = Model::load(&manifest, digest(&manifest), &onnx).unwrap_err().to_string();
    assert_eq!(error, "the model is 268435457 bytes long, the limit is 268435456");
}

#[test]
fn a_program_that_is_no_trial_says_nothing_about_the_model() {
    let case = Case::hostile("wrong_shape");
    let start = |program: &str, limits| {
        trial::run(
            Path::new(program),
            &[],
            &case.manifest,
            digest(&case.manifest),
            &case.artifact,
            &case.selftest,
            limits,
        )
    };
    assert!(matches!(start("/nowhere/program", LIMITS), Err(TrialError::Start { .. })));
    assert!(matches!(start("/bin/false", LIMITS), Err(TrialError::Lost { .. })));
    // One that talks without end and never reads.
    let short = TrialLimits { wall: Duration::from_secs(5), ..LIMITS };
    assert!(matches!(start("/usr/bin/yes", short), Err(TrialError::Lost { .. })));
}
