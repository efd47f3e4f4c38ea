//! The local interface: status, query, acknowledgement, metrics.
