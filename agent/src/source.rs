//! Turns each source into timed samples over a bounded queue.
