//! The journal's tests over real files: promises, a model, rot, and a full disk.
#![allow(clippy::unwrap_used, clippy::panic, clippy::single_range_in_vec_init, unreachable_pub)]

mod always;
mod failing;
mod faulty;
mod folder;
mod model;
mod parity;
mod promises;
mod rot;
mod space;
mod tree;
