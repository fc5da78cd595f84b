//! The metadata area on the target: what lets another process, or another host, go on where this one stopped.
//!
//! Pure: the files below decide from bytes and numbers. What reads and writes the area stands beside them in `store`.
//!
//! ```text
//!   layout   where the area lies on the target, and what of it the source's own data will need back
//!   record   one superblock record: 512 bytes to and from a struct
//!   slots    the two slots as they were read -> the record to go on from, or why there is none
//!   state    the states of a migration, by their number on disk
//! ```
//!
//! The format for people is `docs/on-disk-format.md`; a test holds it against the code.

pub mod layout;
pub mod record;
pub mod slots;
pub mod state;
