//! Reading the audit journal.

use anyhow::Context;
use vedette_protocol::time::format_ms;

use super::anomalies::page_limit;
use super::{Registry, Result};
use crate::audit::Entry;
use crate::view::{AuditQuery, AuditView, Page};

impl Registry {
    /// Entries of the audit journal, oldest first.
    ///
    /// # Errors
    ///
    /// The limit is out of range, or the journal could not be read.
    pub fn audit(&self, query: &AuditQuery) -> Result<Page<AuditView>> {
        let limit = page_limit(query.limit)?;
        let from = query.after.map_or(0, |after| after.saturating_add(1));
        let entries = self.state().audit(from, limit)?;
        let items: Vec<AuditView> =
            entries.into_iter().map(|(sequence, entry)| view(sequence, &entry)).collect::<Result<_>>()?;
        // A full page may be the last one: the next is then empty.
        let next = (items.len() == limit).then(|| items.last().map(|last| last.sequence.to_string())).flatten();
        Ok(Page { items, next })
    }
}

fn view(sequence: u64, entry: &Entry) -> Result<AuditView> {
    let mut change = serde_json::to_value(&entry.change).context("couldn't encode an audit entry")?;
    // The hash of a token is no secret, but nobody who reads the log has a use for it.
    if let Some(fields) = change.as_object_mut() {
        fields.remove("hash");
    }
    Ok(AuditView { sequence, at_ms: entry.at, at: format_ms(entry.at), by: entry.by.clone(), change })
}
