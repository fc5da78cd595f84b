//! Who belongs to the cluster, and which of them this one is.
//!
//! Pure: part of `settings.rs`.

use core::net::SocketAddr;

use lunferry_engine::checkpoint::layout::AreaSpec;
use lunferry_scsi::key::NodeId;

use super::read::{Place, Reader, Table};
use super::{Peer, Whoami};

const KEYS: &[&str] = &["id", "name", "addresses"];

/// Every node that could be read.
pub(super) struct Everybody {
    /// In rising order of the ids.
    pub(super) nodes: Vec<Peer>,
    /// Whether that is all of them: where not, a name that isn't here is no mistake of its own.
    pub(super) complete: bool,
}

pub(super) fn read(reader: &mut Reader<'_>, top: &Table<'_>) -> Everybody {
    let tables = reader.tables(top, "nodes");
    if tables.is_empty() && !top.has("nodes") {
        reader.missing(top, "nodes", "describe each node in a table [[nodes]] with `id`, `name` and `addresses`");
    }
    let mut nodes: Vec<(Peer, Place)> = Vec::new();
    let count = tables.len();
    for table in tables {
        if let Some(node) = one(reader, &table) {
            against_earlier(reader, &table, &node, &nodes);
            nodes.push((node, table.at));
        }
    }
    let mut nodes: Vec<Peer> = nodes.into_iter().map(|(node, _)| node).collect();
    nodes.sort_by_key(|node| node.id);
    nodes.dedup_by_key(|node| node.id);
    let complete = !nodes.is_empty() && nodes.len() == count;
    Everybody { nodes, complete }
}

fn one(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<Peer> {
    reader.only(table, KEYS);
    // The target's metadata area has a heartbeat block for each id, and 0 stands for "no node".
    let id = reader.number(table, "id", 1..AreaSpec::V1.nodes.into()).and_then(|id| u16::try_from(id).ok());
    if id.is_none() && !table.has("id") {
        let last = AreaSpec::V1.nodes - 1;
        let mend =
            format!("write a number from 1 to {last} that is this node's for good: it stands in reservation keys");
        reader.missing(table, "id", &mend);
    }
    let name = name(reader, table);
    let addresses = addresses(reader, table);
    Some(Peer { id: NodeId(id?), name: name?, addresses })
}

/// A name that is good in paths, URLs and tables.
pub(super) fn name(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<String> {
    if !table.has("name") {
        reader.missing(table, "name", "write one of letters, digits, `.`, `_` and `-`");
    }
    let name = reader.text(table, "name")?;
    let is_good = name.len() <= 64 && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if !is_good {
        let what = format!("`name` is `{name}`; write at most 64 letters, digits, `.`, `_` and `-`");
        reader.mistake(table.place("name"), what);
    }
    is_good.then(|| name.to_owned())
}

fn addresses(reader: &mut Reader<'_>, table: &Table<'_>) -> Vec<SocketAddr> {
    if !table.has("addresses") {
        reader.missing(
            table,
            "addresses",
            "write one for each network, such as [\"192.0.2.1:7411\", \"[2001:db8::1]:7411\"]",
        );
    }
    let mut found = Vec::new();
    let texts = reader.texts(table, "addresses");
    for (text, at) in &texts {
        match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_unspecified() || address.ip().is_multicast() || address.port() == 0 => {
                reader
                    .mistake(*at, format!("`{text}` is nobody's own address; write one of the node's own and a port"));
            }
            Ok(address) if found.contains(&address) => {
                reader.mistake(*at, format!("`{text}` stands here twice; leave one out"));
            }
            Ok(address) => found.push(address),
            Err(_) => {
                let mend = "write an IP address and a port, such as 192.0.2.1:7411 or [2001:db8::1]:7411";
                reader.mistake(*at, format!("`{text}` is no address; {mend}"));
            }
        }
    }
    if texts.is_empty() && table.has("addresses") {
        reader.mistake(table.place("addresses"), "`addresses` is empty; write one for each network".into());
    }
    found
}

fn against_earlier(reader: &mut Reader<'_>, table: &Table<'_>, node: &Peer, earlier: &[(Peer, Place)]) {
    for (other, _) in earlier {
        if other.id == node.id {
            let what = format!("node {} is `{}` already; give each node a number of its own", node.id.0, other.name);
            reader.mistake(table.place("id"), what);
        }
        if other.name == node.name {
            let what =
                format!("`{}` is the name of node {} already; give each a name of its own", node.name, other.id.0);
            reader.mistake(table.place("name"), what);
        }
        for address in node.addresses.iter().filter(|address| other.addresses.contains(address)) {
            let what = format!("{address} is an address of `{}` already; each node has its own", other.name);
            reader.mistake(table.place("addresses"), what);
        }
    }
    let Some((model, _)) = earlier.first() else {
        return;
    };
    let same = model.addresses.len() == node.addresses.len()
        && model.addresses.iter().zip(&node.addresses).all(|(a, b)| a.is_ipv4() == b.is_ipv4());
    if !same && !model.addresses.is_empty() && !node.addresses.is_empty() {
        let what = format!(
            "`{}` has other networks than `{}`; give every node one address in each network, in the same order",
            node.name, model.name
        );
        reader.mistake(table.place("addresses"), what);
    }
}

/// Which of them this one is.
pub(super) fn this(
    reader: &mut Reader<'_>,
    top: &Table<'_>,
    everybody: &Everybody,
    whoami: Whoami<'_>,
) -> Option<NodeId> {
    let in_file = reader.text(top, "node");
    let (name, from) = match (whoami.asked, in_file) {
        (Some(asked), _) => (asked, "--node"),
        (None, Some(name)) => (name, "`node`"),
        (None, None) => (whoami.host, "this host's name"),
    };
    let found = everybody.nodes.iter().find(|node| node.name == name).map(|node| node.id);
    if found.is_none() && everybody.complete {
        let names: Vec<&str> = everybody.nodes.iter().map(|node| node.name.as_str()).collect();
        let mend = "name one of them with --node or `node`";
        let what =
            format!("{from} is `{name}`, which is no node of this file; there are: {}; {mend}", names.join(", "));
        reader.mistake(top.place("node"), what);
    }
    found
}
