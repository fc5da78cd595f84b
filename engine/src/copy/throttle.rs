//! The rate limit of a copy: when the next bytes may start.
//!
//! Pure: time comes in as a value. The limit may change between any two calls.

use std::time::Duration;

use crate::units::{Bytes, BytesPerSecond};

/// How much a copy that was held up may catch up in one go. Longer bursts would starve the LUN's other users.
const BURST: Duration = Duration::from_millis(50);

/// Bytes times nanoseconds in a second: the unit in which allowances add up without rounding.
const PER_BYTE: u128 = 1_000_000_000;

/// Spaces requests so that their bytes keep to a rate.
///
/// An account of bytes: what was admitted on one side, what the rate has allowed so far on the other. A request starts when
/// all that was admitted before it is allowed, so a new rate counts at once for those that wait already.
#[derive(Debug, Default)]
pub struct Throttle {
    /// Bytes admitted so far, in [`PER_BYTE`].
    admitted: u128,
    /// Bytes allowed until `seen`, in [`PER_BYTE`].
    allowed: u128,
    /// The time of the last call.
    seen: Duration,
    /// The rate since then, as far as the last call knew.
    rate: Option<BytesPerSecond>,
}

/// A request's place in the account.
#[derive(Clone, Copy, Debug)]
pub struct Ticket(u128);

impl Throttle {
    /// Admits `bytes` at time `now`; [`Throttle::wait`] says when they may start.
    pub fn admit(&mut self, now: Duration, bytes: Bytes, rate: Option<BytesPerSecond>) -> Ticket {
        self.advance(now, rate);
        let ticket = Ticket(self.admitted);
        self.admitted += u128::from(bytes.0) * PER_BYTE;
        ticket
    }

    /// How long from `now` on the request of `ticket` must wait at the rate of now. Ask again after that, or when the rate
    /// has changed.
    pub fn wait(&mut self, now: Duration, ticket: Ticket, rate: Option<BytesPerSecond>) -> Duration {
        self.advance(now, rate);
        let missing = ticket.0.saturating_sub(self.allowed);
        let nanos = rate.map_or(0, |rate| missing.div_ceil(u128::from(rate.0.max(1))));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Adds what the rate has allowed since the last call. What nobody used is kept for a burst and no longer; a debt is
    /// forgotten where there is no limit.
    fn advance(&mut self, now: Duration, rate: Option<BytesPerSecond>) {
        let passed = now.saturating_sub(self.seen).as_nanos();
        if let Some(BytesPerSecond(rate)) = self.rate {
            let rate = u128::from(rate);
            let most = self.admitted.saturating_add(rate * BURST.as_nanos());
            self.allowed = self.allowed.saturating_add(rate.saturating_mul(passed)).min(most);
        }
        if self.rate.is_none() || rate.is_none() {
            self.allowed = self.admitted;
        }
        self.seen = self.seen.max(now);
        self.rate = rate;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Option<BytesPerSecond> = Some(BytesPerSecond(1000));

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// When a request of `bytes` that comes at `now` starts, where nothing changes meanwhile.
    fn start(throttle: &mut Throttle, now: u64, bytes: u64, rate: Option<BytesPerSecond>) -> Duration {
        let ticket = throttle.admit(ms(now), Bytes(bytes), rate);
        ms(now) + throttle.wait(ms(now), ticket, rate)
    }

    #[test]
    fn bytes_leave_at_the_rate() {
        let mut throttle = Throttle::default();
        let starts: Vec<_> = (0..4).map(|_| start(&mut throttle, 1000, 500, RATE)).collect();
        assert_eq!(starts, [ms(1000), ms(1500), ms(2000), ms(2500)]);
    }

    #[test]
    fn an_idle_time_is_not_saved_up() {
        let mut throttle = Throttle::default();
        throttle.admit(ms(0), Bytes(100), RATE);
        let starts: Vec<_> = (0..3).map(|_| start(&mut throttle, 60_000, 100, RATE)).collect();
        assert_eq!(starts, [ms(60_000), ms(60_050), ms(60_150)]);
    }

    #[test]
    fn a_new_limit_counts_for_those_that_wait() {
        let mut throttle = Throttle::default();
        throttle.admit(ms(0), Bytes(10_000), RATE);
        let ticket = throttle.admit(ms(0), Bytes(1000), RATE);
        assert_eq!(throttle.wait(ms(0), ticket, RATE), ms(10_000));
        assert_eq!(
            throttle.wait(ms(5000), ticket, Some(BytesPerSecond(50_000))),
            ms(100),
            "half was paid for at the old rate"
        );
    }

    #[test]
    fn a_limit_that_was_lifted_leaves_no_debt() {
        let mut throttle = Throttle::default();
        let ticket = throttle.admit(ms(0), Bytes(u64::MAX), Some(BytesPerSecond(1)));
        assert_eq!(throttle.wait(ms(0), ticket, None), ms(0));
        assert_eq!(start(&mut throttle, 1, 500, RATE), ms(1));
        assert_eq!(start(&mut throttle, 1, 500, RATE), ms(501));
    }

    #[test]
    fn absurd_numbers_do_not_overflow() {
        let mut throttle = Throttle::default();
        throttle.admit(ms(1), Bytes(u64::MAX), Some(BytesPerSecond(1)));
        let late = throttle.admit(ms(1), Bytes(u64::MAX), Some(BytesPerSecond(1)));
        assert_eq!(throttle.wait(ms(1), late, Some(BytesPerSecond(1))), Duration::from_nanos(u64::MAX));
        throttle.wait(Duration::from_secs(u64::from(u32::MAX)), late, Some(BytesPerSecond(u64::MAX)));
    }
}
