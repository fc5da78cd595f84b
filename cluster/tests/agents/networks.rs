//! Two networks at the same time, and keys that change.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use lunferry_cluster::wire::Keys;
use lunferry_fixtures::cluster_live::LivePair;

use crate::support::{Cluster, KEY, PATIENCE, taking_part};

/// A second address for each node, of the other family; nothing where this machine has no IPv6.
fn second_network() -> Option<[SocketAddr; 2]> {
    let free = || UdpSocket::bind("[::1]:0").and_then(|socket| Ok((socket.local_addr()?, socket)));
    // Both are held until both are known, or they would be the same.
    let (Ok(first), Ok(second)) = (free(), free()) else {
        return None;
    };
    Some([first.0, second.0])
}

/// Two agents with an address in each of two networks. Where `cut`, what they send in the first one goes nowhere.
fn dual(cut: bool) -> Option<Cluster> {
    let second = second_network()?;
    let mut cluster = Cluster::new(2, LivePair::new(1_000, Duration::from_millis(10)));
    // Somebody listens there, and never answers.
    let nowhere = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for index in 0..2 {
        let mut settings = cluster.settings(index);
        for (node, address) in settings.nodes.iter_mut().zip(second) {
            node.addresses.push(address);
        }
        if cut {
            settings.nodes[1 - index].addresses[0] = nowhere;
        }
        cluster.start_as(index, &Keys::new(KEY, None), settings);
    }
    Some(cluster)
}

#[test]
fn both_networks_are_used_and_each_alone_is_enough() {
    for cut in [false, true] {
        let Some(cluster) = dual(cut) else {
            println!("SKIPPED: networks: this machine has no IPv6 loopback");
            return;
        };
        cluster.begun();
        let view = cluster.view(0);
        assert_eq!(view.nodes[1].colour, "green");
        // With both, each datagram comes twice.
        let twice = view.dropped.get("replayed").copied().unwrap_or_default();
        assert!(if cut { twice == 0 } else { twice > 0 }, "cut {cut}: {twice} came twice: {view:#?}");
    }
}

#[test]
fn a_key_changes_while_the_cluster_runs() {
    let next = [43; 32];
    let mut cluster = Cluster::started(2, LivePair::new(1_000, Duration::from_millis(10)));
    cluster.begun();
    // Each step of the guide: accept the new one everywhere, send with it everywhere, forget the old one.
    for keys in [Keys::new(KEY, Some(next)), Keys::new(next, Some(KEY)), Keys::new(next, None)] {
        for index in 0..2 {
            cluster.leave(index);
            cluster.start_with(index, &keys);
            for here in 0..2 {
                cluster.until(here, "both take part", |view| taking_part(view) == 2);
            }
        }
    }
    // The control: one who doesn't change it isn't heard.
    cluster.leave(1);
    cluster.start_with(1, &Keys::new(KEY, None));
    let began = Instant::now();
    while !cluster.view(0).dropped.contains_key("wrong_mac") {
        assert!(began.elapsed() < PATIENCE, "it isn't refused: {:#?}", cluster.view(0));
    }
    assert_eq!(cluster.view(1).nodes[0].heard_ms_ago, None);
}
