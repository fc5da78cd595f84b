//! The commands, one type each, by what they are for.
//!
//! Pure: each turns its fields into a [`crate::cdb::Request`], and errs where they do not fit.

pub mod copy;
pub mod enquiry;
pub mod reservation;
pub mod thin;
pub mod transfer;
