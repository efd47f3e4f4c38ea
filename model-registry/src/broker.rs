//! The embedded MQTT broker: rumqttd, 3.1.1, on loopback, with every limit said aloud.
//!
//! Constraints. rumqttd cannot be stopped once started, keeps sessions, retained messages and queues in memory only
//! and forgets them at restart (hence the publisher republishes), has no per-topic rules and no credentials here: it
//! therefore listens on loopback only. An external broker takes over by one line of configuration.
//!
//! Layout. rumqttd keeps one queue per *subscription filter*, each of `segment_count` segments; a full queue drops its
//! oldest segment. Nothing that we send relies on the queue: a journal batch that was dropped is not acknowledged and the
//! device sends it again; an assignment is republished; a chunk is asked for again.
//!
//! A trap that we saw: when rumqttd turns a client away after reading its CONNECT (an id with `/`, the connection limit) and
//! that client comes again, it panics with a lock held and never lets anybody in any more, while connections that exist go
//! on. Nothing in this process can restart it, so [`watch`] knocks from time to time and the registry ends with a clear
//! error for its supervisor to start it again: all that counts is on disk.
//!
//! Start. The address is bound once to learn whether it is free (and which port "0" became), released, handed to rumqttd
//! on threads of its own, and awaited by connecting.

use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, TcpListener},
    thread,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;
use vedette_protocol::{limit, topic};

use crate::clock;

/// Devices and the registry itself. At 47 KB each when idle (measured): 2,000 × 47 KB = 94 MB. Full: new connections are
/// closed without an answer and the device backs off.
const CONNECTIONS_MAX: usize = 2_000;

/// The queue of a device's `down` filter: 2 × 128 KiB holds two chunks of 48 KiB, an assignment and the acknowledgements.
/// All 2,000 devices fetching over MQTT at once: 2,000 × 256 KiB = 512 MB, the ceiling of the broker's memory.
const SEGMENT_BYTES: usize = 128 << 10;
const SEGMENTS: usize = 2;

/// The one queue in front of ingest: 8 × 2 MiB hold 256 journal batches of 64 KiB while a group is being committed.
const INGEST_SEGMENT_BYTES: usize = 2 << 20;
const INGEST_SEGMENTS: usize = 8;

/// Packets read from one connection before they are handed on.
const INFLIGHT_MAX: usize = 100;

/// Packets handed to one connection in one turn.
const OUTGOING_PACKETS_MAX: u64 = 100;

/// A connection that has said nothing for this long is closed.
const CONNECT_TIMEOUT_MS: u16 = 10_000;

/// How long start waits for the listener: rumqttd needs milliseconds.
const READY_WITHIN: Duration = Duration::from_secs(10);
const READY_POLL: Duration = Duration::from_millis(5);

/// How often the door is tried, how long an answer may take, and how many silences in a row mean that it is shut:
/// half a minute until a dead broker is noticed.
const KNOCK_EVERY: Duration = Duration::from_secs(10);
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const SILENCES_MAX: u32 = 3;

/// MQTT 3.1.1 CONNECT, clean session, keep-alive 30 s, as client "vedette-knock"; the answer is a CONNACK of 4 bytes.
const CONNECT: &[u8] = b"\x10\x19\x00\x04MQTT\x04\x02\x00\x1e\x00\x0dvedette-knock";
const DISCONNECT: &[u8] = b"\xe0\x00";
const ACCEPTED: [u8; 4] = [0x20, 0x02, 0x00, 0x00];

/// The broker's own log lines tell of every connection twice at level "error"; what matters to an operator is logged by
/// `mqtt` and `ingest`. To be added to the program's log filter.
pub const LOG_DIRECTIVE: &str = "rumqttd=off";

/// Why the embedded broker could not start.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// Another program listens there.
    #[error(
        "couldn't start the embedded broker: {0} is taken by another program; stop it, or set another [broker] listen"
    )]
    PortTaken(SocketAddr),
    /// The address is not ours, or may not be bound.
    #[error("couldn't start the embedded broker on {0}: {1}")]
    Bind(SocketAddr, #[source] io::Error),
    /// Without credentials only loopback is safe.
    #[error(
        "couldn't start the embedded broker: {0} is not a loopback address and the embedded broker has no credentials; \
         use 127.0.0.1, or an external broker by [broker] embedded = false and url"
    )]
    NotLoopback(SocketAddr),
    /// Its threads could not be started.
    #[error("couldn't start a thread for the embedded broker: {0}")]
    Thread(#[source] io::Error),
    /// It did not accept a connection in time.
    #[error("the embedded broker on {0} did not accept a connection within {1:?}")]
    NotReady(SocketAddr, Duration),
    /// It runs, but lets nobody in any more.
    #[error("the embedded broker on {0} lets no device in any more; start the registry again (nothing is lost)")]
    Shut(SocketAddr),
}

/// Starts the broker and waits until it accepts connections. Returns the address with its real port: port 0 asks for a
/// free one. It runs until the process ends.
///
/// # Errors
/// See [`BrokerError`]; nothing was started when the port is taken or not loopback.
pub async fn start(listen: SocketAddr) -> Result<SocketAddr, BrokerError> {
    let address = free_address(listen)?;
    thread::Builder::new().name("broker".to_owned()).spawn(move || run(address)).map_err(BrokerError::Thread)?;
    ready(address).await?;
    Ok(address)
}

/// Binds and releases the address.
fn free_address(listen: SocketAddr) -> Result<SocketAddr, BrokerError> {
    if !listen.ip().is_loopback() {
        return Err(BrokerError::NotLoopback(listen));
    }
    TcpListener::bind(listen).and_then(|listener| listener.local_addr()).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => BrokerError::PortTaken(listen),
        _ => BrokerError::Bind(listen, error),
    })
}

/// The broker's thread: returns only when the broker failed, for which somebody should act.
fn run(address: SocketAddr) {
    let mut broker = rumqttd::Broker::new(config(address));
    match broker.start() {
        Ok(()) => tracing::error!(%address, "the embedded broker ended; restart the registry"),
        Err(error) => tracing::error!(%address, %error, "the embedded broker failed; restart the registry"),
    }
}

fn config(address: SocketAddr) -> rumqttd::Config {
    let server = rumqttd::ServerSettings {
        name: "broker-mqtt".to_owned(),
        listen: address,
        tls: None,
        next_connection_delay_ms: 0,
        connections: rumqttd::ConnectionSettings {
            connection_timeout_ms: CONNECT_TIMEOUT_MS,
            max_payload_size: limit::MAX_PACKET_BYTES,
            max_inflight_count: INFLIGHT_MAX,
            auth: None,
            external_auth: None,
            dynamic_filters: false,
        },
    };
    let ingest = rumqttd::SegmentConfig { max_segment_size: INGEST_SEGMENT_BYTES, max_segment_count: INGEST_SEGMENTS };
    rumqttd::Config {
        id: 0,
        router: rumqttd::RouterConfig {
            max_connections: CONNECTIONS_MAX,
            max_outgoing_packet_count: OUTGOING_PACKETS_MAX,
            max_segment_size: SEGMENT_BYTES,
            max_segment_count: SEGMENTS,
            custom_segment: Some(HashMap::from([(topic::ALL_UP.to_owned(), ingest)])),
            ..Default::default()
        },
        v4: Some(HashMap::from([("mqtt".to_owned(), server)])),
        ..Default::default()
    }
}

async fn ready(address: SocketAddr) -> Result<(), BrokerError> {
    let deadline = clock::monotonic() + READY_WITHIN;
    while clock::monotonic() < deadline {
        if TcpStream::connect(address).await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(READY_POLL).await;
    }
    Err(BrokerError::NotReady(address, READY_WITHIN))
}

/// Knocks until `shutdown`, as long as the broker answers.
///
/// # Errors
/// [`BrokerError::Shut`] when it does not any more: meant to end the registry.
pub async fn watch(address: SocketAddr, shutdown: CancellationToken) -> Result<(), BrokerError> {
    let mut silences = 0;
    while silences < SILENCES_MAX {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(KNOCK_EVERY) => {}
        }
        silences = if answers(address).await { 0 } else { silences + 1 };
    }
    Err(BrokerError::Shut(address))
}

/// Whether the broker lets a client in.
async fn answers(address: SocketAddr) -> bool {
    let knock = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(CONNECT).await?;
        let mut answer = [0; ACCEPTED.len()];
        stream.read_exact(&mut answer).await?;
        stream.write_all(DISCONNECT).await?;
        io::Result::Ok(answer == ACCEPTED)
    };
    matches!(tokio::time::timeout(ANSWER_WITHIN, knock).await, Ok(Ok(true)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_named_before_anything_starts() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = other.local_addr().unwrap();
        let error = start(address).await.unwrap_err();
        assert!(matches!(error, BrokerError::PortTaken(taken) if taken == address));
        assert!(error.to_string().contains(&address.to_string()));
    }

    #[tokio::test]
    async fn an_address_beyond_loopback_is_refused() {
        let error = start("0.0.0.0:0".parse().unwrap()).await.unwrap_err();
        assert!(matches!(error, BrokerError::NotLoopback(_)));
    }

    #[tokio::test]
    async fn port_zero_becomes_a_real_one_that_accepts_connections() {
        let address = start("127.0.0.1:0".parse().unwrap()).await.unwrap();
        assert_ne!(address.port(), 0);
        assert!(answers(address).await);
    }

    /// If this fails, rumqttd was mended and [`watch`] can go.
    #[tokio::test]
    async fn a_broker_that_shut_its_door_is_noticed() {
        let address = start("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let refused = CONNECT.iter().map(|byte| if *byte == b'-' { b'/' } else { *byte }).collect::<Vec<u8>>();
        for _ in 0..2 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(&refused).await.unwrap();
            assert_eq!(stream.read(&mut [0; 4]).await.unwrap_or(0), 0);
        }
        assert!(!answers(address).await);
    }
}
