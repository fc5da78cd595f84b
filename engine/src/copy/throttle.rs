//! The rate limit of a copy: when the next bytes may start.
//!
//! Pure: time comes in as a value. The limit may change between any two calls.

use std::time::Duration;

use crate::units::{Bytes, BytesPerSecond};

/// How much a copy that was held up may catch up in one go. Longer bursts would starve the LUN's other users.
const BURST: Duration = Duration::from_millis(50);

/// Spaces requests so that their bytes keep to a rate (the generic cell rate algorithm, ITU-T I.371 annex A).
#[derive(Debug, Default)]
pub struct Throttle {
    /// When the bytes admitted so far would all have left at the rate.
    paid_until: Duration,
}

impl Throttle {
    /// Admits `bytes` at time `now`; the time at which they may start, which is never before `now`.
    pub fn admit(&mut self, now: Duration, bytes: Bytes, rate: Option<BytesPerSecond>) -> Duration {
        let Some(BytesPerSecond(rate)) = rate else {
            self.paid_until = now;
            return now;
        };
        let start = self.paid_until.max(now.saturating_sub(BURST));
        let nanos = u128::from(bytes.0) * 1_000_000_000 / u128::from(rate.max(1));
        self.paid_until = start + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        start.max(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Option<BytesPerSecond> = Some(BytesPerSecond(1000));

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn bytes_leave_at_the_rate() {
        let mut throttle = Throttle::default();
        let starts: Vec<_> = (0..4).map(|_| throttle.admit(ms(1000), Bytes(500), RATE)).collect();
        assert_eq!(starts, [ms(1000), ms(1450), ms(1950), ms(2450)]);
    }

    #[test]
    fn an_idle_time_is_not_saved_up() {
        let mut throttle = Throttle::default();
        throttle.admit(ms(0), Bytes(100), RATE);
        let starts: Vec<_> = (0..3).map(|_| throttle.admit(ms(60_000), Bytes(100), RATE)).collect();
        assert_eq!(starts, [ms(60_000), ms(60_050), ms(60_150)]);
    }

    #[test]
    fn the_limit_may_change_and_vanish() {
        let mut throttle = Throttle::default();
        throttle.admit(ms(100), Bytes(1000), RATE);
        assert_eq!(throttle.admit(ms(100), Bytes(1000), Some(BytesPerSecond(10_000))), ms(1050));
        assert_eq!(throttle.admit(ms(200), Bytes(1000), None), ms(200));
        assert_eq!(throttle.admit(ms(200), Bytes(1000), None), ms(200));
    }

    #[test]
    fn absurd_numbers_do_not_overflow() {
        let mut throttle = Throttle::default();
        throttle.admit(ms(1), Bytes(u64::MAX), Some(BytesPerSecond(1)));
        assert!(throttle.admit(ms(1), Bytes(1), None) == ms(1));
    }
}
