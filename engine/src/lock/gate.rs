//! What stands in front of the writes to a LUN whose reservations are emulated: the storage refuses nobody there.
//!
//! Acts: looks at the file of reservations before each write.
//!
//! What it gives: a process that was stopped, fenced and woken gets EBADE for each write that it begins after it woke, as it
//! would from a LUN. What it can't give: a write that had passed the gate before the process was stopped still goes out. For a
//! copy that is one extent a lane, with the source's own bytes, and for a checkpoint one slot, which the later epoch outlives in the
//! other one. A reservation of the storage has no such hole.
//!
//! What must hold: the file that was judged stays open, so that its inode number is nobody else's; it is only ever replaced
//! as a whole, so that the same inode is the same content.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use lunferry_scsi::key::Key;

use super::emulated::read;
use crate::lun::device_error::device_error;
use crate::lun::{LunIo, Segment};
use crate::units::{Bytes, Span};

/// Lets one start of one nexus write as long as it is registered.
#[derive(Debug)]
pub struct Gate {
    file: PathBuf,
    nexus: String,
    key: Key,
    /// The file that last said that it is.
    judged: Mutex<Option<File>>,
}

impl Gate {
    /// For a nexus and its key, by the reservations in `file`.
    pub(super) fn new(file: PathBuf, nexus: String, key: Key) -> Self {
        Self { file, nexus, key, judged: Mutex::default() }
    }

    /// Whether it may write now. Where nothing has changed since the last time this is one stat(2).
    ///
    /// # Errors
    /// EBADE where it is not registered, and what kept the file from being read.
    pub fn check(&self) -> io::Result<()> {
        let mut judged = self.judged.lock().unwrap_or_else(PoisonError::into_inner);
        let now = match fs::metadata(&self.file) {
            Ok(now) => Some((now.dev(), now.ino())),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let before = judged.as_ref().map(File::metadata).transpose()?;
        if now.is_some() && now == before.map(|before| (before.dev(), before.ino())) {
            return Ok(());
        }
        *judged = None;
        if now.is_none() {
            return Err(self.refused());
        }
        let file = File::open(&self.file)?;
        let registered = read(&file)?.parts().registrations;
        if !registered.iter().any(|(nexus, key)| *nexus == self.nexus && *key == self.key) {
            return Err(self.refused());
        }
        *judged = Some(file);
        Ok(())
    }

    fn refused(&self) -> io::Error {
        let words = format!("{}: key {} is not registered for {} any more", self.file.display(), self.key, self.nexus);
        device_error(libc::EBADE, words)
    }
}

/// A LUN with a gate in front of its writes, or without one.
pub struct GatedLun<L> {
    lun: L,
    gate: Option<Arc<Gate>>,
}

impl<L> GatedLun<L> {
    /// `lun` behind `gate`; nothing for a LUN that guards itself.
    pub fn new(lun: L, gate: Option<Arc<Gate>>) -> Self {
        Self { lun, gate }
    }

    fn check(&self) -> io::Result<()> {
        self.gate.as_ref().map_or(Ok(()), |gate| gate.check())
    }
}

impl<L: LunIo> LunIo for GatedLun<L> {
    type Buf = L::Buf;

    async fn read(&self, buf: L::Buf, part: Range<usize>, at: Bytes) -> (io::Result<usize>, L::Buf) {
        self.lun.read(buf, part, at).await
    }

    async fn write(&self, buf: L::Buf, part: Range<usize>, at: Bytes) -> (io::Result<usize>, L::Buf) {
        match self.check() {
            Ok(()) => self.lun.write(buf, part, at).await,
            Err(error) => (Err(error), buf),
        }
    }

    async fn punch(&self, span: Span) -> io::Result<()> {
        self.check()?;
        self.lun.punch(span).await
    }

    async fn flush(&self) -> io::Result<()> {
        self.lun.flush().await
    }

    fn disturbances(&self) -> io::Result<Option<u64>> {
        self.lun.disturbances()
    }

    async fn read_block(&self, at: Bytes, len: usize) -> io::Result<Vec<u8>> {
        self.lun.read_block(at, len).await
    }

    async fn write_durable(&self, at: Bytes, block: Vec<u8>) -> io::Result<()> {
        self.check()?;
        self.lun.write_durable(at, block).await
    }

    fn segment(&self, at: Bytes) -> io::Result<Segment> {
        self.lun.segment(at)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::lock::claim::Paths;
    use crate::lock::emulated::Emulated;
    use crate::lun::device_error::errno_of;
    use lunferry_scsi::key::{Incarnation, NodeId, OwnKey};

    fn own(node: u16) -> OwnKey {
        OwnKey { node: NodeId(node), incarnation: Incarnation(1), target_outdated: false }
    }

    #[test]
    fn a_gate_is_open_while_its_key_is_registered_whatever_else_changes() {
        let dir = tempfile::tempdir().unwrap();
        let lun = dir.path().join("lun");
        fs::write(&lun, [0; 512]).unwrap();
        let nexus = |node: u16| format!("host/{node}");
        let emulated = |node| Emulated::beside(&lun, "", None, nexus(node)).unwrap();
        let paths = |node| Paths { device: "lun".into(), paths: vec![Box::new(emulated(node))], later: None };
        let gate_of = |node, key: OwnKey| Gate::new(emulated(node).file().to_owned(), nexus(node), key.key());
        let gate = gate_of(1, own(1));
        let refused = |gate: &Gate| errno_of(&gate.check().unwrap_err()) == Some(libc::EBADE);
        assert!(refused(&gate), "nobody is registered");
        let (one, two) = (paths(1), paths(2));
        let first = one.enrol(own(1)).unwrap();
        gate.check().unwrap();
        one.reserve_by(&first).unwrap();
        let second = two.enrol(own(2)).unwrap();
        for _ in 0..2 {
            gate.check().unwrap();
        }
        two.preempt_by(&second, own(1).key()).unwrap();
        assert!(refused(&gate), "it was fenced");
        gate_of(2, own(2)).check().unwrap();
        assert!(refused(&gate_of(2, own(1))), "another one's key opens nothing");
        fs::write(dir.path().join("lun.lunferry-reservations"), "{").unwrap();
        gate.check().unwrap_err();
    }
}
