//! Opens a pair of LUNs for a copy: every check first, nothing written.
//!
//! Acts: opens, locks, reads. Decides nothing itself: `lun::safety` and `plan` do.
//!
//! The verdict falls three times: on what was probed without locks, so that every reason can be listed at once; on the
//! opened descriptors, before other hosts are locked out or fenced; and again under that lock, which is the one that
//! counts: until then another host may have gone on copying.

pub mod member;

use std::fmt;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use thiserror::Error;
use uuid::Uuid;

use crate::checkpoint::layout::{AreaSpec, SlotId};
use crate::checkpoint::record::{Owner, RECORD_LEN, Record};
use crate::checkpoint::slots::{Choice, Expected, SlotView, choose, inspect};
use crate::checkpoint::store::StoreError;
use crate::copy::plan::{self, Found, Options, Plan, PlanRefusal};
use crate::copy::vehicle::Luns;
use crate::copy::vehicle::choice::{VehicleName, VehicleRefusal};
use crate::copy::vehicle::open::Chosen;
use crate::lock::error::LockError;
use crate::lock::pair::{Candidate, PairLock, Wishes};
use crate::lun::LunIo;
use crate::lun::error::LunError;
use crate::lun::facts::{LunInfo, Role, Signature};
use crate::lun::open::OpenLun;
use crate::lun::safety::{self, Facts, Overrides, Refusal};
use crate::lun::uring::{UringLun, read_block, run_on_ring};
use crate::lun::{probe, signature, topology, usage};
use crate::units::{Bytes, NodeId};

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
            Self::Vehicle(refusal) => refusal.code(),
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
    /// The source can't be read, so that nobody is fenced for it.
    #[error("{}: its first block can't be read by this host: {source}; mend that before a take-over", path.display())]
    Unreadable {
        /// The source.
        path: PathBuf,
        /// The kernel's word.
        source: std::io::Error,
    },
    /// Other hosts could not be locked out, or have the lock.
    #[error(transparent)]
    Lock(#[from] Box<LockError>),
    /// No ring on this kernel.
    #[error("io_uring is not to be had here: {0}; a kernel from 5.11 on is needed, and no seccomp filter against it")]
    Ring(#[source] std::io::Error),
}

/// A pair that may be copied: open, locked, checked.
pub struct Prepared {
    /// What keeps other hosts off both. It is given back before the LUNs are closed.
    pub lock: Arc<PairLock>,
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

/// Checks, opens and locks a pair.
///
/// # Errors
/// Why it can't be copied. Nothing was written, and no registration of this start is left, unless the LUNs must stay locked:
/// see [`PairLock`].
pub fn prepare(
    source: &Path,
    target: &Path,
    options: &Options,
    overrides: &Overrides,
    wishes: &Wishes,
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
    let told = |error| with_checkpoint(error, &source, &target);
    let candidate = Candidate::look(&source, &target, wishes).map_err(told)?;
    let owner = |reservation_key| Owner { node: NodeId(wishes.node.id.0), since_unix_s: unix_now(), reservation_key };
    let pair = Pair { source: &source, target: &target, options, overrides, owner: owner(0) };
    let (plan, _) = pair.check()?;
    if wishes.take_over {
        prove_readable(&source)?;
    }
    let lock = Arc::new(candidate.claim(plan.taken_from_another).map_err(told)?);
    let owner = owner(lock.own().key().0);
    // Not before the lock: a reservation that is still to be fenced would refuse some of the questions.
    let vehicle = Chosen::of(&source, &target, options.vehicle)
        .map_err(|refusal| PrepareError::Refused(vec![Refused::Vehicle(refusal)]))?;
    if let (VehicleName::Sg, Some(device)) = (vehicle.name, &vehicle.target) {
        target.info.can_punch |= device.can_zero();
        let has_slots = plan::layout(&source.info, &target.info).is_some();
        let raw = if has_slots { Vec::from(read_raw(&target)?) } else { Vec::new() };
        raw.into_iter().for_each(|(at, read)| device.durable().expect(at, read));
    }
    let options = &vehicle.suited(options);
    let pair = Pair { source: &source, target: &target, options, overrides, owner };
    let (plan, overridden) = pair.check()?;
    lock.begin();
    Ok(Prepared { lock, source, target, vehicle, plan, overridden })
}

/// A host that can't read the source must not fence one that can (design H12).
fn prove_readable(source: &OpenLun) -> Result<(), PrepareError> {
    let (capacity, block) = (source.info.capacity, source.info.logical_block.as_len());
    let failed = |source_of| PrepareError::Unreadable { path: source.info.path.clone(), source: source_of };
    run_on_ring(8, async {
        let io = UringLun::new(source.file(), false, capacity).map_err(PrepareError::Ring)?;
        io.read_block(Bytes::ZERO, block).await.map_err(failed)
    })
    .map_err(PrepareError::Ring)??;
    Ok(())
}

/// Who holds a LUN is told with what its checkpoint says of that copy: reading is open to everyone.
fn with_checkpoint(error: LockError, source: &OpenLun, target: &OpenLun) -> Box<LockError> {
    Box::new(match error {
        LockError::HeldElsewhere { device, by, .. } => {
            let since = match look_at_slots(&source.info, target) {
                Ok(Slots { choice: Choice::Use { record, .. }, .. }) => Some(in_words(&record)),
                Ok(_) => Some("the target holds no checkpoint of it yet".into()),
                Err(error) => Some(format!("its checkpoint could not be read: {error}")),
            };
            LockError::HeldElsewhere { device, by, since }
        }
        error => error,
    })
}

fn in_words(record: &Record) -> String {
    let Record { owner, watermark, layout, written_at_unix_s, .. } = record;
    format!(
        "by the target's checkpoint node {} copies since {} (Unix time), and had {watermark} of {} at {written_at_unix_s}",
        owner.node.0,
        owner.since_unix_s,
        layout.source_len()
    )
}

/// An open pair, and what is asked of it.
struct Pair<'a> {
    source: &'a OpenLun,
    target: &'a OpenLun,
    options: &'a Options,
    overrides: &'a Overrides,
    owner: Owner,
}

impl Pair<'_> {
    /// Everything that is looked at on open descriptors: the plan, and which signatures were overridden.
    fn check(&self) -> Result<(Plan, Vec<Signature>), PrepareError> {
        let Self { source, target, options, overrides, owner } = *self;
        let signatures = signature::read(target.file(), &target.info.path)?;
        let slots = look_at_slots(&source.info, target)?;
        let found = Found {
            source: &source.info,
            target: &target.info,
            layout: plan::layout(&source.info, &target.info),
            choice: slots.choice,
            slots_are_blank: slots.are_blank,
            target_has_signatures: !signatures.is_empty(),
            new_uuid: Uuid::new_v4(),
            unix_now: unix_now(),
            owner,
            processors: processors(),
        };
        let planned = plan::plan(&found, options);
        let mut refused: Vec<Refused> = Vec::new();
        let goes_on = options.resume || options.take_over;
        if let (Ok(plan), true) = (&planned, goes_on)
            && let Some(Signature { kind, offset, .. }) = not_from_source(&signatures, source, plan.bulk.start)?
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
        match plan {
            Some(plan) if refused.is_empty() => Ok((plan, relevant)),
            _ => Err(PrepareError::Refused(refused)),
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
    let [mut source_usage, mut target_usage] = usage::read_each([source, target])?;
    if overrides.loop_siblings {
        source_usage.loop_devices = usage::without_siblings(source, source_usage.loop_devices)?;
        target_usage.loop_devices = usage::without_siblings(target, target_usage.loop_devices)?;
    }
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
}

fn look_at_slots(source: &LunInfo, target: &OpenLun) -> Result<Slots, PrepareError> {
    if plan::layout(source, &target.info).is_none() {
        return Ok(Slots { choice: Choice::None, are_blank: true });
    }
    let expected = plan::expected(source, &target.info);
    let [a, b] = slot_views(target, Some(&expected))?;
    let are_blank = a == SlotView::Blank && b == SlotView::Blank;
    Ok(Slots { choice: choose(a, b), are_blank })
}

/// Reads and judges both slots of an open LUN.
///
/// # Errors
/// Where a slot can't be read, or the LUN is too small for any.
pub fn slot_views(lun: &OpenLun, expected: Option<&Expected>) -> Result<[SlotView; 2], PrepareError> {
    let [a, b] = read_raw(lun)?;
    Ok([inspect(&a.1, SlotId::A, a.0, expected), inspect(&b.1, SlotId::B, b.0, expected)])
}

/// Where each slot lies, and what it holds.
fn read_raw(lun: &OpenLun) -> Result<[(Bytes, Vec<u8>); 2], StoreError> {
    let len = lun.info.logical_block.as_len().max(RECORD_LEN);
    let read = |slot| {
        let at = AreaSpec::V1.slot(lun.info.capacity, slot)?.start;
        let mut raw = read_block(lun.file(), at, len).map_err(|source| StoreError::Read { slot, at, source })?;
        raw.truncate(RECORD_LEN);
        Ok::<_, StoreError>((at, raw))
    };
    Ok([read(SlotId::A)?, read(SlotId::B)?])
}

/// How many processors this process may use.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// Seconds since 1970.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
