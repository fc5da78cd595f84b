//! `lunferry verify`.

use std::sync::Arc;
use std::time::Instant;

use lunferry_engine::checkpoint::slots::{Choice, choose as choose_slot};
use lunferry_engine::copy::board::{Controls, Progress};
use lunferry_engine::copy::plan;
use lunferry_engine::copy::prepare::{Refused, processors, slot_views};
use lunferry_engine::copy::vehicle::Luns;
use lunferry_engine::copy::vehicle::choice::Wanted;
use lunferry_engine::lun::facts::Role;
use lunferry_engine::lun::open::OpenLun;
use lunferry_engine::lun::probe::probe;
use lunferry_engine::lun::safety::Refusal;
use lunferry_engine::lun::{sizing, topology};
use lunferry_engine::units::{Bytes, Span};
use lunferry_engine::verify::method::{WantedMethod, choose};
use lunferry_engine::verify::run::{Verified, compare};
use serde_json::json;

use crate::cli::{Cli, Method, Reading, VerifyArgs};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::progress::{Display, Phase};
use crate::stop;
use crate::summary::show_verify;

/// Compares.
pub fn run(args: &VerifyArgs, cli: &Cli) -> Exit {
    match try_run(args, cli) {
        Ok(exit) => exit,
        Err(failure) => failure.show(cli),
    }
}

fn try_run(args: &VerifyArgs, cli: &Cli) -> Result<Exit, Failure> {
    let (from, to) = (probe(&args.source)?, probe(&args.target)?);
    // A LUN equals itself, which says nothing of a copy.
    if let Some(how) = topology::same_storage(&from, &to)? {
        return Err(vec![Refused::Safety(Refusal::SameStorage { how })].into());
    }
    let source = OpenLun::open(&args.source, Role::Source)?;
    let target = OpenLun::open(&args.target, Role::Source)?;
    check_sizes(&source, &target)?;
    let chosen = choose(&source, &target, method(args), vehicle(args));
    let chosen = chosen.map_err(|refusal| vec![Refused::Vehicle(refusal)])?;
    warn_of_unfinished_copy(&source, &target);
    let (controls, progress) = (Arc::new(Controls::default()), Arc::new(Progress::default()));
    controls.set_rate(args.limit);
    stop::on_signals(&controls, cli.quiet).map_err(|error| Failure::new(Exit::Failed, "signals", error.to_string()))?;
    let whole = Span::new(Bytes::ZERO, source.info.capacity);
    let sizing = sizing::defaults(&source.info, &target.info, processors());
    let started = Instant::now();
    let verified = {
        let _display = Display::start(Phase::Verifying, &progress, Bytes::ZERO, whole.len(), cli.quiet);
        let luns = Luns { source: &source, target: &target, vehicle: &chosen.vehicle };
        compare(luns, chosen.method, &[whole], sizing, &controls, &progress)?
    };
    let seconds = started.elapsed().as_secs_f64();
    let (result, exit) = outcome(&verified);
    if cli.json {
        output::json(&json!({
            "result": result,
            "exit_code": exit as u8,
            "source": source.info.path,
            "target": target.info.path,
            "vehicle": chosen.vehicle.name,
            "method": chosen.method,
            "method_why": chosen.why,
            "bytes_total": whole.len(),
            "seconds": seconds,
            "verify": verified,
        }));
    } else if !cli.quiet {
        output::line(format_args!("{} and {}: {result}", source.info.path.display(), target.info.path.display()));
        let compared = verified.by_reading_bytes + verified.by_device_bytes;
        output::line(format_args!("  compared     {compared} in {seconds:.2} s, vehicle {}", chosen.vehicle.name));
        show_verify(&verified);
    }
    Ok(exit)
}

fn method(args: &VerifyArgs) -> WantedMethod {
    match args.method {
        Method::Read => WantedMethod::Read,
        Method::Verify16 => WantedMethod::Verify16,
        Method::Auto => WantedMethod::Auto,
    }
}

fn vehicle(args: &VerifyArgs) -> Wanted {
    match args.vehicle {
        Reading::Auto => Wanted::Auto,
        Reading::Uring => Wanted::Uring,
        Reading::Sg => Wanted::Sg,
    }
}

fn outcome(verified: &Verified) -> (&'static str, Exit) {
    if verified.differing_bytes > Bytes::ZERO {
        ("differs", Exit::Differs)
    } else if verified.interrupted {
        ("interrupted", Exit::Interrupted)
    } else {
        ("equal", Exit::Done)
    }
}

fn check_sizes(source: &OpenLun, target: &OpenLun) -> Result<(), Failure> {
    let (from, to) = (&source.info, &target.info);
    if to.capacity < from.capacity {
        let message = format!(
            "{} has {} bytes, less than the {} of {}: it can't hold a copy; give the smaller one first",
            to.path.display(),
            to.capacity.get(),
            from.capacity.get(),
            from.path.display()
        );
        return Err(Failure::new(Exit::Refused, "target_too_small", message));
    }
    if !from.capacity.is_multiple_of(to.logical_block) {
        let message = format!(
            "{} has {} bytes, which is no multiple of the {}-byte blocks of {}: its end can't be compared there",
            from.path.display(),
            from.capacity.get(),
            to.logical_block.get(),
            to.path.display()
        );
        return Err(Failure::new(Exit::Refused, "block_size", message));
    }
    Ok(())
}

/// A difference on a target whose copy is not finished is no surprise.
fn warn_of_unfinished_copy(source: &OpenLun, target: &OpenLun) {
    let expected = plan::expected(&source.info, &target.info);
    if let Ok([a, b]) = slot_views(target, Some(&expected))
        && let Choice::Use { record, .. } = choose_slot(a, b)
        && record.watermark < record.layout.source_len()
    {
        tracing::warn!(
            watermark = record.watermark.get(),
            "the target holds an unfinished copy of this source; `lunferry copy --resume` finishes it"
        );
    }
}
