//! Opens a pair of LUNs for a copy: every check first, nothing written.
//!
//! Acts: opens, locks, reads. Decides nothing itself: `lun::safety` and `plan` do.
//!
//! The verdict falls twice: on what was probed without locks, so that every reason can be listed at once, and again on the
//! opened and locked descriptors, which is the one that counts.

use std::fmt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use thiserror::Error;
use uuid::Uuid;

use crate::checkpoint::layout::{AreaSpec, SlotId};
use crate::checkpoint::slots::{Choice, Expected, SlotView, choose, inspect};
use crate::checkpoint::store::{StoreError, read_slots};
use crate::copy::plan::{self, Found, Options, Plan, PlanRefusal};
use crate::copy::vehicle::Luns;
use crate::copy::vehicle::choice::{VehicleName, VehicleRefusal};
use crate::copy::vehicle::open::Chosen;
use crate::lun::error::LunError;
use crate::lun::facts::{LunInfo, Role, Signature};
use crate::lun::open::OpenLun;
use crate::lun::safety::{self, Facts, Overrides, Refusal};
use crate::lun::uring::{UringLun, run_on_ring};
use crate::lun::{probe, signature, topology, usage};
use crate::units::Bytes;

/// One reason why nothing was copied.
#[derive(Debug)]
pub enum Refused {
    /// What stands on the target's slots, or an option, forbids it.
    Plan(PlanRefusal),
    /// A safety check forbids it.
    Safety(Refusal),
    /// The vehicle that was asked for can't do it.
    Vehicle(VehicleRefusal),
}

impl Refused {
    /// A stable word for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Plan(refusal) => refusal.code(),
            Self::Safety(refusal) => refusal.code(),
            Self::Vehicle(_) => "vehicle_not_possible",
        }
    }

    /// The flag that lifts it, where one does.
    pub fn lifted_by(&self) -> Option<String> {
        match self {
            Self::Plan(_) | Self::Vehicle(_) => None,
            Self::Safety(refusal) => refusal.lifted_by(),
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plan(refusal) => refusal.fmt(f),
            Self::Safety(refusal) => refusal.fmt(f),
            Self::Vehicle(refusal) => refusal.fmt(f),
        }
    }
}

/// Why a pair of LUNs can't be copied. Nothing was written.
#[derive(Debug, Error)]
pub enum PrepareError {
    /// A LUN could not be opened or probed.
    #[error(transparent)]
    Lun(#[from] LunError),
    /// Safety checks, all that failed.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Refused(Vec<Refused>),
    /// The target's slots could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No ring on this kernel.
    #[error("io_uring is not to be had here: {0}; a kernel from 5.11 on is needed, and no seccomp filter against it")]
    Ring(#[source] std::io::Error),
}

/// A pair that may be copied: open, locked, checked.
#[derive(Debug)]
pub struct Prepared {
    /// Where data comes from.
    pub source: OpenLun,
    /// Where it goes.
    pub target: OpenLun,
    /// How bytes move.
    pub vehicle: Chosen,
    /// What will be done.
    pub plan: Plan,
    /// What the target bore before, for the record of what was overridden.
    pub overridden: Vec<Signature>,
}

impl Prepared {
    /// The pair, with its vehicle.
    pub fn luns(&self) -> Luns<'_> {
        Luns { source: &self.source, target: &self.target, vehicle: &self.vehicle }
    }
}

/// Checks and opens a pair.
///
/// # Errors
/// Why it can't be copied. Nothing was written.
pub fn prepare(
    source: &Path,
    target: &Path,
    options: &Options,
    overrides: &Overrides,
) -> Result<Prepared, PrepareError> {
    let (from, to) = (probe::probe(source)?, probe::probe(target)?);
    let same = topology::same_storage(&from, &to)?;
    if same.is_some() || from.capacity > to.capacity {
        // Neither slots nor signatures would add anything, and the locks would meet each other.
        return Err(PrepareError::Refused(judge(&from, &to, &[], same.as_deref(), overrides)?));
    }
    let (source, mut target) = open_both(source, target, &from, &to, overrides)?;
    if let Some(how) = topology::same_storage(&source.info, &target.info)? {
        return Err(PrepareError::Refused(judge(&source.info, &target.info, &[], Some(&how), overrides)?));
    }
    let signatures = signature::read(target.file(), &target.info.path)?;
    let vehicle = Chosen::of(&source, &target, options.vehicle);
    let slots = look_at_slots(&source.info, &target)?;
    suit(&vehicle, &mut target, &slots);
    let found = Found {
        source: &source.info,
        target: &target.info,
        layout: plan::layout(&source.info, &target.info),
        choice: slots.choice,
        slots_are_blank: slots.are_blank,
        target_has_signatures: !signatures.is_empty(),
        new_uuid: Uuid::new_v4(),
        unix_now: unix_now(),
    };
    let planned = plan::plan(&found, options);
    let mut refused: Vec<Refused> = Vec::new();
    let vehicle = vehicle.map_err(|refusal| refused.push(Refused::Vehicle(refusal))).ok();
    if let (Ok(plan), true) = (&planned, options.resume)
        && let Some(Signature { kind, offset, .. }) = not_from_source(&signatures, &source, plan.bulk.start)?
    {
        refused.push(Refused::Plan(PlanRefusal::TargetChanged { kind, at: offset.get() }));
    }
    let relevant = match &planned {
        // A copy that was begun here has put the source's own signatures on the target.
        Err(PlanRefusal::NothingToResume) => Vec::new(),
        _ if matches!(found.choice, Choice::Use { .. }) => Vec::new(),
        _ => signatures,
    };
    let mut plan = None;
    match planned {
        Ok(planned) => plan = Some(planned),
        Err(refusal) => refused.push(Refused::Plan(refusal)),
    }
    refused.extend(judge(&source.info, &target.info, &relevant, None, overrides)?);
    match (plan, vehicle) {
        (Some(plan), Some(vehicle)) if refused.is_empty() => {
            Ok(Prepared { source, target, vehicle, plan, overridden: relevant })
        }
        _ => Err(PrepareError::Refused(refused)),
    }
}

/// What the vehicle changes: how the target takes zeroes, and what its slots must hold when they are first written.
fn suit(vehicle: &Result<Chosen, VehicleRefusal>, target: &mut OpenLun, slots: &Slots) {
    if let Ok(Chosen { name: VehicleName::Sg, target: Some(device), .. }) = vehicle {
        target.info.can_punch |= device.can_zero();
        for (at, read) in &slots.raw {
            device.durable().expect(*at, read.clone());
        }
    }
}

/// A signature of the target that lies below the watermark and does not come from the source: somebody else wrote to the
/// target since the checkpoint.
fn not_from_source(
    signatures: &[Signature],
    source: &OpenLun,
    watermark: Bytes,
) -> Result<Option<Signature>, PrepareError> {
    let copied: Vec<&Signature> = signatures.iter().filter(|signature| signature.offset < watermark).collect();
    if copied.is_empty() {
        return Ok(None);
    }
    let original = signature::read(source.file(), &source.info.path)?;
    Ok(copied.into_iter().find(|signature| !original.contains(signature)).cloned())
}

/// Opens both. Where that fails because one is in use, every other reason is listed with it.
fn open_both(
    source: &Path,
    target: &Path,
    from: &LunInfo,
    to: &LunInfo,
    overrides: &Overrides,
) -> Result<(OpenLun, OpenLun), PrepareError> {
    let opened =
        OpenLun::open(source, Role::Source).and_then(|source| Ok((source, OpenLun::open(target, Role::Target)?)));
    match opened {
        Ok(both) => Ok(both),
        Err(error @ (LunError::InUse { .. } | LunError::ReadOnly { .. })) => {
            let refused = judge(from, to, &[], None, overrides)?;
            Err(if refused.is_empty() { error.into() } else { PrepareError::Refused(refused) })
        }
        Err(error) => Err(error.into()),
    }
}

fn judge(
    source: &LunInfo,
    target: &LunInfo,
    signatures: &[Signature],
    same_storage: Option<&str>,
    overrides: &Overrides,
) -> Result<Vec<Refused>, LunError> {
    let (source_usage, target_usage) = (usage::read(source)?, usage::read(target)?);
    for (info, usage) in [(source, &source_usage), (target, &target_usage)] {
        let unseen = usage.open_elsewhere.unseen;
        if unseen > 0 {
            tracing::debug!(lun = %info.path.display(), unseen, "processes that did not let themselves be looked at");
        }
    }
    let facts = Facts {
        source,
        target,
        source_usage: &source_usage,
        target_usage: &target_usage,
        target_signatures: signatures,
        same_storage,
    };
    Ok(safety::verdict(&facts, overrides).into_iter().map(Refused::Safety).collect())
}

/// What stands in the slots of a target.
struct Slots {
    choice: Choice,
    are_blank: bool,
    /// Where each lies, and what was read there.
    raw: Vec<(Bytes, Vec<u8>)>,
}

fn look_at_slots(source: &LunInfo, target: &OpenLun) -> Result<Slots, PrepareError> {
    if plan::layout(source, &target.info).is_none() {
        return Ok(Slots { choice: Choice::None, are_blank: true, raw: Vec::new() });
    }
    let expected = plan::expected(source, &target.info);
    let raw = read_raw(target)?;
    let [a, b] = views(&raw, Some(&expected));
    let are_blank = a == SlotView::Blank && b == SlotView::Blank;
    Ok(Slots { choice: choose(a, b), are_blank, raw: raw.into() })
}

/// Reads and judges both slots of an open LUN.
///
/// # Errors
/// Where a slot can't be read, or the LUN is too small for any.
pub fn slot_views(lun: &OpenLun, expected: Option<&Expected>) -> Result<[SlotView; 2], PrepareError> {
    Ok(views(&read_raw(lun)?, expected))
}

/// Where each slot lies, and what it holds.
fn read_raw(lun: &OpenLun) -> Result<[(Bytes, Vec<u8>); 2], PrepareError> {
    let capacity = lun.info.capacity;
    let [a, b] = run_on_ring(8, async {
        let io = UringLun::new(lun.file(), false, capacity).map_err(PrepareError::Ring)?;
        Ok::<_, PrepareError>(read_slots(&io, AreaSpec::V1, capacity, lun.info.logical_block).await?)
    })
    .map_err(PrepareError::Ring)??;
    let at = |slot| AreaSpec::V1.slot(capacity, slot).map(|span| span.start).map_err(StoreError::Layout);
    Ok([(at(SlotId::A)?, a), (at(SlotId::B)?, b)])
}

fn views(raw: &[(Bytes, Vec<u8>); 2], expected: Option<&Expected>) -> [SlotView; 2] {
    let [a, b] = raw;
    [inspect(&a.1, SlotId::A, a.0, expected), inspect(&b.1, SlotId::B, b.0, expected)]
}

/// Seconds since 1970.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
