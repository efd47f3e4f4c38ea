//! What anyone can prove about a journal, and what nobody can make others believe.

#![allow(clippy::unwrap_used)]

mod oracle;
mod proofs;
mod sample;
