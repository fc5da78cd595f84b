//! `lunferry copy`.

use std::fs::{File, OpenOptions, remove_file};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lunferry_engine::copy::board::{Controls, Progress};
use lunferry_engine::copy::ledger::Pace;
use lunferry_engine::copy::plan::Options;
use lunferry_engine::copy::prepare::{Prepared, prepare};
use lunferry_engine::copy::run::{Copied, Verified, compare, copy, verify_copied};
use lunferry_engine::copy::session::End;
use lunferry_engine::copy::zeroes::ZeroMode;
use lunferry_engine::lun::probe::probe;
use lunferry_engine::lun::safety::Overrides;
use lunferry_engine::units::{Bytes, Span};

use crate::cli::{Cli, CopyArgs, Zeroes};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::progress::{Display, Phase};
use crate::stop;
use crate::summary::{Summary, cpu_time};

/// Copies.
pub fn run(args: &CopyArgs, cli: &Cli) -> Exit {
    match try_run(args, cli) {
        Ok(exit) => exit,
        Err(failure) => failure.show(cli),
    }
}

fn try_run(args: &CopyArgs, cli: &Cli) -> Result<Exit, Failure> {
    let made = if args.create { create(&args.source, &args.target)? } else { false };
    let overrides = Overrides { signatures: args.overwrite_signature.clone() };
    let prepared = prepare(&args.source, &args.target, &options(args), &overrides).inspect_err(|_| {
        if made {
            let _ = remove_file(&args.target);
        }
    })?;
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
        copy(&prepared, &controls, &progress)?
    };
    let took = (started.elapsed(), cpu_time().saturating_sub(cpu));
    let verified = verify(args, &prepared, &copied, &controls, &progress, quiet)?;
    let summary = Summary::new(&prepared, &copied, verified, &progress, took);
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
) -> Result<Option<Verified>, Failure> {
    if !args.verify || copied.end != End::Complete {
        return Ok(None);
    }
    let total = prepared.source.info.capacity;
    let _display = Display::start(Phase::Verifying, progress, Bytes::ZERO, total, quiet);
    Ok(Some(verify_copied(prepared, copied, controls, progress)?))
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
        Some(compare(&prepared.source, &prepared.target, &[whole], sizing, controls, progress)?)
    } else {
        None
    };
    let exit = match &verified {
        Some(verified) if verified.interrupted => Exit::Interrupted,
        Some(verified) if !verified.is_equal() => Exit::Differs,
        _ => Exit::Done,
    };
    if cli.json {
        output::json(&serde_json::json!({
            "result": "already_complete", "exit_code": exit as u8, "bytes_total": whole.len(), "verify": verified,
        }));
    } else if !cli.quiet {
        output::line("the checkpoint says that this copy is complete; nothing was copied");
        verified.iter().for_each(crate::summary::show_verify);
    }
    Ok(exit)
}

fn options(args: &CopyArgs) -> Options {
    Options {
        resume: args.resume,
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

/// Makes the target where it does not exist; whether it was made.
fn create(source: &Path, target: &Path) -> Result<bool, Failure> {
    if target.exists() {
        return Ok(false);
    }
    let capacity = probe(source)?.capacity;
    let make = || -> std::io::Result<()> {
        let file: File = OpenOptions::new().write(true).create_new(true).open(target)?;
        file.set_len(capacity.get())?;
        file.sync_all()
    };
    match make() {
        Ok(()) => Ok(true),
        Err(error) => {
            let message = format!("{}: it can't be made with {capacity}: {error}", target.display());
            Err(Failure::new(Exit::Failed, "create", message))
        }
    }
}
