//! The promises of the configuration.

#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use crate::retention::ClassLimit;
use vedette_protocol::key::{KeySet, SigningKey};

const STREAM: &str = "[[stream]]\nname = \"server\"\nsource = \"host\"\n";

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let keys = || KeySet::single(SigningKey::generate().unwrap().0.public());
    std::fs::write(dir.path().join("trust.toml"), Trust { models: keys(), fleet: keys() }.to_toml()).unwrap();
    std::fs::write(dir.path().join("device.token"), "vdt_0123456789\n").unwrap();
    std::fs::write(dir.path().join("rows.csv"), "a,b\n1,2\n").unwrap();
    dir
}

fn parse(text: &str) -> Result<Config, String> {
    let dir = folder();
    let path = dir.path().join("agent.toml");
    std::fs::write(&path, text).unwrap();
    load(&path).map_err(|e| e.to_string())
}

/// The message of a configuration that must be refused.
fn refused(text: &str) -> String {
    match parse(text) {
        Err(said) => said,
        Ok(config) => panic!("accepted: {config:?}"),
    }
}

#[test]
fn a_device_and_a_stream_are_enough() {
    let config = parse(&format!("device = \"box-17\"\n{STREAM}")).unwrap();
    assert_eq!(config.device.to_string(), "box-17");
    assert_eq!(config.state, PathBuf::from("/var/lib/vedette"));
    assert!(config.registry.is_none());
    assert_eq!((config.journal.segment_bytes, config.journal.commit_records), (1 << 20, 64));
    assert_eq!(config.sync.reconnect_cap, Duration::from_secs(300));
    assert!(config.summary().to_string().contains("works alone"));
}

#[test]
fn the_plan_s_example_is_read_with_paths_beside_the_file() {
    let text = r#"
        device = "box-17"
        state = "state"
        [registry]
        broker = "mqtt://127.0.0.1:1884"
        url = "http://127.0.0.1:8080/"
        token_file = "device.token"
        trust = "trust.toml"
        [journal]
        segment = "2MiB"
        commit_records = 32
        commit_interval = "100ms"
        [api]
        http = "127.0.0.1:0"
        [sync]
        status_interval = "1s"
        reconnect_initial_spread = "0s"
        reconnect_cap = "1s"
        [[stream]]
        name = "server"
        source = "replay"
        file = "rows.csv"
        speed = 12000.0
        start = "2026-11-20T00:00:00Z"
        step = "60s"
        label_column = "label"
        baseline = true
        [stream.units]
        default = "1"
        mem_u = "By"
        [[stream]]
        name = "pumps"
        source = "push"
        signals = [{ name = "flow", unit = "m3/h" }, { name = "heat" }]
    "#;
    let config = parse(text).unwrap();
    let registry = config.registry.as_ref().unwrap();
    assert_eq!(
        (registry.broker.to_string(), registry.url.as_deref()),
        ("mqtt://127.0.0.1:1884".to_owned(), Some("http://127.0.0.1:8080"))
    );
    assert_eq!(registry.token.as_ref().unwrap().secret(), "vdt_0123456789");
    assert_eq!((config.journal.segment_bytes, config.journal.commit_records), (2 << 20, 32));
    assert_eq!(config.api.socket, config.state.join("agent.sock"));
    let Source::Replay(replay) = &config.streams[0].source else { panic!() };
    assert_eq!((replay.start_ms, replay.step_ms), (1_795_132_800_000, 60_000));
    assert_eq!(replay.units.of(&"mem_u".parse().unwrap()).unwrap().to_string(), "By");
    assert_eq!(replay.units.of(&"cpu".parse().unwrap()).unwrap().to_string(), "1");
    let Source::Push(push) = &config.streams[1].source else { panic!() };
    assert_eq!((push.signals.len(), push.signals[1].1.is_none()), (2, true));
    assert!(!format!("{config:?}").contains("vdt_0123456789"), "a secret in the debug text");
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() {
    let said = refused(&format!("device = \"box-17\"\n[sync]\nstatus_intervall = \"1s\"\n{STREAM}"));
    assert!(
        said.contains("agent.toml:3") && said.contains("status_intervall") && said.contains("`status_interval`"),
        "{said}"
    );
    let said = refused("device = \"box-17\"\n[[stream]]\nname = \"a\"\nsource = \"host\"\nintervall = \"1s\"\n");
    assert!(said.contains("agent.toml:5") && said.contains("interval"), "{said}");
}

#[test]
fn a_wrong_unit_is_named_with_its_line_and_the_right_ones() {
    let said = refused(&format!("device = \"box-17\"\n[sync]\nstatus_interval = \"1 fortnight\"\n{STREAM}"));
    assert!(said.contains("agent.toml:3") && said.contains("fortnight") && said.contains("30s"), "{said}");
    let said = refused(&format!("device = \"box-17\"\n[journal]\nsegment = \"1Mb\"\n{STREAM}"));
    assert!(said.contains("agent.toml:3") && said.contains("1Mb") && said.contains("MiB"), "{said}");
}

#[test]
fn what_is_out_of_range_is_refused_with_the_range() {
    for (table, key, range) in [
        ("[sync]\nwindow = 0", "sync.window", "1 to 64"),
        ("[sync]\nack_timeout = \"1ms\"", "sync.ack_timeout", "1s to 10m"),
        ("[journal]\nsegment = \"1KiB\"", "journal.segment", "64KiB to 64MiB"),
        ("[deploy]\nartifact_max = \"1GiB\"", "deploy.artifact_max", "1KiB to 256MiB"),
    ] {
        let said = refused(&format!("device = \"box-17\"\n{table}\n{STREAM}"));
        assert!(said.contains(key) && said.contains(range), "{said}");
    }
}

#[test]
fn missing_files_are_named() {
    let said =
        refused("device = \"a\"\n[[stream]]\nname = \"s\"\nsource = \"replay\"\nfile = \"gone.csv\"\nstep = \"1s\"\n");
    assert!(said.contains("stream s: file") && said.contains("gone.csv"), "{said}");
    for (line, name) in [("trust = \"gone.toml\"", "gone.toml"), ("token_file = \"gone.token\"", "gone.token")] {
        let said = refused(&format!("device = \"a\"\n[registry]\nbroker = \"mqtt://h\"\n{line}\n{STREAM}"));
        assert!(said.contains(name) && said.contains("registry."), "{said}");
    }
    let said = load(Path::new("/nowhere/agent.toml")).unwrap_err().to_string();
    assert!(said.contains("/nowhere/agent.toml") && said.contains("--config"), "{said}");
}

#[test]
fn keys_of_another_source_are_refused_because_they_would_do_nothing() {
    let said = refused("device = \"a\"\n[[stream]]\nname = \"s\"\nsource = \"host\"\nspeed = 2.0\n");
    assert!(said.contains("stream s: speed") && said.contains("host"), "{said}");
}

#[test]
fn each_source_says_what_it_needs() {
    for (source, key) in [("replay", "file"), ("mqtt", "topic"), ("push", "signals")] {
        let said = refused(&format!("device = \"a\"\n[[stream]]\nname = \"s\"\nsource = \"{source}\"\n"));
        assert!(said.contains(&format!("stream s: {key}")), "{said}");
    }
    let said = refused("device = \"a\"\n[[stream]]\nname = \"s\"\nsource = \"replay\"\nfile = \"rows.csv\"\n");
    assert!(said.contains("stream s: step"), "{said}");
    let said = refused(
        "device = \"a\"\n[[stream]]\nname = \"s\"\nsource = \"replay\"\nfile = \"rows.csv\"\ntime_column = \"t\"\nstep = \"1s\"\n",
    );
    assert!(said.contains("stream s: time_column"), "{said}");
}

#[test]
fn streams_and_signals_have_one_name_each() {
    let said = refused(&format!("device = \"a\"\n{STREAM}{STREAM}"));
    assert!(said.contains("stream server") && said.contains("two streams"), "{said}");
    let said = refused(
        "device = \"a\"\n[[stream]]\nname = \"s\"\nsource = \"push\"\nsignals = [{name = \"x\"}, {name = \"x\"}]\n",
    );
    assert!(said.contains("x is named twice"), "{said}");
    assert!(refused("device = \"a\"\n").contains("[[stream]]"));
}

#[test]
fn addresses_are_checked() {
    for (broker, problem) in [
        ("http://h", "write mqtt://HOST:PORT"),
        ("mqtts://h", "TLS to the broker is not supported yet"),
        ("mqtt://h:0", "port 1 to 65535"),
        ("mqtt://h:x", "port 1 to 65535"),
        ("mqtt://", "mqtt://HOST:PORT"),
        ("mqtt://me:secret@h", "mqtt://HOST:PORT"),
    ] {
        let said = refused(&format!("device = \"a\"\n[registry]\nbroker = \"{broker}\"\n{STREAM}"));
        assert!(said.contains("registry.broker") && said.contains(problem), "{broker}: {said}");
    }
    for (broker, host, port) in
        [("mqtt://h", "h", 1883), ("mqtt://[::1]:7", "::1", 7), ("mqtt://10.0.0.1:1", "10.0.0.1", 1)]
    {
        let config = parse(&format!("device = \"a\"\n[registry]\nbroker = \"{broker}\"\n{STREAM}")).unwrap();
        assert_eq!(config.registry.unwrap().broker, Broker { host: host.to_owned(), port });
    }
    let said = refused(&format!("device = \"a\"\n[api]\nhttp = \"0.0.0.0:80\"\n{STREAM}"));
    assert!(said.contains("api.http") && said.contains("loopback"), "{said}");
    let said = refused(&format!("device = \"a\"\n[registry]\nbroker = \"mqtt://h\"\nurl = \"ftp://h\"\n{STREAM}"));
    assert!(said.contains("registry.url") && said.contains("http://HOST:PORT"), "{said}");
}

#[test]
fn drop_ins_are_laid_over_the_file_in_the_order_of_their_names() {
    let dir = folder();
    let path = dir.path().join("agent.toml");
    std::fs::write(&path, format!("device = \"a\"\n[sync]\nwindow = 1\n{STREAM}")).unwrap();
    std::fs::create_dir(dir.path().join("agent.d")).unwrap();
    std::fs::write(dir.path().join("agent.d/20.toml"), "[sync]\nwindow = 3\n").unwrap();
    std::fs::write(dir.path().join("agent.d/10.toml"), "[sync]\nwindow = 2\nbatch_records = 9\n").unwrap();
    std::fs::write(dir.path().join("agent.d/30.toml.off"), "nonsense").unwrap();
    let config = load(&path).unwrap();
    assert_eq!((config.sync.window, config.sync.batch_records), (3, 9));
    std::fs::write(dir.path().join("agent.d/40.toml"), "[sync]\n\nwindwo = 3\n").unwrap();
    let said = load(&path).unwrap_err().to_string();
    assert!(said.contains("agent.d/40.toml:3") && said.contains("`window`"), "{said}");
}

#[test]
fn what_the_journal_may_keep_has_defaults_and_ranges() {
    let config = parse(&format!("device = \"a\"\n{STREAM}")).unwrap();
    let [control, anomaly, ..] = config.retention.limits.classes;
    assert_eq!((control.bytes, anomaly.bytes, control.age), (16 << 20, 48 << 20, None));
    assert_eq!((config.retention.limits.free_bytes, config.retention.ballast_bytes), (4 << 20, 1 << 20));
    let text =
        format!("device = \"a\"\n[retention]\nanomaly = \"64KiB\"\nanomaly_age = \"30d\"\nballast = \"0B\"\n{STREAM}");
    let kept = parse(&text).unwrap().retention;
    assert_eq!(kept.limits.classes[1], ClassLimit { bytes: 65_536, age: Some(Duration::from_secs(30 * 86_400)) });
    assert_eq!(kept.ballast_bytes, 0);
    for (key, value) in [("control", "1KiB"), ("anomaly_age", "1s"), ("ballast", "1GiB"), ("telemetry", "1MiB")] {
        let said = refused(&format!("device = \"a\"\n[retention]\n{key} = \"{value}\"\n{STREAM}"));
        assert!(said.contains(key), "{said}");
    }
}

#[test]
fn a_configuration_has_one_digest_and_another_one_has_another() {
    let text = format!("device = \"a\"\n{STREAM}");
    assert_eq!(parse(&text).unwrap().digest, parse(&text).unwrap().digest);
    assert_ne!(parse(&text).unwrap().digest, parse(&format!("{text}interval = \"5s\"\n")).unwrap().digest);
    let document = |text: &str| Document { place: String::new(), text: text.to_owned() };
    let variable = |name: &str| vec![(name.to_owned(), "x".to_owned())].into_iter();
    let none = digest(&[document("ab")], Vec::new().into_iter());
    assert_ne!(none, digest(&[document("a"), document("b")], Vec::new().into_iter()));
    assert_ne!(none, digest(&[document("ab")], variable("VEDETTE_API__HTTP")));
    assert_eq!(none, digest(&[document("ab")], variable("VEDETTE_LOG")));
}
