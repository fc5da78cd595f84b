//! What the service manager is told: that the agent is ready, how it is, that its loop still turns.
//!
//! Acts: talks to systemd where it has started this process, and does nothing anywhere else.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tracing::debug;

use super::owner::Agent;

/// The line to the service manager.
pub struct Notifier {
    /// How often it wants to hear that the loop turns.
    every: Option<Duration>,
    last: Option<Instant>,
    status: String,
}

impl Notifier {
    /// Where systemd has started this process.
    pub fn of_systemd() -> Self {
        // Twice as often as it must be, so that one turn that is late kills nobody.
        Self { every: sd_notify::watchdog_enabled().map(|limit| limit / 2), last: None, status: String::new() }
    }

    /// For an agent that isn't this process' only purpose.
    pub fn none() -> Self {
        Self { every: None, last: None, status: String::new() }
    }

    /// The agent takes part.
    pub(super) fn ready(&self) {
        tell(&[NotifyState::Ready]);
    }

    /// It is on its way out.
    pub(super) fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }

    /// The loop has made a turn. Only the loop calls it: a loop that hangs is restarted.
    pub(super) fn alive(&mut self, agent: &Agent) {
        let Some(every) = self.every else {
            return;
        };
        if self.last.is_some_and(|last| last.elapsed() < every) {
            return;
        }
        self.last = Some(Instant::now());
        let status = agent.summary();
        if status == self.status {
            tell(&[NotifyState::Watchdog]);
        } else {
            tell(&[NotifyState::Watchdog, NotifyState::Status(&status)]);
            self.status = status;
        }
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!("the service manager can't be told: {error}");
    }
}
