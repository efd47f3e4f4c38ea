//! What anyone can prove about a journal, and what nobody can make others believe.

#![allow(clippy::unwrap_used, clippy::panic, clippy::single_range_in_vec_init)]

mod bundle;
mod figures;
mod oracle;
mod proofs;
mod repair;
mod sample;
mod verify;
