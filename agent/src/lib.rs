//! The device program: scores telemetry where it is born, keeps what it finds, and lets new models in.
//!
//! `source → scorer → recorder → journal → sync`, and `deploy` brings models the other way. [`run`] opens the rooms in
//! the order of the data and is the only place that starts what lives long.

pub mod api;
pub mod clock;
pub mod command;
pub mod config;
pub mod deploy;
pub mod index;
pub mod ledger;
pub mod mqtt;
pub mod recorder;
pub mod scorer;
pub mod source;
pub mod state;
pub mod sync;
