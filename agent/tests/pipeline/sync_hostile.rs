//! Brokers that mean no good, or have gone mad: none of them keeps the device away or makes it busy.

use vedette_agent::mqtt::{self, Event, Lost};
use vedette_protocol::limit::MAX_PACKET_BYTES;

use super::*;

/// An MQTT packet of this first byte.
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut length = body.len();
    while length > 0x7f {
        packet.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    packet.push(length as u8);
    packet.extend(body);
    packet
}

/// Whether the device has gone.
async fn is_left(peer: &mut Peer) -> bool {
    let mut rest = Vec::new();
    tokio::time::timeout(crate::PATIENCE, peer.socket.read_to_end(&mut rest)).await.is_ok()
}

/// The device is well: its journal comes, and what is acknowledged moves the cursor.
async fn is_well(device: &Device, mut peer: Peer, all: u64) {
    let batch = peer.records().await;
    assert_eq!((batch.records[0].0, batch.span.unwrap().0), (0, 0));
    peer.acknowledge(all).await;
    device.acked(all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retained_mebibyte_costs_three_connections_and_one_topic() {
    let device = Device::start().await;
    let all = device.journal(10).await;
    for _ in 0..3 {
        let mut peer = Peer::accept(&device.listener).await;
        peer.said().await;
        assert!(peer.subscribed.contains("assignment"));
        peer.say("assignment", &vec![0; 1 << 20]).await;
        drop(peer.socket.shutdown().await);
        assert!(is_left(&mut peer).await);
    }
    let mut peer = Peer::accept(&device.listener).await;
    peer.said().await;
    assert_eq!(peer.subscribed.iter().map(String::as_str).collect::<Vec<_>>(), ["ack", "chunk"]);
    let status = loop {
        let (level, bytes) = peer.said().await;
        if level == "status" {
            break Status::decode(&bytes).unwrap();
        }
    };
    assert!(status.degraded.unwrap().contains("down/assignment is not heard"));
    is_well(&device, peer, all).await;
    assert_eq!(device.view.borrow().too_large, 3);
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_packets_end_their_connection_and_the_next_one_works() {
    let device = Device::start().await;
    let all = device.journal(10).await;
    let topic = |bytes: &[u8]| [&[0, bytes.len() as u8], bytes, b"payload"].concat();
    let cases = [
        packet(0x30, &[0xff, 0xff]),
        packet(0x30, &topic(b"vedette/v1/box/down/\xff\xfe")),
        packet(0x32, &topic(b"")),
        packet(0x36, &topic(b"vedette/v1/box/down/ack")),
        packet(0x00, b"no such packet"),
        packet(0x40, &[1]),
        packet(0x40, &[0xff, 0xff]),
        packet(0x90, &[0, 1]),
        packet(0x90, &[0, 1, 7, 7, 7]),
        packet(0x20, &[0, 0]),
        vec![0x30, 0xff, 0xff, 0xff, 0xff, 0xff],
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
    ];
    for bytes in cases {
        let mut peer = Peer::accept(&device.listener).await;
        peer.said().await;
        drop(peer.socket.write_all(&bytes).await);
        drop(peer.socket.shutdown().await);
        assert!(is_left(&mut peer).await, "{bytes:x?}");
    }
    is_well(&device, Peer::accept(&device.listener).await, all).await;
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_garbled_assignment_and_thousands_of_foreign_messages_do_not_end_the_connection() {
    let mut device = Device::start().await;
    let all = device.journal(10).await;
    let mut peer = Peer::accept(&device.listener).await;
    peer.said().await;
    peer.say("assignment", b"\xffgarbage").await;
    assert_eq!(device.assigned.recv().await.unwrap(), b"\xffgarbage", "deploy judges it");
    for n in 0..5_000 {
        peer.say(&format!("other-{n}"), b"retained long ago").await;
    }
    until("the garbage is counted", async || device.view.borrow().garbage == 5_000).await;
    assert_eq!(device.view.borrow().connections, 1);
    is_well(&device, peer, all).await;
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_refuses_or_leaves_at_once_is_not_asked_in_a_busy_loop() {
    let device = Device::start().await;
    let all = device.journal(10).await;
    let answers: [&[u8]; 9] = [
        &[0x20, 2, 0, 5],
        &[0x20, 2, 0, 77],
        &[0x20, 2, 0xff, 0],
        &[0x20, 0],
        &[0x90, 3, 0, 1, 1],
        &[0xd0, 0],
        b"",
        &[0x20, 2, 0, 0],
        &[0x20, 2, 1, 0],
    ];
    let began = Instant::now();
    for answer in answers {
        let mut peer = Peer::admit(&device.listener).await;
        drop(peer.socket.write_all(answer).await);
    }
    let peer = Peer::accept(&device.listener).await;
    // Nine pauses, each a random part of a second: below 0.8 s altogether once in 2.7 million runs.
    assert!(began.elapsed() > Duration::from_millis(800), "{:?}", began.elapsed());
    is_well(&device, peer, all).await;
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_the_broker_does_not_let_us_hear_is_named() {
    let device = Device::start().await;
    device.journal(10).await;
    let mut peer = Peer::accept(&device.listener).await;
    peer.refused.insert("ack");
    peer.batch().await;
    until("it says so", async || {
        device.view.borrow().degraded.as_ref().is_some_and(|why| why.contains("does not let this device hear down/ack"))
    })
    .await;
    drop(peer);
    let peer = Peer::accept(&device.listener).await;
    until("the next one is another", async || device.view.borrow().degraded.is_none()).await;
    drop(peer);
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_swallows_everything_is_noticed_within_two_keep_alives() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let keep_alive = Duration::from_secs(1);
    let options = mqtt::Options {
        broker: Broker { host: "127.0.0.1".to_owned(), port: listener.local_addr().unwrap().port() },
        client_id: "box".to_owned(),
        will: None,
        packet_bytes_max: MAX_PACKET_BYTES,
        keep_alive,
    };
    let (_publisher, mut events) = mqtt::connect(options);
    let peer = Peer::accept(&listener).await;
    assert!(matches!(events.next().await, Event::Connected));
    // From here on nothing is answered, and nothing is closed.
    let began = Instant::now();
    let lost = tokio::time::timeout(crate::PATIENCE, events.next()).await.unwrap();
    assert!(matches!(&lost, Event::Lost(Lost::Network(_))), "{lost:?}");
    assert!(began.elapsed() <= 2 * keep_alive + Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(2 * mqtt::KEEP_ALIVE <= Duration::from_secs(45));
    drop(peer);
}
