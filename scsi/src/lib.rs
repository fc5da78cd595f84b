//! SCSI for Lunferry: typed commands, sense data, VPD pages, SG_IO and persistent reservations.
//!
//! This room depends on no other room of the project. It is still empty: `lunferry copy` reaches LUNs through the
//! kernel's block layer alone, and the program says so in the lock kind of every summary.
