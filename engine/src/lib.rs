//! The engine room of Lunferry: LUNs opened for I/O, the extent queue, checkpoints on the target, verify.
//!
//! Two kinds of files live here, and the first line after a file's summary says which one it is. *Pure* files decide:
//! they take events, bytes and times as values and give values back, so that the simulator runs the very same code.
//! The others act: they touch a descriptor or a clock, and are kept small.
//!
//! ```text
//!   copy/        one copy from define to done: queue (pure), throttle (pure), zeroes (pure), lanes, session
//!   checkpoint/  the metadata area on the target: record (pure), layout (pure), slots (pure), store
//!   lock/        the reservation that other hosts meet: who may copy (pure), claims, fences, its emulation for files
//!   lun/         opening, probing, who uses a LUN, the safety verdict (pure), the vehicles' I/O: io_uring, SCSI commands
//!   verify       compares two LUNs, or one LUN with the digests of a copy
//! ```

pub mod buffer;
pub mod checkpoint;
pub mod copy;
pub mod digest;
pub mod lock;
pub mod lun;
pub mod units;
pub mod verify;
