//! The states of a migration (design, section 5), by the number that stands in a checkpoint.
//!
//! Pure: names and numbers. Which state may follow which is not decided here.

use std::fmt;

use serde::Serialize;

/// The state of a migration. The numbers are part of the on-disk format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum State {
    /// Both LUNs are known and locked, the metadata area is written, nothing is copied yet.
    Defined = 1,
    /// The copy runs.
    Syncing = 2,
    /// Both LUNs are equal; the source answers reads.
    SourceSelected = 3,
    /// Both LUNs are equal; the target answers reads.
    TargetSelected = 4,
    /// The overlay range is being copied and the metadata goes. From here there is no way back.
    Finalising = 5,
    /// The target is the volume, the source is given up.
    Committed = 6,
    /// The secondary leg failed or an operator paused: what is written is marked.
    Suspended = 7,
    /// The target is given up.
    Aborted = 8,
}

impl State {
    /// Every state, in the order of the numbers.
    pub const ALL: [State; 8] = [
        Self::Defined,
        Self::Syncing,
        Self::SourceSelected,
        Self::TargetSelected,
        Self::Finalising,
        Self::Committed,
        Self::Suspended,
        Self::Aborted,
    ];

    /// The number on disk.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The state with this number on disk, or `None` where there is none.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.number() == number)
    }

    /// The name as output shows it: `source_selected`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Defined => "defined",
            Self::Syncing => "syncing",
            Self::SourceSelected => "source_selected",
            Self::TargetSelected => "target_selected",
            Self::Finalising => "finalising",
            Self::Committed => "committed",
            Self::Suspended => "suspended",
            Self::Aborted => "aborted",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_on_disk_never_change() {
        let numbers = State::ALL.map(|state| (state.number(), state.name()));
        assert_eq!(
            numbers,
            [
                (1, "defined"),
                (2, "syncing"),
                (3, "source_selected"),
                (4, "target_selected"),
                (5, "finalising"),
                (6, "committed"),
                (7, "suspended"),
                (8, "aborted"),
            ]
        );
    }

    #[test]
    fn a_number_without_a_state_is_none() {
        for number in 0..=u8::MAX {
            assert_eq!(State::from_number(number).map(State::number), (1..=8).contains(&number).then_some(number));
        }
    }
}
