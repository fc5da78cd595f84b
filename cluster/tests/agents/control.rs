//! The control socket, asked with bare HTTP, as curl does.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;
use std::{fs, thread};

use lunferry_cluster::agent::control::{ControlError, serve};
use lunferry_fixtures::cluster_live::LivePair;
use serde_json::{Value, json};

use crate::support::{Cluster, NAMES};

/// The status and the body.
fn ask(socket: &Path, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut stream = UnixStream::connect(socket).unwrap();
    let len = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: lunferry\r\nConnection: close\r\nContent-Length: {len}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {text}")))
}

fn served(count: usize) -> Cluster {
    let cluster = Cluster::started(count, LivePair::new(400, Duration::from_millis(8)));
    for index in 0..count {
        serve(cluster.handle(index)).unwrap();
    }
    cluster
}

#[test]
fn every_node_tells_of_the_whole_cluster_and_how_old_that_is() {
    let cluster = served(2);
    cluster.begun();
    for (index, name) in NAMES.iter().enumerate().take(2) {
        let socket = cluster.socket(index);
        let (code, status) = ask(&socket, "GET", "/v1/status", "");
        assert_eq!((code, &status["node"]["name"]), (200, &json!(name)));
        assert_eq!(status["nodes"].as_array().unwrap().len(), 2);
        let (_, list) = ask(&socket, "GET", "/v1/migrations", "");
        assert_eq!(list["migrations"][0]["name"], "db01");
        let (_, one) = ask(&socket, "GET", "/v1/migrations/db01", "");
        assert_eq!((&one["state"], &one["length_bytes"]), (&json!("syncing"), &json!(400)));
        for key in ["epoch", "said_ms_ago", "durable_bytes", "written_bytes", "rate_bytes_per_s"] {
            assert!(one[key].is_u64(), "{key}: {one}");
        }
        assert!(one["nodes"].as_array().unwrap().iter().all(|node| node["heard_ms_ago"].is_u64()), "{one}");
        // Who takes part itself goes by what it knows, which is as old as the asking.
        assert_eq!((&one["according_to"]["name"], &one["said_ms_ago"]), (&json!(name), &json!(0)));
    }
}

#[test]
fn orders_are_taken_and_errors_say_what_to_do() {
    let cluster = served(1);
    let socket = cluster.socket(0);
    let post = |path: &str, body: &str| ask(&socket, "POST", &format!("/v1/migrations/{path}"), body);
    assert_eq!(post("db01/define", ""), (200, json!({ "result": "accepted", "migration": "db01", "by": "alpha" })));
    cluster.until(0, "it is the mover", |view| view.mover.is_some());
    assert_eq!(post("db01/throttle", r#"{"limit_bytes_per_s": 1048576}"#).0, 200);
    assert_eq!(cluster.pair.limit().map(|limit| limit.0), Some(1 << 20));
    assert_eq!(post("db01/throttle", r#"{"limit_bytes_per_s": null}"#).0, 200);
    assert_eq!(cluster.pair.limit(), None);
    assert_eq!(post("db01/sync", "").0, 200);
    let cases = [
        ("db01/define", "", 409, "state"),
        ("db01/resume", "", 409, "busy"),
        ("db02/sync", "", 404, "no_such_migration"),
        ("db01/destroy", "", 404, "no_such_order"),
        ("db01/move-to", "", 400, "bad_body"),
        ("db01/move-to", r#"{"node": "delta"}"#, 400, "no_such_node"),
        ("db01/evict", r#"{"node": "alpha"}"#, 409, "no_member"),
        ("db01/sync", r#"{"node": "alpha"}"#, 400, "bad_body"),
        ("db01/sync", "{", 400, "bad_body"),
        ("db01/throttle", "{}", 400, "bad_body"),
        ("db01/throttle", r#"{"limit_bytes_per_s": 0}"#, 400, "bad_limit"),
        ("db01/throttle", r#"{"limit": 1}"#, 400, "bad_body"),
    ];
    for (path, body, status, code) in cases {
        let (found, answer) = post(path, body);
        // A step may have ended by now; then the state is what stands against it.
        let is_expected = answer["error"]["code"] == code || (code == "busy" && answer["error"]["code"] == "state");
        assert!(found == status && is_expected, "{path} {body}: {found} {answer}, not {status} {code}");
        let text = |key: &str| answer["error"][key].as_str().unwrap().to_owned();
        assert!(!text("message").is_empty() && !text("mend").is_empty(), "{answer}");
    }
    assert_eq!(ask(&socket, "GET", "/v2", "").0, 404);
    assert_eq!(ask(&socket, "DELETE", "/v1/status", "").1["error"]["code"], "wrong_method");
}

#[test]
fn events_come_as_lines_until_the_agent_ends() {
    let mut cluster = served(1);
    let mut stream = UnixStream::connect(cluster.socket(0)).unwrap();
    stream.write_all(b"GET /v1/events HTTP/1.1\r\nHost: lunferry\r\nConnection: close\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines();
    // The head comes once the stream is watched.
    assert!(lines.next().unwrap().unwrap().contains("200"));
    let reading = thread::spawn(move || {
        let lines: Vec<String> = lines.map_while(Result::ok).filter(|line| line.starts_with('{')).collect();
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    });
    cluster.wish(0, lunferry_cluster::event::Wish::Define);
    cluster.until(0, "it is the mover", |view| view.mover.is_some());
    cluster.leave(0);
    let events = reading.join().unwrap();
    let names: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert!(names.contains(&"took_over") && names.last() == Some(&"left"), "{events:?}");
    assert!(events.iter().all(|event| event["migration"] == "db01" && event["unix_ms"].as_u64() > Some(0)));
}

#[test]
fn the_socket_is_nobody_elses() {
    let cluster = served(1);
    let socket = cluster.socket(0);
    assert_eq!(fs::metadata(&socket).unwrap().mode() & 0o777, 0o660);
    assert!(matches!(serve(cluster.handle(0)), Err(ControlError::Taken { .. })));

    // What a killed agent has left is replaced; a directory that others may write to is refused.
    let mut other = Cluster::new(1, LivePair::new(10, Duration::from_millis(1)));
    drop(std::os::unix::net::UnixListener::bind(other.socket(0)).unwrap());
    other.start(0);
    fs::set_permissions(other.dir.path(), fs::Permissions::from_mode(0o770)).unwrap();
    assert!(matches!(serve(other.handle(0)), Err(ControlError::Open { mode: 0o770, .. })));
    fs::set_permissions(other.dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    serve(other.handle(0)).unwrap();
    assert_eq!(ask(&other.socket(0), "GET", "/v1/status", "").0, 200);
}

/// The keys of a section's table in the document.
fn documented(section: &str) -> BTreeSet<String> {
    let document = include_str!("../../../docs/api.md");
    let (_, rest) = document.split_once(&format!("\n## {section}\n")).unwrap_or_else(|| panic!("no section {section}"));
    let rows = rest.lines().take_while(|line| !line.starts_with("## ")).filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| Some(row.split_once('`')?.0.to_owned())).collect()
}

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().unwrap().keys().cloned().collect()
}

#[test]
fn the_document_has_every_key_and_no_other() {
    let cluster = served(1);
    let socket = cluster.socket(0);
    let mut watch = cluster.handle(0).watch().unwrap();
    let (_, accepted) = ask(&socket, "POST", "/v1/migrations/db01/define", "");
    assert_eq!(keys(&accepted), documented("Accepted"));
    let happened = cluster.event(&mut watch, "took_over");
    assert_eq!(keys(&serde_json::to_value(happened).unwrap()), documented("Events"));
    let (_, status) = ask(&socket, "GET", "/v1/status", "");
    assert_eq!(keys(&status), documented("The agent"));
    assert_eq!(keys(&status["migrations"][0]), documented("A migration"));
}
