//! The registry's MQTT session: the only room that names rumqttc.
//!
//! Constraints, all of them rumqttc 0.25's. A publish is only "queued" when it returns; a reconnect without a session
//! silently forgets what was queued, subscriptions too; a lost collision wedges the state for ever; `poll` reconnects at
//! once and is not safe to cancel while it works. Hence: a fresh client and loop for every connection, our own back-off,
//! subscribing again at every ConnAck, packet limits set explicitly, `poll` in a loop of its own.
//!
//! Nothing here is durable and nothing needs to be. An acknowledgement or a chunk that is lost is asked for again by the
//! device; assignments are published again at every connection ([`Link::sessions`] counts them).
//!
//! The way in: messages go into a bounded queue. Full: the session waits, so that the broker's queue fills instead, and
//! after `INBOX_WAIT` drops the message and counts it; the device sends again what was not acknowledged.
//! The way out: a bounded queue in the client. Full: the caller is told and decides.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ring::rand::SecureRandom as _;
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, NetworkOptions, Packet, QoS, StateError,
    SubscribeReasonCode,
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use vedette_protocol::{
    limit,
    topic::{self, Topic},
};

use crate::clock;

/// Messages waiting for ingest: 256 × 64 KiB batches = 16 MiB at worst, as much as the broker's own queue.
const INBOX_MESSAGES_MAX: usize = 256;

/// How long a full inbox may stop the session: well below the keep-alive, so that the broker does not cut us.
const INBOX_WAIT: Duration = Duration::from_secs(10);

/// Packets waiting to leave: 256 × 48 KiB chunks = 12 MiB at worst.
const OUTBOX_PACKETS_MAX: usize = 256;

/// Unacknowledged packets on the wire. Above what the broker takes in at once, so that packet ids do not collide.
const INFLIGHT_MAX: u16 = 512;

/// What rumqttc accepts before it drops the connection. Far above what the protocol allows, because a device that
/// publishes too much must cost one message (thrown away here), not the session.
const INCOMING_BYTES_MAX: usize = 4 << 20;

const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Full jitter: a uniform draw below `min(cap, base × 2^attempt)`. There are few registries and many devices that wait for
/// one, so the cap is short.
const BACKOFF_BASE: Duration = Duration::from_millis(250);
const BACKOFF_CAP: Duration = Duration::from_secs(5);

/// A session that held this long was a good one: the next back-off begins anew, also at a broker that falls over often.
const GOOD_SESSION: Duration = Duration::from_secs(1);

/// How long the farewell may take at shutdown.
const FAREWELL_WITHIN: Duration = Duration::from_secs(1);

/// Where the broker is and who we are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Host name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// User name and password, if the broker asks.
    pub login: Option<(String, String)>,
    /// The session's name; one registry per broker may have it.
    pub client_id: String,
}

/// Why a broker URL was not taken.
#[derive(Debug, thiserror::Error)]
#[error("couldn't use the broker URL {url:?}: {why}; write it as mqtt://HOST:PORT or mqtt://USER:PASSWORD@HOST:PORT")]
pub struct UrlError {
    url: String,
    why: String,
}

impl Settings {
    /// Reads `mqtt://[USER:PASSWORD@]HOST[:PORT]`; the port is 1883 unless said.
    ///
    /// # Errors
    /// For any other scheme and for text that is no URL. The message does not repeat a password.
    pub fn from_url(url: &str, client_id: &str) -> Result<Self, UrlError> {
        let refused = |why: &str| UrlError { url: without_login(url), why: why.to_owned() };
        let parsed = reqwest::Url::parse(url).map_err(|error| refused(&error.to_string()))?;
        if parsed.scheme() != "mqtt" {
            return Err(refused("only mqtt:// is spoken here"));
        }
        let host = parsed.host_str().filter(|host| !host.is_empty()).ok_or_else(|| refused("it names no host"))?;
        let login = (!parsed.username().is_empty())
            .then(|| (parsed.username().to_owned(), parsed.password().unwrap_or_default().to_owned()));
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: parsed.port().unwrap_or(1883),
            login,
            client_id: client_id.to_owned(),
        })
    }
}

/// A broker URL as it may be logged: without user name and password.
#[must_use]
pub fn without_login(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => format!("{}…{}", &url[..scheme + 3], &url[at..]),
        _ => url.to_owned(),
    }
}

/// A message as it came in; nothing about it is checked except its size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The topic's text.
    pub topic: String,
    /// At most [`limit::MAX_PACKET_BYTES`].
    pub payload: Vec<u8>,
}

/// Why a message could not be queued. Whoever sent it decides whether that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutboxError {
    /// There is no session at the moment.
    #[error("the broker is not connected")]
    Offline,
    /// The queue to the broker is full.
    #[error("the queue to the broker is full")]
    Full,
    /// Above [`limit::MAX_PACKET_BYTES`]: would end the session.
    #[error("the message is larger than a packet may be")]
    TooLarge,
}

/// The way out, to be cloned freely.
#[derive(Clone, Debug)]
pub struct Outbox {
    client: watch::Receiver<Option<AsyncClient>>,
}

impl Outbox {
    /// Queues a message at QoS 1, without waiting.
    ///
    /// # Errors
    /// See [`OutboxError`].
    pub fn try_publish(&self, topic: &Topic, payload: Vec<u8>) -> Result<(), OutboxError> {
        let client = self.client(&payload)?;
        let sent = client.try_publish(topic.to_string(), QoS::AtLeastOnce, topic.retained(), payload);
        sent.map_err(|_| OutboxError::Full)
    }

    /// Queues a message at QoS 1, waiting for room. Not for whoever empties the inbox: the two would wait for each other.
    ///
    /// # Errors
    /// [`OutboxError::Offline`] also when the session ended while waiting.
    pub async fn publish(&self, topic: &Topic, payload: Vec<u8>) -> Result<(), OutboxError> {
        let client = self.client(&payload)?;
        let sent = client.publish(topic.to_string(), QoS::AtLeastOnce, topic.retained(), payload).await;
        sent.map_err(|_| OutboxError::Offline)
    }

    fn client(&self, payload: &[u8]) -> Result<AsyncClient, OutboxError> {
        // The topic and the header are within the 512 bytes that the wire's limit leaves above the largest message.
        if payload.len() + 512 > limit::MAX_PACKET_BYTES {
            return Err(OutboxError::TooLarge);
        }
        self.client.borrow().clone().ok_or(OutboxError::Offline)
    }
}

/// Both ends of the session and the loop that drives it.
#[derive(Debug)]
pub struct Link {
    /// To be run on a task of its own.
    pub driver: Driver,
    /// What came in.
    pub inbox: mpsc::Receiver<Message>,
    /// The way out.
    pub outbox: Outbox,
    /// Counts sessions that are connected and subscribed; 0 before the first.
    pub sessions: watch::Receiver<u64>,
    /// Messages thrown away: too large, or the inbox was full for too long.
    pub dropped: Arc<AtomicU64>,
}

/// Makes a link; nothing is connected before the driver runs.
#[must_use]
pub fn link(settings: Settings) -> Link {
    let (inbox_in, inbox) = mpsc::channel(INBOX_MESSAGES_MAX);
    let (client_in, client) = watch::channel(None);
    let (sessions_in, sessions) = watch::channel(0);
    let dropped = Arc::new(AtomicU64::new(0));
    let driver = Driver {
        settings,
        inbox: inbox_in,
        client: client_in,
        sessions: sessions_in,
        dropped: Arc::clone(&dropped),
        memory: Memory::Keep,
    };
    Link { driver, inbox, outbox: Outbox { client }, sessions, dropped }
}

/// Whether the broker should keep what it holds for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Memory {
    /// A persistent session: what came while we were away is delivered.
    Keep,
    /// Begin anew: what waits there ends every session that tries to take it.
    Forget,
}

/// Drives the session: connects, subscribes, hands over, comes back.
#[derive(Debug)]
pub struct Driver {
    settings: Settings,
    inbox: mpsc::Sender<Message>,
    client: watch::Sender<Option<AsyncClient>>,
    sessions: watch::Sender<u64>,
    dropped: Arc<AtomicU64>,
    memory: Memory,
}

/// How a session ended.
#[derive(Debug)]
enum End {
    Shutdown,
    Lost(ConnectionError),
    /// The broker refused the subscription: it lets us in but not hear.
    Refused,
}

impl Driver {
    /// Runs until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut attempt = 0;
        loop {
            let began = clock::monotonic();
            let sessions = *self.sessions.borrow();
            let end = self.session(&shutdown).await;
            self.client.send_replace(None);
            if matches!(end, End::Shutdown) {
                return;
            }
            self.memory = memory_after(&end);
            let subscribed = *self.sessions.borrow() > sessions;
            if subscribed && began.elapsed() >= GOOD_SESSION {
                attempt = 0;
            }
            let wait = backoff(attempt, random());
            self.report(&end, attempt, wait);
            attempt = attempt.saturating_add(1);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// One connection, from its ConnAck to its end.
    async fn session(&mut self, shutdown: &CancellationToken) -> End {
        let (client, mut events) = AsyncClient::new(options(&self.settings, self.memory), OUTBOX_PACKETS_MAX);
        // A PUBACK and then an acknowledgement of ours are two small writes: Nagle would hold the second for 40 ms.
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        events.set_network_options(network);
        loop {
            let event = tokio::select! {
                event = events.poll() => event,
                () = shutdown.cancelled() => {
                    farewell(&client, &mut events).await;
                    return End::Shutdown;
                }
            };
            match event {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    // Room is certain: nothing else has this client yet.
                    if client.try_subscribe(topic::ALL_UP, QoS::AtLeastOnce).is_err() {
                        return End::Refused;
                    }
                }
                Ok(Event::Incoming(Packet::SubAck(ack))) => {
                    if ack.return_codes.contains(&SubscribeReasonCode::Failure) {
                        return End::Refused;
                    }
                    self.subscribed(&client);
                }
                Ok(Event::Incoming(Packet::Publish(publish))) => {
                    self.hand_over(Message { topic: publish.topic, payload: publish.payload.to_vec() }).await;
                }
                Ok(_) => {}
                Err(error) => return End::Lost(error),
            }
        }
    }

    fn subscribed(&self, client: &AsyncClient) {
        tracing::info!(broker = %self.place(), "connected to the broker");
        self.client.send_replace(Some(client.clone()));
        self.sessions.send_modify(|sessions| *sessions += 1);
    }

    /// Waits for room in the inbox, but not for ever.
    async fn hand_over(&self, message: Message) {
        let fits = message.payload.len() <= limit::MAX_PACKET_BYTES;
        if !fits || self.inbox.send_timeout(message, INBOX_WAIT).await.is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Says it once when the broker is lost, once when it cannot be had, and then keeps quiet.
    fn report(&self, end: &End, attempt: u32, wait: Duration) {
        let (broker, wait_ms) = (self.place(), u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        match (end, attempt) {
            (End::Refused, _) => tracing::error!(
                %broker, filter = topic::ALL_UP,
                "the broker refused the registry's subscription; give its user the right to read that filter"
            ),
            (End::Lost(error), 0 | 1) => tracing::warn!(%broker, %error, wait_ms, "no connection to the broker"),
            (End::Lost(error), _) => tracing::debug!(%broker, %error, wait_ms, "still no connection to the broker"),
            (End::Shutdown, _) => {}
        }
    }

    fn place(&self) -> String {
        format!("{}:{}", self.settings.host, self.settings.port)
    }
}

/// What waits in a persistent session and is larger than we take would end the next one too.
fn memory_after(end: &End) -> Memory {
    match end {
        End::Lost(ConnectionError::MqttState(StateError::Deserialization(_))) => Memory::Forget,
        End::Lost(_) | End::Refused | End::Shutdown => Memory::Keep,
    }
}

fn options(settings: &Settings, memory: Memory) -> MqttOptions {
    let mut options = MqttOptions::new(&settings.client_id, &settings.host, settings.port);
    options
        .set_clean_session(memory == Memory::Forget)
        .set_keep_alive(KEEP_ALIVE)
        .set_inflight(INFLIGHT_MAX)
        .set_max_packet_size(INCOMING_BYTES_MAX, limit::MAX_PACKET_BYTES);
    if let Some((user, password)) = &settings.login {
        options.set_credentials(user, password);
    }
    options
}

/// Lets what is queued leave, and says goodbye so that the broker need not wait for the keep-alive.
async fn farewell(client: &AsyncClient, events: &mut EventLoop) {
    if client.try_disconnect().is_err() {
        return;
    }
    let gone = async { while events.poll().await.is_ok() {} };
    if tokio::time::timeout(FAREWELL_WITHIN, gone).await.is_err() {
        tracing::debug!("the broker took no farewell");
    }
}

fn backoff(attempt: u32, random: u64) -> Duration {
    let ceiling = BACKOFF_BASE.saturating_mul(1_u32 << attempt.min(16)).min(BACKOFF_CAP);
    let millis = u64::try_from(ceiling.as_millis()).unwrap_or(u64::MAX).max(1);
    Duration::from_millis(random % millis)
}

/// Without randomness everybody would come back at once, which is only impolite: half of the range is used then.
fn random() -> u64 {
    let mut bytes = [0; 8];
    match ring::rand::SystemRandom::new().fill(&mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes),
        Err(ring::error::Unspecified) => u64::MAX / 2,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_back_off_stays_below_its_ceiling_and_its_cap() {
        for attempt in 0..40 {
            for random in [0, 1, 249, 1 << 20, u64::MAX] {
                let wait = backoff(attempt, random);
                assert!(wait < BACKOFF_CAP);
                assert!(wait < BACKOFF_BASE * (1 << attempt.min(16)));
            }
        }
    }

    #[test]
    fn a_broker_url_gives_host_port_and_login() {
        let plain = Settings::from_url("mqtt://127.0.0.1:1999", "r").unwrap();
        assert_eq!((plain.host.as_str(), plain.port, plain.login), ("127.0.0.1", 1999, None));
        let full = Settings::from_url("mqtt://me:pw@broker.example", "r").unwrap();
        assert_eq!((full.host.as_str(), full.port), ("broker.example", 1883));
        assert_eq!(full.login, Some(("me".to_owned(), "pw".to_owned())));
        assert_eq!(Settings::from_url("mqtt://[::1]:7", "r").unwrap().host, "::1");
    }

    #[test]
    fn another_scheme_is_refused_without_repeating_the_password() {
        let error = Settings::from_url("mqtts://me:secret@broker.example", "r").unwrap_err().to_string();
        assert!(error.contains("mqtt://") && error.contains("broker.example"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }

    #[tokio::test]
    async fn without_a_session_a_publish_says_offline_and_an_oversize_one_says_so_first() {
        let link = link(Settings::from_url("mqtt://127.0.0.1:1", "r").unwrap());
        let topic = Topic::down(&"box-1".parse().unwrap(), topic::Down::Ack);
        let publish = |bytes| link.outbox.try_publish(&topic, vec![0; bytes]);
        assert_eq!(publish(10), Err(OutboxError::Offline));
        assert_eq!(publish(limit::MAX_PACKET_BYTES), Err(OutboxError::TooLarge));
    }
}
