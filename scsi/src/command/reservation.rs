//! PERSISTENT RESERVE OUT, opcode 5Fh (SPC-4: PERSISTENT RESERVE OUT command): who may write.
//!
//! Pure: fields in, CDB and the 24 bytes of parameter list out. Each service action has only the fields that the
//! standard gives it, so that a field that would be ignored can't be believed to work. SPEC_I_PT is always zero: a
//! nexus registers for itself alone. REGISTER AND MOVE is left out.

use crate::cdb::{Cdb, Command, EncodeError, Kind, Request, TimeoutClass, Transfer, flag};
use crate::key::Key;

/// Type of a persistent reservation (SPC-4: persistent reservations type). The scope is always the logical unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReservationType {
    /// 1h: the holder alone may write.
    WriteExclusive,
    /// 3h: the holder alone may read and write.
    ExclusiveAccess,
    /// 5h: every registrant may write, anybody may read. Lunferry's own (design 10).
    WriteExclusiveRegistrantsOnly,
    /// 6h: registrants alone may read and write (design H14).
    ExclusiveAccessRegistrantsOnly,
    /// 7h: as 5h, and every registrant is the holder.
    WriteExclusiveAllRegistrants,
    /// 8h: as 6h, and every registrant is the holder.
    ExclusiveAccessAllRegistrants,
}

impl ReservationType {
    /// Every type that is not obsolete.
    pub const ALL: [Self; 6] = [
        Self::WriteExclusive,
        Self::ExclusiveAccess,
        Self::WriteExclusiveRegistrantsOnly,
        Self::ExclusiveAccessRegistrantsOnly,
        Self::WriteExclusiveAllRegistrants,
        Self::ExclusiveAccessAllRegistrants,
    ];

    /// The code in the TYPE field.
    pub fn code(self) -> u8 {
        match self {
            Self::WriteExclusive => 1,
            Self::ExclusiveAccess => 3,
            Self::WriteExclusiveRegistrantsOnly => 5,
            Self::ExclusiveAccessRegistrantsOnly => 6,
            Self::WriteExclusiveAllRegistrants => 7,
            Self::ExclusiveAccessAllRegistrants => 8,
        }
    }

    /// The type of a code; nothing for an obsolete or a reserved one.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

/// What a registration lasts through and where it counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// APTPL: activate persist through power loss. A device without it refuses with 26h/00h.
    pub aptpl: bool,
    /// ALL_TG_PT: through every target port, for this initiator port.
    pub all_target_ports: bool,
}

/// One service action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReservationOut {
    /// 00h REGISTER: changes the key of this nexus from `current` to `new`. [`Key::NONE`] as `current` for a nexus
    /// without one, as `new` to unregister: with a registrants-only type an unregistering holder opens the LUN to
    /// everyone.
    Register {
        /// What this nexus has now.
        current: Key,
        /// What it gets.
        new: Key,
        /// APTPL and ALL_TG_PT.
        reach: Reach,
    },
    /// 06h REGISTER AND IGNORE EXISTING KEY: the same whatever this nexus has now. It brings back a nexus that somebody
    /// has fenced, so it is not sent before the reservation has been read.
    RegisterAndIgnore {
        /// What it gets.
        new: Key,
        /// APTPL and ALL_TG_PT.
        reach: Reach,
    },
    /// 01h RESERVE.
    Reserve {
        /// This nexus' key.
        key: Key,
        /// The type.
        kind: ReservationType,
    },
    /// 02h RELEASE: key and type must be the reservation's own.
    Release {
        /// This nexus' key.
        key: Key,
        /// The type of the reservation that is held.
        kind: ReservationType,
    },
    /// 03h CLEAR: every registration and the reservation. Never in normal work.
    Clear {
        /// This nexus' key.
        key: Key,
    },
    /// 04h PREEMPT: removes the registrations of `victim` and, where it is the holder, takes the reservation.
    Preempt {
        /// This nexus' key.
        key: Key,
        /// Whose registrations go.
        victim: Key,
        /// The type that the reservation gets.
        kind: ReservationType,
    },
    /// 05h PREEMPT AND ABORT: the same, and aborts the victim's commands. On LIO loopback it hangs the LUN for ever,
    /// and it is no fence over iSCSI (measured, design 10); here for targets on which it has been proven.
    PreemptAndAbort {
        /// This nexus' key.
        key: Key,
        /// Whose registrations go.
        victim: Key,
        /// The type that the reservation gets.
        kind: ReservationType,
    },
}

/// The fields of a service action, whichever it is.
struct Fields {
    name: &'static str,
    action: u8,
    kind: Option<ReservationType>,
    key: Key,
    action_key: Key,
    reach: Reach,
}

impl ReservationOut {
    fn fields(self) -> Fields {
        let fields = |name, action, kind, key, action_key, reach| Fields { name, action, kind, key, action_key, reach };
        let none = Reach::default();
        match self {
            Self::Register { current, new, reach } => {
                fields("PERSISTENT RESERVE OUT (REGISTER)", 0, None, current, new, reach)
            }
            Self::Reserve { key, kind } => {
                fields("PERSISTENT RESERVE OUT (RESERVE)", 1, Some(kind), key, Key::NONE, none)
            }
            Self::Release { key, kind } => {
                fields("PERSISTENT RESERVE OUT (RELEASE)", 2, Some(kind), key, Key::NONE, none)
            }
            Self::Clear { key } => fields("PERSISTENT RESERVE OUT (CLEAR)", 3, None, key, Key::NONE, none),
            Self::Preempt { key, victim, kind } => {
                fields("PERSISTENT RESERVE OUT (PREEMPT)", 4, Some(kind), key, victim, none)
            }
            Self::PreemptAndAbort { key, victim, kind } => {
                fields("PERSISTENT RESERVE OUT (PREEMPT AND ABORT)", 5, Some(kind), key, victim, none)
            }
            Self::RegisterAndIgnore { new, reach } => {
                let name = "PERSISTENT RESERVE OUT (REGISTER AND IGNORE EXISTING KEY)";
                fields(name, 6, None, Key::NONE, new, reach)
            }
        }
    }
}

impl Fields {
    fn checked(self) -> Result<Self, EncodeError> {
        let registers = self.action == 0 || self.action == 6;
        let zero = |field, means| Err(EncodeError::Zero { command: self.name, field, means });
        if !registers && self.key == Key::NONE {
            return zero("RESERVATION KEY", "is no registration's key; register this nexus first");
        }
        if matches!(self.action, 4 | 5) && self.action_key == Key::NONE {
            return zero("SERVICE ACTION RESERVATION KEY", "would name every other registrant at once");
        }
        Ok(self)
    }

    /// The parameter list (SPC-4: PERSISTENT RESERVE OUT parameter list).
    fn list(&self) -> Vec<u8> {
        let mut list = Vec::with_capacity(24);
        list.extend(self.key.0.to_be_bytes());
        list.extend(self.action_key.0.to_be_bytes());
        list.extend([0; 4]);
        list.push(flag(self.reach.all_target_ports, 0x04) | flag(self.reach.aptpl, 0x01));
        list.extend([0; 3]);
        list
    }
}

impl Command for ReservationOut {
    fn request(&self) -> Result<Request, EncodeError> {
        let fields = self.fields().checked()?;
        let list = fields.list();
        let length: u32 = 24;
        let cdb = Cdb::new(0x5F, 10)
            .put(1, [fields.action])
            .put(2, [fields.kind.map_or(0, ReservationType::code)])
            .put(5, length.to_be_bytes());
        let (transfer, timeout) = (Transfer::Out(list), TimeoutClass::Reservation);
        Ok(Request { name: fields.name, cdb, transfer, timeout, kind: Kind::ReservationOut })
    }
}
