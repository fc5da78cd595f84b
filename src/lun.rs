//! `lunferry lun list` and `show`.

use std::fs::read_dir;
use std::path::{Path, PathBuf};

use lunferry_engine::checkpoint::layout::LayoutError;
use lunferry_engine::checkpoint::slots::{Choice, choose};
use lunferry_engine::checkpoint::store::StoreError;
use lunferry_engine::copy::prepare::{PrepareError, slot_views};
use lunferry_engine::lock::node::ThisNode;
use lunferry_engine::lock::release::{self, Released};
use lunferry_engine::lock::show::{self as reservations, ShownPath};
use lunferry_engine::lun::error::LunError;
use lunferry_engine::lun::facts::{LunInfo, Role, Signature, Usage};
use lunferry_engine::lun::open::OpenLun;
use lunferry_engine::lun::safety::{Facts, Overrides, Refusal, verdict};
use lunferry_engine::lun::{probe, signature, usage};
use serde_json::{Value, json};

use crate::cli::{Cli, DeviceArgs, ReleaseArgs};
use crate::exit::{Exit, Failure};
use crate::output;

/// Everything that is known of one LUN.
struct Known {
    info: LunInfo,
    usage: Usage,
    signatures: Vec<Signature>,
    refusals: Vec<Refusal>,
}

impl Known {
    fn of(path: &Path) -> Result<Self, LunError> {
        let info = probe::probe(path)?;
        let usage = usage::read(&info)?;
        let file = std::fs::File::open(path);
        let file = file.map_err(|source| LunError::Open { path: path.into(), access: "reading", source })?;
        let signatures = signature::read(&file, path)?;
        let refusals = as_target(&info, &usage, &signatures);
        Ok(Self { info, usage, signatures, refusals })
    }

    fn json(&self) -> Value {
        let refusal = |refusal: &Refusal| json!({ "code": refusal.code(), "message": refusal.to_string(), "lifted_by": refusal.lifted_by() });
        json!({
            "lun": self.info,
            "usage": self.usage,
            "signatures": self.signatures,
            "as_target": self.refusals.iter().map(refusal).collect::<Vec<_>>(),
        })
    }
}

/// What stands against overwriting a LUN, whatever the source.
pub fn as_target(info: &LunInfo, usage: &Usage, signatures: &[Signature]) -> Vec<Refusal> {
    let nobody = Usage::default();
    let facts = Facts {
        source: info,
        target: info,
        source_usage: &nobody,
        target_usage: usage,
        target_signatures: signatures,
        same_storage: None,
    };
    verdict(&facts, &Overrides::default())
}

/// Lists the block devices of this host.
pub fn list(cli: &Cli) -> Exit {
    let mut known: Vec<(PathBuf, Result<Known, LunError>)> = Vec::new();
    for path in block_devices() {
        let lun = Known::of(&path);
        // Loop devices without a file, empty drives: nothing that could be copied.
        let is_empty = matches!(&lun, Err(LunError::Unfit { .. } | LunError::Open { .. }));
        if !is_empty {
            known.push((path, lun));
        }
    }
    if cli.json {
        let entry = |(path, lun): &(PathBuf, Result<Known, LunError>)| match lun {
            Ok(known) => known.json(),
            Err(error) => json!({ "path": path, "error": error.to_string() }),
        };
        let luns: Vec<Value> = known.iter().map(entry).collect();
        output::json(&json!({ "result": "listed", "exit_code": 0, "luns": luns }));
        return Exit::Done;
    }
    output::line(format_args!("{:<16} {:>12} {:>6}  {:<40} use", "device", "size", "block", "identity"));
    for (path, lun) in &known {
        match lun {
            Ok(Known { info, usage, signatures, .. }) => output::line(format_args!(
                "{:<16} {:>12} {:>6}  {:<40} {}",
                path.display(),
                info.capacity,
                info.logical_block.get(),
                info.identity,
                use_in_words(usage, signatures)
            )),
            Err(error) => output::line(format_args!("{:<16} {error}", path.display())),
        }
    }
    Exit::Done
}

fn use_in_words(usage: &Usage, signatures: &[Signature]) -> String {
    usage.in_words().unwrap_or_else(|| {
        let kinds: Vec<&str> = signatures.iter().map(|signature| signature.kind.as_str()).collect();
        if kinds.is_empty() { "free".to_owned() } else { format!("free, holds {}", kinds.join(", ")) }
    })
}

/// Every whole disk and partition that sysfs knows, in order of their names.
fn block_devices() -> Vec<PathBuf> {
    let names = read_dir("/sys/class/block").into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = names.map(|name| Path::new("/dev").join(name.file_name())).collect();
    paths.retain(|path| path.exists());
    paths.sort();
    paths
}

/// Shows one LUN.
pub fn show(args: &DeviceArgs, cli: &Cli) -> Exit {
    let known = match Known::of(&args.device) {
        Ok(known) => known,
        Err(error) => return Failure::from(error).show(cli),
    };
    let checkpoint = checkpoint_in_words(&args.device);
    let reservations = reservations::show(&known.info, &ThisNode::find(None));
    if cli.json {
        let mut value = known.json();
        value["result"] = "shown".into();
        value["exit_code"] = 0.into();
        value["checkpoint"] = checkpoint.into();
        value["reservations"] = json!(reservations);
        output::json(&value);
        return Exit::Done;
    }
    show_facts(&known.info);
    output::line(format_args!("  used by      {}", known.usage.in_words().unwrap_or_else(|| "nobody seen".into())));
    if known.usage.open_elsewhere.unseen > 0 {
        let unseen = known.usage.open_elsewhere.unseen;
        output::line(format_args!("               {unseen} processes did not let themselves be looked at"));
    }
    for signature in &known.signatures {
        let label = signature.label.as_ref().map(|label| format!(", label {label}")).unwrap_or_default();
        let uuid = signature.uuid.as_ref().map(|uuid| format!(", UUID {uuid}")).unwrap_or_default();
        output::line(format_args!("  signature    {} at byte {}{label}{uuid}", signature.kind, signature.offset.get()));
    }
    output::line(format_args!("  checkpoint   {checkpoint}"));
    output::line(format_args!("  reservations {reservations}"));
    for ShownPath { path, error } in &reservations.paths {
        let answers = error.as_deref().map_or_else(|| "answers".into(), |error| format!("does not answer: {error}"));
        output::line(format_args!("  path         {path}: {answers}"));
    }
    if known.refusals.is_empty() {
        output::line("  as a target  nothing stands against it");
    }
    for refusal in &known.refusals {
        output::line(format_args!("  as a target  refused: {refusal}"));
    }
    Exit::Done
}

/// Gives back what this host has reserved.
pub fn release(args: &ReleaseArgs, cli: &Cli) -> Exit {
    let node = ThisNode::find(args.node);
    let opened = OpenLun::open(&args.device, Role::Source).map_err(Failure::from);
    match opened.and_then(|lun| release::release(&lun, &node).map_err(Failure::from)) {
        Err(failure) => failure.show(cli),
        Ok(released) => {
            let (result, words) = match released {
                Released::Released => ("released", "released"),
                Released::NothingHeld => ("nothing_held", "this node holds nothing of it"),
            };
            if cli.json {
                output::json(&json!({ "result": result, "exit_code": 0, "device": args.device, "node": node.id.0 }));
            } else if !cli.quiet {
                output::line(format_args!("{}: {words} (node {})", args.device.display(), node.id.0));
            }
            Exit::Done
        }
    }
}

fn show_facts(info: &LunInfo) {
    let size = |bytes: Option<lunferry_engine::units::Bytes>| bytes.map_or_else(|| "-".into(), |b| b.to_string());
    let yes = |yes: bool| if yes { "yes" } else { "no" };
    output::line(format_args!("{}", info.path.display()));
    output::line(format_args!("  identity     {}", info.identity));
    output::line(format_args!("  capacity     {} ({} bytes)", info.capacity, info.capacity.get()));
    output::line(format_args!(
        "  blocks       logical {}, physical {}; optimal I/O {}, largest I/O {}",
        info.logical_block,
        info.physical_block,
        size(info.optimal_io),
        size(info.max_io)
    ));
    output::line(format_args!(
        "  abilities    punches zeroes {}, discards {}, read-only {}, rotates {}",
        yes(info.can_punch),
        yes(info.discard),
        yes(info.read_only),
        info.rotational.map_or("-", yes)
    ));
    if let Some(adapter) = &info.adapter {
        output::line(format_args!("  adapter      {adapter}"));
    }
    if let Some(diskseq) = info.diskseq {
        output::line(format_args!("  diskseq      {diskseq}"));
    }
}

/// Whether there can be no checkpoint, because the LUN has no room for an area.
pub fn is_too_small(error: &PrepareError) -> bool {
    matches!(error, PrepareError::Store(StoreError::Layout(LayoutError::TooSmall { .. })))
}

fn checkpoint_in_words(path: &Path) -> String {
    let lun = match OpenLun::open(path, Role::Source) {
        Ok(lun) => lun,
        Err(error) => return format!("not looked at: {error}"),
    };
    match slot_views(&lun, None).map(|[a, b]| choose(a, b)) {
        Ok(Choice::None) => "none".into(),
        Ok(Choice::Use { record, .. }) => {
            format!(
                "state {}, {} of {} from {}",
                record.state,
                record.watermark,
                record.layout.source_len(),
                record.source
            )
        }
        Ok(Choice::Refused(refusal)) => refusal.to_string(),
        Err(error) if is_too_small(&error) => "none (the LUN is too small for one)".into(),
        Err(error) => format!("not looked at: {error}"),
    }
}
