//! One value of everything that has bytes, with a life of its own: the same device, model and moment throughout.

use std::fmt::Debug;

use vedette_protocol::cbor::{self, Bytes, Signed};
use vedette_protocol::message::{
    ArtifactRequest, BatchAck, Birth, Chunk, ChunkError, Claim, JournalBatch, Message, Status, StreamState, Want,
};
use vedette_protocol::record::{DropClass, PreviousEnd};
use vedette_protocol::*;

/// A value, its bytes, and whether bytes read back as it.
pub(crate) struct Sample {
    pub(crate) name: &'static str,
    /// The rule of the CDDL.
    pub(crate) rule: &'static str,
    /// The value as a person reads it.
    pub(crate) shown: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) reads_back: ReadsBack,
}

type ReadsBack = Box<dyn Fn(&[u8]) -> bool>;

fn carried<T: Message + PartialEq + Debug + 'static>(name: &'static str, rule: &'static str, value: T) -> Sample {
    let (shown, bytes) = (format!("{value:#?}"), value.encode());
    Sample { name, rule, shown, bytes, reads_back: Box::new(move |bytes| T::decode(bytes).as_ref() == Ok(&value)) }
}

fn canonical<T: Signed + PartialEq + Debug + 'static>(name: &'static str, rule: &'static str, value: T) -> Sample {
    let (shown, bytes) = (format!("{value:#?}"), cbor::to_canonical(&value));
    Sample {
        name,
        rule,
        shown,
        bytes,
        reads_back: Box::new(move |bytes| cbor::from_canonical::<T>(bytes).as_ref() == Ok(&value)),
    }
}

fn signed<T: Signed + PartialEq + Debug + 'static>(
    name: &'static str,
    rule: &'static str,
    value: T,
    keys: &[&SigningKey],
) -> Sample {
    let role = KeySet { threshold: keys.len() as u8, keys: keys.iter().map(|key| key.public()).collect() };
    let shown = format!("signed for {:?} by {:?}:\n{value:#?}", T::DOMAIN, role.keys);
    let bytes = envelope::seal(&value, keys);
    let reads_back = move |bytes: &[u8]| envelope::open::<T>(bytes, &role).is_ok_and(|opened| opened.value == value);
    Sample { name, rule, shown, bytes, reads_back: Box::new(reads_back) }
}

/// A key that everybody knows: PKCS#8 version 1 around a seed of one repeated byte.
pub(crate) fn key(seed: u8) -> SigningKey {
    let mut der = vec![0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    der.extend([seed; 32]);
    SigningKey::from_pkcs8(&der).unwrap()
}

const AT: i64 = 1_795_253_400_125;

pub(crate) fn device() -> DeviceId {
    "box-17".parse().unwrap()
}

fn server() -> StreamName {
    "server".parse().unwrap()
}

fn f32(value: f32) -> Finite32 {
    Finite32::new(value).unwrap()
}

fn f64(value: f64) -> Finite64 {
    Finite64::new(value).unwrap()
}

fn stamp() -> Stamp {
    Stamp {
        boot: BootId::from_bytes([0xb0; 16]),
        monotonic_ns: 86_400_000_000_001,
        wall_ms: AT,
        quality: Quality::System,
    }
}

fn pump() -> ModelRef {
    "pump-38@2".parse().unwrap()
}

fn by_model() -> ScoredBy {
    ScoredBy::Model { model: pump(), artifact: Digest::of(b"artifact"), manifest: Digest::of(b"manifest") }
}

fn step(stage: Stage, detail: Option<&str>) -> DeployStep {
    DeployStep {
        stream: server(),
        model: pump(),
        manifest: Digest::of(b"manifest"),
        stage,
        detail: detail.map(Into::into),
    }
}

pub(crate) fn assignment() -> Assignment {
    let slot = |stream: &str, model: &str| Slot {
        stream: stream.parse().unwrap(),
        model: model.parse().unwrap(),
        manifest: Digest::of(model.as_bytes()),
    };
    Assignment {
        audience: device(),
        version: 7,
        issued_ms: AT,
        expires_ms: AT + 604_800_000,
        slots: vec![slot("host", "host@1"), slot("server", "pump-38@2")],
    }
}

fn signals() -> Vec<Signal> {
    let plain = Signal {
        name: "cpu_r".parse().unwrap(),
        unit: "1".parse().unwrap(),
        transform: Transform::None,
        center: f64(0.25),
        scale: f64(0.5),
        clip: None,
        fill: Fill::None,
        frozen_after: None,
    };
    let counter = Signal {
        name: "eth1_fi".parse().unwrap(),
        unit: "By".parse().unwrap(),
        transform: Transform::Rate,
        center: f64(-1.5),
        scale: f64(1e6),
        clip: Some(f64(8.0)),
        fill: Fill::Hold { limit: 5 },
        frozen_after: Some(120),
    };
    vec![plain, counter]
}

pub(crate) fn manifest() -> Manifest {
    Manifest {
        model: pump(),
        floor: ModelVersion::FIRST,
        kind: ModelKind::Score { score: "score".into(), contribution: Some("parts".into()) },
        artifact: Blob::of(b"artifact"),
        contract: Contract { signals: signals(), sampling_ms: 60_000, window: 16, hop: 1 },
        input: TensorSpec { name: "x".into(), shape: vec![16, 2] },
        calibration: Calibration { threshold: f64(3.5), smooth: 5, hold: 2, residual: vec![], tail: 0 },
        limits: ModelLimits { memory_bytes: 64 << 20, load_ms: 5000, row_us: 10_000 },
        selftest: Blob::of(b"selftest"),
        lineage: Digest::of(b"lineage"),
        issued_ms: AT,
        stateful: None,
    }
}

fn stateful() -> Manifest {
    let contract = Contract { signals: signals(), sampling_ms: 1000, window: 1, hop: 1 };
    let tensor = |name: &str| StateTensor { input: format!("{name}_in"), output: format!("{name}_out") };
    let stateful = Stateful { state: vec![tensor("h"), tensor("c")], warm_rows: 64 };
    let input = TensorSpec { name: "x".into(), shape: vec![1, 2] };
    Manifest { contract, input, stateful: Some(stateful), ..manifest() }
}

fn autoencoder() -> Manifest {
    let kind = ModelKind::Autoencoder { reconstruction: "y".into() };
    let calibration =
        Calibration { threshold: f64(1.25), smooth: 1, hold: 1, residual: vec![f64(0.01), f64(0.02)], tail: 4 };
    Manifest { kind, calibration, input: TensorSpec { name: "x".into(), shape: vec![32] }, ..manifest() }
}

fn forecaster() -> Manifest {
    let mut signals = signals();
    signals[0].transform = Transform::Difference;
    signals[0].fill = Fill::Constant { value: f64(0.0), limit: 1 };
    let contract = Contract { signals, sampling_ms: 1000, window: 17, hop: 17 };
    let kind = ModelKind::Forecaster { forecast: "next".into() };
    Manifest { kind, contract, ..manifest() }
}

fn selftest() -> SelfTest {
    let vector = |first: f32, score: f32| Vector { window: vec![f32(first), f32(-0.5)], score: f32(score) };
    SelfTest { tolerance: f64(1e-5), vectors: vec![vector(1.5, 0.25), vector(100.0, 12.0)] }
}

pub(crate) fn lineage() -> Lineage {
    let day = TrainingData {
        name: "server, one quiet day".into(),
        digest: Digest::of(b"day"),
        from_ms: AT - 86_400_000,
        to_ms: AT,
        rows: 1440,
    };
    Lineage {
        architecture: "PCA of 38 signals".into(),
        parameters: 418,
        hyperparameters: vec![("components".into(), "10".into()), ("window".into(), "16".into())],
        trained_ms: AT,
        data: vec![day],
        metrics: vec![("false_alarms_a_day".into(), f64(0.5)), ("vus_pr".into(), f64(0.54))],
        author: "Ada Lovelace <ada@example.org>".into(),
        reason: "memory level changed on 12 June".into(),
        parent: Some(ModelVersion::FIRST),
    }
}

pub(crate) fn record(body: Body) -> Record {
    Record { stamp: stamp(), body }
}

pub(crate) fn anomaly() -> Body {
    let contribution = |signal: &str, share: f32, value: Option<f32>| Contribution {
        signal: signal.parse().unwrap(),
        share: f32(share),
        value: value.map(f32),
    };
    Body::Anomaly(Anomaly {
        stream: server(),
        row: 1742,
        at_ms: AT - 250,
        cause: Cause::Model,
        score: f32(7.25),
        threshold: f32(3.5),
        top: vec![contribution("mem_u", 0.75, Some(0.125)), contribution("cpu_r", 0.25, None)],
        by: by_model(),
        input: Digest::of(b"window"),
    })
}

fn records() -> Vec<Sample> {
    let of = |name, body| canonical(name, "record", record(body));
    let swap = Swap {
        stream: server(),
        first_row: 1800,
        reserved: 4096,
        by: ScoredBy::Baseline { version: 1 },
        reason: SwapReason::Fault,
        engine: None,
    };
    let of_model =
        Swap { by: by_model(), reason: SwapReason::Assigned, engine: Some(EngineKind::Native), ..swap.clone() };
    let dropped = Dropped {
        stream: Some(server()),
        class: DropClass::Anomaly,
        first_row: 10,
        last_row: 900,
        count: 412,
        max: None,
    };
    let scored = Dropped { max: Some(Finite32::new(7.5).unwrap()), ..dropped.clone() };
    let evicted = Dropped { stream: None, class: DropClass::Control, ..dropped.clone() };
    let verdict = Body::Verdict {
        record: "box-17/1/42".parse().unwrap(),
        verdict: Verdict::FalseAlarm,
        by: "anna".into(),
        note: Some("planned restart".into()),
    };
    vec![
        of("record_boot", Body::Boot { agent_version: "0.1.0".into(), previous: PreviousEnd::Unclean }),
        of("record_swap", Body::Swap(swap)),
        of("record_swap_engine", Body::Swap(of_model)),
        of("record_anomaly", anomaly()),
        of("record_gap", Body::Gap { from: 100, to: 117, reason: "a bad checksum".into() }),
        of("record_clock", Body::Clock { old_ms: -5, new_ms: AT, quality: Quality::Attested }),
        of("record_config", Body::Config { digest: Digest::of(b"agent.toml") }),
        of("record_drop", Body::Drop(dropped)),
        of("record_drop_scored", Body::Drop(scored)),
        of("record_drop_evicted", Body::Drop(evicted)),
        of("record_verdict", verdict),
        of("record_ack", Body::Ack { epoch: 1, upto: 4711 }),
        of("record_deploy", Body::Deploy(step(Stage::Refused, Some("the artifact does not match its digest")))),
    ]
}

fn messages() -> Vec<Sample> {
    let baseline =
        StreamState { stream: "host".parse().unwrap(), by: ScoredBy::Baseline { version: 1 }, stage: None, row: 9 };
    let model = StreamState { stream: server(), by: by_model(), stage: Some(step(Stage::Live, None)), row: 1743 };
    let birth = Birth {
        device: device(),
        online: true,
        boot: BootId::from_bytes([0xb0; 16]),
        agent_version: "0.1.0".into(),
        epoch: 1,
        streams: vec![baseline, model.clone()],
        assignment_version: 7,
    };
    let will = Birth { online: false, streams: vec![], ..birth.clone() };
    let status = Status {
        device: device(),
        stamp: stamp(),
        streams: vec![model],
        assignment_version: 7,
        epoch: 1,
        next_sequence: 4800,
        acked: 4711,
        rows: 1743,
        anomalies: 3,
        dropped: 0,
        degraded: Some("the registry cannot be reached".into()),
        memory_bytes: 11 << 20,
        uptime_s: 3600,
    };
    let bytes = |body| Bytes(cbor::to_canonical(&record(body)));
    let records = vec![(41, bytes(anomaly())), (42, bytes(Body::Ack { epoch: 1, upto: 41 }))];
    let batch = JournalBatch::new(device(), 1, records);
    let claim = Claim {
        note: "vedette/box-17/1\n43\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n".into(),
        key: Bytes(vec![0xed; 32]),
        from: 40,
        proof: vec![Digest::of(b"left"), Digest::of(b"right")],
        frontier: vec![Digest::of(b"32"), Digest::of(b"8"), Digest::of(b"2"), Digest::of(b"1")],
    };
    let late = JournalBatch { span: Some((38, 43)), late: true, checkpoint: Some(claim), ..batch.clone() };
    let ack = BatchAck::new(1, 43);
    let held = BatchAck { held: vec![(50, 60), (61, 62)], checkpoint: 40, ..ack.clone() };
    let refused = BatchAck { refused: Some("two histories under one name".into()), ..ack.clone() };
    let request = ArtifactRequest { digest: Digest::of(b"artifact"), want: Want::Blob, offset: 49_152, length: 49_152 };
    let chunk = Chunk {
        digest: Digest::of(b"artifact"),
        offset: 49_152,
        total: 49_155,
        bytes: Bytes(vec![1, 2, 3]),
        error: None,
    };
    let none =
        Chunk { offset: 0, total: 0, bytes: Bytes::default(), error: Some(ChunkError::NotFound), ..chunk.clone() };
    vec![
        carried("birth", "birth", birth),
        carried("birth_last_will", "birth", will),
        carried("status", "status", status),
        carried("journal_batch", "journal-batch", batch),
        carried("journal_batch_late", "journal-batch", late),
        carried("batch_ack", "batch-ack", ack),
        carried("batch_ack_held", "batch-ack", held),
        carried("batch_ack_refused", "batch-ack", refused),
        carried("artifact_request", "artifact-request", request),
        carried("chunk", "chunk", chunk),
        carried("chunk_not_found", "chunk", none),
    ]
}

/// Everything that has bytes.
pub(crate) fn all() -> Vec<Sample> {
    let (one, two) = (key(1), key(2));
    let mut all = vec![
        canonical("assignment", "assignment", assignment()),
        canonical("manifest_score", "manifest", manifest()),
        canonical("manifest_autoencoder", "manifest", autoencoder()),
        canonical("manifest_stateful", "manifest", stateful()),
        canonical("manifest_forecaster", "manifest", forecaster()),
        canonical("selftest", "selftest", selftest()),
        canonical("lineage", "lineage", lineage()),
        signed("signed_assignment", "signed-assignment", assignment(), &[&one]),
        signed("signed_manifest", "signed-manifest", manifest(), &[&one, &two]),
    ];
    all.extend(records());
    all.extend(messages());
    all
}
