//! The rate over the last minute, and what it promises.
//!
//! Pure: time and counts come in as values.

use std::collections::VecDeque;
use std::time::Duration;

use lunferry_engine::units::{Bytes, BytesPerSecond};

/// How far back the rate looks.
const WINDOW: Duration = Duration::from_secs(60);

/// What was done when, over the last minute.
#[derive(Debug, Default)]
pub struct Rate {
    samples: VecDeque<(Duration, Bytes)>,
}

impl Rate {
    /// At time `now`, `done` bytes were done.
    pub fn sample(&mut self, now: Duration, done: Bytes) {
        self.samples.push_back((now, done));
        // One sample from before the window stays, so that the rate is always over a whole one.
        while self.samples.len() > 2 && self.samples[1].0 + WINDOW < now {
            self.samples.pop_front();
        }
    }

    /// The rate over the window; none before there are two samples some time apart.
    pub fn rate(&self) -> Option<BytesPerSecond> {
        let (&(start, from), &(end, to)) = (self.samples.front()?, self.samples.back()?);
        let nanos = end.checked_sub(start).filter(|span| !span.is_zero())?.as_nanos();
        let rate = u128::from(to.saturating_sub(from).0) * 1_000_000_000 / nanos;
        Some(BytesPerSecond(u64::try_from(rate).unwrap_or(u64::MAX)))
    }

    /// How long `left` bytes will take at that rate.
    pub fn eta(&self, left: Bytes) -> Option<Duration> {
        let rate = self.rate().filter(|rate| rate.0 > 0)?;
        Some(Duration::from_secs(left.0.div_ceil(rate.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_minute_counts() {
        let mut rate = Rate::default();
        assert_eq!(rate.rate(), None);
        (0..=100).for_each(|s| rate.sample(Duration::from_secs(s), Bytes(s * 100)));
        (101..=200).for_each(|s| rate.sample(Duration::from_secs(s), Bytes(10_000 + (s - 100) * 10)));
        assert_eq!(rate.rate(), Some(BytesPerSecond(10)));
        assert_eq!(rate.eta(Bytes(95)), Some(Duration::from_secs(10)));
        assert!(rate.samples.len() < 70);
    }

    #[test]
    fn a_copy_that_stands_still_promises_nothing() {
        let mut rate = Rate::default();
        (0..5).for_each(|s| rate.sample(Duration::from_secs(s), Bytes(7)));
        assert_eq!(rate.eta(Bytes(1)), None);
    }
}
