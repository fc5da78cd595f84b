//! Opens the LUNs of a migration as the config file names them.
//!
//! Acts: through [`super::storage::open`], which has every check.

use std::sync::Arc;

use lunferry_engine::copy::prepare::member::{Named, NamedPair};
use lunferry_engine::lun::safety::Overrides;
use lunferry_scsi::key::{NodeId, OwnKey};

use super::settings::{Migration, Settings};
use super::storage::open::{Spec, open};
use super::storage::{Opened, Opener, Reports};

/// The LUNs of this host.
#[derive(Clone, Debug)]
pub struct Luns {
    nodes: Vec<NodeId>,
}

impl Luns {
    /// For the cluster of these settings.
    pub fn of(settings: &Settings) -> Self {
        Self { nodes: settings.nodes.iter().map(|node| node.id).collect() }
    }
}

impl Opener for Luns {
    fn open(&self, migration: &Migration, key: OwnKey, reports: Arc<dyn Reports>) -> Result<Opened, String> {
        let named = |path: &str, identity: &Option<String>| Named { path: path.into(), identity: identity.clone() };
        let overrides =
            Overrides { signatures: migration.overwrite_signatures.clone(), loop_siblings: migration.loop_siblings };
        let pair = NamedPair {
            migration: migration.uuid,
            source: named(&migration.source, &migration.source_identity),
            target: named(&migration.target, &migration.target_identity),
            overrides,
        };
        let spec = Spec { pair, group: None, nodes: self.nodes.clone(), window: migration.window };
        let ready = open(&spec, key, reports).map_err(|error| error.to_string())?;
        Ok(Opened { storage: ready.storage, length: ready.length, notes: ready.notes })
    }
}
