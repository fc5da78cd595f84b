//! One field of an on-disk format, and tables of them.
//!
//! Pure: constants, and how a field's bytes are taken and put.
//!
//! What must hold: the fields of a table follow each other without a gap.

use std::ops::Range;

/// One field of the format. Numbers are little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name, as errors and the document say it.
    pub name: &'static str,
    /// Its first byte, from the start of what the table is of.
    pub offset: usize,
    /// How many bytes.
    pub len: usize,
    /// What stands there.
    pub meaning: &'static str,
}

impl Field {
    pub(in crate::checkpoint) const fn first(name: &'static str, len: usize, meaning: &'static str) -> Self {
        Self { name, offset: 0, len, meaning }
    }

    pub(in crate::checkpoint) const fn then(&self, name: &'static str, len: usize, meaning: &'static str) -> Self {
        Self { name, offset: self.end(), len, meaning }
    }

    /// The byte after its last one.
    pub const fn end(&self) -> usize {
        self.offset + self.len
    }

    /// Its bytes' places.
    pub const fn range(&self) -> Range<usize> {
        self.offset..self.end()
    }

    /// Its bytes in `bytes`, which must be as long as the field's table says.
    pub(in crate::checkpoint) fn bytes<const N: usize>(&self, bytes: &[u8]) -> [u8; N] {
        let mut value = [0; N];
        value.copy_from_slice(&bytes[self.range()]);
        value
    }

    pub(in crate::checkpoint) fn u8(&self, bytes: &[u8]) -> u8 {
        u8::from_le_bytes(self.bytes(bytes))
    }

    pub(in crate::checkpoint) fn u16(&self, bytes: &[u8]) -> u16 {
        u16::from_le_bytes(self.bytes(bytes))
    }

    pub(in crate::checkpoint) fn u32(&self, bytes: &[u8]) -> u32 {
        u32::from_le_bytes(self.bytes(bytes))
    }

    pub(in crate::checkpoint) fn u64(&self, bytes: &[u8]) -> u64 {
        u64::from_le_bytes(self.bytes(bytes))
    }

    /// Puts `value`, which must be as long as the field, in its place.
    pub(in crate::checkpoint) fn put<const N: usize>(&self, bytes: &mut [u8], value: [u8; N]) {
        bytes[self.range()].copy_from_slice(&value);
    }
}

/// Names the fields of a table and lists them in the order of their places.
macro_rules! table {
    (
        $(#[$about:meta])* $list:ident;
        $first:ident $first_name:literal $first_len:literal $first_meaning:literal;
        $($field:ident after $before:ident $name:literal $len:literal $meaning:literal;)*
    ) => {
        pub(super) const $first: Field = Field::first($first_name, $first_len, $first_meaning);
        $(pub(super) const $field: Field = $before.then($name, $len, $meaning);)*
        $(#[$about])*
        pub const $list: &[Field] = &[$first $(, $field)*];
    };
}
pub(in crate::checkpoint) use table;
