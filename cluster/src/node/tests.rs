//! Tests of the state machine on its own.
//!
//! Pure: as what it tests.
