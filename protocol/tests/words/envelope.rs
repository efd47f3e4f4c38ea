//! What a signature is worth: nothing but this thing, of this kind, by enough of those who may.

use vedette_protocol::cbor::{self, DecodeError, Value};
use vedette_protocol::envelope::{self, EnvelopeError, open, seal};
use vedette_protocol::{Assignment, Digest, KeySet, Manifest, SigningKey};

use crate::samples::{assignment, key, manifest};

fn role(threshold: u8, keys: &[&SigningKey]) -> KeySet {
    KeySet { threshold, keys: keys.iter().map(|key| key.public()).collect() }
}

/// An envelope of foreign parts: payload and signatures as they are given.
fn compose(payload: Vec<u8>, signatures: Vec<Value>) -> Vec<u8> {
    cbor::encode(&Value::Array(vec![Value::Bytes(payload), Value::Array(signatures), Value::Null]))
}

/// Payload and signatures of an envelope.
fn parts(bytes: &[u8]) -> (Vec<u8>, Vec<Value>) {
    let value: Value = cbor::decode(bytes, bytes.len()).unwrap();
    let [payload, signatures, _] = <[Value; 3]>::try_from(value.into_array().unwrap()).unwrap();
    (payload.into_bytes().unwrap(), signatures.into_array().unwrap())
}

#[test]
fn what_is_sealed_opens_under_its_role_with_the_digest_of_its_payload() {
    let (one, two) = (key(1), key(2));
    let bytes = seal(&manifest(), &[&two, &one]);
    let opened = open::<Manifest>(&bytes, &role(2, &[&one, &two])).unwrap();
    assert_eq!(opened.value, manifest());
    assert_eq!(opened.digest, Digest::of(&cbor::to_canonical(&manifest())));
    assert_eq!(envelope::digest_of_payload(&bytes), Ok(opened.digest));
    assert_eq!(envelope::peek::<Manifest>(&bytes).unwrap(), manifest());
    assert_eq!(envelope::signers(&bytes).unwrap().len(), 2);
}

#[test]
fn the_order_of_the_signers_does_not_show() {
    let (one, two) = (key(1), key(2));
    assert_eq!(seal(&assignment(), &[&one, &two]), seal(&assignment(), &[&two, &one]));
}

#[test]
fn no_bit_can_change() {
    let key = key(1);
    let bytes = seal(&assignment(), &[&key]);
    let role = role(1, &[&key]);
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            assert!(open::<Assignment>(&flipped, &role).is_err(), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn no_bit_can_change_under_a_threshold_of_two() {
    let (one, two) = (key(1), key(2));
    let bytes = seal(&assignment(), &[&one, &two]);
    let role = role(2, &[&one, &two]);
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x10;
        assert!(open::<Assignment>(&flipped, &role).is_err(), "byte {at}");
    }
}

#[test]
fn nothing_may_be_missing_at_the_end_or_follow_it() {
    let key = key(1);
    let bytes = seal(&assignment(), &[&key]);
    let role = role(1, &[&key]);
    for end in 0..bytes.len() {
        assert!(open::<Assignment>(&bytes[..end], &role).is_err(), "cut at {end}");
    }
    let followed = [&bytes[..], &[0]].concat();
    let error = open::<Assignment>(&followed, &role).unwrap_err();
    assert!(
        matches!(error, EnvelopeError::Malformed(DecodeError::Malformed { problem: "something follows the end", .. })),
        "{error}"
    );
}

#[test]
fn a_signature_is_worth_nothing_for_another_kind_of_thing() {
    let key = key(1);
    let (_, for_assignment) = parts(&seal(&assignment(), &[&key]));
    // The very payload of the manifest, signed under the assignment's domain, is no signed manifest.
    let forged = compose(cbor::to_canonical(&manifest()), for_assignment);
    assert_eq!(open::<Manifest>(&forged, &role(1, &[&key])), Err(EnvelopeError::BadSignature(key.public().id())));
    let as_another_kind = open::<Manifest>(&seal(&assignment(), &[&key]), &role(1, &[&key]));
    assert_eq!(as_another_kind, Err(EnvelopeError::BadSignature(key.public().id())));
}

#[test]
fn a_key_that_the_role_does_not_list_counts_for_nothing() {
    let (listed, stranger) = (key(1), key(9));
    let bytes = seal(&assignment(), &[&stranger]);
    assert_eq!(
        open::<Assignment>(&bytes, &role(1, &[&listed])),
        Err(EnvelopeError::UnknownKey(stranger.public().id()))
    );
    let both = seal(&assignment(), &[&listed, &stranger]);
    assert!(
        open::<Assignment>(&both, &role(1, &[&listed])).is_ok(),
        "a key that came later may sign beside the old one"
    );
    let error = open::<Assignment>(&both, &role(2, &[&listed, &key(2)]));
    assert_eq!(error, Err(EnvelopeError::BelowThreshold { have: 1, need: 2 }));
}

#[test]
fn a_key_that_poses_as_another_is_found_out() {
    let (listed, thief) = (key(1), key(9));
    let (payload, _) = parts(&seal(&assignment(), &[&listed]));
    let (_, stolen) = parts(&seal(&assignment(), &[&thief]));
    let mut fields = stolen[0].clone().into_array().unwrap();
    let headers =
        Value::Map(vec![(1.into(), (-19).into()), (4.into(), Value::from(&listed.public().id().as_bytes()[..]))]);
    fields[0] = Value::Bytes(cbor::encode(&headers));
    let bytes = compose(payload, vec![Value::Array(fields)]);
    assert_eq!(
        open::<Assignment>(&bytes, &role(1, &[&listed])),
        Err(EnvelopeError::BadSignature(listed.public().id()))
    );
}

#[test]
fn too_few_signatures_are_too_few() {
    let (one, two, three) = (key(1), key(2), key(3));
    let bytes = seal(&assignment(), &[&one]);
    let error = open::<Assignment>(&bytes, &role(2, &[&one, &two, &three]));
    assert_eq!(error, Err(EnvelopeError::BelowThreshold { have: 1, need: 2 }));
    assert_eq!(
        open::<Assignment>(&bytes, &role(0, &[&one])).map(|_| ()),
        Ok(()),
        "a threshold of 0 still asks for one"
    );
    assert!(open::<Assignment>(&bytes, &role(0, &[])).is_err());
}

#[test]
fn one_key_does_not_sign_for_two() {
    let (one, two) = (key(1), key(2));
    let (payload, mut signatures) = parts(&seal(&assignment(), &[&one]));
    signatures.push(signatures[0].clone());
    let error = open::<Assignment>(&compose(payload, signatures), &role(2, &[&one, &two]));
    assert_eq!(error, Err(EnvelopeError::DuplicateKey(one.public().id())));
    assert_eq!(envelope::signers(&seal(&assignment(), &[&one, &one])).unwrap().len(), 1);
}

#[test]
fn signatures_in_another_order_are_another_spelling() {
    let (one, two) = (key(1), key(2));
    let (payload, mut signatures) = parts(&seal(&assignment(), &[&one, &two]));
    signatures.reverse();
    let error = open::<Assignment>(&compose(payload, signatures), &role(2, &[&one, &two]));
    assert_eq!(error, Err(EnvelopeError::NotCanonical));
}

/// Signs bytes that are no encoding of ours, as a careless or evil signer would.
fn seal_payload(payload: Vec<u8>, domain: &str, key: &SigningKey) -> Vec<u8> {
    let headers = cbor::encode(&Value::Map(vec![
        (1.into(), (-19).into()),
        (4.into(), Value::from(&key.public().id().as_bytes()[..])),
    ]));
    let signed = Value::Array(vec![
        "Signature1".into(),
        Value::Bytes(headers.clone()),
        Value::from(domain.as_bytes()),
        Value::from(&payload[..]),
    ]);
    let signature = Value::from(&key.sign(&cbor::encode(&signed))[..]);
    compose(payload, vec![Value::Array(vec![Value::Bytes(headers), Value::Map(vec![]), Value::Null, signature])])
}

#[test]
fn a_payload_in_another_spelling_is_refused_though_it_is_signed() {
    let key = key(1);
    let good = cbor::to_canonical(&assignment());
    let as_it_is = seal_payload(good.clone(), "vedette/v1/assignment", &key);
    assert!(open::<Assignment>(&as_it_is, &role(1, &[&key])).is_ok());
    // The version 7 as a number of two bytes.
    let at = good.windows(2).position(|pair| pair == [0x02, 0x07]).unwrap();
    let longer = [&good[..=at], &[0x18, 0x07], &good[at + 2..]].concat();
    let error = open::<Assignment>(&seal_payload(longer, "vedette/v1/assignment", &key), &role(1, &[&key]));
    assert_eq!(error, Err(EnvelopeError::NotCanonical));
    let other = seal_payload(vec![0xa0], "vedette/v1/assignment", &key);
    let error = open::<Assignment>(&other, &role(1, &[&key])).unwrap_err();
    assert!(
        matches!(&error, EnvelopeError::Payload(_)) && error.to_string().contains("audience is missing"),
        "{error}"
    );
    let garbage = seal_payload(vec![0xff; 9], "vedette/v1/assignment", &key);
    assert!(matches!(open::<Assignment>(&garbage, &role(1, &[&key])), Err(EnvelopeError::Payload(_))));
}

#[test]
fn an_envelope_in_another_spelling_is_refused() {
    let key = key(1);
    let bytes = seal(&assignment(), &[&key]);
    // The outer array with its length in a byte of its own.
    let longer = [&[0x98, 0x03], &bytes[1..]].concat();
    assert_eq!(open::<Assignment>(&longer, &role(1, &[&key])), Err(EnvelopeError::NotCanonical));
}

#[test]
fn what_is_too_long_is_not_even_read() {
    let key = key(1);
    let long = seal_payload(vec![0; 6000], "vedette/v1/assignment", &key);
    assert!(matches!(open::<Assignment>(&long, &role(1, &[&key])), Err(EnvelopeError::TooLong { limit: 5120, .. })));
    let just = seal_payload(vec![0; 4097], "vedette/v1/assignment", &key);
    let error = open::<Assignment>(&just, &role(1, &[&key]));
    assert_eq!(error, Err(EnvelopeError::TooLong { length: 4097, limit: 4096 }));
}

#[test]
fn the_places_that_must_be_empty_are_empty() {
    let key = key(1);
    let (payload, signatures) = parts(&seal(&assignment(), &[&key]));
    let with_proof =
        Value::Array(vec![Value::Bytes(payload.clone()), Value::Array(signatures.clone()), Value::from("proof")]);
    let unsigned = compose(payload.clone(), vec![]);
    let crowd = compose(payload.clone(), vec![signatures[0].clone(); 9]);
    let mut fields = signatures[0].clone().into_array().unwrap();
    fields[1] = Value::Map(vec![(1.into(), (-8).into())]);
    let unprotected = compose(payload, vec![Value::Array(fields)]);
    for bytes in [cbor::encode(&with_proof), unsigned, crowd, unprotected] {
        assert!(matches!(open::<Assignment>(&bytes, &role(1, &[&key])), Err(EnvelopeError::Malformed(_))));
    }
}
