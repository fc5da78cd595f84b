//! The agent's config file: what it says, and every mistake in it.
//!
//! Pure: text in, values or mistakes out. All nodes of a cluster can share one file; which of them this one is comes from the
//! command line, the file, or the host's name.
//!
//! ```text
//!   read     values out of a parsed file, each with its place
//!   nodes    who belongs to the cluster, and which of them this one is
//!   timing   the time spans, checked against each other
//!   moves    the migrations
//! ```
//!
//! What must hold: a mistake never hides another one; each is named with its line and column, the value, and the mend.

mod moves;
mod nodes;
mod read;
#[cfg(test)]
mod tests;
mod timing;

use core::net::SocketAddr;
use std::fmt;
use std::path::PathBuf;

use lunferry_engine::units::{Bytes, BytesPerSecond};
use lunferry_scsi::key::NodeId;
use uuid::Uuid;

use self::read::{Reader, Table};
use crate::config::{Silent, Timing};

/// Where the control socket is, unless the file says otherwise.
pub const CONTROL_SOCKET: &str = "/run/lunferry/agent.sock";

/// Where the agent keeps what it must know again after a restart, unless the file says otherwise.
pub const STATE_DIR: &str = "/var/lib/lunferry";

/// The longest path of a unix socket: `sun_path` with its closing zero has 108 bytes.
const LONGEST_SOCKET: usize = 107;

/// What the file says, for one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Which cluster.
    pub cluster: Uuid,
    /// Which node this is.
    pub me: NodeId,
    /// Every node, in rising order of the ids.
    pub nodes: Vec<Peer>,
    /// The key that datagrams are sent with.
    pub key_file: PathBuf,
    /// A second key that is accepted, while the key changes.
    pub other_key_file: Option<PathBuf>,
    /// What must be known again after a restart.
    pub state_dir: PathBuf,
    /// Where operators ask.
    pub control_socket: PathBuf,
    /// The time spans.
    pub timing: Timing,
    /// What is to be moved, in the order of the file.
    pub migrations: Vec<Migration>,
}

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its number.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Where it hears: one address in each network, the same networks in the same order for every node.
    pub addresses: Vec<SocketAddr>,
}

/// One migration, as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    /// What operators call it.
    pub name: String,
    /// What the target's checkpoint calls it.
    pub uuid: Uuid,
    /// The source: a path on this node.
    pub source: String,
    /// Which LUN the source must be, as `lunferry lun show` tells it; nothing where the path alone says so.
    pub source_identity: Option<String>,
    /// The target: a path on this node.
    pub target: String,
    /// Which LUN the target must be.
    pub target_identity: Option<String>,
    /// Types of signatures on the target that may be overwritten.
    pub overwrite_signatures: Vec<String>,
    /// Whether other agents of this cluster run on this machine, each with a loop device of its own over the same files.
    pub loop_siblings: bool,
    /// How fast it may be copied, at first.
    pub limit: Option<BytesPerSecond>,
    /// What becomes of a silent member.
    pub silent: Silent,
    /// How far the window may reach past what is copied.
    pub window: Bytes,
}

/// A mistake in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The line, from 1.
    pub line: usize,
    /// The column, in characters from 1.
    pub column: usize,
    /// What is wrong, and the mend.
    pub what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.what)
    }
}

/// What says which node this is.
#[derive(Clone, Copy, Debug)]
pub struct Whoami<'a> {
    /// The command line; it goes before the file.
    pub asked: Option<&'a str>,
    /// The host's name, where neither says so.
    pub host: &'a str,
}

impl Settings {
    /// This node.
    ///
    /// # Panics
    /// Never: settings that were read name it.
    pub fn this(&self) -> &Peer {
        self.node(self.me).expect("this node is one of the nodes")
    }

    /// A node by its number.
    pub fn node(&self, id: NodeId) -> Option<&Peer> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// A node by its name, or by its number in digits.
    pub fn node_named(&self, name: &str) -> Option<&Peer> {
        let by_number = || self.nodes.iter().find(|node| node.id.0.to_string() == name);
        self.nodes.iter().find(|node| node.name == name).or_else(by_number)
    }
}

const TOP: &[&str] =
    &["cluster", "node", "key_file", "other_key_file", "state_dir", "control_socket", "timing", "nodes", "migrations"];

/// Reads a config file.
///
/// # Errors
/// Every mistake in it, in the order of the lines.
pub fn parse(text: &str, whoami: Whoami<'_>) -> Result<Settings, Vec<Mistake>> {
    let mut reader = Reader::new(text);
    let document = reader.document();
    let settings = read_all(&mut reader, &document.table(), whoami);
    let mistakes = reader.mistakes();
    match settings {
        Some(settings) if mistakes.is_empty() => Ok(settings),
        Some(_) | None => Err(mistakes),
    }
}

/// Nothing only where a mistake was noted.
fn read_all(reader: &mut Reader<'_>, top: &Table<'_>, whoami: Whoami<'_>) -> Option<Settings> {
    reader.only(top, TOP);
    let cluster = reader.uuid(top, "cluster");
    let key_file = reader.path(top, "key_file");
    if key_file.is_none() && !top.has("key_file") {
        reader.missing(top, "key_file", "name the file with the cluster's key; `lunferry agent key` makes one");
    }
    let other_key_file = reader.path(top, "other_key_file");
    let state_dir = reader.path(top, "state_dir").unwrap_or_else(|| STATE_DIR.into());
    let control_socket = reader.path(top, "control_socket").unwrap_or_else(|| CONTROL_SOCKET.into());
    if control_socket.as_os_str().len() > LONGEST_SOCKET {
        let at = top.place("control_socket");
        reader.mistake(
            at,
            format!("`control_socket` has more than the {LONGEST_SOCKET} bytes that a socket's path can have"),
        );
    }
    let timing = timing::read(reader, top);
    let everybody = nodes::read(reader, top);
    let me = nodes::this(reader, top, &everybody, whoami);
    let migrations = moves::read(reader, top, &everybody, me);
    Some(Settings {
        cluster: cluster?,
        me: me?,
        nodes: everybody.nodes,
        key_file: key_file?,
        other_key_file,
        state_dir,
        control_socket,
        timing,
        migrations,
    })
}
