//! Any value that may be sent.

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use vedette_protocol::cbor::Bytes;
use vedette_protocol::message::{
    ArtifactRequest, BatchAck, Birth, Chunk, ChunkError, Claim, JournalBatch, Status, StreamState, Want,
};
use vedette_protocol::record::{DropClass, PreviousEnd};
use vedette_protocol::*;

fn parsed<T: std::str::FromStr<Err = IdError> + std::fmt::Debug>(pattern: &'static str) -> impl Strategy<Value = T> {
    pattern.prop_map(|text: String| text.parse().unwrap())
}

fn device() -> impl Strategy<Value = DeviceId> {
    parsed("[a-z0-9][a-z0-9._-]{0,20}")
}

fn stream() -> impl Strategy<Value = StreamName> {
    parsed("[a-z0-9][a-z0-9._-]{0,20}")
}

fn version() -> impl Strategy<Value = ModelVersion> {
    (1..=u32::MAX).prop_map(|number| ModelVersion::new(number).unwrap())
}

fn model() -> impl Strategy<Value = ModelRef> {
    (parsed("[a-z0-9][a-z0-9._-]{0,20}"), version()).prop_map(|(name, version)| ModelRef { name, version })
}

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest::from_bytes)
}

fn boot() -> impl Strategy<Value = BootId> {
    any::<[u8; 16]>().prop_map(BootId::from_bytes)
}

fn f32() -> impl Strategy<Value = Finite32> {
    (prop::num::f32::NORMAL | prop::num::f32::ZERO | prop::num::f32::SUBNORMAL)
        .prop_map(|value| Finite32::new(value).unwrap())
}

fn f64() -> impl Strategy<Value = Finite64> {
    (prop::num::f64::NORMAL | prop::num::f64::ZERO | prop::num::f64::SUBNORMAL)
        .prop_map(|value| Finite64::new(value).unwrap())
}

fn above_zero() -> impl Strategy<Value = Finite64> {
    (1e-9..1e9).prop_map(|value| Finite64::new(value).unwrap())
}

fn text() -> impl Strategy<Value = String> {
    "\\PC{1,40}".prop_filter("says something", |text: &String| !text.trim().is_empty())
}

fn one_of<T: Copy + std::fmt::Debug + 'static>(all: &'static [T]) -> impl Strategy<Value = T> {
    prop::sample::select(all)
}

fn quality() -> impl Strategy<Value = Quality> {
    one_of(&[Quality::None, Quality::Floor, Quality::System, Quality::Attested])
}

fn stamp() -> impl Strategy<Value = Stamp> {
    (boot(), any::<u64>(), any::<i64>(), quality()).prop_map(|(boot, monotonic_ns, wall_ms, quality)| Stamp {
        boot,
        monotonic_ns,
        wall_ms,
        quality,
    })
}

fn by() -> impl Strategy<Value = ScoredBy> {
    prop_oneof![
        (model(), digest(), digest()).prop_map(|(model, artifact, manifest)| ScoredBy::Model {
            model,
            artifact,
            manifest
        }),
        any::<u32>().prop_map(|version| ScoredBy::Baseline { version }),
    ]
}

fn step() -> impl Strategy<Value = DeployStep> {
    let stage = one_of(&[Stage::Assigned, Stage::Verified, Stage::Fetched, Stage::Tried, Stage::Live, Stage::Refused]);
    (stream(), model(), digest(), stage, of(text())).prop_map(|(stream, model, manifest, stage, detail)| DeployStep {
        stream,
        model,
        manifest,
        stage,
        detail,
    })
}

fn swap() -> impl Strategy<Value = Swap> {
    let reason =
        one_of(&[SwapReason::Start, SwapReason::Assigned, SwapReason::Rollback, SwapReason::Fault, SwapReason::Extend]);
    let engine = proptest::option::of(one_of(&[EngineKind::Native, EngineKind::Tract, EngineKind::Mixed]));
    let all = (stream(), any::<u64>(), any::<u64>(), by(), reason, engine);
    all.prop_map(|(stream, first_row, reserved, by, reason, engine)| Swap {
        stream,
        first_row,
        reserved,
        by,
        reason,
        engine,
    })
}

fn anomaly() -> impl Strategy<Value = Anomaly> {
    let cause = one_of(&[Cause::Model, Cause::Baseline, Cause::Missing, Cause::Frozen, Cause::ModelFault]);
    let contribution = (parsed("[A-Za-z0-9_][A-Za-z0-9_.:/%-]{0,20}"), f32(), of(f32()))
        .prop_map(|(signal, share, value)| Contribution { signal, share, value });
    (stream(), any::<u64>(), any::<i64>(), cause, f32(), f32(), vec(contribution, 0..=8), by(), digest()).prop_map(
        |(stream, row, at_ms, cause, score, threshold, top, by, input)| Anomaly {
            stream,
            row,
            at_ms,
            cause,
            score,
            threshold,
            top,
            by,
            input,
        },
    )
}

fn body() -> impl Strategy<Value = Body> {
    let previous = one_of(&[PreviousEnd::First, PreviousEnd::Clean, PreviousEnd::Unclean]);
    let class = one_of(&[DropClass::Sample, DropClass::Anomaly, DropClass::Control, DropClass::Clip]);
    let verdict = one_of(&[Verdict::FalseAlarm, Verdict::Confirmed, Verdict::Ignored]);
    let record = (device(), any::<u64>(), any::<u64>()).prop_map(|(device, epoch, sequence)| RecordId {
        device,
        epoch,
        sequence,
    });
    prop_oneof![
        (text(), previous).prop_map(|(agent_version, previous)| Body::Boot { agent_version, previous }),
        swap().prop_map(Body::Swap),
        anomaly().prop_map(Body::Anomaly),
        (any::<u64>(), any::<u64>(), text()).prop_map(|(from, to, reason)| Body::Gap { from, to, reason }),
        (any::<i64>(), any::<i64>(), quality()).prop_map(|(old_ms, new_ms, quality)| Body::Clock {
            old_ms,
            new_ms,
            quality
        }),
        digest().prop_map(|digest| Body::Config { digest }),
        (of(stream()), class, any::<u64>(), any::<u64>(), any::<u64>(), of(f32())).prop_map(
            |(stream, class, first_row, last_row, count, max)| Body::Drop(Dropped {
                stream,
                class,
                first_row,
                last_row,
                count,
                max
            })
        ),
        (record, verdict, text(), of(text())).prop_map(|(record, verdict, by, note)| Body::Verdict {
            record,
            verdict,
            by,
            note
        }),
        (any::<u64>(), any::<u64>()).prop_map(|(epoch, upto)| Body::Ack { epoch, upto }),
        step().prop_map(Body::Deploy),
    ]
}

pub(crate) fn record() -> impl Strategy<Value = Record> {
    (stamp(), body()).prop_map(|(stamp, body)| Record { stamp, body })
}

pub(crate) fn assignment() -> impl Strategy<Value = Assignment> {
    let slots = prop::collection::btree_map(stream(), (model(), digest()), 0..12);
    (device(), any::<u64>(), -(1_i64 << 50)..1 << 50, 1_i64..1 << 40, slots).prop_map(
        |(audience, version, issued_ms, life, slots)| Assignment {
            audience,
            version,
            issued_ms,
            expires_ms: issued_ms + life,
            slots: slots.into_iter().map(|(stream, (model, manifest))| Slot { stream, model, manifest }).collect(),
        },
    )
}

fn kind() -> impl Strategy<Value = ModelKind> {
    prop_oneof![
        text().prop_map(|reconstruction| ModelKind::Autoencoder { reconstruction }),
        text().prop_map(|forecast| ModelKind::Forecaster { forecast }),
        (text(), of(text())).prop_map(|(score, contribution)| ModelKind::Score { score, contribution }),
    ]
}

fn fill() -> impl Strategy<Value = Fill> {
    prop_oneof![
        Just(Fill::None),
        (1..=u32::MAX).prop_map(|limit| Fill::Hold { limit }),
        (f64(), 1..=u32::MAX).prop_map(|(value, limit)| Fill::Constant { value, limit }),
    ]
}

prop_compose! {
    fn signal(index: usize)(
        unit in parsed("[!-~]{1,24}"),
        transform in one_of(&[Transform::None, Transform::Difference, Transform::Rate]),
        center in f64(), scale in above_zero(), clip in of(above_zero()), fill in fill(), frozen_after in of(2..=u32::MAX),
    ) -> Signal {
        Signal { name: format!("signal_{index}").parse().unwrap(), unit, transform, center, scale, clip, fill, frozen_after }
    }
}

prop_compose! {
    fn contract()(window in 1_u32..40, count in 1_usize..6)(
        hop in 1..=window, sampling_ms in 1_u64..604_800_000, signals in (0..count).map(signal).collect::<Vec<_>>(), window in Just(window),
    ) -> Contract {
        Contract { signals, sampling_ms, window, hop }
    }
}

fn blob() -> impl Strategy<Value = Blob> {
    (digest(), 1_u64..=262_144).prop_map(|(digest, length)| Blob { digest, length })
}

fn calibration(contract: &Contract) -> impl Strategy<Value = Calibration> + use<> {
    let residual = prop_oneof![Just(vec![]), vec(above_zero(), contract.signals.len())];
    (f64(), 1_u32..=4096, 1_u32..=4096, residual, 0..=contract.window)
        .prop_map(|(threshold, smooth, hold, residual, tail)| Calibration { threshold, smooth, hold, residual, tail })
}

fn limits() -> impl Strategy<Value = ModelLimits> {
    (1_u64 << 20..=1 << 32, 1_u64..=600_000, 1_u64..=60_000_000)
        .prop_map(|(memory_bytes, load_ms, row_us)| ModelLimits { memory_bytes, load_ms, row_us })
}

prop_compose! {
    pub(crate) fn manifest()(contract in contract())(
        name in parsed("[a-z0-9]{1,20}"), versions in (version(), version()), kind in kind(), artifact in blob(),
        calibration in calibration(&contract), limits in limits(), selftest in blob(), lineage in digest(), issued_ms in any::<i64>(),
        input in text(), contract in Just(contract), stateful in of(stateful()),
    ) -> Manifest {
        let mut contract = contract;
        let signals = contract.signals.len() as u32;
        let mut shape = vec![contract.window, signals];
        let mut calibration = calibration;
        if stateful.is_some() {
            contract.window = if matches!(kind, ModelKind::Forecaster { .. }) { 2 } else { 1 };
            (contract.hop, calibration.tail, shape) = (1, 0, vec![signals]);
        }
        let input = TensorSpec { name: input, shape };
        let (version, floor) = (versions.0.max(versions.1), versions.0.min(versions.1));
        Manifest { model: ModelRef { name, version }, floor, kind, artifact, contract, input, calibration, limits, selftest, lineage, issued_ms, stateful }
    }
}

fn stateful() -> impl Strategy<Value = Stateful> {
    let tensor = |i: usize| StateTensor { input: format!("\u{1f9ea}in{i}"), output: format!("out{i}") };
    (1_usize..=16, 0_u32..=4096)
        .prop_map(move |(states, warm_rows)| Stateful { state: (0..states).map(tensor).collect(), warm_rows })
}

pub(crate) fn selftest() -> impl Strategy<Value = SelfTest> {
    let vector = (vec(f32(), 0..40), f32()).prop_map(|(window, score)| Vector { window, score });
    (above_zero(), vec(vector, 0..6)).prop_map(|(tolerance, vectors)| SelfTest { tolerance, vectors })
}

fn training_data() -> impl Strategy<Value = TrainingData> {
    (text(), digest(), -(1_i64 << 50)..1 << 50, 0_i64..1 << 40, 1..=u64::MAX).prop_map(
        |(name, digest, from_ms, length, rows)| TrainingData { name, digest, from_ms, to_ms: from_ms + length, rows },
    )
}

pub(crate) fn lineage() -> impl Strategy<Value = Lineage> {
    let hyperparameters = prop::collection::btree_map("[a-z]{0,8}", "\\PC{0,12}", 0..5);
    let metrics = prop::collection::btree_map("[a-z]{0,8}", f64(), 1..5);
    let said = (text(), text(), text());
    (said, any::<u64>(), hyperparameters, any::<i64>(), vec(training_data(), 1..4), metrics, of(version())).prop_map(
        |((architecture, author, reason), parameters, hyperparameters, trained_ms, data, metrics, parent)| Lineage {
            architecture,
            parameters,
            hyperparameters: hyperparameters.into_iter().collect(),
            trained_ms,
            data,
            metrics: metrics.into_iter().collect(),
            author,
            reason,
            parent,
        },
    )
}

fn stream_state() -> impl Strategy<Value = StreamState> {
    (stream(), by(), of(step()), any::<u64>()).prop_map(|(stream, by, stage, row)| StreamState {
        stream,
        by,
        stage,
        row,
    })
}

prop_compose! {
    pub(crate) fn birth()(
        device in device(), online in any::<bool>(), boot in boot(), agent_version in text(), epoch in any::<u64>(),
        streams in vec(stream_state(), 0..6), assignment_version in any::<u64>(),
    ) -> Birth {
        Birth { device, online, boot, agent_version, epoch, streams, assignment_version }
    }
}

prop_compose! {
    pub(crate) fn status()(
        device in device(), stamp in stamp(), streams in vec(stream_state(), 0..6), numbers in any::<[u64; 9]>(), degraded in of(text()),
    ) -> Status {
        let [assignment_version, epoch, next_sequence, acked, rows, anomalies, dropped, memory_bytes, uptime_s] = numbers;
        Status { device, stamp, streams, assignment_version, epoch, next_sequence, acked, rows, anomalies, dropped, degraded, memory_bytes, uptime_s }
    }
}

fn bytes(most: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..most).prop_map(Bytes)
}

pub(crate) fn journal_batch() -> impl Strategy<Value = JournalBatch> {
    let records = prop::collection::btree_map(any::<u64>(), bytes(200), 0..20);
    (device(), any::<u64>(), records, any::<bool>(), any::<bool>(), of(claim())).prop_map(
        |(device, epoch, records, spans, late, checkpoint)| {
            let records: Vec<_> = records.into_iter().collect();
            let span = match (records.first(), records.last()) {
                (Some((from, _)), Some((last, _))) if spans && *last < u64::MAX => Some((*from, last + 1)),
                _ => None,
            };
            JournalBatch { span, late, checkpoint, ..JournalBatch::new(device, epoch, records) }
        },
    )
}

fn claim() -> impl Strategy<Value = Claim> {
    (text(), any::<[u8; 32]>(), any::<u64>(), vec(digest(), 0..=66), vec(digest(), 0..=64))
        .prop_map(|(note, key, from, proof, frontier)| Claim { note, key: Bytes(key.to_vec()), from, proof, frontier })
}

pub(crate) fn batch_ack() -> impl Strategy<Value = BatchAck> {
    let held = vec((1_u64..1000, 1_u64..1000), 0..=16);
    (any::<u64>(), 0..=u64::MAX / 2, held, any::<u64>(), of(text())).prop_map(
        |(epoch, upto, steps, checkpoint, refused)| {
            let mut floor = upto;
            let held = steps.into_iter().map(|(gap, length)| {
                let from = floor + gap;
                floor = from + length;
                (from, floor)
            });
            BatchAck { held: held.collect(), checkpoint, refused, ..BatchAck::new(epoch, upto) }
        },
    )
}

pub(crate) fn artifact_request() -> impl Strategy<Value = ArtifactRequest> {
    (digest(), one_of(&[Want::Manifest, Want::Blob]), any::<u64>(), 0_u32..=49_152)
        .prop_map(|(digest, want, offset, length)| ArtifactRequest { digest, want, offset, length })
}

pub(crate) fn chunk() -> impl Strategy<Value = Chunk> {
    let error = of(one_of(&[ChunkError::NotFound, ChunkError::BadRange]));
    (digest(), any::<u64>(), any::<u64>(), bytes(9000), error).prop_map(|(digest, offset, total, bytes, error)| Chunk {
        digest,
        offset,
        total,
        bytes,
        error,
    })
}
