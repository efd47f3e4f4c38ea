//! The local interface over its loopback port.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use vedette_agent::{config, run};

use super::{Agent, until};

const STREAM: &str = "[[stream]]\nname = \"p\"\nsource = \"push\"\nsignals = [{ name = \"cpu\" }]\n";

/// The status and text of the answer to a post of samples with these further headers, each ending in a line break.
async fn post(address: SocketAddr, headers: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /v1/streams/p/samples HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    (answer[9..12].parse().unwrap(), answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_are_pushed_over_the_port_and_what_a_browser_sends_for_another_site_is_refused() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let agent = Agent::start(tempfile::tempdir().unwrap(), &format!("[api]\nhttp = \"{address}\"\n{STREAM}")).await;
    let line = |at: u32| format!("{{\"at\":{at},\"values\":{{\"cpu\":1}}}}\n");
    let here = format!("host: {address}\r\n");
    let (status, answer) = post(address, &here, &(line(1) + &line(2))).await;
    assert!(status == 202 && answer.contains("\"accepted\":2"), "{answer}");
    for headers in [
        format!("{here}origin: http://elsewhere.example\r\n"),
        "host: elsewhere.example\r\n".to_owned(),
        format!("host: elsewhere.example:{}\r\n", address.port()),
    ] {
        assert_eq!(post(address, &headers, &line(3)).await.0, 403, "{headers}");
    }
    until("they are scored", async || agent.get("/v1/status").await["streams"][0]["row"] == 2).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_named_with_its_key_and_the_agent_ends() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("agent.toml");
    std::fs::write(&file, format!("device = \"box\"\nstate = \"state\"\n[api]\nhttp = \"{address}\"\n{STREAM}"))
        .unwrap();
    let error = run(config::load(&file).unwrap(), CancellationToken::new()).await.unwrap_err();
    let said = format!("{error:#}");
    assert!(said.contains(&address.to_string()) && said.contains("`http` in [api]"), "{said}");
}
