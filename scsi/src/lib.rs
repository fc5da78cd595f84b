//! SCSI for Lunferry: what can be said to a logical unit, what it answers, and what an answer means.
//!
//! This room depends on no other room of the project. Its pure half is values in, values out; what acts is two small
//! files: `sg.rs`, which hands commands to the kernel, and `initiator.rs`, which sends them again as `retry.rs` says.
//!
//! ```text
//! command/*  ->  cdb::Request  ->    transport     ->  status::Completion  ->  category  ->  retry
//!                                                   ->  the bytes that came ->  page/*
//! ```
//!
//! | file | what it is for |
//! | --- | --- |
//! | `units.rs` | LBAs, counts of blocks, generations: newtypes |
//! | `key.rs` | reservation keys, and how Lunferry's own tell node and incarnation |
//! | `cdb.rs` | an encoded command: CDB, transfer, timeout class, what a second sending means; the errors of encoding |
//! | `command/enquiry.rs` | INQUIRY, TEST UNIT READY, READ CAPACITY, REPORT LUNS, REPORT TARGET PORT GROUPS, PERSISTENT RESERVE IN |
//! | `command/transfer.rs` | READ, WRITE, VERIFY, COMPARE AND WRITE, SYNCHRONIZE CACHE |
//! | `command/thin.rs` | UNMAP, WRITE SAME, GET LBA STATUS |
//! | `command/reservation.rs` | PERSISTENT RESERVE OUT |
//! | `command/copy.rs` | EXTENDED COPY, RECEIVE COPY RESULTS |
//! | `bytes.rs` | fields out of what came, and whether a list is whole |
//! | `page/inquiry.rs`, `limits.rs` | standard INQUIRY data; VPD pages 00h, 80h, B0h, B1h, B2h |
//! | `page/designator.rs`, `identity.rs` | VPD page 83h, and the one name that a LUN is known by |
//! | `page/capacity.rs`, `lists.rs`, `ports.rs` | capacities; LBA status and LUN lists; target port groups |
//! | `page/reservation.rs`, `transport_id.rs` | keys, holder, capabilities, full status; whose a registration is |
//! | `page/copy.rs` | what a copy manager can do, and how a copy stands |
//! | `sense.rs`, `sense/codes.rs` | sense data in both formats; names of additional sense codes |
//! | `status.rs` | how a command ended, in the words of device, host adapter and driver |
//! | `category.rs` | what that means: one category for each completion |
//! | `retry.rs` | whether a command is sent again |
//! | `rules.rs` | persistent reservations as a device server keeps them: the state and what an action does to it |
//! | `rules/access.rs`, `wire.rs`, `answers.rs` | what a command asks of the reservation; PERSISTENT RESERVE OUT decoded, IN answered |
//! | `transport.rs` | the way to one device server: the trait, and the memory of one transfer |
//! | `sg.rs` | that way through the kernel: SG_IO and SG_SCSI_RESET (`unsafe`) |
//! | `initiator.rs` | sends, retries by the policy, and hands back what came, typed |
//!
//! Clauses of SPC-4 (INCITS 513-2015), SBC-3 (INCITS 514-2014) and SAM-5 (INCITS 515-2016) are named by their titles:
//! their numbers differ from draft to draft, and the drafts are what can be had.

pub mod bytes;
pub mod category;
pub mod cdb;
pub mod command;
pub mod initiator;
pub mod key;
pub mod page;
pub mod retry;
pub mod rules;
pub mod sense;
pub mod sg;
pub mod status;
pub mod transport;
pub mod units;
