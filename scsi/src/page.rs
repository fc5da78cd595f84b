//! What devices answer, one parser for each kind of page or parameter data.
//!
//! Pure: bytes in, values out; total. Give each parser exactly the bytes that were transferred (the buffer's length
//! less the residual), never a whole zeroed buffer: zeroes that no device sent would be read as an answer.

pub mod capacity;
pub mod copy;
pub mod designator;
pub mod identity;
pub mod inquiry;
pub mod limits;
pub mod lists;
pub mod ports;
pub mod reservation;
pub mod transport_id;
