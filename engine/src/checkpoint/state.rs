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

/// One of the two LUNs as the destination of a mirrored write. The numbers are part of the on-disk format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Leg {
    /// The LUN that data leaves.
    Source = 1,
    /// The LUN that data moves to.
    Target = 2,
}

impl Leg {
    /// The number on disk.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The leg with this number on disk, or `None` where there is none.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Source, Self::Target].into_iter().find(|leg| leg.number() == number)
    }
}

/// What a suspended migration must know to go on (design H16).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Suspension {
    /// The state that it came from.
    pub from: State,
    /// The leg that answers reads and takes the writes meanwhile.
    pub primary: Leg,
}

impl Suspension {
    /// That of a migration in `state` whose secondary leg fails now; nothing where it can't be suspended.
    pub fn of(state: State) -> Option<Self> {
        let primary = match state {
            State::Syncing | State::SourceSelected => Leg::Source,
            State::TargetSelected => Leg::Target,
            State::Defined | State::Finalising | State::Committed | State::Suspended | State::Aborted => return None,
        };
        Some(Self { from: state, primary })
    }

    /// Whether a migration can come to it: by H1 the source may be the primary leg whatever it was before.
    pub fn is_possible(self) -> bool {
        Self::of(self.from).is_some_and(|usual| self.primary == Leg::Source || usual.primary == self.primary)
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
    fn a_suspension_knows_its_leg() {
        let possible = |from, primary| Suspension { from, primary }.is_possible();
        for state in State::ALL {
            let usual = Suspension::of(state);
            assert_eq!(usual.is_some(), possible(state, Leg::Source), "{state}");
            assert_eq!(state == State::TargetSelected, possible(state, Leg::Target), "{state}");
            assert!(usual.is_none_or(Suspension::is_possible), "{state}");
        }
        assert_eq!([1, 2].map(Leg::from_number), [Some(Leg::Source), Some(Leg::Target)]);
        assert_eq!([0, 3].map(Leg::from_number), [None, None]);
    }

    #[test]
    fn a_number_without_a_state_is_none() {
        for number in 0..=u8::MAX {
            assert_eq!(State::from_number(number).map(State::number), (1..=8).contains(&number).then_some(number));
        }
    }
}
