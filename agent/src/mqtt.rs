//! A thin MQTT 3.1.1 connection; the only file that names rumqttc.
//!
//! # Constraints
//!
//! rumqttc 0.25.1 forgets queued publishes and subscriptions when a broker lost its session, can stay in a collision for
//! ever once its state is kept over a reconnect, and reconnects without a pause. So one [`connect`] is the life of one
//! connection: when it is [`Event::Lost`], everything is dropped and the caller connects afresh after a pause of its own
//! and sends again whatever nobody acknowledged. Only QoS 1; a PUBACK is not an acknowledgement of ours and not shown.
//!
//! # Operations
//!
//! rumqttc's loop runs in a task of its own and ends with [`Events`]; polling it inside a `select!` would cancel a
//! connection in the making. What arrives waits in a bounded queue; when its reader is slow, the socket waits.

use std::time::Duration;

use rumqttc::{
    AsyncClient, ConnectionError, EventLoop, LastWill, MqttOptions, NetworkOptions, Packet, QoS, StateError,
    SubscribeFilter, SubscribeReasonCode,
};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::config::Broker;

/// How often we ask the broker whether it is there. A dead peer is noticed when a question has no answer by the time of
/// the next one: after one to two of these, 40 s at most. The broker notices us after one and a half.
pub const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Publishes without PUBACK. Packet ids wrap here, and a broker that skips one acknowledgement blocks the id: so it is
/// larger than all that we ever have under way (64 batches, 4 requests, a birth, a status).
const INFLIGHT: u16 = 512;

/// Publishes and subscriptions that wait for the socket: 64 batches of at most 96 KiB are 6 MiB. When full: [`PublishError::Full`].
const REQUESTS: usize = 64;

/// Messages that wait for the reader: 16 x 96 KiB are 1.5 MiB. When full, the socket is not read.
const ARRIVED: usize = 16;

/// How long TCP and the MQTT handshake may take, seconds.
const CONNECT_S: u64 = 10;

/// Bytes of an MQTT PUBLISH beside its payload: fixed header 5, topic 2 + 256, packet id 2.
const PUBLISH_OVERHEAD: usize = 265;

/// Whom to talk to, and as whom.
#[derive(Clone, Debug)]
pub struct Options {
    /// The broker.
    pub broker: Broker,
    /// Unique on the broker: a second client of this name throws the first one out.
    pub client_id: String,
    /// What the broker publishes (retained) when the connection is lost.
    pub will: Option<Will>,
    /// The largest packet, both ways, bytes. A larger one ends the connection.
    pub packet_bytes_max: usize,
    /// How often the broker is asked whether it is there, at least 1 s; [`KEEP_ALIVE`] but for tests.
    pub keep_alive: Duration,
}

/// A last will, always retained.
#[derive(Clone, Debug)]
pub struct Will {
    /// The topic.
    pub topic: String,
    /// The message.
    pub payload: Vec<u8>,
}

/// Whether the broker keeps a message for those who subscribe later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retain {
    /// It keeps it.
    Yes,
    /// It forgets it.
    No,
}

/// What happens on a connection.
#[derive(Debug)]
pub enum Event {
    /// The broker let us in; subscribe now.
    Connected,
    /// The broker's answer to the oldest [`Publisher::subscribe`] without one: for each filter whether it is heard.
    Subscribed(Vec<bool>),
    /// A message arrived.
    Message {
        /// Its topic.
        topic: String,
        /// Its bytes.
        payload: Vec<u8>,
    },
    /// The connection is over; nothing more comes.
    Lost(Lost),
}

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// A packet was larger than our limit.
    #[error("a packet of {bytes} bytes is larger than our limit")]
    TooLarge {
        /// Its size without the fixed header.
        bytes: usize,
    },
    /// The broker refused us.
    #[error("the broker refused the connection: {0}")]
    Refused(String),
    /// Anything else: network, broker gone, protocol.
    #[error("{0}")]
    Network(String),
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum PublishError {
    /// The queue to the socket is full.
    #[error("the queue to the broker is full")]
    Full,
    /// The message is larger than the connection's limit.
    #[error("a message of {bytes} bytes is larger than the connection's limit")]
    TooLong {
        /// The payload's size.
        bytes: usize,
    },
}

/// The sending half.
#[derive(Debug)]
pub struct Publisher {
    client: AsyncClient,
    packet_bytes_max: usize,
}

/// The receiving half; dropping it closes the connection without farewell, so that the broker publishes the last will.
#[derive(Debug)]
pub struct Events {
    arrived: mpsc::Receiver<Event>,
    _task: AbortOnDropHandle<()>,
}

/// Begins one connection. Nothing is known of it until the first event.
#[must_use]
pub fn connect(options: Options) -> (Publisher, Events) {
    let packet_bytes_max = options.packet_bytes_max;
    let (client, mut event_loop) = AsyncClient::new(raw_options(options), REQUESTS);
    let mut network = NetworkOptions::new();
    network.set_connection_timeout(CONNECT_S).set_tcp_nodelay(true);
    event_loop.set_network_options(network);
    let (arriving, arrived) = mpsc::channel(ARRIVED);
    let task = AbortOnDropHandle::new(tokio::spawn(drive(event_loop, arriving)));
    (Publisher { client, packet_bytes_max }, Events { arrived, _task: task })
}

fn raw_options(options: Options) -> MqttOptions {
    let mut raw = MqttOptions::new(options.client_id, options.broker.host, options.broker.port);
    raw.set_clean_session(true)
        .set_keep_alive(options.keep_alive)
        .set_inflight(INFLIGHT)
        .set_max_packet_size(options.packet_bytes_max, options.packet_bytes_max);
    if let Some(Will { topic, payload }) = options.will {
        raw.set_last_will(LastWill::new(topic, payload, QoS::AtLeastOnce, true));
    }
    raw
}

/// Polls until the connection is over or nobody listens.
async fn drive(mut event_loop: EventLoop, arriving: mpsc::Sender<Event>) {
    loop {
        let event = match event_loop.poll().await {
            Ok(rumqttc::Event::Incoming(Packet::ConnAck(_))) => Event::Connected,
            Ok(rumqttc::Event::Incoming(Packet::Publish(publish))) => {
                Event::Message { topic: publish.topic, payload: publish.payload.to_vec() }
            }
            Ok(rumqttc::Event::Incoming(Packet::SubAck(answer))) => {
                let heard = |code: &SubscribeReasonCode| matches!(code, SubscribeReasonCode::Success(_));
                Event::Subscribed(answer.return_codes.iter().map(heard).collect())
            }
            Ok(rumqttc::Event::Incoming(_) | rumqttc::Event::Outgoing(_)) => continue,
            Err(error) => Event::Lost(why(error)),
        };
        let over = matches!(event, Event::Lost(_));
        if arriving.send(event).await.is_err() || over {
            return;
        }
    }
}

fn why(error: ConnectionError) -> Lost {
    match error {
        ConnectionError::MqttState(StateError::Deserialization(
            rumqttc::mqttbytes::Error::PayloadSizeLimitExceeded(bytes),
        )) => Lost::TooLarge { bytes },
        ConnectionError::ConnectionRefused(code) => Lost::Refused(format!("{code:?}")),
        other => Lost::Network(other.to_string()),
    }
}

impl Publisher {
    /// Queues a message (QoS 1). It may be lost with the connection: whoever needs it there waits for an answer.
    ///
    /// # Errors
    /// When the queue is full, or the message can never be sent.
    pub fn publish(&self, topic: &str, retain: Retain, payload: Vec<u8>) -> Result<(), PublishError> {
        let bytes = payload.len();
        if bytes.saturating_add(PUBLISH_OVERHEAD) > self.packet_bytes_max {
            return Err(PublishError::TooLong { bytes });
        }
        self.client
            .try_publish(topic, QoS::AtLeastOnce, retain == Retain::Yes, payload)
            .map_err(|_full_or_over| PublishError::Full)
    }

    /// Asks for the messages of some filters.
    ///
    /// # Errors
    /// When the queue is full.
    pub fn subscribe(&self, filters: &[&str]) -> Result<(), PublishError> {
        let filters = filters.iter().map(|f| SubscribeFilter::new((*f).to_owned(), QoS::AtLeastOnce));
        self.client.try_subscribe_many(filters).map_err(|_full_or_over| PublishError::Full)
    }
}

impl Events {
    /// The next event; may be cancelled and asked again. After [`Event::Lost`] always `Lost`.
    pub async fn next(&mut self) -> Event {
        match self.arrived.recv().await {
            Some(event) => event,
            None => Event::Lost(Lost::Network("the connection is over".to_owned())),
        }
    }
}
