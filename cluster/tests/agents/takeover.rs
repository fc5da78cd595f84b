//! Agents that die, leave, and lose their storage.

use std::time::Duration;

use lunferry_cluster::agent::io::Answer;
use lunferry_cluster::event::{Declined, Wish};
use lunferry_cluster::order::{Order, Reply};
use lunferry_engine::units::BytesPerSecond;
use lunferry_fixtures::cluster_live::LivePair;
use lunferry_scsi::key::NodeId;

use crate::support::{Cluster, NAMES, taking_part};

/// So slow that everything here happens in the middle of the copy, and so short that it ends.
fn pair() -> LivePair {
    LivePair::new(1_200, Duration::from_millis(8))
}

/// As many extents as an interval between two checkpoints copies, twice: the flush and the write take their time too.
const COPIED_AGAIN: usize = 300;

#[test]
fn one_agent_alone_works_the_same() {
    let cluster = Cluster::started(1, LivePair::new(200, Duration::from_millis(1)));
    cluster.wish(0, Wish::Define);
    cluster.until(0, "it is the mover", |view| view.mover.is_some());
    cluster.wish(0, Wish::Sync);
    cluster.until(0, "it is done", |view| view.state.as_deref() == Some("source_selected"));
    assert!(cluster.pair.is_equal() && cluster.pair.written_again() == 0);
}

#[test]
fn when_the_mover_is_killed_another_one_goes_on_from_the_checkpoint() {
    let mut cluster = Cluster::started(3, pair());
    cluster.begun();
    let victim = cluster.mover(0);
    let heir = (victim + 1) % 3;
    let before = cluster.pair.checkpoint().unwrap();
    cluster.kill(victim);
    let view = cluster.until(heir, "another one moves", |view| {
        view.mover.as_ref().is_some_and(|mover| mover.name != NAMES[victim]) && view.epoch > before.epoch.0
    });
    assert!(view.durable_bytes >= Some(before.watermark.0), "{view:#?} after {before:?}");
    cluster.start(victim);
    cluster.until(heir, "the killed one takes part again", |view| taking_part(view) == 3);
    cluster.until(heir, "it is done", |view| view.state.as_deref() == Some("source_selected"));
    assert!(cluster.pair.is_equal());
    assert!(cluster.pair.written_again() <= COPIED_AGAIN, "{} extents again", cluster.pair.written_again());
}

#[test]
fn who_leaves_hands_over_first() {
    let mut cluster = Cluster::started(3, pair());
    cluster.begun();
    let mover = cluster.mover(0);
    let other = (mover + 1) % 3;
    let mut watch = cluster.handle(mover).watch().unwrap();
    cluster.leave(mover);
    cluster.event(&mut watch, "handed_over");
    cluster.event(&mut watch, "left");
    // Nothing is copied twice: the old mover had drained.
    cluster.until(other, "it is done", |view| view.state.as_deref() == Some("source_selected"));
    assert!(cluster.pair.is_equal());
    assert_eq!(cluster.pair.written_again(), 0);
}

#[test]
fn a_mover_without_storage_is_replaced_and_comes_back() {
    let cluster = Cluster::started(3, pair());
    cluster.begun();
    let mover = cluster.mover(0);
    let other = (mover + 1) % 3;
    let id = NodeId(u16::try_from(mover).unwrap() + 1);
    cluster.pair.close(id, true);
    cluster.pair.cut(id, true);
    cluster.until(other, "another one moves", |view| view.mover.as_ref().is_some_and(|name| name.name != NAMES[mover]));
    let view = cluster.until(mover, "it says why", |view| view.here.why.is_some());
    assert!(view.here.why.unwrap().contains("closed by the test") && view.here.luns == "closed");
    cluster.pair.cut(id, false);
    cluster.pair.close(id, false);
    cluster.until(other, "it takes part again", |view| taking_part(view) == 3);
    cluster.until(other, "it is done", |view| view.state.as_deref() == Some("source_selected"));
    assert!(cluster.pair.is_equal());
}

#[test]
fn an_order_is_carried_out_whichever_node_is_asked() {
    let cluster = Cluster::started(3, pair());
    let syncing = cluster.order(1, Order::Wish(Wish::Sync));
    assert_eq!(syncing, Answer::NoMover, "nobody has begun it");
    cluster.begun();
    let mover = cluster.mover(0);
    let (asked, other) = ((mover + 1) % 3, (mover + 2) % 3);
    cluster.wish(asked, Wish::Pause);
    cluster.until(other, "it is paused", |view| view.state.as_deref() == Some("suspended"));
    let again = cluster.order(asked, Order::Wish(Wish::Sync));
    assert!(matches!(again, Answer::Replied(_, Reply::Declined(Declined::State(_)))), "{again:?}");
    cluster.wish(other, Wish::Resume);
    cluster.until(asked, "it copies again", |view| view.state.as_deref() == Some("syncing"));
    let limit = BytesPerSecond(7 << 20);
    let answer = cluster.order(asked, Order::Throttle(Some(limit)));
    assert!(matches!(answer, Answer::Replied(by, Reply::Accepted) if usize::from(by.0) == mover + 1), "{answer:?}");
    for index in [mover, asked, other] {
        cluster.until(index, "all know the limit", |view| view.limit_bytes_per_s == Some(limit.0));
    }
    cluster.wish(asked, Wish::MoveTo(NodeId(u16::try_from(asked).unwrap() + 1)));
    cluster.until(other, "it has moved", |view| view.mover.as_ref().is_some_and(|mover| mover.name == NAMES[asked]));
    // The limit goes with it.
    assert_eq!(cluster.pair.limit().map(|limit| limit.0), Some(limit.0));
    let nobody = cluster.order(other, Order::Wish(Wish::MoveTo(NodeId(9))));
    assert!(matches!(nobody, Answer::Replied(_, Reply::Declined(Declined::NoMember(NodeId(9))))), "{nobody:?}");
}
