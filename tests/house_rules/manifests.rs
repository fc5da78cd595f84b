//! Rules about `Cargo.toml` files: the direction of dependencies, and that each crate from outside is accounted for.

use std::collections::BTreeSet;

use toml::Table;

use crate::{File, caught, files, hold};

/// Who may depend on whom of ours. `fixtures` is for tests and benches, so it is allowed below by kind of dependency.
const ROOMS: &[(&str, &[&str])] = &[
    ("Cargo.toml", &["lunferry-cluster", "lunferry-engine", "lunferry-scsi"]),
    ("cluster/Cargo.toml", &["lunferry-engine", "lunferry-scsi"]),
    ("engine/Cargo.toml", &["lunferry-scsi"]),
    ("scsi/Cargo.toml", &[]),
    ("fixtures/Cargo.toml", &["lunferry-cluster", "lunferry-engine", "lunferry-scsi"]),
    ("bench/Cargo.toml", &["lunferry-cluster", "lunferry-engine", "lunferry-scsi", FIXTURES]),
    ("fuzz/Cargo.toml", &["lunferry-cluster", "lunferry-engine", "lunferry-scsi", FIXTURES]),
];
const FIXTURES: &str = "lunferry-fixtures";
const DEPENDENCIES_DOC: &str = "docs/dependencies.md";

fn parse(file: &File) -> Table {
    file.text.parse().unwrap_or_else(|error| panic!("{}: {error}", file.name))
}

/// The names in the tables of `kind` (`dependencies`, ...), those under `[target.*]` too.
fn dependencies(manifest: &Table, kind: &str) -> Vec<String> {
    let targets = manifest.get("target").and_then(|value| value.as_table());
    let tables = targets.into_iter().flat_map(|targets| targets.values().filter_map(|value| value.as_table()));
    std::iter::once(manifest)
        .chain(tables)
        .filter_map(|table| table.get(kind)?.as_table())
        .flat_map(|table| table.iter().map(|(key, value)| real_name(key, value)))
        .collect()
}

/// A dependency's name in the registry: `package = "..."` goes before the name that it was given here.
fn real_name(key: &str, value: &toml::Value) -> String {
    value.get("package").and_then(|name| name.as_str()).unwrap_or(key).to_owned()
}

fn direction_faults(manifest: &File) -> Vec<String> {
    let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == manifest.name) else {
        return vec![format!("{}: a room that has no place in the order of dependencies yet", manifest.name)];
    };
    let table = parse(manifest);
    let mut faults = Vec::new();
    for kind in ["dependencies", "build-dependencies", "dev-dependencies"] {
        for name in dependencies(&table, kind).iter().filter(|name| name.starts_with("lunferry")) {
            let for_tests = kind == "dev-dependencies" && name == FIXTURES;
            if !for_tests && !allowed.contains(&name.as_str()) {
                faults.push(format!("{}: [{kind}] must not name {name}", manifest.name));
            }
        }
    }
    faults
}

#[test]
fn dependencies_go_one_way() {
    let manifests: Vec<File> = files().into_iter().filter(|file| file.name.ends_with("Cargo.toml")).collect();
    assert!(manifests.len() >= ROOMS.len() - 1, "some rooms' manifests were not found");
    hold(&manifests.iter().flat_map(direction_faults).collect::<Vec<_>>());
}

#[test]
fn a_dependency_against_the_order_is_caught() {
    let sample = |name: &str, text: &str| direction_faults(&File { name: name.into(), text: text.into() });
    caught(&sample("scsi/Cargo.toml", "[dependencies]\nlunferry-engine.workspace = true"), "lunferry-engine");
    caught(
        &sample("engine/Cargo.toml", "[dependencies]\nlunferry-cluster = { path = '../cluster' }"),
        "lunferry-cluster",
    );
    caught(&sample("Cargo.toml", "[dependencies]\nlunferry-fixtures.workspace = true"), FIXTURES);
    caught(&sample("Cargo.toml", "[target.'cfg(unix)'.build-dependencies]\nlunferry-fixtures = '1'"), FIXTURES);
    caught(
        &sample("engine/Cargo.toml", "[dependencies]\ninner = { package = 'lunferry-cluster' }"),
        "lunferry-cluster",
    );
    caught(&sample("attic/Cargo.toml", ""), "attic");
    hold(&sample("engine/Cargo.toml", "[dev-dependencies]\nlunferry-fixtures.workspace = true"));
}

/// The crates from outside that a manifest at the top of a workspace brings in.
fn outside(manifest: &File) -> BTreeSet<String> {
    let table = parse(manifest);
    let shared = table.get("workspace").and_then(|value| value.as_table());
    let mut names: Vec<String> = shared.map(|shared| dependencies(shared, "dependencies")).unwrap_or_default();
    names.extend(dependencies(&table, "dependencies"));
    names.into_iter().filter(|name| !name.starts_with("lunferry")).collect()
}

/// The first cells of a table's rows, where they're code: "| `name` | ...".
fn rows(document: &str) -> BTreeSet<String> {
    document.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned())).collect()
}

fn account_faults(wanted: &BTreeSet<String>, document: &str) -> Vec<String> {
    let listed = rows(document);
    let missing = wanted.difference(&listed).map(|name| format!("{DEPENDENCIES_DOC}: no row for {name}"));
    let stale = listed.difference(wanted).map(|name| format!("{DEPENDENCIES_DOC}: {name} is no dependency"));
    missing.chain(stale).collect()
}

#[test]
fn every_crate_from_outside_is_accounted_for() {
    let files = files();
    let manifests = files.iter().filter(|file| ["Cargo.toml", "fuzz/Cargo.toml"].contains(&file.name.as_str()));
    let wanted: BTreeSet<String> = manifests.flat_map(outside).collect();
    assert!(wanted.contains("clap"), "the list of dependencies was not read: {wanted:?}");
    let document = files.iter().find(|file| file.name == DEPENDENCIES_DOC).expect(DEPENDENCIES_DOC);
    hold(&account_faults(&wanted, &document.text));
}

#[test]
fn every_room_takes_its_versions_from_the_root() {
    let faults: Vec<String> = files().iter().filter(|file| is_room(file)).flat_map(version_faults).collect();
    hold(&faults);
}

fn is_room(file: &File) -> bool {
    file.name.ends_with("Cargo.toml") && file.name != "fuzz/Cargo.toml"
}

fn version_faults(manifest: &File) -> Vec<String> {
    let table = parse(manifest);
    let kinds = ["dependencies", "build-dependencies", "dev-dependencies"];
    let tables = kinds.iter().filter_map(|kind| table.get(*kind)?.as_table());
    let own = tables.flatten().filter(|(_, value)| value.get("workspace").is_none());
    own.map(|(name, _)| format!("{}: {name} has a version of its own", manifest.name)).collect()
}

#[test]
fn a_missing_row_a_stale_row_and_an_own_version_are_caught() {
    let wanted = BTreeSet::from(["clap".to_owned()]);
    caught(&account_faults(&wanted, "| crate | why |\n| --- | --- |\n"), "no row for clap");
    caught(&account_faults(&wanted, "| `clap` | why |\n| `clip` | why |\n"), "clip is no dependency");
    hold(&account_faults(&wanted, "| `clap` | why |\n"));
    let manifest = |text: &str| File { name: "engine/Cargo.toml".into(), text: text.into() };
    caught(&version_faults(&manifest("[dependencies]\nclap = '4'")), "clap has a version of its own");
    hold(&version_faults(&manifest("[dependencies]\nclap.workspace = true")));
}
