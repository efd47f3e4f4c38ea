//! The stores that are measured beside the journal, each told to make every batch durable before the next.

use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use vedette_journal::{Journal, Options};

use super::{PAYLOAD_BYTES, RECORDS, payloads};

/// Memory for caches, where a store asks for it.
const CACHE_BYTES: u64 = 8 << 20;

/// SQLite as Python brings it: the work is the database's, whoever asks for it.
const SQLITE: &str = "
import os, sqlite3, sys
folder, records, batch, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
db = sqlite3.connect(os.path.join(folder, 'q.sqlite'), isolation_level=None)
db.execute('pragma journal_mode=wal')
db.execute('pragma synchronous=full')
db.execute('create table q(k integer primary key, v blob not null)')
for first in range(0, records, batch):
    db.execute('begin')
    db.executemany('insert into q values(?, ?)', [(k, os.urandom(size)) for k in range(first, min(first + batch, records))])
    db.execute('commit')
db.close()
";

/// A store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Store {
    Journal,
    SledSync,
    Sqlite,
    Redb,
    Fjall,
}

impl Store {
    pub(super) const ALL: [Self; 5] = [Self::Journal, Self::SledSync, Self::Sqlite, Self::Redb, Self::Fjall];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::SledSync => "sled+sync",
            Self::Sqlite => "SQLite WAL/FULL",
            Self::Redb => "redb",
            Self::Fjall => "fjall",
        }
    }

    /// Writes the records into `folder`, durable after each `batch`; `None` when this machine does not have the store.
    pub(super) fn write(self, folder: &Path, batch: u64) -> anyhow::Result<Option<()>> {
        match self {
            Self::Journal => journal(folder, batch)?,
            Self::SledSync => sled(folder, batch)?,
            Self::Sqlite => return sqlite(folder, batch),
            Self::Redb => redb(folder, batch)?,
            Self::Fjall => fjall(folder, batch)?,
        }
        Ok(Some(()))
    }
}

fn ends_batch(record: u64, batch: u64) -> bool {
    (record + 1).is_multiple_of(batch) || record + 1 == RECORDS
}

fn journal(folder: &Path, batch: u64) -> anyhow::Result<()> {
    let (mut journal, _) = Journal::open(&folder.join("journal"), Options::new(7))?;
    for (record, payload) in (0..).zip(payloads()) {
        journal.append(3, &payload)?;
        if ends_batch(record, batch) {
            journal.commit()?;
        }
    }
    journal.close()?;
    Ok(())
}

/// sled's own flush does not sync its file; so that it is durable, it is synced here.
fn sled(folder: &Path, batch: u64) -> anyhow::Result<()> {
    let place = folder.join("sled");
    let db = sled::Config::new().path(&place).cache_capacity(CACHE_BYTES).flush_every_ms(None).open()?;
    let file = std::fs::File::open(place.join("db"))?;
    let mut group = sled::Batch::default();
    for (record, payload) in (0_u64..).zip(payloads()) {
        group.insert(&record.to_be_bytes(), payload);
        if ends_batch(record, batch) {
            db.apply_batch(std::mem::take(&mut group))?;
            db.flush()?;
            file.sync_all()?;
        }
    }
    Ok(())
}

fn sqlite(folder: &Path, batch: u64) -> anyhow::Result<Option<()>> {
    let numbers = [RECORDS, batch, PAYLOAD_BYTES as u64].map(|number| number.to_string());
    let mut command = Command::new("python3");
    command.args(["-c", SQLITE]).arg(folder).args(numbers);
    let Ok(output) = command.output() else { return Ok(None) };
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("No module named") {
        return Ok(None);
    }
    anyhow::ensure!(output.status.success(), "SQLite: {said}");
    Ok(Some(()))
}

fn redb(folder: &Path, batch: u64) -> anyhow::Result<()> {
    const TABLE: redb::TableDefinition<'_, u64, &[u8]> = redb::TableDefinition::new("q");
    let cache = usize::try_from(CACHE_BYTES).context("a cache that fits")?;
    let db = redb::Database::builder().set_cache_size(cache).create(folder.join("q.redb"))?;
    let mut group = Vec::new();
    for (record, payload) in (0_u64..).zip(payloads()) {
        group.push((record, payload));
        if ends_batch(record, batch) {
            let transaction = db.begin_write()?;
            {
                let mut table = transaction.open_table(TABLE)?;
                for (record, payload) in group.drain(..) {
                    table.insert(record, payload.as_slice())?;
                }
            }
            transaction.commit()?;
        }
    }
    Ok(())
}

fn fjall(folder: &Path, batch: u64) -> anyhow::Result<()> {
    let db = fjall::Database::builder(folder.join("fjall")).cache_size(CACHE_BYTES).worker_threads(1).open()?;
    let keyspace = db.keyspace("q", fjall::KeyspaceCreateOptions::default)?;
    let mut group = db.batch();
    for (record, payload) in (0_u64..).zip(payloads()) {
        group.insert(&keyspace, record.to_be_bytes(), payload);
        if ends_batch(record, batch) {
            std::mem::replace(&mut group, db.batch()).commit()?;
            db.persist(fjall::PersistMode::SyncAll)?;
        }
    }
    Ok(())
}
