//! The agent's clock, which goes on while the host sleeps (design H14).
//!
//! Acts: reads clocks.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::config::Ms;

/// A clock that began with the agent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    began: Timespec,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { began: clock_gettime(ClockId::Boottime) }
    }

    /// Milliseconds since then; it never goes back.
    pub(super) fn now(&self) -> Ms {
        let now = clock_gettime(ClockId::Boottime);
        let ms = (now.tv_sec - self.began.tv_sec) * 1_000 + (now.tv_nsec - self.began.tv_nsec).div_euclid(1_000_000);
        Ms(u64::try_from(ms).unwrap_or_default())
    }
}

/// What the calendar says, for people alone.
pub(super) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
