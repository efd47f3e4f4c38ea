//! Where each thing lies in the store: a tag, then parts that sort as they should be walked.
//!
//! | tag | rest of the key | value |
//! |---|---|---|
//! | `M` | name `00` version:4 | version of a model (JSON) |
//! | `F` | manifest digest:32 | key of its version |
//! | `G` | lineage digest:32 | length:8 |
//! | `L` | name `00` alias | version:4 |
//! | `S` | device | current assignment (JSON) |
//! | `H` | device `00` version:8 | every assignment it ever had (JSON) |
//! | `T` | token hash:32 | token (JSON) |
//! | `C` | device `00` epoch:8 sequence:8 | a deploy step that is in the audit journal (empty) |
//! | `D` | device | the device as last heard (JSON) |
//! | `u` | device `00` epoch:8 | first sequence not received:8 |
//! | `g` | device `00` epoch:8 | what has settled beyond that, and how much is absent (JSON) |
//! | `k` | device `00` epoch:8 | signed tree of a journal: last checkpoint, and how far our copies make it (JSON) |
//! | `f` | device `00` epoch:8 | below this sequence our copies are of two histories:8 |
//! | `p` | device `00` epoch:8 from:8 | records that the device said it lost: first behind them:8 |
//! | `P` | device | its pinned key (JSON) |
//! | `Q` | device | its quarantine (JSON) |
//! | `r` | device `00` epoch:8 sequence:8 | received:8 (ms; bit 62 turned when it had waited), record bytes as they came |
//! | `w` | device `00` epoch:8 stream `00` first row:8 sequence:8 | swap (empty) |
//! | `x` | device `00` stream `00` time:8 epoch:8 sequence:8 | swap by time (empty) |
//! | `v` | device `00` epoch:8 sequence:8 (of the anomaly) | epoch:8 sequence:8 of the newest verdict |
//! | `t` | time:8 id | anomaly by time; value: what a filter needs |
//! | `d` | device `00` time:8 id | the same by device |
//! | `s` | stream `00` time:8 id | the same by stream |
//! | `m` | scorer `00` time:8 id | the same by model (`name@version` or `baseline`) |
//! | `!` | `format`, `applied`, `sum` | the layout's version; first audit sequence not yet in the store; count:8 and sum:8 of all keys but `format` and `sum` |
//!
//! Numbers are big-endian; times are Unix ms with the sign bit turned, so that they sort; `id` is device `00` epoch:8
//! sequence:8. No name may contain `00`: the ids' alphabets see to that.

use vedette_protocol::id::{DeviceId, Digest, ModelName, ModelVersion, RecordId, StreamName};

/// The layout's version.
pub const FORMAT: &[u8] = b"!format";
/// What the store holds, to see a gap by.
pub const SUM: &[u8] = b"!sum";
/// First audit sequence that is not in the store yet.
pub const APPLIED: &[u8] = b"!applied";

/// A key under construction.
#[derive(Clone, Debug)]
pub struct Key(Vec<u8>);

impl Key {
    /// A key with this tag.
    #[must_use]
    pub fn new(tag: u8) -> Key {
        let mut bytes = Vec::with_capacity(96);
        bytes.push(tag);
        Key(bytes)
    }

    /// Appends a name and its end.
    #[must_use]
    pub fn name(mut self, name: &str) -> Key {
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(0);
        self
    }

    /// Appends raw bytes, as the last part.
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Key {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Appends a number.
    #[must_use]
    pub fn number(mut self, number: u64) -> Key {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// Appends a time.
    #[must_use]
    pub fn time(self, ms: i64) -> Key {
        self.number(sortable(ms))
    }

    /// Appends a record id.
    #[must_use]
    pub fn record(self, id: &RecordId) -> Key {
        self.name(id.device.as_str()).number(id.epoch).number(id.sequence)
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(self) -> Vec<u8> {
        self.0
    }
}

/// A time as a number that sorts the same.
#[must_use]
pub fn sortable(ms: i64) -> u64 {
    ms.cast_unsigned() ^ (1 << 63)
}

/// The time behind such a number.
#[must_use]
pub fn time_of(sortable: u64) -> i64 {
    (sortable ^ (1 << 63)).cast_signed()
}

/// Set in the time that a record came at when the record had waited for the connection. No time between 1970 and the year
/// 146,000,000 has it, and before 1970 nothing was received.
const LATE: u64 = 1 << 62;

/// When a record came (Unix ms), and whether it had waited.
#[must_use]
pub fn received_at(ms: i64, late: bool) -> u64 {
    let at = sortable(ms.max(0)) & !LATE;
    if late { at | LATE } else { at }
}

/// The other way round.
#[must_use]
pub fn read_received(number: u64) -> (i64, bool) {
    (time_of(number & !LATE), number & LATE != 0)
}

/// A version of a model.
#[must_use]
pub fn version(name: &ModelName, version: ModelVersion) -> Vec<u8> {
    versions(name).raw(&version.get().to_be_bytes()).bytes()
}

/// All versions of a model.
#[must_use]
pub fn versions(name: &ModelName) -> Key {
    Key::new(b'M').name(name.as_str())
}

/// All versions of all models.
#[must_use]
pub fn models() -> Vec<u8> {
    vec![b'M']
}

/// The version whose manifest has this digest.
#[must_use]
pub fn manifest(digest: &Digest) -> Vec<u8> {
    Key::new(b'F').raw(digest.as_bytes()).bytes()
}

/// The lineage with this digest.
#[must_use]
pub fn lineage(digest: &Digest) -> Vec<u8> {
    Key::new(b'G').raw(digest.as_bytes()).bytes()
}

/// All aliases of a model; an alias itself with its name as the last part.
#[must_use]
pub fn aliases(name: &ModelName) -> Key {
    Key::new(b'L').name(name.as_str())
}

/// The current assignment of a device.
#[must_use]
pub fn assignment(device: &DeviceId) -> Vec<u8> {
    Key::new(b'S').raw(device.as_str().as_bytes()).bytes()
}

/// All current assignments.
#[must_use]
pub fn assignments() -> Vec<u8> {
    vec![b'S']
}

/// Every assignment a device ever had, by version.
#[must_use]
pub fn assignment_history(device: &DeviceId) -> Key {
    Key::new(b'H').name(device.as_str())
}

/// The token with this hash.
#[must_use]
pub fn token(hash: &[u8; 32]) -> Vec<u8> {
    Key::new(b'T').raw(hash).bytes()
}

/// All tokens.
#[must_use]
pub fn tokens() -> Vec<u8> {
    vec![b'T']
}

/// Marks a deploy step as being in the audit journal.
#[must_use]
pub fn audited(id: &RecordId) -> Vec<u8> {
    Key::new(b'C').record(id).bytes()
}

/// The device as last heard.
#[must_use]
pub fn device(device: &DeviceId) -> Vec<u8> {
    Key::new(b'D').raw(device.as_str().as_bytes()).bytes()
}

/// All devices as last heard.
#[must_use]
pub fn devices() -> Vec<u8> {
    vec![b'D']
}

/// How far the journals of a device have been received; with an epoch as the last part, one of them.
#[must_use]
pub fn received(device: &DeviceId) -> Key {
    Key::new(b'u').name(device.as_str())
}

/// What has settled of the journals of a device beyond that, and how much is absent; with an epoch as the last part.
#[must_use]
pub fn progress(device: &DeviceId) -> Key {
    Key::new(b'g').name(device.as_str())
}

/// The signed trees of a device's journals; with an epoch as the last part, one of them.
#[must_use]
pub fn tree(device: &DeviceId) -> Key {
    Key::new(b'k').name(device.as_str())
}

/// Below which sequence our copies of a device's journals are of two histories; with an epoch as the last part.
#[must_use]
pub fn floor(device: &DeviceId) -> Key {
    Key::new(b'f').name(device.as_str())
}

/// What a device said that its journal lost; with the first lost sequence as the last part.
#[must_use]
pub fn lost(device: &DeviceId, epoch: u64) -> Key {
    Key::new(b'p').name(device.as_str()).number(epoch)
}

/// The pinned key of a device.
#[must_use]
pub fn pin(device: &DeviceId) -> Vec<u8> {
    Key::new(b'P').raw(device.as_str().as_bytes()).bytes()
}

/// The quarantine of a device.
#[must_use]
pub fn quarantine(device: &DeviceId) -> Vec<u8> {
    Key::new(b'Q').raw(device.as_str().as_bytes()).bytes()
}

/// All quarantines.
#[must_use]
pub fn quarantines() -> Vec<u8> {
    vec![b'Q']
}

/// All records of one journal.
#[must_use]
pub fn records_of(device: &DeviceId, epoch: u64) -> Vec<u8> {
    Key::new(b'r').name(device.as_str()).number(epoch).bytes()
}

/// A journal record.
#[must_use]
pub fn record(id: &RecordId) -> Vec<u8> {
    Key::new(b'r').record(id).bytes()
}

/// All journal records.
#[must_use]
pub fn records() -> Vec<u8> {
    vec![b'r']
}

/// The swaps of a stream within an epoch, by first row, then sequence.
#[must_use]
pub fn swaps(device: &DeviceId, epoch: u64, stream: &StreamName) -> Key {
    Key::new(b'w').name(device.as_str()).number(epoch).name(stream.as_str())
}

/// The swaps of a device by stream, then time.
#[must_use]
pub fn swap_times(device: &DeviceId) -> Key {
    Key::new(b'x').name(device.as_str())
}

/// The newest verdict about an anomaly.
#[must_use]
pub fn verdict(anomaly: &RecordId) -> Vec<u8> {
    Key::new(b'v').record(anomaly).bytes()
}

/// Reads a big-endian number at the end of `bytes`, and what stands before it.
#[must_use]
pub fn take_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (rest, number) = bytes.split_last_chunk::<8>()?;
    Some((u64::from_be_bytes(*number), rest))
}

/// Reads the record id that a key ends with; what stands before it is `before` bytes long.
#[must_use]
pub fn record_of(key: &[u8], before: usize) -> Option<RecordId> {
    let (sequence, rest) = take_number(key)?;
    let (epoch, rest) = take_number(rest)?;
    let name = rest.get(before..)?.strip_suffix(&[0])?;
    let device = std::str::from_utf8(name).ok()?.parse().ok()?;
    Some(RecordId { device, epoch, sequence })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_sort_as_they_pass_also_before_1970() {
        let mut times = [-5, i64::MIN, 0, 7, i64::MAX, -1];
        times.sort_by_key(|ms| sortable(*ms));
        assert_eq!(times, [i64::MIN, -5, -1, 0, 7, i64::MAX]);
        assert!(times.iter().all(|ms| time_of(sortable(*ms)) == *ms));
    }

    #[test]
    fn when_a_record_came_says_also_whether_it_had_waited() {
        for ms in [0, 1, 1_795_132_800_000, (1 << 62) - 1] {
            for late in [false, true] {
                assert_eq!(read_received(received_at(ms, late)), (ms, late));
            }
            assert_eq!(read_received(sortable(ms)), (ms, false), "as it was written before there was a bit for it");
        }
        assert_eq!(read_received(received_at(-5, true)), (0, true));
    }

    #[test]
    fn a_record_id_comes_back_out_of_its_key() {
        let id: RecordId = "box-17/3/9".parse().unwrap();
        assert_eq!(record_of(&record(&id), 1), Some(id.clone()));
        let by_time = Key::new(b't').time(-3).record(&id).bytes();
        assert_eq!(record_of(&by_time, 9), Some(id));
    }

    #[test]
    fn a_name_that_begins_another_is_not_mixed_up_with_it() {
        let short = versions(&"server".parse().unwrap()).bytes();
        let long = version(&"server2".parse().unwrap(), "1".parse().unwrap());
        assert!(!long.starts_with(&short));
    }
}
