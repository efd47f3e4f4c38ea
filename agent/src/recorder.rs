//! Turns decisions into records and writes them to the journal.
