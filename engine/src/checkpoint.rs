//! The metadata area on the target: what lets another process, or another host, go on where this one stopped.
//!
//! The files below decide from bytes and numbers and are pure, all but `store`, which reads and writes the area.
//!
//! ```text
//!   layout   where the area lies on the target, and what of it the source's own data will need back
//!   record   one superblock record: 512 bytes to and from a struct
//!   slots    the two slots as they were read -> the record to go on from, or why there is none
//!   state    the states of a migration, by their number on disk
//!   heartbeat  one node's sign of life: 512 bytes to and from a struct
//!   field    tables of fields, for record and heartbeat
//!   store    reads and writes the slots through the LUN trait
//! ```
//!
//! The format for people is `docs/on-disk-format.md`; a test holds it against the code.

pub mod field;
pub mod heartbeat;
pub mod layout;
pub mod record;
pub mod slots;
pub mod state;
pub mod store;
