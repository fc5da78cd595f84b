//! `lunferry copy`.

use std::fs::{self, OpenOptions, remove_file};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use lunferry_engine::copy::board::{Controls, Progress};
use lunferry_engine::copy::error::CopyError;
use lunferry_engine::copy::ledger::Pace;
use lunferry_engine::copy::plan::Options;
use lunferry_engine::copy::prepare::{Prepared, prepare};
use lunferry_engine::copy::run::{Copied, copy};
use lunferry_engine::copy::session::End;
use lunferry_engine::copy::vehicle::choice::Wanted;
use lunferry_engine::copy::zeroes::ZeroMode;
use lunferry_engine::lock::node::ThisNode;
use lunferry_engine::lock::pair::Wishes;
use lunferry_engine::lun::probe::probe;
use lunferry_engine::lun::safety::Overrides;
use lunferry_engine::units::{Bytes, Span};
use lunferry_engine::verify::method::Method;
use lunferry_engine::verify::run::{Verified, compare, verify_copied};

use crate::cli::{Cli, CopyArgs, SourceFencing, Vehicle, Zeroes};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::progress::{Display, Phase};
use crate::stop;
use crate::summary::{Lock, Summary, cpu_time};

/// Copies.
pub fn run(args: &CopyArgs, cli: &Cli) -> Exit {
    match try_run(args, cli) {
        Ok(exit) => exit,
        Err(failure) => failure.show(cli),
    }
}

fn try_run(args: &CopyArgs, cli: &Cli) -> Result<Exit, Failure> {
    let made = if args.create { create(&args.source, &args.target)? } else { None };
    let overrides = Overrides { signatures: args.overwrite_signature.clone(), ..Overrides::default() };
    let wishes = Wishes {
        node: ThisNode::find(args.node),
        take_over: args.take_over,
        fenced_are_down: args.fenced_hosts_are_down,
        fence_source: args.source_fencing == SourceFencing::Reservation,
    };
    let prepared = prepare(&args.source, &args.target, &options(args), &overrides, &wishes)?;
    let (controls, progress) = (Arc::new(Controls::default()), Arc::new(Progress::default()));
    controls.set_rate(args.limit);
    stop::on_signals(&controls, cli.quiet).map_err(|error| Failure::new(Exit::Failed, "signals", error.to_string()))?;
    if prepared.plan.checkpoints.is_none() {
        tracing::warn!("the target is too small for checkpoints: a copy that is interrupted starts from the beginning");
    }
    if prepared.plan.already_complete {
        return already_complete(args, cli, &prepared, &controls, &progress);
    }
    let (started, cpu) = (Instant::now(), cpu_time());
    let quiet = cli.quiet;
    let copied = {
        let (before, total) = (prepared.plan.bulk.start, prepared.source.info.capacity);
        let _display = Display::start(Phase::Copying, &progress, before, total, quiet);
        copy(&prepared, &controls, &progress)
    };
    if copied.is_ok() || has_begun(&progress) {
        made.into_iter().for_each(Made::keep);
    }
    let copied = copied?;
    let took = (started.elapsed(), cpu_time().saturating_sub(cpu));
    let verified = verify(args, &prepared, &copied, &controls, &progress, quiet);
    let summary = Summary::new(&prepared, &copied, verified, &progress, took);
    // Whoever reads the summary, or does not, holds neither LUN.
    drop(prepared);
    if cli.json {
        output::json(&summary);
    } else if !quiet {
        summary.show();
    }
    if summary.exit() == Exit::Differs && quiet {
        output::error("the target differs from what was copied; `lunferry verify` lists where");
    }
    Ok(summary.exit())
}

fn verify(
    args: &CopyArgs,
    prepared: &Prepared,
    copied: &Copied,
    controls: &Arc<Controls>,
    progress: &Arc<Progress>,
    quiet: bool,
) -> Result<Option<Verified>, CopyError> {
    if !args.verify || copied.end != End::Complete {
        return Ok(None);
    }
    let total = prepared.source.info.capacity;
    let _display = Display::start(Phase::Verifying, progress, Bytes::ZERO, total, quiet);
    verify_copied(prepared, copied, controls, progress).map(Some)
}

/// A copy whose checkpoint says that all of it was done before.
fn already_complete(
    args: &CopyArgs,
    cli: &Cli,
    prepared: &Prepared,
    controls: &Arc<Controls>,
    progress: &Arc<Progress>,
) -> Result<Exit, Failure> {
    let whole = Span::new(Bytes::ZERO, prepared.source.info.capacity);
    let verified = if args.verify {
        let _display = Display::start(Phase::Verifying, progress, Bytes::ZERO, whole.len(), cli.quiet);
        let sizing = prepared.plan.sizing;
        Some(compare(prepared.luns(), Method::Read, &[whole], sizing, controls, progress)?)
    } else {
        None
    };
    let exit = match &verified {
        Some(verified) if verified.interrupted => Exit::Interrupted,
        Some(verified) if !verified.is_equal() => Exit::Differs,
        _ => Exit::Done,
    };
    let lock = Lock::of(prepared);
    if cli.json {
        output::json(&serde_json::json!({
            "result": "already_complete",
            "exit_code": exit as u8,
            "source": prepared.source.info.path.display().to_string(),
            "target": prepared.target.info.path.display().to_string(),
            "migration": prepared.plan.checkpoints.as_ref().map(|checkpoints| checkpoints.record.migration.to_string()),
            "bytes_total": whole.len(),
            "lock": lock,
            "verify": verified,
        }));
    } else if !cli.quiet {
        output::line("the checkpoint says that this copy is complete; nothing was copied");
        lock.show();
        verified.iter().for_each(crate::summary::show_verify);
    }
    Ok(exit)
}

fn options(args: &CopyArgs) -> Options {
    Options {
        vehicle: match args.vehicle {
            Vehicle::Auto => Wanted::Auto,
            Vehicle::Uring => Wanted::Uring,
            Vehicle::Sg => Wanted::Sg,
            Vehicle::Xcopy => Wanted::Xcopy,
        },
        resume: args.resume,
        take_over: args.take_over,
        extent: args.extent,
        depth: args.depth,
        workers: args.workers,
        zeroes: match args.zeroes {
            Zeroes::Auto => None,
            Zeroes::Skip => Some(ZeroMode::Skip),
            Zeroes::Punch => Some(ZeroMode::Punch),
            Zeroes::Write => Some(ZeroMode::Write),
        },
        target_is_zero: args.target_is_zero,
        fill_unreadable: args.fill_unreadable,
        pace: Pace {
            bytes: args.checkpoint_every.max(Bytes(1)),
            time: Duration::from_millis(args.checkpoint_interval_ms),
        },
        verify: args.verify,
    }
}

/// Whether anything was written that a resume could go on from.
fn has_begun(progress: &Progress) -> bool {
    let counters = [&progress.copied, &progress.zeroed, &progress.skipped, &progress.checkpoints];
    counters.into_iter().any(|counter| counter.load(Ordering::Relaxed) > 0)
}

/// A target that this run made. It goes again where no copy into it begins.
struct Made {
    path: PathBuf,
    /// Its file system and its inode: what bears the name by then may be another file.
    id: (u64, u64),
    kept: bool,
}

impl Made {
    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let is_ours = || fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.id);
        if !self.kept && is_ours() {
            let _ = remove_file(&self.path);
        }
    }
}

/// Makes the target where it does not exist. Nobody but its owner may read it: what will be in it was on a disk.
fn create(source: &Path, target: &Path) -> Result<Option<Made>, Failure> {
    if target.exists() {
        return Ok(None);
    }
    refuse_below_dev(target)?;
    let capacity = probe(source)?.capacity;
    let make = || -> std::io::Result<Made> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(target)?;
        let metadata = file.metadata()?;
        let made = Made { path: target.into(), id: (metadata.dev(), metadata.ino()), kept: false };
        file.set_len(capacity.get())?;
        file.sync_all()?;
        Ok(made)
    };
    make().map(Some).map_err(|error| {
        let message = format!("{}: it can't be made with {capacity}: {error}", target.display());
        Failure::new(Exit::Failed, "create", message)
    })
}

/// A name below /dev that does not exist is a device's, mistyped: a file there would take the copy into memory. Shared
/// memory lies there by custom, and is meant where it is named.
fn refuse_below_dev(target: &Path) -> Result<(), Failure> {
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Without such a directory nothing can be made either, and that error says why.
    let is_below = parent.canonicalize().is_ok_and(|dir| dir.starts_with("/dev") && !dir.starts_with("/dev/shm"));
    if !is_below {
        return Ok(());
    }
    let message = format!(
        "{}: there is no such device, and --create makes no file below /dev, where it would lie in memory; check the name, or \
         choose a path on a file system",
        target.display()
    );
    Err(Failure::new(Exit::Usage, "create_below_dev", message))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn what_was_made_goes_and_what_took_its_name_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (source, target) = (dir.path().join("source"), dir.path().join("target"));
        fs::write(&source, [0; 4096]).unwrap();
        let make = || create(&source, &target).unwrap().unwrap();
        drop(make());
        assert!(!target.exists());
        make().keep();
        assert!(target.exists() && create(&source, &target).unwrap().is_none());
        fs::remove_file(&target).unwrap();
        let made = make();
        fs::rename(&target, dir.path().join("elsewhere")).unwrap();
        fs::write(&target, "another's").unwrap();
        drop(made);
        assert_eq!(fs::read(&target).unwrap(), b"another's");
    }
}
