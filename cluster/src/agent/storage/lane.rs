//! The thread that does a migration's storage actions, one after the other.
//!
//! Acts. A reservation command blocks this thread for as long as a path takes; heartbeats and the copy go on beside it.
//!
//! What must hold:
//! - Each action is answered once, also where this start is over before it was begun: then it is not begun.
//! - After a failed flush or slot write the store does nothing more in this start: a flush that is tried again reports success
//!   for data that is lost. The same when the target has lost its power, and with it what was written and not flushed (H17): the
//!   kernel's block I/O eats the unit attention, but PRGENERATION begins anew, and the kernel counts it (the store's watch). Each
//!   checkpoint has a look right before it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread::Builder;

use lunferry_engine::checkpoint::heartbeat::{BEAT_LEN, BeatDefect, Heartbeat};
use lunferry_engine::checkpoint::layout::SlotId;
use lunferry_engine::checkpoint::record::{Counters, RECORD_LEN, Record};
use lunferry_engine::checkpoint::slots::{Choice, choose, inspect};
use lunferry_engine::checkpoint::store::Store;
use lunferry_engine::copy::board::Progress;
use lunferry_engine::copy::plan::absurd;
use lunferry_engine::copy::prepare::unix_now;
use lunferry_engine::copy::vehicle::Vehicle;
use lunferry_engine::lock::standing::View;
use lunferry_engine::lun::LunIo;
use lunferry_engine::units::{Bytes, NodeId};
use lunferry_scsi::key::{Incarnation, NodeId as KeyNode};
use lunferry_scsi::units::Generation;
use tokio::sync::mpsc::UnboundedReceiver;

use super::luns::Shared;
use super::record::{Failure, Writer, checkpoint, record, standing};
use crate::event::{Checkpoint, Event, Op, OpId, Outcome, Slots};
use crate::sight::{DiskBeat, Lun, Sight};

/// Requests at a time.
const REQUESTS: usize = 1;

/// Starts the thread; what comes of that is sent to `ready`. It ends when the other end of `jobs` is dropped.
pub(super) fn start<V: Vehicle + Send + Sync + 'static>(
    shared: &Arc<Shared<V>>,
    jobs: UnboundedReceiver<(OpId, Op)>,
    progress: Arc<Progress>,
    ready: SyncSender<io::Result<()>>,
) -> io::Result<()> {
    let shared = Arc::clone(shared);
    let thread = move || {
        let ran = shared.vehicle.run(REQUESTS, serve(&shared, jobs, &progress, &ready));
        ran.unwrap_or_else(|error| drop(ready.send(Err(error))));
    };
    Builder::new().name("storage".into()).spawn(thread).map(drop)
}

async fn serve<V: Vehicle>(
    shared: &Shared<V>,
    mut jobs: UnboundedReceiver<(OpId, Op)>,
    progress: &Progress,
    ready: &SyncSender<io::Result<()>>,
) {
    let (source, target) = match shared.vehicle.source().and_then(|source| Ok((source, shared.vehicle.target()?))) {
        Ok(both) => both,
        Err(error) => return drop(ready.send(Err(error))),
    };
    if ready.send(Ok(())).is_err() {
        return;
    }
    let facts = &shared.luns.facts;
    let store = Store::new(&target, facts.layout, facts.target_physical, SlotId::A);
    let (found, before) = (None, Counters::default());
    let (source, target, generation) = (&source, &target, None);
    let mut lane =
        Lane { shared, source, target, store, generation, looks: 0, has_read: false, found, before, progress };
    while let Some((id, op)) = jobs.recv().await {
        let outcome = lane.perform(op).await.unwrap_or_else(|failure| {
            tracing::warn!(%failure, ?op, "a storage action has failed");
            Outcome::Failed(failure.trouble())
        });
        shared.reports.event(Event::Storage(id, outcome));
    }
}

/// What the actions of one start share.
struct Lane<'a, V: Vehicle> {
    shared: &'a Shared<V>,
    source: &'a V::Lun,
    target: &'a V::Lun,
    store: Store<'a, V::Lun>,
    /// The target's PRGENERATION at the last look, where this start was registered.
    generation: Option<Generation>,
    /// How often a heartbeat was seen that can't be judged.
    looks: u64,
    /// Whether the slots were read in this start: before that it can't be known which one may be overwritten.
    has_read: bool,
    /// The record that was read or written last.
    found: Option<Record>,
    /// What the copy had done when the slots were read.
    before: Counters,
    progress: &'a Progress,
}

impl<V: Vehicle> Lane<'_, V> {
    async fn perform(&mut self, op: Op) -> Result<Outcome, Failure> {
        let held = &self.shared.held;
        self.goes_on()?;
        match op {
            Op::Look => return Ok(Outcome::Seen(self.look().await?)),
            Op::Prove => {
                self.prove(Lun::Source).await?;
                self.prove(Lun::Target).await?;
                return Ok(Outcome::Seen(self.look().await?));
            }
            Op::Register(lun) => held.enrol(lun)?,
            Op::Reserve(lun) => held.with(lun, |paths, claim| paths.reserve_by(claim))?,
            Op::Preempt(lun, victim) => held.with(lun, |paths, claim| paths.preempt_by(claim, victim))?,
            Op::Reset(lun) => {
                if lun == Lun::Target {
                    self.store.mind();
                }
                let drained = held.with(lun, |paths, claim| paths.drain_by(claim))?;
                tracing::info!(?lun, ?drained, "nothing that was in flight there can land any more");
                if lun == Lun::Target {
                    // A reset raises the count as a power cycle does, and loses nothing that was cached.
                    self.store.rewatch()?;
                }
            }
            Op::Read => return Ok(Outcome::Read(self.read().await?)),
            Op::Flush => self.store.flush().await?,
            Op::Write(checkpoint, slots) => self.write(&checkpoint, slots).await?,
        }
        Ok(Outcome::Done)
    }

    fn goes_on(&self) -> Result<(), Failure> {
        if self.shared.is_retired() { Err(Failure::Retired) } else { Ok(()) }
    }

    async fn look(&mut self) -> Result<Sight, Failure> {
        let [source, target] = [self.view(Lun::Source)?, self.view(Lun::Target)?];
        self.mind_power(&target);
        let [source, target] = [standing(&source), standing(&target)];
        if self.shared.luns.emulated[0] {
            self.prove(Lun::Source).await?;
        }
        // The target is read for the heartbeats in any case.
        Ok(Sight { source, target, beats: self.beats().await? })
    }

    fn view(&self, lun: Lun) -> Result<View, Failure> {
        self.shared.held.mend(lun);
        let view = self.shared.held.paths(lun).look()?;
        if view.is_whole { Ok(view) } else { Err(Failure::TooManyKeys(lun)) }
    }

    /// Whether the target has been without power since the last look.
    fn mind_power(&mut self, target: &View) {
        let registered = target.keys.contains(&self.shared.held.own().key());
        let now = registered.then_some(target.generation);
        if let (Some(Generation(before)), Some(Generation(now))) = (self.generation, now)
            && now < before
        {
            tracing::error!(
                before,
                now,
                "the target has lost its power: what was written since the last checkpoint may be gone"
            );
            self.store.latch();
        }
        self.generation = now;
    }

    async fn read_block(&self, lun: Lun, at: Bytes) -> Result<Vec<u8>, Failure> {
        let facts = &self.shared.luns.facts;
        let read = match lun {
            Lun::Source => self.source.read_block(at, facts.source_block.as_len()).await,
            Lun::Target => self.target.read_block(at, facts.target_block.as_len()).await,
        };
        read.map_err(|error| Failure::Read { lun, at, error })
    }

    /// Reads the last block that the source has, or the one in its place on the target: a LUN that was cut short is missed too.
    async fn prove(&self, lun: Lun) -> Result<(), Failure> {
        let facts = &self.shared.luns.facts;
        let block = if lun == Lun::Source { facts.source_block } else { facts.target_block };
        let at = facts.layout.source_len().saturating_sub(Bytes(1)).align_down(block);
        self.read_block(lun, at).await.map(drop)
    }

    async fn beats(&mut self) -> Result<Vec<DiskBeat>, Failure> {
        let shared = self.shared;
        let (facts, mut beats) = (&shared.luns.facts, Vec::new());
        let (mut unread, mut last) = (0, None);
        for node in &shared.luns.nodes {
            let Some(place) = facts.layout.heartbeat(NodeId(node.0)) else { continue };
            let block = match self.read_block(Lun::Target, place.start).await {
                Ok(block) => block,
                Err(failure) => {
                    beats.push(self.unknown(*node, &failure.to_string()));
                    unread += 1;
                    last = Some(failure);
                    continue;
                }
            };
            let Some(bytes) = block.first_chunk::<BEAT_LEN>() else { continue };
            match Heartbeat::decode(bytes, place.start) {
                Ok(beat) if beat.migration == facts.migration && beat.node.0 == node.0 => {
                    let incarnation = Incarnation(beat.incarnation);
                    beats.push(DiskBeat { node: KeyNode(beat.node.0), incarnation, count: beat.count.0 });
                }
                Err(BeatDefect::TooNew { version }) => {
                    beats.push(
                        self.unknown(*node, &format!("its format is {version}, which is later than this program's")),
                    );
                }
                // Of a migration that was here before, or torn, or never written.
                Ok(_) | Err(BeatDefect::None | BeatDefect::Torn { .. } | BeatDefect::Malformed { .. }) => {}
            }
        }
        // Where none of them can be read it is the target that is out of reach.
        last.filter(|_| unread == shared.luns.nodes.len()).map_or(Ok(beats), Err)
    }

    /// A node whose heartbeat can't be judged. Nothing is concluded from its silence: it seems to beat at every look.
    fn unknown(&mut self, node: KeyNode, why: &str) -> DiskBeat {
        if self.looks == 0 {
            tracing::warn!(
                node = node.0,
                why,
                "a node's heartbeat on the target can't be judged; it counts as beating"
            );
        }
        self.looks += 1;
        DiskBeat { node, incarnation: Incarnation(0), count: self.looks }
    }

    async fn read(&mut self) -> Result<Option<Checkpoint>, Failure> {
        let facts = &self.shared.luns.facts;
        let (layout, expected) = (facts.layout, facts.expected());
        let mut views = Vec::with_capacity(SlotId::BOTH.len());
        for slot in SlotId::BOTH {
            let at = layout.slot(slot).start;
            let mut raw = self.read_block(Lun::Target, at).await?;
            raw.truncate(RECORD_LEN);
            views.push(inspect(&raw, slot, at, Some(&expected)));
        }
        let [a, b] = <[_; 2]>::try_from(views).expect("one view for each slot");
        let (found, next) = match choose(a, b) {
            Choice::None => (None, SlotId::A),
            Choice::Use { record, next_write, .. } => (Some(*record), next_write),
            Choice::Refused(refusal) => return Err(Failure::Refused(refusal.to_string())),
        };
        if let Some(found) = &found {
            if let Some((field, value)) = absurd(found) {
                return Err(Failure::Refused(format!(
                    "the checkpoint's {field} is {value}, which no program counts up to"
                )));
            }
            if found.migration != facts.migration {
                let (is, should) = (found.migration, facts.migration);
                return Err(Failure::Refused(format!("the checkpoint is of migration {is}, and not of {should}")));
            }
            if found.layout != layout {
                return Err(Failure::Refused("the checkpoint lies in an area of another size".into()));
            }
        }
        self.store.start_at(next);
        self.has_read = true;
        self.before = found.as_ref().map_or(Counters::default(), |found| found.counters);
        self.found = found;
        Ok(self.found.as_ref().map(checkpoint))
    }

    async fn write(&mut self, checkpoint: &Checkpoint, slots: Slots) -> Result<(), Failure> {
        if !self.has_read {
            return Err(Failure::Refused("the slots were not read, so that none of them may be overwritten".into()));
        }
        let checkpoints = self.found.as_ref().map_or(0, |found| found.counters.checkpoints);
        let counters = Counters { checkpoints, ..self.counters() };
        let writer = Writer { extent: self.shared.luns.sizing.extent, counters, unix_now: unix_now() };
        let new = record(&self.shared.luns.facts, self.found.as_ref(), checkpoint, &writer).map_err(|why| {
            Failure::Refused(format!("a checkpoint that no record can hold was to be written: {why}"))
        })?;
        self.store.write_older(&new).await?;
        if slots == Slots::Both {
            self.goes_on()?;
            self.store.write_older(&new).await?;
            // A state changes before data is written by it; what the device refused until then has cost nothing.
            self.store.watch()?;
        }
        self.found = Some(new);
        Ok(())
    }

    /// What the copy has done over all its runs.
    fn counters(&self) -> Counters {
        let now = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (before, run) = (self.before, self.progress);
        Counters {
            copied_bytes: before.copied_bytes + Bytes(now(&run.copied)),
            zeroed_bytes: before.zeroed_bytes + Bytes(now(&run.zeroed)),
            skipped_bytes: before.skipped_bytes + Bytes(now(&run.skipped)),
            retried: before.retried + now(&run.retried),
            ..before
        }
    }
}
