//! `lunferry agent` and `lunferry migration`: one agent on file LUNs, from its key to its end.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use lunferry_fixtures::stamp;
use nix::sys::signal::Signal;

use crate::support::{Background, Files, MIB, alone, assert_holds, json, lunferry, text};

const SIZE: usize = 8 * MIB;

/// A directory with everything that one agent needs.
struct Scene {
    files: Files,
    config: PathBuf,
    socket: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let files = Files::new();
        let (key, config, socket) = (files.path("key"), files.path("agent.toml"), files.path("agent.sock"));
        assert_eq!(json(0, &["agent", "key", "--out", text(&key)])["result"], "made");
        let (source, target) = (files.stamped("source", SIZE, 1), files.hole("target", 2 * SIZE));
        // Nobody else on this machine has this address: it's the process' own.
        let [_, _, a, b] = std::process::id().to_be_bytes();
        let lines = [
            "cluster = \"6f0c1d9e-6a0e-4e0e-9a4b-0d6f1a2b3c4d\"".to_owned(),
            "node = \"alpha\"".to_owned(),
            format!("key_file = \"{}\"", key.display()),
            format!("state_dir = \"{}\"", files.path("state").display()),
            format!("control_socket = \"{}\"", socket.display()),
            "[[nodes]]\nid = 1\nname = \"alpha\"".to_owned(),
            format!("addresses = [\"127.{a}.{b}.9:7411\"]"),
            "[[migrations]]\nname = \"db01\"\nuuid = \"11111111-2222-4333-8444-555555555555\"".to_owned(),
            format!("source = \"{}\"\ntarget = \"{}\"", source.display(), target.display()),
        ];
        fs::write(&config, lines.join("\n")).unwrap();
        fs::set_permissions(files.path(""), fs::Permissions::from_mode(0o700)).unwrap();
        Self { files, config, socket }
    }

    fn start(&self) -> Background {
        let mut agent = Background::start(&["agent", "--config", text(&self.config)]);
        agent.wait_for("both LUNs are open");
        agent
    }

    /// The arguments of a question to the agent.
    fn ask<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        [&["migration", "--socket", text(&self.socket)], args].concat()
    }
}

#[test]
fn a_config_is_checked_to_its_last_mistake() {
    let _alone = alone();
    let scene = Scene::new();
    let config = text(&scene.config);
    assert_eq!(json(0, &["agent", "check", "--config", config])["node"], "alpha");
    let good = fs::read_to_string(&scene.config).unwrap();
    fs::write(&scene.config, good.replace("id = 1", "id = 0").replace("uuid = \"1", "uuid = \"x")).unwrap();
    let run = lunferry(&["agent", "check", "--config", config]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""));
    for place in ["7:6: `id` is 0", "12:8: `uuid` is"] {
        assert!(run.stderr.contains(&format!("lunferry: {config}:{place}")), "{place}: {}", run.stderr);
    }
    let told = json(2, &["agent", "check", "--config", config]);
    let lines: Vec<_> = told["errors"].as_array().unwrap().iter().map(|error| error["line"].as_u64()).collect();
    assert_eq!(lines, [Some(7), Some(12)], "{told}");
    // The daemon says the same and doesn't start.
    assert_eq!(lunferry(&["agent", "--config", config]).code, Some(2));

    fs::write(&scene.config, good).unwrap();
    fs::set_permissions(scene.files.path("key"), fs::Permissions::from_mode(0o644)).unwrap();
    let told = json(2, &["agent", "check", "--config", config]);
    assert!(told["errors"][0]["message"].as_str().unwrap().contains("chmod 600"), "{told}");
    assert_eq!(json(1, &["agent", "key", "--out", text(&scene.files.path("key"))])["result"], "failed");
    let nowhere = json(2, &["agent", "check", "--config", "/nowhere/agent.toml"]);
    assert!(nowhere["errors"][0]["message"].as_str().unwrap().contains("/nowhere/agent.toml"), "{nowhere}");
}

#[test]
fn an_agent_copies_what_it_is_told_to_and_leaves_in_good_order() {
    let _alone = alone();
    let scene = Scene::new();
    let mut agent = scene.start();
    let refused = json(3, &scene.ask(&["sync", "db01"]));
    assert_eq!(refused["errors"][0]["code"], "no_mover", "{refused}");
    assert_eq!(json(2, &scene.ask(&["sync", "db02"]))["errors"][0]["code"], "no_such_migration");
    assert_eq!(json(2, &scene.ask(&["sync", "../status"]))["errors"][0]["code"], "no_such_migration");
    assert_eq!(json(0, &scene.ask(&["define", "db01"]))["by"], "alpha");
    agent.wait_for("is the mover");
    assert_eq!(json(0, &scene.ask(&["throttle", "db01", "64MiB/s"]))["result"], "accepted");
    agent.wait_for("at most");
    let run = lunferry(&scene.ask(&["sync", "db01"]));
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), "db01: sync has begun, by alpha\n"));
    agent.wait_for("source_selected");
    let status = json(0, &scene.ask(&["status", "db01"]));
    assert_eq!(status["migrations"][0]["state"], "source_selected");
    assert_eq!(status["migrations"][0]["durable_bytes"], SIZE);
    assert_eq!(json(0, &scene.ask(&["list"]))["migrations"].as_array().unwrap().len(), 1);
    let shown = lunferry(&scene.ask(&["status"])).stdout;
    for word in
        ["db01: source_selected, epoch 1", "mover    alpha", "durable  8.0 MiB of 8.0 MiB", "at most 64.0 MiB/s"]
    {
        assert!(shown.contains(word), "no `{word}` in: {shown}");
    }
    assert_eq!(json(3, &scene.ask(&["evict", "db01", "alpha"]))["errors"][0]["code"], "no_member");
    let second = json(4, &["agent", "--config", text(&scene.config)]);
    assert!(second["errors"][0]["message"].as_str().unwrap().contains("another agent runs"), "{second}");

    agent.signal(Signal::SIGTERM);
    let run = agent.end();
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(!scene.socket.exists(), "the socket is left");
    assert_holds(&scene.files.path("target"), &stamp::stamped(SIZE, 1));
    let gone = json(1, &scene.ask(&["status"]));
    assert_eq!(gone["errors"][0]["code"], "agent_unreachable", "{gone}");

    // The next start goes on where the last one was.
    let mut again = scene.start();
    again.wait_for("is the mover in epoch 2");
    assert_eq!(json(0, &scene.ask(&["status", "db01"]))["migrations"][0]["state"], "source_selected");
    again.signal(Signal::SIGINT);
    assert_eq!(again.end().code, Some(0));
}

#[test]
fn what_happens_is_watched_line_by_line() {
    let _alone = alone();
    let scene = Scene::new();
    let mut agent = scene.start();
    assert_eq!(json(2, &scene.ask(&["watch", "db02"]))["errors"][0]["code"], "no_such_migration");
    let mut watch = Background::start(&[&["--json"], &scene.ask(&["watch", "db01"])[..]].concat());
    watch.wait_for("watching");
    lunferry(&scene.ask(&["define", "db01"]));
    agent.wait_for("is the mover");
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.end().code, Some(0));
    let run = watch.end();
    assert_eq!(run.code, Some(1), "the stream has ended: {run:?}");
    let lines: Vec<serde_json::Value> = run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for event in ["took_over", "left"] {
        assert!(lines.iter().any(|line| line["event"] == event && line["migration"] == "db01"), "{event}: {run:?}");
    }
}
