//! What a command asks of the reservation (SPC-4 and SBC-3: commands that are allowed in the presence of various
//! reservations).
//!
//! Pure: a CDB in, a value out. PERSISTENT RESERVE OUT is free here: [`super::Reservations::apply`] judges it itself.

/// What a command needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// Nothing: allowed through every nexus whatever is reserved.
    Free,
    /// What a write exclusive reservation leaves to everybody.
    Read,
    /// What only the holder may do, or the registrants.
    Write,
}

/// What a command needs, by its operation code and service action. What is not known counts as a write.
pub fn access(cdb: &[u8]) -> Access {
    let operation = cdb.first().copied().unwrap_or(0xFF);
    let action = cdb.get(1).map_or(0, |byte| byte & 0x1F);
    match (operation, action) {
        // TEST UNIT READY, REQUEST SENSE, INQUIRY, READ CAPACITY(10), PERSISTENT RESERVE IN and OUT, REPORT LUNS.
        (0x00 | 0x03 | 0x12 | 0x25 | 0x5E | 0x5F | 0xA0, _) => Access::Free,
        // READ CAPACITY(16), REPORT TARGET PORT GROUPS.
        (0x9E, 0x10) | (0xA3, 0x0A) => Access::Free,
        // READ(6), (10), (12) and (16), VERIFY(10), (12) and (16), GET LBA STATUS.
        (0x08 | 0x28 | 0xA8 | 0x88 | 0x2F | 0xAF | 0x8F, _) | (0x9E, 0x12) => Access::Read,
        // WRITE, COMPARE AND WRITE, UNMAP, WRITE SAME; SYNCHRONIZE CACHE, EXTENDED COPY and RECEIVE COPY RESULTS too.
        _ => Access::Write,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_need_what_the_standard_says() {
        for (cdb, needs) in [
            (&[0x00, 0][..], Access::Free),
            (&[0x12, 1], Access::Free),
            (&[0x5E, 3], Access::Free),
            (&[0x5F, 5], Access::Free),
            (&[0x9E, 0x10], Access::Free),
            (&[0xA3, 0x2A], Access::Free),
            (&[0x9E, 0x12], Access::Read),
            (&[0x88, 0x08], Access::Read),
            (&[0x8F, 0x02], Access::Read),
            (&[0x8A, 0x08], Access::Write),
            (&[0x89, 0], Access::Write),
            (&[0x42, 0], Access::Write),
            (&[0x93, 0x08], Access::Write),
            (&[0x91, 0], Access::Write),
            (&[0x83, 0], Access::Write),
            (&[0x9E, 0x1F], Access::Write),
            (&[0xC7], Access::Write),
            (&[], Access::Write),
        ] {
            assert_eq!(access(cdb), needs, "{cdb:02x?}");
        }
    }
}
