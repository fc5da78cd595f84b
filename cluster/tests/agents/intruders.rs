//! Datagrams of others.
