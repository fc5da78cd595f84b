//! What a copy came to, for people and for programs.

use lunferry_engine::checkpoint::layout::LayoutKind;
use lunferry_engine::copy::board::Progress;
use lunferry_engine::copy::error::CopyError;
use lunferry_engine::copy::latency::LatencySummary;
use lunferry_engine::copy::plan::KnownZero;
use lunferry_engine::copy::prepare::Prepared;
use lunferry_engine::copy::run::Copied;
use lunferry_engine::copy::session::{End, Start};
use lunferry_engine::copy::unreadable::Unreadable;
use lunferry_engine::copy::vehicle::choice::{VehicleName, Wanted};
use lunferry_engine::copy::zeroes::ZeroMode;
use lunferry_engine::lock::report::LockReport;
use lunferry_engine::lun::facts::Signature;
use lunferry_engine::lun::sg::durable::DurableBy;
use lunferry_engine::units::{Bytes, BytesPerSecond};
use lunferry_engine::verify::run::Verified;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};
use serde::Serialize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::exit::Exit;
use crate::output;

/// The summary of one run of `lunferry copy`. `docs/json.md` describes it.
#[derive(Debug, Serialize)]
pub struct Summary {
    result: &'static str,
    exit_code: u8,
    source: String,
    source_identity: String,
    target: String,
    target_identity: String,
    migration: Option<String>,
    vehicle: VehicleName,
    vehicle_detail: VehicleDetail,
    lock: Lock,
    bytes_total: Bytes,
    resumed_from_bytes: Option<Bytes>,
    watermark_bytes: Bytes,
    bytes_copied: Bytes,
    bytes_zeroed: Bytes,
    bytes_skipped: Bytes,
    bytes_unreadable: Bytes,
    bytes_unreadable_before: Bytes,
    zeroes: Zeroed,
    retries: u64,
    seconds: f64,
    cpu_seconds: f64,
    mb_per_s: f64,
    read_latency_us: LatencySummary,
    write_latency_us: LatencySummary,
    checkpoints: u64,
    checkpoint_layout: Option<LayoutKind>,
    extent_bytes: Bytes,
    depth: usize,
    workers: usize,
    /// Why there is more than one, where nobody asked for that.
    workers_why: Option<String>,
    buffer_bytes: Bytes,
    peak_memory_bytes: Bytes,
    unreadable: Vec<Unreadable>,
    overridden_signatures: Vec<Signature>,
    verify: Option<Verified>,
    verify_error: Option<String>,
}

/// How both LUNs of a copy were locked.
#[derive(Debug, Serialize)]
pub struct Lock {
    /// This host's number.
    node: u16,
    /// Where the number comes from.
    node_from: &'static str,
    /// The key of this run.
    key: String,
    source: LockReport,
    target: LockReport,
    /// Whether the storage itself keeps other hosts from writing to the target.
    stops_other_hosts: bool,
}

impl Lock {
    /// Of a prepared copy.
    pub fn of(prepared: &Prepared) -> Self {
        let [source, target] = prepared.lock.report();
        let node = prepared.lock.node();
        Self {
            node: node.id.0,
            node_from: node.from,
            key: prepared.lock.own().key().to_string(),
            stops_other_hosts: target.reservation == "scsi",
            source,
            target,
        }
    }

    /// In words.
    pub fn show(&self) {
        let Self { node, node_from, key, source, target, .. } = self;
        output::line(format_args!("  lock         key {key} of node {node} (from {node_from})"));
        for (name, report) in [("source", source), ("target", target)] {
            output::line(format_args!("    {name:<10} {report}"));
        }
    }
}

#[derive(Debug, Serialize)]
struct VehicleDetail {
    wanted: Wanted,
    why: String,
    /// Of what was copied, what the array moved itself.
    bytes_by_array: Bytes,
    /// Why the array did not go on.
    array_gave_up: Option<String>,
    /// Nothing where no checkpoint was written.
    checkpoints_by: Option<DurableBy>,
}

#[derive(Debug, Serialize)]
struct Zeroed {
    mode: ZeroMode,
    /// Whether a punch that turned out not to work was replaced by writing.
    fell_back: bool,
    known_zero: Option<KnownZero>,
}

impl Summary {
    /// The summary of a run whose copying, without the verify, took this much of time and of the processors.
    pub fn new(
        prepared: &Prepared,
        copied: &Copied,
        verified: Result<Option<Verified>, CopyError>,
        progress: &Progress,
        (took, cpu): (Duration, Duration),
    ) -> Self {
        let plan = &prepared.plan;
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let (read, write) = copied.latencies.summary();
        let record = plan.checkpoints.as_ref().map(|checkpoints| &checkpoints.record);
        let resumed = plan.checkpoints.as_ref().filter(|c| matches!(c.start, Start::Resume { .. }));
        let before = resumed.map_or(Bytes::ZERO, |c| c.record.counters.unreadable_bytes);
        let [copied_bytes, zeroed, skipped, unreadable] =
            [&progress.copied, &progress.zeroed, &progress.skipped, &progress.unreadable].map(|c| Bytes(count(c)));
        let total = prepared.source.info.capacity;
        let (verify, verify_error) = match verified {
            Ok(verify) => (verify, None),
            Err(error) => (None, Some(error.to_string())),
        };
        let mut summary = Self {
            result: "complete",
            exit_code: 0,
            source: prepared.source.info.path.display().to_string(),
            source_identity: prepared.source.info.identity.to_string(),
            target: prepared.target.info.path.display().to_string(),
            target_identity: prepared.target.info.identity.to_string(),
            migration: record.map(|record| record.migration.to_string()),
            vehicle: ran(prepared, copied),
            vehicle_detail: VehicleDetail {
                wanted: prepared.vehicle.wanted,
                why: prepared.vehicle.why.clone(),
                bytes_by_array: copied.by_array,
                array_gave_up: copied.array_gave_up.clone(),
                checkpoints_by: copied.checkpoints_by,
            },
            lock: Lock::of(prepared),
            bytes_total: total,
            resumed_from_bytes: resumed.map(|_| plan.bulk.start),
            watermark_bytes: match copied.end {
                End::Complete => total,
                End::Interrupted(watermark) => watermark,
            },
            bytes_copied: copied_bytes,
            bytes_zeroed: zeroed,
            bytes_skipped: skipped,
            bytes_unreadable: unreadable,
            bytes_unreadable_before: before,
            zeroes: Zeroed {
                mode: copied.zeroes,
                fell_back: copied.zeroes != plan.zeroes,
                known_zero: plan.known_zero,
            },
            retries: count(&progress.retried),
            seconds: took.as_secs_f64(),
            cpu_seconds: cpu.as_secs_f64(),
            mb_per_s: megabytes_per_second(copied_bytes + zeroed + skipped, took),
            read_latency_us: read,
            write_latency_us: write,
            checkpoints: count(&progress.checkpoints),
            checkpoint_layout: record.map(|record| record.layout.kind()),
            extent_bytes: plan.sizing.extent,
            depth: plan.sizing.depth,
            workers: plan.sizing.workers,
            workers_why: plan.workers_why.clone(),
            buffer_bytes: plan.buffer_memory(),
            peak_memory_bytes: peak_memory(),
            unreadable: copied.unreadable.clone(),
            overridden_signatures: prepared.overridden.clone(),
            verify,
            verify_error,
        };
        (summary.result, summary.exit_code) = summary.outcome(copied.end);
        summary
    }

    fn outcome(&self, end: End) -> (&'static str, u8) {
        let verify_stopped = self.verify.as_ref().is_some_and(|verify| verify.interrupted);
        let differs = self.verify.as_ref().is_some_and(|verify| verify.differing_bytes > Bytes::ZERO);
        let (result, exit) = if differs {
            ("differs", Exit::Differs)
        } else if matches!(end, End::Interrupted(_)) || verify_stopped {
            ("interrupted", Exit::Interrupted)
        } else if self.verify_error.is_some() {
            ("complete_but_verify_failed", Exit::Failed)
        } else if self.bytes_unreadable + self.bytes_unreadable_before > Bytes::ZERO {
            ("complete_but_unreadable", Exit::Failed)
        } else {
            ("complete", Exit::Done)
        };
        (result, exit as u8)
    }

    /// The exit code of the run.
    pub fn exit(&self) -> Exit {
        match self.result {
            "complete" => Exit::Done,
            "differs" => Exit::Differs,
            "interrupted" => Exit::Interrupted,
            _ => Exit::Failed,
        }
    }

    /// Shows it to a person.
    pub fn show(&self) {
        output::line(format_args!("{} -> {}: {}", self.source, self.target, self.result.replace('_', " ")));
        if let Some(from) = self.resumed_from_bytes {
            output::line(format_args!("  resumed      from {from} of {}", self.bytes_total));
        }
        output::line(format_args!(
            "  copied       {} of data in {:.2} s, {} in all ({})",
            self.bytes_copied,
            self.seconds,
            self.bytes_copied + self.bytes_zeroed + self.bytes_skipped,
            BytesPerSecond(per_second(self.bytes_copied + self.bytes_zeroed + self.bytes_skipped, self.seconds)),
        ));
        let cpu = 100.0 * self.cpu_seconds / self.seconds.max(1e-9);
        output::line(format_args!("  processors   {:.2} s, {cpu:.0} % of one", self.cpu_seconds));
        output::line(format_args!("  zeroes       {}", self.zeroes_in_words()));
        for (name, latency) in [("reads", &self.read_latency_us), ("writes", &self.write_latency_us)] {
            let LatencySummary { count, p50, p99, p999, max } = latency;
            output::line(format_args!(
                "  {name:<12} {count}; p50 {p50} us, p99 {p99} us, p99.9 {p999} us, max {max} us"
            ));
        }
        let layout = match self.checkpoint_layout {
            Some(LayoutKind::PastEnd) => "past the source's end",
            Some(LayoutKind::Overlay) => "over the target's last bytes, gone when complete",
            None => "none: the target is too small for them",
        };
        output::line(format_args!("  checkpoints  {} ({layout})", self.checkpoints));
        output::line(format_args!("  ran          vehicle {} ({})", self.vehicle, self.vehicle_detail.why));
        self.show_array();
        self.lock.show();
        output::line(format_args!(
            "  memory       {} of buffers ({} x {} x {}), {} at the peak",
            self.buffer_bytes, self.workers, self.depth, self.extent_bytes, self.peak_memory_bytes
        ));
        if let Some(why) = &self.workers_why {
            output::line(format_args!("  workers      {}: {why}", self.workers));
        }
        if self.retries > 0 {
            output::line(format_args!("  retried      {} requests", self.retries));
        }
        for signature in &self.overridden_signatures {
            output::line(format_args!(
                "  overridden   signature {} at byte {}",
                signature.kind,
                signature.offset.get()
            ));
        }
        self.show_unreadable();
        if let Some(verify) = &self.verify {
            show_verify(verify);
        }
        if let Some(error) = &self.verify_error {
            output::line(format_args!("  verify       failed: {error}"));
        }
        if self.result == "interrupted" {
            output::line(format_args!("  go on with   --resume, from {}", self.watermark_bytes));
        }
    }

    fn show_array(&self) {
        let VehicleDetail { bytes_by_array, array_gave_up, .. } = &self.vehicle_detail;
        if *bytes_by_array > Bytes::ZERO {
            output::line(format_args!("  by the array {bytes_by_array} of the data"));
        }
        if let Some(why) = array_gave_up {
            output::line(format_args!("  fell back    from xcopy to uring: {why}"));
        }
    }

    fn zeroes_in_words(&self) -> String {
        let known = match self.zeroes.known_zero {
            Some(KnownZero::Operator) => "; known by --target-is-zero",
            Some(KnownZero::AllHole) => "; known because the file had no data",
            None => "",
        };
        let fell_back = if self.zeroes.fell_back { ", because the target refused to punch" } else { "" };
        let amount = self.bytes_zeroed + self.bytes_skipped;
        format!("{amount} {}{fell_back}{known}", self.zeroes.mode)
    }

    fn show_unreadable(&self) {
        for Unreadable { span, lba, blocks, errno } in &self.unreadable {
            output::line(format_args!("  unreadable   {lba}, {blocks} blocks ({span}), errno {errno}"));
        }
        if self.bytes_unreadable_before > Bytes::ZERO {
            let before = self.bytes_unreadable_before;
            output::line(format_args!("  unreadable   {before} in an earlier run, listed there"));
        }
    }
}

/// The vehicle that moved bytes: an array that gave up before its first was none.
fn ran(prepared: &Prepared, copied: &Copied) -> VehicleName {
    match prepared.vehicle.name {
        VehicleName::Xcopy if copied.array_gave_up.is_some() && copied.by_array == Bytes::ZERO => VehicleName::Uring,
        name => name,
    }
}

/// Shows what a verify found.
pub fn show_verify(verify: &Verified) {
    let Verified { by_digest_bytes, by_reading_bytes, by_device_bytes, .. } = verify;
    let how = if *by_device_bytes > Bytes::ZERO {
        format!("{by_device_bytes} by the target's VERIFY(16)")
    } else {
        format!("{by_digest_bytes} by digest, {by_reading_bytes} by reading both sides")
    };
    if verify.interrupted {
        output::line(format_args!("  verify       interrupted ({how})"));
    } else if verify.is_equal() {
        output::line(format_args!("  verify       equal ({how})"));
    } else {
        output::line(format_args!("  verify       {} in blocks that differ ({how})", verify.differing_bytes));
    }
    if verify.left_out_bytes > Bytes::ZERO {
        output::line(format_args!("  left out     {} that the source could not read", verify.left_out_bytes));
    }
    if verify.unlisted_bytes > Bytes::ZERO {
        output::line(format_args!("  differs      {} more than is listed here", verify.unlisted_bytes));
    }
    for difference in &verify.differences {
        output::line(format_args!(
            "  differs      {}, {} blocks ({})",
            difference.lba, difference.blocks, difference.span
        ));
    }
}

#[allow(clippy::cast_precision_loss, reason = "a rate to show; 53 bits are more than enough")]
fn megabytes_per_second(bytes: Bytes, took: Duration) -> f64 {
    let seconds = took.as_secs_f64();
    if seconds > 0.0 { bytes.0 as f64 / 1e6 / seconds } else { 0.0 }
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate to show; 53 bits are more than enough"
)]
fn per_second(bytes: Bytes, seconds: f64) -> u64 {
    if seconds > 0.0 { (bytes.0 as f64 / seconds) as u64 } else { 0 }
}

/// Processor time of this process so far, user and system.
pub fn cpu_time() -> Duration {
    getrusage(UsageWho::RUSAGE_SELF).map_or(Duration::ZERO, |usage| {
        let micros = |time: TimeVal| u64::try_from(time.num_microseconds()).unwrap_or(0);
        Duration::from_micros(micros(usage.user_time()) + micros(usage.system_time()))
    })
}

/// The most memory that the process has had resident (getrusage(2), `ru_maxrss`, in KiB on Linux).
fn peak_memory() -> Bytes {
    let kib = getrusage(UsageWho::RUSAGE_SELF).map_or(0, |usage| usage.max_rss());
    Bytes::kib(u64::try_from(kib).unwrap_or(0))
}
