//! What has happened, as whoever watches reads it and as the log says it.
//!
//! Pure: values to words.

use lunferry_engine::units::BytesPerSecond;
use lunferry_scsi::key::NodeId;
use serde::{Deserialize, Serialize};

use super::io::Told;
use super::settings::Settings;
use crate::event::{Notice, Over};
use crate::message::Unfit;

/// One line of the stream of events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happened {
    /// Milliseconds since 1970.
    pub unix_ms: u64,
    /// The node that tells it.
    pub node: String,
    /// In which migration.
    pub migration: String,
    /// A word for programs.
    pub event: String,
    /// The same in words for people.
    pub text: String,
}

/// A word for programs, and the same in words.
pub(super) fn in_words(told: &Told, settings: &Settings) -> (&'static str, String) {
    match told {
        Told::Notice(notice) => notice_in_words(notice, settings),
        Told::Acts(epoch, agreed) => ("acts", format!("goes by the state {} in epoch {}", agreed.state, epoch.0)),
        Told::Opened => ("opened", "both LUNs are open".into()),
        Told::NotOpened(why, again) => ("not_opened", format!("{why}; tried again in {again} ms")),
        Told::Over(why) => over_in_words(*why),
        Told::Throttled(limit) => ("throttled", throttled_in_words(*limit)),
        Told::Left => ("left", "takes no part any more: the agent stops".into()),
    }
}

fn throttled_in_words(limit: Option<BytesPerSecond>) -> String {
    limit.map_or_else(|| "copies without a limit".into(), |limit| format!("copies at {limit} at most"))
}

fn name(settings: &Settings, node: NodeId) -> String {
    settings.node(node).map_or_else(|| format!("node {}", node.0), |node| node.name.clone())
}

/// Why a node isn't ready for a step.
fn unfit_in_words(unfit: Unfit) -> &'static str {
    match unfit {
        Unfit::Door => "its front door can't drain",
        Unfit::Source => "it doesn't reach the source",
        Unfit::Target => "it doesn't reach the target",
        Unfit::Registration => "its key is missing",
    }
}

fn notice_in_words(notice: &Notice, settings: &Settings) -> (&'static str, String) {
    let name = |node: &NodeId| name(settings, *node);
    match notice {
        Notice::TookOver { epoch, from } => {
            ("took_over", format!("is the mover in epoch {}, and goes on from {from} ({} bytes)", epoch.0, from.0))
        }
        Notice::Admitted(node) => ("admitted", format!("{} takes part", name(node))),
        Notice::Evicted(node) => ("evicted", format!("{} was fenced", name(node))),
        Notice::Cancelled { to, by: Some((node, Some(why))) } => (
            "cancelled",
            format!("the step to {to} was cancelled: {} refused it, {}", name(node), unfit_in_words(*why)),
        ),
        Notice::Cancelled { to, by: Some((node, None)) } => {
            ("cancelled", format!("the step to {to} was cancelled: {} did not answer", name(node)))
        }
        Notice::Cancelled { to, by: None } => {
            ("cancelled", format!("the step to {to} was cancelled: it took too long"))
        }
        Notice::Declined(..) => ("declined", "an order was declined".into()),
        Notice::HandOverFailed(node) => {
            ("hand_over_failed", format!("{} did not take over; the copy goes on here", name(node)))
        }
    }
}

fn over_in_words(why: Over) -> (&'static str, String) {
    let why = match why {
        Over::Fenced => return ("fenced", "was fenced by another node; begins anew".into()),
        Over::HandedOver => return ("handed_over", "has handed over".into()),
        Over::Outrun => "another node was quicker",
        Over::StorageFailed => "the storage failed",
        Over::CheckpointRefused => {
            "the checkpoint on the target can't be gone on from: a fork, a later format, or another migration's"
        }
    };
    ("over", format!("begins anew: {why}"))
}
