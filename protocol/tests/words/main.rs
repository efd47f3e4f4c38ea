//! What this crate promises about its bytes: golden files, the CDDL, round trips, hostile input, signatures, drafts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cddl;
mod draft;
mod envelope;
mod golden;
mod hostile;
mod limits;
mod roundtrip;
mod samples;
mod strategies;
