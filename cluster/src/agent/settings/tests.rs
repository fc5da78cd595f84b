//! Tests of the config file: what is read, and every mistake in its place.
//!
//! Pure: as what it tests.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing there")]

use super::*;
use crate::config::Ms;

const GOOD: &str = r#"cluster = "6f0c1d9e-6a0e-4e0e-9a4b-0d6f1a2b3c4d"
key_file = "/etc/lunferry/cluster.key"

[[nodes]]
id = 1
name = "alpha"
addresses = ["192.0.2.1:7411", "[2001:db8::1]:7411"]

[[nodes]]
id = 2
name = "beta"
addresses = ["192.0.2.2:7411", "[2001:db8::2]:7411"]

[[migrations]]
name = "db01"
uuid = "11111111-2222-4333-8444-555555555555"
source = "/dev/sda"
target = { alpha = "/dev/sdb", beta = "/dev/sdc" }
limit = "200MiB/s"
silent = "wait"
"#;

fn read(text: &str) -> Result<Settings, Vec<Mistake>> {
    parse(text, Whoami { asked: Some("beta"), host: "nowhere" })
}

/// The good file with `from` replaced: its mistakes as text.
fn with(from: &str, to: &str) -> Vec<String> {
    assert!(GOOD.contains(from), "the file has no `{from}`");
    read(&GOOD.replace(from, to)).map_or_else(|mistakes| mistakes.iter().map(ToString::to_string).collect(), |_| vec![])
}

#[test]
fn a_good_file_says_what_it_says() {
    let settings = read(GOOD).unwrap();
    assert_eq!((settings.me, settings.this().name.as_str()), (NodeId(2), "beta"));
    assert_eq!(settings.nodes[0].addresses[1], "[2001:db8::1]:7411".parse().unwrap());
    assert_eq!((settings.timing, settings.control_socket), (Timing::DEFAULT, CONTROL_SOCKET.into()));
    let [migration] = &settings.migrations[..] else { panic!("one migration") };
    assert_eq!((migration.source.as_str(), migration.target.as_str()), ("/dev/sda", "/dev/sdc"));
    assert_eq!((migration.limit, migration.silent), (Some(BytesPerSecond(200 << 20)), Silent::Wait));
    let alpha = parse(GOOD, Whoami { asked: None, host: "alpha" }).unwrap();
    assert_eq!((alpha.me, alpha.migrations[0].target.as_str()), (NodeId(1), "/dev/sdb"));
    let timed = format!("{GOOD}[timing]\nbeat_ms = 500\nact_after_ms = 2_000\nmissed = 2\n");
    let timing = Timing { beat: Ms(500), act_after: Ms(2_000), missed: 2, rank_delay: Ms(501), ..Timing::DEFAULT };
    assert_eq!(read(&format!("{timed}rank_delay_ms = 501\n")).unwrap().timing, timing);
}

#[test]
fn each_mistake_is_named_with_its_place_and_the_mend() {
    let cases = [
        ("6f0c1d9e-6a0e-4e0e-9a4b-0d6f1a2b3c4d", "6f0c", "1:11: `cluster` is `6f0c`, which is no UUID"),
        ("\"/etc/lunferry/cluster.key\"", "\"cluster.key\"", "2:12: `key_file` is `cluster.key`; write the whole path"),
        ("key_file", "keyfile", "2:1: `keyfile` is no setting here; there are: cluster, node,"),
        ("id = 2", "id = 0", "10:6: `id` is 0; write a number from 1 to 15"),
        ("id = 2", "id = \"2\"", "10:6: `id` is of the type string; write a whole number"),
        ("id = 2", "id = 1", "10:6: node 1 is `alpha` already"),
        ("id = 2\n", "", "9:1: `id` is missing"),
        ("192.0.2.2:7411", "192.0.2.2", "12:14: `192.0.2.2` is no address; write an IP address and a port"),
        ("192.0.2.2:7411", "0.0.0.0:7411", "12:14: `0.0.0.0:7411` is nobody's own address"),
        ("192.0.2.2:7411", "192.0.2.1:7411", "12:13: 192.0.2.1:7411 is an address of `alpha` already"),
        ("\"192.0.2.2:7411\", ", "", "12:13: `beta` has other networks than `alpha`"),
        ("name = \"db01\"", "name = \"db 01\"", "15:8: `name` is `db 01`; write at most 64 letters"),
        ("\"/dev/sda\"", "\"/dev/sdc\"", "18:10: `target` is `/dev/sdc`, which is the source"),
        ("source = \"/dev/sda\"\n", "", "14:1: `source` is missing"),
        (", beta = \"/dev/sdc\"", "", "18:10: `beta` is missing; `target` is given for each node"),
        ("beta = \"/dev/sdc\"", "beta = 7", "18:39: `beta` is of the type integer"),
        ("200MiB/s", "fast", "19:9: `limit`: `fast` is no size"),
        ("200MiB/s", "0", "19:9: `limit`: a limit of 0 would never end"),
        ("\"wait\"", "\"panic\"", "20:10: `silent` is `panic`; write \"evict\" or \"wait\""),
        ("silent = \"wait\"", "window = \"4KiB\"", "20:10: `window` is 4.0 KiB; write at least 1.0 MiB"),
        (
            "silent = \"wait\"",
            "loop_siblings = 1",
            "20:17: `loop_siblings` is of the type integer; write true or false",
        ),
        ("silent = \"wait\"", "source_identity = \"\"", "20:19: `source_identity` is empty"),
        ("silent = \"wait\"", "overwrite_signatures = \"ext4\"", "20:24: `overwrite_signatures` is of the type string"),
        ("silent = \"wait\"", "silent = ", "20:1"),
    ];
    for (from, to, expected) in cases {
        let found = with(from, to);
        assert!(
            found.iter().any(|mistake| mistake.starts_with(expected)),
            "{from} -> {to}: {found:#?}, not {expected}"
        );
    }
}

#[test]
fn time_spans_are_checked_against_each_other() {
    let cases = [
        ("act_after_ms = 750", "`act_after_ms` is 750, which must be above `beat_ms` times `missed` (750)"),
        ("stale_after_ms = 500", "`stale_after_ms` is 500, which must be above two beats (500)"),
        ("look_every_ms = 2000", "`stale_after_ms` is 2000, which must be above `look_every_ms` (2000)"),
        ("evict_after_ms = 750", "`evict_after_ms` is 750"),
        ("rank_delay_ms = 250", "`rank_delay_ms` is 250, which must be above `beat_ms` (250)"),
        ("resend_ms = 1000", "`max_pause_ms` is 2000, which must be above twice `resend_ms` (2000)"),
        ("hand_over_ms = 2000", "`hand_over_ms` is 2000, which must be above `max_pause_ms` (2000)"),
        ("beat_ms = 10", "`beat_ms` is 10; write a number from 125 to 3600000"),
        ("tries = 0", "`tries` is 0; write a number from 1 to 1000"),
        ("beet_ms = 250", "`beet_ms` is no setting here; there are: beat_ms,"),
    ];
    for (line, expected) in cases {
        let found = read(&format!("{GOOD}[timing]\n{line}\n")).unwrap_err();
        assert!(found.iter().any(|mistake| mistake.what.starts_with(expected)), "{line}: {found:#?}");
        assert!(found.iter().all(|mistake| mistake.line >= 21), "{line}: {found:#?}");
    }
}

#[test]
fn no_mistake_hides_another_one() {
    let text = GOOD.replace("id = 1", "id = 70000").replace("200MiB/s", "fast").replace("\"wait\"", "3");
    let places: Vec<usize> = read(&text).unwrap_err().iter().map(|mistake| mistake.line).collect();
    assert_eq!(places, [5, 19, 20]);
    let lines: Vec<usize> = read("").unwrap_err().iter().map(|mistake| mistake.line).collect();
    assert_eq!(lines, [1, 1, 1], "no cluster, no key, no nodes");
}

#[test]
fn nobody_is_taken_for_a_node() {
    let mistakes = parse(GOOD, Whoami { asked: None, host: "gamma" }).unwrap_err();
    let expected = "this host's name is `gamma`, which is no node of this file; there are: alpha, beta";
    assert!(mistakes[0].what.starts_with(expected), "{mistakes:?}");
    assert!(parse(GOOD, Whoami { asked: Some("alpha"), host: "gamma" }).is_ok());
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(?s).{0,200}", at: proptest::sample::Index, more in "[\\[\\]{}=\"a-z\n]{0,6}") {
        let _ = read(&text);
        // A good file with something else in the middle.
        let place = at.index(GOOD.len());
        if GOOD.is_char_boundary(place) {
            let _ = read(&format!("{}{more}{}", &GOOD[..place], &GOOD[place..]));
        }
    }
}

/// What a commented line of the example would set.
fn uncommented(text: &str) -> String {
    let is_setting = |line: &&str| line.starts_with("# ") && line[2..].split(' ').nth(1) == Some("=");
    text.lines().map(|line| if is_setting(&line) { &line[2..] } else { line }).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_is_good_and_shows_every_setting() {
    let example = include_str!("../../../../docs/agent.example.toml");
    for host in ["alpha", "beta", "gamma"] {
        let settings = parse(example, Whoami { asked: None, host }).unwrap();
        assert_eq!((settings.this().name.as_str(), settings.timing), (host, Timing::DEFAULT));
    }
    let all = uncommented(example);
    let settings = parse(&all, Whoami { asked: None, host: "nowhere" }).unwrap();
    assert_eq!(settings.me, NodeId(1), "`node` is shown");
    let migration = &settings.migrations[0];
    assert!(settings.other_key_file.is_some() && migration.limit.is_some() && migration.source_identity.is_some());
    assert_eq!((settings.state_dir, settings.control_socket), (STATE_DIR.into(), CONTROL_SOCKET.into()));
    // What the example doesn't show is no setting: each key of the reader stands in it.
    let shown = |key: &str| {
        all.lines().any(|line| {
            line.starts_with(&format!("{key} = "))
                || line.trim() == format!("[{key}]")
                || line.trim() == format!("[[{key}]]")
        })
    };
    let missing: Vec<&&str> = TOP.iter().chain(moves::KEYS).filter(|key| !shown(key)).collect();
    assert!(missing.is_empty(), "the example doesn't show {missing:?}");
}
