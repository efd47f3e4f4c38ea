//! How good decisions are, against labels. Pure: numbers in, numbers out.

pub mod nab;

mod events;
mod vus;

pub use events::{Event, EventRules, Events, events};
pub use vus::{PERIOD_DEFAULT, period, vus_pr};
