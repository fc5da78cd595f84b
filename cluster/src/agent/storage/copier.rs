//! The copy that a mover lets go on window by window, on threads of its own.
//!
//! Acts: threads. The copy itself is the engine's; it writes no checkpoint, and it stops at the first block that can't be read:
//! what it would leave out nobody would miss.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::Duration;

use lunferry_engine::copy::board::{Board, Controls, Progress};
use lunferry_engine::copy::error::CopyError;
use lunferry_engine::copy::lane::{BadBlocks, CopyState, LastGood, SharedZeroMode};
use lunferry_engine::copy::ledger::Pace;
use lunferry_engine::copy::live::run_live;
use lunferry_engine::copy::plan::queue_sizes;
use lunferry_engine::copy::queue::ExtentQueue;
use lunferry_engine::copy::unreadable::UnreadableList;
use lunferry_engine::copy::vehicle::Vehicle;
use lunferry_engine::digest::ZeroExtents;
use lunferry_engine::lock::Guard;
use lunferry_engine::units::{Bytes, BytesPerSecond, Span};

use super::luns::Shared;
use super::record::copy_trouble;
use crate::event::{Event, Trouble};

/// How often it is told how far the copy is, at least, while it moves.
const TELL_TIME: Duration = Duration::from_millis(100);
const TELL_BYTES: Bytes = Bytes::mib(64);

/// The copy of one start, if one runs.
pub(super) struct Copier {
    run: Arc<Mutex<Option<Run>>>,
    rate: Option<BytesPerSecond>,
    pub(super) progress: Arc<Progress>,
}

/// A copy that runs.
struct Run {
    board: Arc<Board>,
    controls: Arc<Controls>,
    /// Whether somebody waits for its end.
    stopping: bool,
}

impl Copier {
    pub(super) fn new(progress: Arc<Progress>) -> Self {
        Self { run: Arc::default(), rate: None, progress }
    }

    /// Copies from `from` to `to`, or lets the copy that runs go on to `to`.
    pub(super) fn copy<V: Vehicle + Send + Sync + 'static>(&self, shared: &Arc<Shared<V>>, from: Bytes, to: Bytes) {
        let mut run = lock(&self.run);
        if let Some(run) = run.as_ref() {
            run.board.extend(to);
            return;
        }
        let (controls, sizing) = (Arc::new(Controls::default()), shared.luns.sizing);
        controls.set_rate(self.rate);
        let end = shared.luns.facts.layout.bulk_end();
        let span = Span::new(from.min(end).align_down(block(shared)), end);
        let queue = ExtentQueue::new(span, queue_sizes(sizing, shared.luns.zeroes));
        let board = Arc::new(Board::new(queue, Arc::clone(&controls)));
        board.extend(to);
        *run = Some(Run { board: Arc::clone(&board), controls, stopping: false });
        drop(run);
        let (its_run, its_shared, progress) = (Arc::clone(&self.run), Arc::clone(shared), Arc::clone(&self.progress));
        let thread = move || carry(&its_shared, &board, &its_run, progress);
        if let Err(error) = Builder::new().name("copy".into()).spawn(thread) {
            tracing::error!(%error, "the copy's thread could not be started");
            lock(&self.run).take();
            shared.reports.event(Event::CopyFailed(Trouble::Storage));
        }
    }

    /// Stops the copy. `false` where none runs, and so nobody will tell.
    pub(super) fn stop(&self) -> bool {
        let mut run = lock(&self.run);
        let Some(run) = run.as_mut() else {
            return false;
        };
        run.stopping = true;
        run.controls.interrupt();
        true
    }

    /// Lets nothing more of it go out.
    pub(super) fn halt(&self) {
        if let Some(run) = lock(&self.run).as_ref() {
            run.board.halt();
        }
    }

    pub(super) fn throttle(&mut self, rate: Option<BytesPerSecond>) {
        self.rate = rate;
        if let Some(run) = lock(&self.run).as_ref() {
            run.controls.set_rate(rate);
        }
    }
}

fn lock(run: &Mutex<Option<Run>>) -> MutexGuard<'_, Option<Run>> {
    run.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a watermark is a multiple of: a block that is done in part is written again as a whole, and a torn write of it would
/// damage what was claimed.
fn block<V>(shared: &Shared<V>) -> Bytes {
    let facts = &shared.luns.facts;
    facts.target_physical.max(facts.target_block).max(facts.source_block)
}

/// The thread of one copy.
fn carry<V: Vehicle>(shared: &Shared<V>, board: &Board, run: &Mutex<Option<Run>>, progress: Arc<Progress>) {
    let (facts, sizing) = (&shared.luns.facts, shared.luns.sizing);
    let state = CopyState {
        extent: sizing.extent,
        source_block: facts.source_block,
        target_block: facts.target_block,
        bad_blocks: BadBlocks::Stop,
        zero_mode: SharedZeroMode::new(shared.luns.zeroes),
        digests: None,
        zero_extents: ZeroExtents::new(sizing.extent),
        offload: None,
        unreadable: Mutex::new(UnreadableList::default()),
        last_good: LastGood::default(),
        source_len: facts.layout.source_len(),
        progress,
        guard: Some(Arc::clone(&shared.held) as Arc<dyn Guard>),
    };
    let (block, end) = (block(shared), facts.layout.bulk_end());
    let moved = |lo: Bytes| {
        let claimable = if lo == end { lo } else { lo.align_down(block) };
        shared.reports.event(Event::Copied(claimable));
    };
    // An eighth of the window, so that the next one is asked for long before this one runs dry.
    let bytes = TELL_BYTES.min(Bytes(shared.luns.window.0 / 8));
    let done = run_live(&shared.vehicle, sizing, &state, board, Pace { bytes, time: TELL_TIME }, moved);
    // Whoever asks for the next copy, or for the end of this one, must not find it here any more.
    let stopping = lock(run).take().is_some_and(|run| run.stopping);
    match done {
        Err(error) => {
            tell(&error);
            shared.reports.event(Event::CopyFailed(copy_trouble(&error)));
        }
        Ok(_) if stopping => shared.reports.event(Event::CopyStopped),
        Ok(_) => {}
    }
}

fn tell(error: &CopyError) {
    match error {
        CopyError::Fenced { .. } => tracing::warn!(%error, "the copy was fenced"),
        error => tracing::error!(%error, "the copy has failed"),
    }
}
