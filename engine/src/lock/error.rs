//! Why a LUN could not be locked, or is locked no more.
//!
//! Pure. Each error names the device and the mend; the command line maps them to exit codes.

use lunferry_scsi::initiator::CommandError;
use lunferry_scsi::key::{Key, OwnKey};
use thiserror::Error;

/// Why there is no lock.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another node holds it, or an earlier start of this one through a path that this host can't prove to be its own.
    #[error("{device}: another copier holds it: key {} ({by}){}", .by.key(), .since.as_ref().map_or(String::new(), |since| format!("; {since}")))]
    HeldElsewhere {
        /// The LUN.
        device: String,
        /// Who.
        by: OwnKey,
        /// What its checkpoint tells of it, in words.
        since: Option<String>,
    },
    /// Nobody holds it, and other copiers are registered and stay so.
    #[error(
        "{device}: other copiers are registered on it and none holds it: {}; if they are dead, --take-over fences them",
        keys_in_words(keys)
    )]
    Registered {
        /// The LUN.
        device: String,
        /// Their keys.
        keys: Vec<Key>,
    },
    /// A cluster of hosts uses the LUN.
    #[error(
        "{device}: it has registrations that are not Lunferry's ({}){}: hosts use it; end that use{}",
        keys_in_words(keys),
        holder_in_words(*holder),
        if *may_waive { ", or copy without a reservation of the source with --source-fencing none: then nothing keeps another \
            copier off it" } else { " before it is overwritten" }
    )]
    Foreign {
        /// The LUN.
        device: String,
        /// Their keys.
        keys: Vec<Key>,
        /// The holder's key, where it is reserved.
        holder: Option<Key>,
        /// Whether the operator may do without a reservation of this LUN.
        may_waive: bool,
    },
    /// A nexus of this host bears a key that is neither Lunferry's nor of this node.
    #[error(
        "{path}: this path is registered with a key of another program, or of a copier that ran with another --node \
         (`sg_persist -k {path}` lists them); let that one unregister first, or give its --node"
    )]
    OtherProgram {
        /// The path.
        path: String,
    },
    /// A take-over of what can't be reserved would fence nobody.
    #[error(
        "{device}: nothing keeps a host that still copies to it from going on, since there is no reservation to take ({why}): make \
         sure that it is down, and say so with --fenced-hosts-are-down"
    )]
    CannotFence {
        /// The target.
        device: String,
        /// Why it has none.
        why: String,
    },
    /// More is registered than one command can tell.
    #[error("{device}: it has more registrations than can be read at once; remove stale ones")]
    Unclear {
        /// The LUN.
        device: String,
    },
    /// It was held, and is no more.
    #[error(
        "{device}: this host was fenced: {}; nothing more is written",
        match by { Some(by) => format!("key {by} holds the reservation now"), None => "nobody holds the reservation now".to_owned() }
    )]
    Lost {
        /// The LUN.
        device: String,
        /// Who holds it now.
        by: Option<Key>,
    },
    /// A fence was begun and its outcome can't be seen.
    #[error("{device}: the fence of key {victim} did not come to its end: {why}; nothing was copied, run it again")]
    FenceUnproven {
        /// The LUN.
        device: String,
        /// Whose.
        victim: Key,
        /// What is missing.
        why: String,
    },
    /// No path of it answers.
    #[error("{device}: none of its {paths} paths answers; the last one: {last}")]
    NoPath {
        /// The LUN.
        device: String,
        /// How many there are.
        paths: usize,
        /// Why the last one doesn't.
        last: String,
    },
    /// A command failed.
    #[error(transparent)]
    Command(#[from] CommandError),
}

impl LockError {
    /// Whether somebody else has the lock, as opposed to a device that fails or an operator's matter.
    pub fn is_elsewhere(&self) -> bool {
        matches!(self, Self::HeldElsewhere { .. } | Self::Registered { .. } | Self::Lost { .. })
    }

    /// A stable word for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::HeldElsewhere { .. } => "held_elsewhere",
            Self::Registered { .. } => "registered_elsewhere",
            Self::Foreign { .. } => "foreign_registrations",
            Self::OtherProgram { .. } => "other_registration",
            Self::CannotFence { .. } => "cannot_fence",
            Self::Unclear { .. } => "too_many_registrations",
            Self::Lost { .. } => "fenced",
            Self::FenceUnproven { .. } => "fence_unproven",
            Self::NoPath { .. } => "no_path",
            Self::Command(_) => "reservation",
        }
    }
}

fn keys_in_words(keys: &[Key]) -> String {
    if keys.is_empty() {
        return "none listed".into();
    }
    let word = |key: &Key| OwnKey::from_key(*key).map_or(key.to_string(), |own| format!("{key}, {own}"));
    keys.iter().map(word).collect::<Vec<_>>().join("; ")
}

fn holder_in_words(holder: Option<Key>) -> String {
    match holder {
        None => String::new(),
        Some(Key::NONE) => " and is reserved by all of them".into(),
        Some(key) => format!(" and is reserved by {key}"),
    }
}
