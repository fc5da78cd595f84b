//! Opens a pair for a member of a cluster: the checks of every copy, and no plan, since who copies what is agreed elsewhere.
//!
//! Acts: opens, locks, reads. Nothing is written and nothing is reserved.
//!
//! What must hold (design S11): a LUN that has another identity than it was named by is not opened for writing, and a target that
//! holds something else than this very migration is refused, as for a copy.

use std::path::PathBuf;

use thiserror::Error;
use uuid::Uuid;

use super::{PrepareError, Refused, judge, look_at_slots, open_both};
use crate::checkpoint::layout::{AreaSpec, Layout};
use crate::checkpoint::slots::Choice;
use crate::checkpoint::store::StoreError;
use crate::copy::plan::{self, PlanRefusal};
use crate::lun::facts::LunInfo;
use crate::lun::open::OpenLun;
use crate::lun::safety::Overrides;
use crate::lun::{probe, signature, topology};

/// A LUN as the cluster's config names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Where this host finds it.
    pub path: PathBuf,
    /// Which one it must be, as `lunferry lun show` tells it; nothing where the path alone is to say so.
    pub identity: Option<String>,
}

/// A pair as the config names it.
#[derive(Clone, Debug)]
pub struct NamedPair {
    /// Which migration it is.
    pub migration: Uuid,
    /// Where data comes from.
    pub source: Named,
    /// Where it goes.
    pub target: Named,
    /// What the operator lifts.
    pub overrides: Overrides,
}

/// A pair that is open, and locked against this host's other processes.
pub struct OpenPair {
    /// Where data comes from.
    pub source: OpenLun,
    /// Where it goes.
    pub target: OpenLun,
    /// Where the metadata lies.
    pub layout: Layout,
}

/// Why a pair can't be opened for a migration.
#[derive(Debug, Error)]
pub enum MemberError {
    /// What forbids every copy.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// It is another LUN than the config says.
    #[error("{}: its identity is `{found}`, and the config names `{wanted}`; mend the path or the identity", path.display())]
    OtherLun {
        /// The path.
        path: PathBuf,
        /// What it is.
        found: String,
        /// What it should be.
        wanted: String,
    },
    /// The target holds another migration between the same LUNs.
    #[error(
        "{}: it holds a checkpoint of migration {found}, and the config names {wanted}; mend the config, or give the old one up \
         with `lunferry checkpoint erase`",
        path.display()
    )]
    OtherMigration {
        /// The target.
        path: PathBuf,
        /// What it holds.
        found: Uuid,
        /// What it should hold.
        wanted: Uuid,
    },
}

/// Checks and opens both.
///
/// # Errors
/// Every reason against it.
pub fn open_pair(named: &NamedPair) -> Result<OpenPair, MemberError> {
    let (source, target) = (&named.source, &named.target);
    let (from, to) = (probed(source)?, probed(target)?);
    let same = topology::same_storage(&from, &to).map_err(PrepareError::Lun)?;
    if same.is_some() || from.capacity > to.capacity {
        let refused = judge(&from, &to, &[], same.as_deref(), &named.overrides).map_err(PrepareError::Lun)?;
        return Err(PrepareError::Refused(refused).into());
    }
    let (source, target) = open_both(&source.path, &target.path, &from, &to, &named.overrides)?;
    // What counts is what was opened.
    is_named(&source.info, &named.source)?;
    is_named(&target.info, &named.target)?;
    let layout = Layout::of(AreaSpec::V1, target.info.capacity, source.info.capacity);
    let layout = layout.map_err(|error| PrepareError::Store(StoreError::Layout(error)))?;
    check(&source, &target, named)?;
    Ok(OpenPair { source, target, layout })
}

fn probed(named: &Named) -> Result<LunInfo, MemberError> {
    let info = probe::probe(&named.path).map_err(PrepareError::Lun)?;
    is_named(&info, named)?;
    Ok(info)
}

fn is_named(info: &LunInfo, named: &Named) -> Result<(), MemberError> {
    match &named.identity {
        Some(wanted) if *wanted != info.identity.text => {
            let (path, found) = (info.path.clone(), info.identity.text.clone());
            Err(MemberError::OtherLun { path, found, wanted: wanted.clone() })
        }
        Some(_) | None => Ok(()),
    }
}

/// What is looked at on open descriptors.
fn check(source: &OpenLun, target: &OpenLun, named: &NamedPair) -> Result<(), MemberError> {
    let lun = PrepareError::Lun;
    let same = topology::same_storage(&source.info, &target.info).map_err(lun)?;
    let signatures = signature::read(target.file(), &target.info.path).map_err(lun)?;
    let slots = look_at_slots(&source.info, target)?;
    let mut refused = Vec::new();
    let relevant = match slots.choice {
        // A copy that was begun here has put the source's own signatures on the target.
        Choice::Use { record, .. } if record.migration == named.migration => {
            if Some(record.layout) != plan::layout(&source.info, &target.info) {
                refused.push(Refused::Plan(PlanRefusal::OtherArea { found: record.layout.spec().size }));
            }
            Vec::new()
        }
        Choice::Use { record, .. } => {
            let (path, found, wanted) = (target.info.path.clone(), record.migration, named.migration);
            return Err(MemberError::OtherMigration { path, found, wanted });
        }
        Choice::Refused(refusal) => {
            refused.push(Refused::Plan(PlanRefusal::Slots(refusal)));
            signatures
        }
        Choice::None => signatures,
    };
    let overrides = &named.overrides;
    refused.extend(judge(&source.info, &target.info, &relevant, same.as_deref(), overrides).map_err(lun)?);
    if refused.is_empty() { Ok(()) } else { Err(PrepareError::Refused(refused).into()) }
}
