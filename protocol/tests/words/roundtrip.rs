//! decode(encode(x)) = x, in CBOR and in the JSON that people see.

use std::fmt::Debug;

use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use vedette_protocol::cbor::{self, Signed};
use vedette_protocol::message::Message;
use vedette_protocol::{Assignment, ScoredBy, envelope};

use crate::{samples, strategies};

fn carried<T: Message + PartialEq + Debug>(value: &T) -> Result<(), TestCaseError> {
    prop_assert_eq!(&T::decode(&value.encode()).unwrap(), value);
    json(value)
}

fn canonical<T: Signed + PartialEq + Debug + Serialize + DeserializeOwned>(value: &T) -> Result<(), TestCaseError> {
    prop_assert_eq!(&cbor::from_canonical::<T>(&cbor::to_canonical(value)).unwrap(), value);
    json(value)
}

fn json<T: PartialEq + Debug + Serialize + DeserializeOwned>(value: &T) -> Result<(), TestCaseError> {
    let text = serde_json::to_string(value).unwrap();
    prop_assert_eq!(&serde_json::from_str::<T>(&text).unwrap(), value, "{}", text);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn birth_reads_back(value in strategies::birth()) {
        carried(&value)?;
    }

    #[test]
    fn status_reads_back(value in strategies::status()) {
        carried(&value)?;
    }

    #[test]
    fn journal_batch_reads_back(value in strategies::journal_batch()) {
        carried(&value)?;
    }

    #[test]
    fn batch_ack_reads_back(value in strategies::batch_ack()) {
        carried(&value)?;
    }

    #[test]
    fn artifact_request_reads_back(value in strategies::artifact_request()) {
        carried(&value)?;
    }

    #[test]
    fn chunk_reads_back(value in strategies::chunk()) {
        carried(&value)?;
    }

    #[test]
    fn record_reads_back(value in strategies::record()) {
        canonical(&value)?;
        prop_assert_eq!(vedette_protocol::RecordKind::from_code(value.body.kind().code()), Some(value.body.kind()));
    }

    #[test]
    fn manifest_reads_back(value in strategies::manifest()) {
        canonical(&value)?;
    }

    #[test]
    fn selftest_reads_back(value in strategies::selftest()) {
        canonical(&value)?;
    }

    #[test]
    fn lineage_reads_back(value in strategies::lineage()) {
        canonical(&value)?;
    }

    #[test]
    fn assignment_reads_back_through_its_envelope(value in strategies::assignment()) {
        canonical(&value)?;
        let key = samples::key(1);
        let role = vedette_protocol::KeySet::single(key.public());
        prop_assert_eq!(envelope::open::<Assignment>(&envelope::seal(&value, &[&key]), &role).unwrap().value, value);
    }
}

#[test]
fn people_see_records_by_their_kind() {
    let json = serde_json::to_value(samples::record(samples::anomaly())).unwrap();
    assert_eq!(json["body"]["kind"], "anomaly");
    assert_eq!(json["body"]["cause"], "model");
    assert_eq!(json["body"]["score"], 7.25);
    assert_eq!(json["body"]["top"][0]["signal"], "mem_u");
    assert_eq!(json["body"]["by"]["model"], "pump-38@2");
    assert_eq!(json["stamp"]["quality"], "system");
    let by: ScoredBy = serde_json::from_value(json["body"]["by"].clone()).unwrap();
    assert!(matches!(by, ScoredBy::Model { .. }));
}
