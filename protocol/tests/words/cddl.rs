//! `vedette.cddl` describes what the encoder writes, and describes it closely.

use cddl_cat::cbor::validate_cbor_bytes;

use crate::samples;

const CDDL: &str = include_str!("../../vedette.cddl");

#[test]
fn the_cddl_describes_what_the_encoder_writes() {
    for sample in samples::all() {
        if let Err(error) = validate_cbor_bytes(sample.rule, CDDL, &sample.bytes) {
            panic!("{} is no {}: {error}\n{}", sample.name, sample.rule, sample.shown);
        }
    }
}

/// A rule so wide that it takes another thing's bytes would test nothing.
#[test]
fn the_cddl_takes_nothing_for_another_thing() {
    let samples = samples::all();
    for sample in &samples {
        for other in samples.iter().filter(|other| other.rule != sample.rule) {
            assert!(
                validate_cbor_bytes(other.rule, CDDL, &sample.bytes).is_err(),
                "{} passes for {}",
                sample.name,
                other.rule
            );
        }
    }
}

#[test]
fn every_message_and_signed_thing_has_a_sample() {
    let heads = CDDL.lines().filter(|line| line.ends_with("= {") || line.contains("= envelope<"));
    let rules: Vec<&str> = heads.filter_map(|line| line.split(" = ").next()).collect();
    let samples = samples::all();
    for rule in [
        "assignment",
        "manifest",
        "selftest",
        "lineage",
        "birth",
        "status",
        "journal-batch",
        "batch-ack",
        "artifact-request",
        "chunk",
        "signed-manifest",
        "signed-assignment",
    ] {
        assert!(rules.contains(&rule), "the CDDL has no {rule}");
        assert!(samples.iter().any(|sample| sample.rule == rule), "no sample of {rule}");
    }
}
