//! `lunferry checkpoint show` and `erase`.

use lunferry_engine::checkpoint::layout::{AreaSpec, Layout, SlotId};
use lunferry_engine::checkpoint::record::{Record, StoredIdentity};
use lunferry_engine::checkpoint::slots::{Choice, SlotView, choose};
use lunferry_engine::checkpoint::store::{Store, StoreError};
use lunferry_engine::copy::error::CopyError;
use lunferry_engine::copy::prepare::{Refused, slot_views};
use lunferry_engine::lun::error::LunError;
use lunferry_engine::lun::facts::{LunInfo, Role};
use lunferry_engine::lun::open::OpenLun;
use lunferry_engine::lun::probe::probe;
use lunferry_engine::lun::safety::Refusal;
use lunferry_engine::lun::uring::{UringLun, run_on_ring};
use lunferry_engine::lun::usage;
use serde_json::{Value, json};

use crate::cli::{Cli, DeviceArgs, EraseArgs};
use crate::exit::{Exit, Failure};
use crate::lun::{as_target, is_too_small};
use crate::output;

/// Shows both slots.
pub fn show(args: &DeviceArgs, cli: &Cli) -> Exit {
    match try_show(args, cli) {
        Ok(()) => Exit::Done,
        Err(failure) => failure.show(cli),
    }
}

fn try_show(args: &DeviceArgs, cli: &Cli) -> Result<(), Failure> {
    let lun = OpenLun::open(&args.device, Role::Source)?;
    let Some([a, b]) = slots_of(&lun)? else {
        show_none(&lun, cli);
        return Ok(());
    };
    let choice = choose(a.clone(), b.clone());
    let (used, note) = match &choice {
        Choice::None => (None, "no checkpoint".to_owned()),
        Choice::Use { record, from, note, .. } => (Some(record), format!("slot {from} counts; the other: {note}")),
        Choice::Refused(refusal) => (None, refusal.to_string()),
    };
    if cli.json {
        output::json(&json!({
            "result": "shown",
            "exit_code": 0,
            "device": lun.info.path,
            "checkpoint": used.map(|record| record.view()),
            "about_this_lun": used.map(|record| is_about(record, &lun)),
            "note": note,
            "slots": [slot_json(&a), slot_json(&b)],
        }));
        return Ok(());
    }
    output::line(format_args!("{}: {note}", lun.info.path.display()));
    for (slot, view) in SlotId::BOTH.into_iter().zip([&a, &b]) {
        output::line(format_args!("  slot {slot}       {}", slot_words(view)));
    }
    if let Some(record) = used {
        show_record(record, is_about(record, &lun));
    }
    Ok(())
}

/// Both slots; none on a LUN that is too small for any.
fn slots_of(lun: &OpenLun) -> Result<Option<[SlotView; 2]>, Failure> {
    match slot_views(lun, None) {
        Ok(views) => Ok(Some(views)),
        Err(error) if is_too_small(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn show_none(lun: &OpenLun, cli: &Cli) {
    let note = "no checkpoint (too small for one)";
    if cli.json {
        output::json(&json!({
            "result": "shown",
            "exit_code": 0,
            "device": lun.info.path,
            "checkpoint": null,
            "about_this_lun": null,
            "note": note,
            "slots": [],
        }));
    } else {
        output::line(format_args!("{}: {note}", lun.info.path.display()));
    }
}

fn show_record(record: &Record, about_this_lun: bool) {
    let (length, counters) = (record.layout.source_len(), &record.counters);
    output::line(format_args!("  migration    {}, state {}", record.migration, record.state));
    output::line(format_args!("  source       {}", record.source));
    let remark = if about_this_lun { "" } else { " (not this LUN: it was copied here as data)" };
    output::line(format_args!("  target       {}{remark}", record.target));
    let percent = (u128::from(record.watermark.get()) * 100).checked_div(u128::from(length.get())).unwrap_or(100);
    output::line(format_args!("  watermark    {} of {length} ({percent} %)", record.watermark));
    output::line(format_args!(
        "  written      {} (Unix time), epoch {}, sequence {}, by node {} since {}",
        record.written_at_unix_s, record.epoch.0, record.sequence.0, record.owner.node.0, record.owner.since_unix_s
    ));
    output::line(format_args!(
        "  so far       {} copied, {} zeroed, {} skipped, {} retried, {} unreadable, {} checkpoints",
        counters.copied_bytes,
        counters.zeroed_bytes,
        counters.skipped_bytes,
        counters.retried,
        counters.unreadable_bytes,
        counters.checkpoints
    ));
}

fn is_about(record: &Record, lun: &OpenLun) -> bool {
    record.target.is_same_lun(&StoredIdentity::of(&lun.info.identity))
}

fn slot_words(view: &SlotView) -> String {
    match view {
        SlotView::Blank => "zeroes".into(),
        SlotView::AllOnes => "only FFh".into(),
        SlotView::NotARecord => "no record".into(),
        SlotView::Torn => "a damaged record".into(),
        SlotView::TooNew { version, writer } => format!("a record of format {version}, written by lunferry {writer}"),
        SlotView::Malformed { field, value } => format!("a record whose {field} of {value} can't be"),
        SlotView::Misplaced { slot, at } => format!("a record that belongs to slot {slot} at byte {}", at.get()),
        SlotView::Foreign { record, why } => format!("a record for {why} (sequence {})", record.sequence.0),
        SlotView::Valid(record) => {
            format!("a record, epoch {}, sequence {}, state {}", record.epoch.0, record.sequence.0, record.state)
        }
    }
}

fn slot_json(view: &SlotView) -> Value {
    let kind = match view {
        SlotView::Blank => "blank",
        SlotView::AllOnes => "all_ones",
        SlotView::NotARecord => "not_a_record",
        SlotView::Torn => "torn",
        SlotView::TooNew { .. } => "too_new",
        SlotView::Malformed { .. } => "malformed",
        SlotView::Misplaced { .. } => "misplaced",
        SlotView::Foreign { .. } => "foreign",
        SlotView::Valid(_) => "valid",
    };
    let record = match view {
        SlotView::Valid(record) | SlotView::Foreign { record, .. } => Some(record.view()),
        _ => None,
    };
    json!({ "kind": kind, "words": slot_words(view), "record": record })
}

/// Removes the checkpoint.
pub fn erase(args: &EraseArgs, cli: &Cli) -> Exit {
    match try_erase(args, cli) {
        Ok(exit) => exit,
        Err(failure) => failure.show(cli),
    }
}

fn try_erase(args: &EraseArgs, cli: &Cli) -> Result<Exit, Failure> {
    let lun = match OpenLun::open(&args.device, Role::Target) {
        Ok(lun) => lun,
        Err(error @ (LunError::InUse { .. } | LunError::ReadOnly { .. })) => {
            // Every use with its mend, where a look without a lock finds any.
            refuse_what_is_in_use(&probe(&args.device)?)?;
            return Err(error.into());
        }
        Err(error) => return Err(error.into()),
    };
    refuse_what_is_in_use(&lun.info)?;
    let views = slots_of(&lun)?;
    let note = if views.is_none() { "no checkpoint to erase (too small for one)" } else { "no checkpoint to erase" };
    let views = views.as_ref().map_or(&[][..], |views| views);
    let erasable: Vec<(SlotId, bool)> = SlotId::BOTH
        .into_iter()
        .zip(views)
        .filter_map(|(slot, view)| is_ours(view, &lun).map(|certain| (slot, certain)))
        .collect();
    if let Some((slot, _)) = erasable.iter().find(|(_, certain)| !certain && !args.force) {
        let view = &views[usize::from(*slot == SlotId::B)];
        let message = format!(
            "{}: slot {slot} holds {}, which may be somebody's data: a finished copy brings its source's old records along; \
             look with `lunferry checkpoint show`, and add --force if it must go",
            args.device.display(),
            slot_words(view)
        );
        return Err(Failure::new(Exit::Refused, "may_be_data", message));
    }
    let slots: Vec<SlotId> = erasable.into_iter().map(|(slot, _)| slot).collect();
    erase_slots(&lun, &slots)?;
    let names: Vec<String> = slots.iter().map(ToString::to_string).collect();
    if cli.json {
        output::json(&json!({
            "result": if names.is_empty() { "nothing_to_erase" } else { "erased" },
            "exit_code": 0,
            "device": args.device,
            "slots": names,
        }));
    } else if !cli.quiet {
        let device = args.device.display();
        match names.is_empty() {
            true => output::line(format_args!("{device}: {note}")),
            false => output::line(format_args!("{device}: erased slot {}", names.join(" and slot "))),
        }
    }
    Ok(Exit::Done)
}

/// What a copy refuses because somebody uses the target, an erase refuses too: the slots may be theirs.
fn refuse_what_is_in_use(info: &LunInfo) -> Result<(), Failure> {
    let mut refusals = as_target(info, &usage::read(info)?, &[]);
    refusals.retain(|refusal| matches!(refusal, Refusal::InUse { role: Role::Target, .. }));
    if refusals.is_empty() {
        return Ok(());
    }
    Err(refusals.into_iter().map(Refused::Safety).collect::<Vec<_>>().into())
}

/// Whether a slot holds something of Lunferry's: `Some(true)` for a good record about this very LUN, `Some(false)` for what
/// may as well be data that was copied here.
fn is_ours(view: &SlotView, lun: &OpenLun) -> Option<bool> {
    match view {
        SlotView::Blank | SlotView::AllOnes | SlotView::NotARecord | SlotView::Misplaced { .. } => None,
        SlotView::Valid(record) => Some(is_about(record, lun)),
        SlotView::Torn | SlotView::TooNew { .. } | SlotView::Malformed { .. } | SlotView::Foreign { .. } => Some(false),
    }
}

fn erase_slots(lun: &OpenLun, slots: &[SlotId]) -> Result<(), CopyError> {
    if slots.is_empty() {
        return Ok(());
    }
    // The slots' places follow from the target's length alone; any source length gives the same.
    let capacity = lun.info.capacity;
    let layout = Layout::of(AreaSpec::V1, capacity, capacity).map_err(StoreError::Layout)?;
    let ring = |source| CopyError::Ring { depth: 8, extent: lun.info.physical_block, source };
    // No more than the record's own block goes: what is behind it in a slot may be data that was copied there.
    let block = lun.info.logical_block;
    run_on_ring(8, async {
        let io = UringLun::new(lun.file(), false, capacity).map_err(ring)?;
        Ok(Store::new(&io, layout, block, SlotId::A).erase(slots).await?)
    })
    .map_err(ring)?
}
