//! The migrations of a config file.
//!
//! Pure: part of `settings.rs`.

use lunferry_engine::units::Bytes;
use lunferry_scsi::key::NodeId;

use super::Migration;
use super::nodes::{self, Everybody};
use super::read::{Reader, Table};
use crate::config::Silent;

pub(super) const KEYS: &[&str] = &[
    "name",
    "uuid",
    "source",
    "source_identity",
    "target",
    "target_identity",
    "overwrite_signatures",
    "loop_siblings",
    "limit",
    "silent",
    "window",
];

/// How far the window reaches past what is copied, unless the file says otherwise.
const WINDOW: Bytes = Bytes::mib(256);

/// Below this the copy would wait for its members more than it copies.
const LEAST_WINDOW: Bytes = Bytes::mib(1);

/// Every migration, as `me` sees it. Nothing in it is right where `me` is nobody, which is a mistake already.
pub(super) fn read(
    reader: &mut Reader<'_>,
    top: &Table<'_>,
    everybody: &Everybody,
    me: Option<NodeId>,
) -> Vec<Migration> {
    let mut migrations: Vec<Migration> = Vec::new();
    for table in reader.tables(top, "migrations") {
        if let Some(migration) = one(reader, &table, everybody, me) {
            for other in &migrations {
                against(reader, &table, &migration, other);
            }
            migrations.push(migration);
        }
    }
    migrations
}

fn one(reader: &mut Reader<'_>, table: &Table<'_>, everybody: &Everybody, me: Option<NodeId>) -> Option<Migration> {
    reader.only(table, KEYS);
    let name = nodes::name(reader, table);
    let uuid = reader.uuid(table, "uuid");
    let source = lun(reader, table, "source", everybody, me);
    let target = lun(reader, table, "target", everybody, me);
    if let (Some(source), Some(target)) = (&source, &target)
        && source == target
    {
        let what = format!("`target` is `{target}`, which is the source; name the LUN to copy to");
        reader.mistake(table.place("target"), what);
    }
    let limit = reader.parsed(table, "limit");
    let window = reader.parsed(table, "window").unwrap_or(WINDOW);
    if window < LEAST_WINDOW {
        let what = format!("`window` is {window}; write at least {LEAST_WINDOW}");
        reader.mistake(table.place("window"), what);
    }
    let silent = silent(reader, table);
    let [source_identity, target_identity] =
        ["source_identity", "target_identity"].map(|key| reader.text(table, key).map(str::to_owned));
    let signatures = reader.texts(table, "overwrite_signatures");
    let loop_siblings = reader.flag(table, "loop_siblings").unwrap_or_default();
    Some(Migration {
        name: name?,
        uuid: uuid?,
        source: source?,
        source_identity,
        target: target?,
        target_identity,
        overwrite_signatures: signatures.into_iter().map(|(kind, _)| kind.to_owned()).collect(),
        loop_siblings,
        limit,
        silent,
        window,
    })
}

/// A LUN by its path: one for all nodes, or one for each.
fn lun(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    key: &str,
    everybody: &Everybody,
    me: Option<NodeId>,
) -> Option<String> {
    if !table.has(key) {
        reader.missing(table, key, "write a device's path, or a table with one for each node");
    }
    let names: Vec<&str> = everybody.nodes.iter().map(|peer| peer.name.as_str()).collect();
    let own = everybody.nodes.iter().position(|peer| Some(peer.id) == me);
    let given = reader.text_for(table, key, &names, everybody.complete);
    given.into_iter().find(|(_, node)| node.is_none() || *node == own).map(|(text, _)| text.to_owned())
}

fn silent(reader: &mut Reader<'_>, table: &Table<'_>) -> Silent {
    match reader.text(table, "silent") {
        None | Some("evict") => Silent::Evict,
        Some("wait") => Silent::Wait,
        Some(other) => {
            let what = format!("`silent` is `{other}`; write \"evict\" or \"wait\"");
            reader.mistake(table.place("silent"), what);
            Silent::Evict
        }
    }
}

fn against(reader: &mut Reader<'_>, table: &Table<'_>, migration: &Migration, other: &Migration) {
    if migration.name == other.name {
        let what = format!("`{}` is the name of another migration already; give each its own", migration.name);
        reader.mistake(table.place("name"), what);
    }
    if migration.uuid == other.uuid {
        let what = format!("{} is the UUID of `{}` already; give each its own", migration.uuid, other.name);
        reader.mistake(table.place("uuid"), what);
    }
    for (key, lun) in [("source", &migration.source), ("target", &migration.target)] {
        if [&other.source, &other.target].contains(&lun) {
            let what = format!("`{lun}` belongs to `{}` already; a LUN is part of one migration", other.name);
            reader.mistake(table.place(key), what);
        }
    }
}
