//! Artifacts over MQTT, for devices that reach only the broker: a request in, a chunk out.
//!
//! Every device has its own pace, `PACE`, so that one that asks without end slows nobody down, and at most
//! `PENDING_DEVICE_MAX` requests waiting; beyond that its requests are dropped and it asks again. A chunk that finds no room
//! on the way out is tried again a little later.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use vedette_protocol::{
    id::DeviceId,
    message::{ArtifactRequest, Chunk, ChunkError, Message as _, Want},
    topic::{Down, Topic},
};

use super::Tally;
use crate::{
    clock,
    mqtt::{Outbox, OutboxError},
    registry::Registry,
};

/// Requests on the way from ingest to here.
pub const REQUESTS_MAX: usize = 256;

/// Between two chunks to one device: 250 a second × 48 KiB = 12 MB/s.
const PACE: Duration = Duration::from_millis(4);

/// Requests of one device that wait: more than a device has under way.
const PENDING_DEVICE_MAX: usize = 32;

/// Requests of all devices that wait: 4,096 × ~200 bytes = 1 MB. Full: dropped, the device asks again.
const PENDING_MAX: usize = 4_096;

/// When the way out is full: time for some 20 packets to leave.
const RETRY: Duration = Duration::from_millis(20);

/// Who waits for what, in the order of when it is due. Pure: the time is handed in.
#[derive(Debug, Default)]
struct Waiting {
    order: BinaryHeap<Reverse<(Instant, u64)>>,
    requests: BTreeMap<u64, (DeviceId, ArtifactRequest)>,
    paces: BTreeMap<DeviceId, (Instant, usize)>,
    next: u64,
}

impl Waiting {
    /// Takes a request in; false when it is dropped because too much waits.
    fn push(&mut self, device: DeviceId, request: ArtifactRequest, now: Instant) -> bool {
        let (free, pending) = self.paces.get(&device).copied().unwrap_or((now, 0));
        if pending >= PENDING_DEVICE_MAX || self.requests.len() >= PENDING_MAX {
            return false;
        }
        let due = free.max(now);
        self.paces.insert(device.clone(), (due + PACE, pending + 1));
        self.order.push(Reverse((due, self.next)));
        self.requests.insert(self.next, (device, request));
        self.next += 1;
        true
    }

    fn next_due(&self) -> Option<Instant> {
        self.order.peek().map(|Reverse((due, _))| *due)
    }

    fn pop(&mut self, now: Instant) -> Option<(DeviceId, ArtifactRequest)> {
        if self.next_due().is_none_or(|due| due > now) {
            return None;
        }
        let Reverse((_, number)) = self.order.pop()?;
        let (device, request) = self.requests.remove(&number)?;
        if let Some((free, pending)) = self.paces.get_mut(&device) {
            *pending -= 1;
            // Nobody waits and the pace is kept: nothing to remember about this device.
            if *pending == 0 && *free <= now {
                self.paces.remove(&device);
            }
        }
        if self.requests.is_empty() {
            self.paces.retain(|_, (free, _)| *free > now);
        }
        Some((device, request))
    }
}

/// Answers requests until `shutdown`.
pub async fn run(
    registry: Registry,
    outbox: Outbox,
    mut requests: mpsc::Receiver<(DeviceId, ArtifactRequest)>,
    tally: Arc<Tally>,
    shutdown: CancellationToken,
) {
    let mut waiting = Waiting::default();
    loop {
        let due = waiting.next_due().unwrap_or_else(|| Instant::from(clock::monotonic()) + Duration::from_secs(3600));
        tokio::select! {
            () = shutdown.cancelled() => return,
            request = requests.recv() => match request {
                Some((device, request)) => {
                    if !waiting.push(device, request, clock::monotonic().into()) {
                        tally.unanswered.fetch_add(1, Ordering::Relaxed);
                    }
                }
                None => return,
            },
            () = tokio::time::sleep_until(due) => {
                if let Some((device, request)) = waiting.pop(clock::monotonic().into()) {
                    answer(&registry, &outbox, &device, request, &tally).await;
                }
            }
        }
    }
}

async fn answer(registry: &Registry, outbox: &Outbox, device: &DeviceId, request: ArtifactRequest, tally: &Tally) {
    let registry = registry.clone();
    let read = tokio::task::spawn_blocking(move || chunk(&registry, &request)).await;
    let payload = match read {
        Ok(Ok(chunk)) => chunk.encode(),
        Ok(Err(error)) => return tracing::error!(%device, %error, "couldn't read a chunk for a device"),
        Err(error) => return tracing::error!(%device, %error, "couldn't read a chunk for a device"),
    };
    let topic = Topic::down(device, Down::Chunk);
    for _ in 0..2 {
        match outbox.try_publish(&topic, payload.clone()) {
            Ok(()) => return,
            Err(OutboxError::Full) => tokio::time::sleep(RETRY).await,
            Err(OutboxError::Offline | OutboxError::TooLarge) => break,
        }
    }
    tally.unanswered.fetch_add(1, Ordering::Relaxed);
}

/// The bytes that a request names, or why there are none. Blocks.
fn chunk(registry: &Registry, request: &ArtifactRequest) -> crate::registry::Result<Chunk> {
    // Decoding has checked it against the limit.
    let length = request.length as usize;
    let found = match request.want {
        Want::Manifest => registry.manifest(&request.digest)?.map(|whole| part(&whole, request.offset, length)),
        Want::Blob => registry.blobs().read_at(&request.digest, request.offset, length)?,
    };
    let refused = |total, error| Chunk { error: Some(error), ..filled(request, total, Vec::new()) };
    Ok(match found {
        None => refused(0, ChunkError::NotFound),
        Some((total, _)) if request.offset > total || length == 0 => refused(total, ChunkError::BadRange),
        Some((total, bytes)) => filled(request, total, bytes),
    })
}

fn filled(request: &ArtifactRequest, total: u64, bytes: Vec<u8>) -> Chunk {
    Chunk { digest: request.digest, offset: request.offset, total, bytes: bytes.into(), error: None }
}

/// Up to `length` bytes of a whole from `offset`, and the whole's length.
fn part(whole: &[u8], offset: u64, length: usize) -> (u64, Vec<u8>) {
    let rest = usize::try_from(offset).ok().and_then(|offset| whole.get(offset..)).unwrap_or_default();
    (whole.len() as u64, rest.iter().take(length).copied().collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn request() -> ArtifactRequest {
        let digest = vedette_protocol::Digest::of(b"x");
        ArtifactRequest { digest, want: Want::Blob, offset: 0, length: 1 }
    }

    fn device(name: &str) -> DeviceId {
        name.parse().unwrap()
    }

    #[test]
    fn a_greedy_device_waits_for_its_pace_and_holds_up_nobody() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        for _ in 0..PENDING_DEVICE_MAX {
            assert!(waiting.push(device("greedy"), request(), now));
        }
        assert!(!waiting.push(device("greedy"), request(), now), "more than a device may have waiting");
        assert!(waiting.push(device("modest"), request(), now));
        let mut served = Vec::new();
        while let Some((device, _)) = waiting.pop(now) {
            served.push(device.to_string());
        }
        assert_eq!(served, ["greedy", "modest"], "one each is due at once");
        assert_eq!(waiting.next_due(), Some(now + PACE));
        assert!(waiting.pop(now + PACE).is_some() && waiting.pop(now + PACE).is_none());
    }

    #[test]
    fn nothing_is_remembered_about_devices_that_got_all_they_asked_for() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        for number in 0..100 {
            assert!(waiting.push(device(&format!("box-{number}")), request(), now));
        }
        while waiting.pop(now + PACE).is_some() {}
        assert!(waiting.paces.is_empty() && waiting.requests.is_empty());
    }

    #[test]
    fn a_part_ends_where_the_whole_ends() {
        assert_eq!(part(b"abcde", 3, 10), (5, b"de".to_vec()));
        assert_eq!(part(b"abcde", 5, 10), (5, vec![]));
        assert_eq!(part(b"abcde", u64::MAX, 10), (5, vec![]));
    }
}
