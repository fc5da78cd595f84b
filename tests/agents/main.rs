//! Three real agents, each in a network namespace of its own, with loop devices over the same two files: the mover is killed,
//! stopped, cut off from its network and from its storage, everybody is killed at once; each time the copy goes on from the
//! last durable watermark, and the target equals the source in the end.
//!
//! Needs root, `ip` and `losetup`. `scripts/bench-takeover` does the kills fifty times, and measures.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing there")]

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lunferry_fixtures::loopdev;
use lunferry_fixtures::real::cluster::{Cluster, NAMES, Volume, until};
use lunferry_fixtures::real::drill::{Blow, begin, everybody_takes_part, finish, hit};
use lunferry_fixtures::real::network;
use lunferry_fixtures::stamp::Dice;

const LUNFERRY: &str = env!("CARGO_BIN_EXE_lunferry");

/// A copy of some seconds: time for something to happen to it.
const VOLUME: Volume = Volume { bytes: 256 << 20, limit_mib: 40, seed: 7 };

/// Each test has the addresses and the processors for itself.
fn alone() -> Option<MutexGuard<'static, ()>> {
    static ALONE: Mutex<()> = Mutex::new(());
    if let Some(why) = loopdev::unavailable().or_else(network::unavailable) {
        // Each test's thread bears its name.
        println!("SKIPPED: {}: {why}", std::thread::current().name().unwrap_or("agents"));
        return None;
    }
    Some(ALONE.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Runs `test` on a cluster whose copy has begun; where it fails, the agents' logs are told.
fn drilled(volume: Volume, test: impl FnOnce(&mut Cluster) -> std::io::Result<()>) {
    let Some(_alone) = alone() else { return };
    let mut cluster = Cluster::new(Path::new(LUNFERRY), volume).unwrap();
    let done = begin(&mut cluster).and_then(|()| test(&mut cluster));
    done.unwrap_or_else(|error| panic!("{error}\n{}", cluster.logs()));
}

/// A copy that is hit so often, each time within the next second of copying.
fn survives(blow: Blow, times: usize) {
    drilled(VOLUME, |cluster| {
        let mut random = Dice::new(VOLUME.seed);
        for _ in 0..times {
            let took = hit(cluster, blow, &mut random, VOLUME.limit_mib << 20)?;
            println!("{:?}", took.expect("the copy is not over yet"));
        }
        finish(cluster)
    });
}

#[test]
fn a_mover_that_is_killed_is_followed_by_another_one() {
    survives(Blow::Kill, 2);
}

#[test]
fn a_mover_that_stands_still_is_replaced_and_comes_back_as_a_member() {
    survives(Blow::Stop(30), 1);
}

#[test]
fn a_mover_without_networks_is_fenced_through_the_storage() {
    survives(Blow::Network, 1);
}

#[test]
fn a_mover_without_storage_is_replaced() {
    survives(Blow::Storage, 1);
}

#[test]
fn when_all_are_killed_at_once_they_go_on_where_they_were() {
    drilled(VOLUME, |cluster| {
        let far_enough = || cluster.watermark().ok().filter(|watermark| *watermark > 32 << 20);
        until("something is durable", far_enough)?;
        cluster.hosts().try_for_each(|host| cluster.kill(host))?;
        let watermark = cluster.watermark()?;
        cluster.hosts().try_for_each(|host| cluster.start(host))?;
        let (_, view) = until("somebody goes on", || cluster.mover(cluster.hosts()))?;
        assert!(view.durable_bytes.unwrap() >= watermark, "{view:?}");
        finish(cluster)?;
        cluster.spoil(VOLUME.bytes / 2)?;
        assert!(finish(cluster).is_err(), "a byte that differs is not found");
        Ok(())
    });
}

#[test]
fn a_lost_network_of_two_changes_nothing() {
    drilled(VOLUME, |cluster| {
        let (mover, before) = until("somebody copies", || cluster.mover(cluster.hosts()))?;
        cluster.cut_one_network(mover, 0)?;
        finish(cluster)?;
        let (after, view) = until("somebody is the mover", || cluster.mover(cluster.hosts()))?;
        assert_eq!((after, view.epoch), (mover, before.epoch), "nobody has taken over");
        Ok(())
    });
}

#[test]
fn the_mover_moves_when_it_is_asked_to_and_when_it_leaves() {
    drilled(VOLUME, |cluster| {
        let (first, before) = until("somebody copies", || cluster.mover(cluster.hosts()))?;
        let next = (first + 1) % cluster.hosts().len();
        let is = |host: usize, epoch: u64| {
            move |found: &(usize, _)| {
                let (mover, view): &(usize, lunferry_fixtures::real::cluster::View) = found;
                *mover == host && view.epoch > epoch
            }
        };
        cluster.order(first, "move-to", Some(next))?;
        let found = until("it has moved", || cluster.mover(cluster.hosts()).filter(is(next, before.epoch)))?;
        everybody_takes_part(cluster, next)?;
        assert!(cluster.stop(next)?, "{} ended badly", NAMES[next]);
        let others: Vec<usize> = cluster.hosts().filter(|host| *host != next).collect();
        let taken = |view: &(usize, lunferry_fixtures::real::cluster::View)| view.1.epoch > found.1.epoch;
        until("another one copies", || cluster.mover(others.iter().copied()).filter(taken))?;
        finish(cluster)
    });
}
