//! Feeds scoring on a thread of its own, with the model that is current at the record boundary.
