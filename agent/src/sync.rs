//! The talk with the registry.
