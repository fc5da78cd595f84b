//! Opens the two LUNs of a migration for one start of a node.
//!
//! Acts: opens, locks, asks; starts the storage's threads. Nothing is written and nothing is registered.

use std::io;
use std::sync::Arc;

use lunferry_engine::checkpoint::record::StoredIdentity;
use lunferry_engine::copy::prepare::member::{MemberError, NamedPair, OpenPair, open_pair};
use lunferry_engine::copy::prepare::processors;
use lunferry_engine::copy::vehicle::UringPair;
use lunferry_engine::copy::vehicle::gated::Gated;
use lunferry_engine::copy::zeroes::ZeroMode;
use lunferry_engine::lock::claim::{Paths, has_none};
use lunferry_engine::lock::error::LockError;
use lunferry_engine::lock::node::ThisNode;
use lunferry_engine::lock::paths::{Means, Ways};
use lunferry_engine::lun::open::OpenLun;
use lunferry_engine::lun::sizing::{self, Sizing};
use lunferry_engine::units::Bytes;
use lunferry_scsi::key::{NodeId, OwnKey};
use thiserror::Error;
use uuid::Uuid;

use super::luns::Luns;
use super::record::Facts;
use super::start::start;
use super::{Reports, Storage};

/// A migration, as the config names it.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The migration and its two LUNs.
    pub pair: NamedPair,
    /// Its consistency group.
    pub group: Option<Uuid>,
    /// Every node of the cluster.
    pub nodes: Vec<NodeId>,
    /// How far the protocol's window may reach past what is copied.
    pub window: Bytes,
}

/// A pair that is open and at work.
pub struct Ready {
    /// The storage.
    pub storage: Box<dyn Storage>,
    /// How many bytes the protocol copies: the source without its overlay range.
    pub length: Bytes,
    /// What an operator should know of how it is done: one line each.
    pub notes: Vec<String>,
}

/// Why a migration's LUNs can't be put to use here. Nothing was written.
#[derive(Debug, Error)]
pub enum OpenError {
    /// They can't be opened, or a check forbids it.
    #[error(transparent)]
    Member(#[from] MemberError),
    /// A LUN that nobody can reserve.
    #[error(
        "{device}: nothing can keep a fenced host off it ({why}); a migration needs LUNs with persistent reservations, or files"
    )]
    NoReservation {
        /// The LUN.
        device: String,
        /// Why.
        why: String,
    },
    /// Its reservations can't be read.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A node that the metadata area has no room for.
    #[error("node {node}: the metadata area has room for the nodes 0 to {last}; give it a smaller id")]
    NodeTooHigh {
        /// Its id.
        node: u16,
        /// The highest that can be.
        last: u16,
    },
    /// A window that the copy could not move in.
    #[error("window of {window}: it must hold four requests of {least} at least")]
    WindowTooSmall {
        /// As it was given.
        window: Bytes,
        /// The smallest request.
        least: Bytes,
    },
    /// No thread, or no ring.
    #[error("starting the storage's threads failed: {0}; a kernel from 5.11 on is needed, with io_uring allowed")]
    Threads(#[source] io::Error),
}

/// Opens both LUNs and starts their threads. It may wait, for half a minute at most, until the kernel has finished what a killed
/// process had in flight: never on the thread that drives the protocol.
///
/// # Errors
/// Every reason against it.
pub fn open(spec: &Spec, own: OwnKey, reports: Arc<dyn Reports>) -> Result<Ready, OpenError> {
    let OpenPair { source, target, layout } = open_pair(&spec.pair)?;
    let room = layout.spec().nodes;
    if let Some(node) = spec.nodes.iter().find(|node| node.0 >= room) {
        return Err(OpenError::NodeTooHigh { node: node.0, last: room.saturating_sub(1) });
    }
    let sizing = sized(sizing::defaults(&source.info, &target.info, processors()), spec.window, &[&source, &target])?;
    let node = ThisNode { id: own.node, from: "the cluster's config" };
    let [from, to] = [&source, &target].map(|lun| Ways::of(&lun.info, lun.file(), &node));
    let gate = to.gate(own.key(), &node);
    let emulated = [&from, &to].map(|ways| matches!(ways.means, Means::Emulated { .. }));
    let notes = [("source", &source, &from), ("target", &target, &to)].map(|(role, lun, ways)| note(role, lun, ways));
    let paths = [reserved(&source, from)?, reserved(&target, to)?];
    let facts = Facts {
        migration: spec.pair.migration,
        group: spec.group,
        source: StoredIdentity::of(&source.info.identity),
        target: StoredIdentity::of(&target.info.identity),
        source_block: source.info.logical_block,
        target_block: target.info.logical_block,
        target_physical: target.info.physical_block,
        layout,
        source_stamp: source.info.content_stamp,
    };
    // What was skipped because the target held zeroes once may hold something else after another mover's copy.
    let zeroes = if target.info.can_punch { ZeroMode::Punch } else { ZeroMode::Write };
    // What is unmapped on the source is not asked for: the answer would be old before the window gets there.
    let vehicle = UringPair::new(Arc::new(source), Arc::new(target), None);
    let vehicle = Gated::new(vehicle, gate);
    let (nodes, window) = (spec.nodes.clone(), spec.window);
    let luns = Luns { vehicle, paths, emulated, facts, nodes, sizing, zeroes, window };
    let storage = start(luns, own, reports).map_err(OpenError::Threads)?;
    let mut notes = Vec::from(notes);
    notes.push(format!("data moves through io_uring; zeroes are {zeroes}"));
    Ok(Ready { storage, length: layout.bulk_end(), notes })
}

/// What keeps others off a LUN, in words.
fn note(role: &str, lun: &OpenLun, ways: &Ways) -> String {
    let device = lun.info.path.display();
    match &ways.means {
        Means::Scsi => format!("the {role} {device} is guarded by SCSI persistent reservations"),
        Means::Emulated { file } => {
            format!("the {role} {device} has emulated reservations in {}: they keep off agents alone", file.display())
        }
        Means::None { why } => format!("nothing guards the {role} {device}: {why}"),
    }
}

/// The paths of a LUN whose reservations can be read.
fn reserved(lun: &OpenLun, ways: Ways) -> Result<Paths, OpenError> {
    let device = lun.info.path.display().to_string();
    let paths = match (ways.paths, ways.means) {
        (Some(paths), _) => paths,
        (None, Means::None { why }) => return Err(OpenError::NoReservation { device, why }),
        (None, Means::Scsi | Means::Emulated { .. }) => {
            return Err(OpenError::NoReservation { device, why: "it has no path".into() });
        }
    };
    match paths.look() {
        Ok(_) => Ok(paths),
        Err(error) if has_none(&error) => {
            Err(OpenError::NoReservation { device, why: "the device has no persistent reservations".into() })
        }
        Err(error) => Err(error.into()),
    }
}

/// The shape of the requests: no extent may be larger than a quarter of the window, since none is begun that ends behind it.
fn sized(defaults: Sizing, window: Bytes, luns: &[&OpenLun]) -> Result<Sizing, OpenError> {
    let blocks = luns.iter().flat_map(|lun| [lun.info.logical_block, lun.info.physical_block]);
    let least = blocks.max().expect("two LUNs have blocks");
    let quarter = Bytes(window.0 / 4).align_down(least);
    if quarter == Bytes::ZERO {
        return Err(OpenError::WindowTooSmall { window, least });
    }
    Ok(Sizing { extent: defaults.extent.min(quarter), ..defaults })
}
