//! A view of the journal for queries; rebuilt when in doubt.
