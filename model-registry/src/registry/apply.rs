//! What an audit entry does to the store. The only place where a change of ours becomes state, whether the entry is new
//! or is read again; so it depends on the entry alone.

use serde::{Deserialize, Serialize};
use vedette_protocol::id::{DeviceId, RecordId};

use super::quarantine::{Pin, Quarantine};
use crate::audit::{Assigned, Change, DeviceStep, Entry, Published};
use crate::auth::Role;
use crate::store::{Write, keys};

/// An admitted version, as the store keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct VersionRecord {
    pub(crate) published: Published,
    pub(crate) pushed_ms: i64,
    pub(crate) pushed_by: String,
}

/// An assignment, as the store keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AssignmentRecord {
    pub(crate) assigned: Assigned,
    pub(crate) by: String,
}

/// A token, as the store keeps it under its hash.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TokenRecord {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) created_ms: i64,
    pub(crate) created_by: String,
}

/// Adds to `write` what the entry changes.
pub(crate) fn apply(entry: &Entry, write: &mut Write) -> anyhow::Result<()> {
    match &entry.change {
        Change::Published(published) => publish(entry, published, write),
        Change::AliasSet { name, alias, version, previous: _ } => {
            let key = keys::aliases(name).raw(alias.as_str().as_bytes()).bytes();
            write.set(key, version.get().to_be_bytes().to_vec());
            Ok(())
        }
        Change::AliasRemoved { name, alias, version: _ } => {
            write.remove(keys::aliases(name).raw(alias.as_str().as_bytes()).bytes());
            Ok(())
        }
        Change::Assigned(assigned) => assign(entry, assigned, write),
        Change::Committed(step) | Change::Refused(step) => mark(step, write),
        Change::KeyPinned { device, key, note } => {
            write.set_json(keys::pin(device), &Pin { key: key.clone(), note: note.clone() })
        }
        Change::Quarantined(found) => {
            let quarantine = Quarantine { since_ms: entry.at, epoch: found.epoch, fork: found.fork.clone() };
            write.set_json(keys::quarantine(&found.device), &quarantine)
        }
        Change::Released { device, reason: _, floors } => {
            release(device, floors, write);
            Ok(())
        }
        // What the device said is kept with its journal; the entry only tells people.
        Change::RecordsAbsent { device: _, epoch: _, from: _, below: _, count: _ } => Ok(()),
        Change::TokenCreated { id, name, role, hash } => write.set_json(
            keys::token(hash.as_bytes()),
            &TokenRecord {
                id: id.clone(),
                name: name.clone(),
                role: *role,
                created_ms: entry.at,
                created_by: entry.by.clone(),
            },
        ),
        Change::TokenRevoked { id: _, name: _, hash } => {
            write.remove(keys::token(hash.as_bytes()));
            Ok(())
        }
    }
}

fn publish(entry: &Entry, published: &Published, write: &mut Write) -> anyhow::Result<()> {
    let model = &published.model;
    let key = keys::version(&model.name, model.version);

    write.set(keys::manifest(&published.manifest), key.clone());
    write.set(keys::lineage(&published.lineage.digest), published.lineage.length.to_be_bytes().to_vec());
    let record = VersionRecord { published: published.clone(), pushed_ms: entry.at, pushed_by: entry.by.clone() };
    write.set_json(key, &record)
}

fn assign(entry: &Entry, assigned: &Assigned, write: &mut Write) -> anyhow::Result<()> {
    let record = AssignmentRecord { assigned: assigned.clone(), by: entry.by.clone() };
    write.set_json(keys::assignment(&assigned.device), &record)?;
    write.set_json(keys::assignment_history(&assigned.device).number(assigned.version).bytes(), &record)
}

fn release(device: &DeviceId, floors: &[(u64, u64)], write: &mut Write) {
    write.remove(keys::quarantine(device));
    write.remove(keys::pin(device));
    for (epoch, floor) in floors {
        write.remove(keys::tree(device).number(*epoch).bytes());
        write.set(keys::floor(device).number(*epoch).bytes(), floor.to_be_bytes().to_vec());
    }
}

fn mark(step: &DeviceStep, write: &mut Write) -> anyhow::Result<()> {
    let id: RecordId = step.record.parse()?;
    write.set(keys::audited(&id), Vec::new());
    Ok(())
}
