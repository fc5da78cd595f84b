//! How large the requests of a copy are, and how many are in flight, when the operator doesn't say.
//!
//! Pure: the facts of both LUNs in, three numbers out.
//!
//! - **Extent 1 MiB.** Large enough that the cost of a request vanishes, small enough that several of them are in flight
//!   within a small memory. Raised to a multiple of the optimal I/O size where a device has one above 64 KiB and up to
//!   4 MiB: that is a RAID's stripe, and a write of half a stripe makes the array read the other half. Smaller ones divide
//!   1 MiB already, larger ones are a driver's way to say "much". The target's comes first, since only writes suffer.
//!   `max_io` doesn't matter: the kernel splits a request, and still sees that the pieces are neighbours.
//! - **Depth times extent near 8 MiB.** Measured on loop devices over files, 4 GiB, medians of five alternated rounds: 8
//!   requests of 1 MiB copied 5093 MB/s on tmpfs and 1406 on disk for 0.046 and 0.039 processor seconds a GiB, 16 of 512 KiB
//!   4261 and 1560 for 0.066 and 0.043. What is in flight beyond the device's own queue only waits in the page cache's and
//!   the disk's way: 64 requests of 512 KiB were slower than 16.
//! - **One worker.** Measured on the same: a second thread brings nothing (1124 MB/s with two), because io_uring hands the
//!   work to the kernel anyway, and a real adapter moves the bytes by itself.
//! - **Two where the adapter's driver moves them with the processor that a request was sent from**: LIO's loopback, which sysfs
//!   tells by its driver's name. One thread keeps one processor busy there. Measured on two emulated ones, 256 MiB, medians of
//!   five rounds, by the copy's own clock: 2.2 s with one and 1.6 with two on ramdisks, 0.70 and 0.63 on files in memory
//!   (`bench/results/vm-20261125T130843Z.jsonl`). Together they have in flight what one has elsewhere.
//! - **Two with digests.** The ring is told of new requests only when its thread has nothing else to do, and a digest keeps it
//!   from that for 40 us an extent: lanes that wait for one another fall into step, and one LUN idles while the other works.
//!   Measured on files on disk, 2 GiB, six alternated rounds: 1380 MB/s with one thread, 1637 with two, 1826 without digests.

use serde::Serialize;

use super::facts::LunInfo;
use crate::units::Bytes;

/// The shape of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Sizing {
    /// Bytes of one read and one write; a multiple of every block size of both LUNs.
    pub extent: Bytes,
    /// How many extents of one worker are in flight.
    pub depth: usize,
    /// How many threads copy, each with a ring of its own.
    pub workers: usize,
}

impl Sizing {
    /// The same for a copy that takes digests.
    #[must_use]
    pub fn with_digests(self) -> Self {
        Self { workers: self.workers.max(DIGESTING_WORKERS), ..self }
    }
}

const DIGESTING_WORKERS: usize = 2;

/// What an extent is at least.
const EXTENT: Bytes = Bytes::mib(1);
/// An optimal I/O size up to here divides `EXTENT` or is no stripe.
const SMALL_OPTIMAL: Bytes = Bytes::kib(64);
/// An optimal I/O size above this is no stripe either, and no step may exceed it.
const LARGE_OPTIMAL: Bytes = Bytes::mib(4);
/// The memory that the workers have in flight together.
const IN_FLIGHT: Bytes = Bytes::mib(8);
const SHALLOWEST: u64 = 4;
const DEEPEST: u64 = 64;

/// Drivers of adapters whose bytes the processors of this host move, where a request was sent from.
const BY_PROCESSOR: [&str; 1] = ["tcm_loopback"];
/// As many threads as have been seen to bring something there.
const MOST_WORKERS: usize = 2;

/// The driver by which the processors of this host move the bytes of one of them.
pub fn by_processor<'a>(source: &'a LunInfo, target: &'a LunInfo) -> Option<&'a str> {
    let adapters = [&source.adapter, &target.adapter];
    adapters.into_iter().flatten().map(String::as_str).find(|driver| BY_PROCESSOR.contains(driver))
}

/// Good numbers for a copy from `source` to `target` on a host with so many processors.
pub fn defaults(source: &LunInfo, target: &LunInfo, processors: usize) -> Sizing {
    let blocks = [source.logical_block, source.physical_block, target.logical_block, target.physical_block];
    let mut step = blocks.into_iter().fold(Bytes(1), |step, block| common(step, block).unwrap_or(step));
    for optimal in [target.optimal_io, source.optimal_io].into_iter().flatten() {
        if optimal > SMALL_OPTIMAL
            && let Some(larger) = common(step, optimal)
        {
            step = larger;
        }
    }
    let extent = EXTENT.align_up(step);
    let workers = if by_processor(source, target).is_some() { processors.clamp(1, MOST_WORKERS) } else { 1 };
    let depth = (IN_FLIGHT.0 / workers as u64 / extent.0).clamp(SHALLOWEST, DEEPEST);
    Sizing { extent, depth: Bytes(depth).as_len(), workers }
}

/// The least common multiple, where it is a size that an extent may have.
fn common(one: Bytes, other: Bytes) -> Option<Bytes> {
    let (mut larger, mut rest) = (one.0, other.0);
    while rest != 0 {
        (larger, rest) = (rest, larger % rest);
    }
    let multiple = one.0.checked_div(larger)?.checked_mul(other.0)?;
    (1..=LARGE_OPTIMAL.0).contains(&multiple).then_some(Bytes(multiple))
}

#[cfg(test)]
mod tests {
    use super::super::safety::tests::lun;
    use super::*;

    fn sized(source: Option<Bytes>, target: Option<Bytes>) -> Sizing {
        let (mut from, mut to) = (lun("/dev/a"), lun("/dev/b"));
        from.optimal_io = source;
        to.optimal_io = target;
        defaults(&from, &to, 8)
    }

    #[test]
    fn without_wishes_it_is_what_was_measured_to_be_fast() {
        assert_eq!(sized(None, None), Sizing { extent: Bytes::mib(1), depth: 8, workers: 1 });
        assert_eq!(sized(None, None).with_digests(), Sizing { extent: Bytes::mib(1), depth: 8, workers: 2 });
    }

    #[test]
    fn where_the_processors_move_the_bytes_two_workers_share_what_is_in_flight() {
        let of = |source: Option<&str>, target: Option<&str>, processors| {
            let (mut from, mut to) = (lun("/dev/a"), lun("/dev/b"));
            (from.adapter, to.adapter) = (source.map(str::to_owned), target.map(str::to_owned));
            let sizing = defaults(&from, &to, processors);
            (sizing.workers, sizing.depth)
        };
        let (loopback, fibre) = (Some("tcm_loopback"), Some("qla2xxx"));
        for (source, target, processors, workers, depth) in [
            (loopback, loopback, 2, 2, 4),
            (loopback, fibre, 8, 2, 4),
            (None, loopback, 8, 2, 4),
            (loopback, loopback, 1, 1, 8),
            (loopback, loopback, 0, 1, 8),
            (fibre, fibre, 8, 1, 8),
            (None, None, 8, 1, 8),
        ] {
            let sizes = of(source, target, processors);
            assert_eq!(sizes, (workers, depth), "{source:?} {target:?} on {processors} processors");
        }
    }

    #[test]
    fn a_stripe_raises_the_extent_to_a_multiple_of_it() {
        for (source, target, extent, depth) in [
            (None, Some(Bytes::kib(64)), Bytes::mib(1), 8),
            (None, Some(Bytes::kib(192)), Bytes::kib(1152), 7),
            (None, Some(Bytes::mib(1)), Bytes::mib(1), 8),
            (Some(Bytes::mib(4)), None, Bytes::mib(4), 4),
            (None, Some(Bytes::mib(5)), Bytes::mib(1), 8),
            (Some(Bytes::kib(192)), Some(Bytes::kib(320)), Bytes::kib(1920), 4),
            // Together above 4 MiB: the target's alone counts.
            (Some(Bytes::kib(704)), Some(Bytes::kib(832)), Bytes::kib(1664), 4),
            // No multiple of the block: extents must be, so the stripe gives way or grows.
            (None, Some(Bytes(100_000)), Bytes::mib(1), 8),
            (None, Some(Bytes(u64::MAX)), Bytes::mib(1), 8),
        ] {
            let sizing = sized(source, target);
            assert_eq!((sizing.extent, sizing.depth), (extent, depth), "{source:?} {target:?}");
        }
    }

    #[test]
    fn an_extent_is_a_multiple_of_every_block() {
        for physical in [Bytes(512), Bytes(4096), Bytes::kib(16), Bytes::kib(64)] {
            let (mut from, to) = (lun("/dev/a"), lun("/dev/b"));
            from.physical_block = physical;
            let sizing = defaults(&from, &to, 8);
            assert!(sizing.extent.is_multiple_of(physical) && sizing.extent.is_multiple_of(to.logical_block));
        }
    }
}
