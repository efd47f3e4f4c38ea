//! Reading the audit journal.

use anyhow::Context;
use vedette_journal::{Hash, Proofs};
use vedette_protocol::time::format_ms;

use super::anomalies::page_limit;
use super::{Error, Registry, Result};
use crate::audit::Entry;
use crate::view::{AuditProofView, AuditQuery, AuditView, Page};

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

    /// Proves that the audit journal still begins with its first `from` entries, whose checkpoint somebody has kept.
    ///
    /// # Errors
    ///
    /// There are not so many entries, or the journal could not be read.
    pub fn audit_proof(&self, from: u64) -> Result<AuditProofView> {
        let (key, signed) = self.state().checkpoint()?;
        let size = signed.checkpoint.size;
        if from == 0 || from > size {
            return Err(Error::BadRequest(format!(
                "`from` is {from}: the audit journal has {size} entries, give 1 to {size}"
            )));
        }
        let proofs = Proofs::open(self.state().audit_folder()).context("couldn't read the audit journal")?;
        let proof = proofs.consistency(from, size).context("couldn't prove the audit journal")?;
        let proof = proof.iter().map(Hash::to_string).collect();
        Ok(AuditProofView { from, size, proof, key: key.to_string(), note: signed.note })
    }
}

/// An entry as the API shows it.
pub(crate) fn view(sequence: u64, entry: &Entry) -> Result<AuditView> {
    let mut change = serde_json::to_value(&entry.change).context("couldn't encode an audit entry")?;
    // The hash of a token is no secret, but nobody who reads the log has a use for it.
    if let Some(fields) = change.as_object_mut() {
        fields.remove("hash");
    }
    Ok(AuditView { sequence, at_ms: entry.at, at: format_ms(entry.at), by: entry.by.clone(), change })
}
