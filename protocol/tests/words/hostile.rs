//! Bytes from anybody: whatever they are, reading them ends in a value or an error.

use proptest::collection::vec;
use proptest::prelude::*;
use vedette_protocol::cbor::{self, Bytes, from_canonical};
use vedette_protocol::message::{ArtifactRequest, BatchAck, Birth, Chunk, Claim, JournalBatch, Message, Status};
use vedette_protocol::{Assignment, Digest, KeySet, Lineage, Manifest, Record, SelfTest, Trust, envelope};

use crate::samples;

/// Reads `bytes` as everything; a panic is the only way to fail.
fn read_as_everything(bytes: &[u8]) -> usize {
    let role = KeySet::single(samples::key(1).public());
    let read = [
        Birth::decode(bytes).is_ok(),
        Status::decode(bytes).is_ok(),
        JournalBatch::decode(bytes).is_ok(),
        BatchAck::decode(bytes).is_ok(),
        ArtifactRequest::decode(bytes).is_ok(),
        Chunk::decode(bytes).is_ok(),
        from_canonical::<Assignment>(bytes).is_ok(),
        from_canonical::<Manifest>(bytes).is_ok(),
        from_canonical::<SelfTest>(bytes).is_ok(),
        from_canonical::<Lineage>(bytes).is_ok(),
        from_canonical::<Record>(bytes).is_ok(),
        envelope::open::<Manifest>(bytes, &role).is_ok(),
        envelope::open::<Assignment>(bytes, &role).is_ok(),
        envelope::digest_of_payload(bytes).is_ok(),
        cbor::decode::<cbor::Value>(bytes, bytes.len()).is_ok(),
    ];
    read.into_iter().filter(|read| *read).count()
}

#[derive(Debug, Clone)]
enum Mutation {
    Set(usize, u8),
    Insert(usize, u8),
    Remove(usize),
    Cut(usize),
    Repeat(usize, usize),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = 0_usize..2000;
    prop_oneof![
        4 => (at.clone(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        1 => (at.clone(), any::<u8>()).prop_map(|(at, byte)| Mutation::Insert(at, byte)),
        1 => at.clone().prop_map(Mutation::Remove),
        1 => at.clone().prop_map(Mutation::Cut),
        1 => (at, 1_usize..40).prop_map(|(at, length)| Mutation::Repeat(at, length)),
    ]
}

fn mutate(bytes: &mut Vec<u8>, mutation: &Mutation) {
    let place = |at: usize| at % bytes.len().max(1);
    match *mutation {
        _ if bytes.is_empty() => {}
        Mutation::Set(at, byte) => {
            let at = place(at);
            bytes[at] = byte;
        }
        Mutation::Insert(at, byte) => bytes.insert(place(at), byte),
        Mutation::Remove(at) => {
            bytes.remove(place(at));
        }
        Mutation::Cut(at) => bytes.truncate(place(at)),
        Mutation::Repeat(at, length) => {
            let at = place(at);
            let piece = bytes[at..(at + length).min(bytes.len())].to_vec();
            bytes.splice(at..at, piece);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_bytes_make_reading_panic(bytes in vec(any::<u8>(), 0..400)) {
        read_as_everything(&bytes);
    }

    #[test]
    fn no_damage_to_good_bytes_makes_reading_panic(pick in any::<prop::sample::Index>(), mutations in vec(mutation(), 1..6)) {
        let samples = samples::all();
        let mut bytes = samples[pick.index(samples.len())].bytes.clone();
        mutations.iter().for_each(|mutation| mutate(&mut bytes, mutation));
        read_as_everything(&bytes);
    }

    /// Whatever is believed to be canonical has that one encoding.
    #[test]
    fn what_is_read_as_canonical_is_written_as_it_was(mutations in vec(mutation(), 1..3)) {
        let mut bytes = cbor::to_canonical(&samples::record(samples::anomaly()));
        mutations.iter().for_each(|mutation| mutate(&mut bytes, mutation));
        if let Ok(record) = from_canonical::<Record>(&bytes) {
            prop_assert_eq!(cbor::to_canonical(&record), bytes);
        }
    }

    #[test]
    fn no_text_makes_the_settings_panic(text in "[\\[\\]{}=\"a-z0-9.\n ]{0,80}") {
        if let Err(error) = Trust::from_toml(&text) {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}

#[test]
fn every_sample_is_read_as_something() {
    for sample in samples::all() {
        assert!(read_as_everything(&sample.bytes) >= 1, "{}", sample.name);
    }
}

#[test]
fn a_field_that_a_newer_program_added_is_ignored_in_carried_messages_only() {
    let ack = BatchAck::new(1, 2);
    let mut bytes = ack.encode();
    bytes[0] += 1;
    bytes.extend([0x61, b'x', 0xfb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0]);
    assert_eq!(BatchAck::decode(&bytes), Ok(ack));
    let mut bytes = cbor::to_canonical(&samples::assignment());
    bytes[0] += 1;
    bytes.extend([0x06, 0x00]);
    let error = from_canonical::<Assignment>(&bytes).unwrap_err().to_string();
    assert_eq!(error, "assignment: key 6 is unknown, doubled or out of order");
}

#[test]
fn slots_that_are_doubled_or_out_of_order_are_refused() {
    let mut assignment = samples::assignment();
    assignment.slots.reverse();
    assert!(from_canonical::<Assignment>(&cbor::to_canonical(&assignment)).is_err());
    assignment.slots[1] = assignment.slots[0].clone();
    assert!(from_canonical::<Assignment>(&cbor::to_canonical(&assignment)).is_err());
}

#[test]
fn a_message_above_its_limit_is_refused_by_its_length() {
    let error = BatchAck::decode(&[0; 1025]).unwrap_err().to_string();
    assert_eq!(error, "1025 bytes are more than the 1024 allowed");
}

#[test]
fn a_batch_whose_records_lie_outside_its_span_is_refused() {
    let record = |sequence| (sequence, Bytes(vec![0]));
    let batch = |span, records| JournalBatch { span: Some(span), ..JournalBatch::new(samples::device(), 1, records) };
    for good in [batch((3, 6), vec![record(3), record(5)]), batch((3, 6), vec![]), batch((3, 3), vec![])] {
        assert_eq!(JournalBatch::decode(&good.encode()), Ok(good));
    }
    for bad in [batch((4, 6), vec![record(3), record(5)]), batch((3, 5), vec![record(5)]), batch((6, 3), vec![])] {
        let error = JournalBatch::decode(&bad.encode()).unwrap_err().to_string();
        assert!(error.contains("span"), "{error}");
    }
}

#[test]
fn an_acknowledgement_names_what_it_holds_in_order_and_beyond_itself() {
    let ack = |held| BatchAck { held, ..BatchAck::new(1, 10) };
    let good = ack(vec![(11, 12), (12, 20)]);
    assert_eq!(BatchAck::decode(&good.encode()), Ok(good));
    for bad in [vec![(9, 12)], vec![(12, 12)], vec![(20, 30), (12, 14)], vec![(11, 12); 17]] {
        assert!(BatchAck::decode(&ack(bad.clone()).encode()).is_err(), "{bad:?}");
    }
}

#[test]
fn a_claim_with_a_key_or_a_proof_of_the_wrong_length_is_refused() {
    let claim = Claim { note: String::new(), key: Bytes(vec![1; 32]), from: 0, proof: vec![], frontier: vec![] };
    let decode = |claim: Claim| {
        let batch = JournalBatch { checkpoint: Some(claim), ..JournalBatch::new(samples::device(), 1, vec![]) };
        JournalBatch::decode(&batch.encode())
    };
    assert!(decode(claim.clone()).is_ok());
    assert!(decode(Claim { key: Bytes(vec![1; 31]), ..claim.clone() }).is_err());
    assert!(decode(Claim { proof: vec![Digest::of(b""); 67], ..claim.clone() }).is_err());
    assert!(decode(Claim { frontier: vec![Digest::of(b""); 65], ..claim.clone() }).is_err());
    assert!(decode(Claim { note: "x".repeat(1025), ..claim }).is_err());
}
