//! The registry from outside: the program itself on free ports, asked over REST; and its verbs over a scratch folder.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod access;
mod audit;
mod backtest;
mod devices;
mod kit;
mod mqtt;
mod openapi;
mod push;
mod received;
mod signed_log;
mod state;
mod tool;
