//! Wear: what reaches the device for each byte that is kept, on ext4 on a loop device, beside other stores on the same work; and
//! what a quiet day costs.

mod peers;

use std::path::Path;

use anyhow::Context as _;
use vedette_journal::{Cursor, CursorFile, Journal, Options, SigningKey};
use vedette_protocol::cbor;
use vedette_protocol::record::RecordKind;
use vedette_tests::loop_disk::{self, LoopDisk};
use vedette_tests::random::Random;

use crate::backlog;
use crate::setting::Setting;
use crate::table::Row;
use peers::Store;

/// Size of the loop device.
const DISK_MIB: u64 = 256;
/// Records of the work, and their length.
const RECORDS: u64 = 6400;
pub(crate) const PAYLOAD_BYTES: usize = 200;
/// Records a commit.
const BATCHES: [u64; 2] = [64, 1];
/// Bytes to the device for one of payload at the larger batch, at most.
const RATIO_MAX: f64 = 1.6;
/// Minutes of a day; each has an anomaly.
const MINUTES: i64 = 24 * 60;
/// What a quiet day may write.
const DAY_MIB: f64 = 50.0;
/// When the day begins.
const BEGAN_MS: i64 = 1_790_000_000_000;
/// Of a line of `/sys/block/*/stat`: sectors written, and their size.
const WRITTEN_FIELD: usize = 6;
const SECTOR_BYTES: u64 = 512;

/// Does the work once with each store.
pub(crate) fn run(setting: &Setting) -> anyhow::Result<Row> {
    if let Some(why) = loop_disk::missing() {
        return Ok(Row::skipped(why));
    }
    let scratch = setting.scratch()?;
    let mut disk = LoopDisk::make(scratch.path(), DISK_MIB)?;
    let mut row = Row::default();
    for batch in BATCHES {
        let mut said = Vec::new();
        for store in Store::ALL {
            setting.progress(row.tries, (Store::ALL.len() * BATCHES.len() + 1) as u64, store.name())?;
            disk.format()?;
            let Some(bytes) = measured(&disk, |folder| store.write(folder, batch))? else {
                said.push(format!("{} skipped", store.name()));
                continue;
            };
            let ratio = bytes as f64 / (RECORDS * PAYLOAD_BYTES as u64) as f64;
            row.tries += 1;
            if store == Store::Journal && batch == BATCHES[0] {
                row.expect(ratio <= RATIO_MAX, || format!("{ratio:.2} bytes a byte at batch {batch}"));
            }
            said.push(format!("{} {ratio:.2}", store.name()));
        }
        row.figures.push(format!("bytes to the device a byte at batch {batch}: {}", said.join(", ")));
    }
    disk.format()?;
    let bytes = measured(&disk, |folder| quiet_day(folder).map(Some))?.unwrap_or(0);
    let day = bytes as f64 / f64::from(1 << 20);
    row.tries += 1;
    row.expect(day <= DAY_MIB, || format!("a quiet day writes {day:.1} MiB"));
    row.figures.push(format!("a quiet day's journal, checkpoints and cursor: {day:.1} MiB"));
    Ok(row)
}

/// Bytes that reach the device while `work` runs; `None` when it can't.
fn measured(disk: &LoopDisk, work: impl FnOnce(&Path) -> anyhow::Result<Option<()>>) -> anyhow::Result<Option<u64>> {
    let before = written(disk)?;
    let done = work(disk.path())?;
    let after = written(disk)?;
    Ok(done.map(|()| after - before))
}

/// Bytes written to the device so far, with everything that waited in memory.
fn written(disk: &LoopDisk) -> anyhow::Result<u64> {
    rustix::fs::syncfs(std::fs::File::open(disk.path())?)?;
    let stat = std::fs::read_to_string(format!("/sys/block/{}/stat", disk.device()?))?;
    let sectors: u64 = stat.split_whitespace().nth(WRITTEN_FIELD).context("a stat without sectors written")?.parse()?;
    Ok(sectors * SECTOR_BYTES)
}

/// The same records for everybody: bytes that nothing can make shorter.
pub(crate) fn payloads() -> impl Iterator<Item = Vec<u8>> {
    let mut random = Random::new(1);
    (0..RECORDS).map(move |_| random.bytes(PAYLOAD_BYTES))
}

/// An anomaly a minute, each signed a minute later, each acknowledged by the registry: what journal and outbox write then.
fn quiet_day(folder: &Path) -> anyhow::Result<()> {
    let key = SigningKey::from_seed(&[1; 32]);
    let (mut journal, recovery) = Journal::open(&folder.join("journal"), Options::new(7))?;
    let cursor = CursorFile::new(folder.join("cursor"));
    for minute in 0..MINUTES {
        let at = minute * 60_000;
        let record = backlog::anomaly(journal.next_sequence(), BEGAN_MS + at, at)?;
        journal.append(RecordKind::Anomaly.code(), &cbor::to_canonical(&record))?;
        journal.commit()?;
        cursor.store(Cursor { epoch: recovery.epoch, sequence: journal.committed() })?;
        journal.checkpoint("vedette/box-1/7", &key)?;
    }
    journal.close()?;
    Ok(())
}
