//! Pairs of simulated SCSI LUNs, copied by the engine's own session.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lunferry_engine::buffer::AlignedBuf;
use lunferry_engine::checkpoint::slots::Choice;
use lunferry_engine::copy::offload::Offload;
use lunferry_engine::lun::disturbances::Disturbances;
use lunferry_engine::lun::sg::shape::QueueLimits;
use lunferry_engine::lun::sg::{ScsiLun, SgLun};
use lunferry_engine::lun::xcopy::ArrayPair;
use lunferry_engine::units::Bytes;
use lunferry_fixtures::pair::Pair;
use lunferry_fixtures::rig::{Ran, simulate};
use lunferry_fixtures::scsi::{LuOptions, SimArray, SimClock, SimLu};
use lunferry_fixtures::stamp::difference;
use lunferry_scsi::cdb::Cdb;
use lunferry_scsi::status::{Completion, DriverStatus, HostStatus, Status};
use lunferry_scsi::transport::{Data, Transport};

pub const INQUIRY: u8 = 0x12;
pub const UNMAP: u8 = 0x42;
pub const EXTENDED_COPY: u8 = 0x83;
pub const READ: u8 = 0x88;
pub const COMPARE_AND_WRITE: u8 = 0x89;
pub const WRITE: u8 = 0x8A;
pub const VERIFY: u8 = 0x8F;
pub const SYNCHRONIZE: u8 = 0x91;

/// How the kernel's queue looks: eight blocks a command.
pub const QUEUE: QueueLimits = QueueLimits { max_hw: Some(Bytes(4096)), max_segments: None, fua: true };

/// Two LUNs of one array, filled as `pair` says, and what they are like.
pub struct Luns {
    pub pair: Pair,
    pub source: SimLu,
    pub target: SimLu,
}

impl Luns {
    pub fn new(pair: Pair, change: impl Fn(&mut LuOptions)) -> Self {
        let array = SimArray::new(&SimClock::default());
        Self::on(array, pair, change)
    }

    /// On an array that may have other LUNs.
    pub fn on(array: SimArray, pair: Pair, change: impl Fn(&mut LuOptions)) -> Self {
        let lu = |serial: &str, contents: &[u8], block: Bytes| {
            let block = u32::try_from(block.0).unwrap();
            let mut options = LuOptions::new(serial, contents.len() as u64 / u64::from(block), block);
            change(&mut options);
            let lu = array.lu(options);
            for (i, data) in contents.chunks(block as usize).enumerate() {
                if data.iter().any(|byte| *byte != 0) {
                    lu.fill(i as u64, data);
                }
            }
            lu
        };
        let source = lu("source", &pair.source, pair.rig.source_block);
        let target = lu("target", &pair.target, pair.rig.block);
        Self { pair, source, target }
    }

    /// Both as they are opened by a process on host 1.
    pub fn open(&self) -> Opened {
        self.open_by(|transport| transport)
    }

    /// The same, with something between the process and the target.
    pub fn open_by(&self, between: impl FnOnce(Arc<dyn Transport>) -> Arc<dyn Transport>) -> Opened {
        let open = |transport| Arc::new(ScsiLun::new(transport, QUEUE).unwrap());
        let target = open(between(Arc::new(self.target.nexus(1))));
        Opened { source: open(Arc::new(self.source.nexus(1))), target }
    }

    /// The same, with something that happens to a target whose cache is volatile, and a count of how often it did.
    pub fn open_cached(
        &self,
        between: impl FnOnce(Arc<dyn Transport>) -> Arc<dyn Transport>,
        count: Arc<AtomicU64>,
    ) -> Opened {
        let target = ScsiLun::new(between(Arc::new(self.target.nexus(1))), QUEUE).unwrap();
        let counted = Disturbances::counted_by(move || Ok(count.load(Ordering::SeqCst)));
        let target = Arc::new(target.with_disturbances(Some(counted)));
        Opened { target, ..self.open() }
    }

    /// What is wrong with the target, where every byte of the source should be on it.
    pub fn wrong(&self) -> Option<String> {
        self.pair.wrong(&self.target.contents(), &self.pair.wanted(&[]))
    }

    pub fn assert_equal(&self) {
        assert_eq!(self.wrong(), None);
        assert_eq!(difference(&self.source.contents(), &self.pair.source), None, "the source is as it was");
    }

    /// How often a command was sent to a LUN.
    pub fn count(lu: &SimLu, operation: u8) -> usize {
        lu.sent().iter().filter(|sent| sent.operation == operation).count()
    }
}

/// Both LUNs of a pair, open.
pub struct Opened {
    pub source: Arc<ScsiLun>,
    pub target: Arc<ScsiLun>,
}

impl Opened {
    /// The array between them, on trial.
    pub fn offload(&self) -> Result<Offload, String> {
        ArrayPair::between(&self.source, &self.target).map(|array| Offload::new(Arc::new(array)))
    }

    /// Copies from the beginning.
    pub fn copy(&self, pair: &Pair, offload: Option<Offload>) -> Ran {
        self.run(pair, false, offload)
    }

    /// Goes on from the checkpoint.
    pub fn resume(&self, pair: &Pair, offload: Option<Offload>) -> Ran {
        self.run(pair, true, offload)
    }

    fn run(&self, pair: &Pair, resume: bool, offload: Option<Offload>) -> Ran {
        let rig = &pair.rig;
        let (source, target) = (SgLun::new(Arc::clone(&self.source)), SgLun::new(Arc::clone(&self.target)));
        simulate(async {
            let mut start = None;
            if resume {
                match rig.choice(&target).await {
                    Choice::Use { record, next_write, .. } => start = Some((*record, next_write)),
                    other => panic!("no checkpoint to go on from: {other:?}"),
                }
            }
            let bufs = AlignedBuf::many(rig.lanes, rig.extent.as_len()).unwrap();
            rig.copy_with((&source, &target), start, &Arc::default(), bufs, offload).await
        })
    }
}

/// A device that gets something wrong: what is sent may be changed, or thrown away and called good.
pub struct Lying<F> {
    inner: Arc<dyn Transport>,
    lie: Mutex<F>,
}

/// Changes what is sent with an operation code; `false` throws it away.
pub fn lying<F: FnMut(u8, &mut Vec<u8>) -> bool + Send + 'static>(
    lie: F,
) -> impl FnOnce(Arc<dyn Transport>) -> Arc<dyn Transport> {
    |inner| Arc::new(Lying { inner, lie: Mutex::new(lie) })
}

impl<F: FnMut(u8, &mut Vec<u8>) -> bool + Send> Transport for Lying<F> {
    fn name(&self) -> &str {
        "liar"
    }

    fn send(&self, cdb: &Cdb, data: Data<'_>, timeout: Duration) -> io::Result<Completion> {
        let Data::Out(out) = data else { return self.inner.send(cdb, data, timeout) };
        let mut changed = out.to_vec();
        if (self.lie.lock().unwrap())(cdb.as_bytes()[0], &mut changed) {
            return self.inner.send(cdb, Data::Out(&changed), timeout);
        }
        let requested = u32::try_from(out.len()).unwrap();
        let (status, host, driver) = (Status::Good, HostStatus::Ok, DriverStatus::Ok);
        Ok(Completion { status, host, driver, sense: Vec::new(), requested, residual: 0 })
    }

    fn reset_logical_unit(&self) -> io::Result<()> {
        self.inner.reset_logical_unit()
    }

    fn now(&self) -> Duration {
        self.inner.now()
    }

    fn wait(&self, time: Duration) {
        self.inner.wait(time);
    }
}
