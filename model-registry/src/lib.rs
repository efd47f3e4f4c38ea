//! The registry: it keeps the fleet's models, says which device runs which, takes in what the devices find, and
//! answers who changed what and which model scored a record.
//!
//! The way of a version: [`http`] (REST) and [`ingest`] (MQTT) come in, [`registry`] holds the verbs (load, decide,
//! save), [`model`] the pure rules, [`store`] the state written together with [`audit`], [`blobs`] the artifacts, and
//! [`publisher`] tells the devices. [`run`] is the program; nobody else spawns what lives long.

pub mod admission;
pub mod audit;
pub mod auth;
pub mod blobs;
pub mod broker;
pub mod cli;
pub mod clock;
pub mod config;
pub mod http;
pub mod ingest;
pub mod model;
pub mod mqtt;
pub mod publisher;
pub mod registry;
pub mod store;
pub mod view;
