//! The arithmetic of `limit`: the largest thing that may be said fits into what may be sent.

use vedette_protocol::cbor::{self, Bytes, Signed};
use vedette_protocol::limit;
use vedette_protocol::message::{Birth, Chunk, Claim, JournalBatch, Message, Status, StreamState};
use vedette_protocol::topic::{Down, Topic};
use vedette_protocol::*;

fn longest_model() -> ModelRef {
    format!("{}@{}", "m".repeat(64), u32::MAX).parse().unwrap()
}

fn longest_stream(index: usize) -> StreamName {
    format!("{}{index:02}", "s".repeat(46)).parse().unwrap()
}

fn longest_by() -> ScoredBy {
    let digest = Digest::of(b"x");
    ScoredBy::Model { model: longest_model(), artifact: digest, manifest: digest }
}

fn longest_states(detail: Option<usize>) -> Vec<StreamState> {
    let state = |index| {
        let detail = detail.map(|length| "d".repeat(length));
        let step = DeployStep {
            stream: longest_stream(index),
            model: longest_model(),
            manifest: Digest::of(b"x"),
            stage: Stage::Assigned,
            detail,
        };
        StreamState { stream: longest_stream(index), by: longest_by(), stage: Some(step), row: u64::MAX }
    };
    (0..limit::MAX_STREAMS).map(state).collect()
}

fn device() -> DeviceId {
    "d".repeat(64).parse().unwrap()
}

#[test]
fn the_largest_birth_may_be_retained() {
    let streams = longest_states(None);
    let birth = Birth {
        device: device(),
        online: true,
        boot: BootId::from_bytes([0; 16]),
        agent_version: "v".repeat(40),
        epoch: u64::MAX,
        streams,
        assignment_version: u64::MAX,
    };
    let length = birth.encode().len();
    assert!(length <= limit::MAX_RETAINED_BYTES, "{length}");
    assert!(Birth::decode(&birth.encode()).is_ok());
}

#[test]
fn the_largest_status_fits_with_every_detail() {
    let stamp = Stamp {
        boot: BootId::from_bytes([0; 16]),
        monotonic_ns: u64::MAX,
        wall_ms: i64::MIN,
        quality: Quality::Attested,
    };
    let most = u64::MAX;
    let status = Status {
        device: device(),
        stamp,
        streams: longest_states(Some(limit::MAX_DETAIL_BYTES)),
        assignment_version: most,
        epoch: most,
        next_sequence: most,
        acked: most,
        rows: most,
        anomalies: most,
        dropped: most,
        degraded: Some("x".repeat(limit::MAX_NOTE_BYTES)),
        memory_bytes: most,
        uptime_s: most,
    };
    let length = status.encode().len();
    assert!(length <= Status::MAX_BYTES, "{length}");
}

#[test]
fn the_largest_assignment_may_be_retained_with_every_signature() {
    let slot = |index| Slot { stream: longest_stream(index), model: longest_model(), manifest: Digest::of(b"x") };
    let assignment = Assignment {
        audience: device(),
        version: u64::MAX,
        issued_ms: i64::MAX - 1,
        expires_ms: i64::MAX,
        slots: (0..limit::MAX_SLOTS).map(slot).collect(),
    };
    let payload = cbor::to_canonical(&assignment).len();
    assert!(payload <= Assignment::MAX_BYTES, "{payload}");
    let keys: Vec<SigningKey> = (1..=limit::MAX_SIGNATURES as u8).map(crate::samples::key).collect();
    let sealed = envelope::seal(&assignment, &keys.iter().collect::<Vec<_>>()).len();
    assert!(sealed <= limit::MAX_RETAINED_BYTES && sealed - payload <= limit::MAX_ENVELOPE_OVERHEAD_BYTES, "{sealed}");
}

#[test]
fn the_largest_anomaly_fits_a_record_and_a_batch() {
    let number = Finite32::new(f32::MAX).unwrap();
    let contribution = Contribution { signal: "s".repeat(64).parse().unwrap(), share: number, value: Some(number) };
    let anomaly = Anomaly {
        stream: longest_stream(0),
        row: u64::MAX,
        at_ms: i64::MIN,
        cause: Cause::ModelFault,
        score: number,
        threshold: number,
        top: vec![contribution; limit::MAX_TOP],
        by: longest_by(),
        input: Digest::of(b"x"),
    };
    let length = cbor::to_canonical(&crate::samples::record(Body::Anomaly(anomaly))).len();
    assert!(length <= 1536, "{length}");
    let records = vec![(u64::MAX - 1, Bytes(vec![0; limit::MAX_RECORD_BYTES]))];
    let claim = Claim {
        note: "x".repeat(limit::MAX_CHECKPOINT_BYTES),
        key: Bytes(vec![0; 32]),
        from: u64::MAX,
        proof: vec![Digest::of(b"x"); limit::MAX_PROOF_HASHES],
        frontier: vec![Digest::of(b"x"); limit::MAX_FRONTIER_HASHES],
    };
    let batch = JournalBatch {
        span: Some((0, u64::MAX)),
        late: true,
        checkpoint: Some(claim),
        ..JournalBatch::new(device(), u64::MAX, records)
    };
    assert!(batch.encode().len() <= JournalBatch::MAX_BYTES, "one record of any size can be sent");
}

#[test]
fn the_largest_message_fits_a_packet_with_its_topic() {
    let chunk = Chunk {
        digest: Digest::of(b"x"),
        offset: u64::MAX,
        total: u64::MAX,
        bytes: Bytes(vec![0; limit::MAX_CHUNK_DATA_BYTES]),
        error: None,
    };
    assert!(chunk.encode().len() <= Chunk::MAX_BYTES);
    let topic = Topic::down(&device(), Down::Assignment).to_string().len();
    let largest =
        [Birth::MAX_BYTES, Status::MAX_BYTES, JournalBatch::MAX_BYTES, Chunk::MAX_BYTES].into_iter().max().unwrap();
    assert!(largest + topic + 64 <= limit::MAX_PACKET_BYTES);
}
