//! scsi
pub mod bytes;
pub mod category;
pub mod cdb;
pub mod command;
pub mod key;
pub mod page;
pub mod retry;
pub mod sense;
pub mod status;
pub mod units;
