//! Which node this host is, and which start of it this is.
//!
//! Acts: reads /etc/machine-id or the host's name, and the kernel's random numbers.

use std::fs;

use lunferry_scsi::key::{Incarnation, NodeId, OwnKey};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

/// This host's node id, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThisNode {
    /// The number.
    pub id: NodeId,
    /// `--node`, `/etc/machine-id` or `the host's name`.
    pub from: &'static str,
}

impl ThisNode {
    /// The operator's number, or one that follows from what names this host. Two hosts may come to the same number by
    /// chance, 1 in 65,535; the reservation then still tells them apart, by the path that it was made through.
    pub fn find(asked: Option<u16>) -> Self {
        if let Some(id) = asked {
            return Self { id: NodeId(id), from: "--node" };
        }
        let machine = fs::read_to_string("/etc/machine-id").ok().filter(|text| !text.trim().is_empty());
        let (name, from) = match machine {
            Some(id) => (id, "/etc/machine-id"),
            None => (host_name(), "the host's name"),
        };
        // Zero stands for "no node" in a checkpoint.
        let id = xxh3_64(name.trim().as_bytes()) % u64::from(u16::MAX) + 1;
        Self { id: NodeId(u16::try_from(id).expect("at most 65535")), from }
    }

    /// A key for this start of it: random, and new each time.
    pub fn key(&self) -> OwnKey {
        let random = Uuid::new_v4().as_u128().to_le_bytes();
        let number = u32::from_le_bytes([random[0], random[1], random[2], random[3]]);
        OwnKey { node: self.id, incarnation: Incarnation::of_random(number), target_outdated: false }
    }
}

/// The name that the kernel has for this host.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
