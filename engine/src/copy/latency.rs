//! Latencies of a worker's requests, as HDR histograms.
//!
//! Pure: durations come in as values.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longer than any request lives: an hour, in microseconds.
const LONGEST_US: u64 = 3_600_000_000;

/// The latencies of reads from the source and of writes to the target.
#[derive(Clone, Debug)]
pub struct Latencies {
    reads: Histogram<u64>,
    writes: Histogram<u64>,
}

impl Default for Latencies {
    fn default() -> Self {
        let histogram = || Histogram::new_with_bounds(1, LONGEST_US, 2).expect("constant bounds are valid");
        Self { reads: histogram(), writes: histogram() }
    }
}

impl Latencies {
    /// A read took this long.
    pub fn read(&mut self, took: Duration) {
        self.reads.saturating_record(micros(took));
    }

    /// A write or a punch took this long.
    pub fn write(&mut self, took: Duration) {
        self.writes.saturating_record(micros(took));
    }

    /// Adds another worker's.
    pub fn merge(&mut self, other: &Latencies) {
        self.reads.add(&other.reads).expect("the same bounds");
        self.writes.add(&other.writes).expect("the same bounds");
    }

    /// The summary of both: reads, writes.
    pub fn summary(&self) -> (LatencySummary, LatencySummary) {
        (LatencySummary::of(&self.reads), LatencySummary::of(&self.writes))
    }
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(LONGEST_US)
}

/// Percentiles in microseconds; all zero where nothing was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LatencySummary {
    /// How many requests.
    pub count: u64,
    /// The median.
    pub p50: u64,
    /// Of a hundred requests, the slowest but one.
    pub p99: u64,
    /// Of a thousand.
    pub p999: u64,
    /// The slowest.
    pub max: u64,
}

impl LatencySummary {
    fn of(histogram: &Histogram<u64>) -> Self {
        Self {
            count: histogram.len(),
            p50: histogram.value_at_quantile(0.5),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            max: histogram.max(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_all_workers() {
        let (mut one, mut other) = (Latencies::default(), Latencies::default());
        (0..99).for_each(|_| one.read(Duration::from_micros(100)));
        other.read(Duration::from_secs(7200));
        one.merge(&other);
        let (reads, writes) = one.summary();
        assert_eq!((reads.count, reads.p50, writes.count), (100, 100, 0));
        assert!(reads.max >= LONGEST_US, "{reads:?}");
    }
}
