//! The model's way in.
