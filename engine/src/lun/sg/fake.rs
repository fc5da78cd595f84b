//! A LUN in memory that answers the commands of this vehicle, with switches for what a device may lack or get wrong.
//!
//! Acts on nothing but itself: a transport without a descriptor and without a clock.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use lunferry_scsi::cdb::Cdb;
use lunferry_scsi::status::{Completion, DriverStatus, HostStatus, Status};
use lunferry_scsi::transport::{Data, Transport};

use super::ScsiLun;
use super::shape::QueueLimits;

pub const BLOCK: usize = 512;

/// Sense data: key, ASC, ASCQ.
pub type Said = (u8, u8, u8);
pub const OPCODE: Said = (5, 0x20, 0);
pub const CDB_FIELD: Said = (5, 0x24, 0);
pub const MISCOMPARE: Said = (0xE, 0x1D, 0);

/// The LUN, and how it behaves.
pub struct Lu {
    pub data: Vec<u8>,
    pub mapped: Vec<bool>,
    /// Operation codes that it does not know.
    pub unknown: Vec<u8>,
    /// LBPRZ and LBPME.
    pub zeroes: bool,
    pub lbpws: bool,
    pub lbpu: bool,
    pub granularity: u32,
    pub max_caw: u8,
    pub max_write_same: u64,
    pub takes_fua: bool,
    /// VERIFY compares.
    pub compares: bool,
    /// UNMAP does nothing.
    pub ignores_unmap: bool,
    pub bad_block: Option<usize>,
    /// Ends of the next commands with these operation codes; the command itself is done first where `true` stands there.
    pub ends: VecDeque<(u8, bool, Completion)>,
    /// Operation codes in the order they came, with byte 1 and the number of blocks at 10.
    pub sent: Vec<(u8, u8, u32)>,
}

pub struct Fake(Mutex<Lu>);

impl Fake {
    pub fn new(blocks: usize, change: impl FnOnce(&mut Lu)) -> Arc<Self> {
        let mut lu = Lu {
            data: vec![0xC3; blocks * BLOCK],
            mapped: vec![true; blocks],
            unknown: Vec::new(),
            zeroes: true,
            lbpws: false,
            lbpu: true,
            granularity: 8,
            max_caw: 1,
            max_write_same: 64,
            takes_fua: true,
            compares: true,
            ignores_unmap: false,
            bad_block: None,
            ends: VecDeque::new(),
            sent: Vec::new(),
        };
        change(&mut lu);
        Arc::new(Self(Mutex::new(lu)))
    }

    pub fn lu(&self) -> MutexGuard<'_, Lu> {
        self.0.lock().expect("no test fails in here")
    }

    pub fn open(self: &Arc<Self>) -> ScsiLun {
        let queue = QueueLimits { max_hw: None, max_segments: Some(1), fua: true };
        let opened = ScsiLun::new(Arc::clone(self) as Arc<dyn Transport>, queue).expect("it answers");
        self.lu().sent.clear();
        opened
    }

    /// How often the command was sent.
    pub fn count(&self, operation: u8) -> usize {
        self.lu().sent.iter().filter(|(sent, _, _)| *sent == operation).count()
    }
}

pub fn ended(status: Status, host: HostStatus, said: Option<Said>) -> Completion {
    let sense = said.map_or_else(Vec::new, |(key, asc, ascq)| vec![0x72, key, asc, ascq, 0, 0, 0, 0]);
    Completion { status, host, driver: DriverStatus::Ok, sense, requested: 0, residual: 0 }
}

fn check(said: Said) -> Completion {
    ended(Status::CheckCondition, HostStatus::Ok, Some(said))
}

fn be(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |value, byte| value << 8 | usize::from(*byte))
}

impl Lu {
    fn inquiry(&self, cdb: &[u8]) -> Result<Vec<u8>, Said> {
        let page = |code: u8, body: &[u8]| {
            let mut page = vec![0, code, 0, u8::try_from(body.len()).expect("a short page")];
            page.extend_from_slice(body);
            page
        };
        if cdb[1] == 0 {
            let mut data = vec![0; 36];
            (data[2], data[4]) = (6, 31);
            data[8..32].copy_from_slice(b"LUNFERRYFake            ");
            return Ok(data);
        }
        match cdb[2] {
            0x00 => Ok(page(0x00, &[0x00, 0xB0, 0xB2])),
            0xB0 => {
                let mut body = [0; 60];
                body[1] = self.max_caw;
                body[16..20].copy_from_slice(&u32::MAX.to_be_bytes());
                body[20..24].copy_from_slice(&1u32.to_be_bytes());
                body[24..28].copy_from_slice(&self.granularity.to_be_bytes());
                body[32..40].copy_from_slice(&self.max_write_same.to_be_bytes());
                Ok(page(0xB0, &body))
            }
            0xB2 => {
                let flags = u8::from(self.lbpu) << 7 | u8::from(self.lbpws) << 6 | u8::from(self.zeroes) << 2;
                Ok(page(0xB2, &[0, flags, 2, 0]))
            }
            _ => Err(CDB_FIELD),
        }
    }

    fn capacity(&self) -> Vec<u8> {
        let mut data = vec![0; 32];
        data[..8].copy_from_slice(&(self.mapped.len() as u64 - 1).to_be_bytes());
        data[8..12].copy_from_slice(&512u32.to_be_bytes());
        data[14] = if self.zeroes { 0xC0 } else { 0 };
        data
    }

    fn lba_status(&self, from: usize) -> Vec<u8> {
        let mut data = vec![0; 8];
        let mut at = from;
        while at < self.mapped.len() {
            let kind = self.mapped[at];
            let len = self.mapped[at..].iter().take_while(|mapped| **mapped == kind).count();
            data.extend((at as u64).to_be_bytes());
            data.extend(u32::try_from(len).expect("a small LUN").to_be_bytes());
            data.extend([u8::from(!kind), 0, 0, 0]);
            at += len;
        }
        let length = u32::try_from(data.len() - 4).expect("a small LUN");
        data[..4].copy_from_slice(&length.to_be_bytes());
        data
    }

    fn put(&mut self, lba: usize, data: &[u8]) {
        self.data[lba * BLOCK..lba * BLOCK + data.len()].copy_from_slice(data);
        self.mapped[lba..lba + data.len() / BLOCK].fill(true);
    }

    fn unmap(&mut self, lba: usize, blocks: usize) {
        let grain = usize::try_from(self.granularity).expect("small");
        let (first, last) = (lba.next_multiple_of(grain), (lba + blocks) / grain * grain);
        if !self.ignores_unmap && first < last {
            self.data[first * BLOCK..last * BLOCK].fill(0);
            self.mapped[first..last].fill(false);
        }
    }

    /// What the device sends, or refuses.
    fn run(&mut self, cdb: &[u8], out: &[u8]) -> Result<Vec<u8>, Said> {
        if self.unknown.contains(&cdb[0]) {
            return Err(OPCODE);
        }
        let sixteen = || (be(&cdb[2..10]), be(&cdb[10..14]));
        if matches!(cdb[0], 0x8A | 0x89) && cdb[1] & 0x08 != 0 && !self.takes_fua {
            return Err(CDB_FIELD);
        }
        match cdb[0] {
            0x00 | 0x91 | 0x35 => Ok(Vec::new()),
            0x12 => self.inquiry(cdb),
            0x9E if cdb[1] == 0x10 => Ok(self.capacity()),
            0x9E => Ok(self.lba_status(sixteen().0)),
            0x88 => {
                let (lba, blocks) = sixteen();
                match self.bad_block.filter(|bad| (lba..lba + blocks).contains(bad)) {
                    Some(_) => Err((3, 0x11, 0)),
                    None => Ok(self.data[lba * BLOCK..(lba + blocks) * BLOCK].to_vec()),
                }
            }
            0x8A => {
                self.put(sixteen().0, out);
                Ok(Vec::new())
            }
            0x89 => {
                let (lba, half) = (sixteen().0, out.len() / 2);
                if self.data[lba * BLOCK..lba * BLOCK + half] != out[..half] {
                    return Err(MISCOMPARE);
                }
                self.put(lba, &out[half..]);
                Ok(Vec::new())
            }
            0x8F => {
                let at = sixteen().0 * BLOCK;
                if self.compares && self.data[at..at + out.len()] != *out { Err(MISCOMPARE) } else { Ok(Vec::new()) }
            }
            0x93 => {
                let (lba, blocks) = sixteen();
                if cdb[1] & 0x08 == 0 {
                    self.put(lba, &out.repeat(blocks));
                } else if self.lbpws {
                    self.unmap(lba, blocks);
                } else {
                    return Err(CDB_FIELD);
                }
                Ok(Vec::new())
            }
            0x42 => {
                for range in out[8..].as_chunks::<16>().0 {
                    self.unmap(be(&range[..8]), be(&range[8..12]));
                }
                Ok(Vec::new())
            }
            _ => Err(OPCODE),
        }
    }
}

impl Transport for Fake {
    fn name(&self) -> &str {
        "fake"
    }

    fn send(&self, cdb: &Cdb, data: Data<'_>, _: Duration) -> io::Result<Completion> {
        let mut lu = self.lu();
        let cdb = cdb.as_bytes();
        let requested = u32::try_from(data.len()).expect("small");
        let blocks = if cdb.len() == 16 { u32::try_from(be(&cdb[10..14])).expect("four bytes") } else { 0 };
        lu.sent.push((cdb[0], cdb[1], blocks));
        let planned = lu.ends.iter().position(|(operation, _, _)| *operation == cdb[0]);
        let planned = planned.and_then(|at| lu.ends.remove(at));
        if let Some((_, false, end)) = planned {
            return Ok(Completion { requested, residual: i32::try_from(requested).expect("small"), ..end });
        }
        let out = if let Data::Out(out) = &data { *out } else { &[] };
        let done = lu.run(cdb, out);
        let bad = lu.bad_block;
        let mut completion = match done {
            Ok(sent) => {
                let mut completion = ended(Status::Good, HostStatus::Ok, None);
                if let Data::In(buffer) = data {
                    let len = sent.len().min(buffer.len());
                    buffer[..len].copy_from_slice(&sent[..len]);
                    completion.residual = i32::try_from(buffer.len() - len).expect("small");
                }
                completion
            }
            Err(said) => check(said),
        };
        if let (Some(bad), (3, ..)) = (bad, (completion.sense.get(1).copied().unwrap_or(0),)) {
            // Information descriptor: which block.
            completion.sense[7] = 12;
            completion.sense.extend([0, 0x0A, 0x80, 0]);
            completion.sense.extend((bad as u64).to_be_bytes());
        }
        completion.requested = requested;
        if let Some((_, true, end)) = planned {
            completion = Completion { requested, ..end };
        }
        Ok(completion)
    }

    fn reset_logical_unit(&self) -> io::Result<()> {
        Ok(())
    }

    fn now(&self) -> Duration {
        Duration::ZERO
    }

    fn wait(&self, _: Duration) {}
}
