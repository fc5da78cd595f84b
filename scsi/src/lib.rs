//! scsi
pub mod bytes;
pub mod cdb;
pub mod command;
pub mod key;
pub mod page;
pub mod units;
