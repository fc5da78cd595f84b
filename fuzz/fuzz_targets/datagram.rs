//! Bytes that came from the network: none make decoding panic, and what it accepts is exactly what encoding makes.
//!
//! Half of the inputs get the cluster's magic and a MAC of its key, so that they get past both: as from somebody who has the
//! key. What is accepted goes on to the sessions.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lunferry_cluster::config::Ms;
use lunferry_cluster::session::Sessions;
use lunferry_cluster::wire::{Datagram, Keys, VERSION};
use lunferry_scsi::key::NodeId;
use uuid::Uuid;

const KEY: [u8; 32] = [7; 32];
const MAC_LEN: usize = 32;

fuzz_target!(|data: &[u8]| {
    let Some((kind, data)) = data.split_first() else { return };
    let (mut bytes, keys) = (data.to_vec(), Keys::new(KEY, None));
    if kind % 2 == 1 && bytes.len() > 6 + MAC_LEN {
        bytes[..4].copy_from_slice(b"LFDG");
        bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
        let at = bytes.len() - MAC_LEN;
        let mac = blake3::keyed_hash(&KEY, &bytes[..at]);
        bytes[at..].copy_from_slice(mac.as_bytes());
    }
    if let Ok(datagram) = Datagram::decode(&bytes, &keys) {
        assert_eq!(datagram.encode(&keys), bytes, "accepted, and not what encoding makes");
        let (cluster, me) = (Uuid::nil(), NodeId(1));
        let mut sessions = Sessions::new(cluster, me, [me, datagram.sender]);
        let at_home = Datagram { cluster, receiver: me, ..datagram };
        let _ = sessions.judge(Ms(1), at_home, 7);
    }
});
