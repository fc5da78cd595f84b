//! Reading big-endian fields of what a device sent, without ever going past its end.
//!
//! Pure: bytes in, values out. Devices send less than a standard asks for and more than was announced; both are
//! ordinary here. A field that is not there is an error where the answer is worth nothing without it, and `None` where
//! an older standard ends before it.

/// An answer that can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// It ends before a field without which it says nothing.
    #[error("{what}: the device sent {have} bytes and {field} ends at byte {need}")]
    Short {
        /// The page or parameter data.
        what: &'static str,
        /// The missing field, in the standard's words.
        field: &'static str,
        /// How many bytes there must be.
        need: usize,
        /// How many there are.
        have: usize,
    },
    /// A field has a value that this answer can't have.
    #[error("{what}: {field} is {value:#x}; {expected}")]
    Wrong {
        /// The page or parameter data.
        what: &'static str,
        /// The field, in the standard's words.
        field: &'static str,
        /// Its value.
        value: u64,
        /// What stands there in a right one, and what a wrong one means.
        expected: &'static str,
    },
}

/// Whether a list is all of what the device has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completeness {
    /// Every byte that the device announced came.
    Whole,
    /// The device announced more than came: ask again with `announced` bytes. What is missing from the list may exist.
    Cut {
        /// The whole answer's length in bytes, header included.
        announced: u64,
        /// How many came.
        received: u64,
    },
    /// All of it came, and behind the last entry stand bytes that are no whole entry: the device's list is not to be
    /// believed as complete.
    Ragged {
        /// How many.
        leftover: usize,
    },
}

impl Completeness {
    /// Whether what is not in the list does not exist.
    pub fn is_whole(self) -> bool {
        self == Self::Whole
    }
}

/// What a device sent, with the name of what it is.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    pub what: &'static str,
    pub bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, bytes }
    }

    /// The `N` bytes at `at`, where they came.
    pub(crate) fn get<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.bytes.get(at..)?.first_chunk().copied()
    }

    /// The `N` bytes at `at`, without which this is worth nothing.
    pub(crate) fn need<const N: usize>(self, at: usize, field: &'static str) -> Result<[u8; N], ParseError> {
        let short = ParseError::Short { what: self.what, field, need: at.saturating_add(N), have: self.bytes.len() };
        self.get(at).ok_or(short)
    }

    pub(crate) fn u8(self, at: usize, field: &'static str) -> Result<u8, ParseError> {
        self.need(at, field).map(|[byte]| byte)
    }

    pub(crate) fn u16(self, at: usize, field: &'static str) -> Result<u16, ParseError> {
        self.need(at, field).map(u16::from_be_bytes)
    }

    pub(crate) fn u32(self, at: usize, field: &'static str) -> Result<u32, ParseError> {
        self.need(at, field).map(u32::from_be_bytes)
    }

    pub(crate) fn u64(self, at: usize, field: &'static str) -> Result<u64, ParseError> {
        self.need(at, field).map(u64::from_be_bytes)
    }

    /// What came of the `announced` bytes behind a header of `header` bytes, and whether that is all.
    pub(crate) fn body(self, header: usize, announced: u64) -> (&'a [u8], Completeness) {
        let body = self.bytes.get(header..).unwrap_or_default();
        match usize::try_from(announced).ok().and_then(|length| body.get(..length)) {
            Some(exact) => (exact, Completeness::Whole),
            None => {
                let announced = announced.saturating_add(header as u64);
                (body, Completeness::Cut { announced, received: self.bytes.len() as u64 })
            }
        }
    }
}

/// Entries of `N` bytes each. Bytes that are no whole entry make the list ragged, where it was not cut anyway.
pub(crate) fn entries<const N: usize>(body: &[u8], completeness: Completeness) -> (&[[u8; N]], Completeness) {
    let (entries, rest) = body.as_chunks::<N>();
    (entries, ragged(rest.len(), completeness))
}

/// `completeness` of a list behind whose last entry `leftover` bytes stand.
pub(crate) fn ragged(leftover: usize, completeness: Completeness) -> Completeness {
    match completeness {
        Completeness::Whole if leftover > 0 => Completeness::Ragged { leftover },
        Completeness::Whole | Completeness::Cut { .. } | Completeness::Ragged { .. } => completeness,
    }
}

/// Whether a bit of a byte is set.
pub(crate) fn bit(byte: u8, number: u32) -> bool {
    byte >> number & 1 == 1
}

/// ASCII as devices pad it: without spaces and NULs around it, and what is not printable as `?`.
pub(crate) fn text(bytes: &[u8]) -> String {
    let shown = |byte: &u8| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '?' };
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes[..end].iter().map(shown).collect::<String>().trim().to_owned()
}
