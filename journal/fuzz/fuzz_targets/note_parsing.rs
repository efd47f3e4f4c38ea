//! Notes and bundles from anybody: parsing ends, nothing panics, and nothing is believed that the key did not sign.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vedette_journal::{Checkpoint, SigningKey, verify_bundle};

fuzz_target!(|bytes: &[u8]| {
    let key = SigningKey::from_seed(&[7; 32]);
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(checkpoint) = Checkpoint::read_unverified(text) {
            // What can be read can be signed, and comes back as it was.
            let note = checkpoint.sign(&key);
            assert_eq!(Checkpoint::open(&note, &key.public()), Ok(checkpoint));
        }
        // No signature by this key is anywhere but in here.
        assert!(Checkpoint::open(text, &SigningKey::from_seed(&[8; 32]).public()).is_err());
    }
    let mut bundle = bytes;
    if let Ok(report) = verify_bundle(&mut bundle, Some(&key.public()), &mut |_| {}) {
        assert_eq!(report.checkpoints_checked, 0);
    }
});
